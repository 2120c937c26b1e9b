"""What the tests of the engine share: running a flow by a script, and a small model of what must come out.

The model is sequential and knows nothing of threads. It is written from the tables of docs/semantics.md
alone, so that it can disagree with the engine.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ids import uid

from szal import (
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    FlowResult,
    GiveUp,
    InMemoryStorage,
    RetryAfter,
    SkipStep,
    StepContext,
    StepDef,
    StepStatus,
    TriggerMode,
)

PATIENCE = 20.0
"""Seconds that a test waits for what must come; nothing that works takes anywhere near as long."""
BRIEF = 0.02
"""The limit of a step that is meant to run past it."""

COMPLETED, FAILED, SKIPPED, ROLLED_BACK = (
    StepStatus.COMPLETED,
    StepStatus.FAILED,
    StepStatus.SKIPPED,
    StepStatus.ROLLED_BACK,
)


EARLY = (TriggerMode.ANY, TriggerMode.ONE_FAILED, TriggerMode.ONE_DONE)
"""The triggers under which a step need not wait for all that it depends on."""


class Gate(threading.Event):
    """An event that fails the test, in words, when it does not come."""

    def pass_through(self) -> None:
        """Wait until the gate is open."""
        assert self.wait(PATIENCE), "what this waits for never happened"


def until_told(gate: Gate, then: Callable[[StepContext], Any] = lambda ctx: "late") -> Callable[[StepContext], Any]:
    """Return a handler that says that it has started, waits until it is told to end, and does something then."""

    def handle(ctx: StepContext) -> Any:
        gate.set()
        while ctx.sleep(20):
            pass
        assert ctx.cancelled
        return then(ctx)

    return handle


def run_flow(
    flow: FlowDef,
    handler: "Callable[[StepContext], Any] | Mapping[str, Any]",
    inputs: Mapping[str, Any] | None = None,
    *,
    cancel: Any = None,
    **config: Any,
) -> FlowResult:
    """Run *flow* once. A handler given as a mapping has a value, exception or function for each step's name."""
    with Engine(handler if callable(handler) else scripted(handler), EngineConfig(**config)) as engine:
        return engine.run(flow, inputs, cancel=cancel)


def scripted(script: Mapping[str, Any]) -> Callable[[StepContext], Any]:
    """Return a handler that does what *script* has for the step; a step that is not in it returns its name."""

    def handle(ctx: StepContext) -> Any:
        action = script.get(ctx.step.name, ctx.step.name)
        if isinstance(action, BaseException):
            raise action
        return action(ctx) if callable(action) else action

    return handle


def outcomes(result: FlowResult) -> dict[str, tuple[StepStatus, str | None]]:
    """Return each step's status and error, or the reason of its skip, by name and in the order of the results."""
    assert len({step.step_name for step in result.steps}) == len(result.steps)
    return {step.step_name: (step.status, step.error) for step in result.steps}


# -- flows as the model sees them ------------------------------------------------------------------


@dataclass(frozen=True)
class Condition:
    """``("status", step, text)``, ``("output", step, value)``, ``("input", name)``, or not/and/or of such."""

    kind: str
    args: tuple[Any, ...]

    def text(self) -> str:
        """Return it as szal reads it."""
        match self.kind, self.args:
            case "status", (name, status):
                return f"steps.{name}.status == '{status}'"
            case "output", (name, value):
                return f'steps["{name}"].output == {value}'
            case "truth", (name,):
                return f"steps.{name}.output"
            case "input", (name,):
                return f"inputs.{name}"
            case "not", (inner,):
                return f"!({inner.text()})"
        sign = {"and": "&&", "or": "||"}[self.kind]
        return f"({self.args[0].text()}) {sign} ({self.args[1].text()})"

    def holds(self, done: "Mapping[str, Outcome]", inputs: Mapping[str, Any]) -> bool:
        """Return whether it is true, by plain Python."""
        match self.kind, self.args:
            case "status", (name, status):
                return name in done and done[name].status.name.lower() == status
            case "output", (name, value):
                return name in done and type(done[name].output) is int and done[name].output == value
            case "truth", (name,):
                return name in done and bool(done[name].output)
            case "input", (name,):
                return bool(inputs.get(name))
            case "not", (inner,):
                return not inner.holds(done, inputs)
        first, second = (arg.holds(done, inputs) for arg in self.args)
        return (first and second) if self.kind == "and" else (first or second)


