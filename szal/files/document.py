"""YAML and JSON text as values that know where they stand, for error messages with a line and a column.

Of YAML it reads what JSON has: the plain scalars that are not text are ``null``, ``~``, ``true``, ``false`` (and
``True``, ``TRUE`` …) and decimal numbers as JSON writes them. So ``on``, ``no``, ``1:30``, ``0755`` and
``2026-06-10`` stay text, and so does every key.
"""

import json
import math
import re
from bisect import bisect_right
from collections.abc import Callable
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed does not know it
from typing import Any, Final, NamedTuple

import attrs

from szal.errors import MissingExtra
from szal.expressions.path import Json

__all__ = ["Entry", "Place", "Problem", "Unreadable", "Value", "read_json", "read_yaml"]

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
    """A JSON value with its place; `raw` is a scalar as it is written. Aliases share their value."""

    place: Place
    data: "str | int | float | bool | list[Value] | dict[str, Entry] | None"
    raw: str = ""
    size: int = 1  # how many values it is, written out
    depth: int = 0

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
        """Return it without the places."""
        if isinstance(self.data, list):
            return [item.plain() for item in self.data]
        if isinstance(self.data, dict):
            return {key: entry.value.plain() for key, entry in self.data.items()}
        return self.data


def _check_text(text: str, place: Place, problems: list[Problem]) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            problems.append(Problem(place, "a lone surrogate, which no text can contain"))
            return text.encode(errors="replace").decode()
    return text


def _number(raw: str, place: Place, problems: list[Problem]) -> int | float:
    try:
        number = float(raw) if any(char in raw for char in ".eE") else int(raw)
    except ValueError:  # Python reads no integer of more than 4300 digits
        number = math.inf
    if math.isinf(number):
        problems.append(Problem(place, "this number is too large"))
        return 0
    return number


