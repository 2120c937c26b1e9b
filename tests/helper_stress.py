"""What the stress tests share: random flows of every kind, a handler that watches its own calls, and what must hold."""

import faulthandler
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import attrs
import pytest
from helper_engine import LONG, Hang
from injection import untraced

from szal import (
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
    WorkflowEvent,
    WorkflowState,
)

INPUTS = {"yes": True, "no": ""}
FINAL = {WorkflowState.COMPLETED, WorkflowState.FAILED, WorkflowState.ROLLED_BACK, WorkflowState.CANCELLED}
FLOW_ENDS = {
    WorkflowState.COMPLETED: "flow_completed",
    WorkflowState.FAILED: "flow_failed",
    WorkflowState.ROLLED_BACK: "flow_rolled_back",
    WorkflowState.CANCELLED: "flow_cancelled",
    WorkflowState.PAUSED: "flow_paused",
}
STEP_ENDS = {"step_completed", "step_failed", "step_skipped"}


@contextmanager
def ending(config: pytest.Config) -> Iterator[None]:
    """Where something hangs in here, have the interpreter end all the same: it would wait for pool threads.

    Nothing is traced: it would take far longer, and reach no line that other tests do not.
    """
    try:
        with untraced():
            yield
    except Hang:
        config.add_cleanup(lambda: faulthandler.dump_traceback_later(10, exit=True))
        raise


# -- random flows --------------------------------------------------------------------------------------

WORDS = (*["ok"] * 14, *["nap"] * 4, "fail", "fail", "give up", "retry after", "skip", "exit", "hang", "heed")
LIMITED = {"hang", "heed"}
"""Words of attempts that end only when they are told to, or never: their steps have a limit."""


@dataclass
class Story:
    """A flow, and what each call of its steps does: a word for each attempt, of which the last goes on for ever."""

    flow: FlowDef
    words: dict[tuple[str, str], tuple[str, ...]]
    stubborn: set[tuple[str, str]]
    sub_flows: list[FlowDef] = field(default_factory=list)
    calm: bool = False
    may_roll_back: bool = True

    def storage(self) -> InMemoryStorage:
        """Return a storage with the sub-flows."""
        return InMemoryStorage(self.sub_flows)

    @property
    def signals(self) -> list[str]:
        """The signals that the flow's own steps wait for, once for each."""
        return [step.config["signal"] for step in self.flow.walk() if step.step_type == "wait"]

    def __str__(self) -> str:
        lines = []
        for flow in (self.flow, *self.sub_flows):
            limit = "" if flow.timeout is None else f" timeout={flow.timeout:g}"
            lines.append(f"{flow.name}: {flow.mode}{limit} rollback={flow.rollback_on_failure}")
            names = {step.id: step.name for step in flow.walk()}
            for step in flow.walk():
                facts = {
                    "type": step.step_type,
                    "config": step.config,
                    "needs": [names[each] for each in step.depends_on],
                    "trigger": "" if step.trigger_mode is TriggerMode.ALL else str(step.trigger_mode),
                    "below": [each.name for each in step.sub_steps],
                    "retries": step.max_retries,
                    "timeout": step.timeout,
                    "condition": step.condition,
                    "once": not step.idempotent,
                    "undo": step.rollbackable,
                    "does": self.words.get((flow.name, step.name)),
                }
                shown = ", ".join(f"{name}={value}" for name, value in facts.items() if value or value == 0.0)
                lines.append(f"  {step.name}: {shown}")
        return "\n".join(lines)


def draw_story(chance: Random, *, nesting: int = 1, waits: bool = True, most: int = 8, calm: bool = False) -> Story:
    """Return a random flow; with *nesting*, some steps run flows of their own, that deep; some wait, with *waits*.

    A *calm* one has nothing that depends on time: nor does it sleep where a failure would end that.
    """
    story = Story(FlowDef("none"), {}, set(), calm=calm, may_roll_back=not calm or chance.random() < 0.6)
    story.flow = _draw_flow(chance, story, "flow", nesting=nesting, waits=waits, most=most)
    return story


