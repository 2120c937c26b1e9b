"""The step type "shell": a command, with values put into it that can never become syntax."""

import errno
import json
import os
import shlex
from collections.abc import Mapping
from typing import Final

import attrs

from szal.errors import (
    Cancelled,
    CommandOutputUnusable,
    DecodeError,
    EncodeError,
    GiveUp,
    ShellFailed,
    ShellNotSupported,
    SzalError,
    signal_name,
)
from szal.expressions.path import Json
from szal.model.config import DEFAULT_SHELL, words_of
from szal.model.json.text import as_recorded, loads
from szal.scheduler.context import StepContext
from szal.steps.machine import check_action, directory_of, missing_for, split_home
from szal.steps.process import ProcessGroup, missing_here
from szal.steps.script import script_of
from szal.steps.stop_policy import StopPolicy
from szal.steps.stream import MAX_OUTPUT

__all__ = ["MAX_OUTPUT", "run_shell"]

_MAX_VARIABLE: Final = 100_000  # Linux takes 128 KiB in one variable


def run_shell(ctx: StepContext, config: Mapping[str, Json] | None = None) -> Json:
    """Run the command ``config["run"]`` and return ``{"exit_code": 0, "stdout": …, "stderr": …}``.

    *config* is the step's own unless given. Beside "run" it may hold "cwd", "env" (an object), "shell" (a POSIX
    shell with its options, "sh -e" by default, so that a failing line ends the script), "stop" and "output". A "cwd"
    that is relative is seen from `StepContext.cwd`, where the command runs without one. ``~`` and ``$HOME`` at its
    beginning are the home directory.

    The two texts come without the line ends that they end with, as in a shell's ``$( )``. With "output" the stdout
    alone is what is returned: as it is ("text"), as a list of its lines ("lines"), or as the value that it is the
    JSON of ("json"). Where that cannot be, or more was printed than is kept, the attempt fails as any other does.

    A value that a template puts into the command is one word, whatever it contains, and inside quotes it is a part
    of the quoted text: it cannot become syntax (docs/shell.md has where it may stand). The command finds the
    variables ``SZAL_EXECUTION_ID``, ``SZAL_FLOW``, ``SZAL_STEP``, ``SZAL_ATTEMPT``, ``SZAL_IDEMPOTENCY_KEY``, and
    when it undoes a step ``SZAL_OUTPUT``: that step's output as JSON (left out where it is over 100 kB, or has none).

    Each line is reported as ``{"stream": "stdout", "line": …}`` when it comes. One that is written over after a
    carriage return, as progress bars are, is reported each time it has changed, with ``"end": "\\r"``, and once more
    when it ends. Of very long output the last `MAX_OUTPUT` bytes are returned, and "truncated" lists the streams that
    were cut.

    When the time is up or the run is cancelled, the whole process group gets SIGTERM, and two seconds later SIGKILL,
    unless "stop" says otherwise: ``{"signal": "INT", "grace": 10}``. Nothing that follows begins before it has ended.
    What the command leaves behind in the background when it ends is ended likewise, after the grace if that still has
    the output open: what is to outlive a step needs a session of its own (``setsid``). All of it is also ended if this
    process dies.

    A step that fails keeps the same object, whatever "output" says, as its output: "exit_code" (negative where a signal
    killed the shell, null where it is not known), "signal" then, and what was printed. The last lines are in the error.

    Raises `ShellFailed` if the exit status is not 0, `CommandOutputUnusable`, `MissingValue`, `GiveUp` for a *config*
    that no attempt could run, `StepTimeout` and `Cancelled` as `StepContext.check` does.

    >>> from szal import Engine, FlowDef, Handlers, StepDef
    >>> greet = StepDef("greet", step_type="shell", config={"run": "echo Hello, {{inputs.who}}"})
    >>> with Engine(Handlers()) as engine:
    ...     engine.run(FlowDef("demo", steps=[greet]), {"who": "$(whoami)"})["greet"].output
    {'exit_code': 0, 'stdout': 'Hello, $(whoami)', 'stderr': ''}
    """
    if missing := missing_here():
        raise ShellNotSupported((ctx.step.name,), missing=missing)
    task = _Task.of(ctx, ctx.step.config if config is None else config)
    process = ProcessGroup(
        [*task.interpreter, task.script], ctx, cwd=task.cwd, environment=task.environment, policy=task.policy
    )
    came_to: dict[str, Json] = {}
    try:
        exit_code = process.run()
        if exit_code is None:
            ctx.check()
            raise Cancelled
        came_to = _came_to(process)
        if exit_code:
            raise ShellFailed(task.command, exit_code, came_to["stderr"], came_to["stdout"])
        if task.output is not None:
            return _made_into(task.output, came_to["stdout"], is_cut=process.stdout.truncated)
        return came_to
    except OSError as error:
        task.give_up(ctx, error)
        raise
    except SzalError as error:
        if process.has_started:
            error.partial_output = came_to or _came_to(process)
        raise


