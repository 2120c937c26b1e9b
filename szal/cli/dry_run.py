"""What a run would do, as far as that is known before it: by the plan, the inputs, and what is taken from elsewhere."""

import json
import shlex
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs

from szal.cli.console import Stream, write
from szal.cli.parts import CannotRunPart, Chosen
from szal.cli.target import Target
from szal.cli.text import clean, one_line
from szal.engine.admission import Admission
from szal.engine.config import EngineConfig
from szal.engine.rerun import Rerun
from szal.engine.rows_of_items import items_in_rows, with_items
from szal.engine.spec import ExecutionSpec
from szal.engine.status import idle_run, put_back
from szal.errors import SzalError
from szal.expressions.path import Json, outcome_values
from szal.expressions.template import CompiledTemplate
from szal.model.json import decode_checkpoint
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.model.texts import ROLLBACK
from szal.scheduler.plan import Node, Outcome
from szal.scheduler.run import CONDITION_NOT_MET, Ready
from szal.scheduler.seen import MaskedOutcome
from szal.scheduler.stage import KEPT, Tally
from szal.steps.resolving import resolver_of
from szal.stores import ExecutionStore

__all__ = ["Preview", "StepPreview", "preview_of", "show_preview", "spec_for"]

Does = Literal["run", "skip", "take", "fail"]


@attrs.frozen(kw_only=True)
class StepPreview:
    """What would become of one step. `condition` is what is still to be decided; `why` says why it does not run."""

    name: str
    does: Does
    after: Sequence[str] = ()
    condition: str | None = None
    why: str | None = None
    step_type: str | None = None
    config: Json = None
    foreach: Json = None
    until: str | None = None


def spec_for(
    target: Target, chosen: Chosen, inputs: Mapping[str, Json], store: ExecutionStore | None, config: EngineConfig
) -> ExecutionSpec:
    """Return what would be run, checked as `run` checks it; nothing is recorded."""
    handler = target.handler
    admission = Admission(config, resolver_of(handler))
    if store is None or chosen.reuse is None:
        return admission.spec_of(chosen.flow, inputs, None, None, None)
    try:
        return admission.recovery().rerun(chosen.reuse, Rerun(inputs=inputs, flow=chosen.flow, part=chosen.part))
    except ValueError as error:
        raise CannotRunPart(str(error)) from error


@attrs.frozen(kw_only=True)
class Preview:
    """What a run would do, in an order in which it could be done."""

    flow_name: str
    inputs: Mapping[str, Json]
    reuse: str | None
    steps: Sequence[StepPreview]


def preview_of(spec: ExecutionSpec, reuse: str | None = None) -> Preview:
    """Return what a run of *spec* would do. A step whose outcome nobody knows counts as completed for what follows."""
    seen = _Simulation(spec)
    return Preview(
        flow_name=spec.flow.name, inputs=spec.record.inputs, reuse=reuse, steps=list(map(seen.step, seen.order()))
    )


class _NotYetKnown(Exception):
    """A condition asks for a step of which nobody knows how it will end."""