@dataclass(frozen=True)
class Spec:
    """One step as the model sees it. `script` has one word for each attempt; the last one goes on for ever.

    The words: ok, fail, fatal (which `give_up_on` names), give up, retry after, exit (a BaseException), skip,
    hang (past the step's limit). A stubborn step fails to be undone. A pinned one has a thread of its own for it, where
    it has no limit.
    """

    name: str
    script: tuple[str, ...] = ("ok",)
    output: Any = None
    retries: int = 0
    limited: bool = False
    pinned: bool = False
    shared: bool = False
    rollbackable: bool = False
    stubborn: bool = False
    priority: int = 0
    half: bool = False
    caught: bool = False
    final: bool = False
    reason: str = "nothing to do"
    condition: Condition | None = None
    needs: tuple[str, ...] = ()
    trigger: TriggerMode = TriggerMode.ALL
    sub_steps: "tuple[Spec, ...]" = ()
    flow: "FlowSpec | None" = None

    @property
    def undoable(self) -> bool:
        """Whether something undoes it."""
        return self.rollbackable or self.half

    def word(self, attempt: int) -> str:
        """Return what attempt number *attempt* does."""
        return self.script[min(attempt, len(self.script)) - 1]

    def limit(self) -> float | None:
        """Return the step's time limit: a short one only where it will be passed."""
        if "hang" in self.script:
            return BRIEF
        return 60.0 if self.limited else None

    @property
    def is_pinned(self) -> bool:
        """Whether it is called on the coordinating thread only."""
        return self.pinned and self.limit() is None and self.flow is None

    @property
    def needs_db(self) -> bool:
        """Whether it shares something with others: one that is left behind would keep it."""
        return self.shared and "hang" not in self.script and self.flow is None

    def walk(self) -> "Iterator[Spec]":
        """Yield this step and those under it, depth first."""
        yield self
        for sub_step in self.sub_steps:
            yield from sub_step.walk()


@dataclass(frozen=True)
class FlowSpec:
    """A flow as the model sees it; `listed` is the order in which its top steps are defined."""

    mode: FlowMode
    steps: tuple[Spec, ...]
    rollback: bool = False
    name: str = "flow"
    listed: tuple[int, ...] | None = None
    fast: bool = False  # it ends with its first failure: of a line, where that tells what has not begun

    @property
    def in_order(self) -> list[Spec]:
        """Every step in the flow's own order, sub-steps included."""
        places = range(len(self.steps)) if self.listed is None else self.listed
        return [spec for place in places for spec in self.steps[place].walk()]

    @property
    def finals(self) -> tuple[Spec, ...]:
        """The finally steps."""
        return tuple(spec for spec in self.steps if spec.final)

    @property
    def others(self) -> tuple[Spec, ...]:
        """The top steps that are none."""
        return tuple(spec for spec in self.steps if not spec.final)

    def sub_flows(self) -> "Iterator[FlowSpec]":
        """Yield every flow that a step of this one runs, and theirs."""
        for spec in self.in_order:
            if spec.flow is not None:
                yield spec.flow
                yield from spec.flow.sub_flows()

    def build(self) -> FlowDef:
        """Return it as szal's own."""
        ids = {spec.name: uid(f"{self.name}/{spec.name}") for spec in self.in_order}
        places = range(len(self.steps)) if self.listed is None else self.listed
        steps = [_build(self.steps[place], ids) for place in places]
        return FlowDef(self.name, self.mode, steps=steps, rollback_on_failure=self.rollback, fail_fast=self.fast)

    def storage(self) -> InMemoryStorage:
        """Return a storage with the flows that its steps run."""
        return InMemoryStorage([flow.build() for flow in self.sub_flows()])


