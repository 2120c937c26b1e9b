"""The concurrency key of a flow: executions that have the same one run one after the other."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from szal.errors import ConditionError, InvalidInputs, SzalError, did_you_mean
from szal.expressions.path import Json
from szal.expressions.template import CompiledTemplate
from szal.model.inputs import is_declaration
from szal.number import shown

__all__ = ["TAKES_IT", "key_of", "problems_of_key", "template_of_key"]

TAKES_IT: Final = "concurrency_key"
"""What takes an input that nothing else does."""

_LONGEST: Final = 1000
"""Characters of a key: an index has to hold it."""


def template_of_key(text: str) -> CompiledTemplate:
    """Return the template that a key is. Raises `ConditionError`."""
    return CompiledTemplate.compile(text, strict=True)


def problems_of_key(given: object, declared: Mapping[str, Json] | None) -> Iterator[str]:
    """Yield what is wrong with the key of a flow that declares these inputs; None: it declares none.

    >>> list(problems_of_key("customer-{{inputs.id}}", None)), list(problems_of_key("{{steps.a.output}}", None))
    ([], ["the flow's concurrency_key: {{steps.a.output}}: when an execution begins there is nothing but its inputs"])
    """
    told = "the flow's concurrency_key"
    if given is None:
        return
    if not isinstance(given, str) or not given:
        yield f"{told} is no text ({shown(given)})"
        return
    try:
        template = template_of_key(given)
    except ConditionError as error:
        yield f"{told}: {error}"
        return
    inputs = declared or {}
    for path in template.references:
        here = f"{told}: {{{{{path}}}}}:"
        match path.segments:
            case ("inputs", str(name), *_):
                if declared is not None and name not in inputs:
                    yield f"{here} there is no input {name!r}{did_you_mean(name, list(inputs))}"
                elif _is_secret(inputs.get(name)):
                    yield f"{here} the input is secret, and the key is recorded"
            case ("inputs",):
                yield f"{here} name one of them, as in inputs.id"
            case _:
                yield f"{here} when an execution begins there is nothing but its inputs"


def _is_secret(said: Json) -> bool:
    return is_declaration(said) and isinstance(said, Mapping) and said.get("secret") is True


def key_of(flow_name: str, text: str | None, inputs: Mapping[str, Json], secrets: Collection[str]) -> str | None:
    """Return the key of an execution that is given *inputs*, those called *secrets* not as they are; None: it has none.

    Raises `InvalidInputs` where an input makes no key.

    >>> key_of("mail", "customer-{{inputs.id}}", {"id": 7}, ())
    'customer-7'
    """
    if text is None:
        return None
    template = template_of_key(text)
    for path in template.references:
        if path.segments[1] in secrets:
            problem = f"input {path.segments[1]!r} must not be seen, and the concurrency_key is recorded"
            raise _no_key(flow_name, problem)
    try:
        value = template.render({"inputs": inputs})
    except SzalError as error:
        raise _no_key(flow_name, f"no concurrency_key can be made of them: {error}") from error
    key = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if value is None or not key.strip():
        raise _no_key(flow_name, f"no concurrency_key can be made of them: {text} comes to nothing")
    if len(key) > _LONGEST or "\0" in key:
        problem = f"is longer than {_LONGEST} characters" if len(key) > _LONGEST else "holds a NUL"
        raise _no_key(flow_name, f"the concurrency_key that they make {problem}")
    return key


def _no_key(flow_name: str, problem: str) -> InvalidInputs:
    return InvalidInputs(flow_name, (problem,))