def _draw_flow(chance: Random, story: Story, name: str, *, nesting: int, waits: bool, most: int) -> FlowDef:
    mode = chance.choice([*FlowMode, FlowMode.DAG])
    steps: list[StepDef] = []
    for place in range(chance.randint(1, most)):
        wiring: dict[str, Any] = {"condition": chance.choice([None] * 8 + ["inputs.yes", "inputs.no"])}
        if mode is FlowMode.DAG and steps:
            needs = chance.sample(steps, chance.randint(0, min(3, len(steps))))
            trigger = chance.choice([*TriggerMode, TriggerMode.ALL]) if needs else TriggerMode.ALL
            wiring |= {"depends_on": needs, "trigger_mode": trigger}
            if needs and trigger is TriggerMode.ALL and chance.random() < 0.2:
                wiring["condition"] = f"steps.{needs[0].name}.status == 'completed'"
        steps.append(_draw_step(chance, story, name, f"s{place}", nesting=nesting, waits=waits, wiring=wiring))
    if mode is FlowMode.HIERARCHICAL:
        steps = _draw_trees(chance, steps)
    elif mode is FlowMode.DAG:
        chance.shuffle(steps)
    rolls_back = story.may_roll_back and chance.random() < 0.4
    limit = None if story.calm else chance.choice([None] * 6 + [chance.uniform(0.002, 0.05)])
    return FlowDef(name, mode, steps=steps, rollback_on_failure=rolls_back, timeout=limit)


def _draw_step(
    chance: Random, story: Story, flow: str, name: str, *, nesting: int, waits: bool, wiring: dict[str, Any]
) -> StepDef:
    retries = chance.choice([0, 0, 1, 2])
    delay = chance.choice([0.0, 0.002])
    common = {"max_retries": retries, "retry_delay": delay, **wiring}
    kind = chance.random()
    if nesting and kind < 0.15:
        inner = f"{flow}-{name}"
        story.sub_flows.append(_draw_flow(chance, story, inner, nesting=nesting - 1, waits=waits, most=4))
        limit = chance.choice([None, None, 60.0 if story.calm else 0.02])
        return StepDef(name, step_type="sub_flow", config={"flow_name": inner}, timeout=limit, **common)
    if kind < 0.21 and not (story.calm and story.may_roll_back):
        return StepDef(name, step_type="sleep", config={"seconds": chance.choice([0.0, 0.003])}, **common)
    if waits and kind < 0.28:
        config: dict[str, Any] = {"signal": chance.choice(["go", "stop"])}
        if flow != "flow" or chance.random() < 0.4:  # nobody would know where to send a sub-flow's
            config["timeout"] = chance.choice([0.0, 0.003])
            if chance.random() < 0.7:
                config["default"] = "nobody came"
        return StepDef(name, step_type="wait", config=config, **common)
    known = [word for word in WORDS if not (story.calm and word in LIMITED)]
    words = tuple(chance.choice(known) for _ in range(chance.randint(1, 3)))
    story.words[flow, name] = words
    if chance.random() < 0.1:
        story.stubborn.add((flow, name))
    limit = chance.choice([None, None, None, 60.0, 60.0, 0.0 if chance.random() < 0.1 and not story.calm else None])
    if LIMITED & set(words):
        limit = chance.uniform(0.002, 0.02)
    return StepDef(name, timeout=limit, rollbackable=chance.random() < 0.4, idempotent=chance.random() < 0.75, **common)


def _draw_trees(chance: Random, steps: list[StepDef]) -> list[StepDef]:
    """Return a random forest of *steps*, whose depth-first order is theirs."""
    depths = [0]
    for _ in steps[1:]:
        depths.append(chance.randint(0, depths[-1] + 1))
    levels: list[list[StepDef]] = [[] for _ in range(max(depths) + 2)]
    for step, depth in zip(reversed(steps), reversed(depths), strict=True):
        below, levels[depth + 1] = levels[depth + 1], []
        levels[depth].insert(0, _with_sub_steps(step, below))
    return levels[0]


def _with_sub_steps(step: StepDef, below: Sequence[StepDef]) -> StepDef:
    return attrs.evolve(step, sub_steps=tuple(below))


# -- a handler that watches --------------------------------------------------------------------------


