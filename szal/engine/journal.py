"""What one execution writes as it goes: its record, and each step's outcome in a row of its own."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final, Protocol

from szal.engine.attempt_log import AttemptLog, UndoEnd
from szal.engine.leased_store import Beginning, LeasedStore, failure
from szal.engine.transactions import Transactions
from szal.errors import Cancelled, LeaseLost, StoreFailed
from szal.model.bounds import ANYTHING
from szal.model.json import Checkpoint, encode_checkpoint
from szal.model.redaction import Redaction
from szal.model.results import ExecutionRecord, StepResult
from szal.model.state import StepStatus
from szal.scheduler.call import NextPoll
from szal.scheduler.observers import Joined, Shared, Then
from szal.scheduler.plan import Node, Outcome
from szal.stores.writes import Release, Save, SaveStep

if TYPE_CHECKING:
    from szal.stores.ledger import Signal
    from szal.stores.writes import NewExecution, StepRows

__all__ = ["NOBODY", "Journal", "Losses"]


class Losses(Protocol):
    """Who is told, on other threads, of writes that are lost."""

    def write_failed(self, error: Exception) -> None:
        """A write was lost for good."""

    def write_refused(self, step_name: str, error: Exception) -> bool:
        """The store takes everything but what was to be recorded of a step; return whether that is dealt with."""


class Journal:
    """Writes under one lease, in order, through a store or a sink. Called by the coordinating thread.

    *losses* is told, on the writer's thread, what a write was lost for: `LeaseLost` above all. *recovered* names the
    execution that was taken up after its process died, this one or what it belongs to: with the first step
    that settles here its recoveries are counted anew. What *redaction* masks is recorded masked.
    """

    def __init__(
        self,
        leased: LeasedStore,
        execution_id: str,
        epoch: int,
        losses: Losses,
        recovered: str | None = None,
        *,
        redaction: Redaction | None = None,
    ) -> None:
        self._leased = leased
        self._kind = leased.kind
        self._queue = leased.ledger.write
        self._bounds = leased.ledger.bounds
        self.execution_id = execution_id
        self.epoch = epoch
        self._losses = losses
        self._recovered = recovered
        self._seq: dict[str, int] = {}
        self._places: Iterator[int] = count()  # a handler's thread may take one
        self._committed: set[str] = set()
        self._signals: dict[str, str] = {}  # by step name: what was delivered to it
        self._delivered: set[str] = set()
        self._kept: dict[str, Checkpoint] = {}  # by step name: what there is of it from an earlier execution
        self.redaction = redaction or Redaction()
        self._attempts = AttemptLog(self.redaction)
        self._ahead: float | None = None  # by how much the database's clock is ahead of this process's monotonic one

    def close(self) -> None:
        """Tell nobody of losses any more: the run is over, and its store remembers them."""
        self._losses = NOBODY
        self._attempts = AttemptLog(self.redaction)  # an error leads to the frames of its handler

    def now(self) -> float:
        """Return the time by the database's clock, which alone is the same for whoever goes on with the execution."""
        if self._ahead is None:
            self._ahead = self._leased.ahead()
        return self._ahead + self._leased.clock.monotonic()

    def signals(self) -> "list[Signal]":
        """Return the signals that were sent and not delivered."""
        return self._leased.signals(self.execution_id)

    def restore(self, rows: "StepRows") -> None:
        """Take note of the steps that are in the store already."""
        self._seq = {name: seq for name, seq, _ in rows}
        self._places = count(max(self._seq.values(), default=-1) + 1)

    def keep(self, step_name: str, checkpoint: Checkpoint) -> None:
        """Take note of what a step keeps of an earlier execution, and of what its row tells of attempts."""
        if checkpoint.age:
            self._kept[step_name] = checkpoint
        self._attempts.remember(step_name, checkpoint)

    def begin(self, new: "NewExecution", then: Callable[[], object]) -> None:
        """Record the execution, if it is not queued yet; call *then*, on any thread, once that is committed."""

        def done(error: Exception | None) -> None:
            if error is None:
                then()
            else:
                self._losses.write_failed(error)

        if isinstance(new.done, Beginning):
            new.done.tell(done)
            return
        new.done = done
        self._leased.write(new)

    def save(self, record: ExecutionRecord) -> None:
        """Write the record."""
        save = Save.of(record, self.epoch)
        save.done = self._check
        self._leased.write(save)

    def release(self, wake: float | None = None, awaits: Sequence[str] | None = None) -> None:
        """Give up the lease: the execution has ended, or waits until *wake*, or for one of the signals *awaits*."""
        release = Release(self.execution_id, self.epoch, wake, awaits, self._check)
        self._leased.write(release)

    def settled(self, node: Node, result: StepResult, outcome: Outcome) -> None:
        """Write the outcome of a step, unless `commit` has."""
        name = node.key
        if name not in self._committed:
            self._write(name, self._encoded(node, result, outcome), None, self._recovered)
            self._recovered = None

    def commit(self, node: Node, result: StepResult, outcome: Outcome, then: Then) -> None:
        """Write the outcome of a step, and call *then*, on another thread, once it is committed or refused."""
        name = node.key
        self._committed.add(name)
        self._write(name, self._encoded(node, result, outcome), then, self._recovered)
        self._recovered = None

    def skipped_again(self, node: Node, result: StepResult, outcome: Outcome, age: int) -> None:
        """Write that a step is skipped as it was so many reruns ago."""
        name = node.step.name
        sub_flow = self._stands_for(name, result)
        self._write(name, encode_checkpoint(result, int(outcome), age=age, sub_flow=sub_flow), None)

    def undone(self, node: Node, outcome: Outcome, end: "UndoEnd", then: Then | None) -> None:
        """Write what became of the undoing of a step; its place in the order of settling stays, and its *outcome*.

        Where it was an earlier execution that did it, others may keep that too: they have to know.
        """
        data = self._undone(node, outcome, end)
        if end.error is None:
            self.undone_for_others(node, data)
        self._write(node.key, data, then, self._recovered, seq=self._seq[node.key])
        self._recovered = None

    def undo_failed(self, node: Node, outcome: Outcome, so_far: "UndoEnd") -> None:
        """Write which attempts to undo a step have failed: it is as it was, and another one may follow."""
        self._write(node.key, self._undone(node, outcome, so_far), None, seq=self._seq[node.key])

    def undone_for_others(self, node: Node, data: str) -> None:
        """Write that into the execution that did what is undone, where that is an earlier one."""
        kept = self._kept.get(node.key)
        if kept is not None and kept.origin is not None:
            self._leased.undone(kept.origin, node.key, data)

    def _undone(self, node: Node, outcome: Outcome, end: "UndoEnd") -> str:
        name, log = node.key, self._attempts
        result, kept = self.redaction.result(end.result), self._kept.get(name)
        age, sub_flow, origin = (0, None, None) if kept is None else (kept.age, kept.sub_flow, kept.origin)
        return encode_checkpoint(
            result,
            int(outcome),
            undo_error=end.error,
            age=age,
            sub_flow=sub_flow,
            origin=origin,
            attempts=log.ends(name),
            traceback=log.traceback(name),
            item=_digest_of(node),
            undos=(*log.undos_before(name), *end.attempts),
        )

    def begun(self, node: Node, result: StepResult, due: float | None, then: Then | None = None) -> None:
        """Write that a step has begun (to wait until *due*), where that has to be known after a crash."""
        name = node.key
        data = encode_checkpoint(result, due=due, sub_flow=self._stands_for(name, result), item=_digest_of(node))
        self._write(name, data, then)

    def undecided(self, node: Node, result: StepResult) -> None:
        """Write that it is to be decided whether a step was done."""
        name = node.key
        sub_flow = self._stands_for(name, result)
        self._write(name, encode_checkpoint(result, sub_flow=sub_flow, item=_digest_of(node), undecided=True), None)

    def withdrawn(self, node: Node) -> None:
        """Write that a step has not begun after all."""
        self.begun(node, StepResult(node.step.id, node.step.name, StepStatus.PENDING), None)

    def attempt_ended(self, node: Node, started: float, ended: float, error: BaseException | None) -> None:
        """Take note of how an attempt ended: it is written with the step's outcome."""
        self._attempts.add(node.key, started, ended, error)

    def backing_off(self, node: Node, attempt: int, delay: float) -> None:
        """Write when the attempt that follows number *attempt* begins, so that it is not waited for twice."""
        failed = StepResult(node.step.id, node.step.name, StepStatus.PENDING, attempts=attempt)
        self.begun(node, failed, self.now() + delay)

    def polled(self, node: Node, result: StepResult, following: NextPoll) -> None:
        """Write what a step that polls has come to, when it is called next, and until when at most."""
        self._write(node.key, self._polled(node, result, following), None)

    def _polled(self, node: Node, result: StepResult, following: NextPoll) -> str:
        polls, delay, left = following
        now, result = self.now(), self.redaction.result(result)
        until_by = None if left is None else now + left
        sub_flow, item = self._stands_for(node.key, result), _digest_of(node)
        return encode_checkpoint(result, due=now + delay, sub_flow=sub_flow, item=item, polls=polls, until_by=until_by)

    def memo(self, name: str, text: str) -> None:
        """Write what a handler has found out, under its `memo_key`, and wait until that is committed. On any thread.

        Raises ValueError for a key that the store cannot hold, `Cancelled` where the lease is lost, and what the store
        raises.
        """
        self._leased.check_memo_key(name)
        lost: list[Exception] = []

        def done(error: Exception | None) -> bool:
            lost.extend([] if error is None else [error])
            return True  # it is raised here

        self._leased.write(SaveStep(self.execution_id, name, 0, text, None, self.epoch, done))
        self._leased.flush([self.execution_id])
        for error in lost:
            if isinstance(error, LeaseLost):
                raise Cancelled("another process runs this execution now") from error
            raise error

    # -- transactions of handlers, on their threads ----------------------------------------------------

    def open(self, node: Node, check: Callable[[], None]) -> Shared:  # noqa: ARG002
        """Begin one that the outcome of a step is committed with."""
        return self.transactions().open(self, check)

    def catch_up(self) -> None:
        """Wait until what is queued is committed."""
        self.transactions().flush()

    def join(self, node: Node, connection: object) -> Joined:  # noqa: ARG002
        """Return the application's on *connection*, for the outcome of a step to be recorded in."""
        return self.transactions().join(self, connection)

    def transactions(self) -> Transactions:
        """Return what begins them, under this lease."""
        return Transactions(self._leased, self.execution_id, self.epoch, self._losses.write_failed)

    def row(self, node: Node, result: StepResult, following: NextPoll | None) -> SaveStep:
        """Return the write of the outcome of a step that has completed, with its place in the order; or of a poll."""
        if following is not None:
            return self._row(node, self._polled(node, result, following), next(self._places))
        return self._row(node, self._encoded(node, result, Outcome.COMPLETED), next(self._places))

    def undone_row(self, node: Node, outcome: Outcome, end: "UndoEnd") -> SaveStep:
        """Return the write of what a step is that has been undone."""
        return self._row(node, self._undone(node, outcome, end), self._seq[node.key])

    def _row(self, node: Node, data: str, place: int) -> SaveStep:
        return SaveStep(self.execution_id, node.key, place, data, None, self.epoch, None, self._recovered)

    def recorded(self, node: Node, row: SaveStep) -> None:
        """Take note that the outcome of a step is committed: `settled` writes it no more."""
        self._committed.add(node.key)
        self._seq[node.key] = row.seq
        self._recovered = None

    # -- signals --------------------------------------------------------------------------------------

    def deliver(self, node: Node, signal_id: str) -> None:
        """Have the signal taken together with the outcome of *node*, which is written next."""
        self._signals[node.step.name] = signal_id
        self._delivered.add(signal_id)

    def is_delivered(self, signal_id: str) -> bool:
        """Whether a signal was delivered to a step, be that committed or not."""
        return signal_id in self._delivered

    def _encoded(self, node: Node, result: StepResult, outcome: Outcome) -> str:
        name, item = node.key, _digest_of(node)
        if self.redaction.mask is not None:
            result = self.redaction.result(result)
        sub_flow = self._stands_for(name, result)
        if not self._attempts:
            return encode_checkpoint(result, int(outcome), sub_flow=sub_flow, item=item)
        ends, trace = self._attempts.ends(name), self._attempts.take_traceback(name, keep=node.step.undo_on_failure)
        return encode_checkpoint(result, int(outcome), sub_flow=sub_flow, attempts=ends, traceback=trace, item=item)

    def _stands_for(self, step_name: str, result: StepResult) -> str | None:
        """Return the sub-flow that a step has taken over, until it completes with one of its own."""
        if not self._kept:
            return None
        if result.status is StepStatus.COMPLETED:
            self._kept.pop(step_name, None)  # it is of this execution now
        kept = self._kept.get(step_name)
        return None if kept is None else kept.sub_flow

    def _write(
        self, step_name: str, data: str, then: Then | None, progress_of: str | None = None, *, seq: int | None = None
    ) -> None:
        """Write what is known of a step: as the last that settled, or at its place *seq* in that order."""
        done = partial(self._written, step_name, then)
        if self._bounds is not ANYTHING and self._bounds.problem_of_key(step_name) is not None:
            done(None)  # it has failed, and fails again whoever goes on: there is nothing to keep
            return
        signal = self._signals.get(step_name) if self._signals else None
        place = next(self._places) if seq is None else seq
        save = SaveStep(self.execution_id, step_name, place, data, signal, self.epoch, done, progress_of)
        try:
            self._queue(save)
        except Exception as error:  # noqa: BLE001 (as in `ask`, which would be one call more for each step)
            raise failure(self._kind, error)  # noqa: B904 (it has its cause)
        if seq is None:
            self._seq[step_name] = place

    def _written(self, step_name: str, then: Then | None, error: Exception | None) -> bool:
        """Tell who has to know what became of the row of a step, on the writer's thread, where there is one."""
        if error is None:
            if then is not None:
                then(None)
            return False
        if not isinstance(error, StoreFailed):
            self._losses.write_failed(error)
            return False
        self._committed.discard(step_name)
        if then is None:
            return self._losses.write_refused(step_name, error)
        then(error)
        return True

    def _check(self, error: Exception | None) -> None:
        if error is not None:
            self._losses.write_failed(error)


def _digest_of(node: Node) -> str | None:
    return None if node.item is None else node.item.digest


class _Nobody:
    """Takes no note."""

    def write_failed(self, error: Exception) -> None: ...

    def write_refused(self, step_name: str, error: Exception) -> bool:  # noqa: ARG002
        return False


NOBODY: Final = _Nobody()
"""Is told, and does nothing."""
