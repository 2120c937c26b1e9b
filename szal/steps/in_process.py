"""Attempts that are made in a child process: what is said to it, what it says, and its end, where it has to end."""

from contextlib import ExitStack, suppress
from typing import Any, Final

import attrs

from szal.clock import monotonic
from szal.errors import Cancelled, FailedElsewhere, ProcessDied, StepTimeout, describe
from szal.model.luggage import Luggage
from szal.scheduler.context import StepContext
from szal.steps.child_process import MOST_AFTER_KILL, ChildProcess
from szal.steps.forwarding import levels, log_here
from szal.steps.messages import Asked, Begun, Broken, Do, Ended, Logged, Made, Promised, Reply, Reported, Unreadable
from szal.steps.pickling import Apart, Packed, pickled, unpickled
from szal.steps.processes import Processes
from szal.steps.sending import IN_PROCESS
from szal.steps.supervisor import supervisor

__all__ = ["InProcess"]

_MOST_TO_BEGIN: Final = 60.0
"""Seconds for a process to start, and to import what it is to call."""
_MOST_BESIDE: Final = 2.0
"""Seconds for all else at the end of an attempt."""


class _Gone(Exception):
    """The child process has ended, and has said all that it was to say."""


@attrs.frozen(eq=False, repr=False)
class InProcess:
    """Has attempts made in child processes of the engine's."""

    processes: Processes
    grace: float

    words = IN_PROCESS
    keep = None

    def make(self, sent: Apart, ctx: StepContext) -> Packed:
        """Have a process do it, which is ended where the attempt is to end; return what it came to.

        Raises `ProcessDied`, and `Cancelled` or `StepTimeout` where it was to end and had not ended yet.
        """
        supervisor().look_after()
        with ctx.ends_within(self.grace + MOST_AFTER_KILL + _MOST_BESIDE):
            ctx.call.queue()
            while True:
                with self.processes.lent(ctx) as child:
                    was_used, attempt = child.was_used, _Attempt(child, ctx, self.grace)
                    try:
                        return attempt.make(sent.data)
                    except _Gone:
                        self.processes.end(child, monotonic() + MOST_AFTER_KILL)
                if not was_used or attempt.may_have_begun or attempt.is_told:
                    attempt.fail()  # else it had died in the meantime: that is nobody's failure


