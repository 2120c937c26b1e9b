"""What is wrong with what a flow says of its inputs: a declaration, or a default that was meant to be one."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import attrs

from szal.errors import did_you_mean
from szal.expressions.path import Json
from szal.model.fields import problem_of_name, problem_of_text
from szal.model.inputs import KEYS, TYPES, Input, is_declaration, listed, written
from szal.number import shown

__all__ = ["Fault", "faults_of", "problems_of_inputs"]

_OTHER_KEYS: Final = {  # what they are called elsewhere
    "choices": "enum",
    "desc": "help",
    "description": "help",
    "mandatory": "required",
    "options": "enum",
    "values": "enum",
}
_OTHER_TYPES: Final = {
    "array": "list",
    "dict": "object",
    "float": "number",
    "map": "object",
    "text": "string",
}


class Fault(NamedTuple):
    """What is wrong with a declaration, and under which of its keys: None where it is the whole."""

    key: str | None
    problem: str


def problems_of_inputs(inputs: Mapping[str, Json]) -> Iterator[str]:
    """Yield what is wrong with what a flow says of its inputs."""
    for name, said in inputs.items():
        yield from (fault.problem for fault in faults_of(name, said))


def faults_of(name: str, said: Json) -> Iterator[Fault]:
    """Yield all that is wrong with what a flow says of one input.

    >>> list(faults_of("n", {"type": "integer", "default": "three"}))
    [Fault(key='default', problem="input 'n': default: expected a whole number, given 'three'")]
    """
    if (problem := problem_of_name(name)) is not None:
        yield Fault(None, f"the name of an input {problem}")
    else:
        yield from (Fault(key, f"input {name!r}: {problem}") for key, problem in _faults(said))


def _faults(said: Json) -> Iterator[Fault]:
    if not is_declaration(said):
        yield from _misspelt(said)
        return
    yield from _faults_of_flags(said)
    type_ = said.get("type")
    if "type" in said and (not isinstance(type_, str) or type_ not in TYPES):
        yield Fault("type", f"type is {written(type_)}, which is none of {', '.join(TYPES)}{_meant_type(type_)}")
        return  # then nothing can be said of the values
    yield from _faults_of_values(Input("", type_), said)


def _faults_of_flags(said: Mapping[str, Json]) -> Iterator[Fault]:
    for key in ("required", "secret"):
        if key in said and not isinstance(said[key], bool):
            yield Fault(key, f"{key} is neither true nor false ({written(said[key])})")
    for key in ("default", "enum") if said.get("secret") is True else ():
        if said.get(key) is not None:
            instead = "leave it out" if key == "enum" else "have it given, or set in the environment of whoever runs it"
            yield Fault(key, f"{key}: it is secret, and this would be recorded with the flow: {instead}")
    if "help" in said and (problem := problem_of_text(said["help"])) is not None:
        yield Fault("help", f"help {problem}")
    if said.get("required") is True and "default" in said:
        yield Fault("default", "it is required and has a default: leave one of the two out")


def _faults_of_values(typed: Input, said: Mapping[str, Json]) -> Iterator[Fault]:
    enum = said.get("enum")
    if "enum" in said:
        if not isinstance(enum, list | tuple) or not enum:
            yield Fault("enum", f"enum is no list of the values that it may have ({written(enum)})")
            return
        strict = attrs.evolve(typed, required=typed.type is not None)  # null is of no type
        problems = (strict.problem_with(value) for value in enum)
        yield from (Fault("enum", f"enum: {problem}") for problem in problems if problem is not None)
    if said.get("default") is not None:
        whole = typed if enum is None else attrs.evolve(typed, enum=tuple(enum))
        if (problem := whole.problem_with(said["default"])) is not None:
            yield Fault("default", f"default: {problem}")


def _misspelt(said: Json) -> Iterator[Fault]:
    """Yield what is wrong with a default that was meant to be a declaration."""
    if not isinstance(said, dict):
        return
    others = {key: _meant_key(key) for key in said if key not in KEYS}
    type_ = said.get("type")
    is_meant = len(others) < len(said) and (
        all(others.values())
        or (isinstance(type_, str) and type_ in {*TYPES, *_OTHER_TYPES})
        or isinstance(said.get("required"), bool)
        or isinstance(said.get("enum"), list)
    )
    for key, hint in others.items() if is_meant else ():
        what = f"unknown key {shown(key)} in its declaration{hint or f', which has {listed(KEYS)}'}"
        yield Fault(key, f'{what} (to have this object as its default, write {{"default": {{…}}}})')


def _meant_key(key: object) -> str:
    if key in _OTHER_KEYS:
        return f"; did you mean {_OTHER_KEYS[str(key)]!r}?"
    if not isinstance(key, str):
        return ""
    return did_you_mean(key, [known for known in KEYS if known[0] == key[:1]])  # "minimum" is no misspelt "enum"


def _meant_type(type_: object) -> str:
    if not isinstance(type_, str):
        return ""
    if type_ in _OTHER_TYPES:
        return f"; did you mean {_OTHER_TYPES[type_]!r}?"
    return did_you_mean(type_, list(TYPES))
