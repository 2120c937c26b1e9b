"""A step that is a command did not succeed."""

import signal

import attrs

from szal.errors.step import StepError

__all__ = ["CommandOutputUnusable", "ExitStatusUnknown", "ShellFailed"]


@attrs.define(repr=False, slots=False)
class ShellFailed(StepError):
    """A command ended with an exit code other than 0; a negative one is the signal that killed its shell.

    >>> print(ShellFailed("make", 2, "cc: hello.c: No such file\\n"))
    command failed with exit status 2: cc: hello.c: No such file
    """

    command: str
    exit_code: int
    stderr: str

    def __str__(self) -> str:
        number = -self.exit_code if self.exit_code < 0 else self.exit_code - 128  # a shell's way to say so
        killed = f"killed by {signal.Signals(number).name}" if number in set(signal.Signals) else ""
        if self.exit_code < 0:
            how = f"command was {killed or f'killed by signal {number}'}"
        else:
            how = f"command failed with exit status {self.exit_code}{killed and f' ({killed})'}"
        lines = self.stderr[-4000:].rstrip().splitlines()[-10:]
        if len(lines) > 1:
            return how + ":" + "".join(f"\n  {line}" for line in lines)
        return f"{how}: {lines[0]}" if lines else how


@attrs.define(repr=False, slots=False)
class CommandOutputUnusable(StepError):
    """A command that succeeded, and printed what its ``output`` cannot be made of.

    >>> print(CommandOutputUnusable("json", "line 1, column 1: expecting value"))
    the command's stdout is not what output: json takes: line 1, column 1: expecting value
    """

    output: str
    problem: str

    def __str__(self) -> str:
        return f"the command's stdout is not what output: {self.output} takes: {self.problem}"


@attrs.define(repr=False, slots=False)
class ExitStatusUnknown(StepError):
    """A command has ended, and nobody can tell how: it may have failed.

    >>> print(ExitStatusUnknown("this process ignores SIGCHLD"))
    the command has ended, but its exit status is not known: this process ignores SIGCHLD
    """

    reason: str

    def __str__(self) -> str:
        return f"the command has ended, but its exit status is not known: {self.reason}"
