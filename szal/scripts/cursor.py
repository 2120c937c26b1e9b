"""A position in a script, and what is known of the placeholders up to there."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final, NamedTuple

import attrs

__all__ = ["EXPANSION", "MARK", "Cursor", "HereDocument", "NotUnderstood", "Quotes", "Refusal", "Spot", "Word"]

MARK: Final = "\0"
"""What stands for a placeholder in the text that is read: the one character that no script can hold."""
EXPANSION: Final = "\1"
"""What stands in a `Word` for what the shell puts there."""
_OPENS: Final = re.compile(r"['\"`\\()]")


class Quotes(Enum):
    """The quotes around a placeholder: they decide how its variable is written."""

    NONE = '"${%s}"'
    DOUBLE = "${%s}"
    SINGLE = "'\"${%s}\"'"


class Refusal(NamedTuple):
    """Why no value can stand at a place, and what to write instead.

    ``{variable}`` in *instead* is a variable with the value, ``{placeholder}`` the placeholder itself.
    """

    reason: str
    instead: str


@attrs.define(eq=False)
class Spot:
    """A placeholder in a script. Its value is data there, unless it is refused."""

    number: int
    quotes: Quotes
    refusal: Refusal | None = None

    def refuse(self, refusal: Refusal) -> None:
        """Note why no value can stand here; the first reason stays, as it is the innermost."""
        if self.refusal is None:
            self.refusal = refusal


@attrs.define(eq=False)
class Word:
    """A word of a command, without its quotes: `EXPANSION` and `MARK` stand for what is put there.

    `is_plain`: nothing in it is quoted, or put there; `plain` is how many of its characters come before the first that
    is. `spots` are those within, also in commands the output of which becomes a part of it; `direct` are its own;
    `handed_on`, those that stand for what another program puts there.
    """

    text: str = ""
    is_plain: bool = True
    plain: int = 0
    spots: list[Spot] = attrs.field(factory=list)
    direct: list[Spot] = attrs.field(factory=list)
    handed_on: list[Spot] = attrs.field(factory=list)

    def filled(self, name: str) -> "Word":
        """Return the word with a placeholder of its own (`handed_on`) wherever *name* is in it."""
        if name not in self.text:
            return self
        spot = Spot(0, Quotes.NONE)
        text = self.text.replace(name, MARK)
        return attrs.evolve(self, text=text, is_plain=False, spots=[spot], direct=[spot], handed_on=[spot])

    def refuse(self, refusal: Refusal) -> None:
        """Refuse all placeholders in it."""
        for spot in self.spots:
            spot.refuse(refusal)


class NotUnderstood(Exception):
    """From here on the script may mean something else to one shell than to another, or to this reader."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class HereDocument(NamedTuple):
    """One whose text is still to come."""

    position: int
    delimiter: str
    is_quoted: bool
    strips_tabs: bool


@attrs.define(eq=False)
class Cursor:
    """Where the reading of *text* has come to. `depth` counts the commands within commands."""

    text: str
    knows_ansi: bool
    """Whether the shell is known to have ``$'…'``."""
    position: int = 0
    depth: int = 0
    spots: list[Spot] = attrs.field(factory=list)
    here_documents: list[HereDocument] = attrs.field(factory=list)
    _within: Refusal | None = None

    @property
    def at_end(self) -> bool:
        return self.position >= len(self.text)

    def peek(self, length: int = 1) -> str:
        """Return what comes next; less than that at the end."""
        return self.text[self.position : self.position + length]

    def at(self, start: str) -> bool:
        """Whether *start* comes next."""
        return self.text.startswith(start, self.position)

    def check_old_bash(self, end: int) -> None:
        """Raise `NotUnderstood` for quotes and brackets up to *end*, in lines that belong to no command, in ``$(…)``.

        The bash of macOS looks for the end of ``$(…)`` without knowing such lines.
        """
        if self.depth and (match := _OPENS.search(self.text, self.position, end)) is not None:
            raise NotUnderstood(match.start())

    def spot(self, quotes: Quotes) -> Spot:
        """Step over the placeholder that stands here, and note it."""
        self.position += 1
        found = Spot(len(self.spots), quotes, self._within)
        self.spots.append(found)
        return found

    @contextmanager
    def within(self, refusal: Refusal) -> Iterator[None]:
        """Refuse the placeholders that are met meanwhile."""
        before = self._within
        self._within = before or refusal
        try:
            yield
        finally:
            self._within = before

    def refuse_up_to(self, end: int, refusal: Refusal) -> None:
        """Step on to *end*, and refuse what stands on the way."""
        with self.within(refusal):
            for _ in range(self.text.count(MARK, self.position, end)):
                self.spot(Quotes.NONE)
        self.position = end