def _build(spec: Spec, ids: Mapping[str, str]) -> StepDef:
    return StepDef(
        spec.name,
        id=ids[spec.name],
        timeout=spec.limit(),
        inline="always" if spec.is_pinned else None,
        resources={"db": 1} if spec.needs_db else {},
        max_retries=spec.retries,
        retry_delay=0.0,
        give_up_on=(LookupError,),
        rollbackable=spec.rollbackable,
        priority=spec.priority,
        undo_on_failure=spec.half,
        continue_on_error=spec.caught,
        finally_=spec.final,
        condition=None if spec.condition is None else spec.condition.text(),
        depends_on=[ids[need] for need in spec.needs],
        trigger_mode=spec.trigger,
        sub_steps=[_build(sub_step, ids) for sub_step in spec.sub_steps],
        step_type=None if spec.flow is None else "sub_flow",
        config=None if spec.flow is None else {"flow_name": spec.flow.name},
    )


# -- the model ---------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """How a step ends; `error` has the end of its error text, the whole of it for a skip."""

    status: StepStatus
    error: str = ""
    output: Any = None
    attempts: int = 0
    blocked: bool = False
    caught: bool = False

    @property
    def is_failure(self) -> bool:
        """Whether it is one to what follows, and to its flow."""
        return self.status is FAILED and not self.caught


