"""Flows as data: YAML and JSON files, in a shape that people know from GitHub Actions."""

import os
import uuid
from pathlib import Path
from typing import Any, Final

from szal.errors import CycleDetected, InvalidFlow, LoadError, did_you_mean
from szal.expressions.path import Json
from szal.files.document import Place, Problem, Unreadable, Value, read_json, read_yaml
from szal.files.fields import Fields
from szal.model.flow import FlowDef, FlowMode
from szal.model.step import BackoffStrategy, StepDef, TriggerMode

__all__ = ["load_flow"]


def load_flow(path: str | os.PathLike[str]) -> FlowDef:
    """Return the flow in the file at *path*: JSON if it is called ``*.json``, otherwise YAML (extra ``szal[cli]``).

    The keys of a flow: ``name``; ``mode`` (dag, the default, sequential, parallel or hierarchical); ``description``;
    ``version``; ``inputs``, an object of defaults; ``timeout``; ``rollback_on_failure``; ``steps``, a list.

    The keys of a step: ``name``; ``description``; ``needs``, a name or a list of them; ``when`` (all, the default,
    any, all_completed or all_done); ``if``, a condition; ``timeout``; ``retries``, a number or an object of ``max``,
    ``delay``, ``backoff`` (fixed, linear or exponential), ``max_delay``, ``jitter``, ``on`` and ``give_up_on`` (names
    of exceptions); ``rollback``; in hierarchical mode ``steps``; and what it does, one of

    * ``run``, a shell command, with ``cwd``, ``env``, ``shell`` ("bash -e") and ``grace``
      (see `szal.steps.shell.run_shell`);
    * ``call``, a function as "package.module:function", with its arguments in ``with``;
    * ``flow``, the name of a sub-flow, with its inputs in ``with``;
    * ``wait``, the name of a signal, or an object of ``signal``, ``timeout`` and ``default`` (see docs/semantics.md);
    * ``sleep``, a duration;
    * ``type``, a step type of your own, with its ``config``.

    With none of them it is for a handler that is registered for its name. ``rollback`` is ``{run: …}`` or
    ``{call: …, with: …}``, or true where a handler undoes it. Durations are seconds, or like "90s", "10m", "1h30m",
    "250ms". In YAML only ``true`` and ``false`` are booleans, and dates and times are text.

    Ids are made of the names, so the same file gives the same ids. Raises `LoadError` with every problem and its
    place, and what opening the file raises.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
    ...     _ = file.write('''
    ... name: release
    ... steps:
    ...   - name: build
    ...     run: make wheel
    ...     timeout: 1m30s
    ...   - name: publish
    ...     needs: build
    ...     run: make upload
    ... ''')
    ...     file.flush()
    ...     flow = load_flow(file.name)
    >>> [(step.name, step.config, step.timeout) for step in flow.steps]
    [('build', {'run': 'make wheel'}, 90.0), ('publish', {'run': 'make upload'}, None)]
    """
    problems: list[Problem] = []
    flow = None
    try:
        text = _decode(Path(path).read_bytes())
        is_json = Path(path).suffix.lower() == ".json"
        root = read_json(text, problems) if is_json else read_yaml(text, problems)
        flow = _Reader(problems).flow(root)
    except Unreadable as error:
        problems.append(error.problem)
    if problems or flow is None:
        raise LoadError(os.fspath(path), tuple(f":{p.place.line}:{p.place.column}: {p.text}" for p in sorted(problems)))
    return flow


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(errors="replace").split("\n")
        raise Unreadable(Place(len(before), len(before[-1]) + 1), "the file is not UTF-8") from None


# -- the shape ---------------------------------------------------------------------------------------

_NAMESPACE: Final = uuid.UUID("5b1f6a3e-8c1d-5e0a-9a54-7f2d6f0f3c11")  # of the ids; never to be changed
_MAX_HINTS: Final = 20  # they take their time in a large flow
_SHELL = ("cwd", "env", "shell", "grace")
_FLOW_KEYS = ("name", "mode", "description", "version", "inputs", "timeout", "rollback_on_failure", "steps")
_STEP_KEYS = (
    *("name", "description", "needs", "when", "if", "timeout", "retries", "rollback", "steps"),
    *("run", "call", "with", "flow", "wait", "sleep", "type", "config", *_SHELL),
)
_RETRY_KEYS = ("max", "delay", "backoff", "max_delay", "jitter", "on", "give_up_on")
_WAIT_KEYS = ("signal", "timeout", "default")
_ROLLBACK_KEYS = ("run", "call", "with", *_SHELL)
_GOES_WITH = {"with": ("call", "flow"), "config": ("type",)} | dict.fromkeys(_SHELL, ("run",))


