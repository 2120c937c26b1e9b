"""What a step of a file does: a command, a call, a sub-flow, a wait; as its type and its config."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from szal.expressions.path import Json
from szal.files.checks import check_command, check_config, check_expansion
from szal.files.fields import Fields
from szal.files.vocabulary import STOP, SURROUNDINGS, WAIT
from szal.model.config import STOP_SIGNALS

__all__ = ["GOES_WITH", "KINDS", "call_of", "check_owners", "shell_of", "surroundings_of", "work_of"]

KINDS: Final = ("run", "call", "flow", "wait", "sleep", "type")
"""What a step may do, as keys: one of them."""
GOES_WITH: Final[Mapping[str, tuple[str, ...]]] = {"with": ("call", "flow"), "config": ("type",)} | dict.fromkeys(
    ("output", *SURROUNDINGS), ("run",)
)


def work_of(
    step: Fields, around: Mapping[str, Json], sub_flow: Callable[[Fields, str], str]
) -> tuple[str | None, dict[str, Json]]:
    """Return the type of a step, and its config.

    *around*: what commands have beside their text; *sub_flow* returns the name of the flow that a step calls so.
    """
    kinds = [key for key in KINDS if key in step.entries]
    if len(kinds) > 1:
        step.problem(f"{step.label} has both {kinds[0]!r} and {kinds[1]!r}: a step does one thing", key=kinds[1])
    check_owners(step, kinds)
    match kinds[:1]:
        case ["run"]:
            output = {} if (found := step.text("output")) is None else {"output": found}
            check_config(step, "shell", output)
            return "shell", {**shell_of(step, around), **output}
        case ["call"]:
            return "python", call_of(step)
        case ["flow"]:
            return "sub_flow", {"flow_name": sub_flow(step, _needed(step, "flow")), "inputs": step.plain("with") or {}}
        case ["wait"]:
            return "wait", _wait(step)
        case ["sleep"]:
            if step.get("sleep") is None:
                step.problem(f"'sleep' in {step.label} is empty", key="sleep")
            return "sleep", {"seconds": step.duration("sleep") or 0.0}
        case ["type"]:
            step_type, config = _needed(step, "type"), step.plain("config") or {}
            if step_type in ("shell", "python"):
                check_config(step.inner("config"), step_type, config, partial=False)
            return step_type, config
        case _:
            return None, step.plain("config") or {}


def check_owners(step: Fields, kinds: Sequence[str]) -> None:
    for key, owners in GOES_WITH.items():
        if key in step.entries and not set(owners) & set(kinds) and not (key == "config" and not kinds):
            step.problem(f"{key!r} in {step.label} goes with {' or '.join(map(repr, owners))} only", key=key)


def _needed(fields: Fields, key: str) -> str:
    text = fields.text(key)
    if not (text or "").strip() and not fields.is_faulty:
        fields.problem(f"{key!r} in {fields.label} is empty", key=key)
    return text or ""


def shell_of(fields: Fields, around: Mapping[str, Json]) -> dict[str, Json]:
    """Return what `run_shell` takes: a command, and what it has *around* it where it has nothing of its own."""
    command = _needed(fields, "run")
    check_config(fields, "shell", {"run": command or None})
    surroundings = surroundings_of(fields, around)
    check_command(fields, command, surroundings.get("shell"))
    return {"run": command, **surroundings}


def surroundings_of(fields: Fields, around: Mapping[str, Json]) -> dict[str, Json]:
    """Return what a command has beside its text. Variables are laid over those *around* it, the rest replaces them."""
    variables = fields.inner("env")
    env = {**around.get("env", {}), **{name: variables.text(name) or "" for name in variables.entries}}
    own = {"cwd": fields.text("cwd"), "shell": fields.text("shell"), "stop": _stop_of(fields)}
    found = {key: value for key, value in around.items() if key in own}
    found.update((key, value) for key, value in own.items() if value is not None)
    check_config(fields, "shell", {**own, "env": {name: entry.value.raw for name, entry in variables.entries.items()}})
    check_expansion(fields)
    return {**found, "env": env} if env else found


def _stop_of(fields: Fields) -> dict[str, Json] | None:
    """Return how a command is told to end, if that is said."""
    stop = fields.inner("stop")
    stop.allow(STOP)
    signal = stop.one_of("signal", {name: name for name in STOP_SIGNALS}, _hint_for_signal)
    found = {"signal": signal, "grace": stop.duration("grace")}
    return {key: value for key, value in found.items() if value is not None} or None


def _hint_for_signal(text: str) -> str:
    bare = text.upper().removeprefix("SIG")
    return f"; did you mean {bare!r}?" if bare in STOP_SIGNALS else ""


def _wait(step: Fields) -> dict[str, Json]:
    """Return what a wait step takes."""
    given = step.get("wait")
    if given is None or not isinstance(given.data, dict):
        return {"signal": _needed(step, "wait")}
    wait = step.inner("wait")
    wait.allow(WAIT)
    config: dict[str, Json] = {"signal": _needed(wait, "signal")}
    if (timeout := wait.duration("timeout")) is not None:
        config["timeout"] = timeout
    if "default" in wait.entries:
        config["default"] = wait.entries["default"].value.plain()
    return config


def call_of(fields: Fields) -> dict[str, Json]:
    function = _needed(fields, "call")
    check_config(fields, "python", {"call": function or None})
    arguments = fields.plain("with", (dict, list))
    return {"call": function} if arguments is None else {"call": function, "args": arguments}
