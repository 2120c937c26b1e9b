"""JSON text as values that know where they stand.

The json module decides whether a text is JSON, but tells no places. YAML's parser tells them, but what it reads is not
quite JSON: it refuses tabs between tokens, DEL, keys of more than 1024 characters and surrogate pairs, and takes
comments, trailing commas and single quotes. So the json module reads the text first, and what it found to be JSON is
gone through once more, token by token, which takes no grammar any more.
"""

import json
import re
from typing import Final

from szal.files.document import Builder, Place, Problem, Unreadable, Value, places_in
from szal.number import JSON_NUMBER

__all__ = ["read_json"]

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]|[^\s\[\]{}:,"]+', re.DOTALL)
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}


def read_json(text: str, problems: list[Problem]) -> Value:
    """Return the value in *text*, noting *problems*; raise `Unreadable` at a syntax error.

    >>> read_json('{"name": "ci", "steps": []}', []).data["steps"]
    Entry(place=Place(line=1, column=16), value=Value(place=Place(line=1, column=25), data=[], ...))
    """
    place = places_in(text)
    if not text.strip(" \t\r\n"):
        raise Unreadable(Place(1, 1), "the file is empty")
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=str)  # numbers are read with their places
    except json.JSONDecodeError as error:
        found = repr(text[error.pos]) if error.pos < len(text) else "the end"
        problem = error.msg[:1].lower() + error.msg[1:]
        raise Unreadable(place(error.pos), f"JSON syntax: {problem}, found {found}") from None
    except RecursionError:
        pass  # what is too deep for the json module becomes too deep for the builder, far earlier in the text
    builder = Builder(problems)
    for match in _TOKEN.finditer(text):
        _take(builder, place(match.start()), match[0])
    assert builder.root is not None
    return builder.root


def _take(builder: Builder, place: Place, found: str) -> None:
    if found in "[{":
        builder.begin(place, is_list=found == "[")
    elif found in "]}":
        builder.end()
    elif found[0] == '"':
        string = json.loads(found)
        if builder.wants_key:
            builder.key(place, string)
        else:
            string = builder.checked(place, string)
            builder.scalar(place, string, string, source=found if "{{" in string else "")
    elif found in _WORDS:
        builder.scalar(place, _WORDS[found], found)
    elif JSON_NUMBER.fullmatch(found):
        builder.number(place, found)
    else:  # NaN and the infinities, which the json module takes
        raise Unreadable(place, f"JSON syntax: {found} is not JSON")
