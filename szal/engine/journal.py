"""What one execution writes as it goes: its record, and each step's outcome in a row of its own."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from szal.clock import monotonic
from szal.engine.leased_store import LeasedStore, ask, failure
from szal.model.json import encode_checkpoint
from szal.model.results import ExecutionRecord, StepResult
from szal.model.state import StepStatus
from szal.scheduler.plan import Node, Outcome
from szal.stores.operation import Done, Release, Save, SaveStep

if TYPE_CHECKING:
    from szal.stores.ledger import Signal

__all__ = ["Journal"]


class Journal:
    """Writes under one lease, in order, through a store or a sink. Called by the coordinating thread.

    *on_error* is called, on the writer's thread, with what a write was lost for: `LeaseLost` above all. *recovered*
    names the execution that was taken up after its process died, this one or what it belongs to: with the first step
    that settles here its recoveries are counted anew.
    """

    def __init__(
        self,
        leased: LeasedStore,
        execution_id: str,
        epoch: int,
        on_error: Callable[[Exception], None],
        recovered: str | None = None,
    ) -> None:
        self._leased = leased
        self._store = leased.store
        self.execution_id = execution_id
        self.epoch = epoch
        self._on_error = on_error
        self._recovered = recovered
        self._seq: dict[str, int] = {}
        self._next = 0
        self._committed: set[str] = set()
        self._signals: dict[str, str] = {}  # by step name: what was delivered to it
        self._delivered: set[str] = set()
        self._sub_flows: dict[str, str] = {}  # by step name: what it took over from an earlier execution
        self._origins: dict[str, str] = {}  # by step name: the earlier execution that did what is kept of it
        self._ahead: float | None = None  # by how much the database's clock is ahead of this process's monotonic one

    def close(self) -> None:
        """Tell nobody of losses any more: the run is over, and its store remembers them."""
        self._on_error = _nobody

    def now(self) -> float:
        """Return the time by the database's clock, which alone is the same for whoever goes on with the execution."""
        if self._ahead is None:
            self._ahead = self._leased.clock() - monotonic()
        return self._ahead + monotonic()

    def signals(self) -> "list[Signal]":
        """Return the signals that were sent and not delivered."""
        return self._leased.signals(self.execution_id)

    def restore(self, step_name: str, seq: int, sub_flow: str | None = None, origin: str | None = None) -> None:
        """Take note of a step that is in the store already, and of the other execution that it stands for, or is of."""
        self._seq[step_name] = seq
        if sub_flow is not None:
            self._sub_flows[step_name] = sub_flow
        if origin is not None:
            self._origins[step_name] = origin
        self._next = max(self._next, seq + 1)

    def save(self, record: ExecutionRecord) -> None:
        """Write the record."""
        save = Save.of(record, self.epoch)
        save.done = self._check
        ask(self._store, self._store.submit, save)

    def release(self, wake: float | None = None, awaits: Sequence[str] | None = None) -> None:
        """Give up the lease: the execution has ended, or waits until *wake*, or for one of the signals *awaits*."""
        release = Release(self.execution_id, self.epoch, wake, awaits, self._check)
        ask(self._store, self._store.submit, release)

    def settled(self, node: Node, result: StepResult, outcome: Outcome) -> None:
        """Write the outcome of a step, unless `commit` has."""
        name = node.step.name
        if name not in self._committed:
            self._write(name, encode_checkpoint(result, int(outcome)), self._check, self._recovered)
            self._recovered = None

    def commit(self, node: Node, result: StepResult, outcome: Outcome, then: Callable[[], None]) -> None:
        """Write the outcome of a step, and call *then*, on another thread, once it is committed."""
        self._write(node.step.name, encode_checkpoint(result, int(outcome)), self._after(then), self._recovered)
        self._recovered = None
        self._committed.add(node.step.name)

    def skipped_again(self, node: Node, result: StepResult, outcome: Outcome, age: int) -> None:
        """Write that a step is skipped as it was so many reruns ago."""
        self._write(node.step.name, encode_checkpoint(result, int(outcome), age=age), self._check)

    def undone(self, step_name: str, result: StepResult, error: str | None, then: Callable[[], None] | None) -> None:
        """Write what became of the undoing of a step; its place in the order of settling stays.

        Where it was an earlier execution that did it, others may keep that too: they have to know.
        """
        sub_flow, origin = self._sub_flows.get(step_name), self._origins.get(step_name)
        data = encode_checkpoint(result, int(Outcome.COMPLETED), undo_error=error, sub_flow=sub_flow, origin=origin)
        if origin is not None and error is None:
            self._leased.undone(origin, step_name, data)
        done = self._check if then is None else self._after(then)
        self._submit(step_name, self._seq[step_name], data, done, self._recovered)
        self._recovered = None

    def begun(self, node: Node, result: StepResult, due: float | None, then: Callable[[], None] | None = None) -> None:
        """Write that a step has begun (to wait until *due*), where that has to be known after a crash."""
        done = self._check if then is None else self._after(then)
        self._write(node.step.name, encode_checkpoint(result, due=due), done)

    def withdrawn(self, node: Node) -> None:
        """Write that a step has not begun after all."""
        self.begun(node, StepResult(node.step.id, node.step.name, StepStatus.PENDING), None)

    def backing_off(self, node: Node, attempt: int, delay: float) -> None:
        """Write when the attempt that follows number *attempt* begins, so that it is not waited for twice."""
        failed = StepResult(node.step.id, node.step.name, StepStatus.PENDING, attempts=attempt)
        self.begun(node, failed, self.now() + delay)

    def deliver(self, node: Node, signal_id: str) -> None:
        """Have the signal taken together with the outcome of *node*, which is written next."""
        self._signals[node.step.name] = signal_id
        self._delivered.add(signal_id)

    def is_delivered(self, signal_id: str) -> bool:
        """Whether a signal was delivered to a step, be that committed or not."""
        return signal_id in self._delivered

    def _write(self, step_name: str, data: str, done: Done, progress_of: str | None = None) -> None:
        if self._sub_flows or self._origins:
            self._sub_flows.pop(step_name, None)  # it is of this execution now
            self._origins.pop(step_name, None)
        seq = self._next
        self._submit(step_name, seq, data, done, progress_of)
        self._seq[step_name] = seq
        self._next = seq + 1

    def _submit(self, step_name: str, seq: int, data: str, done: Done, progress_of: str | None = None) -> None:
        signal = self._signals.get(step_name) if self._signals else None
        save = SaveStep(self.execution_id, step_name, seq, data, signal, self.epoch, done, progress_of)
        try:
            self._store.submit(save)
        except Exception as error:  # noqa: BLE001 (as in `ask`, which would be one call more for each step)
            raise failure(self._store, error)  # noqa: B904 (it has its cause)

    def _check(self, error: Exception | None) -> None:
        if error is not None:
            self._on_error(error)

    def _after(self, then: Callable[[], None]) -> Done:
        def done(error: Exception | None) -> None:
            if error is None:
                then()
            else:
                self._on_error(error)

        return done


def _nobody(_: Exception) -> None:
    """Take no note."""
