"""One flow of a document: every problem is noted, with its place."""

import uuid
from typing import Final, Protocol

from szal.errors import CycleDetected, InvalidFlow, did_you_mean
from szal.expressions.path import Json
from szal.files.action import call_of, check_owners, shell_of, work_of
from szal.files.checks import check_machine
from szal.files.document import Problem, Value
from szal.files.fields import Fields
from szal.files.inputs import read_inputs
from szal.files.shared import Shared
from szal.files.vocabulary import (
    OLD_TRIGGERS,
    ROLLBACK,
    STEP,
    TRIGGERS,
    UP_TO_DATE,
    hint_for_trigger,
    name_of_trigger,
)
from szal.model.flow import FlowDef, FlowMode
from szal.model.rate import interval_of
from szal.model.step import DELAY, ENGINE_TYPES, INLINE, ISOLATION, MAX_ITEMS, StepDef, TriggerMode

__all__ = ["FlowReader", "SubFlows"]

_IN_PYTHON: Final = "a flow in Python can have a handler for it: name that as MODULE:ATTRIBUTE"
_OWN_NAMES: Final = ("foreach", "max_parallel", "max_items", "until", "delay", "until_timeout")
"""Keys whose problems begin with them."""
_MAX_HINTS: Final = 20  # they take their time in a large flow


class SubFlows(Protocol):
    """Where a step that calls another flow finds it."""

    def find(self, step: Fields, name: str) -> str:
        """Return the name of the flow that *step* calls *name*, noting where there is none."""


