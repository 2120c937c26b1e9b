"""JSON values as text, strictly: what JSON cannot hold is refused both ways, with a clear error in bounded time."""

import json
import math
import re
import sys
from collections.abc import Callable
from functools import partial
from itertools import chain, compress
from types import NoneType
from typing import Any, Final, NoReturn, TypeAlias

import attrs

from szal.errors import DecodeError, EncodeError
from szal.expressions.path import Json

__all__ = [
    "MAX_DEPTH",
    "MAX_DEPTH_OF_A_DOCUMENT",
    "SCALARS",
    "as_recorded",
    "dumps",
    "is_plain_scalar",
    "loads",
    "loads_own",
]

MAX_DEPTH: Final = 120
"""How many lists and objects a value may be inside one another: in its record, Rust can just read it."""

MAX_DEPTH_OF_A_DOCUMENT: Final = 127
"""How many levels Rust's serde_json reads. SQLite reads 1000, PostgreSQL what its stack holds."""

_LONGEST_PATH = 400  # characters
_LARGEST = int(sys.float_info.max)  # of a larger integer Rust says that it is out of range
_DIGITS = 308  # which every integer of so many is below

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
SCALARS: Final = frozenset({str, int, float, bool, NoneType})
"""The types of JSON values that are no lists and no objects."""


def dumps(value: Json, path: str = "value", *, depth: int = MAX_DEPTH, nul: bool = True) -> str:
    """Return *value* as compact JSON text, or raise `EncodeError` naming what cannot be encoded from *path* on.

    Refused are NaN and infinities, integers beyond every float, lone surrogates, keys that are no strings, cycles, what
    is nested more than *depth* levels deep, every type that JSON does not have, and without *nul* the character NUL.
    Tuples become lists, as in the json module.

    >>> dumps({"when": [1, {2}]}, "output")
    Traceback (most recent call last):
    szal.errors.EncodeError: output["when"][1]: set
    """
    kind = type(value)
    if value is None or (kind is int and -_LARGEST <= value <= _LARGEST):
        return "null" if value is None else repr(value)  # a fraction of the cost of the general way
    return _dumps(value, kind, path, depth, nul)[0]


def as_recorded(value: Json, path: str, *, nul: bool = False) -> tuple[str, Json]:
    """Return *value* as JSON text, and as whoever reads that sees it: lists and dicts in it are new ones.

    That is how a value enters what is recorded, from a handler or a caller: the rest of the run sees what a run that
    goes on after a crash would see. Raises `EncodeError` as `dumps` does; without *nul* also for the character NUL,
    which PostgreSQL cannot hold: what runs with one store runs with each.

    >>> as_recorded({"sizes": (1, 2)}, "output")
    ('{"sizes":[1,2]}', {'sizes': [1, 2]})
    """
    kind = type(value)
    if value is None:
        return "null", None
    if kind in SCALARS:
        return dumps(value, path, nul=nul), value
    if kind is dict or kind is list:
        mine = value.copy()  # before it is looked at: another thread may change it
        inner = mine.values() if kind is dict else mine
        if SCALARS.issuperset(map(type, inner)) and (kind is list or _KEYS.issuperset(map(type, mine))):
            return _dumps(mine, kind, path, MAX_DEPTH, nul, is_flat=True)[0], mine
    text, is_plain = _dumps(value, kind, path, MAX_DEPTH, nul)
    if is_plain:
        return text, loads_own(text)
    try:
        return text, loads(text)
    except DecodeError as error:  # keys of a class of their own are told apart, and written alike
        raise EncodeError(path, f"{error.path} {error.problem}".strip()) from None


def is_plain_scalar(value: Json) -> bool:
    """Whether *value* can be recorded, and is no list and no object; False also where that would take long to tell.

    >>> [is_plain_scalar(value) for value in ("a", 7, None, [], float("nan"))]
    [True, True, True, False, False]
    """
    kind = type(value)
    if kind is str:
        return bool(value.isascii() and "\0" not in value)
    if kind is int or kind is float:
        return bool(-_LARGEST <= value <= _LARGEST)
    return value is None or kind is bool


