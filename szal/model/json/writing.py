"""Values as they are written in JSON, each of one type; an `EncodeError` names the field that is of another."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from szal.errors import EncodeError
from szal.expressions.path import Json
from szal.model.json.text import dumps, encode_text
from szal.model.moment import as_ms
from szal.model.results import as_message
from szal.model.state import NamedEnum
from szal.model.step import MAX_COUNT
from szal.number import problem_of, shown

__all__ = [
    "checked_count",
    "checked_flag",
    "checked_member",
    "checked_number",
    "checked_object",
    "checked_string",
    "checked_whole",
    "checked_word",
    "filled",
    "flag_json",
    "measured_ms",
    "message_json",
    "name_json",
    "set_ms",
    "time_json",
]


def measured_ms(seconds: float, path: str) -> int:
    """Return a duration that was measured, in milliseconds."""
    ms = as_ms(seconds)
    if ms is None:
        raise EncodeError(path, f"not a duration in seconds ({shown(seconds)})")
    return ms


def set_ms(seconds: float, path: str) -> int:
    """Return a duration that somebody set."""
    ms = measured_ms(seconds, path)
    if seconds < 0:
        raise EncodeError(path, f"negative ({shown(seconds)})")
    return ms


def filled(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pairs that hold something: what szal adds is left out when empty."""
    return {key: value for key, value in pairs.items() if value is not None and value not in ((), {}, [])}


def time_json(moment: object, path: str) -> str:
    """Return a time as text, without the quotes."""
    if type(moment) is datetime and moment.tzinfo is UTC:  # as nearly always: a third of the time
        return moment.isoformat()
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise EncodeError(path, f"not a time with an offset ({shown(moment)})")
    try:
        return moment.astimezone(UTC).isoformat()
    except OverflowError:
        raise EncodeError(path, f"{moment.isoformat()} is outside the years 1 to 9999 in UTC") from None


def checked_string(value: str, path: str) -> str:
    if not isinstance(value, str):
        raise EncodeError(path, f"expected a string, found {type(value).__name__}")
    return value


def checked_word(value: str | None, words: Sequence[str], path: str) -> str | None:
    if value is not None and checked_string(value, path) not in words:
        raise EncodeError(path, f"expected one of {', '.join(words)}, found {value!r}")
    return value


def name_json(value: str, path: str) -> str:
    """Return an id or a name as JSON: of what says which one it is, nothing may be replaced."""
    return encode_text(value) if type(value) is str and value.isascii() else dumps(checked_string(value, path), path)


def message_json(value: str, path: str) -> str:
    """Return a message as JSON: it comes from anywhere, so what is no text in it is replaced."""
    return encode_text(as_message(checked_string(value, path)))


def checked_count(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise EncodeError(path, f"not a whole number between 0 and {MAX_COUNT} ({shown(value)})")
    return value


def checked_whole(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAX_COUNT:
        raise EncodeError(path, f"not a whole number between {-MAX_COUNT} and {MAX_COUNT} ({shown(value)})")
    return value


def checked_number(value: float, path: str) -> float:
    if (problem := problem_of(value)) is not None:
        raise EncodeError(path, problem)
    return value


def checked_flag(value: bool, path: str) -> bool:
    if not isinstance(value, bool):
        raise EncodeError(path, f"neither True nor False ({shown(value)})")
    return value


def flag_json(value: bool, path: str) -> str:
    return "true" if checked_flag(value, path) else "false"


def checked_object(value: Mapping[str, Json], path: str) -> dict[str, Json]:
    if not isinstance(value, Mapping):
        raise EncodeError(path, f"expected a mapping, found {type(value).__name__}")
    return dict(value)


def checked_member(value: NamedEnum, kind: type[NamedEnum], path: str) -> str:
    if not isinstance(value, kind):
        raise EncodeError(path, f"not a {kind.__name__} ({shown(value)})")
    return str(value.value)
