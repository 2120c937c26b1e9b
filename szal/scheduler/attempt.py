"""One call of a handler on a thread of its own, which the engine may stop waiting for."""

import contextlib
import contextvars
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from szal.errors import Cancelled, EncodeError, OutputNotSerializable
from szal.expressions.path import Json
from szal.interruption import is_interruption
from szal.model.json.text import as_recorded
from szal.model.results import StepResult
from szal.process_events import HERE, end_fork
from szal.raised import cause_of, trace_of, without_trace_of
from szal.scheduler.call import Call
from szal.scheduler.context import StepContext
from szal.scheduler.permits import Permit
from szal.scheduler.transaction import Work
from szal.waiters import Mailbox

__all__ = [
    "Attempt",
    "Encode",
    "Lost",
    "NotTaken",
    "clear_engine_frames",
    "encode_output",
    "without_engine_frames",
]


Encode: TypeAlias = Callable[[Json], tuple[str, Json]]
"""What makes of an output what is recorded: its text, and what that says. It refuses what cannot be recorded."""


class NotTaken(Exception):
    """What was to make an attempt takes none any more: it has not begun."""


class Lost(Exception):
    """What was to make an attempt is out of reach: nobody knows whether it has begun, or how it ended."""


class Attempt:
    """A call that a worker makes and the coordinator waits for; the stage of a step while it is under way.

    The worker writes `output`, `encoded` and `error`, then reports; the coordinator reads them after that.
    """

    work: ClassVar[int] = 1
    waits: ClassVar[int] = 0

    __slots__ = (
        "ahead",
        "announce",
        "call",
        "context",
        "encode",
        "encoded",
        "error",
        "handler",
        "is_concluding",
        "is_last",
        "output",
        "permit",
        "pool",
        "recorded",
        "timer",
        "variables",
    )

    def __init__(
        self,
        call: Call,
        context: StepContext,
        handler: Callable[[StepContext], Json],
        variables: contextvars.Context,
        encode: Encode | None,
    ) -> None:
        self.call = call
        self.context = context
        self.handler = handler
        self.variables = variables
        self.encode = encode
        self.ahead = 0.0
        """By how much Unix time is ahead of the times of the call."""
        self.announce: Callable[[], None] | None = None
        """Put on the queue when it begins, for the coordinator to call."""
        self.is_last = False
        """Whether no other attempt follows, as it was told to end for good."""
        self.is_concluding = False
        """Whether its transaction is being ended: how that ends has to be known."""
        self.permit: Permit | None = None
        """On what its handler shares with others: given back when that has ended, be it that nobody waits for it."""
        self.pool: Any = None  # of the worker that it is given to
        self.timer: Any = None
        self.output: Json = None
        self.encoded: str | None = None
        self.error: BaseException | None = None
        self.recorded: StepResult | None = None
        """The outcome of the step, where it is committed: by its transaction."""

    def execute(self, finished: Mailbox[Any]) -> bool:
        """Call the handler and put this attempt on *finished*. False: it was abandoned, the thread is on its own."""
        context, call, process = self.context, self.call, HERE.process
        if context.cancelled or not call.begin():
            return True  # withdrawn while it was queued, or about to be: whoever stops the run has the coordinator told
        permit = self.permit
        if permit is not None:
            permit.begun()
        if self.announce is not None:
            finished.put(self.announce)
        try:
            if call.deadline is None or not call.is_too_late:  # else that is what it fails for
                output = self.variables.run(self.handler, context)
                if self.encode is not None:
                    self.encoded, output = self.encode(output)
                self.output = output
        except BaseException as error:  # noqa: BLE001 (whatever a handler raises is its step's failure)
            self.error = without_engine_frames(error)
        end_fork(process, call.node.step.name, self.error)
        call.ended = call.run.info.clock.monotonic()
        if call.deadline is not None and call.is_late:
            self.error = call.timed_out(self.error)
        if context.work is not None:
            self._conclude(context.work)
        if permit is not None:
            permit.release()
        if not call.report():
            return False
        finished.items.put(self)  # `Mailbox.put`, written out: each attempt comes by here
        if finished.is_listened_for:
            finished.ring()
        return True

    def _conclude(self, work: Work) -> None:
        """End the transaction that the handler has had; nobody gives up on this meanwhile.

        It is rolled back where somebody has, or where the step ends otherwise, whatever it comes to.
        """
        call = self.call
        self.is_concluding = True
        self.context.promise_to_end()
        if self.error is None and (self.context.is_given_up or call.node.place in call.run.overruled):
            self.error = call.timed_out() if self.context.remaining() == 0.0 else Cancelled("cancelled")
        raised = self.error
        self.recorded, self.error = work.conclude(self.call, self.output, self.encoded, raised, self.ahead)
        if self.recorded is not None and raised is not None and is_interruption(raised):
            self.error = raised  # it is not the step's, and is not lost


def without_engine_frames(error: BaseException) -> BaseException:
    """Return *error* with a traceback that begins in the handler: the engine's frame would keep a whole run alive."""
    return without_trace_of(error, 1)


def clear_engine_frames(error: BaseException) -> None:
    """Have the engine's frames that a traceback leads to, beyond those that it shows, let go of what they held."""
    done: set[int] = set()
    seen: BaseException | None = error
    while seen is not None and id(seen) not in done:  # causes may go round in a circle
        done.add(id(seen))
        trace = trace_of(seen)
        frame = None if trace is None else trace.tb_frame.f_back
        while frame is not None and frame.f_globals.get("__name__", "").startswith("szal."):
            with contextlib.suppress(RuntimeError):  # it has not come to its end
                frame.clear()
            frame = frame.f_back
        seen = cause_of(seen)


def encode_output(output: Json) -> tuple[str, Json]:
    """Return a handler's output as `as_recorded` does; raise `OutputNotSerializable` naming what cannot be recorded."""
    try:
        return as_recorded(output, "output")
    except EncodeError as error:
        raise OutputNotSerializable(error.path, error.problem) from None