def _dumps(value: Json, kind: type, path: str, depth: int, nul: bool, *, is_flat: bool = False) -> tuple[str, bool]:
    """Return *value* as JSON text, and whether it is `_is_plain` for sure. *is_flat*: in it are plain scalars only."""
    try:
        text = _encode(value)
        if not text.isascii():
            text.encode()  # a lone surrogate would fail later, in the database
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(*_culprit(value, path, depth, partial(_complaint, nul=nul)) or (path, str(error))) from None
    is_long = len(text) > _DIGITS
    is_plain = kind not in _TRUSTED and ((is_flat and not is_long) or _is_plain(value, kind, depth, is_long))
    if ((kind not in _TRUSTED and not is_plain) or (not nul and "\\u0000" in text)) and (
        problem := _culprit(value, path, depth, partial(_complaint, nul=nul))
    ):
        raise EncodeError(*problem)
    return text, is_plain


_TRUSTED: Final = frozenset({str, bool, float})  # what encodes at all
_KEYS: Final = frozenset({str})
_PLAIN: Final = SCALARS | {dict, list, tuple}
_is_object: Final = frozenset({dict}).__contains__
_is_array: Final = frozenset({list, tuple}).__contains__
_is_integer: Final = frozenset({int}).__contains__


def _is_plain(value: Json, kind: type, depth: int, is_long: bool) -> bool:
    """Whether all keys are strings, and nothing is too deep, or of a class of its own; False where it cannot tell.

    Level by level: no line runs for each value. *is_long*: the text is long enough to have a number that is too large.
    """
    if kind is dict:
        objects, arrays, inner = [value], [], list(value.values())
    elif kind is list or kind is tuple:
        objects, arrays, inner = [], [value], value
    else:
        return False
    while True:
        if objects and not _KEYS.issuperset(map(type, chain.from_iterable(objects))):
            return False
        found = set(map(type, inner))
        if is_long and int in found:
            integers = list(compress(inner, map(_is_integer, map(type, inner))))
            if max(integers) > _LARGEST or min(integers) < -_LARGEST:
                return False
        if found <= SCALARS:
            return True
        depth -= 1
        if depth == 0 or not found <= _PLAIN:
            return False
        objects = list(compress(inner, map(_is_object, map(type, inner))))
        arrays = list(compress(inner, map(_is_array, map(type, inner))))
        inner = list(chain(chain.from_iterable(map(dict.values, objects)), chain.from_iterable(arrays)))


_Place: TypeAlias = tuple[Any, str]
"""Where a value is: the place of what it is in, or None, and the step from there."""


def _culprit(value: Json, path: str, depth: int, complaint_of: Callable[[Json], str | None]) -> tuple[str, str] | None:
    """Return the path of the first value that is refused, and why; None: nothing is. Iterative."""
    stack: list[tuple[Json, _Place, int]] = [(value, (None, path), 0)]
    while stack:
        item, place, level = stack.pop()
        complaint = complaint_of(item)
        if complaint is None and isinstance(item, dict | list | tuple) and level == depth:
            complaint = f"nested too deeply, or in a circle: at most {depth} levels can be read everywhere"
        if complaint is not None:
            return _path(place), complaint
        if isinstance(item, dict):
            stack += reversed([(inner, (place, f"[{_quoted(key)}]"), level + 1) for key, inner in item.items()])
        elif isinstance(item, list | tuple):
            stack += reversed([(inner, (place, f"[{index}]"), level + 1) for index, inner in enumerate(item)])
    return None


def _path(place: _Place | None) -> str:
    """Return a place as text: of a very long one the beginning and the end."""
    steps: list[str] = []
    while place is not None:
        place, step = place
        steps.append(step)
    text = "".join(reversed(steps))
    half = _LONGEST_PATH // 2
    return text if len(text) <= _LONGEST_PATH else f"{text[:half]}...{text[-half:]}"