@dataclass
class Model:
    """Says how every step of a flow ends, by running it one step at a time, and then undoing what is to be undone.

    *inherited*: the flow that it is a sub-flow of rolls back.
    """

    flow: FlowSpec
    inputs: Mapping[str, Any] = field(default_factory=dict)
    inherited: bool = False
    done: dict[str, Outcome] = field(default_factory=dict)
    """How each step ended, as those after it see it."""
    final: dict[str, StepStatus] = field(default_factory=dict)
    """The same after the undoing."""
    below: "dict[str, Model]" = field(default_factory=dict)
    """By step, the sub-flow that it stands for; of several attempts the last."""
    tried: "list[Model]" = field(default_factory=list)
    """All sub-flows that it ran."""
    undone: list[str] = field(default_factory=list)
    """The steps whose undo was called, be that to no avail."""
    left: list[str] = field(default_factory=list)
    """The steps that could not be undone."""

    def run(self) -> "Model":
        """Work out every outcome."""
        if self.flow.mode is FlowMode.SEQUENTIAL:
            self._sequential()
        elif self.flow.mode is FlowMode.HIERARCHICAL:
            self._siblings(self.flow.others, None)
        else:
            self._dag()
        if self.flow.fast:
            self._end_with_the_first_failure()
        self.final = {name: outcome.status for name, outcome in self.done.items()}
        stands = (FAILED, SKIPPED)  # one that is skipped may stand for a sub-flow of an earlier execution
        self.left = [name for name, below in self.below.items() if self.final[name] in stands and below.left]
        if not self.success and self.rolls_back:
            self.undo()
        for spec in self.flow.finals:
            outcome = self.done[spec.name] = self._finally(spec)
            outcome.caught = outcome.status is FAILED
            self.final[spec.name] = outcome.status
        return self

    def _finally(self, spec: Spec) -> Outcome:
        """Return how a finally step ends, which nothing keeps from running."""
        return attempt(spec)

    @property
    def success(self) -> bool:
        """Whether no step failed, but for those whose failure is caught."""
        return not any(outcome.is_failure for outcome in self.done.values())

    @property
    def rolls_back(self) -> bool:
        """Whether its failure is followed by undoing."""
        return self.flow.rollback or self.inherited

    # -- undoing

    def undo(self) -> None:
        """Undo all that completed."""
        for spec in self._undoable():
            if spec.flow is None:
                self.undone.append(spec.name)
                stays = spec.stubborn
            else:
                self.below[spec.name].undo()
                stays = bool(self.below[spec.name].left)
            if stays:
                self.left.append(spec.name)
            else:
                self.final[spec.name] = ROLLED_BACK

    def _undoable(self) -> list[Spec]:
        done = [spec for spec in self.flow.in_order if not spec.final and self.final[spec.name] is COMPLETED]
        done = [spec for spec in done if (self.below[spec.name]._undoable() if spec.flow else spec.undoable)]
        return [*done, *(spec for spec in self.flow.in_order if spec.half and self.final[spec.name] is FAILED)]

    def all_undone(self) -> "Iterator[tuple[str, str]]":
        """Yield flow and step of every undo that was called, here and below."""
        yield from ((self.flow.name, name) for name in self.undone)
        for below in {id(each): each for each in (*self.tried, *self.below.values())}.values():
            yield from below.all_undone()

    # -- running

    def _sequential(self) -> None:
        failed, sources = False, []
        for spec in self.flow.others:
            self.done[spec.name] = self._settle(spec, sources, "prior step failed" if failed else None)
            failed, sources = failed or self.done[spec.name].is_failure, [spec.name]

    def _end_with_the_first_failure(self) -> None:
        has_failed = False
        for spec in self.flow.in_order:
            if has_failed and not spec.final:
                self.done[spec.name] = skip("flow failed")
            has_failed = has_failed or (not spec.final and self.done[spec.name].is_failure)

    def _siblings(self, specs: tuple[Spec, ...], reason: str | None) -> bool:
        """Settle *specs* and all under them, skipped where there is a *reason*; return whether any failed."""
        failed = False
        for spec in specs:
            why = reason or ("prior step failed" if failed else None)
            outcome = self.done[spec.name] = self._settle(spec, [*self.done][-1:], why)
            below = why or {COMPLETED: None, FAILED: "parent step failed", SKIPPED: outcome.error}[outcome.status]
            below = None if outcome.caught and not why else below
            failed_below = self._siblings(spec.sub_steps, below)
            failed = failed or outcome.is_failure or failed_below
        return failed

    def _dag(self) -> None:
        """Settle each step after what it needs; a condition sees what must have ended, however threads race."""
        ended: dict[str, set[str]] = {}
        for spec in self.flow.others:
            each = [{need} | ended[need] for need in spec.needs]
            join = set.intersection if spec.trigger in EARLY else set.union
            ended[spec.name] = join(*each) if each else set()
            why = refusal(spec.trigger, [self.done[need] for need in spec.needs])
            self.done[spec.name] = self._settle(spec, spec.needs, why, ended[spec.name])

    def _settle(
        self, spec: Spec, sources: Collection[str], why: str | None, ended: Collection[str] | None = None
    ) -> Outcome:
        """Return how *spec* ends, which waits for *sources*; *why*: it is skipped because of one of them."""
        if why is not None:
            return skip(why, blocked=self.flow.mode is FlowMode.DAG)
        seen = self.done if ended is None else {name: self.done[name] for name in ended}
        if spec.condition is not None and not spec.condition.holds(seen, self.inputs):
            return skip("condition not met")
        outcome = attempt(spec) if spec.flow is None else self._run_below(spec)
        outcome.caught = spec.caught and outcome.status is FAILED
        return outcome

    def _run_below(self, spec: Spec) -> Outcome:
        """Run the sub-flow of *spec*, again where it fails, but not on top of what it has left."""
        for number in range(1, spec.retries + 2):
            below = self.below[spec.name] = self._sub_flow(spec, number).run()
            self.tried.append(below)
            if below.success:
                return Outcome(COMPLETED, attempts=number)
            if below.left:
                break
        return Outcome(FAILED, attempts=number)

    def _sub_flow(self, spec: Spec, number: int) -> "Model":
        """Return the model of the sub-flow that attempt *number* of *spec* runs."""
        assert spec.flow is not None
        return Model(spec.flow, {}, inherited=self.rolls_back)


