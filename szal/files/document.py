"""Values that know where they stand in a text, for error messages with a line and a column; and what makes them.

A reader of a format (`yaml`, `json`) feeds a `Builder` with what comes in the text, one thing after the other.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Callable
from typing import Final, NamedTuple

import attrs

from szal.expressions.path import Json
from szal.number import as_typed

__all__ = ["Builder", "Entry", "Place", "Problem", "Unreadable", "Value", "places_in"]

MAX_DEPTH: Final = 100
MAX_EXPANDED: Final = 1_000_000  # values that come in through YAML aliases


class Place(NamedTuple):
    """A position in a text; both numbers count from 1."""

    line: int
    column: int


class Problem(NamedTuple):
    """What is wrong, and where."""

    place: Place
    text: str


class Unreadable(Exception):
    """The text makes no sense from one point on."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(place, text)
        self.problem = Problem(place, text)


class Entry(NamedTuple):
    """What stands under a key, and where the key is."""

    place: Place
    value: "Value"


@attrs.frozen(eq=False)
class Value:
    """A JSON value with its place; `raw` is a scalar as it is written. Aliases share their value.

    A number that is `typed`, as in YAML by people, may be meant to be none: a version, a code, a hash.
    """

    place: Place
    data: "str | int | float | bool | list[Value] | dict[str, Entry] | None"
    raw: str = ""
    size: int = 1  # how many values it is, written out
    depth: int = 0
    typed: bool = False
    source: str = ""  # of a text with placeholders: how it is written, from its place on

    def place_of(self, position: int) -> Place:
        """Return where the placeholder is that begins at *position* of the text; where escapes hide it, its own."""
        assert isinstance(self.data, str)
        index = -2
        for _ in range(self.data.count("{{", 0, position + 2)):
            index = self.source.find("{{", index + 2)
            if index < 0:
                return self.place
        line_start = self.source.rfind("\n", 0, index) + 1
        column = index - line_start + (1 if line_start else self.place.column)
        return Place(self.place.line + self.source.count("\n", 0, index), column)

    @classmethod
    def of_list(cls, place: Place, items: "list[Value]") -> "Value":
        """Return an array."""
        depth = 1 + max((item.depth for item in items), default=0)
        return cls(place, items, size=1 + sum(item.size for item in items), depth=depth)

    @classmethod
    def of_dict(cls, place: Place, entries: dict[str, Entry]) -> "Value":
        """Return an object."""
        depth = 1 + max((entry.value.depth for entry in entries.values()), default=0)
        return cls(place, entries, size=1 + sum(entry.value.size for entry in entries.values()), depth=depth)

    def plain(self) -> Json:
        """Return it without the places. A number that is typed is one only where it prints as it is typed."""
        if isinstance(self.data, list):
            return [item.plain() for item in self.data]
        if isinstance(self.data, dict):
            return {key: entry.value.plain() for key, entry in self.data.items()}
        if self.typed and isinstance(self.data, int | float):
            return as_typed(self.data, self.raw)
        return self.data


def places_in(text: str) -> Callable[[int], Place]:
    """Return a function that finds the place of an index in *text*."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(index: int) -> Place:
        line = bisect_right(starts, index)
        return Place(line, index - starts[line - 1] + 1)

    return place


@attrs.define(eq=False)
class _Open:
    """A collection whose end has not come yet. In an object, *key* is what the next value is for."""

    place: Place
    anchor: str | None
    items: list[Value] | None = None
    entries: dict[str, Entry] | None = None
    key: tuple[Place, str] | None = None

    def close(self) -> Value:
        if self.items is not None:
            return Value.of_list(self.place, self.items)
        return Value.of_dict(self.place, self.entries or {})


class Builder:
    """Makes values of what comes in a text, in its order, and notes *problems*. Not recursive: no depth hurts it.

    >>> builder = Builder([])
    >>> builder.begin(Place(1, 1), is_list=True)
    >>> builder.scalar(Place(1, 2), "two", "'two'")
    >>> builder.number(Place(1, 9), "3")
    >>> builder.end()
    >>> builder.root.plain()
    ['two', 3]
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.root: Value | None = None
        """The value, once it is complete."""
        self.problems = problems
        self._open: list[_Open] = []
        self._anchors: dict[str, Value] = {}
        self._expanded = 0

    @property
    def wants_key(self) -> bool:
        """Whether the next thing is a key."""
        return bool(self._open) and self._open[-1].entries is not None and self._open[-1].key is None

    def begin(self, place: Place, anchor: str | None = None, *, is_list: bool) -> None:
        """Take the beginning of an array or an object."""
        self._no_key(place)
        if len(self._open) == MAX_DEPTH:
            raise Unreadable(place, f"nested more than {MAX_DEPTH} levels deep")
        self._open.append(_Open(place, anchor, items=[]) if is_list else _Open(place, anchor, entries={}))

    def end(self) -> None:
        """Take the end of what began last."""
        opened = self._open.pop()
        self._put(opened.close(), opened.anchor)

    def key(self, place: Place, text: str) -> None:
        """Take a key."""
        self._open[-1].key = place, self.checked(place, text)

    def scalar(
        self, place: Place, data: str | bool | None, raw: str, anchor: str | None = None, *, source: str = ""
    ) -> None:
        """Take a value that is no number, and has no parts."""
        self._put(Value(place, data, raw, size=1 + len(raw) // 100, source=source), anchor)

    def number(self, place: Place, raw: str, anchor: str | None = None, *, typed: bool = False) -> None:
        """Take a number, written as JSON writes it."""
        self._put(Value(place, self._number(place, raw), raw, size=1 + len(raw) // 100, typed=typed), anchor)

    def alias(self, place: Place, anchor: str) -> None:
        """Take a reference to what has that *anchor*."""
        self._no_key(place)
        value = self._anchors.get(anchor)
        if value is None:
            raise Unreadable(place, f"the alias *{anchor} refers to nothing before it")
        self._expanded += value.size
        if self._expanded > MAX_EXPANDED:
            raise Unreadable(place, f"aliases stand for more than {MAX_EXPANDED} values")
        if len(self._open) + value.depth > MAX_DEPTH:
            raise Unreadable(place, f"nested more than {MAX_DEPTH} levels deep")
        self._put(value, None)

    def checked(self, place: Place, text: str) -> str:
        """Return *text*, without what no text can contain."""
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                self.problems.append(Problem(place, "a lone surrogate, which no text can contain"))
                return text.encode(errors="replace").decode()
        return text

    def _number(self, place: Place, raw: str) -> int | float:
        """Return a number; one that no float can hold is refused, as most of what reads JSON could not read it."""
        number = float(raw)
        if math.isinf(number):
            self.problems.append(Problem(place, "this number is too large: put it in quotes, if it is meant as text"))
            return 0
        return number if any(char in raw for char in ".eE") else int(raw)

    def _no_key(self, place: Place) -> None:
        if self.wants_key:
            raise Unreadable(place, "a key must be plain text")

    def _put(self, value: Value, anchor: str | None) -> None:
        if anchor:
            self._anchors[anchor] = value
        if not self._open:
            self.root = value
            return
        inside = self._open[-1]
        if inside.items is not None:
            inside.items.append(value)
        elif inside.entries is not None and inside.key is not None:
            place, key = inside.key
            first = inside.entries.setdefault(key, Entry(place, value))
            if first.place != place:
                self.problems.append(Problem(place, f"duplicate key {key!r}, first on line {first.place.line}"))
            inside.key = None