class _Known(Mapping[str, Json]):
    """What is known of steps, as conditions see it."""

    def __init__(self, known: Mapping[str, StepResult], execution_id: str) -> None:
        self._known = known
        self._execution_id = execution_id

    def __getitem__(self, name: str) -> Json:
        if name not in self._known:
            raise _NotYetKnown(name)
        known = self._known[name]
        return MaskedOutcome(known, self._execution_id) if known.is_masked else outcome_values(known)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class _Simulation:
    """A run in which nothing is called, with what is known of each step."""

    def __init__(self, spec: ExecutionSpec) -> None:
        self._inputs = spec.inputs
        self._redaction = spec.redaction
        self._record = spec.record
        self._run = idle_run(spec.record, spec.plan)
        self._known: dict[str, StepResult] = {}
        """By name: the steps of which it is known how they end."""
        self._made: dict[int, tuple[Does, str | None]] = {}
        self._open: set[int] = set()
        """The places of steps whose conditions only outputs decide."""
        rows = () if spec.snapshot is None else spec.snapshot.steps
        items = items_in_rows(rows, spec.plan)
        for name, _, data in rows:
            place = spec.plan.places.get(name)
            if place is not None:
                checkpoint = decode_checkpoint(data, name, spec.plan.nodes[place].step.id)
                if checkpoint.items is not None:
                    checkpoint.result = with_items(checkpoint.result, items.get(name, {}), checkpoint.items)
                put_back(self._run, name, checkpoint)

    def order(self) -> list[Node]:
        """Settle every step, and return them in that order."""
        found = self._settle_all()
        if self._run.plan.finals:
            self._run = idle_run(self._record, self._run.plan, self._run)
            found += self._settle_all()
        return found

    def _settle_all(self) -> list[Node]:
        run, found = self._run, list[Node]()
        ready: deque[Ready] = deque()
        run.start(ready, Tally())
        while ready:
            _, node = ready.popleft()
            found.append(node)
            if run.stages[node.place] is KEPT and run.take_back(node):
                result = run.results[node.place]
                assert result is not None
                self._made[node.place] = "take", str(result.status)
                self._known[node.step.name] = result
            else:
                self._decide(node)
        return found

    def _decide(self, node: Node) -> None:
        run, step, place = self._run, node.step, node.place
        try:
            why = run.why_blocked(node) or self._why_not(node)
        except SzalError as error:  # of a condition that cannot be decided at all
            told = self._redaction.text(str(error))
            self._made[place] = "fail", told
            self._known[step.name] = failed = StepResult(step.id, step.name, StepStatus.FAILED, error=told)
            run.settle(node, failed, Outcome.FAILED)
            return
        if why is None:
            self._made[place] = "run", None
            run.settle(node, StepResult(step.id, step.name, StepStatus.COMPLETED), Outcome.COMPLETED)
            return
        self._made[place] = "skip", why[0]
        run.skip(node, *why)
        result = run.results[place]
        assert result is not None
        self._known[step.name] = result

    def _why_not(self, node: Node) -> tuple[str, Outcome] | None:
        """Return why the condition of a step keeps it from running, where that is known already."""
        if node.condition is None:
            return None
        try:
            holds = node.condition.evaluate({"inputs": self._inputs, "steps": self._steps()})
        except _NotYetKnown:
            self._open.add(node.place)
            return None
        return None if holds else (CONDITION_NOT_MET, Outcome.PASSED)

    def _steps(self) -> _Known:
        return _Known(self._known, self._record.parent_execution_id or self._record.execution_id)

    def step(self, node: Node) -> StepPreview:
        """Return what would become of a step."""
        step, plan = node.step, self._run.plan
        does, why = self._made[node.place]
        config: Json = None
        if does == "run":
            try:
                config = self._redaction.value(self._rendered(step.config))
            except SzalError as error:
                does, why = "fail", self._redaction.text(str(error))
        return StepPreview(
            name=step.name,
            does=does,
            after=[plan.steps[place].name for place in plan.sources(node.place)],
            condition=step.condition if node.place in self._open or why == CONDITION_NOT_MET else None,
            why=why,
            step_type=step.step_type,
            config=config,
            foreach=step.foreach,
            until=step.until,
        )

    def _rendered(self, value: Json, key: str = "") -> Json:
        """Return a config with those of its texts filled in of which it is known what they come to.

        What undoes the step stays as it is, as it does when the step runs.
        """
        if isinstance(value, dict):
            return {name: inner if name == ROLLBACK else self._rendered(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._rendered(inner, key) for inner in value]
        if not isinstance(value, str):
            return value
        template = CompiledTemplate.compile(value, strict=True)
        if not template.steps <= self._known.keys() or any(
            path.segments[0] in _OF_AN_ITEM for path in template.references
        ):
            return value
        context: dict[str, Json] = {"inputs": self._inputs, "steps": self._steps()}
        return template.render(context, shlex.quote if key == "run" else None)


# -- for people, and for programs ----------------------------------------------------------------------

_OF_AN_ITEM = ("item", "index")
_WORDS: Mapping[Does, str] = {"skip": "skipped", "take": "taken", "fail": "would fail"}


def show_preview(found: Preview, out: Stream, *, as_json: bool) -> None:
    """Write it: one JSON object, or lines for people."""
    if as_json:
        write(out, json.dumps(_document(found), ensure_ascii=False))
        return
    runs = sum(1 for step in found.steps if step.does == "run")
    what = f"{runs} of {len(found.steps)} step{'s' * (len(found.steps) != 1)}"
    write(out, f"{one_line(found.flow_name)} would run {what}, in this order (nothing was run or recorded):")
    number = 0
    for step in found.steps:
        number += step.does == "run"
        for line in _lines(step, f"{number}." if step.does == "run" else "-", found.reuse):
            write(out, line)


def _lines(step: StepPreview, mark: str, reuse: str | None) -> list[str]:
    head = f"{mark:>4} {one_line(step.name)}"
    if step.does == "run":
        head += f" (if {one_line(step.condition)})" if step.condition is not None else ""
        head += f" for each of {_elements(step.foreach)}" if step.foreach is not None else ""
        head += f" until {one_line(step.until)}" if step.until is not None else ""
        return [head, *(f"       {line}" for line in _work(step))]
    if step.does == "take":
        return [f"{head}: taken from execution {one_line(reuse or '')} ({step.why})"]
    condition = f": {one_line(step.condition)}" if step.condition is not None else ""
    return [f"{head}: {_WORDS[step.does]}, {one_line(step.why or '')}{condition}"]


def _elements(foreach: Json) -> str:
    if isinstance(foreach, str):
        return one_line(foreach)
    return f"{len(foreach)} element{'s' * (len(foreach) != 1)}"


def _work(step: StepPreview) -> list[str]:
    """Return what a step does, as lines: of a command that is the command."""
    if not isinstance(step.config, dict):
        return [] if step.config is None else [one_line(json.dumps(step.config, ensure_ascii=False, default=str))]
    rest = {key: value for key, value in step.config.items() if key not in ("run", "rollback")}
    command = step.config.get("run") if step.step_type == "shell" else None
    lines = clean(command).rstrip("\n").split("\n") if isinstance(command, str) else []
    if rest:
        kind = "" if step.step_type in (None, "shell") else f"{one_line(str(step.step_type))} "
        lines.append(kind + one_line(json.dumps(rest, ensure_ascii=False, default=str)))
    return lines


def _document(found: Preview) -> dict[str, Any]:
    steps = [
        {
            "step": step.name,
            "does": step.does,
            "after": list(step.after),
            "if": step.condition,
            "why": step.why,
            "type": step.step_type,
            "config": step.config,
            **({} if step.foreach is None else {"foreach": step.foreach}),
            **({} if step.until is None else {"until": step.until}),
        }
        for step in found.steps
    ]
    return {
        "dry_run": True,
        "flow_name": found.flow_name,
        "inputs": dict(found.inputs),
        "reuse": found.reuse,
        "steps": steps,
    }