class _Attempt:
    """One attempt in *child*, on the thread that waits for it."""

    def __init__(self, child: ChildProcess, ctx: StepContext, grace: float) -> None:
        self._child = child
        self._ctx = ctx
        self._grace = grace
        self._step = ctx.step.name
        self._answer: Packed | None = None
        self._made: dict[int, Made] = {}
        self._promises: dict[int, tuple[float, ExitStack]] = {}
        self._why = ""
        self._since = monotonic()
        self._has_begun = False
        self._is_unreadable = False
        self._told_at: float | None = None
        self._is_killed = False

    @property
    def is_told(self) -> bool:
        """Whether the process was told to end."""
        return self._told_at is not None

    @property
    def may_have_begun(self) -> bool:
        """Whether the handler may have been called: the process has said so, or nobody knows what it has said."""
        return self._has_begun or self._is_unreadable

    def make(self, data: Packed) -> Packed:
        """Have it made, and return what it came to; raise `_Gone` where the process has ended, or is to end."""
        with self._ctx.wakes(self._child.bell):
            self._child.mailing.send(Do(data, levels()))
            while self._answer is None:
                self._go_on()
        if self.is_told:
            raise _Gone
        return self._answer

    def fail(self) -> None:
        """Raise what an attempt has come to whose process has ended. Not of what has come to an end in time."""
        if self.is_told:
            self._ctx.check()
            raise Cancelled("cancelled")
        when = "" if self._has_begun else " before it had begun"
        raise ProcessDied(self._step, self._child.exit_code, self._why or when)

    def _go_on(self) -> None:
        """Hear what the process says next, and see to it that it ends if it is to."""
        child = self._child
        self._look_at_the_time()  # after it can be woken: whoever tells it later rings
        child.wait(self._seconds_left())
        try:
            for message in child.mailing.receive():
                self._hear(message)
        except Unreadable as error:
            self._is_unreadable, self._why = True, f", as it wrote into the file that leads to the engine: {error}"
            self._kill()
            raise _Gone from error
        if not child.mailing.has_more and self._answer is None and child.has_ended():
            raise _Gone

    def _seconds_left(self) -> float:
        if self._is_killed:
            return _MOST_BESIDE
        return _MOST_TO_BEGIN if self._told_at is None else self._told_at + self._patience - monotonic()

    def _look_at_the_time(self) -> None:
        child, ctx = self._child, self._ctx
        if self._told_at is None and ctx.cancelled:
            self._told_at = monotonic()
            child.ask()
        if self._told_at is not None:
            if ctx.is_hurried or monotonic() >= self._told_at + self._patience:
                self._kill()
        elif not self._has_begun and monotonic() > self._since + _MOST_TO_BEGIN:
            self._could_not_begin(f"that took more than {_MOST_TO_BEGIN:.0f} s")
            self._kill()

    def _kill(self) -> None:
        if not self._is_killed:
            self._is_killed = True
            self._child.kill()

    @property
    def _patience(self) -> float:
        return max([self._grace, *(seconds for seconds, _ in self._promises.values())])

    # -- what it says ----------------------------------------------------------------------------------

    def _hear(self, message: Any) -> None:
        if isinstance(message, Ended):
            self._answer = message.answer
        elif isinstance(message, Begun):
            self._has_begun = True
            self._ctx.call.leave()
        elif isinstance(message, Logged):
            log_here(message.record)
        elif isinstance(message, Reported):
            self._report(message.data)
        elif isinstance(message, Asked):
            self._once(message)
        elif isinstance(message, Made):
            self._made[message.number] = message
        elif isinstance(message, Promised):
            self._promise(message)
        elif isinstance(message, Broken):
            self._could_not_begin(message.told)

    def _could_not_begin(self, told: str) -> None:
        self._why = f" before it could begin: {told}"

    def _report(self, data: Packed) -> None:
        try:
            found = unpickled(data)
        except Exception as error:  # noqa: BLE001 (whatever loading it does)
            self._ctx.log.error("what it has reported cannot be loaded here: %s", describe(error))
            return
        self._ctx.report(found)

    def _promise(self, promised: Promised) -> None:
        """Have the engine wait so much longer, or no more."""
        if promised.seconds is None:
            _, entered = self._promises.pop(promised.number, (0.0, ExitStack()))
            entered.close()
            return
        entered = ExitStack()
        with suppress(Cancelled, StepTimeout):  # then it has been told, too
            entered.enter_context(self._ctx.ends_within(promised.seconds + MOST_AFTER_KILL + _MOST_BESIDE))
        self._promises[promised.number] = promised.seconds, entered

    def _once(self, asked: Asked) -> None:
        """Tell what is kept under a key, having it made there where nothing is.

        What is said meanwhile is heard: other threads of the handler may ask for something, too.
        """

        def made_there() -> Any:
            self._child.mailing.send(Reply(asked.number, is_to_be_made=True))
            while (made := self._made.pop(asked.number, None)) is None:
                self._go_on()
            if made.failure is not None:
                raise unpickled(made.failure).exception or FailedElsewhere("what ctx.once called has failed")
            return unpickled(made.value)

        try:
            value = pickled(self._ctx.once(unpickled(asked.key), made_there))
        except _Gone:
            raise
        except BaseException as error:  # noqa: BLE001 (what it comes to is for the handler to know)
            self._child.mailing.send(Reply(asked.number, failure=pickled(Luggage(error))))
        else:
            self._child.mailing.send(Reply(asked.number, value=value))