class Watcher:
    """Does what a story says, and knows at every moment which calls are under way.

    It is the handler, the rollback handler (`undo`) and the sink of events (`hear`) of an engine. `problems` has what
    it saw that must not be. `on_note` is called, with the number of things that have happened, after each.
    """

    def __init__(self, story: Story, room: int) -> None:
        self.story = story
        self.room = room
        self.problems: list[str] = []
        self.events: list[WorkflowEvent] = []
        self.calls: Counter[tuple[str, str]] = Counter()
        self.told: list[str] = []
        """The steps without any limit that were told to end while they ran."""
        self.release = threading.Event()
        self.on_note: Callable[[int], object] = lambda count: None
        self._under_way: dict[int, StepContext] = {}
        self._open = False
        self._notes = 0
        self._lock = threading.Condition()

    # -- what the engine calls --------------------------------------------------------------------------

    def __call__(self, ctx: StepContext) -> Any:
        """Do a step."""
        words = self.story.words[ctx.flow_name, ctx.step.name]
        with self._watched(ctx):
            return self._act(ctx, words[min(ctx.attempt, len(words)) - 1])

    def undo(self, ctx: StepContext) -> None:
        """Undo a step."""
        with self._watched(ctx, "undo "):
            if (ctx.flow_name, ctx.step.name) in self.story.stubborn:
                raise RuntimeError("will not be undone")

    def hear(self, event: WorkflowEvent) -> None:
        """Take an event."""
        self.events.append(event)
        if not self._open:
            self.problems.append(f"{event.event_type} of {event.step_name} after the end of the run")
        self._note()

    def _act(self, ctx: StepContext, word: str) -> Any:
        match word:
            case "fail":
                raise ValueError(f"{ctx.step.name} is broken")
            case "give up":
                raise GiveUp("hopeless")
            case "retry after":
                raise RetryAfter(0.001)
            case "skip":
                raise SkipStep("cancelled")  # a reason that the engine has, too: it must not take it for its own
            case "exit":
                raise SystemExit(3)
            case "nap":
                ctx.sleep(0.001)
            case "heed":
                ctx.sleep(LONG)
                ctx.check()
            case "hang":
                self.release.wait(LONG)
        return {"seen": sorted(dict(ctx.outputs)), "attempt": ctx.attempt}

    @contextmanager
    def _watched(self, ctx: StepContext, kind: str = "") -> Iterator[None]:
        with self._lock:
            self._begin(ctx, kind)
        self._note()
        try:
            yield
        finally:
            with self._lock:
                del self._under_way[id(ctx)]
                self._lock.notify_all()
                if ctx.cancelled and ctx.remaining() is None and not kind:
                    self.told.append(ctx.step.name)
            self._note()

    def _begin(self, ctx: StepContext, kind: str) -> None:
        name = f"{kind}{ctx.flow_name}/{ctx.step.name} #{ctx.attempt}"
        if not self._open and not ctx.cancelled:
            self.problems.append(f"{name} was called after the end of its run")
        live = [other for other in self._under_way.values() if not other.cancelled]
        for other in live:
            if (other.execution_id, other.step.name) == (ctx.execution_id, ctx.step.name):
                self.problems.append(f"{name} was called while it ran")
        if len(live) >= self.room and not ctx.cancelled:
            self.problems.append(f"{name} was called beside {len(live)} others, with room for {self.room}")
        self._under_way[id(ctx)] = ctx
        if self._open or not ctx.cancelled:  # else it was left behind just before it began
            self.calls[ctx.execution_id, kind + ctx.step.name] += 1

    def _note(self) -> None:
        with self._lock:
            self._notes += 1
            count = self._notes
        self.on_note(count)

    # -- what the test calls ------------------------------------------------------------------------------

    @contextmanager
    def run(self) -> Iterator[None]:
        """Stand around a call that runs the flow: outside of it nothing may begin, or be told."""
        self._open = True
        try:
            yield
        finally:
            with self._lock:
                self._open = False
                left = [ctx for ctx in self._under_way.values() if not ctx.cancelled]
            self.problems += [f"{ctx.step.name} still ran at the end of the run, and was not told" for ctx in left]

    @property
    def left_behind(self) -> int:
        """How many calls are under way."""
        with self._lock:
            return len(self._under_way)

    def drain(self) -> None:
        """Let handlers that hang end, and wait until they have."""
        self.release.set()
        with self._lock:
            assert self._lock.wait_for(lambda: not self._under_way, LONG)


# -- what must hold ------------------------------------------------------------------------------------


def summary(result: FlowResult) -> tuple[Any, ...]:
    """Return what a result says, times left out."""
    steps = [(step.step_name, str(step.status), step.output, step.error, step.attempts) for step in result.steps]
    return (result.execution_id, str(result.state), result.success, result.rolled_back, result.error, steps)


