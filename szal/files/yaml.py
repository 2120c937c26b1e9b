"""YAML text as values that know where they stand.

Of YAML it reads what JSON has: the plain scalars that are not text are ``null``, ``~``, ``true``, ``false`` (and
``True``, ``TRUE`` …) and decimal numbers as JSON writes them. So ``on``, ``no``, ``1:30``, ``0755`` and
``2026-06-10`` stay text, and so does every key.
"""

import re
from typing import Any, Final

from szal.extra import optional
from szal.files.document import Builder, Place, Problem, Unreadable, Value, places_in
from szal.number import JSON_NUMBER

__all__ = ["BOOLEANS", "read_yaml"]

_NOT_YAML = re.compile(r"[^\t\n\r\x20-\x7E\x85\xA0-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")
BOOLEANS: Final[dict[str, bool]] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
"""The plain scalars that are true or false."""
_WORDS: Final[dict[str, bool | None]] = {**dict.fromkeys(("", "~", "null", "Null", "NULL")), **BOOLEANS}
_TAGS = ("", "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")


def read_yaml(text: str, problems: list[Problem]) -> Value:
    """Return the one document in *text*, noting *problems*; raise `Unreadable` at a syntax error.

    Raises `MissingExtra` without PyYAML.

    >>> read_yaml("on: [1:30, 0755, 2, no, 1.10]", []).plain()
    {'on': ['1:30', '0755', 2, 'no', '1.10']}
    """
    with optional("yaml", extra="cli", feature="loading YAML files"):
        import yaml
    if (match := _NOT_YAML.search(text)) is not None:
        raise Unreadable(places_in(text)(match.start()), f"YAML cannot contain the character {match[0]!a}")
    reader = _Reader(text, problems)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        context = f" {error.context}" if error.context else ""
        place = reader.place if error.problem_mark is None else _mark(error.problem_mark)
        hint = _HINTS.get(error.problem or "", "")
        raise Unreadable(place, f"YAML syntax:{context} {error.problem or ''}".rstrip() + hint) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML lets "\U00110000" through to chr()
        raise Unreadable(reader.place, f"YAML syntax: {error}") from None
    if reader.builder.root is None:
        raise Unreadable(Place(1, 1), "the file is empty")
    return reader.builder.root


_HINTS: Final = {
    "mapping values are not allowed in this context": (
        "; is ': ' part of a text? Put the text in quotes, or below 'run: |'"
    ),
}
"""What to write, where PyYAML's words do not tell."""


def _mark(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


class _Reader:
    """Hands on PyYAML's events. Its own constructors know no places, are recursive, and read YAML 1.1."""

    def __init__(self, text: str, problems: list[Problem]) -> None:
        self._text = text
        self.builder = Builder(problems)
        self.place = Place(1, 1)

    def take(self, event: Any) -> None:
        builder, place = self.builder, _mark(event.start_mark)
        self.place = place
        kind = type(event).__name__
        if getattr(event, "tag", None) and event.tag not in _TAGS:
            builder.problems.append(Problem(place, f"the tag {event.tag!r} is not supported"))
        if kind == "ScalarEvent":
            self._scalar(event)
        elif kind == "AliasEvent":
            builder.alias(place, event.anchor)
        elif kind in ("SequenceStartEvent", "MappingStartEvent"):
            builder.begin(place, event.anchor, is_list=kind == "SequenceStartEvent")
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            builder.end()
        elif kind == "DocumentStartEvent" and builder.root is not None:
            raise Unreadable(place, "a second document: a file holds one flow")

    def _scalar(self, event: Any) -> None:
        builder, place, raw = self.builder, self.place, event.value
        if builder.wants_key:
            builder.key(place, raw)
        elif not event.style and not event.tag and raw in _WORDS:
            builder.scalar(place, _WORDS[raw], raw, event.anchor)
        elif not event.style and not event.tag and JSON_NUMBER.fullmatch(raw):
            builder.number(place, raw, event.anchor, typed=True)
        else:
            raw = builder.checked(place, raw)
            source = self._text[event.start_mark.index : event.end_mark.index] if "{{" in raw else ""
            builder.scalar(place, raw, raw, event.anchor, source=source)
