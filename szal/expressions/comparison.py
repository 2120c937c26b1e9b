"""How a condition compares JSON values: what holds, what equals what, and what comes before what."""

from collections.abc import Callable, Mapping
from enum import Enum
from operator import ge, gt, le, lt
from typing import Any, Final, TypeAlias

from szal.expressions.path import Json

__all__ = ["TESTS", "Test", "is_truthy"]

Test: TypeAlias = Callable[[Json, Json], bool]


class _Kind(Enum):
    NULL = "null"
    BOOLEAN = "boolean"
    NUMBER = "number"
    STRING = "string"
    LIST = "list"
    OBJECT = "object"
    OTHER = "other"


_KINDS: Final[dict[type, _Kind]] = {
    type(None): _Kind.NULL,
    bool: _Kind.BOOLEAN,
    int: _Kind.NUMBER,
    float: _Kind.NUMBER,
    str: _Kind.STRING,
    list: _Kind.LIST,
    tuple: _Kind.LIST,
    dict: _Kind.OBJECT,
    Mapping: _Kind.OBJECT,
}


def _kind(value: Json) -> _Kind:
    kind = _KINDS.get(type(value))
    if kind is None:
        kind = next((kind for base, kind in _KINDS.items() if isinstance(value, base)), _Kind.OTHER)
    return kind


def is_truthy(value: Json) -> bool:
    """Whether a value holds where a condition asks for a boolean."""
    if value is True or value is False:
        return value
    # A value that is not JSON is never asked: its __bool__ is foreign code, and an array's raises.
    return _kind(value) is _Kind.OTHER or bool(value)


_SCALARS: Final = frozenset({type(None), bool, int, float, str})


def _equal(left: Json, right: Json) -> bool:
    """Compare deeply, without recursion. A value that is not JSON equals nothing."""
    if type(left) is type(right) and type(left) in _SCALARS:
        return bool(left == right)
    pending = [(left, right)]
    # Pairs met before, by identity and kept alive, so that values that contain themselves, or one part many times over,
    # are compared once.
    met: dict[tuple[int, int], tuple[Json, Json]] = {}
    while pending:
        left, right = pending.pop()
        kind = _kind(left)
        if kind is not _kind(right) or kind is _Kind.OTHER:
            return False
        if kind is _Kind.LIST or kind is _Kind.OBJECT:
            if len(left) != len(right):
                return False
            pair = (id(left), id(right))
            if pair in met:
                continue
            met[pair] = (left, right)
            if kind is _Kind.LIST:
                pending.extend(zip(left, right, strict=True))
                continue
            for key in left:
                if key not in right:
                    return False
                pending.append((left[key], right[key]))
        elif left != right:
            return False
    return True


_ORDERED: Final = (_Kind.NUMBER, _Kind.STRING)
_SORTED: Final = frozenset({int, float, str})


def _ordering(compare: Callable[[Any, Any], bool]) -> Test:
    def test(left: Json, right: Json) -> bool:
        if type(left) is type(right) and type(left) in _SORTED:
            return bool(compare(left, right))
        kind = _kind(left)
        return kind in _ORDERED and kind is _kind(right) and bool(compare(left, right))

    return test


def _is_in(left: Json, right: Json) -> bool:
    match _kind(right):
        case _Kind.LIST:
            return any(_equal(left, element) for element in right)
        case _Kind.STRING | _Kind.OBJECT:
            return _kind(left) is _Kind.STRING and left in right
    return False


TESTS: Final[dict[str, Test]] = {
    "==": _equal,
    "!=": lambda left, right: not _equal(left, right),
    ">": _ordering(gt),
    ">=": _ordering(ge),
    "<": _ordering(lt),
    "<=": _ordering(le),
    "in": _is_in,
    "contains": lambda left, right: _is_in(right, left),
}
"""What each operator of a condition does. None of them raises."""
