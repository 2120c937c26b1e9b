"""Lists and dicts of one's own: what one attempt changes is nobody else's."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from types import NoneType
from typing import Any, Final

from szal.expressions.path import Json

__all__ = ["own_copy"]

_COPY: Final[dict[type, Callable[[Any], Any]]] = {
    dict: dict.copy,
    list: list.copy,
    OrderedDict: OrderedDict.copy,
    defaultdict: defaultdict.copy,
}
_FLAT: Final = frozenset({str, int, float, bool, NoneType})


def own_copy(value: Json) -> Json:
    """Return *value* with new lists and dicts in place of those that it is made of; anything else in it is as it was.

    Not recursive, so no depth is too much for it. What is in it twice is in the copy twice, as it is with
    `copy.deepcopy`, and it may contain itself.

    >>> config = {"url": "http://example.org", "headers": {"Accept": "*/*"}}
    >>> mine = own_copy(config)
    >>> mine["headers"].clear()
    >>> config["headers"]
    {'Accept': '*/*'}
    """
    copy = _COPY.get(type(value))
    if copy is None:
        return value
    top = copy(value)
    if _FLAT.issuperset(map(type, top if type(value) is list else top.values())):
        return top
    copies = {id(value): top}
    for container in (unfinished := [top]):  # which grows on the way
        parts = enumerate(container) if type(container) is list else container.items()
        for place, part in parts:
            copy = _COPY.get(type(part))
            if copy is not None:
                mine = copies.get(id(part))
                if mine is None:
                    mine = copies[id(part)] = copy(part)
                    if not _FLAT.issuperset(map(type, mine if type(mine) is list else mine.values())):
                        unfinished.append(mine)
                container[place] = mine
    return top
