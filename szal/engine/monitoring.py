"""What an engine tells of itself in a process: whether it works, and its figures."""

from functools import partial

from szal.engine.admission import Admission
from szal.engine.config import EngineConfig
from szal.engine.health import Health, Probe, problems_of
from szal.engine.stats import EngineStats, stats_of
from szal.model.step import new_id
from szal.stores.ledger import ledger_of
from szal.stores.sink.stats import SinkStats

__all__ = ["Monitoring"]


class Monitoring:
    """Looks at an engine's parts and its store. From any thread."""

    def __init__(self, config: EngineConfig, admission: Admission) -> None:
        self._config = config
        self._admission = admission
        self._store = store = config.execution_store
        self._ledger = None if store is None else ledger_of(store)
        self._probe: Probe | None = None
        if store is not None:  # a ledger is asked for a write that it takes back, any other for a record
            self._probe = Probe(partial(store.get, new_id()) if self._ledger is None else self._ledger.check_writable)

    def health(self, timeout: float, abandoned: int) -> Health:
        """Return whether what is recorded can be, after so many seconds at most. Raises nothing."""
        recovery, active = self._admission.recovery_if_made(), self._admission.active
        name = None if self._store is None else str(getattr(self._store, "name", type(self._store).__name__))
        writer = self._writer()
        heartbeat = None if recovery is None else recovery.leased.heartbeat.last_beat
        problems = [
            *problems_of(
                is_closed=active.is_closed,
                store=name,
                writer=writer,
                heartbeat=heartbeat,
                ttl=float(self._config.lease_ttl),
            )
        ]
        answered, problem = (None, None) if self._probe is None else self._probe.answer(timeout)
        return Health(
            problems=tuple(problems if problem is None else [problem, *problems]),
            store=name,
            answered=answered,
            writer=writer,
            heartbeat=heartbeat,
            running=len(active.ids()),
            abandoned=abandoned,
        )

    def stats(self, *, abandoned: int, lease_losses: int) -> EngineStats:
        """Return what this process does and has done for the engine, with what that has counted itself."""
        recovery = self._admission.recovery_if_made()
        return stats_of(
            self._admission.active.all(),
            None if recovery is None else recovery.leased.heartbeat,
            self._writer(),
            abandoned=abandoned,
            recoveries=0 if recovery is None else recovery.taken_up.value,
            lease_losses=lease_losses,
        )

    def _writer(self) -> SinkStats | None:
        """Return the counts of what writes behind, where the store is a sink."""
        stats = getattr(self._store, "stats", None)
        return stats() if self._ledger is not None and stats is not None else None
