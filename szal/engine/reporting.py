"""Tells the world what happens in a run: events, and metrics by step type."""

import logging
from collections.abc import Callable

from szal import clock
from szal.engine.config import EngineConfig
from szal.events.bus import EventType, WorkflowEvent
from szal.interruption import is_interruption
from szal.logs import SafeLogger
from szal.model.results import ExecutionRecord, StepResult
from szal.model.state import StepStatus
from szal.model.step import StepDef
from szal.scheduler.plan import Item, Node

__all__ = ["Reporter"]

logger = SafeLogger(logging.getLogger(__name__))

_COMPLETED = StepStatus.COMPLETED
_SETTLED: dict[StepStatus, EventType] = {
    StepStatus.FAILED: "step_failed",
    StepStatus.SKIPPED: "step_skipped",
}


class Reporter:
    """Emits the events of one execution, in order, on its coordinating thread. A sink that raises is logged."""

    def __init__(
        self,
        config: EngineConfig,
        flow_name: str,
        execution_id: str,
        now: Callable[[], float] = clock.wall,
        heard: Callable[[], object] | None = None,
    ) -> None:
        self._sinks = sinks = config.sinks
        self._sink = sinks.emit
        self._metrics = config.step_type_metrics
        self._flow_name = flow_name
        self._execution_id = execution_id
        self._now = now
        self.heard = heard
        """Called after each thing that happens, where somebody watches the execution. Raises nothing."""

    @property
    def has_listeners(self) -> bool:
        """Whether anybody wants to hear of steps."""
        return self._sink is not None or self._metrics is not None or self.heard is not None

    def _emit(self, event: WorkflowEvent) -> None:
        try:
            self._sink(event)  # type: ignore[misc]
        except BaseException as error:  # noqa: BLE001 (whatever a sink raises is logged)
            self._failed(self._sink, error)

    def _failed(self, function: object, error: BaseException) -> None:
        """Log what a sink raised; what a signal handler raised is not its own, and goes on."""
        if is_interruption(error):
            raise error
        where = (function, self._flow_name, self._execution_id)
        logger.error("sink %r failed: %s, execution %s", *where, exc_info=error)

    def begins(self, record: ExecutionRecord, step: StepDef | None) -> tuple[str, ...]:
        """Tell who follows runs that one begins, of a sub-flow of *step*; return what is to be kept of it."""
        return self._sinks.run_begins(record, step) if self._sinks.following else ()

    def ends(self) -> None:
        """Tell them that it is over, however it ended. Raises an interruption only."""
        if self._sinks.following:
            self._sinks.run_ends(self._execution_id)

    def changed(self) -> None:
        """Tell whoever watches the execution to look."""
        if self.heard is not None:
            self.heard()

    def flow(self, event_type: EventType, *, duration: float | None = None, error: str | None = None) -> None:
        """Emit an event of the flow itself."""
        if self._sink is not None:
            event = WorkflowEvent(
                event_type,
                self._flow_name,
                duration=duration,
                error=error,
                timestamp=self._now(),
                execution_id=self._execution_id,
            )
            self._emit(event)
        self.changed()

    def _step(self, event_type: EventType, node: Node, attempt: int, duration: float | None, error: str | None) -> None:
        if self._sink is not None:
            step, flow, execution = node.step, self._flow_name, self._execution_id
            now = self._now()
            told = step.name, step.id, attempt, duration, error, now, execution, step.step_type
            event = WorkflowEvent(event_type, flow, *told)
            self._emit(event if node.item is None else _of_item(event, node.item))
        self.changed()

    # The next two are called for each step: the events are made by position, and no call is made that can be spared.

    def started(self, node: Node, moment: float) -> None:
        """Emit step_started, once per step, with the time at which it really started."""
        if self._sink is not None:
            step, flow, execution = node.step, self._flow_name, self._execution_id
            kind = step.step_type
            event = WorkflowEvent("step_started", flow, step.name, step.id, 1, None, None, moment, execution, kind)
            try:
                self._sink(event if node.item is None else _of_item(event, node.item))
            except BaseException as error:  # noqa: BLE001
                self._failed(self._sink, error)
        if self.heard is not None:
            self.heard()

    def settled(self, node: Node, result: StepResult) -> None:
        """Emit the one end event of a step, and its metrics."""
        step, status, duration = node.step, result.status, result.duration
        kind: EventType = "step_completed" if status is _COMPLETED else _SETTLED[status]
        if self._sink is not None:
            flow, now, execution = self._flow_name, self._now(), self._execution_id
            tries, why, of = result.attempts, result.error, step.step_type
            event = WorkflowEvent(kind, flow, step.name, step.id, tries, duration, why, now, execution, of)
            try:
                self._sink(event if node.item is None else _of_item(event, node.item))
            except BaseException as error:  # noqa: BLE001
                self._failed(self._sink, error)
        if self._metrics is not None and node.item is None:
            try:
                self._metrics(step.step_type or "default", status, duration)
            except BaseException as error:  # noqa: BLE001
                self._failed(self._metrics, error)
        if self.heard is not None:
            self.heard()

    def timed_out(self, node: Node, attempt: int, error: str) -> None:
        """Emit step_timeout, once per attempt that timed out."""
        self._step("step_timeout", node, attempt, None, error)

    def retrying(self, node: Node, attempt: int, delay: float, error: str) -> None:
        """Emit step_retry before the wait, whose length is the event's duration."""
        self._step("step_retry", node, attempt, delay, error)

    def undone(self, node: Node, result: StepResult) -> None:
        """Emit step_rollback; its error says why undoing failed, where it did."""
        self._step("step_rollback", node, result.attempts, result.duration, result.error)


def _of_item(event: WorkflowEvent, item: Item) -> WorkflowEvent:
    """Return *event*, which is nobody's yet, as one of an item of a step."""
    event.index, event.items = item.index, item.count
    return event
