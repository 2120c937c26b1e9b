"""JSON values as text, strictly: what JSON cannot hold is refused both ways, with a clear error in bounded time."""

import json
import math
from collections.abc import Callable
from typing import NoReturn

from szal.errors import DecodeError, EncodeError
from szal.expressions.path import Json

__all__ = ["dumps", "loads"]

_LONGEST_PATH = 2_000  # characters: what is deeper than that cannot be encoded, and may be a circle

encode_text = json.encoder.encode_basestring
"""Return text, in which there is no lone surrogate, as JSON."""


def _encoder() -> Callable[[Json], str]:
    # A circle is found out by its depth: looking for one in every value would cost a tenth of the whole.
    encoder = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    # `encode` makes one of these for each value, which costs twice as much as the rest.
    chunks = make(None, encoder.default, encode_text, None, ":", ",", False, False, False)
    return lambda value: "".join(chunks(value, 0))


_encode = _encoder()


def dumps(value: Json, path: str = "value") -> str:
    """Return *value* as compact JSON text, or raise `EncodeError` naming what cannot be encoded from *path* on.

    Refused are NaN and infinities, lone surrogates, cycles, and every type that JSON does not have.
    As in the json module, tuples become lists and keys that are numbers become strings.

    >>> dumps({"when": [1, {2}]}, "output")
    Traceback (most recent call last):
    szal.errors.EncodeError: output["when"][1]: set
    """
    try:
        if value is None or type(value) is int:  # a fraction of the cost of the general way
            return "null" if value is None else repr(value)
        text = _encode(value)
        if not text.isascii():
            text.encode()  # a lone surrogate would fail later, in the database
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(*_culprit(value, path, str(error))) from None
    return text


def _culprit(value: Json, path: str, problem: str) -> tuple[str, str]:
    """Return the path of the first value that cannot be encoded, and what is wrong with it. Iterative."""
    stack: list[tuple[str, Json]] = [(path, value)]
    while stack and len(stack[-1][0]) < _LONGEST_PATH:
        where, item = stack.pop()
        complaint = _complaint(item)
        if complaint is not None:
            return where, complaint
        if isinstance(item, dict):
            stack += reversed([(f"{where}[{_quoted(key)}]", inner) for key, inner in item.items()])
        elif isinstance(item, list | tuple):
            stack += reversed([(f"{where}[{index}]", inner) for index, inner in enumerate(item)])
    return path, "nested too deeply, or in a circle" if stack else problem


def _complaint(item: Json) -> str | None:
    """Return what is wrong with *item* itself, whatever it contains."""
    match item:
        case dict():
            return next((f"a key {wrong}" for key in item if (wrong := _key_complaint(key))), None)
        case str():
            return "a string with a lone surrogate" if _has_surrogate(item) else None
        case float():
            return None if math.isfinite(item) else f"{item} is not a JSON number"
        case int():
            return "an integer of more than 3000 digits" if item.bit_length() > 10_000 else None
        case None | list() | tuple():
            return None
    return type(item).__name__


def _key_complaint(key: object) -> str | None:
    if isinstance(key, str):
        return f"with a lone surrogate ({key!a})" if _has_surrogate(key) else None
    return None if isinstance(key, int | float | None) else f"of type {type(key).__name__}"


def _quoted(key: object) -> str:
    return json.dumps(key if isinstance(key, str) else str(key))


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DecodeError("", f"duplicate key {key!r}")
            seen.add(key)
    return found


def _no_constant(name: str) -> NoReturn:
    raise DecodeError("", f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise DecodeError("", f"the number {text[:40]} is too large")
    return value


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite).decode


def loads(text: str) -> Json:
    """Return the JSON value of *text*; raise `DecodeError` for bad syntax, NaN, duplicate keys, endless nesting."""
    try:
        return _decode(text)
    except json.JSONDecodeError as error:
        raise DecodeError("", f"not JSON: {error}") from None
    except RecursionError:
        raise DecodeError("", "nested too deeply") from None
    except ValueError as error:  # an integer with more digits than Python converts
        raise DecodeError("", str(error)) from None
