"""Steps that wait: for a signal, or for a time. They hold no thread, and no process has to live meanwhile."""

import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from szal.context import StepContext
from szal.errors import StepError, StepTimeout
from szal.execution import StepResult
from szal.jsontext import loads
from szal.plan import Node
from szal.running import Run
from szal.scheduler import Scheduler
from szal.state import StepStatus
from szal.step import Json
from szal.timers import Timer

if TYPE_CHECKING:
    from szal.journal import Journal

__all__ = ["Waiting", "new_signal_id"]

_MISSING = object()


def new_signal_id() -> str:
    """Return an id for a signal that has none of its own; later ones sort later."""
    return f"{time.time_ns():020d}-{uuid.uuid4().hex}"


@attrs.define(eq=False, repr=False)
class _Wait:
    run: Run
    node: Node
    context: StepContext
    signal: str | None  # None: it waits for a time only
    due: float | None  # Unix time
    default: Json
    timer: Timer | None = None


class Waiting:
    """The steps of one execution that wait now. Coordinating thread only.

    `due` holds, by step name, when waits that began before a crash end. These are times of the database's clock,
    which alone is the same for whoever goes on with the execution.
    """

    def __init__(self, scheduler: Scheduler, journal: "Journal | None") -> None:
        self._scheduler = scheduler
        self._journal = journal
        self._waits: dict[str, _Wait] = {}
        self._ahead: float | None = None  # the database's clock, of this process's monotonic one
        self.due: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._waits)

    def wake(self) -> float | None:
        """Return when the next wait ends by itself (Unix time), if one does."""
        return min((wait.due for wait in self._waits.values() if wait.due is not None), default=None)

    def awaited(self) -> list[str]:
        """Return the signals that are waited for."""
        return [wait.signal for wait in self._waits.values() if wait.signal is not None]

    def _now(self) -> float:
        if self._ahead is None:
            now = time.time() if self._journal is None else self._journal.store.ledger.clock()
            self._ahead = now - time.monotonic()
        return self._ahead + time.monotonic()

    def begin(self, run: Run, node: Node, context: StepContext) -> None:
        """Have the step wait; it ends by `Scheduler.sub_flow_ended`. Raises what is wrong with its config."""
        config = context.config if isinstance(context.config, Mapping) else {}
        wait = self._read(run, node, context, config)
        self._waits[node.step.name] = wait
        if wait.due is not None:
            self._limit(wait)
        if wait.signal is not None:
            self.look()

    def _read(self, run: Run, node: Node, context: StepContext, config: Mapping[str, Any]) -> _Wait:
        name = node.step.name
        if node.step.step_type == "sleep":
            seconds = _seconds(config.get("seconds"), "sleep step requires config.seconds")
            return _Wait(run, node, context, None, self._due(name, seconds), None)
        if self._journal is None:
            raise Unwaitable("a wait step needs one of szal's own stores, where signals are kept")
        signal = config.get("signal")
        if not isinstance(signal, str) or not signal:
            raise Unwaitable("wait step requires config.signal")
        due = None
        if config.get("timeout") is not None:
            due = self._due(name, _seconds(config["timeout"], "config.timeout of a wait step is not a number"))
        return _Wait(run, node, context, signal, due, config.get("default", _MISSING))

    def _due(self, step_name: str, seconds: float) -> float:
        known = self.due.get(step_name)
        return self._now() + seconds if known is None else known

    def _limit(self, wait: _Wait) -> None:
        assert wait.due is not None
        name = wait.node.step.name
        if self._journal is not None and name not in self.due:
            begun = StepResult(wait.node.step.id, name, StepStatus.RUNNING)
            self._journal.begun(wait.node, begun, wait.due)
        self.due[name] = wait.due
        left = max(0.0, wait.due - self._now())
        # One that is over ends in this run, however idle that is: only what is to come can be paused for.
        soft = wait.signal is not None and left > 0
        wait.timer = self._scheduler.after(left, partial(self._over, wait), soft=soft)

    def _over(self, wait: _Wait) -> None:
        if wait.signal is None:
            self._end(wait, None, None)
        elif wait.default is not _MISSING:
            self._end(wait, wait.default, None)
        else:
            limit = wait.context.config["timeout"]
            self._end(wait, None, StepTimeout(wait.node.step.name, float(limit)))

    def look(self) -> None:
        """Deliver the signals that have come, each to one step."""
        if self._journal is None or not any(wait.signal for wait in self._waits.values()):
            return
        for signal in self._journal.store.ledger.signals(self._journal.execution_id):
            if self._journal.is_delivered(signal.signal_id):
                continue
            wait = next((wait for wait in self._waits.values() if wait.signal == signal.name), None)
            if wait is not None:
                self._journal.deliver(wait.node, signal.signal_id)
                self._end(wait, loads(signal.value), None)

    def stop(self, error: Callable[[str], BaseException]) -> None:
        """End every wait with the error that *error* makes of the step's name."""
        for wait in list(self._waits.values()):
            self._end(wait, None, error(wait.node.step.name))

    def _end(self, wait: _Wait, output: Json, error: BaseException | None) -> None:
        if self._waits.pop(wait.node.step.name, None) is None:
            return
        if wait.timer is not None:
            self._scheduler.cancel_timer(wait.timer)
        self._scheduler.sub_flow_ended(wait.run, wait.node, wait.context, output, error)


@attrs.define(repr=False)
class Unwaitable(StepError):
    """A wait or sleep step that cannot wait."""

    problem: str

    def __str__(self) -> str:
        return self.problem


def _seconds(value: object, problem: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise Unwaitable(problem)
    return float(value)
