"""What an attempt has of `StepContext.transaction`: a transaction that its outcome is committed with, or not at all.

The handler's thread begins it. The thread that called the handler ends it, before anybody hears how the attempt has
ended: an attempt that nobody waits for any more never commits.
"""

import logging
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import attrs

from szal.errors import (
    Cancelled,
    EncodeError,
    NotSupportedHere,
    OutputNotSerializable,
    SzalError,
    TransactionFailed,
    describe,
)
from szal.expressions.path import Json
from szal.interruption import is_interruption
from szal.logs import SafeLogger
from szal.model.json.text import as_recorded
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.raised import is_a, set_cause
from szal.scheduler.call import Call, NextPoll
from szal.scheduler.clock import Clock
from szal.scheduler.holding import is_come_to
from szal.scheduler.memos import Memos
from szal.scheduler.observers import Joined, Shared, StepLog
from szal.scheduler.plan import Node

__all__ = ["Asked", "JoinedWork", "OwnWork", "Work"]

logger = SafeLogger(logging.getLogger(__name__))

_TWICE = "it is asked for a second time in this attempt, and there is one: do all in one block"


@attrs.frozen(eq=False)
class Asked:
    """The attempt that asks for a transaction."""

    log: StepLog | None
    node: Node
    """As the log knows it."""
    memos: Memos
    number: int
    clock: Clock
    check: Callable[[], None]
    """Raises where the attempt is to end."""
    is_given_up: Callable[[], bool]
    """Whether it was told to end for good, or nobody waits for it any more."""
    promise: Callable[[], None]
    """Has nobody give up on it from now on; asked before `is_given_up`."""

    def log_of(self) -> StepLog:
        """Return the log. Raises `NotSupportedHere`."""
        if self.log is None:
            raise NotSupportedHere(
                "ctx.transaction()", "nothing is recorded here: it needs a store in an SQLite file or in PostgreSQL"
            )
        return self.log


class Work:
    """The block of an attempt, and what follows it."""

    takes_memos = False
    """Whether what `ctx.once` finds out now is written in it."""
    is_written = False
    """Whether the outcome of the step is committed as it is, with all that there is to tell of it."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._is_used = False
        self.memos: dict[str, str] = {}
        """What is written in it, by `memo_key`: nobody else sees it yet."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Tell who takes the block for the connection."""
            block = "ctx.transaction() is a block: write with ctx.transaction() as connection:"
            raise AttributeError(f"there is no {name!r} here: {block}", name=name, obj=self)

    def refuse_another(self) -> None:
        """Raise, as there is one in this attempt."""
        raise TransactionFailed(_TWICE)

    def _use(self) -> None:
        if self._is_used:
            raise TransactionFailed(_TWICE)
        self._is_used = True

    def _ended(self, call: Call, output: Json, encoded: str | None, ahead: float) -> tuple[StepResult, NextPoll | None]:
        """Return what is recorded of the step: its outcome, or, where it polls on, what it has come to."""
        node, log = call.node, self._asked.log
        if node.until is not None and not is_come_to(call.run.info, node, output):
            return call.so_far(output, encoded, ahead), call.next_poll()
        history = call.run.history.get(node.place)
        if log is not None and history is not None and history.attempt:  # it is recorded how its attempts ended
            log.attempt_ended(self._asked.node, ahead + call.started, ahead + call.ended, None)
        return call.completed(output, encoded, ahead), None

    def remember(self, name: str, text: str, written: str) -> None:
        """Write a memo in it, as *written*, and keep it as it is."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Take note that nobody waits for the attempt any more. Coordinating thread only."""

    def conclude(
        self, call: Call, output: Json, encoded: str | None, error: BaseException | None, ahead: float
    ) -> tuple[StepResult | None, BaseException | None]:
        """End it, as the handler has returned, or raised *error*; return the outcome if it is committed, else why not.

        Neither: the handler has returned, and there was nothing to commit.
        """
        raise NotImplementedError