class _Reader:
    """Turns a document into a flow, noting every problem on the way. What is wrong is read as if it were not there."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems
        self._mode = FlowMode.DAG
        self._flow_id = _NAMESPACE
        self._steps: dict[str, Fields] = {}  # by name
        self._unknown = 0  # names in "needs"

    def flow(self, root: Value) -> FlowDef | None:
        """Return the flow, unless that is out of the question."""
        top = Fields.of(root, "the flow", self._problems)
        if top is None:
            return None
        name, mode = top.name(), top.choice("mode", FlowMode)
        top.allow(_FLOW_KEYS)
        self._mode = mode or FlowMode.DAG
        self._flow_id = uuid.uuid5(_NAMESPACE, name or "")
        if "steps" not in top.entries:
            top.problem("the flow has no steps")
        flow = FlowDef(
            name or "",
            self._mode,
            id=str(self._flow_id),
            description=top.text("description") or "",
            version=top.whole("version", 1),
            steps=self._step_list(top),
            rollback_on_failure=top.flag("rollback_on_failure"),
            timeout=top.duration("timeout"),
            inputs=top.plain("inputs") or {},
        )
        self._validate(flow, certain=mode is not None or "mode" not in top.entries)
        return flow

    def _validate(self, flow: FlowDef, *, certain: bool) -> None:
        """Note what `FlowDef.validate` finds, but for what may only follow from a problem that is known."""
        faulty = {name for name, step in self._steps.items() if step.is_faulty or not certain}
        try:
            flow.validate()
        except InvalidFlow as error:
            for text in error.problems:
                name = self._step_of(text)
                if name is None:
                    if certain and isinstance(error, CycleDetected):
                        self._steps[error.path[0]].problem(text, key="name")
                    continue
                finding = text.removeprefix(f"step {name!r}: ")
                if finding.startswith(("condition: ", "config: ")) or not (
                    name in faulty or (faulty and finding.endswith("cannot have run before it"))
                ):
                    self._steps[name].problem(text, key="if" if finding.startswith("condition") else "name")

    def _step_of(self, text: str) -> str | None:
        """Return the name of the step that a problem begins with, as in ``step 'test': …``."""
        end = text.find(": ")
        while end >= 0:
            name = text[len("step '") : end - 1]
            if name in self._steps and text.startswith(f"step {name!r}: "):
                return name
            end = text.find(": ", end + 1)
        return None

    # -- steps ---------------------------------------------------------------------------------------

    def _step_list(self, parent: Fields) -> list[StepDef]:
        values = parent.items("steps")
        named = [self._named(value, number) for number, value in enumerate(values, 1)]
        return [self._step(step, name) for step, name in filter(None, named)]

    def _named(self, value: Value, number: int) -> tuple[Fields, str] | None:
        """Return a step and its name: those of all steps are needed before the first one is made."""
        step = Fields.of(value, f"step {number}", self._problems)
        if step is None:
            return None
        name = step.name()
        step.allow(_STEP_KEYS)
        if name is None:
            return None
        if name in self._steps:
            step.problem(f"duplicate step name {name!r}, first on line {self._steps[name].place.line}", key="name")
            return None
        self._steps[name] = step
        return step, name

    def _step(self, step: Fields, name: str) -> StepDef:
        step_type, config = _work(step)
        needs = self._needs(step)
        retries = self._retries(step)
        rollbackable = self._rollback(step, config)
        trigger = step.choice("when", TriggerMode) or TriggerMode.ALL
        if trigger is TriggerMode.ANY and "needs" not in step.entries:
            step.problem("'when: any' without 'needs': the step would never run", key="when")
        if "steps" in step.entries and self._mode is not FlowMode.HIERARCHICAL:
            step.problem(f"steps within a step are for mode hierarchical, and this flow is {self._mode}", key="steps")
        return StepDef(
            name,
            id=str(uuid.uuid5(self._flow_id, name)),
            description=step.text("description") or "",
            timeout=step.duration("timeout"),
            rollbackable=rollbackable,
            step_type=step_type,
            config=config or None,
            condition=step.text("if"),
            depends_on=needs,
            trigger_mode=trigger,
            sub_steps=self._step_list(step),
            **retries,
        )

    def _needs(self, step: Fields) -> list[str]:
        for key in ("needs", "when"):
            if key in step.entries and self._mode is not FlowMode.DAG:
                step.problem(f"{key!r} is for mode dag, and this flow is {self._mode}", key=key)
                return []
        found = []
        for place, name in step.texts("needs"):
            if name in self._steps:
                found.append(str(uuid.uuid5(self._flow_id, name)))
            else:
                self._unknown += 1
                hint = did_you_mean(name, list(self._steps)) if self._unknown <= _MAX_HINTS else ""
                step.problem(f"unknown step {name!r} in 'needs' of {step.label}{hint}", place=place)
        return found

    def _retries(self, step: Fields) -> dict[str, Any]:
        given = step.get("retries")
        if given is None:
            return {}
        if not isinstance(given.data, dict):
            return {"max_retries": step.whole("retries", 0, or_else=" or an object")}
        retries = step.inner("retries")
        retries.allow(_RETRY_KEYS)
        if "max" not in retries.entries:
            retries.problem(f"{retries.label} needs 'max': how many times to try again")
        found = {
            "max_retries": retries.whole("max", 0),
            "retry_delay": retries.duration("delay"),
            "backoff": retries.choice("backoff", BackoffStrategy),
            "max_retry_delay": retries.duration("max_delay"),
            "retry_jitter": retries.number("jitter"),
            "retry_on": [name for _, name in retries.texts("on")],
            "give_up_on": [name for _, name in retries.texts("give_up_on")],
        }
        return {field: value for field, value in found.items() if value is not None}

    def _rollback(self, step: Fields, config: dict[str, Json]) -> bool:
        """Put how to undo *step* into its *config*; return whether it can be undone."""
        given = step.get("rollback")
        if given is None or not isinstance(given.data, dict):
            return step.flag("rollback", or_else=" or an object")
        undo = step.inner("rollback")
        undo.allow(_ROLLBACK_KEYS)
        if ("run" in undo.entries) == ("call" in undo.entries):
            undo.problem(f"{undo.label} takes either 'run' or 'call'")
        elif "run" in undo.entries:
            _check_owners(undo, ["run"])
            config["rollback"] = _shell(undo, config if "run" in step.entries else {})
        else:
            _check_owners(undo, ["call"])
            config["rollback"] = _call(undo)
        return True


# -- what a step does --------------------------------------------------------------------------------


def _work(step: Fields) -> tuple[str | None, dict[str, Json]]:
    """Return the type of a step, and its config."""
    kinds: list[str] = [key for key in ("run", "call", "flow", "wait", "sleep", "type") if key in step.entries]
    if len(kinds) > 1:
        step.problem(f"{step.label} has both {kinds[0]!r} and {kinds[1]!r}: a step does one thing", key=kinds[1])
    _check_owners(step, kinds)
    match kinds[:1]:
        case ["run"]:
            return "shell", _shell(step, {})
        case ["call"]:
            return "python", _call(step)
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


def _check_owners(step: Fields, kinds: list[str]) -> None:
    for key, owners in _GOES_WITH.items():
        if key in step.entries and not set(owners) & set(kinds) and not (key == "config" and not kinds):
            step.problem(f"{key!r} in {step.label} goes with {' or '.join(map(repr, owners))} only", key=key)


def _needed(fields: Fields, key: str) -> str:
    text = fields.text(key)
    if not (text or "").strip() and not fields.is_faulty:
        fields.problem(f"{key!r} in {fields.label} is empty", key=key)
    return text or ""


def _shell(fields: Fields, around: dict[str, Json]) -> dict[str, Json]:
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
    wait.allow(_WAIT_KEYS)
    config: dict[str, Json] = {"signal": _needed(wait, "signal")}
    if (timeout := wait.duration("timeout")) is not None:
        config["timeout"] = timeout
    if "default" in wait.entries:
        config["default"] = wait.entries["default"].value.plain()
    return config


def _call(fields: Fields) -> dict[str, Json]:
    function = _needed(fields, "call")
    module, _, attribute = function.partition(":")
    if function and not (module and attribute):
        fields.problem(
            f"'call' in {fields.label} must be like \"package.module:function\", not {function!r}", key="call"
        )
    arguments = fields.plain("with", (dict, list))
    return {"call": function} if arguments is None else {"call": function, "args": arguments}
