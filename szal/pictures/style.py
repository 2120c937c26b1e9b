"""How pictures look: a colour, a sign and a shape for each state, in light and in dark."""

from collections.abc import Iterable, Mapping
from typing import Final

from szal.pictures.markup import said, tag

__all__ = ["PAGE_STYLE", "SIGNS", "STYLE", "badge", "picture", "sign", "word_of"]

# The colours are those of Okabe and Ito, which colour-blind people can tell apart; each state has a sign besides.
_COLOURS: Final[Mapping[str, tuple[str, str, str, str]]] = {
    # state: colour in light, its tint; colour in dark, its tint
    "completed": ("#00835f", "#e5f5ef", "#2fc79b", "#10342a"),
    "failed": ("#c24f00", "#fdebdf", "#ff8a3d", "#44220b"),
    "skipped": ("#6e7681", "#f6f7f8", "#8b949e", "#1c2128"),
    "rolled_back": ("#a9508a", "#f9ebf4", "#e39ac6", "#3b2033"),
    "running": ("#0072b2", "#e3f1fa", "#56b4e9", "#0f2c40"),
    "waiting": ("#8a6100", "#fdf4dc", "#f0b429", "#3a2d0a"),
    "pending": ("#6e7681", "#ffffff", "#8b949e", "#161b22"),
}

SIGNS: Final[Mapping[str, tuple[str, str]]] = {
    # word: whose colour it has, and how it is drawn around (0, 0)
    "completed": ("completed", "M-3.6 .3-1.1 2.9 3.8-2.8"),
    "failed": ("failed", "M-2.8-2.8 2.8 2.8M2.8-2.8-2.8 2.8"),
    "skipped": ("skipped", "M-3.4 0H3.4"),
    "rolled_back": ("rolled_back", "M-1.2-4.2-3.6-1.8-1.2.6M-3.6-1.8H1.2A2.6 2.6 0 0 1 1.2 3.4H-1.4"),
    "running": ("running", "M-1.8-3.2 3.4 0-1.8 3.2Z"),
    "retrying": ("waiting", "M3.6-.4A3.6 3.6 0 1 0 2.6 2.5M3.9-3.6V-.4H.7"),
    "paused": ("waiting", "M-1.6-3V3M1.6-3V3"),
    "undecided": ("waiting", "M-2-1.9A2 2 0 1 1 .6.3Q0 .6 0 1.5M0 3.7V3.8"),
    "interrupted": ("waiting", "M0-4V1M0 3.6V3.7"),
    "pending": ("pending", ""),
}
"""A sign for each word of how a step stands."""


def sign(word: str, x: float, y: float) -> str:
    """Return the badge of a state, with its middle at that place: a square where it failed, else a circle."""
    around = tag("rect", x=-7, y=-7, width=14, height=14, rx=2) if word == "failed" else tag("circle", r=7.5)
    drawn = SIGNS[word][1]
    inside = [tag("path", d=drawn)] if drawn else []
    return tag("g", around, *inside, class_="szal-sign", transform=f"translate({x:g} {y:g})")


def word_of(state: str) -> str:
    """Return the word of `SIGNS` that an execution in that state is shown by.

    >>> word_of("cancelled"), word_of("failed")
    ('rolled_back', 'failed')
    """
    word = {"cancelled": "rolled_back", "rolling_back": "rolled_back"}.get(state, state)
    return word if word in SIGNS else "pending"


def badge(word: str) -> str:
    """Return a sign to stand in a line of text."""
    return tag("svg", sign(word, 8, 8), class_=f"szal-picture szal-{word}", width=16, height=16, aria_hidden="true")


def _variables(light: bool) -> str:
    pairs = ((state, *(found[:2] if light else found[2:])) for state, found in _COLOURS.items())
    return "".join(f"--szal-{state}:{colour};--szal-{state}-tint:{tint};" for state, colour, tint in pairs)


def _states() -> str:
    return "".join(
        f".szal-{word}{{--szal-state:var(--szal-{state});--szal-tint:var(--szal-{state}-tint)}}"
        for word, (state, _) in SIGNS.items()
    )


_LIGHT: Final = "--szal-ink:#1f2328;--szal-muted:#57606a;--szal-line:#8c959f;--szal-faint:#d0d7de;--szal-paper:#ffffff;"
_DARK: Final = "--szal-ink:#e6edf3;--szal-muted:#9da7b1;--szal-line:#7d8590;--szal-faint:#373e47;--szal-paper:#0d1117;"

