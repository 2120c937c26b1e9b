"""Taking executions up: as new ones, after a crash, after a wait, or again."""

import logging
from collections.abc import Mapping
from typing import Final, get_args

import attrs

from szal.count import Count
from szal.engine.active import ActiveRuns
from szal.engine.binding import bind
from szal.engine.config import EngineConfig
from szal.engine.deciding import Resolution, nothing_to_decide, resolve, undecided
from szal.engine.directory import check_directory, moved
from szal.engine.interrupted import check_not_run, interrupted
from szal.engine.leased_store import LeasedStore
from szal.engine.leases import Heartbeat
from szal.engine.lineage import family_key, is_child_id, root_of, standing_sub_flow
from szal.engine.owners import owner_name
from szal.engine.pausing import pause_left
from szal.engine.recorded_flows import recorded_flow, stored_flow
from szal.engine.reopening import check_failed, reopened
from szal.engine.rerun import Rerun, spec_of
from szal.engine.secrets import check_showable, secrets_of
from szal.engine.spec import ExecutionSpec, IdFrom
from szal.engine.sub_flow_lookup import is_found
from szal.engine.waiting import new_signal_id
from szal.errors import (
    DefinitionMismatch,
    EncodeError,
    ExecutionNotFound,
    ExecutionOwned,
    HandlerNotFound,
    InvalidInputs,
    StoreError,
)
from szal.expressions.path import Json
from szal.logs import SafeLogger
from szal.model.definition import Definition, content_id, differences
from szal.model.fields import problem_of_text
from szal.model.flow import FlowDef
from szal.model.json import decode_checkpoint
from szal.model.json.text import as_recorded
from szal.model.results import FlowResult
from szal.model.state import WorkflowState
from szal.scheduler.cancel import CancellationToken
from szal.scheduler.plan import Plan
from szal.steps.resolving import Resolver
from szal.stores.ledger import Ledger, Signal, Snapshot
from szal.stores.queue import Submission

__all__ = ["Recovery"]

logger = SafeLogger(logging.getLogger(__name__))


_INTERRUPTED: Final = (WorkflowState.RUNNING, WorkflowState.ROLLING_BACK)


