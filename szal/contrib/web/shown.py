"""Values as pages show them: states with their signs, times, durations, JSON folded."""

import json
from datetime import datetime
from typing import Final

from szal.expressions.path import Json
from szal.legible import clean, elapsed, one_line

__all__ = [
    "FOLDED",
    "MOST_QUEUED",
    "brief",
    "iso",
    "number",
    "sign",
    "state_class",
    "text",
    "took",
    "utc",
    "whole",
    "word_of_step",
]

SIGNS: Final = {
    "completed": "✓",
    "failed": "✗",
    "skipped": "\N{EN DASH}",
    "cancelled": "⊘",
    "rolled_back": "↶",
    "rolling_back": "↶",
    "running": "▶",
    "paused": "‖",
    "interrupted": "!",
    "undecided": "?",
    "retrying": "↻",
    "created": "○",
    "pending": "○",
}
MOST_QUEUED: Final = 20
"""So many that wait for what others have are shown."""
FOLDED: Final = 400
"""Outputs with more characters are folded."""
_MOST: Final = 20_000
_BRIEF: Final = 160


def sign(state: object) -> str:
    """Return the sign of a state, which stands beside its colour.

    >>> sign("failed"), sign("no such state")
    ('✗', '·')
    """
    return SIGNS.get(str(state), "·")


def state_class(state: object) -> str:
    """Return the class of CSS for a state: of one that nobody knows, as somebody else wrote it, none of its own."""
    return f"s-{state}" if str(state) in SIGNS else "s-unknown"


def word_of_step(state: object) -> str:
    """Return the word for how a step stands: one that waits is not paused by anybody.

    >>> word_of_step("paused"), word_of_step("rolled_back")
    ('waiting', 'rolled back')
    """
    return "waiting" if str(state) == "paused" else str(state).replace("_", " ")


def utc(moment: datetime | None) -> str:
    """Return a time in UTC, to the second. The script shows it in the browser's own zone.

    >>> from datetime import UTC
    >>> utc(datetime(2026, 6, 10, 7, 41, 22, tzinfo=UTC)), utc(None)
    ('2026-06-10 07:41:22', '')
    """
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def iso(moment: datetime | None) -> str:
    """Return a time for ``<time datetime=…>``."""
    return "" if moment is None else moment.isoformat()


def took(seconds: float | None) -> str:
    """Return a duration in a few characters."""
    return "" if seconds is None else elapsed(seconds)


def number(count: int) -> str:
    """Return a number with thin spaces between thousands.

    >>> number(100000) == "100\N{NARROW NO-BREAK SPACE}000"
    True
    """
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def text(value: str | None) -> str:
    """Return a text on one line, without what hides or reorders others."""
    return one_line(value or "")


def brief(value: Json) -> str:
    """Return any value in one short line.

    >>> brief({"n": 1}), brief("a\\nb"), brief(None)
    ('{"n": 1}', 'a b', '')
    """
    if value is None:
        return ""
    line = one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return line if len(line) <= _BRIEF else f"{line[: _BRIEF - 1]}…"


def whole(value: Json) -> tuple[str, bool]:
    r"""Return a value as text over as many lines as it takes, and whether its end is left out.

    >>> whole({"a": 1}), whole("x\x1b[31my")
    (('{\n  "a": 1\n}', False), ('xy', False))
    """
    made = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    return clean(made[:_MOST]), len(made) > _MOST