class FlowReader:
    """Turns an object into a flow, noting every problem on the way. What is wrong is read as if it were not there.

    *shared*: what its steps have that say nothing else; *is_whole*: nothing but the file brings what they need; *base*:
    the directory that its commands are to run in, where this machine is to have what they name.
    """

    def __init__(
        self,
        problems: list[Problem],
        sub_flows: SubFlows,
        shared: Shared,
        *,
        is_whole: bool,
        base: str | None,
    ) -> None:
        self._problems = problems
        self._sub_flows = sub_flows
        self._is_whole = is_whole
        self._base = base
        self._mode = FlowMode.DAG
        self._flow_id = uuid.UUID(int=0)
        self._shared = shared
        self._steps: dict[str, Fields] = {}  # by name
        self._unknown = 0  # names in "needs"

    def flow(self, top: Fields, name: str, flow_id: uuid.UUID) -> FlowDef:
        """Return the flow *name* that *top* describes."""
        self._flow_id = flow_id
        if "steps" not in top.entries:
            top.problem(f"{top.label} has no steps")
        mode = self._mode_of(top)
        self._mode = mode or FlowMode.DAG
        flow = FlowDef(
            name,
            self._mode,
            id=str(flow_id),
            description=top.text("description") or "",
            version=top.whole("version", 1),
            steps=self._step_list(top),
            rollback_on_failure=top.flag("rollback_on_failure"),
            fail_fast=top.flag("fail_fast"),
            isolation=top.one_of("isolation", {name: name for name in ISOLATION}),
            concurrency_key=top.text("concurrency"),
            timeout=top.duration("timeout"),
            inputs=read_inputs(top),
        )
        self._validate(flow, top, certain=mode is not None)
        if self._base is not None:
            check_machine(top, flow, self._steps, self._base)
        return flow

    def _mode_of(self, top: Fields) -> FlowMode | None:
        """Return how the steps run, noting where the flow does not say it: each way is somebody's habit."""
        if top.get("mode") is not None:
            return top.choice("mode", FlowMode)
        given = top.get("steps")
        steps = given.data if given is not None and isinstance(given.data, list) else []
        if len(steps) < 2 or any(isinstance(step.data, dict) and "needs" in step.data for step in steps):
            return FlowMode.DAG
        ways = "'mode: sequential' (one after another), 'mode: parallel' (all at once)"
        if any(isinstance(step.data, dict) and "steps" in step.data for step in steps):
            ways = "'mode: hierarchical' (one after another, each with the steps below it)"
        problem = f"{top.label} does not say how its {len(steps)} steps run: write {ways}, or 'needs' in the steps"
        top.problem(problem, key="steps")
        return None

    def _validate(self, flow: FlowDef, top: Fields, *, certain: bool) -> None:
        """Note what `FlowDef.validate` finds, but for what may only follow from a problem that is known."""
        faulty = {name for name, step in self._steps.items() if step.is_faulty or not certain}
        try:
            flow.validate()
        except InvalidFlow as error:
            for text in error.problems:
                name = self._step_of(text)
                if name is None:
                    if text.startswith("the flow's "):
                        field = text.split(maxsplit=3)[2].strip(":")
                        top.problem(text, key="concurrency" if field == "concurrency_key" else field)
                    elif certain and isinstance(error, CycleDetected):
                        self._steps[error.path[0]].problem(text, key="name")
                    continue
                finding = text.removeprefix(f"step {name!r}: ")
                if finding.startswith(("condition: ", "config: ", "foreach", "until")) or not (
                    name in faulty or (faulty and "which cannot have run before it" in finding)
                ):
                    self._steps[name].problem(text, key=_key_of(finding))

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
        step.allow(STEP)
        if name is None:
            return None
        if name in self._steps:
            step.problem(f"duplicate step name {name!r}, first on line {self._steps[name].place.line}", key="name")
            return None
        self._steps[name] = step
        return step, name

    def _step(self, step: Fields, name: str) -> StepDef:
        step_type, config = work_of(step, self._shared.around, self._sub_flows.find)
        needs = self._needs(step)
        _up_to_date(step, step_type, config)
        rollbackable = self._rollback(step, config)
        if self._is_whole:
            _check_doable(step, step_type, config)
        trigger = self._trigger(step)
        own = (Shared() if step_type in ENGINE_TYPES else self._shared).over(step, {})
        if trigger.is_early and "needs" not in step.entries:
            step.problem(f"'when: {name_of_trigger(trigger)}' without 'needs': the step would never run", key="when")
        if "steps" in step.entries and self._mode is not FlowMode.HIERARCHICAL:
            step.problem(f"steps within a step are for mode hierarchical, and this flow is {self._mode}", key="steps")
        return StepDef(
            name,
            id=str(uuid.uuid5(self._flow_id, name)),
            description=step.text("description") or "",
            timeout=own.timeout,
            total_timeout=step.duration("total_timeout"),
            rollbackable=rollbackable,
            step_type=step_type,
            config=config or None,
            condition=step.text("if"),
            depends_on=needs,
            trigger_mode=trigger,
            sub_steps=self._step_list(step),
            priority=step.integer("priority"),
            undo_on_failure=step.flag("undo_on_failure"),
            continue_on_error=step.flag("continue_on_error"),
            cancel_losers=step.flag("cancel_losers"),
            finally_=step.flag("finally"),
            idempotent=step.flag("idempotent", True),
            resources=_shares(step),
            rate=_rates(step),
            inline=step.one_of("inline", {name: name for name in INLINE}),
            isolation=step.one_of("isolation", {name: name for name in ISOLATION}),
            foreach=step.plain("foreach", (list, str)),
            max_parallel=None if step.get("max_parallel") is None else step.whole("max_parallel", 1),
            max_items=step.whole("max_items", MAX_ITEMS),
            until=step.text("until"),
            delay=DELAY if (delay := step.duration("delay")) is None else delay,
            until_timeout=step.duration("until_timeout"),
            **own.retries,
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

    def _trigger(self, step: Fields) -> TriggerMode:
        given = step.get("when")
        if given is not None and isinstance(given.data, str) and given.data in OLD_TRIGGERS:
            return OLD_TRIGGERS[given.data]
        return step.one_of("when", TRIGGERS, hint_for_trigger) or TriggerMode.ALL

    def _rollback(self, step: Fields, config: dict[str, Json]) -> bool:
        """Put how to undo *step* into its *config*; return whether it can be undone."""
        given = step.get("rollback")
        if given is None or not isinstance(given.data, dict):
            return step.flag("rollback", or_else=" or an object")
        undo = step.inner("rollback")
        undo.allow(ROLLBACK)
        if ("run" in undo.entries) == ("call" in undo.entries):
            undo.problem(f"{undo.label} takes either 'run' or 'call'")
        elif "run" in undo.entries:
            check_owners(undo, ["run"])
            config["rollback"] = shell_of(undo, config if "run" in step.entries else self._shared.around)
        else:
            check_owners(undo, ["call"])
            config["rollback"] = call_of(undo)
        return True


def _shares(step: Fields) -> dict[str, int]:
    """Return how much of each resource *step* needs."""
    needs = step.inner("resources")
    return {name: needs.whole(name, 1) for name in needs.entries}


def _rates(step: Fields) -> dict[str, str]:
    """Return how often *step* may call what it shares with others."""
    given = step.inner("rate")
    rates = {name: (given.text(name) or "").strip() for name in given.entries}
    for name, rate in rates.items():
        try:
            interval_of(rate)
        except ValueError as error:
            given.problem(f"{name!r} in {given.label}: {error}", key=name)
    return {} if given.is_faulty else rates


def _up_to_date(step: Fields, step_type: str | None, config: dict[str, Json]) -> None:
    """Put the files by which its work is there into the *config* of *step*."""
    if step.get("up_to_date") is None:
        return
    if step_type in ENGINE_TYPES:
        step.problem(f"'up_to_date' does not go with '{step_type}' in {step.label}", key="up_to_date")
        return
    files = step.inner("up_to_date")
    files.allow(UP_TO_DATE)
    named = {key: [text for _, text in files.texts(key)] for key in ("sources", "outputs")}
    if not named["outputs"] and not files.is_faulty:
        files.problem(f"{files.label} names no 'outputs': nobody knows whether they are there")
    config["up_to_date"] = named


def _key_of(finding: str) -> str:
    """Return the key of a step that a problem is about: its name, where that is not told."""
    word = finding.removeprefix("its ").partition(" ")[0].rstrip(":")
    return "if" if word == "condition" else word if word in _OWN_NAMES else "name"


def _check_doable(step: Fields, step_type: str | None, config: dict[str, Json]) -> None:
    """Note what only a handler in Python could do."""
    rollback = step.get("rollback")
    is_undone = rollback is not None and rollback.data is True
    if step_type is None:
        step.problem(f"{step.label} does nothing: write 'run', 'call', 'flow', 'wait' or 'sleep' ({_IN_PYTHON})")
    elif "type" in step.entries and step_type not in (*ENGINE_TYPES, "shell", "python"):
        step.problem(f"nothing does the step type {step_type!r} of {step.label} ({_IN_PYTHON})", key="type")
    elif is_undone and "rollback" not in config and step_type != "sub_flow":
        problem = f"nothing undoes {step.label}: write 'rollback: {{run: …}}' or 'rollback: {{call: …}}'"
        step.problem(f"{problem} ({_IN_PYTHON})", key="rollback")
