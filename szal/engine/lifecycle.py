"""One execution from its first record to its last: its states, its steps, its undoing, its result."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from szal.engine.conclusion import ENDS, UNDONE_WITH_PARENT, copy_of, end_of, reason_of, result_of, without_exception
from szal.engine.config import EngineConfig
from szal.engine.durations import Durations
from szal.engine.finishing import final_run
from szal.engine.launching import Launcher
from szal.engine.leased_store import LeasedStore
from szal.engine.placing import Processing, is_elsewhere, placed
from szal.engine.recording import recording_of
from szal.engine.reporting import Reporter
from szal.engine.rollback import Rollback, in_texts
from szal.engine.spec import ExecutionSpec
from szal.engine.sub_flow_end import Completed
from szal.engine.sub_flows import SubFlows
from szal.engine.supervised import Supervised
from szal.engine.under_way import Told
from szal.engine.waiting import Waits
from szal.model.results import FlowResult, StepResult
from szal.model.state import Stop, WorkflowState
from szal.scheduler.attempt import clear_engine_frames
from szal.scheduler.call import Call
from szal.scheduler.context import Handler, StepContext
from szal.scheduler.loop import Scheduler
from szal.scheduler.memos import Memos
from szal.scheduler.plan import Node
from szal.scheduler.run import Run
from szal.scheduler.run_info import RunInfo
from szal.scheduler.stage import FAN_OUT, SUB_FLOW
from szal.steps.resolving import Resolver

if TYPE_CHECKING:
    from szal.engine.sharing import Shared
    from szal.stores.ledger import Snapshot

__all__ = ["Audience", "Lifecycle"]

_RUNNING, _ROLLING_BACK = WorkflowState.RUNNING, WorkflowState.ROLLING_BACK
_TRACES_KEPT: Final = 16
_ORPHANS_SHARE: Final = 1 / 3
"""Of the time that a lease lasts: at any moment two thirds of it are left, and the rest is for slow machines."""


class Audience(Protocol):
    """Who looks at executions, and what they are shown."""

    def watched(self, execution_id: str) -> Callable[[], object] | None:
        """Return what is called whenever something changes of an execution that somebody watches, or None."""

    def shared(self, execution_id: str, epoch: int, heard: Callable[[], object]) -> "Shared | None":
        """Return what keeps what the steps of an execution report, or None; *heard* is called with each report."""


class Lifecycle(Supervised):
    """Takes one execution through its states. All methods run on the coordinating thread, but for what is `Supervised`.

    `on_end` is called once, with the result, after the final record has been given to the store.
    """

    def __init__(
        self,
        what: ExecutionSpec | Completed,
        scheduler: Scheduler,
        resolver: Resolver,
        config: EngineConfig,
        on_end: "Callable[[Lifecycle, FlowResult], None]",
        *,
        leased: LeasedStore | None,
        durations: Durations,
        audience: Audience,
        processes: Processing,
    ) -> None:
        self.spec = spec = what.spec if isinstance(what, Completed) else what
        self.store_error: Exception | None = None
        """What a store of four methods raised first; the run went on, and this is raised at its end."""
        self.scheduler = scheduler
        self._resolver = resolver
        self._config = config
        self.on_end = on_end
        self._leased = leased
        self._durations = durations
        self._audience = audience
        self._processes = processes
        self.record = copy_of(spec.record)  # the result becomes part of it, and leads to frames that hold the spec
        execution_id = self.record.execution_id
        self.reporter = Reporter(config, spec.flow.name, execution_id, scheduler.now, audience.watched(execution_id))
        self.started = 0.0
        self._before = 0.0
        """How long it had been there when it was taken up here."""
        self.undo: Rollback | None = None
        self.knows_its_steps = spec.snapshot is None
        """Whether what is told of its steps is true: what the store has of them is put back, if there is anything."""
        self.undecided: list[Node] = []
        self.recording = recording_of(spec, config, leased, self)
        self.waits = Waits(scheduler, self.recording.journal)
        self.sub_flows = SubFlows(spec, config, resolver, leased)
        self._launcher = Launcher(scheduler, self.waits, self.sub_flows, self._make_child)
        journal = self.recording.journal
        self.shared = audience.shared(execution_id, 0 if journal is None else journal.epoch, self.reporter.changed)
        """What its steps have reported last, where that is shared."""
        self._rolls_back = spec.rolls_back
        self._launcher.keeps_completed = self._rolls_back and leased is None
        if isinstance(what, Completed):
            self.run = what.run
            self.sub_flows.completed.update(what.sub_flows)
        else:
            self.run = self._forward()
        self.told = Told(0 if journal is None else journal.epoch)
        if self.shared is not None:
            self.shared.has_ended = self._has_ended
        self.final: Run | None = None
        """Its finally steps, once all else is over."""
        self.driven = self.run
        """What is under way of it: its steps, their undoing, or its finally steps."""

    def _has_ended(self, step_name: str) -> bool:
        """Whether a step has its result. From any thread."""
        return self.run.results[self.run.plan.places[step_name]] is not None

    @property
    def children(self) -> "dict[Lifecycle, Call]":
        """Its sub-flows under way."""
        return self._launcher.children

    @property
    def left(self) -> list[str]:
        """What could not be undone of it and its sub-flows, as texts, in whatever state it ended."""
        if self.undo is not None:
            return self.undo.left
        return in_texts(self.run.plan, self._launcher.left_in(self.run).items())

    @property
    def is_driven(self) -> bool:
        """Whether it is under way, and it and its sub-flows in none of the moments between two states."""
        if self.record.state not in (_RUNNING, _ROLLING_BACK) or not self.scheduler.drives(self.driven):
            return False
        fan_outs = sum(map(self.scheduler.drives, self.driven.fan_outs.values()))
        stages = self.driven.stages
        is_between = self.sub_flows.beginning is not None or stages.count(FAN_OUT) != fan_outs
        return not is_between and stages.count(SUB_FLOW) == len(self.children)

    def _forward(self) -> Run:
        spec, config, journal = self.spec, self._config, self.recording.journal
        results: list[StepResult | None] = [None] * len(spec.plan.nodes)
        # Names of arguments would cost as much as a step of a chain: what is not given is set.
        info = RunInfo(
            spec.flow.name,
            self.execution_id,
            spec.inputs,
            spec.plan,
            results,
            [0] * len(results) if spec.plan.starts_early else [],
            is_recorded=self.recording.encode is not None,
            redaction=spec.redaction,
            memos=Memos(None if journal is None else journal.memo, spec.redaction),
        )
        info.cwd, info.token, info.clock = self.record.cwd, spec.token, self.scheduler.clock
        info.progress = config.progress_sink if self.shared is None else self.shared.into(config.progress_sink)
        handlers = self._surrounded(spec.binding.forward)
        run = Run(spec.plan, handlers, results, info, self._forward_done, partial(StepContext, info))
        run.watch = self.reporter if self.reporter.has_listeners else None
        run.launch, run.end_sub_flow, run.on_stop = self._launcher.launch, self._end_sub_flow, self._stopped
        run.on_failing = self._failing if self._rolls_back else None
        run.fail_fast = self._fail_fast if spec.flow.fail_fast else None
        run.encode = self.recording.encode
        run.inline = spec.token is None and not is_elsewhere(spec.flow, spec.plan, config)
        run.inline_as = config.inline
        if journal is not None:
            info.log, info.lease = journal, (self.execution_id, journal.epoch)
            info.orphan_grace = config.lease_ttl * _ORPHANS_SHARE
            run.log, run.on_undecided, run.relievable = journal, self._needs_decision, True
            run.commit_first = config.durability == "step"
        return run

    def _surrounded(self, handlers: Sequence[Handler | None]) -> Sequence[Handler | None]:
        """Return what does each step, within what the engine has around it, wherever that is."""
        return placed(self.spec.flow, self.spec.plan, handlers, self._config, self._processes)

    def _needs_decision(self, node: Node) -> None:
        self.undecided.append(node)

    def end_undecided(self) -> None:
        """Fail the steps that somebody would have to decide on: what it belongs to cannot wait for that."""
        nodes, self.undecided = self.undecided, []
        for node in nodes:
            self.scheduler.leave_open(self.run, node.key)

    # -- the states ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Record that the run has begun, or goes on, and have its steps started. Raises what the store raises."""
        self.started = self.scheduler.clock.monotonic()
        self.recording.open(self.record, self)
        if self.shared is not None:
            self.shared.follow(self.news_under_way, self.told.forget)
        limit = self._config.limit_of(self.spec.flow)
        ends = [self.spec.deadline, None if limit is None else self.started + limit]
        self.run.urgency = self._durations.urgency(self.spec.flow.name, self.spec.plan)
        self.run.deadline = min((end for end in ends if end is not None), default=None)
        is_marked = self._follow()
        self.reporter.flow("flow_started")
        if self.spec.snapshot is not None:
            self._go_on(self.spec.snapshot, is_marked=is_marked)
            return
        if is_marked:
            self.recording.save(self.record)
        self.scheduler.add(self.run)

    def restore(self, snapshot: "Snapshot") -> list[tuple[Node, float]]:
        """Put back what the store has of the steps; return those between two attempts, with when the next is due."""
        from szal.engine.restoring import restore  # only runs that go on need it

        assert self.recording.journal is not None
        restored = restore(snapshot, self.run, self.recording.journal, self.waits)
        self.undecided, self._launcher.not_undone = restored.undecided, restored.not_undone
        self.sub_flows.taken_over = restored.sub_flows
        if self.record.stop is not None and self.record.stop.ends:
            self.run.stop = self.run.info.stop = self.record.stop
            self.run.why = self.record.error
        self.knows_its_steps = True
        return restored.backing_off

    def _go_on(self, snapshot: "Snapshot", *, is_marked: bool) -> None:
        """Continue an execution: what has settled stands, what had only begun begins again.

        *is_marked*: there is something new in its record.
        """
        from szal.engine.restoring import open_sub_flows

        run, scheduler = self.run, self.scheduler
        if self.record.state is WorkflowState.CREATED:
            self.record.started_at = scheduler.clock.utc_now()
        self._before = self._age()
        backing_off = self.restore(snapshot)
        if self.record.state in (WorkflowState.CREATED, WorkflowState.PAUSED):
            self._become(_RUNNING)
            self.record.error = None
            self.record.stop = None if run.stop is None else self.record.stop
            is_marked = True
        if is_marked:
            self.recording.save(self.record)
        if self.spec.parent is None and snapshot.recoveries > self._config.max_recoveries:
            self.give_up(f"gave up after {self._config.max_recoveries} recoveries")
            return
        is_cancelled = run.stoppable and (snapshot.cancelled or scheduler.is_cancelled)
        all_stop = Stop.CANCELLED if is_cancelled else run.stop
        stopping = all_stop is not None
        if all_stop is Stop.TIMED_OUT:  # which ends this one and its sub-flows, and not what it belongs to
            run.deadline, all_stop = self.scheduler.clock.monotonic(), None
        # Sub-flows under way are taken up before anything can stop the run: nobody else would end them.
        begun = (node for node in open_sub_flows(run) if stopping or run.may_begin(node))
        children = {node: attempt for node in begun if (attempt := self.sub_flows.under_way(node))}
        for node in children:
            run.enter(node.place, SUB_FLOW)
        scheduler.add(run)
        for node, due in () if stopping else backing_off:
            if node not in children:
                scheduler.back_off(run, node, max(0.0, due - self.waits.now()))
        if run.plan.races and not stopping:
            scheduler.call(partial(scheduler.end_losers, run))
        if all_stop is not None:
            scheduler.end_all(all_stop, run.why)  # before they begin: they ask, and do the same
        for node, attempt in children.items():
            scheduler.launch(run, node, attempt)

    def give_up(self, error: str) -> None:
        """End as FAILED where it stands, with the sub-flows that are under way: nobody else would end them."""
        family = [self]
        for member in family:  # grows while it is read
            family += member._interrupted()
        for member in reversed(family):
            member.run.failed = True
            member.record.stop = Stop.GAVE_UP
            member._conclude(WorkflowState.FAILED, error)

    def _interrupted(self) -> "Iterator[Lifecycle]":
        """Yield its sub-flows that were under way, as they stand."""
        for node in self.run.plan.nodes:
            for spec in self.sub_flows.interrupted(node) if node.step.step_type == "sub_flow" else ():
                child = self._make_child(spec, _nobody)
                assert spec.snapshot is not None
                child.restore(spec.snapshot)
                if child.record.state is WorkflowState.PAUSED:
                    child._become(_RUNNING)
                yield child

    def _age(self) -> float:
        return max(0.0, self.scheduler.now() - self.record.started_at.timestamp())

    def took(self) -> float:
        """Return how long it has taken since it began, in whatever process that was."""
        return self._before + self.scheduler.clock.monotonic() - self.started

    def be_watched(self) -> None:
        """Tell, from now on, whoever watches it; somebody has begun to."""
        if (heard := self._audience.watched(self.execution_id)) is not None:
            self.reporter.heard = heard
            for run in (self.run, self.final, *self.run.fan_outs.values()):
                if run is not None and run.watch is None:
                    run.watch = self.reporter
            heard()

    def _become(self, state: WorkflowState) -> None:
        assert self.record.state.can_become(state), f"{self.record.state} -> {state}"
        self.record.state = state
        self.reporter.changed()

    def _stopped(self, run: Run, stop: Stop) -> None:
        """Record why the run stops, before any step is skipped for it."""
        self.record.stop, self.record.error = stop, run.why
        if self.recording.can_go_on:
            self.recording.save(self.record)

    def _failing(self) -> None:
        """Have it wait for nothing any more, soon: it is going to be undone, and that begins at once."""
        self.run.ends_waits = True  # what is put back before it is driven, too
        self.scheduler.afterwards(self.end_waits)

    def _fail_fast(self, run: Run, node: Node) -> None:
        """End it, soon, as a step has failed, or an item of one in a *run* of its own."""
        self.scheduler.call(partial(self._end_fast, run, node))

    def _end_fast(self, run: Run, node: Node) -> None:
        """Stop what still runs of it, its sub-flows too, and skip the rest."""
        own, failed = self.run, run.results[node.place]
        is_item = run is not own
        if not own.unsettled or own.is_over or self.scheduler.leaving is not None or failed is None:
            return
        if is_item and own.plan.places[node.step.name] in own.overruled:  # its step has lost a race
            return
        why = f"step {node.key!r} failed: {failed.error}" if is_item else reason_of(own, None)
        self._end([self], Stop.FAILED_FAST, why)

    def _end_sub_flow(self, node: Node) -> None:
        """Stop the sub-flow of a step, which has lost."""
        self._end([child for child, call in self.children.items() if call.node is node], Stop.CANCELLED)

    def _end(self, family: "list[Lifecycle]", stop: Stop, why: str | None = None) -> None:
        """Stop these, and their sub-flows; *why* says more of the first."""
        for member in family:  # grows while it is read
            family += member.children
            self.scheduler.end(member.run, stop, why)
            why = None

    def end_waits(self) -> None:
        """Skip what it and its sub-flows wait for."""
        family = [self]
        for member in family:  # grows while it is read
            family += member.children
        for member in family:
            self.scheduler.end_waits(member.run)

    def _forward_done(self, run: Run) -> None:
        failed = run.failed or run.stop is not None
        if failed and self._rolls_back:
            if self.record.state is not _ROLLING_BACK:
                self._become(_ROLLING_BACK)
                self.recording.save(self.record)
                self.recording.flush()
            self._undo()
        elif run.stop is Stop.CANCELLED:
            self._finish(WorkflowState.CANCELLED)
        else:
            self._finish(WorkflowState.FAILED if failed else WorkflowState.COMPLETED)

    def start_undoing(self) -> None:
        """Have it undone, or go on with that, as what it belongs to rolls back: it has completed itself.

        So it becomes ROLLING_BACK although no table has that: under a new lease, where there are any.
        """
        record, snapshot = self.record, self.spec.snapshot
        self.started, self._before = self.scheduler.clock.monotonic(), self._age()
        record.state, record.result, record.finished_at = _ROLLING_BACK, None, None
        self.recording.open(record, self)
        if snapshot is not None and self.recording.journal is not None:
            self.restore(snapshot)
        self._follow()
        self.recording.save(record)
        self.reporter.flow("flow_started")
        self._undo()

    def _follow(self) -> bool:
        """Tell who follows runs that this one begins; return whether anything is to be recorded for that."""
        marks = self.reporter.begins(self.record, self.spec.step)
        if marks:
            self.record.traceparents = (*self.record.traceparents, *marks)[-_TRACES_KEPT:]
        return bool(marks)

    def _undo(self) -> None:
        run, launcher, journal = self.run, self._launcher, self.recording.journal
        handlers = self._surrounded(self.spec.binding.undo)
        left = launcher.left_in(run, below := launcher.completed_below(run))
        reason = reason_of(run, None) or UNDONE_WITH_PARENT
        rollback = self.undo = Rollback(
            run, handlers, self.reporter, journal, left, completed_below=below, reason=reason
        )
        self.driven = rollback.run(self._undo_done, partial(launcher.launch_undo, rollback=rollback, forward=run))
        self.scheduler.add(self.driven)

    def _undo_done(self, run: Run) -> None:  # noqa: ARG002
        assert self.undo is not None
        self._finish(WorkflowState.FAILED if self.undo.left else WorkflowState.ROLLED_BACK)

    def _finish(self, state: WorkflowState) -> None:
        """End in *state*, once the finally steps have run: nothing that stopped the others stops these."""
        self._durations.learn(self.spec.flow.name, self.run)
        if not self.spec.plan.finals:
            self._conclude(state)
            return
        run = final_run(self.run, end_of(self.run, self.undo, state), partial(self._finished, state))
        snapshot, journal = self.spec.snapshot, self.recording.journal
        backing_off: list[tuple[Node, float]] = []
        if snapshot is not None and journal is not None:
            from szal.engine.restoring import restore

            backing_off = restore(snapshot, run, journal, self.waits).backing_off
        self.driven = self.final = run
        self.scheduler.add(run)
        for node, due in backing_off:
            self.scheduler.back_off(run, node, max(0.0, due - self.waits.now()))

    def _finished(self, state: WorkflowState, run: Run) -> None:  # noqa: ARG002
        self._conclude(state)

    def _conclude(self, state: WorkflowState, error: str | None = None) -> None:
        self._become(state)
        result = result_of(self.spec, self.run, self.took(), state, error or reason_of(self.run, self.undo))
        self.record.result, self.record.error = result, result.error
        self.record.finished_at = max(self.record.started_at, datetime.fromtimestamp(self.scheduler.now(), UTC))
        self.recording.save(self.record)
        if self.recording.encode is not None:
            for step in result.steps:  # the user's own from here on
                step.encoded = step.encoded_output = None
                for item in step.items or ():
                    item.encoded = item.encoded_output = None
        self.recording.release()
        if self.spec.parent is None:
            self.recording.flush()
        try:
            self.reporter.flow(ENDS[state], duration=result.total_duration, error=result.error)
        finally:  # an interruption that comes up in a sink does not undo the end
            self._over(result)

    def _over(self, result: FlowResult) -> None:
        self.store_error = self.recording.error or self._launcher.store_error
        self.on_end(self, result)

    def pause(self, error: str | None, wake: float | None, awaits: Sequence[str]) -> None:
        """End the run as PAUSED: it holds no thread, and any process can take it up again.

        That is at *wake* (Unix time), or when one of the signals *awaits* has come; with neither, when a person asks.
        """
        self._become(WorkflowState.PAUSED)
        result = result_of(self.spec, self.run, self.took(), WorkflowState.PAUSED, error)
        self.record.result, self.record.error = result, error
        self.recording.save(self.record)
        self.recording.release(wake, awaits)
        self.scheduler.drop(self.driven)
        if self.spec.parent is None:
            self.recording.flush()
        try:
            self.reporter.flow("flow_paused", duration=result.total_duration, error=error)
        finally:
            if self.spec.parent is None:
                self._over(result)

    def release(self) -> None:
        """Let go of everything, now that the run is over: nothing of it has to be found by the garbage collector."""
        self.recording.close()
        if self.shared is not None:
            self.shared.close()
        self.waits.forget()
        _clear_items(self.run)
        self.run.release()
        if self.final is not None:
            _clear_items(self.final)
            self.final.release()
            self.run.raised += self.final.raised
        for place in self.run.raised:  # a traceback leads to a context, and that to these results
            result = self.run.results[place]
            if result is not None and result.exception is not None:
                clear_engine_frames(result.exception)
                self.run.results[place] = without_exception(result)
        self._launcher.release()
        self.on_end = _nobody
        self.undo = None
        self.driven = self.run
        self.reporter.ends()

    # -- steps that the engine does itself ------------------------------------------------------------

    def _make_child(
        self, what: ExecutionSpec | Completed, on_end: "Callable[[Lifecycle, FlowResult], None]"
    ) -> "Lifecycle":
        """Return the lifecycle of a sub-flow, that is to run or to be undone."""
        is_final = self.final is not None or not self.run.stoppable
        if is_final and isinstance(what, ExecutionSpec):
            what = attrs.evolve(what, token=None)
        child = Lifecycle(
            what,
            self.scheduler,
            self._resolver,
            self._config,
            on_end,
            leased=self._leased,
            durations=self._durations,
            audience=self._audience,
            processes=self._processes,
        )
        child.run.ends_waits = child.run.ends_waits or self.run.ends_waits or is_final
        child.run.stoppable = not is_final
        if is_final:
            child.run.on_undecided = None
        return child

    def as_completed(self) -> Completed:
        """Return what is kept of a sub-flow that has completed, so that it can be undone."""
        return Completed(attrs.evolve(self.spec, record=self.record), self.run, {**self.sub_flows.completed})


def _clear_items(run: Run) -> None:
    """Have what items raised lead to no frame of the engine's."""
    for items in run.fan_outs.values():
        for result in (items.results[index] for index in items.raised):
            if result is not None and result.exception is not None:
                clear_engine_frames(result.exception)


def _nobody(*_: object) -> None: ...
