"""What an engine may run: calls are checked here, and executions recorded, or found, before anything of them runs."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from szal.engine.active import ActiveRuns
from szal.engine.config import EngineConfig
from szal.engine.leased_store import LeasedStore
from szal.engine.spec import ExecutionSpec, bind
from szal.errors import SzalError
from szal.expressions.copies import own_copy
from szal.expressions.path import Json
from szal.model.bounds import ANYTHING
from szal.model.flow import FlowDef
from szal.model.json import checked_labels
from szal.model.json.text import dumps, loads
from szal.model.results import ExecutionRecord, FlowResult
from szal.model.state import WorkflowState
from szal.model.step import new_id
from szal.scheduler.cancel import CancellationToken
from szal.scheduler.plan import Plan
from szal.steps.handlers import Resolver

if TYPE_CHECKING:
    from szal.engine.recovery import Recovery
    from szal.stores.ledger import Ledger

__all__ = ["Admission", "under_new_id"]


class Admission:
    """An engine's checks, and its dealings with its store, whichever that is. From any thread."""

    def __init__(self, config: EngineConfig, resolver: Resolver) -> None:
        self.active = ActiveRuns()
        self._config = config
        self._resolver = resolver
        self._ledger = _ledger_of(config)
        self._recoveries: dict[int, Recovery] = {}  # by pid; no lock: it changes in one atomic operation

    def spec_of(
        self,
        flow: FlowDef,
        inputs: Mapping[str, Json] | None,
        execution_id: str | None,
        cancel: CancellationToken | None,
        labels: Mapping[str, str] | None,
    ) -> ExecutionSpec:
        """Return what is to be run, checked; nothing is recorded yet."""
        self.active.check_open()
        if not isinstance(execution_id, str | None):
            raise TypeError(f"execution_id must be a string, not {type(execution_id).__name__}: use str()")
        if execution_id == "":
            raise ValueError("execution_id is empty")
        store = self._config.execution_store
        bounds = ANYTHING if self._ledger is None else self._ledger.bounds
        if execution_id is not None and (problem := bounds.problem_of_key(execution_id)) is not None:
            raise ValueError(f"execution_id {problem}")
        plan = Plan.of(flow)
        binding = bind(flow, plan, self._resolver, self._config)
        given: dict[str, Json] = {**flow.inputs, **(inputs or {})}
        # Neither the flow's nor the caller's; and as whoever goes on with it will see them.
        given = own_copy(given) if store is None or not given else loads(dumps(given, "inputs"))
        record = ExecutionRecord(
            flow.id if execution_id is None else execution_id,
            flow.name,
            WorkflowState.RUNNING,
            inputs=given,
            flow_id=flow.id,
            flow_version=flow.version,
            labels=checked_labels(labels or {}),
        )
        return ExecutionSpec(flow=flow, plan=plan, binding=binding, record=record, token=cancel)

    def admit(self, spec: ExecutionSpec, *, is_given: bool) -> ExecutionSpec | FlowResult | None:
        """Return *spec* as it is to run, recorded, or the result that there is under its id.

        None: no id was given, and the flow's own is taken by an earlier execution.
        """
        store = self._config.execution_store
        if self.has_ledger:
            return self.recovery().admit(spec, is_given=is_given)
        record = None if store is None else store.get(spec.record.execution_id)
        if record is None:
            return spec
        return record.result if is_given and not record.state.is_live else None

    @property
    def has_ledger(self) -> bool:
        """Whether the store is one of szal's own: somebody else could go on with what is in it."""
        return self._ledger is not None

    def recovery(self) -> "Recovery":
        """Return what deals with the ledger, made at first use in the process that uses it.

        Raises `SzalError` where the store keeps none.
        """
        ledger = self._ledger
        if ledger is None:
            raise SzalError("this needs EngineConfig.execution_store to be one of szal's own stores")
        from szal.engine.recovery import Recovery  # only engines with a ledger need it

        pid = os.getpid()
        found = self._recoveries.get(pid)
        return found or self._recoveries.setdefault(pid, Recovery(self._config, ledger, self._resolver, self.active))

    @property
    def leased(self) -> LeasedStore | None:
        """The store with its leases, where it keeps a ledger."""
        return self.recovery().leased if self.has_ledger else None

    def close(self) -> None:
        """End the heartbeat, if there is one."""
        recovery = self._recoveries.get(os.getpid())
        if recovery is not None:
            recovery.leased.heartbeat.close()


def _ledger_of(config: EngineConfig) -> "Ledger | None":
    if config.execution_store is None:
        return None
    from szal.stores.ledger import ledger_of  # only engines with a store need it

    return ledger_of(config.execution_store)


def under_new_id(spec: ExecutionSpec) -> ExecutionSpec:
    """Return *spec* with an id that no other execution has."""
    return attrs.evolve(spec, record=attrs.evolve(spec.record, execution_id=new_id()))
