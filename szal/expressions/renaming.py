"""Conditions, templates and paths that name steps, once these are called otherwise."""

from collections.abc import Mapping

from szal.errors import ConditionError
from szal.expressions.parser import parse
from szal.expressions.path import Json, Path, spelled
from szal.expressions.template import pieces_of

__all__ = ["renamed_condition", "renamed_path", "renamed_template"]


def renamed_condition(text: str, names: Mapping[str, str]) -> str:
    """Return the condition *text* with the steps that it names as *names* call them. One that is none stays as it is.

    >>> renamed_condition("steps.a.output.n > 1 && inputs.a == 'steps.a'", {"a": "eu a"})
    'steps["eu a"].output.n > 1 && inputs.a == \\'steps.a\\''
    """
    try:
        places = parse(text).places
    except ConditionError:
        return text
    return _replaced(text, places, names)


def renamed_path(text: str, names: Mapping[str, str]) -> str:
    """Return the path *text* likewise.

    >>> renamed_path("steps.list.output.files", {"list": "eu_list"})
    'steps.eu_list.output.files'
    """
    try:
        path = Path.parse(text)
    except ConditionError:
        return text
    return _replaced(text, ((text.index(path.text), path),), names)


def renamed_template(value: Json, names: Mapping[str, str]) -> Json:
    """Return the JSON structure *value*, whose strings have placeholders, likewise.

    >>> renamed_template({"to": ["{{ steps.a.output }}, {{inputs.a}}"]}, {"a": "b"})
    {'to': ['{{ steps.b.output }}, {{inputs.a}}']}
    """
    if isinstance(value, str):
        return _renamed_text(value, names) if "{{" in value else value
    if isinstance(value, Mapping):
        return {key: renamed_template(part, names) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [renamed_template(part, names) for part in value]
    return value


def _renamed_text(text: str, names: Mapping[str, str]) -> str:
    try:
        pieces = pieces_of(text)
    except ConditionError:
        return text
    paths = [(piece.position, piece.part) for piece in pieces if isinstance(piece.part, Path)]
    return _replaced(text, tuple((text.index(path.text, start), path) for start, path in paths), names)


def _replaced(text: str, places: tuple[tuple[int, Path], ...], names: Mapping[str, str]) -> str:
    """Return *text* with other paths in the *places* of those that name a step."""
    for start, path in reversed(places):
        match path.segments:
            case ("steps", str(name), *rest) if name in names:
                other = spelled(("steps", names[name], *rest))
                text = text[:start] + other + text[start + len(path.text) :]
    return text