def check_result(flow: FlowDef, result: FlowResult) -> None:
    """One result per step, in the flow's order, and a state that agrees with them."""
    assert [step.step_name for step in result.steps] == [step.name for step in flow.walk()]
    assert result.success is (result.state is WorkflowState.COMPLETED)
    assert result.rolled_back is (result.state is WorkflowState.ROLLED_BACK)
    if result.state not in FINAL:
        assert result.state is WorkflowState.PAUSED
        return
    statuses = Counter(step.status for step in result.steps)
    assert not statuses[StepStatus.PENDING]
    assert not statuses[StepStatus.RUNNING]
    assert not statuses[StepStatus.ROLLED_BACK] or flow.rollback_on_failure
    stopped = any(step.error == "flow timeout exceeded" for step in result.steps)
    if result.success:
        assert not statuses[StepStatus.FAILED]
        assert not statuses[StepStatus.ROLLED_BACK]
        assert not stopped
    elif result.state is WorkflowState.FAILED:
        assert statuses[StepStatus.FAILED] or stopped or "not rolled back" in (result.error or "")
        if flow.rollback_on_failure:
            assert "not rolled back" in (result.error or "")
    elif result.state is WorkflowState.ROLLED_BACK:
        assert flow.rollback_on_failure
    else:
        assert not flow.rollback_on_failure
    if result.state is WorkflowState.ROLLED_BACK:
        undoable = {step.name for step in flow.walk() if step.rollbackable}
        left = {step.step_name for step in result.steps if step.status is StepStatus.COMPLETED}
        assert not undoable & left


def check_events(segments: Iterable[Sequence[WorkflowEvent]], flow: FlowDef, result: FlowResult) -> None:
    """Each run of an execution has one end, the last of its events; each step's events are in order, with one end.

    *segments* are the events of one run after the other, of which all but the last paused.
    """
    ends: Counter[str] = Counter()
    for segment in segments:
        by_execution: dict[str | None, list[WorkflowEvent]] = defaultdict(list)
        for event in segment:
            by_execution[event.execution_id].append(event)
        for execution_id, events in by_execution.items():
            _check_run(events)
            if execution_id == result.execution_id:
                ends.update(event.step_name or "" for event in events if event.event_type in STEP_ENDS)
                last = events[-1].event_type
    assert last == FLOW_ENDS[result.state]
    if result.state in FINAL:
        assert ends == Counter(step.name for step in flow.walk())


def _check_run(events: Sequence[WorkflowEvent]) -> None:
    kinds = [event.event_type for event in events]
    assert kinds[0] == "flow_started", kinds
    begins = [place for place, kind in enumerate(kinds) if kind == "flow_started"]
    for begin, end in pairwise([*begins, len(kinds)]):
        assert [kind for kind in kinds[begin:end] if kind in FLOW_ENDS.values()] == kinds[end - 1 : end], kinds
    if len(begins) > 1:  # a sub-flow that had completed, and was undone with what it belongs to
        assert len(begins) == 2, kinds
        assert kinds[begins[1] - 1] == "flow_completed", kinds
        assert set(kinds[begins[1] + 1 : -1]) <= {"step_retry", "step_timeout", "step_rollback"}, kinds
    by_step: dict[str, list[WorkflowEvent]] = defaultdict(list)
    for event in events:
        if event.step_name is not None:
            by_step[event.step_name].append(event)
    for name, own in by_step.items():
        _check_step(name, own)


def _check_step(name: str, events: Sequence[WorkflowEvent]) -> None:
    kinds = [event.event_type for event in events]
    told = f"{name}: {kinds}"
    places = [place for place, kind in enumerate(kinds) if kind in STEP_ENDS]
    assert len(places) <= 1, told
    assert kinds.count("step_started") <= 1, told
    assert kinds[0] == "step_started" or "step_started" not in kinds, told
    if places:
        after = kinds[places[0] + 1 :]  # undoing has the step's limit and its retries
        assert set(after) <= {"step_retry", "step_timeout", "step_rollback"}, told
        assert after.count("step_rollback") <= 1, told
        assert not after or after[-1] == "step_rollback", told
        end = events[places[0]]
        if end.event_type != "step_skipped" and end.attempt == 1:
            assert kinds[0] == "step_started", told
