"""Results put into a page of documentation, with their plots beside it."""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.plots import is_telling, plot
from benchmarks.report import Report
from benchmarks.summary import lines, picture, table
from benchmarks.table import case_table, ratio_table

__all__ = ["NoSuchPart", "check", "part_of_page", "put_figures_into", "put_into", "put_summary_into", "tell"]

_CIRCUMSTANCES = ("date", "processor", "cores", "load at the start", "python", "postgresql")


class NoSuchPart(Exception):
    """A page that has no place for the results."""


def put_into(page: Path, part: str, summary: Report) -> None:
    """Replace what stands in *page* between ``<!-- PART -->`` and ``<!-- end of PART -->``; draw into its folder.

    Raises `NoSuchPart` before anything is written.
    """
    check(page, part)
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    for old in folder.glob(f"{part}-*.svg"):
        old.unlink()
    pictures = []
    for case in summary.cases:
        picture = plot(case) if is_telling(case) else None
        if picture is not None:
            file = folder / f"{part}-{case.case.name}.svg"
            file.write_text(picture + "\n", encoding="utf-8")
            title = f"{case.case.name}: {case.case.title}"
            pictures.append(f"**{title}**\n\n![{title}]({folder.name}/{file.name})")
    tables = "\n\n".join(case_table(case) for case in summary.cases)
    parts = [
        f"```console\n$ {summary.command}\n```",
        _fenced(ratio_table(summary.verdicts)),
        *pictures,
        f"<details><summary>All figures</summary>\n\n{_fenced(tables)}\n\n</details>",
        _fenced("\n".join(summary.circumstances())),
    ]
    _replace(page, part, parts)


def put_figures_into(page: Path, part: str, summary: Report) -> None:
    """Do so with the figures alone, and where they come from: of a page that is about something else."""
    tables = [_fenced(case_table(case)) for case in summary.cases]
    told = _fenced("\n".join([f"$ {summary.command}", *summary.circumstances()]))
    _replace(page, part, [*tables, f"<details><summary>Measured on</summary>\n\n{told}\n\n</details>"])


def put_summary_into(page: Path, part: str, summary: Report) -> None:
    """Put there what sums it up: one picture and one table, with where they come from."""
    check(page, part)
    told = lines(summary.cases)
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    file = folder / f"{part}.svg"
    file.write_text(picture(told) + "\n", encoding="utf-8")
    where = ", ".join(
        f"{key} {summary.machine[key]}" for key in ("processor", "cores", "date") if key in summary.machine
    )
    _replace(page, part, [f"![szal, the floor and the fastest peer]({folder.name}/{file.name})", table(told), where])


def tell(command: str, tables: Sequence[str], circumstances: Mapping[str, str], into: tuple[Path, str] | None) -> None:
    """Print *tables*, with the *command* that made them and its circumstances; put all that *into* a part of a page."""
    told = ", ".join(f"{key} {value}" for key, value in circumstances.items() if key in _CIRCUMSTANCES)
    parts = [f"```console\n$ {command}\n```", *tables, told]
    print("\n\n".join(parts))
    if into is not None:
        _replace(*into, parts)


def part_of_page(text: str) -> tuple[Path, str]:
    """Return the page and the part that an option names as PAGE#PART, for `argparse`: it refuses what is not there."""
    page, _, part = text.partition("#")
    try:
        check(Path(page), part)
    except NoSuchPart as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(page), part


def _replace(page: Path, part: str, parts: Sequence[str]) -> None:
    before, found, after = _split(page, part)
    page.write_text("\n\n".join([before + found, *parts, after]), encoding="utf-8")


def check(page: Path, part: str) -> None:
    """Raise `NoSuchPart` if *page* has no place for *part*."""
    _split(page, part)


def _split(page: Path, part: str) -> tuple[str, str, str]:
    opening, closing = f"<!-- {part} -->", f"<!-- end of {part} -->"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    found = re.fullmatch(f"(.*){re.escape(opening)}.*({re.escape(closing)}.*)", text, re.DOTALL)
    if found is None:
        raise NoSuchPart(f"{page} has no place for results: {opening} and {closing}")
    return found[1], opening, found[2]


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```"