def _complaint(item: Json, nul: bool) -> str | None:
    """Return what is wrong with *item* itself, whatever it contains."""
    match item:
        case dict():
            return next((f"a key {wrong}" for key in item if (wrong := _key_complaint(key, nul))), None)
        case str():
            return f"a string {wrong}" if (wrong := _text_complaint(item, nul)) else None
        case float():
            return None if math.isfinite(item) else f"{item} is not a JSON number"
        case int():
            if -_LARGEST <= item <= _LARGEST:
                return None
            return f"an integer of more than {3000 if item.bit_length() > 10_000 else _DIGITS} digits"
        case None | list() | tuple():
            return None
    kind = type(item)
    return f"{kind.__module__}.{kind.__name__}" if kind.__name__ in _OWN_NAMES else kind.__name__


_OWN_NAMES: Final = frozenset({"str", "int", "float", "bool", "dict", "list", "tuple"})
"""Names of what JSON can hold: of another class that has one, numpy's bool say, its module tells."""


def _key_complaint(key: object, nul: bool) -> str | None:
    if not isinstance(key, str):
        return f"of type {type(key).__name__}"
    wrong = _text_complaint(key, nul)
    return None if wrong is None else f"{wrong} ({key!a})"


def _text_complaint(text: str, nul: bool) -> str | None:
    if any("\ud800" <= char <= "\udfff" for char in text):
        return "with a lone surrogate"
    return None if nul or "\0" not in text else "with a NUL character, which not every store can hold"


def _quoted(key: object) -> str:
    return json.dumps(key if isinstance(key, str) else str(key))


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DecodeError("", f"duplicate key {key!r}")
            seen.add(key)
    return found


@attrs.frozen
class _Refused:
    """Stands for a number that is none, while its path is looked for."""

    problem: str


def _problem_of(item: Json) -> str | None:
    return item.problem if isinstance(item, _Refused) else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _too_long(text: str) -> str:
    return f"an integer of {len(text.lstrip('-'))} digits: at most {sys.get_int_max_str_digits()} are read"


def _or_refused(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def reading(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            return _Refused(_too_long(text) if read is int else str(error))

    return reading


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite).decode
_strict = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)
_scan_own: Final[Callable[[str, int], tuple[Json, int]]] = _strict.scan_once  # type: ignore[attr-defined]
"""Reads what begins at a place of a text, and looks for no key that is there twice. Twice as fast as `_decode`."""
_decode_with_refused = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_constant=_or_refused(_no_constant),
    parse_float=_or_refused(_finite),
    parse_int=_or_refused(int),
).decode
_FIRST_KEY = re.compile(r'\A\["(\w+)"\]')


def loads(text: str) -> Json:
    """Return the JSON value of *text*; raise `DecodeError` for bad syntax, NaN, duplicate keys, endless nesting.

    >>> loads('{"labels": {"n": [1, NaN]}}')
    Traceback (most recent call last):
    szal.errors.DecodeError: labels["n"][1]: NaN is not JSON
    """
    try:
        return _decode(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _unreadable(error) from None
    except ValueError:  # a number that is none: NaN, one that is too large, an integer with too many digits
        raise _refusal(text) from None


def loads_own(text: str) -> Json:
    """Return what `loads` does, twice as fast, of a text that szal alone writes: no key is in an object twice.

    >>> loads_own('{"a": 1, "a": NaN}')
    Traceback (most recent call last):
    szal.errors.DecodeError: duplicate key 'a'
    """
    try:
        value, end = _scan_own(text, 0)
    except (StopIteration, ValueError, RecursionError):
        return loads(text)  # which says what is wrong
    return value if end == len(text) else loads(text)


def _unreadable(error: Exception) -> DecodeError:
    return DecodeError("", "nested too deeply" if isinstance(error, RecursionError) else f"not JSON: {error}")


def _refusal(text: str) -> DecodeError:
    """Return the error for *text*, which has a number that is none, with the path of the first."""
    try:
        value = _decode_with_refused(text)
    except (json.JSONDecodeError, RecursionError) as error:  # further on
        return _unreadable(error)
    path, problem = _culprit(value, "", -1, _problem_of) or ("", "not JSON")
    return DecodeError(_FIRST_KEY.sub(r"\1", path), problem)