class Recovery:
    """An engine's dealings with the ledger of its store. Safe to use from several threads."""

    def __init__(self, config: EngineConfig, ledger: Ledger, resolver: Resolver, active: ActiveRuns) -> None:
        self._config = config
        self._resolver = resolver
        self._active = active
        self.ledger = ledger
        heartbeat = Heartbeat(ledger, owner_name(), float(config.lease_ttl))  # databases take no huge whole numbers
        self.leased = LeasedStore(config, ledger, heartbeat)
        self.taken_up = Count()
        """How many executions that were interrupted have been gone on with."""

    def admit(self, spec: ExecutionSpec, *, is_handed_out: bool) -> ExecutionSpec | FlowResult | None:
        """Return *spec* with a lease, for a new execution or the interrupted one of that id; or the stored result.

        An id that nobody has is not waited for: its run writes what is new with the rest. One that *is_handed_out* is,
        and one with a concurrency key, which may be taken (`ConcurrencyKeyTaken`); with the durability "none" it is
        queued. A rerun is recorded with what it keeps.
        None: no id was given, and the flow's own is taken.
        """
        leased, record = self.leased, spec.record
        is_flows = spec.id_from is IdFrom.FLOW
        if is_flows and self.ledger.knows(record.execution_id):  # without the write lock
            return None
        definition = Definition.of(spec.flow)
        new = leased.new(record, definition, steps=() if spec.snapshot is None else spec.snapshot.steps)
        is_waited_for = spec.snapshot is not None or record.concurrency_key is not None
        is_waited_for = is_waited_for or (is_handed_out and self._config.durability != "none")
        if spec.id_from is IdFrom.NOWHERE and not is_waited_for:
            if is_handed_out:
                leased.queue(new)
            return attrs.evolve(spec, epoch=new.epoch, new=new)
        if leased.claim(new):
            snapshot = None if spec.snapshot is None else attrs.evolve(spec.snapshot, epoch=new.epoch)
            return attrs.evolve(spec, epoch=new.epoch, snapshot=snapshot)
        if is_flows:
            return None
        self.leased.drain(record.execution_id)
        known = self._before_take_over(record.execution_id)
        if record.parent_execution_id not in (None, known.record.parent_execution_id):
            told = f"execution {record.execution_id} is there already, and is no rerun of {record.parent_execution_id}"
            raise ValueError(f"{told}: give another new_id")
        if known.content_id != definition.content_id:
            self._check_same(record.execution_id, known, spec.flow, definition.content_id)
        if known.record.state.is_live:
            check_directory(known.record, spec.plan, self._config)
        self._check_sub_flows(known, spec.flow, spec.plan)
        is_retried = spec.retries_failed and known.record.state is WorkflowState.FAILED
        if known.record.state.is_live or is_retried:
            secrets = secrets_of(known.record, spec.plan, spec.inputs, self._config, spec.redaction)
            spec = attrs.evolve(spec, secrets=secrets)
        root = root_of(self.ledger, known.record)
        if root.execution_id != record.execution_id:
            check_not_run(self.ledger, root)  # whose owner has its sub-flows too
        if spec.retries_failed and not known.record.state.is_live and known.record.state is not WorkflowState.COMPLETED:
            check_failed(known.record)
            return reopened(self.leased, self._config, spec, definition)
        return self.take_over(spec)

    def submit(
        self, spec: ExecutionSpec, queue: str, priority: int, not_before: float | None, connection: object
    ) -> bool:
        """Record *spec* for somebody else to begin; False where that was done before. Raises `DefinitionMismatch`."""
        definition = Definition.of(spec.flow)
        new = self.leased.new(spec.record, definition)
        submission = Submission(new=new, queue=queue, priority=priority, not_before=not_before)
        if self.leased.submit(submission, connection):
            return True
        execution_id = spec.record.execution_id
        try:
            known = self.ledger.read(execution_id, steps=False)
        except ExecutionNotFound:
            if connection is None:
                raise
            return False  # it was submitted in this same transaction, into which nobody else sees
        if known.content_id != definition.content_id:
            self._check_same(execution_id, known, spec.flow, definition.content_id)
        return False

    def _before_take_over(self, execution_id: str) -> Snapshot:
        """Return what has to be known of an execution before it is taken over.

        Its steps come with that. They are read here only where a migration, or the sub-flows of some, depend on them.
        """
        known = self.ledger.read(execution_id, steps=False)
        if known.flow is None or not known.record.state.is_live:
            return known
        plan = Plan.of(flow := recorded_flow(known.flow))
        has_sub_flows = any(plan.steps[place].step_type == "sub_flow" for place in plan.engine_steps)
        is_asked_for = has_sub_flows or flow.name in self._config.migrations
        return self.ledger.read(execution_id) if is_asked_for else known

    def _check_same(self, execution_id: str, known: Snapshot, flow: FlowDef, given: str) -> None:
        """Raise `DefinitionMismatch` unless the stored definition, brought forward, is *flow*, whose id is *given*."""
        if known.flow is None:
            raise DefinitionMismatch(execution_id, ("it has no recorded definition",))
        stored = stored_flow(execution_id, known, self._config)
        if content_id(stored) != given and (found := differences(stored, flow)):
            raise DefinitionMismatch(execution_id, found)

    def root_of(self, execution_id: str) -> str:
        """Return with which execution that one goes on: a sub-flow with what it belongs to, while that lives."""
        if not is_child_id(execution_id):
            return execution_id
        self.leased.drain()
        record = self.ledger.read(execution_id).record
        root = root_of(self.ledger, record)
        return root.execution_id if root.state.is_live else execution_id

    def resume(
        self, execution_id: str, token: CancellationToken | None, inputs: Mapping[str, Json] | None = None
    ) -> ExecutionSpec | FlowResult:
        """Return an execution as it goes on, taken over, or the result of one that has ended.

        *inputs* are those that were not recorded, as they are secret. To be called with its id taken: otherwise a run
        of this process may end in between, and its writes be refused.
        """
        self.leased.drain(execution_id, of_others=False)
        known = self._before_take_over(execution_id)
        if known.record.concurrency_key is not None:
            self.leased.drain()  # the end of another execution, which has had the key
        if not known.record.state.is_live and known.record.result is not None:
            return known.record.result
        if unknown := sorted((inputs or {}).keys() - known.record.secret_inputs):
            problems = (f"input {name!r} stays as it is recorded: a rerun takes another" for name in unknown)
            raise InvalidInputs(known.record.flow_name, tuple(problems))
        return self.take_over(self._as_it_goes_on(known, token, inputs or {}), known)

    def check(self, execution_id: str, *, elsewhere: bool) -> None:
        """Raise what keeps an execution from going on here, whoever runs it now; nothing where it has ended.

        *elsewhere*: it is to go on on another machine, whose directories nobody knows here.
        """
        self.leased.drain()
        known = self.ledger.read(execution_id)
        if known.record.state.is_live:
            self._as_it_goes_on(known, None, {}, elsewhere=elsewhere)

    def _as_it_goes_on(
        self,
        known: Snapshot,
        token: CancellationToken | None,
        inputs: Mapping[str, Json],
        *,
        elsewhere: bool = False,
    ) -> ExecutionSpec:
        """Return how an execution goes on; raise what keeps it from that, while nothing is taken over yet."""
        flow = stored_flow(known.record.execution_id, known, self._config)
        plan = Plan.of(flow)
        binding = bind(flow, plan, self._resolver, self._config)
        redaction, secrets = self._config.redaction(), dict[str, Json]()
        if not elsewhere:
            check_directory(known.record, plan, self._config)
            secrets = secrets_of(known.record, plan, inputs, self._config, redaction)
        self._check_sub_flows(known, flow, plan)
        return ExecutionSpec(
            flow=flow,
            plan=plan,
            binding=binding,
            record=known.record,
            token=token,
            secrets=secrets,
            redaction=redaction,
        )

    def take_over(self, spec: ExecutionSpec, known: Snapshot | None = None) -> ExecutionSpec | FlowResult:
        """Return *spec* with the lease that it goes on under, from where it stands; or the result that it has by now.

        *known* is how it was found a moment ago. Raises `ExecutionOwned` where somebody runs it, and
        `ExecutionNotFound`.
        """
        execution_id = spec.record.execution_id
        snapshot = self.leased.take_over(execution_id, known=known)
        if snapshot.epoch is None:
            if snapshot.record.result is None:
                raise ExecutionNotFound(execution_id)
            return snapshot.record.result
        if snapshot.record.state in _INTERRUPTED:
            self.taken_up.add()
        record = moved(snapshot.record, self._config.cwd)
        return attrs.evolve(spec, epoch=snapshot.epoch, snapshot=snapshot, record=record)

    def _check_sub_flows(
        self,
        known: Snapshot,
        flow: FlowDef,
        plan: Plan,
        *,
        brought: frozenset[str] = frozenset(),
        rolls_back: bool = False,
        is_undone: bool = False,
    ) -> None:
        """Raise what would keep the sub-flows of an execution from going on, while nothing is taken over yet.

        Of those that have begun and not ended the stored definitions count, for what is to begin there has to be one;
        and of those that have completed, where they are to be undone. What it is a sub-flow of has *brought* flows, and
        *rolls_back*.
        """
        if not (known.record.state.is_live or is_undone):
            return
        brought |= {sub_flow.name for sub_flow in flow.sub_flows}
        rolls_back = rolls_back or flow.rollback_on_failure
        is_undone = is_undone or (rolls_back and (known.cancelled or known.record.state is WorkflowState.ROLLING_BACK))
        steps = {plan.steps[place].name: plan.steps[place] for place in sorted(plan.engine_steps)}
        sub_flows = {name: step for name, step in steps.items() if step.step_type == "sub_flow"}
        checkpoints = {name: decode_checkpoint(data, name) for name, _, data in known.steps if name in sub_flows}
        for step in sub_flows.values():
            checkpoint = checkpoints.get(step.name)
            is_open = checkpoint is None or checkpoint.outcome is None
            if not is_open and not is_undone:
                continue
            _, child = standing_sub_flow(self.ledger, family_key(known.record), step)
            if child is not None:
                below = stored_flow(child.record.execution_id, child, self._config)
                plan_below = Plan.of(below)
                bind(below, plan_below, self._resolver, self._config, rolls_back=rolls_back)
                self._check_sub_flows(
                    child, below, plan_below, brought=brought, rolls_back=rolls_back, is_undone=is_undone
                )
            elif is_open and not is_found(step, brought, self._config.storage):
                raise HandlerNotFound((step.name,), "sub-flow")

    def interrupted(self, flow_name: str | None) -> list[str]:
        """Return the executions that nobody runs although they could go on; a sub-flow stands for its parent."""
        self.leased.drain()
        return interrupted(self.ledger, flow_name)

    def rerun(self, execution_id: str, wanted: Rerun) -> ExecutionSpec:
        """Return the spec of a new execution that keeps what completed in this one. Raises as `spec_of` does."""
        self.leased.drain(execution_id)
        return spec_of(self.ledger, self._config, self._resolver, execution_id, wanted)

    def is_rerun(self, execution_id: str, of: str) -> bool:
        """Whether there is an execution of that id, and it is a rerun of that other one."""
        try:
            return self.ledger.read(execution_id, steps=False).record.parent_execution_id == of
        except ExecutionNotFound:
            return False

    def signal_of(self, name: str, value: Json, signal_id: str | None) -> Signal:
        """Return a signal as it is sent. Raises `EncodeError`."""
        if name == "":
            raise ValueError("the name of the signal is empty")
        for what, text in (("name", name), ("signal_id", signal_id)):
            if text is not None and (problem := problem_of_text(text)) is not None:
                raise EncodeError(what, problem)
        check_showable(self._config.redaction(), f"the value of signal {name!r}", value)
        return Signal(new_signal_id() if signal_id is None else signal_id, name, as_recorded(value, "value")[0])

    def send(self, execution_id: str, signal: Signal) -> bool:
        """Keep a signal; False where one of that id was sent before, or the execution has ended."""
        self.leased.await_begin(execution_id)
        return self.ledger.send(execution_id, signal)

    def cancel(self, execution_id: str, *, runs_here: bool) -> bool:
        """Ask whoever runs an execution to cancel it; False where it has ended, be that committed or not."""
        if runs_here:
            self.leased.await_begin(execution_id)
        else:
            self.leased.drain()
        asked = self.ledger.request_cancel(execution_id)
        if not asked and (record := self.ledger.read(execution_id).record).state.is_live:
            raise StoreError(f"execution {execution_id} is {record.state}, but not of szal's engine: it cannot be told")
        if (
            asked
            and not runs_here
            and self.ledger.read(execution_id, steps=False).record.state is WorkflowState.CREATED
        ):
            self.ledger.queue.give_back([execution_id])  # whatever time it was to wait for
            self.ledger.queue.tell()
        return asked

    def pause(self, execution_id: str) -> bool:
        """Have whoever runs an execution pause it, or record that it is paused where nobody does.

        False where it has ended, or is undone.
        """
        asked = self.ledger.request_pause(execution_id)
        if asked and self._active.take(execution_id, pausing := object()):
            try:
                pause_left(self.leased, self._config.execution_store, execution_id)
            except ExecutionOwned:  # its owner hears of it
                pass
            finally:
                self._active.give_back(execution_id, pausing)
        return asked

    def resolve(self, execution_id: str, step: str, decision: Resolution, output: Json) -> None:
        """Write what became of a step of which nothing was known."""
        if decision not in get_args(Resolution):
            raise ValueError(f"decision is one of {', '.join(get_args(Resolution))}, not {decision!r}")
        if output is not None and decision != "completed":
            raise ValueError(f"output: only a step that counts as completed has one, and the decision is {decision!r}")
        output = as_recorded(output, "output")[1]
        check_showable(self._config.redaction(), "the output", output)
        self.leased.drain(execution_id)
        known = self.ledger.read(execution_id)
        if undecided(known, step) is None:
            is_paused = known.record.state is WorkflowState.PAUSED
            raise nothing_to_decide(execution_id, step, known.record.error if is_paused else None)
        root = root_of(self.ledger, known.record).execution_id
        deciding = object()
        if not self._active.take(root, deciding):  # this engine runs it, and its lease would not keep this engine out
            raise ExecutionOwned(root)
        try:
            resolve(self.leased, execution_id, step, decision, output)
        finally:
            self._active.give_back(root, deciding)