def _came_to(process: ProcessGroup) -> dict[str, Json]:
    """Return how a command has ended, and what it printed."""
    code = process.exit_code
    streams = (process.stdout, process.stderr)
    output: dict[str, Json] = {"exit_code": code, **{each.name: each.text().rstrip("\r\n") for each in streams}}
    if code is not None and code < 0:
        output["signal"] = signal_name(-code)
    if cut := [each.name for each in streams if each.truncated]:
        output["truncated"] = cut
    return output


def _made_into(output: str, stdout: str, *, is_cut: bool) -> Json:
    """Return what *output* makes of all that a command has printed."""
    if is_cut:
        raise CommandOutputUnusable(output, f"it is more than the {MAX_OUTPUT} bytes that are kept: write a file")
    if output == "text":
        return stdout
    if output == "lines":
        return [line.removesuffix("\r") for line in stdout.split("\n")] if stdout else []
    try:
        return loads(stdout)
    except DecodeError as error:
        raise CommandOutputUnusable(output, _place_of(error, stdout)) from None


def _place_of(error: DecodeError, stdout: str) -> str:
    """Return what is wrong with the JSON in *stdout*, with line and column where that has a place."""
    try:
        json.loads(stdout)
    except json.JSONDecodeError as syntax:
        return f"line {syntax.lineno}, column {syntax.colno}: {syntax.msg[:1].lower()}{syntax.msg[1:]}"
    except (ValueError, RecursionError):
        pass
    return str(error)


# -- what is to be run -------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class _Task:
    """A step's `config` with everything filled in."""

    command: str  # for people to read
    script: str
    interpreter: list[str]
    cwd: str | None
    environment: dict[str, str]
    policy: StopPolicy
    output: str | None

    @classmethod
    def of(cls, ctx: StepContext, config: Json) -> "_Task":
        """Check and render *config*; raise `GiveUp` naming the step and what is wrong."""
        check_action(ctx, "shell", config)
        text, values = script_of(ctx, config["run"], config.get("shell"))
        script = "".join(f"{name}={shlex.quote(value)}; " for name, value in values.items()) + text
        if "\0" in script:
            raise GiveUp(f"step {ctx.step.name!r}: a value in config.run contains a NUL character")
        home, rest = split_home(config.get("cwd") or "")
        cwd = _rendered(ctx, rest) if rest else None
        env = {name: _rendered(ctx, value) for name, value in (config.get("env") or {}).items()}
        check_action(ctx, "shell", {"run": script, "cwd": cwd, "env": env}, rendered=True)
        return cls(
            command=ctx.render(config["run"], quote=shlex.quote),
            script=script,
            interpreter=[*words_of(config.get("shell") or DEFAULT_SHELL), "-c"],
            cwd=directory_of(home + (cwd or "") or None, ctx.cwd),
            environment=_environment(ctx, env),
            policy=StopPolicy.of(config.get("stop")),
            output=config.get("output"),
        )

    def give_up(self, ctx: StepContext, error: OSError) -> None:
        """Raise `GiveUp` where *error* came of what is not there, or cannot be given to a process: it stays so."""
        config = {"cwd": self.cwd, "shell": shlex.join(self.interpreter), "env": self.environment}
        if missing := missing_for("shell", config, None):
            raise GiveUp(f"step {ctx.step.name!r}: {missing[0]}") from error
        if error.errno == errno.E2BIG:
            problem = "the command, with its values and variables, is larger than this system takes"
            raise GiveUp(f"step {ctx.step.name!r}: {problem}") from error


def _environment(ctx: StepContext, own: dict[str, str]) -> dict[str, str]:
    found = {
        **os.environ,
        "SZAL_EXECUTION_ID": ctx.execution_id,
        "SZAL_FLOW": ctx.flow_name,
        "SZAL_STEP": ctx.step.name,
        "SZAL_ATTEMPT": str(ctx.attempt),
        "SZAL_IDEMPOTENCY_KEY": ctx.idempotency_key,
    }
    if (output := _output(ctx)) is not None:
        found["SZAL_OUTPUT"] = output
    return found | own


def _output(ctx: StepContext) -> str | None:
    """Return the output of the step that is undone, as JSON; None where there is none that fits a variable."""
    if ctx.output is None:
        return None
    try:
        output = json.dumps(as_recorded(ctx.output, "output")[1])
    except EncodeError as error:  # without a store it may be any object
        ctx.log.warning("SZAL_OUTPUT is left out: %s", error)
        return None
    if len(output) > _MAX_VARIABLE:
        ctx.log.warning("SZAL_OUTPUT is left out: %d bytes are too many for a variable", len(output))
        return None
    return output


def _rendered(ctx: StepContext, value: Json) -> str:
    """Return *value* as it would stand in a command, but without quotes; what is written as null is empty."""
    if value is None:
        return ""
    if isinstance(value, str):
        return str(ctx.render(value, quote=str))
    return json.dumps(ctx.render(value), ensure_ascii=False, separators=(",", ":"))
