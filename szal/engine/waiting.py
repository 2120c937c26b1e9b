"""Steps that wait: for a signal, or for a time. They hold no thread, and no process has to live meanwhile."""

import time
import uuid
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from szal.errors import StepError, StepTimeout
from szal.expressions.path import Json
from szal.model.json.text import loads
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.scheduler.context import StepContext
from szal.scheduler.loop import Scheduler
from szal.scheduler.plan import Node
from szal.scheduler.run import Run
from szal.scheduler.timers import Timer

if TYPE_CHECKING:
    from szal.engine.journal import Journal

__all__ = ["Waiting", "new_signal_id"]


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
    output: Json = None  # once that has come
    error: BaseException | None = None  # instead
    timer: Timer | None = None


class Waiting:
    """The steps of one execution that wait now. Coordinating thread only.

    `due` holds, by step name, when waits that began before a crash or a pause end, and `attempts` which attempts these
    are. The times are of the database's clock, which alone is the same for whoever goes on with the execution.
    """

    def __init__(self, scheduler: Scheduler, journal: "Journal | None") -> None:
        self._scheduler = scheduler
        self._journal = journal
        self._waits: dict[str, _Wait] = {}
        self._ahead: float | None = None  # the database's clock, of this process's monotonic one
        self.due: dict[str, float] = {}
        self.attempts: dict[str, int] = {}

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
        context.attempt = max(context.attempt, self.attempts.pop(node.step.name, 1))
        config = context.config if isinstance(context.config, Mapping) else {}
        wait = self._read(run, node, context, config)
        self._waits[node.step.name] = wait
        if wait.due is not None:
            self._limit(wait)
        if wait.signal is not None:
            self.look()

    def _read(self, run: Run, node: Node, context: StepContext, config: Mapping[str, Any]) -> _Wait:
        name = node.step.name
        seconds: float | None = None
        if node.step.step_type == "sleep":
            seconds = _seconds(config.get("seconds"), "sleep step requires config.seconds")
            wait = _Wait(run, node, context, None, self._due(name, seconds))
            return self._limited(wait, seconds)
        if self._journal is None:
            raise Unwaitable("a wait step needs one of szal's own stores, where signals are kept")
        signal = config.get("signal")
        if not isinstance(signal, str) or not signal:
            raise Unwaitable("wait step requires config.signal")
        wait = _Wait(run, node, context, signal, None, config.get("default"))
        if config.get("timeout") is not None:
            seconds = _seconds(config["timeout"], "config.timeout of a wait step is not a number")
            wait.due = self._due(name, seconds)
            wait.error = None if "default" in config else StepTimeout(name, seconds)
        return self._limited(wait, seconds)

    def _limited(self, wait: _Wait, seconds: float | None) -> _Wait:
        """Return *wait*, which takes so many seconds, under the step's own limit."""
        limit = wait.node.step.timeout
        if limit is not None and (seconds is None or limit < seconds):
            wait.due = self._due(wait.node.step.name, limit)
            wait.error = StepTimeout(wait.node.step.name, limit)
        return wait

    def _due(self, step_name: str, seconds: float) -> float:
        known = self.due.get(step_name)
        return self._now() + seconds if known is None else known

    def _limit(self, wait: _Wait) -> None:
        assert wait.due is not None
        name = wait.node.step.name
        if self._journal is not None and name not in self.due:
            begun = StepResult(wait.node.step.id, name, StepStatus.RUNNING, attempts=wait.context.attempt)
            self._journal.begun(wait.node, begun, wait.due)
        self.due[name] = wait.due
        left = max(0.0, wait.due - self._now())
        # One that is over ends in this run, however idle that is: only what is to come can be paused for.
        soft = wait.signal is not None and left > 0
        wait.timer = self._scheduler.after(left, partial(self._over, wait), soft=soft)

    def _over(self, wait: _Wait) -> None:
        self._end(wait, wait.output, wait.error)

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

    def time_out(self) -> None:
        """End every wait: the time of its flow is over."""
        for wait in list(self._waits.values()):
            self._end(wait, None, wait.context._timed_out())

    def forget(self) -> None:
        """Have no step wait any more, as if none had begun to: the run is being cancelled."""
        for wait in list(self._waits.values()):
            self._drop(wait)
            del wait.run.running[wait.node.place]

    def _drop(self, wait: _Wait) -> bool:
        if self._waits.pop(wait.node.step.name, None) is None:
            return False
        self.due.pop(wait.node.step.name, None)  # another attempt has a time of its own
        if wait.timer is not None:
            self._scheduler.cancel_timer(wait.timer)
        return True

    def _end(self, wait: _Wait, output: Json, error: BaseException | None) -> None:
        if self._drop(wait):
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
