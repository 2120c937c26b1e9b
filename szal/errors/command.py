"""A step that is a command did not succeed."""

import signal

import attrs

from szal.errors.step import StepError
from szal.errors.tail import signal_name, with_tails

__all__ = [
    "CommandFilesUnusable",
    "CommandOutputUnusable",
    "CommandResultUnusable",
    "ExitStatusUnknown",
    "ShellFailed",
]


@attrs.define(repr=False, slots=False)
class ShellFailed(StepError):
    """A command ended with an exit code other than 0; a negative one is the signal that killed its shell.

    `stderr` and `stdout` are what it printed: the end of each, where that was very much.

    Cause: the command ended with another exit status than 0, or was killed.
    Next: read the last lines of its output, which the message has; run the command by hand in the same folder. Then
        `szal rerun ID`.

    >>> print(ShellFailed("make", 2, "cc: hello.c: No such file\\n"))
    command failed with exit status 2: cc: hello.c: No such file
    """

    command: str
    exit_code: int
    stderr: str
    stdout: str = ""

    @property
    def exit_status(self) -> int:
        """The exit status as a shell tells it (``$?``): of one that was killed by a signal 128 and its number.

        >>> ShellFailed("make", -9, "").exit_status
        137
        """
        return 128 - self.exit_code if self.exit_code < 0 else self.exit_code

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed its shell, if one did."""
        return signal_name(-self.exit_code) if self.exit_code < 0 else None

    def __str__(self) -> str:
        number = self.exit_status - 128
        is_known = number in set(signal.Signals)
        if self.exit_code < 0:
            how = f"command was killed by {'' if is_known else 'signal '}{signal_name(number)}"
        else:  # a shell's way to say so
            killed = f" (killed by {signal_name(number)})" if is_known else ""
            how = f"command failed with exit status {self.exit_code}{killed}"
        return with_tails(how, self.stderr, self.stdout)


@attrs.define(repr=False, slots=False)
class CommandOutputUnusable(StepError):
    """A command that succeeded, and printed what its ``output`` cannot be made of.

    Cause: the command printed something else beside its output, or nothing.
    Next: have it print nothing else to stdout (logs go to stderr), or leave `output` out.

    >>> print(CommandOutputUnusable("json", "line 1, column 1: expecting value"))
    the command's stdout is not what output: json takes: line 1, column 1: expecting value
    """

    output: str
    problem: str

    def __str__(self) -> str:
        return f"the command's stdout is not what output: {self.output} takes: {self.problem}"


@attrs.define(repr=False, slots=False)
class CommandResultUnusable(StepError):
    """A command that succeeded, and wrote to the file ``$SZAL_RESULT`` what is no outputs, or may not be there.

    Cause: what the command wrote to the file that $SZAL_RESULT names is not what szal reads there.
    Next: have it write what docs/shell.md says, then `szal rerun ID`.

    >>> print(CommandResultUnusable("line 2: there is no = in it"))
    what the command wrote to $SZAL_RESULT cannot be used: line 2: there is no = in it
    """

    problem: str

    def __str__(self) -> str:
        return f"what the command wrote to $SZAL_RESULT cannot be used: {self.problem}"


@attrs.define(repr=False, slots=False)
class CommandFilesUnusable(StepError):
    """The files that a command is given cannot be made: for its values, what it is to know, and what it comes to.

    Cause: the folder for temporary files is full, not there, or not this user's to write.
    Next: have TMPDIR name a folder that has room, then `szal rerun ID`.

    >>> print(CommandFilesUnusable("/tmp", "No space left on device"))
    no files for the command in /tmp: No space left on device: have TMPDIR name a folder that has room
    """

    folder: str | None
    problem: str

    def __str__(self) -> str:
        where = "" if self.folder is None else f" in {self.folder}"
        return f"no files for the command{where}: {self.problem}: have TMPDIR name a folder that has room"


@attrs.define(repr=False, slots=False)
class ExitStatusUnknown(StepError):
    """A command has ended, and nobody can tell how: it may have failed.

    Cause: something in this process waits for all children, or ignores SIGCHLD.
    Next: remove `signal(SIGCHLD, SIG_IGN)`, or run the flow in a process of its own (`szal run`).

    >>> print(ExitStatusUnknown("this process ignores SIGCHLD"))
    the command has ended, but its exit status is not known: this process ignores SIGCHLD
    """

    reason: str

    def __str__(self) -> str:
        return f"the command has ended, but its exit status is not known: {self.reason}"
