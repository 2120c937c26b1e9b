"""Who is told what happens to the steps of a run."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from szal.model.results import StepResult
from szal.scheduler.call import NextPoll
from szal.scheduler.plan import Node, Outcome

__all__ = ["Joined", "Shared", "StepLog", "StepWatcher", "Then"]

Then: TypeAlias = Callable[[Exception | None], None]
"""What is called once something is committed, with None, or with what it is refused for."""


class StepWatcher(Protocol):
    """Is told what happens to the steps of a run, on the coordinating thread."""

    def started(self, node: Node, moment: float) -> None:
        """The first attempt has begun, at *moment* (Unix time)."""

    def timed_out(self, node: Node, attempt: int, error: str) -> None:
        """An attempt ran past its limit."""

    def retrying(self, node: Node, attempt: int, delay: float, error: str) -> None:
        """An attempt failed, and another one follows in *delay* seconds."""

    def settled(self, node: Node, result: StepResult) -> None:
        """The step has its result."""


class Shared(Protocol):
    """A transaction that a handler writes in, and the outcome of its step is written last."""

    @property
    def connection(self) -> Any:
        """What the handler writes through."""

    @property
    def problem(self) -> Exception | None:
        """Why it has ended before its time."""

    def memo(self, name: str, text: str) -> None:
        """Write what the handler has found out, under its `memo_key`."""

    def commit(self, node: Node, result: StepResult, following: NextPoll | None = None) -> None:
        """Write that the step has completed so, or come to that, and another poll follows; and commit.

        After an exception nothing is committed, or nobody knows: then the run is being left.
        """

    def roll_back(self) -> None:
        """End it. Never raises."""

    def abandon(self) -> None:
        """Have it rolled back soon, whatever the handler is at. Waits for nothing."""


class Joined(Protocol):
    """A transaction of the application's, in which the outcome of a step is recorded."""

    def memo(self, name: str, text: str) -> None:
        """Write what the handler has found out, under its `memo_key`."""

    def record(self, node: Node, result: StepResult) -> None:
        """Write in it that the step has completed so."""

    def has_committed(self) -> bool:
        """Whether its owner has committed that, or rolled it back. Raises where it is open; then the run is left."""


class StepLog(Protocol):
    """Keeps what happens to the steps of a run, for after a crash. What it raises stops the run."""

    def settled(self, node: Node, result: StepResult, outcome: Outcome) -> None:
        """The step has its result."""

    def commit(self, node: Node, result: StepResult, outcome: Outcome, then: "Then") -> None:
        """The step is to have this result; *then* is called, on any thread, once that cannot be lost any more.

        It is called with an error where the store takes everything but that.
        """

    def begun(self, node: Node, result: StepResult, due: float | None, then: "Then | None" = None) -> None:
        """The step has begun; *then* as in `commit`."""

    def undecided(self, node: Node, result: StepResult) -> None:
        """Nobody knows whether the step was done: it is to be decided on."""

    def skipped_again(self, node: Node, result: StepResult, outcome: Outcome, age: int) -> None:
        """The step is skipped as it was so many reruns ago: to what follows it has not run since."""

    def withdrawn(self, node: Node) -> None:
        """The step was said to have begun, and has not."""

    def attempt_ended(self, node: Node, started: float, ended: float, error: BaseException | None) -> None:
        """One of several attempts has ended (Unix times); the step's outcome follows, or another attempt."""

    def polled(self, node: Node, result: StepResult, following: NextPoll) -> None:
        """A step that polls has come to *result*, and is called again in *delay* seconds: it has *left* for all."""

    def backing_off(self, node: Node, attempt: int, delay: float) -> None:
        """An attempt of a step that the engine does itself has failed; the next follows in *delay* seconds."""

    def open(self, node: Node, check: Callable[[], None]) -> Shared:
        """Begin a transaction for the handler of a step, once what is queued is committed; on the handler's thread.

        Raises what *check* does, which is called while it waits, and `Cancelled`, `NotSupportedHere`.
        """

    def catch_up(self) -> None:
        """Return once what is queued is committed. Raises `TransactionFailed` where something keeps that from it."""

    def join(self, node: Node, connection: object) -> Joined:
        """Return the application's transaction on *connection*; as `open`. Raises TypeError, ValueError as well."""
