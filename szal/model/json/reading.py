"""A JSON object as it is read; a `DecodeError` names the path of what is wrong."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from szal.errors import DecodeError
from szal.expressions.path import Json
from szal.model.moment import NO_LIMIT_MS
from szal.model.state import NamedEnum

__all__ = ["ObjectReader", "kind_of"]

_T = TypeVar("_T")
_E = TypeVar("_E", bound=NamedEnum)


class ObjectReader:
    """A JSON object being read; knows its own path, for the errors."""

    __slots__ = ("path", "values")

    def __init__(self, value: Json, path: str) -> None:
        if not isinstance(value, dict):
            raise DecodeError(path, f"expected an object, found {kind_of(value)}")
        self.values = value
        self.path = path

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def get(self, key: str, kind: type[_T], *default: _T) -> _T:
        """Return the value at *key*: of exactly this type, or *default* where it is missing and one is given."""
        value = self.values.get(key, self)
        if value is self:
            if default:
                return default[0]
            raise DecodeError(self.at(key), "is missing")
        if type(value) is not kind:
            raise DecodeError(self.at(key), f"expected {_NAMES[kind]}, found {kind_of(value)}")
        return value

    def maybe(self, key: str, kind: type[_T]) -> _T | None:
        return None if self.values.get(key) is None else self.get(key, kind)

    def count(self, key: str, *default: int) -> int:
        value = self.get(key, int, *default)
        if not 0 <= value <= NO_LIMIT_MS:
            raise DecodeError(self.at(key), f"{value} is not between 0 and {NO_LIMIT_MS}")
        return value

    def seconds(self, key: str, *default: int) -> float:
        return self.count(key, *default) / 1000

    def limit(self, key: str) -> float | None:
        """Return an optional number of milliseconds, as seconds; null, u64::MAX and nothing are no limit."""
        if self.values.get(key) is None or (value := self.count(key)) == NO_LIMIT_MS:
            return None
        return value / 1000

    def enum(self, key: str, kind: type[_E], *default: _E) -> _E:
        if default and key not in self.values:
            return default[0]
        name = self.get(key, str)
        try:
            return kind(name)
        except ValueError:
            known = ", ".join(member.value for member in kind)
            raise DecodeError(self.at(key), f"{name!r} is none of {known}") from None

    def time(self, key: str) -> datetime:
        text = self.get(key, str)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is UTC:
            return moment
        if moment is None or moment.tzinfo is None:
            raise DecodeError(self.at(key), f"{text!r} is not a time with an offset")
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise DecodeError(self.at(key), f"{text!r} is outside the years 1 to 9999 in UTC") from None

    def many(self, key: str, read: Callable[[Json, str], _T], *default: list[Json]) -> list[_T]:
        items = self.get(key, list, *default)
        if not items:
            return []
        where = self.at(key)
        return [read(item, f"{where}[{index}]") for index, item in enumerate(items)]


_NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def kind_of(value: Json) -> str:
    """Return what a message calls a value of that type."""
    return _NAMES.get(type(value), type(value).__name__)
