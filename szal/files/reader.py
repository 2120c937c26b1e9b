"""A document as a flow: every problem is noted, with its place."""

import uuid
from typing import Any, Final

from szal.errors import CycleDetected, InvalidFlow, did_you_mean
from szal.expressions.path import Json
from szal.files.action import call_of, check_owners, shell_of, work_of
from szal.files.document import Problem, Value
from szal.files.fields import Fields
from szal.files.vocabulary import FLOW, RETRIES, ROLLBACK, STEP
from szal.model.flow import FlowDef, FlowMode
from szal.model.step import BackoffStrategy, StepDef, TriggerMode

__all__ = ["FlowReader"]

_NAMESPACE: Final = uuid.UUID("5b1f6a3e-8c1d-5e0a-9a54-7f2d6f0f3c11")  # of the ids; never to be changed
_MAX_HINTS: Final = 20  # they take their time in a large flow


class FlowReader:
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
        top.allow(FLOW)
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
        self._validate(flow, top, certain=mode is not None or "mode" not in top.entries)
        return flow

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
                        top.problem(text, key=text.split(maxsplit=3)[2].strip(":"))
                    elif certain and isinstance(error, CycleDetected):
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
        step.allow(STEP)
        if name is None:
            return None
        if name in self._steps:
            step.problem(f"duplicate step name {name!r}, first on line {self._steps[name].place.line}", key="name")
            return None
        self._steps[name] = step
        return step, name

    def _step(self, step: Fields, name: str) -> StepDef:
        step_type, config = work_of(step)
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
        retries.allow(RETRIES)
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
        undo.allow(ROLLBACK)
        if ("run" in undo.entries) == ("call" in undo.entries):
            undo.problem(f"{undo.label} takes either 'run' or 'call'")
        elif "run" in undo.entries:
            check_owners(undo, ["run"])
            config["rollback"] = shell_of(undo, config if "run" in step.entries else {})
        else:
            check_owners(undo, ["call"])
            config["rollback"] = call_of(undo)
        return True
