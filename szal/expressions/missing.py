"""What there is, where a path finds nothing: for people to see what they meant."""

from collections.abc import Mapping
from itertools import islice
from typing import Final

from szal.errors import did_you_mean
from szal.expressions.comparison import kind_of
from szal.expressions.path import Context, Json, Path, resolve_path, spelled

__all__ = ["there_is"]

_SHOWN: Final = 10  # keys
_LONGEST: Final = 60  # characters of one


def there_is(path: Path, context: Context) -> str:
    """Return what there is in *context* at the last level of *path* that exists.

    >>> there_is(Path.parse("inputs.oot.name"), {"inputs": {"out": "dist", "env": "prod"}})
    "inputs has 'out' and 'env'; did you mean 'out'?"
    """
    value: Json = context
    for depth, segment in enumerate(path.segments):
        inner = resolve_path(Path("", ("", segment)), {"": value}, _NOTHING)
        if inner is _NOTHING:
            return _at(path, depth, segment, value)
        value = inner
    return "it is there by now"


_NOTHING: Final = object()


def _at(path: Path, depth: int, segment: str | int, value: Json) -> str:
    """Return what *value* is, which *depth* segments of *path* lead to, and which has no *segment*."""
    where = spelled(path.segments[:depth]) if depth else "the context"
    if path.segments[:1] == ("steps",) and depth == 1:
        return f"step {segment!r} had not ended"
    if isinstance(value, Mapping):
        if isinstance(segment, int):
            return f"{where} is an object, and has no numbered parts"
        hint = did_you_mean(segment, list(islice(value, 1000)))
        return f"{where} has {_listed(value)}{hint}"
    if isinstance(value, list | tuple):
        if isinstance(segment, int):
            return f"{where} has {len(value)} part{'s' * (len(value) != 1)}"
        return f"{where} is a list"
    return f"{where} is {kind_of(value).value}"


def _listed(value: Mapping[str, Json]) -> str:
    keys = [repr(key if len(key) <= _LONGEST else key[:_LONGEST] + "…") for key in islice(map(str, value), _SHOWN)]
    if not keys:
        return "nothing in it"
    if len(value) > len(keys):
        return f"{', '.join(keys)} and {len(value) - len(keys)} more"
    return " and ".join(filter(None, (", ".join(keys[:-1]), keys[-1])))