@dataclass
class Rerun(Model):
    """Says how the rerun of an execution ends, of which *before* is the model.

    What completed is kept, unless something before it runs again. `again` names what runs again, or for the first time.
    """

    before: Model = field(default_factory=lambda: Model(FlowSpec(FlowMode.PARALLEL, ())))
    again: set[str] = field(default_factory=set)

    def _settle(
        self, spec: Spec, sources: Collection[str], why: str | None, ended: Collection[str] | None = None
    ) -> Outcome:
        status, old = self.before.final[spec.name], self.before.done[spec.name]
        is_after = not self.again.isdisjoint(sources)
        has_left = spec.name in self.before.left
        if status is COMPLETED and not is_after and not (spec.flow and has_left):
            if spec.flow is not None:
                self.below[spec.name] = self.before.below[spec.name]
            return old
        outcome = super()._settle(spec, sources, why, ended)
        below = self.before.below.get(spec.name)
        if outcome.status is SKIPPED and status is not COMPLETED and below and (below.left or not below.rolls_back):
            self.below[spec.name] = below
        if is_after or outcome.attempts or outcome.status is not SKIPPED or status is not SKIPPED or old.attempts:
            self.again.add(spec.name)
        return outcome

    def _run_below(self, spec: Spec) -> Outcome:
        if spec.name in self.before.left:
            self.below[spec.name] = self.before.below[spec.name]  # what it has left is there still
            return Outcome(FAILED, attempts=1)
        return super()._run_below(spec)

    def _sub_flow(self, spec: Spec, number: int) -> Model:
        assert spec.flow is not None
        old = self.before.below.get(spec.name)
        in_order = [each.name for each in self.flow.in_order]
        sources = spec.needs if self.flow.mode is FlowMode.DAG else in_order[: in_order.index(spec.name)][-1:]
        is_after = self.flow.mode is not FlowMode.PARALLEL and not self.again.isdisjoint(sources)
        has_failed = self.before.final[spec.name] in (FAILED, SKIPPED)  # SKIPPED: it had failed before that
        if number > 1 or old is None or is_after or not has_failed or old.rolls_back:
            return super()._sub_flow(spec, number)
        return Rerun(spec.flow, {}, inherited=self.rolls_back, before=old)


@dataclass
class Resumption(Model):
    """Says how an execution ends that goes on after the steps *kept*, with other steps before them, perhaps."""

    kept: Mapping[str, Outcome] = field(default_factory=dict)

    def _finally(self, spec: Spec) -> Outcome:
        return self.kept.get(spec.name) or super()._finally(spec)

    def _settle(
        self, spec: Spec, sources: Collection[str], why: str | None, ended: Collection[str] | None = None
    ) -> Outcome:
        old = self.kept.get(spec.name)
        if old is None:
            return super()._settle(spec, sources, why, ended)
        if why is None or old.status is FAILED or old.blocked:
            return old
        return Outcome(old.status, why, old.output, old.attempts, blocked=self.flow.mode is FlowMode.DAG)


def skip(reason: str, *, blocked: bool = False, attempts: int = 0) -> Outcome:
    """Return the outcome of a step that is skipped."""
    return Outcome(SKIPPED, reason, attempts=attempts, blocked=blocked)


