"""A script with placeholders: which of them can hold a value, and the text in which variables stand in their places."""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import PurePath
from typing import Final, NamedTuple

import attrs

from szal.expressions.path import Path
from szal.expressions.template import Piece, pieces_of
from szal.scripts.commands import read_script
from szal.scripts.cursor import MARK, Quotes, Refusal

__all__ = ["Misplaced", "Script"]

_KEPT_UP_TO: Final = 20_000  # characters


class Misplaced(NamedTuple):
    """A placeholder that stands where no value can: where it begins in the text, as it is written, what it names."""

    position: int
    written: str
    path: Path
    refusal: Refusal

    def told(self, variable: str, how: str = "") -> str:
        """Return what to say of it. *variable* has its value, *how* what to write for it to be there."""
        instead = self.refusal.instead.replace("{placeholder}", self.written).replace("{variable}", variable)
        more = how if "{variable}" in self.refusal.instead else ""
        return f"{{{{{self.path}}}}} {self.refusal.reason}: {instead}{more}"


@attrs.frozen
class Script:
    """A command as it is written, read as the shell reads it that is to run it."""

    misplaced: tuple[Misplaced, ...]
    size: int
    """How many placeholders it has."""
    _parts: tuple[str | Quotes, ...]

    @classmethod
    def read(cls, text: str, shell: Sequence[str]) -> "Script":
        """Read *text*, which the command line *shell* is to run. Raises `ConditionError` where a placeholder is wrong.

        >>> script = Script.read("echo {{inputs.x}} \\"{{inputs.y}}\\" `{{inputs.z}}`", ["sh", "-e"])
        >>> script.filled(["_1", "_2", "_3"])
        'echo "${_1}" "${_2}" `"${_3}"`'
        >>> print(script.misplaced[0].told("Z"))
        {{inputs.z}} stands in backticks: write $(…) in place of `…`
        """
        return (_kept if len(text) <= _KEPT_UP_TO else _kept_large)(text, tuple(shell))

    def filled(self, variables: Sequence[str]) -> str:
        """Return the script with a variable for each placeholder; nothing else in it is changed."""
        names = iter(variables)
        return "".join(part if isinstance(part, str) else part.value % next(names) for part in self._parts)


def _read(text: str, shell: tuple[str, ...]) -> Script:
    pieces = pieces_of(text)
    kind = _kind_of(shell)
    found: list[tuple[Quotes, Refusal | None]]
    if kind is None:
        found = [(Quotes.NONE, _of_other(shell[0])) for piece in pieces if isinstance(piece.part, Path)]
    else:
        marked = (piece.part.replace(MARK, "?") if isinstance(piece.part, str) else MARK for piece in pieces)
        found = [(spot.quotes, spot.refusal) for spot in read_script("".join(marked), knows_ansi=kind == "bash")]
    parts: list[str | Quotes] = []
    misplaced = []
    following = iter(found)
    for piece, after in pairwise([*pieces, Piece(len(text), "")]):
        if isinstance(piece.part, str):
            parts.append(piece.part)
            continue
        quotes, refusal = next(following)
        parts.append(quotes)
        if refusal is not None:
            misplaced.append(Misplaced(piece.position, text[piece.position : after.position], piece.part, refusal))
    return Script(tuple(misplaced), len(found), tuple(parts))


def _of_other(program: str) -> Refusal:
    return Refusal(
        f"is in a script for {program}: where a value is data szal knows for sh, bash and dash",
        "have the script read the environment variable {variable}",
    )


# a step is checked when its flow is, and read again by each attempt
_kept = lru_cache(maxsize=256)(_read)
_kept_large = lru_cache(maxsize=4)(_read)


_NAMES: Final = {"sh": "sh", "dash": "sh", "ash": "sh", "bash": "bash"}


def _kind_of(shell: Sequence[str]) -> str | None:
    """Return the shell that a command line runs, if it is one of which all is known."""
    words = list(shell)
    if words and PurePath(words[0]).name in ("env", "busybox"):
        words = words[1:]
    while words and re.match(r"[A-Za-z_]\w*=", words[0]):
        words = words[1:]
    kind = _NAMES.get(PurePath(words[0]).name) if words else None
    for before, word in pairwise(words):
        if word[:1] not in ("-", "+") and not re.fullmatch(r"[-+]\w*[oO]", before):
            return None
    return kind
