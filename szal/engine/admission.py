"""What an engine may run: calls are checked here, and executions recorded, or found, before anything of them runs."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from szal.engine.active import ActiveRuns
from szal.engine.binding import bind, check_configs, unbound
from szal.engine.config import EngineConfig
from szal.engine.directory import first_directory
from szal.engine.leased_store import LeasedStore
from szal.engine.secrets import Hidden, had_later, hide, told_masked
from szal.engine.spec import ExecutionSpec, IdFrom, compiled, given_inputs
from szal.errors import ExecutionNotFound, FlushTimeout, InvalidInputs, SzalError
from szal.expressions.path import Json
from szal.model.bounds import ANYTHING, Bounds
from szal.model.concurrency import key_of
from szal.model.fields import problem_of_text
from szal.model.flow import Defined, FlowDef, definition_of
from szal.model.json import checked_labels
from szal.model.json.text import as_recorded
from szal.model.results import ExecutionRecord, FlowResult
from szal.model.state import WorkflowState
from szal.model.step import new_id
from szal.per_process import PerProcess
from szal.scheduler.cancel import CancellationToken, check_token
from szal.steps.resolving import Resolver, check_all_used

if TYPE_CHECKING:
    from szal.engine.ending import Endings
    from szal.engine.recovery import Recovery
    from szal.engine.shared_limits import SharedLimits
    from szal.engine.sharing import Shared, Sharing
    from szal.engine.status import ExecutionStatus
    from szal.engine.watching import Watchers
    from szal.stores.ledger import Ledger, Signal

__all__ = ["Admission", "under_new_id"]


class Admission:
    """An engine's checks, and its dealings with its store, whichever that is. From any thread."""

    def __init__(self, config: EngineConfig, resolver: Resolver) -> None:
        self.active = ActiveRuns()
        self._config = config
        self._resolver = resolver
        self._ledger = _ledger_of(config)
        self._recovery = PerProcess["Recovery"]()
        self._watchers = PerProcess["Watchers"]()
        self._sharing: Sharing | None = None
        self._taken = _Remembered()
        """Ids of flows under which there is an execution."""

    def spec_of(
        self,
        flow: "FlowDef | Defined",
        inputs: Mapping[str, Json] | None,
        execution_id: str | None,
        cancel: CancellationToken | None,
        labels: Mapping[str, str] | None,
    ) -> ExecutionSpec:
        """Return what is to be run, checked; nothing is recorded yet."""
        check_token(cancel)
        return self._spec_of(flow, inputs, execution_id, cancel, labels, is_submitted=False)

    def submission_of(
        self,
        flow: "FlowDef | Defined",
        inputs: Mapping[str, Json] | None,
        execution_id: str | None,
        labels: Mapping[str, str] | None,
    ) -> ExecutionSpec:
        """Return what is to be run by somebody else, checked: as far as that can be done without its handlers."""
        spec = self._spec_of(flow, inputs, execution_id, None, labels, is_submitted=True)
        spec.record.state = WorkflowState.CREATED
        spec.record.traceparents = self._config.sinks.run_submitted(spec.record)
        return spec

    def _spec_of(
        self,
        flow: "FlowDef | Defined",
        inputs: Mapping[str, Json] | None,
        execution_id: str | None,
        cancel: CancellationToken | None,
        labels: Mapping[str, str] | None,
        *,
        is_submitted: bool,
    ) -> ExecutionSpec:
        self.active.check_open()
        self.check_id(execution_id)
        flow = definition_of(flow)
        if execution_id is not None:
            id_from = IdFrom.CALLER
        else:
            id_from = IdFrom.NOWHERE if is_submitted or flow.id in self._taken else IdFrom.FLOW
        flow, plan = compiled(flow, self._config, self._resolver)
        binding = unbound(plan) if is_submitted else bind(flow, plan, self._resolver, self._config)
        check_configs(flow, plan, binding)
        if not is_submitted:
            check_all_used(self._resolver, self._flows_with(flow))
        execution_id = execution_id or (flow.id if id_from is IdFrom.FLOW else new_id())
        redaction = self._config.redaction()
        try:
            later = had_later(plan, inputs, self._config) if is_submitted else ()
            given = hide(plan, given_inputs(flow, plan, inputs, self._config, later=later), redaction, later=later)
        except InvalidInputs as error:
            raise told_masked(error, inputs, redaction) from None
        record = ExecutionRecord(
            execution_id,
            flow.name,
            WorkflowState.RUNNING,
            started_at=self._config.clock.utc_now(),
            inputs=given.recorded,
            secret_inputs=tuple(given.secrets),
            flow_id=flow.id,
            flow_version=flow.version,
            labels=as_recorded(checked_labels(labels), "labels")[1] if labels else {},
            cwd=first_directory(execution_id, flow, plan, self._config),
            file=flow.file,
            concurrency_key=self._key_of(flow, given),
        )
        secrets = given.secrets
        return ExecutionSpec(flow, plan, binding, record, id_from, cancel, secrets=secrets, redaction=redaction)

    def _key_of(self, flow: FlowDef, given: "Hidden") -> str | None:
        """Return the key of an execution that is given that. Raises `InvalidInputs`."""
        key = key_of(flow.name, flow.concurrency_key, given.recorded, given.secrets)
        if key is not None and (problem := self._bounds.problem_of_key(key)) is not None:
            raise InvalidInputs(flow.name, (f"the concurrency_key that they make {problem}",))
        return key

    def _flows_with(self, flow: FlowDef) -> Iterator[FlowDef]:
        """Yield *flow* and all others that are known."""
        yield from (flow, *flow.sub_flows)
        if self._config.storage is not None:
            yield from map(definition_of, self._config.storage.list())

    @property
    def _bounds(self) -> Bounds:
        """What the store can hold."""
        return ANYTHING if self._ledger is None else self._ledger.bounds

    def check_id(self, execution_id: str | None) -> None:
        """Raise TypeError or ValueError for what can be no execution's id."""
        if execution_id is None:
            return
        given: object = execution_id
        if not isinstance(given, str):
            raise TypeError(f"execution_id must be a string, not {type(given).__name__}: use str()")
        if execution_id == "":
            raise ValueError("execution_id is empty")
        problem = problem_of_text(execution_id) or self._bounds.problem_of_key(execution_id)
        if problem is not None:
            raise ValueError(f"execution_id {problem}")

    def check_asked_for(self, execution_id: str) -> None:
        """Raise TypeError for what is no id, and `ExecutionNotFound` for one that no store can have."""
        given: object = execution_id
        if not isinstance(given, str):
            raise TypeError(f"execution_id must be a string, not {type(given).__name__}: use str()")
        if problem_of_text(given) is not None:
            raise ExecutionNotFound(execution_id)

    def admit(
        self, spec: ExecutionSpec, *, is_handed_out: bool = False, signal: "Signal | None" = None
    ) -> ExecutionSpec | FlowResult | None:
        """Return *spec* as it is to run, or the result that there is under its id.

        What may be somebody else's id is recorded then; where it *is_handed_out* every execution is, or, with the
        durability "none", queued. None: no id was given, and the flow's own is taken by an earlier execution.
        What runs is sent *signal* before it does.
        """
        store, key = self._config.execution_store, spec.record.concurrency_key
        if key is not None and not self.has_ledger:
            self.active.take_key(key, spec.record.execution_id)
        if store is None:
            return spec
        if self.has_ledger:
            found = self.recovery().admit(spec, is_handed_out=is_handed_out)
        else:
            record = None if spec.id_from is IdFrom.NOWHERE else store.get(spec.record.execution_id)
            ended = spec.id_from is IdFrom.CALLER and record is not None and not record.state.is_live
            found = spec if record is None else record.result if ended else None
        if spec.id_from is IdFrom.FLOW:
            self._taken.add(spec.record.execution_id)
        if signal is not None and isinstance(found, ExecutionSpec):
            self.recovery().send(spec.record.execution_id, signal)
        return found

    @property
    def has_ledger(self) -> bool:
        """Whether the store is one of szal's own: somebody else could go on with what is in it."""
        return self._ledger is not None

    def look(self, execution_id: str) -> "ExecutionStatus":
        """Return how far an execution has come: as it runs here, else as the store has it.

        A run that pauses is RUNNING to everybody until that is written: then the store tells what it waits for. Until
        then nobody waits for that, as whoever asks may have the lock that it takes.
        """
        from szal.engine.view import status_of  # few ask

        found = self._look_here(execution_id)
        if found is not None:
            return found
        store = self._config.execution_store
        record = None if store is None else store.get(execution_id)
        if store is None or record is None:
            raise ExecutionNotFound(execution_id)
        recovery = self.recovery_if_made()
        if recovery is not None and record.state is WorkflowState.PAUSED:
            recovery.leased.drain(execution_id)  # with the durability "none" its rows come after the end of its run
        return status_of(store, record)

    def _look_here(self, execution_id: str) -> "ExecutionStatus | None":
        """Return how far an execution has come that runs here; None: it does not, or its store knows more."""
        from szal.engine.status import with_queued  # few ask

        for driver in self.active.having(execution_id):
            found = driver.look(execution_id)
            if found is not None and found.state is WorkflowState.PAUSED:
                if self._is_written():
                    break
                found.record.state = WorkflowState.RUNNING
            if found is not None:
                return found if self._ledger is None else with_queued(self._ledger, found)
        return None

    def watchers(self) -> "Watchers":
        """Return all who watch executions, in this process."""
        from szal.engine.watching import Watchers  # few watch

        return self._watchers.get_or_make(
            lambda: Watchers(self._config.execution_store, self.active, self._look_here),
        )

    def watching(self) -> "Watchers | None":
        """Return them, if anybody ever has here."""
        return self._watchers.get()

    def shared(self, execution_id: str, epoch: int, heard: Callable[[], object]) -> "Shared":
        """Return what keeps what the steps of an execution report; with a ledger it is written, too."""
        from szal.engine.sharing import Shared, Sharing  # few share

        if self._sharing is None and self._ledger is not None:
            self._sharing = Sharing(self._ledger)  # two at a time do no harm
        return Shared(self._sharing, execution_id, epoch, heard)

    def _is_written(self) -> bool:
        """Whether nothing is queued."""
        try:
            if self._ledger is not None:
                self._ledger.drain(0.0)
        except FlushTimeout:
            return False
        return True

    def endings(self) -> "Endings":
        """Return what waits for executions."""
        from szal.engine.ending import Endings  # few wait

        return Endings(self._config.execution_store, self.active)

    def recovery(self) -> "Recovery":
        """Return what deals with the ledger, made at first use in the process that uses it.

        Raises `SzalError` where the store keeps none.
        """
        ledger = self._ledger
        if ledger is None:
            raise SzalError("this needs EngineConfig.execution_store to be one of szal's own stores")
        return self.recovery_if_made() or self._make_recovery(ledger)

    def recovery_if_made(self) -> "Recovery | None":
        """Return that, where something has dealt with the ledger in this process."""
        return self._recovery.get()

    def _make_recovery(self, ledger: "Ledger") -> "Recovery":
        from szal.engine.recovery import Recovery  # only engines with a ledger need it

        return self._recovery.get_or_make(lambda: Recovery(self._config, ledger, self._resolver, self.active))

    @property
    def leased(self) -> LeasedStore | None:
        """The store with its leases, where it keeps a ledger."""
        return self.recovery().leased if self.has_ledger else None

    def shared_limits(self) -> "SharedLimits | None":
        """Return what all engines of the store share, where it keeps a ledger."""
        if self._ledger is None:
            return None
        from szal.engine.shared_limits import SharedLimits  # only engines with a ledger need it

        return SharedLimits(self._ledger)

    def close(self) -> None:
        """End the heartbeat, if there is one, and tell those who watch."""
        watching = self.watching()
        if watching is not None:
            watching.close()
        recovery = self.recovery_if_made()
        if recovery is not None:
            recovery.leased.heartbeat.close()
        if self._sharing is not None:
            self._sharing.end(None)  # its thread looks whether there is anything left, and ends


def _ledger_of(config: EngineConfig) -> "Ledger | None":
    if config.execution_store is None:
        return None
    from szal.stores.ledger import ledger_of  # only engines with a store need it

    return ledger_of(config.execution_store)


class _Remembered:
    """The last 10 000 ids that were added. From any thread: each change is one atomic operation."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}

    def add(self, id_: str) -> None:
        self._ids[id_] = None
        if len(self._ids) > 10_000:
            with contextlib.suppress(StopIteration, RuntimeError):  # another thread adds one
                self._ids.pop(next(iter(self._ids)), None)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._ids


def under_new_id(spec: ExecutionSpec) -> ExecutionSpec:
    """Return *spec* with an id that no other execution has."""
    record = attrs.evolve(spec.record, execution_id=new_id())
    return attrs.evolve(spec, record=record, id_from=IdFrom.NOWHERE)