class OwnWork(Work):
    """A transaction of the store's own."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        self._shared: Shared | None = None

    def __enter__(self) -> Any:
        self._use()
        asked = self._asked
        shared = self._shared = asked.log_of().open(asked.node, asked.check)
        if asked.is_given_up():  # after it is known here: whoever gives up on the attempt next ends it
            self._roll_back()
            raise Cancelled("nobody waits for this attempt any more")
        self.takes_memos = True
        return shared.connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        if kind is not None:
            self._roll_back()
        return False

    def remember(self, name: str, text: str, written: str) -> None:
        assert self._shared is not None
        self._shared.memo(name, written)
        self.memos[name] = text

    def abandon(self) -> None:
        if (shared := self._shared) is not None:
            shared.abandon()

    def _roll_back(self) -> None:
        self.takes_memos = False
        shared, self._shared = self._shared, None
        self.memos.clear()
        if shared is not None:
            shared.roll_back()

    def conclude(
        self, call: Call, output: Json, encoded: str | None, error: BaseException | None, ahead: float
    ) -> tuple[StepResult | None, BaseException | None]:
        shared = self._shared
        if shared is None:
            return None, error
        if error is not None:
            problem = shared.problem
            self._roll_back()
            if problem is not None and not (is_a(error, SzalError) or is_interruption(error)):
                set_cause(problem, error)  # its connection was taken away
                return None, problem
            return None, error
        try:
            result, following = self._ended(call, output, encoded, ahead)
            shared.commit(self._asked.node, result, following)
        except BaseException as refused:  # noqa: BLE001 (what the handler wrote may be refused, and that is its failure)
            self._roll_back()
            return None, refused
        self._asked.memos.keep(self.memos)
        self.is_written = True
        self.takes_memos = False
        return (result if following is None else None), None


class JoinedWork(Work):
    """A transaction of the application's, on *connection*, which its owner commits, or rolls back.

    *output* is what the step has come to then, or a function that returns it; ``...``: what its handler returns.
    """

    def __init__(self, asked: Asked, connection: object, output: object = ...) -> None:
        super().__init__(asked)
        self._connection = connection
        self._given = output
        self._joined: Joined | None = None
        self._is_recorded = False
        self._entered = 0.0
        self._output: tuple[str | None, Json] = None, None
        if asked.log is not None:
            asked.log.catch_up()  # while nothing of the application's is in the way

    def __enter__(self) -> Any:
        self._use()
        asked = self._asked
        if asked.node.until is not None:
            why = "the step polls (until=), and what it has come to is known when its handler returns"
            raise NotSupportedHere("ctx.transaction(connection=…)", why)
        self._entered = asked.clock.monotonic()
        self._joined = asked.log_of().join(asked.node, self._connection)
        self.takes_memos = True
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self.takes_memos = False
        if kind is None:
            self._record()
        else:
            self.memos.clear()  # its owner rolls it back
        return False

    def _record(self) -> None:
        """Write that the step is done, which is so once the owner has committed."""
        asked, joined = self._asked, self._joined
        assert joined is not None
        self._output = self._encoded()
        asked.promise()
        if asked.is_given_up():
            raise Cancelled("nobody waits for this attempt any more")
        spent = asked.clock.monotonic() - self._entered
        encoded, output = self._output
        step, done = asked.node.step, StepStatus.COMPLETED
        began = asked.clock.wall() - spent
        joined.record(
            asked.node,
            StepResult(step.id, step.name, done, output, spent, asked.number, None, None, began, None, encoded),
        )
        self._is_recorded = True

    def _encoded(self) -> tuple[str, Json]:
        if self._given is ...:
            return "null", None
        given: Any = self._given() if callable(self._given) else self._given
        try:
            return as_recorded(given, "output")
        except EncodeError as error:
            raise OutputNotSerializable(error.path, error.problem) from None

    def remember(self, name: str, text: str, written: str) -> None:
        assert self._joined is not None
        self._joined.memo(name, written)
        self.memos[name] = text

    def conclude(
        self, call: Call, output: Json, encoded: str | None, error: BaseException | None, ahead: float
    ) -> tuple[StepResult | None, BaseException | None]:
        joined = self._joined
        if joined is None or not self._is_recorded:
            return None, error
        try:
            is_committed = joined.has_committed()
        except BaseException as problem:  # noqa: BLE001 (nobody knows: whoever goes on with the execution sees)
            if error is not None:
                set_cause(problem, error)
            return None, problem
        if not is_committed:
            self.memos.clear()
            rolled_back = "its owner has rolled it back, and the handler returned all the same: let the error pass"
            return None, error or TransactionFailed(rolled_back)
        self._asked.memos.keep(self.memos)
        has_returned = encoded is not None
        if error is not None and not has_returned:
            name = self._asked.node.key
            raised = describe(error, call.run.info.redaction.mask)
            logger.warning("step %s is done, and committed; then its handler raised %s", name, raised)
        if not has_returned or self._given is not ...:
            encoded, output = self._output
        return self._ended(call, output, encoded, ahead)[0], None
