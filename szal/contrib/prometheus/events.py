"""The metrics of what happens: counted as it does."""

from collections.abc import Callable
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Histogram

from szal.events.bus import EventType, WorkflowEvent

__all__ = ["Events", "Names", "Note"]

_OTHER: Final = "other"
Note: TypeAlias = Callable[[WorkflowEvent], object]
"""Counts an event."""


class Names:
    """The values of a label: the first so many, and one for all others."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"at least one name must be told apart, not {limit}")
        self._limit = limit
        self._known: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        known = self._known.get(name)
        if known is None:
            known = _OTHER if len(self._known) >= self._limit else self._known.setdefault(name, name)
        return known


class Events:
    """The metrics that events are counted in."""

    def __init__(self, registry: CollectorRegistry, buckets: tuple[float, ...]) -> None:
        def counter(name: str, told: str, *labels: str) -> Counter:
            return Counter(f"szal_{name}", told, labels, registry=registry)

        def seconds(name: str, told: str, *labels: str) -> Histogram:
            return Histogram(f"szal_{name}_seconds", told, labels, registry=registry, buckets=buckets)

        self._executions = counter("executions", "Executions that ended, or paused, by state.", "flow", "state")
        self._steps = counter("steps", "Steps that ended, or were undone, by status.", "flow", "step_type", "status")
        told = "From an execution's start to its end, waits included."
        self._execution_seconds = seconds("execution", told, "flow")
        told = "From the first attempt of a step to its end, waits included."
        self._step_seconds = seconds("step", told, "flow", "step_type")
        self._retries = counter("retries", "Attempts that failed and were followed by another one.")
        self._timeouts = counter("timeouts", "Attempts that ran past their limit.")
        self._undo_failures = counter("undo_failures", "Steps that could not be undone.")

    def of_execution(self, flow: str, state: str) -> Note:
        """Return what counts an execution that has ended in *state*."""
        count, seconds = self._executions.labels(flow, state).inc, self._execution_seconds.labels(flow).observe
        has_ended = state != "paused"

        def note(event: WorkflowEvent) -> None:
            count()
            if has_ended and event.duration is not None:
                seconds(event.duration)

        return note

    def of_step(self, flow: str, step_type: str, status: str) -> Note:
        """Return what counts a step that has ended so; what becomes of an item is no step's end."""
        count, undo_failed = self._steps.labels(flow, step_type, status).inc, self._undo_failures.inc
        seconds = self._step_seconds.labels(flow, step_type).observe
        has_run, is_undo = status in ("completed", "failed"), status == "rolled_back"

        def note(event: WorkflowEvent) -> None:
            if event.index is not None:
                return
            if is_undo and event.error is not None:
                undo_failed()
                return
            count()
            if has_run and event.duration is not None:
                seconds(event.duration)

        return note

    def of_attempt(self, event_type: EventType) -> Note:
        """Return what counts that an attempt has failed, be that of an item."""
        counter = {"step_retry": self._retries, "step_timeout": self._timeouts}.get(event_type)
        return (lambda _: None) if counter is None else (lambda _: counter.inc())
