"""An attempt that was to be made elsewhere: on an executor, or in a child process."""

import attrs

from szal.errors.step import StepError
from szal.errors.tail import signal_name

__all__ = ["FailedElsewhere", "NotSendable", "ProcessDied"]


@attrs.define(repr=False, slots=False)
class NotSendable(StepError):
    """An attempt that cannot be made where it should be, as something cannot get there or back.

    `where` is that place: on the engine's executor, or in a child process.

    Cause: what is sent is a pickle: functions that are found by import, and plain data. The text names what is not, or
        what the other side could not load.
    Next: put the function at the top level of a module that both sides can import; pass plain data; or keep the step
        in the engine's process: `inline="always"`, `isolation="thread"`. It is not tried again as it is.

    >>> print(NotSendable("load", "input 'file'", "TypeError: cannot pickle 'TextIOWrapper' instances"))
    load cannot be done on the executor: input 'file': TypeError: cannot pickle 'TextIOWrapper' instances
    """

    step: str
    what: str
    error: str
    where: str = "on the executor"

    def __str__(self) -> str:
        return f"{self.step} cannot be done {self.where}: {self.what}: {self.error}"


@attrs.define(repr=False, slots=False)
class FailedElsewhere(StepError):
    """In the place of an exception of a handler in another process that cannot be pickled: its text.

    Cause: the handler raised, and its exception cannot cross to another process.
    Next: mend what the text names. `retry_on` cannot know it by its class: raise one that can be pickled.

    >>> print(FailedElsewhere("parser.BadLine: line 7"))
    parser.BadLine: line 7
    """

    error: str

    def __str__(self) -> str:
        return self.error


@attrs.define(repr=False, slots=False)
class ProcessDied(StepError):
    """The child process that an attempt was made in (``isolation="process"``) has ended in the middle of it.

    `exit_code` is negative where a signal killed it, and None where nobody can tell.

    Cause: the handler, or a library that it uses, crashed (SIGSEGV, SIGABRT) or left by `os._exit`; or somebody killed
        the process: with SIGKILL that is often the system, which was out of memory.
    Next: the step's policy decides whether it is tried again. For a crash see what the process has written to stderr
        (`PYTHONFAULTHANDLER=1` has it write where it was); for SIGKILL see the kernel's log, and have it need less.

    >>> print(ProcessDied("resize", -11))
    resize: its process was killed by SIGSEGV
    """

    step: str
    exit_code: int | None
    when: str = ""
    """What there is to say of when it died; nothing in the middle of the handler."""

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed it, if one did."""
        return None if self.exit_code is None or self.exit_code >= 0 else signal_name(-self.exit_code)

    def __str__(self) -> str:
        if self.exit_code is None:
            how = "has ended, nobody knows how"
        elif self.signal is None:
            how = f"ended with exit status {self.exit_code}"
        else:
            how = f"was killed by {'signal ' if self.signal.isdecimal() else ''}{self.signal}"
        return f"{self.step}: its process {how}{self.when}"