def refusal(trigger: TriggerMode, needs: list[Outcome]) -> str | None:
    """Return why a step with these dependencies does not run, or None: the table of triggers."""
    completed = [(need.status is COMPLETED or need.caught) and not need.blocked for need in needs]
    failed = any(need.is_failure or (need.blocked and need.error == "dependency failed") for need in needs)
    runs = {
        TriggerMode.ALL: not failed and not any(need.blocked for need in needs),
        TriggerMode.ANY: any(completed),
        TriggerMode.ALL_COMPLETED: all(completed),
        TriggerMode.ALL_DONE: True,
        TriggerMode.ONE_FAILED: any(need.is_failure for need in needs),
        TriggerMode.ONE_DONE: True,
    }[trigger]
    if not runs and trigger is TriggerMode.ONE_FAILED:
        return "no dependency failed"
    return None if runs else "dependency failed" if failed else "dependency skipped"


def attempt(spec: Spec) -> Outcome:
    """Return how the step ends once it is started."""
    for number in range(1, spec.retries + 2):
        word = spec.word(number)
        if word == "ok":
            return Outcome(COMPLETED, "", spec.output, number)
        if word == "skip":
            return skip(spec.reason, attempts=number)
        error = ERRORS[word].format(name=spec.name)
        if word in {"fatal", "give up", "exit"}:  # retries are for what derives from Exception
            return Outcome(FAILED, error, attempts=number)
    if spec.retries:
        error = f"retry exhausted: {spec.name} after {spec.retries + 1} attempts: {error}"
    return Outcome(FAILED, error, attempts=spec.retries + 1)


ERRORS = {
    "fail": "ValueError: {name} is broken",
    "fatal": "LookupError: {name}",
    "give up": "GiveUp: {name} is hopeless",
    "retry after": "RetryAfter: retry after 0s",
    "exit": "SystemExit: {name}",
    "hang": f"step timeout: {{name}} after {BRIEF * 1000:.0f}ms",
}


class Performer:
    """A handler that does what the specs say, and keeps a log of it."""

    def __init__(self, flow: FlowSpec, on_call: Callable[[int], object] = lambda count: None) -> None:
        self.specs = {(each.name, spec.name): spec for each in (flow, *flow.sub_flows()) for spec in each.in_order}
        self.log: list[tuple[str, str, int]] = []
        """("begin", "end" or "undo"; step; attempt), in the order in which the handlers said so.

        A step of a sub-flow stands there as FLOW/STEP.
        """
        self.release = threading.Event()
        self.top = flow.name
        self.on_call = on_call
        self._lock = threading.Lock()

    def note(self, what: str, ctx: StepContext) -> int:
        """Add to the log; return how many calls have begun."""
        name = ctx.step.name if ctx.flow_name == self.top else f"{ctx.flow_name}/{ctx.step.name}"
        with self._lock:
            self.log.append((what, name, ctx.attempt))
            return sum(entry[0] == "begin" for entry in self.log)

    def __call__(self, ctx: StepContext) -> Any:
        spec = self.specs[ctx.flow_name, ctx.step.name]
        self.on_call(self.note("begin", ctx))
        match spec.word(ctx.attempt):
            case "fail":
                raise ValueError(f"{spec.name} is broken")
            case "fatal":
                raise LookupError(spec.name)
            case "give up":
                raise GiveUp(f"{spec.name} is hopeless")
            case "retry after":
                raise RetryAfter(0)
            case "exit":
                raise SystemExit(spec.name)
            case "skip":
                raise SkipStep(spec.reason)
            case "hang":
                self.release.wait(PATIENCE)
                raise RuntimeError("nobody waits for this")
        self.note("end", ctx)
        return spec.output

    def undo(self, ctx: StepContext) -> None:
        """Undo a step: the rollback handler."""
        if ctx.steps[ctx.step.name].status is COMPLETED:
            assert ctx.output == self.specs[ctx.flow_name, ctx.step.name].output
        else:
            assert ctx.reason.startswith(f"step '{ctx.step.name}' failed: ")
        self.note("undo", ctx)
        if self.specs[ctx.flow_name, ctx.step.name].stubborn:
            raise RuntimeError("will not be undone")

    def logged(self, what: str) -> list[str]:
        """Return the names of the steps that have such an entry, in order."""
        return [name for entry, name, _ in self.log if entry == what]
