"""The inputs of an execution that must not be recorded: where they are had from, and what is recorded instead."""

import os
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

from szal.engine.config import EngineConfig
from szal.errors import DecodeError, InvalidInputs, SecretMissing, secret_variable
from szal.expressions.path import Json
from szal.model.inputs import Input
from szal.model.json.text import as_recorded, loads
from szal.model.redaction import Redaction
from szal.model.secret_forms import MASK
from szal.scheduler.plan import Plan

if TYPE_CHECKING:
    from szal.model.results import ExecutionRecord

__all__ = [
    "Hidden",
    "check_showable",
    "had_later",
    "hide",
    "secrets_of",
    "told_masked",
    "with_secrets",
]


@attrs.frozen
class Hidden:
    """What an execution is given, as it is recorded, and what of that is not: by name, and as it was given."""

    recorded: dict[str, Json]
    secrets: Mapping[str, Json]


def hide(plan: Plan, given: dict[str, Json], redaction: Redaction, *, later: Collection[str] = ()) -> Hidden:
    """Return *given* as it is to be recorded: what is secret is masked, and from now on wherever it turns up.

    What is given *later* is recorded as what is secret is.
    """
    if not (plan.inputs.secrets or redaction.is_active):
        return Hidden(given, {})
    declared = {each.name for each in plan.inputs.secrets}
    whole = {name for name, value in given.items() if value is not None and _is_secret(name, declared, redaction)}
    redaction.add([*(given[name] for name in whole), *redaction.named_in(given)])
    whole |= {*later}
    recorded = {name: MASK if name in whole else redaction.value(value) for name, value in given.items()}
    return Hidden(recorded, {name: value for name, value in given.items() if recorded[name] is not value})


def _is_secret(name: str, declared: Iterable[str], redaction: Redaction) -> bool:
    return name in declared or redaction.is_named(name)


def told_masked(error: InvalidInputs, given: object, redaction: Redaction) -> InvalidInputs:
    """Return *error*, which tells what is wrong with *given*, inputs, without what *redaction* masks."""
    if isinstance(given, Mapping):
        redaction.add(redaction.named_in(dict(given)))
    masked = tuple(map(redaction.text, error.problems))
    return error if masked == error.problems else attrs.evolve(error, problems=masked)


def had_later(plan: Plan, inputs: Mapping[str, Json] | None, config: EngineConfig) -> tuple[str, ...]:
    """Return the secret inputs that have to be given, and that only who runs the execution may have."""
    given = inputs if isinstance(inputs, Mapping) else {}
    missing = [each for each in plan.inputs.secrets if each.required and given.get(each.name) is None]
    return tuple(each.name for each in missing if _had(each, config) is None)


def with_secrets(
    plan: Plan,
    inputs: Mapping[str, Json] | None,
    config: EngineConfig | None = None,
    earlier: Mapping[str, Json] | None = None,
) -> Mapping[str, Json] | None:
    """Return *inputs*, with those secret ones that are not given, nor known from *earlier*, and can be had without."""
    given = inputs if isinstance(inputs, Mapping) else {}
    known = {**(earlier or {}), **given}
    missing = [each for each in plan.inputs.secrets if known.get(each.name) is None]
    found = {each.name: _had(each, config) for each in missing}
    found = {name: value for name, value in found.items() if value is not None}
    return {**given, **found} if found else inputs


def _had(declared: Input, config: EngineConfig | None) -> Json:
    """Return a secret input, from where the engine or the environment has it; None: it is not to be had."""
    if config is not None and config.secrets is not None:
        value = config.secrets(declared.name)
        if value is not None:
            return as_recorded(value, f"secrets({declared.name!r})")[1]
    return _from_environment(declared)


def _from_environment(declared: Input) -> Json:
    """Return what the variable of a secret input says; None where there is none. What is no text is read as JSON."""
    text = os.environ.get(secret_variable(declared.name))
    if text is None or declared.type in (None, "string", "date"):
        return text
    try:
        return loads(text)
    except DecodeError:
        return text  # which is refused, without being shown


def secrets_of(
    record: "ExecutionRecord",
    plan: Plan,
    given: Mapping[str, Json],
    config: EngineConfig,
    redaction: Redaction,
) -> dict[str, Json]:
    """Return the inputs that were not recorded of an execution that is to go on: as *given* now, or had otherwise.

    They are masked from now on. Raises `SecretMissing`, and `InvalidInputs` for what they cannot be.
    """
    inputs, declared = plan.inputs, {each.name for each in plan.inputs.secrets}
    found: dict[str, Json] = {}
    for name in record.secret_inputs:
        if name in inputs.by_name or not inputs.is_closed:
            value = given.get(name)
            found[name] = _had(inputs.by_name.get(name) or Input(name), config) if value is None else value
    if missing := tuple(name for name, value in found.items() if value is None):
        raise SecretMissing(record.execution_id, missing)
    _check(record.flow_name, plan, found)
    known = {**record.inputs, **found}
    whole = {name for name in found if record.inputs.get(name) == MASK}  # others merely hold a secret
    redaction.add([*(known[name] for name in whole | (declared & known.keys())), *redaction.named_in(known)])
    return found


def _check(flow_name: str, plan: Plan, found: Mapping[str, Json]) -> None:
    declared = [attrs.evolve(each, secret=True) for name, each in plan.inputs.by_name.items() if name in found]
    problems = [(each.name, each.problem_with(found[each.name])) for each in declared]
    if wrong := tuple(f"input {name!r}: {problem}" for name, problem in problems if problem is not None):
        raise InvalidInputs(flow_name, wrong)


def check_showable(redaction: Redaction, what: str, value: Json) -> None:
    """Raise ValueError where *value*, which is to be recorded for others to use, holds what must not be seen."""
    if redaction.value(value) is not value:
        raise ValueError(f"{what} holds what must not be recorded (EngineConfig.redact): give what refers to it")
