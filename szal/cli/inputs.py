"""What people type as a value: inputs, read as what the flow declares them to be, and values of no declared type."""

import shlex
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from szal.engine.secrets import hide, with_secrets
from szal.errors import DecodeError, InvalidInputs
from szal.expressions.path import Json
from szal.files.yaml import BOOLEANS
from szal.model.flow import FlowDef
from szal.model.inputs import Input, Inputs
from szal.model.json.text import loads
from szal.model.redaction import Redaction
from szal.model.results import ExecutionRecord
from szal.number import JSON_NUMBER, as_typed, problem_of
from szal.scheduler.plan import Plan

__all__ = [
    "Unclear",
    "as_input",
    "how_to_give",
    "inputs_given",
    "inputs_known",
    "inputs_shown",
    "secrets_given",
    "type_of",
    "value_of",
]

_MEANT: Final = {  # what words mean elsewhere that are text here
    **dict.fromkeys(("True", "TRUE"), "true"),
    **dict.fromkeys(("False", "FALSE"), "false"),
    **dict.fromkeys(("None", "Null", "NULL"), "null"),
}


class Unclear(ValueError):
    """A value that is typed so that nobody can tell what is meant, or that is not what is expected."""


def value_of(text: str) -> Json:
    """Return what *text* is as a value: JSON where it is that, else the text itself.

    A number is one only if it prints as it was typed: ``1.10``, ``007`` and ``1e3`` are text. Raises `Unclear` for
    words that are no text to people who come from somewhere else.

    >>> [value_of(text) for text in ("3", "true", '["a", 1]', "prod", "1.10", '"3"')]
    [3, True, ['a', 1], 'prod', '1.10', '3']
    """
    if text in _MEANT:
        raise Unclear(f"write {_MEANT[text]}, or '\"{text}\"' for the text {text!r}")
    try:
        value = loads(text)
    except DecodeError:
        return text
    if isinstance(value, int | float) and not isinstance(value, bool):
        return as_typed(value, text) if problem_of(value) is None else text
    return value


def inputs_given(flow: FlowDef, texts: Mapping[str, str], earlier: Mapping[str, Json] | None = None) -> dict[str, Json]:
    """Return the inputs that are typed as *texts*; raise `InvalidInputs` with all that is wrong with them.

    One that *flow* declares with a type is read as that, and one whose default is text, or true or false, as such;
    any other is read by `value_of`. *earlier* are those of the execution that they are laid over. Secret ones that are
    in neither are taken from the environment, if they are there.
    """
    plan = Plan.of(flow)
    given, unreadable = _all_read(plan.inputs, texts)
    with_all = with_secrets(plan, given, earlier=earlier)
    plan.inputs.effective(flow.name, with_all, earlier=earlier, unreadable=unreadable)
    return dict(with_all or {})


def secrets_given(flow: FlowDef, texts: Mapping[str, str]) -> dict[str, Json]:
    """Return the secret inputs that are typed as *texts*, for an execution that goes on; raise `InvalidInputs`."""
    given, unreadable = _all_read(Plan.of(flow).inputs, texts)
    if unreadable:
        raise InvalidInputs(flow.name, tuple(f"input {name!r}: {problem}" for name, problem in unreadable.items()))
    return given


def inputs_known(record: ExecutionRecord) -> dict[str, Json]:
    """Return the inputs of an execution that were recorded as they were given."""
    return {name: value for name, value in record.inputs.items() if name not in record.secret_inputs}


def inputs_shown(flow: FlowDef, inputs: Mapping[str, Json]) -> dict[str, Json]:
    """Return inputs as they may be seen."""
    return hide(Plan.of(flow), dict(inputs), Redaction()).recorded


def _all_read(inputs: Inputs, texts: Mapping[str, str]) -> tuple[dict[str, Json], dict[str, str]]:
    """Return the inputs that are typed, and what is wrong with those that cannot be read."""
    given: dict[str, Json] = dict(texts)
    unreadable: dict[str, str] = {}
    for name in inputs.by_name or texts:
        try:
            if name in texts:
                given[name] = _read(inputs.by_name.get(name), texts[name])
        except Unclear as error:
            unreadable[name] = str(error)
    return given, unreadable


def type_of(declared: Input) -> str | None:
    """Return the type that an input is read as: its own, or where it takes anything, that of its default; None: any."""
    if declared.secret and declared.type is None:
        return "string"
    if not declared.takes_anything or declared.taken_by is not None:
        return declared.type or declared.reads_as
    return {str: "string", bool: "boolean"}.get(type(declared.default))


def as_input(name: str) -> str:
    """Return how an input is given to ``szal run``."""
    return f"-i {shlex.quote(name)}=…"


def how_to_give(error: InvalidInputs, form: Callable[[str], str] = as_input) -> str:
    """Return how the inputs are given that are missing, as further text for the message of *error*."""
    if not error.missing:
        return ""
    word = "it" if len(error.missing) == 1 else "them"
    return f"\ngive {word} with {' '.join(map(form, error.missing))}"


def _read(declared: Input | None, text: str) -> Json:
    if declared is None:
        return value_of(text)
    if declared.enum is not None and text in [each for each in declared.enum if isinstance(each, str)]:
        return text
    declared = attrs.evolve(declared, type=type_of(declared))
    if declared.type is None:
        return value_of(text)
    if declared.type in ("string", "date"):
        return text
    if text == "null":
        return None
    try:
        return _READ[declared.type](text)
    except (KeyError, ValueError, DecodeError):
        raise Unclear(declared.unfit(text, _HINTS.get(declared.type, ""))) from None


def _whole(text: str) -> int:
    if not JSON_NUMBER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _number(text: str) -> float:
    if not JSON_NUMBER.fullmatch(text):
        raise ValueError(text)
    return int(text) if text.lstrip("-").isdecimal() else float(text)


_READ: Final[Mapping[str, Callable[[str], Json]]] = {
    "boolean": BOOLEANS.__getitem__,
    "integer": _whole,
    "number": _number,
    "list": loads,
    "object": loads,
}
_HINTS: Final = {
    "list": """; write JSON, as in '["a", "b"]'""",
    "object": """; write JSON, as in '{"a": 1}'""",
}
