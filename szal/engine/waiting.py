"""Steps that wait: for a signal, or for a time. They hold no thread, and no process has to live meanwhile."""

import uuid
from collections import deque
from typing import TYPE_CHECKING

import attrs

from szal import clock
from szal.errors import StepError, StepTimeout
from szal.expressions.path import Json
from szal.model.config import faults_in
from szal.model.json.text import loads
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.scheduler.call import Call
from szal.scheduler.loop import Scheduler
from szal.scheduler.stage import Waiting
from szal.scheduler.timers import Timer

if TYPE_CHECKING:
    from szal.engine.journal import Journal
    from szal.stores.ledger import Signal

__all__ = ["Waits", "new_signal_id"]


def new_signal_id() -> str:
    """Return an id for a signal that has none of its own; later ones sort later."""
    return f"{clock.wall_ns():020d}-{uuid.uuid4().hex}"


@attrs.define(eq=False, repr=False)
class _Wait:
    call: Call
    signal: str | None = None  # None: it waits for a time only
    due: float | None = None  # Unix time
    output: Json = None  # once that has come
    error: BaseException | None = None  # instead
    timer: Timer | None = None


class Waits:
    """The steps of one execution that wait now. Coordinating thread only.

    `due` holds, by step name, when waits that began before a crash or a pause end, and `attempts` which attempts these
    are. The times are of the database's clock.
    """

    def __init__(self, scheduler: Scheduler, journal: "Journal | None") -> None:
        self._scheduler = scheduler
        self._journal = journal
        self._waits: dict[str, _Wait] = {}  # by step name
        self._by_signal: dict[str, deque[_Wait]] = {}
        self._unread = False  # `check_signals` is to be called
        self._has_read = False  # it has been, so all that were sent before are known
        self._kept: dict[str, deque[Signal]] = {}  # by name: those that came and that no step has waited for yet
        self._seen: set[str] = set()  # the ids of those
        self.due: dict[str, float] = {}
        self.attempts: dict[str, int] = {}

    @property
    def count(self) -> int:
        """How many steps wait. From any thread."""
        return len(self._waits)

    def calls(self) -> list[Call]:
        """Return the calls of the steps that wait. From any thread."""
        return [wait.call for wait in self._waits.copy().values()]

    def wake(self) -> float | None:
        """Return when the next wait ends by itself (Unix time), if one does."""
        return min((wait.due for wait in self._waits.values() if wait.due is not None), default=None)

    def awaited(self) -> list[str]:
        """Return the signals that are waited for."""
        return [wait.signal for wait in self._waits.values() if wait.signal is not None]

    def now(self) -> float:
        """Return the time that waits go by, as Unix time."""
        return self._scheduler.now() if self._journal is None else self._journal.now()

    # -- beginning -----------------------------------------------------------------------------------

    def begin(self, call: Call) -> None:
        """Have the step wait; it ends by `Scheduler.ended`. Raises what is wrong with its config, or the store.

        It counts as waiting only once nothing can fail any more.
        """
        name = call.node.step.name
        call.number = max(call.number, self.attempts.pop(name, 1))
        wait = self._read(call)
        if wait.due is not None and self._journal is not None and name not in self.due:
            step = call.node.step
            begun = StepResult(step.id, name, StepStatus.RUNNING, attempts=call.number)
            self._journal.begun(call.node, begun, wait.due)
        self._register(wait)

    def _register(self, wait: _Wait) -> None:
        name, works = wait.call.node.step.name, wait.signal is None
        if wait.due is not None:
            self.due[name] = wait.due
            left = max(0.0, wait.due - self.now())
            # One that is over ends in this run, however idle that is: only what is to come can be paused for.
            works = works or left == 0
            wait.timer = self._scheduler.after(left, lambda: self._end(wait, wait.output, wait.error))
        stage = Waiting(int(works), int(not works), lambda: self._drop(wait), lambda: self._time_out(wait))
        wait.call.run.enter(wait.call.node.place, stage)
        self._waits[name] = wait
        if wait.signal is not None:
            self._by_signal.setdefault(wait.signal, deque()).append(wait)
            if wait.signal in self._kept:
                self._deliver(wait.signal)
            elif not self._unread:
                self._unread = True  # once for all the waits that begin together
                self._scheduler.afterwards(self.check_signals)

    def _read(self, call: Call) -> _Wait:
        """Return what the step's config says."""
        step, config = call.node.step, call.run.new_context(call.node, call.number, call).config
        name, seconds = step.name, None
        if faults := faults_in(step.step_type or "", config, rendered=True):
            raise Unwaitable(str(faults[0]))
        if step.step_type == "sleep":
            seconds = float(config["seconds"])
            wait = _Wait(call, due=self._due(name, seconds))
            return self._limited(wait, seconds)
        if self._journal is None:
            raise Unwaitable("a wait step needs one of szal's own stores, where signals are kept")
        try:
            call.run.info.redaction.check_name("the signal of a wait step", config["signal"])
        except ValueError as error:
            raise Unwaitable(str(error)) from None
        wait = _Wait(call, config["signal"], output=config.get("default"))
        if config.get("timeout") is not None:
            seconds = float(config["timeout"])
            wait.due = self._due(name, seconds)
            wait.error = None if "default" in config else StepTimeout(name, seconds)
        return self._limited(wait, seconds)

    def _limited(self, wait: _Wait, seconds: float | None) -> _Wait:
        """Return *wait*, which takes so many seconds, under the step's own limit."""
        step = wait.call.node.step
        if step.timeout is not None and (seconds is None or step.timeout < seconds):
            wait.due = self._due(step.name, step.timeout)
            wait.error = StepTimeout(step.name, step.timeout)
        return wait

    def _due(self, step_name: str, seconds: float) -> float:
        known = self.due.get(step_name)
        return self.now() + seconds if known is None else known

    # -- signals -------------------------------------------------------------------------------------

    def check_signals(self) -> None:
        """Deliver the signals that have come, each to one step. Raises what the store raises."""
        self._unread = False
        if self._journal is None or not self._by_signal:
            return
        for signal in self._journal.signals():
            self._keep(signal)
        self._has_read = True
        for name in [name for name in self._by_signal if name in self._kept]:
            self._deliver(name)

    def offer(self, signal: "Signal") -> None:
        """Deliver a signal that has come, or keep it. What others have sent is found by the next heartbeat."""
        if not self._has_read:  # there may be older ones
            self.check_signals()
        elif self._keep(signal):
            self._deliver(signal.name)

    def _keep(self, signal: "Signal") -> bool:
        """Keep a signal until a step waits for it; False where that was done before."""
        assert self._journal is not None
        if signal.signal_id in self._seen or self._journal.is_delivered(signal.signal_id):
            return False
        self._seen.add(signal.signal_id)
        self._kept.setdefault(signal.name, deque()).append(signal)
        return True

    def _deliver(self, name: str) -> None:
        """Deliver the signals called *name* that have come to the steps that wait for it."""
        assert self._journal is not None
        while (waits := self._by_signal.get(name)) and (signals := self._kept.get(name)):
            wait, signal = waits[0], signals.popleft()
            if not signals:
                del self._kept[name]
            self._journal.deliver(wait.call.node, signal.signal_id)
            self._end(wait, loads(signal.value), None)

    # -- ending --------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Wait for nothing any more: the run is over, be that for now."""
        for wait in list(self._waits.values()):
            self._drop(wait)

    def _time_out(self, wait: _Wait) -> None:
        """End it: the time of its flow is over."""
        self._end(wait, None, wait.call.timed_out())

    def _drop(self, wait: _Wait) -> bool:
        """Have the step wait no more; False where it does not."""
        name = wait.call.node.step.name
        if self._waits.get(name) is not wait:
            return False
        del self._waits[name]
        self.due.pop(name, None)  # another attempt has a time of its own
        if wait.timer is not None:
            self._scheduler.cancel_timer(wait.timer)
        if wait.signal is not None:
            waits = self._by_signal[wait.signal]
            waits.remove(wait)
            if not waits:
                del self._by_signal[wait.signal]
        return True

    def _end(self, wait: _Wait, output: Json, error: BaseException | None) -> None:
        if self._drop(wait):
            self._scheduler.ended(wait.call, output, error)


@attrs.define(repr=False)
class Unwaitable(StepError):
    """A wait or sleep step that cannot wait."""

    problem: str

    def __str__(self) -> str:
        return self.problem
