"""How a flow differs from what an execution began with: told, and refused where it must not be passed over."""

from collections.abc import Sequence
from typing import Final

import attrs
from rich.console import Console
from rich.text import Text

from szal.cli.advice import Advice
from szal.cli.text import one_line
from szal.errors import SzalError

__all__ = ["Differs", "tell_differences"]

_SOME: Final = 20


@attrs.define
class Differs(SzalError):
    """An execution that was to go on with another definition than it began with."""

    execution_id: str
    target: str
    differences: tuple[str, ...]
    advice: Advice

    def __str__(self) -> str:
        name = one_line(self.execution_id)
        what = f"execution {name}: {one_line(self.target)} differs from what it began with"
        return f"{what}:{_listed(self.differences)}\n{self.advice.instead(self.execution_id)}"


def tell_differences(
    console: Console, target: str, execution_id: str | None, differences: Sequence[str], what_follows: str
) -> None:
    """Say how what *target* names differs from what an execution began with, if it does, and *what_follows*."""
    if differences and execution_id is not None:
        what = f"{one_line(target)} differs from what execution {one_line(execution_id)} began with; {what_follows}"
        console.print(Text(f"{what}:{_listed(differences)}"), soft_wrap=True)


def _listed(lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - _SOME} more"] if len(lines) > _SOME else []
    return "".join(f"\n  - {one_line(line)}" for line in [*lines[:_SOME], *more])
