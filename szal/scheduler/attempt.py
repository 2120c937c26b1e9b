"""One call of a handler on a thread of its own, which the engine may stop waiting for.

A thread cannot be killed, so who may still speak for an attempt is decided by two claims. The worker takes the
first to begin, the coordinator takes it to withdraw an attempt that is still queued; the worker takes the
second to report, the coordinator to abandon an attempt that runs. Taking a claim is one atomic `list.pop`, so
exactly one side wins, without a lock.
"""

import contextvars
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from szal.errors import EncodeError, OutputNotSerializable
from szal.expressions.path import Json
from szal.model.json.text import dumps
from szal.scheduler.context import StepContext
from szal.scheduler.plan import Node

__all__ = ["Attempt", "encode_output"]


class Attempt:
    """A call that a worker makes and the coordinator waits for.

    The worker writes the context's times, `output`, `encoded` and `error`, then reports; before that the
    coordinator reads only `begun`, and once that is set the start and the deadline.
    """

    __slots__ = (
        "_begin",
        "_handler",
        "_report",
        "_variables",
        "announce",
        "begun",
        "context",
        "encode",
        "encoded",
        "error",
        "limit",
        "node",
        "output",
        "pool",
        "run",
        "timer",
    )

    def __init__(
        self,
        run: Any,
        node: Node,
        context: StepContext,
        handler: Callable[[StepContext], Json],
        variables: contextvars.Context,
    ) -> None:
        self.run = run
        self.node = node
        self.context = context
        self.limit = node.step.timeout
        self.encode = False
        self.announce: Callable[[], None] | None = None
        """Put on the queue when it begins, for the coordinator to call."""
        self.pool: Any = None
        self.timer: Any = None
        self.begun = False
        self.output: Json = None
        self.encoded: str | None = None
        self.error: BaseException | None = None
        self._handler = handler
        self._variables = variables
        self._begin = [None]
        self._report = [None]

    def execute(self, finished: "SimpleQueue[Any]") -> bool:
        """Call the handler and put this attempt on *finished*. False: it was abandoned, the thread is on its own."""
        context = self.context
        if context.cancelled or not _take(self._begin):
            return True  # withdrawn while it was queued, or about to be: whoever cancels has the coordinator told
        context._started = time.monotonic()
        self._set_deadline()
        self.begun = True
        if self.announce is not None:
            finished.put(self.announce)
        try:
            output = self._variables.run(self._handler, context)
            if self.encode:
                self.encoded = encode_output(output)
            self.output = output
        except BaseException as error:  # noqa: BLE001 (whatever a handler raises is its step's failure)
            self.error = error
        context._ended = time.monotonic()
        if context._deadline is not None and context._ended >= context._deadline:
            self.error = context._timed_out()  # a handler may have held the interpreter lock past its limit
        if not _take(self._report):
            return False
        finished.put(self)
        return True

    def _set_deadline(self) -> None:
        """The limit counts from the start, not from the submission."""
        if self.limit is not None:
            own, flow = self.context._started + self.limit, self.context._deadline
            self.context._deadline = own if flow is None else min(own, flow)

    def withdraw(self) -> bool:
        """Take it back while it is still queued; the worker then passes it over. Coordinator only."""
        return _take(self._begin)

    def abandon(self) -> bool:
        """Stop waiting for it: what it still does is discarded. False where it has already ended. Coordinator only."""
        if not _take(self._report):
            return False
        self.context._interrupt(abandon=True)
        return True


def _take(claim: list[None]) -> bool:
    try:
        claim.pop()
    except IndexError:
        return False
    return True


def encode_output(output: Json) -> str:
    """Return a handler's output as JSON text; raise `OutputNotSerializable` naming what JSON cannot hold."""
    try:
        return dumps(output, "output")
    except EncodeError as error:
        raise OutputNotSerializable(error.path, error.problem) from None
