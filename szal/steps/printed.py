"""JSON that a command has written: its value, or where it is none."""

import json
from collections.abc import Callable

from szal.errors import DecodeError
from szal.expressions.path import Json
from szal.model.json.text import loads

__all__ = ["json_in"]


def json_in(text: str, refused: Callable[[str], Exception]) -> Json:
    """Return the value that *text* is the JSON of; raise what *refused* makes of where it is none.

    >>> json_in('{"a" 1}', ValueError)
    Traceback (most recent call last):
    ValueError: line 1, column 6: expecting ':' delimiter
    """
    try:
        return loads(text)
    except DecodeError as error:
        raise refused(_place_of(error, text)) from None


def _place_of(error: DecodeError, text: str) -> str:
    """Return what is wrong with the JSON in *text*, with line and column where that has a place."""
    try:
        json.loads(text)
    except json.JSONDecodeError as syntax:
        return f"line {syntax.lineno}, column {syntax.colno}: {syntax.msg[:1].lower()}{syntax.msg[1:]}"
    except (ValueError, RecursionError):
        pass
    return str(error)
