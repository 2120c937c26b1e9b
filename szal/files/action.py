"""What a step of a file does: a command, a call, a sub-flow, a wait; as its type and its config."""

from szal.expressions.path import Json
from szal.files.fields import Fields
from szal.files.vocabulary import SURROUNDINGS, WAIT

__all__ = ["call_of", "check_owners", "shell_of", "work_of"]

_GOES_WITH = {"with": ("call", "flow"), "config": ("type",)} | dict.fromkeys(("output", *SURROUNDINGS), ("run",))


def work_of(step: Fields) -> tuple[str | None, dict[str, Json]]:
    """Return the type of a step, and its config."""
    kinds: list[str] = [key for key in ("run", "call", "flow", "wait", "sleep", "type") if key in step.entries]
    if len(kinds) > 1:
        step.problem(f"{step.label} has both {kinds[0]!r} and {kinds[1]!r}: a step does one thing", key=kinds[1])
    check_owners(step, kinds)
    match kinds[:1]:
        case ["run"]:
            output = {} if (found := step.text("output")) is None else {"output": found}
            return "shell", {**shell_of(step, {}), **output}
        case ["call"]:
            return "python", call_of(step)
        case ["flow"]:
            return "sub_flow", {"flow_name": _needed(step, "flow"), "inputs": step.plain("with") or {}}
        case ["wait"]:
            return "wait", _wait(step)
        case ["sleep"]:
            if step.get("sleep") is None:
                step.problem(f"'sleep' in {step.label} is empty", key="sleep")
            return "sleep", {"seconds": step.duration("sleep") or 0.0}
        case ["type"]:
            return _needed(step, "type"), step.plain("config") or {}
        case _:
            return None, step.plain("config") or {}


def check_owners(step: Fields, kinds: list[str]) -> None:
    for key, owners in _GOES_WITH.items():
        if key in step.entries and not set(owners) & set(kinds) and not (key == "config" and not kinds):
            step.problem(f"{key!r} in {step.label} goes with {' or '.join(map(repr, owners))} only", key=key)


def _needed(fields: Fields, key: str) -> str:
    text = fields.text(key)
    if not (text or "").strip() and not fields.is_faulty:
        fields.problem(f"{key!r} in {fields.label} is empty", key=key)
    return text or ""


def shell_of(fields: Fields, around: dict[str, Json]) -> dict[str, Json]:
    """Return what `run_shell` takes. An undo has the surroundings of its step where it does not have its own."""
    variables = fields.inner("env")
    env = {**around.get("env", {}), **{name: variables.text(name) or "" for name in variables.entries}}
    own = {"cwd": fields.text("cwd"), "shell": fields.text("shell"), "grace": fields.duration("grace")}
    inherited = {key: value for key, value in around.items() if key in own}
    found = {"run": _needed(fields, "run"), **inherited}
    found.update((key, value) for key, value in own.items() if value is not None)
    return {**found, "env": env} if env else found


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
    module, _, attribute = function.partition(":")
    if function and not (module and attribute):
        fields.problem(
            f"'call' in {fields.label} must be like \"package.module:function\", not {function!r}", key="call"
        )
    arguments = fields.plain("with", (dict, list))
    return {"call": function} if arguments is None else {"call": function, "args": arguments}
