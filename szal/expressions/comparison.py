"""How a condition compares JSON values: what holds, what equals what, and what comes before what."""

from collections.abc import Callable, Mapping
from enum import Enum
from operator import ge, gt, le, lt
from typing import Any, Final, TypeAlias

from szal.errors import NotComparable
from szal.expressions.path import Json

__all__ = ["ORDERINGS", "TESTS", "Kind", "Test", "is_truthy", "kind_of", "strict_ordering"]

Test: TypeAlias = Callable[[Json, Json], bool]


class Kind(Enum):
    """The types of JSON, as people are told of them."""

    NULL = "null"
    BOOLEAN = "true or false"
    NUMBER = "a number"
    STRING = "text"
    LIST = "a list"
    OBJECT = "an object"
    OTHER = "no JSON"


_KINDS: Final[dict[type, Kind]] = {
    type(None): Kind.NULL,
    bool: Kind.BOOLEAN,
    int: Kind.NUMBER,
    float: Kind.NUMBER,
    str: Kind.STRING,
    list: Kind.LIST,
    tuple: Kind.LIST,
    dict: Kind.OBJECT,
    Mapping: Kind.OBJECT,
}


def kind_of(value: Json) -> Kind:
    """Return the type of a value.

    >>> kind_of("5"), kind_of(5).value
    (<Kind.STRING: 'text'>, 'a number')
    """
    kind = _KINDS.get(type(value))
    if kind is None:
        kind = next((kind for base, kind in _KINDS.items() if isinstance(value, base)), Kind.OTHER)
    return kind


def is_truthy(value: Json) -> bool:
    """Whether a value holds where a condition asks for a boolean."""
    if value is True or value is False:
        return value
    # A value that is not JSON is never asked: its __bool__ is foreign code, and an array's raises.
    return kind_of(value) is Kind.OTHER or bool(value)


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
        kind = kind_of(left)
        if kind is not kind_of(right) or kind is Kind.OTHER:
            return False
        if kind is Kind.LIST or kind is Kind.OBJECT:
            if len(left) != len(right):
                return False
            pair = (id(left), id(right))
            if pair in met:
                continue
            met[pair] = (left, right)
            if kind is Kind.LIST:
                pending.extend(zip(left, right, strict=True))
                continue
            for key in left:
                if key not in right:
                    return False
                pending.append((left[key], right[key]))
        elif left != right:
            return False
    return True


_ORDERED: Final = (Kind.NUMBER, Kind.STRING)
_SORTED: Final = frozenset({int, float, str})


def _ordering(compare: Callable[[Any, Any], bool]) -> Test:
    def test(left: Json, right: Json) -> bool:
        if type(left) is type(right) and type(left) in _SORTED:
            return bool(compare(left, right))
        kind = kind_of(left)
        return kind in _ORDERED and kind is kind_of(right) and bool(compare(left, right))

    return test


ORDERINGS: Final[dict[str, Callable[[Any, Any], bool]]] = {">": gt, ">=": ge, "<": lt, "<=": le}
"""The operators that ask what comes before what."""


def strict_ordering(operator: str, text: str) -> Test:
    """Return the test that *operator* is in a flow: what has no order raises `NotComparable`, which says *text*.

    Null, which is what a missing value is, comes neither before nor after anything.

    >>> strict_ordering(">", "inputs.n > '5'")(7, "5")
    Traceback (most recent call last):
    szal.errors.NotComparable: condition: inputs.n > '5': a number and text have no order
    """
    compare = ORDERINGS[operator]

    def test(left: Json, right: Json) -> bool:
        if type(left) is type(right) and type(left) in _SORTED:
            return bool(compare(left, right))
        kinds = kind_of(left), kind_of(right)
        if Kind.NULL in kinds:
            return False
        if kinds[0] is not kinds[1] or kinds[0] not in _ORDERED:
            raise NotComparable(text, *(kind.value for kind in kinds))
        return bool(compare(left, right))

    return test


def _is_in(left: Json, right: Json) -> bool:
    match kind_of(right):
        case Kind.LIST:
            return any(_equal(left, element) for element in right)
        case Kind.STRING | Kind.OBJECT:
            return kind_of(left) is Kind.STRING and left in right
    return False


TESTS: Final[dict[str, Test]] = {
    "==": _equal,
    "!=": lambda left, right: not _equal(left, right),
    **{operator: _ordering(compare) for operator, compare in ORDERINGS.items()},
    "in": _is_in,
    "contains": lambda left, right: _is_in(right, left),
}
"""What each operator of a condition does. None of them raises."""
