"""Lists and dicts of one's own: what one attempt changes is nobody else's. And which values are one in JSON."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, Final

from szal.expressions.path import Json

__all__ = ["as_written", "own_copy"]

_COPY: Final[dict[type, Callable[[Any], Any]]] = {
    dict: dict.copy,
    list: list.copy,
    OrderedDict: OrderedDict.copy,
    defaultdict: defaultdict.copy,
    tuple: tuple,  # what is in it may have to be copied
}
_FLAT: Final = frozenset({str, int, float, bool, NoneType})


def own_copy(value: Json) -> Json:
    """Return *value* with new lists and dicts in place of those that it is made of, be they in tuples or not.

    Anything else in it is as it was, a tuple that holds none of them too. Not recursive, so no depth is too much for
    it. What is in it twice is in the copy twice, as it is with `copy.deepcopy`, and it may contain itself.

    >>> config = {"url": "http://example.org", "headers": {"Accept": "*/*"}}
    >>> mine = own_copy(config)
    >>> mine["headers"].clear()
    >>> config["headers"]
    {'Accept': '*/*'}
    """
    copy = _COPY.get(type(value))
    if copy is None:
        return value
    if copy is tuple:
        return own_copy([value])[0]
    top = copy(value)
    if _FLAT.issuperset(map(type, top if type(value) is list else top.values())):
        return top
    copies = {id(value): top}
    for container in (unfinished := [top]):  # which grows on the way
        parts = enumerate(container) if type(container) is list else container.items()
        for place, part in parts:
            if type(part) in _COPY:
                mine = copies.get(id(part))
                container[place] = _begun(part, copies, unfinished) if mine is None else mine
    return top


def as_written(value: Json) -> Json:
    """Return *value* with what JSON writes as lists and objects made lists and dicts: two that are written alike.

    >>> as_written({"sizes": (1, 2)})
    {'sizes': [1, 2]}
    """
    if isinstance(value, list | tuple):
        return [as_written(inner) for inner in value]
    if isinstance(value, Mapping):
        return {key: as_written(inner) for key, inner in value.items()}
    return value


def _begun(part: Any, copies: dict[int, Any], unfinished: list[Any]) -> Any:
    """Return the copy of *part*, which *copies* has none of yet; where there is more to do, it is *unfinished*."""
    copy = _COPY[type(part)]
    if copy is tuple:
        return _tuple_of_copies(part, copies, unfinished)
    mine = copies[id(part)] = copy(part)
    if not _FLAT.issuperset(map(type, mine if type(mine) is list else mine.values())):
        unfinished.append(mine)
    return mine


def _tuple_of_copies(whole: tuple[Any, ...], copies: dict[int, Any], unfinished: list[Any]) -> tuple[Any, ...]:
    """Return the copy of a tuple; those in it are made before it, as nobody could put them there later.

    Tuples alone never go round in a circle: there would be a list or a dict in it.
    """
    stack = [whole]
    while stack:
        current = stack[-1]
        inner = [part for part in current if type(part) is tuple and id(part) not in copies]
        if inner:
            stack += inner
            continue
        stack.pop()
        if id(current) not in copies:
            mine = tuple(_mine(part, copies, unfinished) for part in current)
            is_same = all(new is old for new, old in zip(mine, current, strict=True))
            copies[id(current)] = current if is_same else mine
    made: tuple[Any, ...] = copies[id(whole)]
    return made


def _mine(part: Any, copies: dict[int, Any], unfinished: list[Any]) -> Any:
    if type(part) not in _COPY:
        return part
    mine = copies.get(id(part))
    return _begun(part, copies, unfinished) if mine is None else mine