def _places(text: str) -> Callable[[int], Place]:
    """Return a function that finds the place of an index in *text*."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(index: int) -> Place:
        line = bisect_right(starts, index)
        return Place(line, index - starts[line - 1] + 1)

    return place


# -- YAML --------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_NOT_YAML = re.compile(r"[^\t\n\r\x20-\x7E\x85\xA0-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TAGS = ("", "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")


def read_yaml(text: str, problems: list[Problem]) -> Value:
    """Return the one document in *text*, noting *problems*; raise `Unreadable` at a syntax error.

    Raises `MissingExtra` without PyYAML.

    >>> read_yaml("on: [1:30, 0755, 2, no]", []).plain()
    {'on': ['1:30', '0755', 2, 'no']}
    """
    try:
        import yaml
    except ImportError:
        raise MissingExtra("loading YAML files", "cli") from None
    if (match := _NOT_YAML.search(text)) is not None:
        raise Unreadable(_places(text)(match.start()), f"YAML cannot contain the character {match[0]!a}")
    builder = _Builder(problems)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        context = f" {error.context}" if error.context else ""
        place = builder.place if error.problem_mark is None else _mark(error.problem_mark)
        raise Unreadable(place, f"YAML syntax:{context} {error.problem or ''}".rstrip()) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML lets "\U00110000" through to chr()
        raise Unreadable(builder.place, f"YAML syntax: {error}") from None
    if builder.root is None:
        raise Unreadable(Place(1, 1), "the file is empty")
    return builder.root


def _mark(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


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


class _Builder:
    """Makes values of the parser's events. Not recursive, as PyYAML's own constructors are."""

    def __init__(self, problems: list[Problem]) -> None:
        self.root: Value | None = None
        self.place = Place(1, 1)
        self._problems = problems
        self._open: list[_Open] = []
        self._anchors: dict[str, Value] = {}
        self._expanded = 0

    def take(self, event: Any) -> None:
        self.place = _mark(event.start_mark)
        kind = type(event).__name__
        if getattr(event, "tag", None) and event.tag not in _TAGS:
            self._problems.append(Problem(self.place, f"the tag {event.tag!r} is not supported"))
        if kind == "ScalarEvent":
            self._scalar(event)
        elif kind == "AliasEvent":
            self._put(self._alias(event.anchor))
        elif kind in ("SequenceStartEvent", "MappingStartEvent"):
            self._begin(event.anchor, is_list=kind == "SequenceStartEvent")
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            opened = self._open.pop()
            value = opened.close()
            if opened.anchor:
                self._anchors[opened.anchor] = value
            self._put(value)
        elif kind == "DocumentStartEvent" and self.root is not None:
            raise Unreadable(self.place, "a second document: a file holds one flow")

    def _begin(self, anchor: str | None, *, is_list: bool) -> None:
        self._no_key()
        if len(self._open) == MAX_DEPTH:
            raise Unreadable(self.place, f"nested more than {MAX_DEPTH} levels deep")
        if is_list:
            self._open.append(_Open(self.place, anchor, items=[]))
        else:
            self._open.append(_Open(self.place, anchor, entries={}))

    def _no_key(self) -> None:
        if self._open and self._open[-1].entries is not None and self._open[-1].key is None:
            raise Unreadable(self.place, "a key must be plain text")

    def _scalar(self, event: Any) -> None:
        raw, place = _check_text(event.value, self.place, self._problems), self.place
        inside = self._open[-1] if self._open else None
        if inside is not None and inside.entries is not None and inside.key is None:
            inside.key = place, raw
            return
        data: str | float | bool | None = raw
        if not event.style and not event.tag:
            if raw in _WORDS:
                data = _WORDS[raw]
            elif _NUMBER.fullmatch(raw):
                data = _number(raw, place, self._problems)
        value = Value(place, data, raw, size=1 + len(raw) // 100)
        if event.anchor:
            self._anchors[event.anchor] = value
        self._put(value)

    def _alias(self, anchor: str) -> Value:
        self._no_key()
        value = self._anchors.get(anchor)
        if value is None:
            raise Unreadable(self.place, f"the alias *{anchor} refers to nothing before it")
        self._expanded += value.size
        if self._expanded > MAX_EXPANDED:
            raise Unreadable(self.place, f"aliases stand for more than {MAX_EXPANDED} values")
        if len(self._open) + value.depth > MAX_DEPTH:
            raise Unreadable(self.place, f"nested more than {MAX_DEPTH} levels deep")
        return value

    def _put(self, value: Value) -> None:
        if not self._open:
            self.root = value
            return
        inside = self._open[-1]
        if inside.items is not None:
            inside.items.append(value)
        elif inside.entries is not None and inside.key is not None:
            _add(inside.entries, inside.key[1], Entry(inside.key[0], value), self._problems)
            inside.key = None


def _add(entries: dict[str, Entry], key: str, entry: Entry, problems: list[Problem]) -> None:
    first = entries.setdefault(key, entry)
    if first is not entry:
        problems.append(Problem(entry.place, f"duplicate key {key!r}, first on line {first.place.line}"))


# -- JSON --------------------------------------------------------------------------------------------

_SPACE = re.compile(r"[ \t\n\r]*")
_LITERALS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_WORD = re.compile(r"[A-Za-z]+")


def read_json(text: str, problems: list[Problem]) -> Value:
    """Return the value in *text*, noting *problems*; raise `Unreadable` at a syntax error.

    >>> read_json('{"name": "ci", "steps": []}', []).data["steps"]
    Entry(place=Place(line=1, column=16), value=Value(place=Place(line=1, column=25), data=[], ...))
    """
    reader = _JsonReader(text, problems)
    start = reader.space(0)
    if start == len(text):
        raise Unreadable(Place(1, 1), "the file is empty")
    value, end = reader.value(start, 0)
    if (end := reader.space(end)) != len(text):
        raise reader.error(end, "nothing may follow the value")
    return value


class _JsonReader:
    """The json module knows no positions. Its methods take the index to start at and return that after the end."""

    def __init__(self, text: str, problems: list[Problem]) -> None:
        self._text = text
        self._problems = problems
        self._place = _places(text)

    def error(self, index: int, text: str) -> Unreadable:
        return Unreadable(self._place(index), f"JSON syntax: {text}")

    def space(self, index: int) -> int:
        match = _SPACE.match(self._text, index)
        return index if match is None else match.end()

    def value(self, index: int, depth: int) -> tuple[Value, int]:
        first, place = self._text[index : index + 1], self._place(index)
        if depth > MAX_DEPTH:
            raise Unreadable(place, f"nested more than {MAX_DEPTH} levels deep")
        if first == '"':
            string, end = self._string(index)
            return Value(place, string, string), end
        if first == "{":
            return self._object(index, depth)
        if first == "[":
            return self._array(index, depth)
        if (match := _NUMBER.match(self._text, index)) is not None:
            return Value(place, _number(match[0], place, self._problems), match[0]), match.end()
        word = _WORD.match(self._text, index)
        if word is not None and word[0] in _LITERALS:
            return Value(place, _LITERALS[word[0]], word[0]), word.end()
        found = repr(word[0] if word is not None else first) if first else "the end"
        raise self.error(index, f"expected a value, found {found}")

    def _string(self, index: int) -> tuple[str, int]:
        try:
            string, end = scanstring(self._text, index + 1, True)
        except json.JSONDecodeError as error:
            raise self.error(error.pos, error.msg) from None
        return _check_text(string, self._place(index), self._problems), end

    def _array(self, index: int, depth: int) -> tuple[Value, int]:
        place = self._place(index)
        items: list[Value] = []
        index = self.space(index + 1)
        while items or self._text[index : index + 1] != "]":
            item, index = self.value(index, depth + 1)
            items.append(item)
            index = self._next(index, "]")
            if index < 0:
                return Value.of_list(place, items), -index
        return Value.of_list(place, items), index + 1

    def _object(self, index: int, depth: int) -> tuple[Value, int]:
        place = self._place(index)
        entries: dict[str, Entry] = {}
        index = self.space(index + 1)
        while entries or self._text[index : index + 1] != "}":
            if self._text[index : index + 1] != '"':
                raise self.error(index, "expected a key in double quotes")
            key_place = self._place(index)
            key, index = self._string(index)
            index = self.space(index)
            if self._text[index : index + 1] != ":":
                raise self.error(index, "expected ':'")
            value, index = self.value(self.space(index + 1), depth + 1)
            _add(entries, key, Entry(key_place, value), self._problems)
            index = self._next(index, "}")
            if index < 0:
                return Value.of_dict(place, entries), -index
        return Value.of_dict(place, entries), index + 1

    def _next(self, index: int, closing: str) -> int:
        """Return where the next part begins; after the closing bracket, minus the index after that."""
        index = self.space(index)
        found = self._text[index : index + 1]
        if found == closing:
            return -(index + 1)
        if found != ",":
            raise self.error(index, f"expected ',' or '{closing}'")
        return self.space(index + 1)
