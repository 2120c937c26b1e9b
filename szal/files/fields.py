"""Reading the fields of an object in a file: each has its type, and what is wrong is noted with its place."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import attrs

from szal.errors import did_you_mean
from szal.expressions.path import Json
from szal.files.document import Entry, Place, Problem, Value
from szal.files.vocabulary import hint_for
from szal.model.duration import parse_duration
from szal.model.state import NamedEnum

__all__ = ["Fields"]

_E = TypeVar("_E", bound=NamedEnum)
_T = TypeVar("_T")

_CALLED = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


@attrs.define(eq=False)
class Fields:
    """The fields of one object. A field that is missing, null or wrong is read as None, or as its default.

    `label` is what messages call the object. Problems of an object inside count as those of the one around it.
    """

    entries: dict[str, Entry]
    place: Place
    label: str
    _problems: list[Problem]
    _outer: "Fields | None" = None
    is_faulty: bool = attrs.field(default=False, init=False)

    @classmethod
    def of(cls, value: Value, label: str, problems: list[Problem]) -> "Fields | None":
        """Return the fields of *value*, or None where it is no object."""
        if isinstance(value.data, dict):
            return cls(value.data, value.place, label, problems)
        problems.append(Problem(value.place, f"{label} must be an object, not {_what(value)}"))
        return None

    def problem(self, text: str, *, key: str | None = None, place: Place | None = None) -> None:
        """Note a problem, at *place* or where *key* is."""
        if place is None:
            place = self.entries[key].place if key in self.entries else self.place
        self._problems.append(Problem(place, text))
        outer: Fields | None = self
        while outer is not None:
            outer.is_faulty = True
            outer = outer._outer

    def wrong(self, key: str, expected: str, value: Value, hint: str = "") -> None:
        """Note that the field *key*, or a part of it, is not what it should be."""
        self.problem(f"{key!r} in {self.label} must be {expected}, not {_what(value)}{hint}", place=value.place)

    def allow(self, known: Collection[str]) -> None:
        """Note every key that is not *known*; those that begin with "x-" are for people."""
        for key, entry in self.entries.items():
            if key not in known and not key.startswith("x-"):
                hint = hint_for(key, known, entry.value.raw)
                self.problem(f"unknown key {key!r} in {self.label}{hint}", key=key)

    # -- types ---------------------------------------------------------------------------------------

    def get(self, key: str) -> Value | None:
        """Return what is under *key*, whatever that is."""
        entry = self.entries.get(key)
        return None if entry is None or entry.value.data is None else entry.value

    def name(self) -> str | None:
        """Return the text under "name", which has to be there; it becomes the label."""
        given = self.get("name")
        if given is None:
            self.problem(f"{self.label} has no name", key="name")
            return None
        if not isinstance(given.data, str) or not given.data:
            hint = f': write "{given.raw}"' if given.raw else ""
            self.wrong("name", f"text{hint}", given)
            return None
        if self.label.startswith("step"):
            self.label = f"step {given.data!r}"
        return given.data

    def text(self, key: str) -> str | None:
        """Return a text; a boolean or a number stands for how it is written."""
        given = self.get(key)
        if given is None or isinstance(given.data, str):
            return None if given is None else given.raw
        if isinstance(given.data, list | dict):
            self.wrong(key, "text", given)
            return None
        return given.raw

    def flag(self, key: str, default: bool = False, *, or_else: str = "") -> bool:
        """Return a boolean."""
        given = self.get(key)
        if given is None or isinstance(given.data, bool):
            return default if given is None else given.data is True
        self.wrong(key, f"true or false{or_else}", given)
        return default

    def whole(self, key: str, default: int, *, or_else: str = "") -> int:
        """Return a whole number that is not negative."""
        given = self.get(key)
        if given is None:
            return default
        if isinstance(given.data, bool) or not isinstance(given.data, int) or given.data < 0:
            self.wrong(key, f"a whole number{or_else}", given)
            return default
        return given.data

    def integer(self, key: str) -> int:
        """Return a whole number, which may be negative; 0 where there is none."""
        given = self.get(key)
        if given is None:
            return 0
        if isinstance(given.data, bool) or not isinstance(given.data, int):
            self.wrong(key, "a whole number", given)
            return 0
        return given.data

    def number(self, key: str) -> float | None:
        """Return a number that is not negative."""
        given = self.get(key)
        if given is None:
            return None
        if isinstance(given.data, bool) or not isinstance(given.data, int | float) or given.data < 0:
            self.wrong(key, "a number", given)
            return None
        return given.data

    def duration(self, key: str) -> float | None:
        """Return seconds: a number, or what a text like "90s" stands for."""
        given = self.get(key)
        if given is None or not isinstance(given.data, str):
            return self.number(key)
        try:
            return parse_duration(given.data)
        except ValueError as error:
            self.problem(f"{key!r} in {self.label}: {error}", place=given.place)
            return None

    def choice(self, key: str, kind: type[_E]) -> _E | None:
        """Return the member of an enum that is named."""
        return self.one_of(key, {str(member): member for member in kind})

    def one_of(self, key: str, known: Mapping[str, _T], hint: Callable[[str], str] | None = None) -> _T | None:
        """Return what is *known* by the name that is given; of another text, *hint* says what to write instead."""
        given = self.get(key)
        if given is None:
            return None
        text = given.data if isinstance(given.data, str) else None
        if text is not None and text in known:
            return known[text]
        more = "" if text is None else did_you_mean(text, list(known)) if hint is None else hint(text)
        self.wrong(key, f"one of {', '.join(known)}", given, more)
        return None

    def items(self, key: str) -> list[Value]:
        """Return the parts of a list."""
        given = self.get(key)
        if given is None:
            return []
        if not isinstance(given.data, list):
            self.wrong(key, "a list", given)
            return []
        return given.data

    def texts(self, key: str) -> list[tuple[Place, str]]:
        """Return a list of texts; one alone will do."""
        given = self.get(key)
        if given is None:
            return []
        found = []
        for item in given.data if isinstance(given.data, list) else [given]:
            if isinstance(item.data, str):
                found.append((item.place, item.data))
            else:
                self.wrong(key, "text or a list of texts", item)
        return found

    def inner(self, key: str) -> "Fields":
        """Return the fields of an object inside this one; those of an empty one where there is none."""
        given = self.get(key)
        label = f"{key!r} of {self.label}"
        if given is None or not isinstance(given.data, dict):
            if given is not None:
                self.wrong(key, "an object", given)
            return Fields({}, self.place, label, self._problems, self)
        return Fields(given.data, given.place, label, self._problems, self)

    def plain(self, key: str, kind: Any = dict) -> Json:
        """Return a JSON value of one of the types *kind*."""
        given = self.get(key)
        if given is None:
            return None
        if not isinstance(given.data, kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            self.wrong(key, " or ".join(_CALLED[kind] for kind in kinds), given)
            return None
        return given.plain()


def _what(value: Value) -> str:
    data = value.data
    if data is None:
        return "null"
    if isinstance(data, list | dict):
        return _CALLED[type(data)]
    shown = value.raw if len(value.raw) <= 50 else value.raw[:50] + "…"
    return repr(shown) if isinstance(data, str) else shown
