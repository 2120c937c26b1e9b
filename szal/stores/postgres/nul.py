"""Where a NUL character is in what is to be written: PostgreSQL has no place for it in a text.

As JSON it is an escape of six harmless letters, and a column of type text takes them. But no function of PostgreSQL
can make a text of them again, so that whoever looks into such a row gets an error. It is refused as a whole.
"""

import json

from szal.errors import DecodeError
from szal.expressions.path import Json
from szal.model.json.text import loads

__all__ = ["nul_in"]

# Below these keys of a record the keys are the user's, and are written in brackets.
_FREE = frozenset({"inputs", "labels", "output"})


def nul_in(text: str) -> str | None:
    """Say what is wrong with *text*, JSON or not, or return None where there is no NUL in it.

    >>> nul_in(r'{"result":{"steps":[{"output":{"x.y":"a\\u0000b"}}]}}')
    'result.steps[0].output["x.y"] holds a NUL character'
    >>> nul_in(r'{"error":"a backslash, then u0000: \\\\u0000"}')
    """
    if "\x00" in text:
        return f"{text[:80]!r} holds a NUL character"
    if "\\u0000" not in text:
        return None
    try:
        path = _path(loads(text))
    except DecodeError:  # no JSON, so nobody will look into it
        return None
    return None if path is None else f"{path} holds a NUL character"


def _path(value: Json) -> str | None:
    """Return the path of the first string with a NUL in it. Iterative."""
    stack: list[tuple[str, Json, bool]] = [("", value, False)]
    while stack:
        path, item, free = stack.pop()
        if isinstance(item, str) and "\x00" in item:
            return path or "the text"
        if isinstance(item, list):
            stack += reversed([(f"{path}[{index}]", inner, free) for index, inner in enumerate(item)])
        elif isinstance(item, dict):
            if bad := [key for key in item if "\x00" in key]:
                return f"a key of {path or 'the record'} ({bad[0]!r})"
            stack += reversed([(_step(path, key, free), inner, free or key in _FREE) for key, inner in item.items()])
    return None


def _step(path: str, key: str, free: bool) -> str:
    if free or not key.isidentifier():
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key