STYLE: Final = (
    f".szal-picture{{{_LIGHT}{_variables(True)}"
    'font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;font-size:13px}'
    f"@media (prefers-color-scheme:dark){{.szal-picture{{{_DARK}{_variables(False)}}}}}"
    ".szal-picture text{fill:var(--szal-ink)}"
    ".szal-picture .szal-small{font-size:11px;fill:var(--szal-muted)}"
    ".szal-picture .szal-name{font-weight:600}"
    ".szal-paper{fill:var(--szal-paper)}"
    f"{_states()}"
    ".szal-box{fill:var(--szal-tint,var(--szal-paper));stroke:var(--szal-state,var(--szal-line));stroke-width:1.25}"
    ".szal-failed>.szal-box{stroke-width:2.25}"
    ".szal-skipped>.szal-box{stroke-dasharray:5 3}"
    ".szal-picture .szal-skipped>.szal-name{fill:var(--szal-muted)}"
    ".szal-picture .szal-told{font-size:11px;fill:var(--szal-state)}"
    ".szal-sign>circle,.szal-sign>rect{fill:var(--szal-state)}"
    ".szal-pending>.szal-sign>circle{fill:none;stroke:var(--szal-state);stroke-width:1.25;stroke-dasharray:2 2}"
    ".szal-sign>path{fill:none;stroke:var(--szal-paper);stroke-width:1.8;stroke-linecap:round;stroke-linejoin:round}"
    ".szal-running>.szal-sign>path{fill:var(--szal-paper)}"
    ".szal-mark{fill:none;stroke:var(--szal-muted);stroke-width:1.4;stroke-linecap:round;stroke-linejoin:round}"
    ".szal-block{fill:none;stroke:var(--szal-line);stroke-dasharray:1 3;stroke-linecap:round}"
    ".szal-edge{fill:none;stroke:var(--szal-line);stroke-width:1.25}"
    ".szal-off{stroke-dasharray:4 4;stroke:var(--szal-faint)}"
    ".szal-under{stroke-dasharray:1 4;stroke-linecap:round}"
    ".szal-tip{fill:var(--szal-line)}"
    ".szal-tip.szal-off{fill:var(--szal-faint)}"
    ".szal-join{fill:var(--szal-line)}"
    ".szal-rule{stroke:var(--szal-faint);stroke-dasharray:6 4}"
    ".szal-bar{fill:var(--szal-state);stroke:var(--szal-state);stroke-width:1}"
    ".szal-bar.szal-undo{fill:var(--szal-tint)}"
    ".szal-wait{stroke:var(--szal-waiting);stroke-width:2;stroke-dasharray:2 3}"
    ".szal-track,.szal-tick{stroke:var(--szal-faint);stroke-width:.6}"
    ".szal-gap>rect{fill:var(--szal-faint);opacity:.35}"
    ".szal-picture a{cursor:pointer}"
    ".szal-picture a:hover>.szal-node>.szal-box,.szal-picture a:focus>.szal-node>.szal-box{stroke-width:3}"
)
"""The style sheet of all pictures: to be put once into a page whose pictures are made with ``styled=False``."""

PAGE_STYLE: Final = (
    f":root{{color-scheme:light dark;{_LIGHT}{_variables(True)}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{_DARK}{_variables(False)}}}}}"
    "*{box-sizing:border-box}"
    "body{max-width:1100px;margin:0 auto;padding:16px;background:var(--szal-paper);color:var(--szal-ink);"
    'font:14px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}'
    "h1{font-size:24px;margin:8px 0;overflow-wrap:anywhere}h2{font-size:17px;margin:28px 0 8px}"
    "h3{font-size:14px;margin:12px 0 4px;overflow-wrap:anywhere}h4{font-size:13px;margin:10px 0 4px}"
    ".state{font-size:15px;font-weight:600;color:var(--szal-state);white-space:nowrap}"
    ".state svg,.step svg{vertical-align:-3px;margin-right:6px}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 14px;margin:8px 0}"
    "dt{color:var(--szal-muted)}dd{margin:0;overflow-wrap:anywhere}"
    ".scroll{overflow-x:auto}.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--szal-running)}"
    "pre{margin:4px 0;padding:10px 12px;border:1px solid var(--szal-faint);border-radius:6px;overflow:auto;"
    "max-height:520px;font:12px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}"
    "pre.error{border-left:4px solid var(--szal-failed);white-space:pre-wrap;overflow-wrap:anywhere}"
    "summary{cursor:pointer}.step{padding:6px 8px;border-top:1px solid var(--szal-faint);overflow-wrap:anywhere;"
    "content-visibility:auto;contain-intrinsic-size:auto 34px}"
    ".step:target{background:var(--szal-tint)}"
    "table{border-collapse:collapse;font-size:13px}th{text-align:left;color:var(--szal-muted);font-weight:500}"
    "th,td{padding:2px 16px 2px 0;vertical-align:top}"
)
"""The style sheet of a page of szal's own, beside `STYLE`."""


def picture(
    kind: str,
    described: str,
    inside: Iterable[str],
    width: str | float,
    height: float,
    *,
    styled: bool,
    has_links: bool,
    **more: str,
) -> str:
    """Return a whole picture, a line for each of its parts; *described* is what is read out of it.

    Of one that has links, these are read out as well.
    """
    parts = [tag("title", said(described))]
    if styled:
        parts += [tag("style", STYLE), tag("rect", class_="szal-paper", width="100%", height="100%")]
    lines = "\n".join(["", *parts, *inside, ""])
    return tag(
        "svg",
        lines,
        xmlns="http://www.w3.org/2000/svg",
        class_=f"szal-picture {kind}",
        role="group" if has_links else "img",
        aria_label=described,
        width=width,
        height=height,
        **more,
    )
