"""Sub-flows: the executions that sub_flow steps stand for."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from szal.engine.binding import Binding, bind, check_configs, undo_handler
from szal.engine.config import EngineConfig
from szal.engine.directory import moved
from szal.engine.leased_store import LeasedStore
from szal.engine.lineage import (
    can_be_undone,
    child_id,
    family_key,
    last_sub_flow,
    left_by,
    standing_sub_flow,
    sub_flows_of,
)
from szal.engine.recorded_flows import recorded_flow, stored_flow
from szal.engine.secrets import Hidden, hide
from szal.engine.spec import ExecutionSpec, compiled, given_inputs
from szal.engine.sub_flow_end import Completed, Ended, sub_flow_failed
from szal.engine.sub_flow_lookup import sub_flow_called
from szal.errors import (
    ExecutionNotFound,
    HandlerNotFound,
    InvalidFlow,
    InvalidInputs,
    SubFlowError,
)
from szal.expressions.path import Json
from szal.model.config import faults_in
from szal.model.flow import FlowDef
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.model.step import StepDef
from szal.scheduler.call import Call
from szal.scheduler.plan import Node, Plan
from szal.steps.resolving import Resolver

if TYPE_CHECKING:
    from szal.stores.ledger import Snapshot
    from szal.stores.writes import StepRows

__all__ = ["SubFlows"]


class SubFlows:
    """The sub-flows of one execution, which *parent* is the spec of.

    `taken_over` has, by place, the executions of an earlier parent that steps stand for: of what completed to be
    undone, of what did not to be run again. `completed` has those that ended here, where only this process knows them.
    """

    def __init__(
        self, parent: ExecutionSpec, config: EngineConfig, resolver: Resolver, leased: LeasedStore | None
    ) -> None:
        self._parent = parent
        self._config = config
        self._resolver = resolver
        self._leased = leased
        self.taken_over: Mapping[int, str] = {}
        self.completed: dict[int, Completed] = {}
        self.beginning: str | None = None
        """One that the store may have as under way, and that has no lifecycle here yet. Read by any thread."""

    def spec_of(self, call: Call) -> "ExecutionSpec | Ended":
        """Return what a call of a sub_flow step is to run: a new execution, or one that a crash left; or how it ended.

        Raises `SubFlowError` for what keeps it from being run, `LeaseLost` where somebody has taken the parent over.
        """
        config = call.run.new_context(call.node, call.number, call).config
        if faults := faults_in("sub_flow", config, rendered=True):
            raise SubFlowError(str(faults[0]))
        inputs = config.get("inputs") or {}
        execution_id = child_id(family_key(self._parent.record), call.node.step.name, call.number)
        known = self._known(execution_id)
        if known is not None and known.epoch is None and known.record.result is not None:
            return Ended.of(known, known.record.result, self._left_by(known))
        self.beginning = None if known is None else execution_id
        earlier = self._earlier(call) if known is None else None
        if isinstance(earlier, Ended):
            return earlier
        stored = known or earlier
        flow = (
            sub_flow_called(config["flow_name"], self._parent, self._config)
            if stored is None
            else self._stored_flow(stored)
        )
        flow, plan, binding = self._compiled(flow, is_new=stored is None)
        given = self._given(flow, plan, inputs, None if known is None else known.record)
        record = ExecutionRecord(
            execution_id,
            flow.name,
            WorkflowState.RUNNING,
            started_at=self._config.clock.utc_now(),
            inputs=given.recorded,
            secret_inputs=tuple(given.secrets),
            flow_id=flow.id,
            flow_version=flow.version,
            parent_execution_id=self._parent.record.execution_id,
            cwd=self._parent.record.cwd,
            file=self._parent.record.file,
        )
        spec = ExecutionSpec(
            flow=flow,
            plan=plan,
            binding=binding,
            record=record,
            token=self._parent.token,
            parent=self._parent,
            step=call.node.step,
            deadline=call.deadline,
            secrets=given.secrets,
            redaction=self._parent.redaction,
        )
        return self._begun(spec, earlier) if known is None else self._taken_over(spec)

    def _given(self, flow: FlowDef, plan: Plan, inputs: Json, known: ExecutionRecord | None) -> Hidden:
        """Return what a sub-flow is given: *inputs*, or what is *known* of it, with what was not recorded of that.

        Raises `SubFlowError` for inputs that it does not take.
        """
        if known is not None and not known.secret_inputs:
            return Hidden(dict(known.inputs), {})
        try:
            given = given_inputs(flow, plan, inputs, self._config)
        except InvalidInputs as error:
            raise SubFlowError(str(error)) from error
        hidden = hide(plan, given, self._parent.redaction)
        if known is None:
            return hidden
        return Hidden(dict(known.inputs), {name: given[name] for name in known.secret_inputs if name in given})

    def _compiled(self, flow: FlowDef, *, is_new: bool = False) -> tuple[FlowDef, Plan, Binding]:
        try:
            flow, plan = compiled(flow, self._config, self._resolver)
            binding = bind(flow, plan, self._resolver, self._config, rolls_back=self._parent.rolls_back)
            if is_new:
                check_configs(flow, plan, binding)
            return flow, plan, binding
        except (InvalidFlow, HandlerNotFound) as error:
            raise SubFlowError(f"sub-flow {flow.name!r}: {error}") from error

    def _stored_flow(self, known: "Snapshot") -> FlowDef:
        return stored_flow(known.record.execution_id, known, self._config)

    def _known(self, execution_id: str) -> "Snapshot | None":
        """Return the sub-flow that a crash or a pause interrupted, if it had begun."""
        if self._leased is None or self._parent.snapshot is None:
            return None
        return self._read(execution_id)

    def _read(self, execution_id: str) -> "Snapshot | None":
        assert self._leased is not None
        try:
            known: Snapshot = self._leased.read(execution_id)
        except ExecutionNotFound:
            return None
        return known

    def _earlier(self, call: Call) -> "Snapshot | Ended | None":
        """Return the sub-flow of an earlier execution that the first attempt is a rerun of, if it is one.

        Where something before the step has run again all of it begins anew; where steps of it could not be undone,
        nothing does.
        """
        place = call.node.place
        if place not in self.taken_over or call.number > 1:
            return None
        earlier = self._read(self.taken_over[place])
        if earlier is None:
            return None
        left = self._left_by(earlier)
        if left:
            record = earlier.record
            problem = f"sub-flow {record.flow_name!r} is not run again on top of what execution {record.execution_id}"
            return Ended(None, SubFlowError(f"{problem} has left: {', '.join(left)}"), is_final=True)
        return earlier if place in call.run.kept else None

    def _begun(self, spec: ExecutionSpec, earlier: "Snapshot | None") -> ExecutionSpec:
        """Return *spec* with a lease, where executions have one, and with what it keeps of an *earlier* one."""
        if self._leased is None:
            return spec
        from szal.engine.kept_rows import kept_rows
        from szal.model.definition import Definition
        from szal.stores.ledger import Snapshot

        steps: StepRows = ()
        if earlier is not None:
            steps = kept_rows(self._leased, earlier, spec.plan, ())

        # One of that id has been left over by an execution that was removed, and whose id its parent has now.
        definition = Definition.of(spec.flow)
        new = self._leased.new(spec.record, definition, steps=steps, under=self._parent.lease, replace=True)
        waits = self._config.durability != "none"  # else it is written with the rest
        if waits:
            self.beginning = spec.record.execution_id
            self._leased.claim(new)
        snapshot = None if earlier is None else Snapshot(record=spec.record, epoch=new.epoch, steps=steps)
        return attrs.evolve(spec, epoch=new.epoch, new=None if waits else new, snapshot=snapshot)

    def _taken_over(self, spec: ExecutionSpec) -> ExecutionSpec:
        """Return *spec* as it goes on."""
        assert self._leased is not None
        snapshot = self._leased.take_over(spec.record.execution_id, under=self._parent.lease)
        record = moved(snapshot.record, self._parent.record.cwd)
        return attrs.evolve(spec, epoch=snapshot.epoch, snapshot=snapshot, record=record)

    def under_way(self, node: Node) -> int:
        """Return the attempt whose sub-flow has begun and not ended, or completed, as the store has it; 0: none."""
        assert self._leased is not None
        return standing_sub_flow(self._leased, family_key(self._parent.record), node.step)[0]

    def interrupted(self, node: Node) -> Iterator[ExecutionSpec]:
        """Take over, one after another, the sub-flows of the step *node* that a crash interrupted: to end them."""
        assert self._leased is not None
        begun = sub_flows_of(self._leased, family_key(self._parent.record), node.step)
        execution_ids = [child.record.execution_id for _, child in begun]
        if node.place in self.taken_over:
            execution_ids.append(self.taken_over[node.place])
        for execution_id in execution_ids:
            child = self._read(execution_id)
            if child is None or not child.record.state.is_live:
                continue
            snapshot = self._leased.take_over(execution_id, under=self._parent.lease)
            if snapshot.epoch is None or snapshot.flow is None:
                continue
            flow = recorded_flow(snapshot.flow)
            plan = Plan.of(flow)
            yield ExecutionSpec(
                flow=flow,
                plan=plan,
                binding=Binding([None] * len(plan.nodes), ()),
                record=snapshot.record,
                parent=self._parent,
                step=node.step,
                epoch=snapshot.epoch,
                snapshot=snapshot,
                redaction=self._parent.redaction,
            )

    def completed_before(self, node: Node) -> bool:
        """Whether the last sub-flow of *node*, which failed, has completed, as the store has it since before this run.

        One that is being undone has.
        """
        if self._leased is None or self._parent.snapshot is None:
            return False
        last = last_sub_flow(self._leased, family_key(self._parent.record), node.step)
        return last is not None and last.record.state in (WorkflowState.COMPLETED, WorkflowState.ROLLING_BACK)

    def left_before(self, node: Node) -> list[str]:
        """Return what the last sub-flow of *node* could not undo, as the store has it since before this run.

        One that was taken over from an earlier execution counts: what it has left is still there.
        """
        if self._leased is None or self._parent.snapshot is None:
            return []
        taken_over = self.taken_over.get(node.place)
        last = last_sub_flow(self._leased, family_key(self._parent.record), node.step, taken_over)
        return [] if last is None else self._left_by(last)

    def _left_by(self, known: "Snapshot") -> list[str]:
        assert self._leased is not None, "what is known was read there"
        return left_by(self._leased, known)

    # -- undoing ---------------------------------------------------------------------------------------

    def undo_of(
        self, node: Node, attempt: int, inputs: Callable[[], Json], *, is_taken_over: bool
    ) -> "ExecutionSpec | Completed | Ended | None":
        """Return what undoes the sub-flow that *node* completed with, in that attempt; None: there is nothing to undo.

        *inputs* returns what it was given, if that was not recorded. *is_taken_over*: it is one of `taken_over`.
        Raises `SubFlowError` for what keeps it from being undone.
        """
        if self._leased is None:
            done = self.completed.get(node.place)
            return done if done is not None and done.can_be_undone else None
        execution_id = self.taken_over.get(node.place) if is_taken_over else None
        execution_id = execution_id or child_id(family_key(self._parent.record), node.step.name, attempt)
        self._leased.drain()
        known = self._read(execution_id)
        if known is None:
            raise SubFlowError(f"sub-flow {execution_id} is not in the store any more")
        state = known.record.state
        if state is WorkflowState.COMPLETED:
            if not can_be_undone(self._leased, known, self._is_undone):
                return None
        elif not state.is_live:  # it was undone before a crash
            error = None if state is WorkflowState.ROLLED_BACK else sub_flow_failed(known.record)
            return Ended(None, error)
        flow = self._stored_flow(known)
        flow, plan, binding = self._compiled(flow)
        given = self._given(flow, plan, inputs() if known.record.secret_inputs else {}, known.record)
        self.beginning = execution_id
        snapshot = self._leased.take_over(execution_id, under=self._parent.lease, reopen=True)
        return ExecutionSpec(
            flow=flow,
            plan=plan,
            binding=binding,
            record=moved(snapshot.record, self._parent.record.cwd),
            parent=self._parent,
            step=node.step,
            epoch=snapshot.epoch,
            snapshot=snapshot,
            secrets=given.secrets,
            redaction=self._parent.redaction,
        )

    def _is_undone(self, step: StepDef, flow_name: str) -> bool:
        return undo_handler(step, flow_name, self._resolver, self._config) is not None
