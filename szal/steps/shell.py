"""The step type "shell": a command, with values put into it that can never become syntax."""

import errno
import json
import os
import shlex
from collections.abc import Mapping
from functools import partial

import attrs

from szal.errors import (
    Cancelled,
    CommandOutputUnusable,
    CommandResultUnusable,
    GiveUp,
    ShellFailed,
    ShellNotSupported,
    SzalError,
    signal_name,
)
from szal.expressions.path import Json
from szal.scheduler.context import StepContext
from szal.steps.folder import CommandFiles
from szal.steps.interpreter import Interpreter
from szal.steps.machine import check_action, directory_of, missing_for, split_home
from szal.steps.printed import json_in
from szal.steps.process import ProcessGroup, missing_here
from szal.steps.results_file import read_outputs
from szal.steps.script import script_of
from szal.steps.stop_policy import StopPolicy
from szal.steps.stream import MAX_OUTPUT
from szal.steps.values import loading
from szal.steps.variables import MAX_VARIABLE, environment_of

__all__ = ["MAX_OUTPUT", "run_shell"]


def run_shell(ctx: StepContext, config: Mapping[str, Json] | None = None) -> Json:
    """Run the command ``config["run"]`` and return ``{"exit_code": 0, "stdout": …, "stderr": …}``.

    *config* is the step's own unless given. Beside "run" it may hold "cwd", "env" (an object), "shell" (a shell, or
    another program that takes a script after ``-c``, with its options), "stop" and "output". A shell without options,
    "sh" by default, gets ``-e``, so that a failing line ends the script, and where it has that ``-o pipefail``. A "cwd"
    that is relative is seen from `StepContext.cwd`, where the command runs without one. ``~`` and ``$HOME`` at its
    beginning are the home directory.

    The two texts come without the line ends that they end with, as in a shell's ``$( )``. With "output" the stdout
    alone is what is returned: as it is ("text"), as a list of its lines ("lines"), or as the value that it is the
    JSON of ("json"). Where that cannot be, or more was printed than is kept, the attempt fails as any other does.
    What the command writes to the file ``$SZAL_RESULT``, as lines ``name=value`` or one JSON object, is "outputs".

    A value that a template puts into the command is one word, whatever it contains, and inside quotes it is a part
    of the quoted text: it cannot become syntax. It may have any size, and is not in
    the process list. The command finds the variables ``SZAL_EXECUTION_ID``, ``SZAL_FLOW``, ``SZAL_STEP``,
    ``SZAL_ATTEMPT``, ``SZAL_IDEMPOTENCY_KEY``, ``SZAL_INPUT_NAME`` and ``SZAL_OUTPUT_STEP``; where the step runs over a
    list, ``SZAL_ITEM`` and ``SZAL_INDEX``; and when it undoes a step ``SZAL_OUTPUT``: that step's output as JSON. What
    is too large for a variable is the file ``SZAL_OUTPUT_STEP_FILE``.

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

    Raises `ShellFailed` if the exit status is not 0, `CommandOutputUnusable`, `CommandResultUnusable`,
    `CommandFilesUnusable`, `MissingValue`, `GiveUp` for a *config* that no attempt could run, `StepTimeout` and
    `Cancelled` as `StepContext.check` does.

    >>> from szal import Engine, FlowDef, Handlers, StepDef
    >>> greet = StepDef("greet", step_type="shell", config={"run": "echo Hello, {{inputs.who}}"})
    >>> with Engine(Handlers()) as engine:
    ...     engine.run(FlowDef("demo", steps=[greet]), {"who": "$(whoami)"})["greet"].output
    {'exit_code': 0, 'stdout': 'Hello, $(whoami)', 'stderr': ''}
    """
    if missing := missing_here():
        raise ShellNotSupported((ctx.step.name,), missing=missing)
    with CommandFiles() as files:
        return _run(ctx, _Task.of(ctx, ctx.step.config if config is None else config, files))


def _run(ctx: StepContext, task: "_Task") -> Json:
    process = ProcessGroup(task.command, ctx, cwd=task.cwd, environment=task.environment, policy=task.policy)
    came_to: dict[str, Json] = {}
    try:
        exit_code = process.run()
        if exit_code is None:
            ctx.check()
            raise Cancelled
        came_to = _came_to(process)
        if exit_code:
            shown = ctx.redaction.text  # before what is told of it is cut
            command = shown(ctx.render(task.run, quote=shlex.quote))
            raise ShellFailed(command, exit_code, shown(came_to["stderr"]), shown(came_to["stdout"]))
        outputs = read_outputs(task.result)
        if task.output is not None:
            if outputs:
                raise CommandResultUnusable(_beside(task.output))
            return _made_into(task.output, came_to["stdout"], is_cut=process.stdout.truncated)
        return {**came_to, "outputs": outputs} if outputs else came_to
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


def _beside(output: str) -> str:
    return f"output: {output} makes stdout the whole output of the step: leave out one of the two"


def _made_into(output: str, stdout: str, *, is_cut: bool) -> Json:
    """Return what *output* makes of all that a command has printed."""
    if is_cut:
        raise CommandOutputUnusable(output, f"it is more than the {MAX_OUTPUT} bytes that are kept: write a file")
    if output == "text":
        return stdout
    if output == "lines":
        return [line.removesuffix("\r") for line in stdout.split("\n")] if stdout else []
    return json_in(stdout, partial(CommandOutputUnusable, output))


# -- what is to be run -------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class _Task:
    """A step's `config` with everything filled in, and its files made."""

    run: str  # as it is written
    interpreter: Interpreter
    command: list[str]
    cwd: str | None
    own: Mapping[str, str]  # what "env" says
    environment: Mapping[str, str]
    result: str  # the file for what it comes to
    policy: StopPolicy
    output: str | None

    @classmethod
    def of(cls, ctx: StepContext, config: Json, files: CommandFiles) -> "_Task":
        """Check and render *config*; raise `GiveUp` naming the step and what is wrong."""
        check_action(ctx, "shell", config)
        run = config["run"]
        script, values = script_of(ctx, run, config.get("shell"))
        home, rest = split_home(config.get("cwd") or "")
        cwd = _rendered(ctx, rest) if rest else None
        own = {name: _rendered(ctx, value) for name, value in (config.get("env") or {}).items()}
        check_action(ctx, "shell", {"run": script, "cwd": cwd, "env": own}, rendered=True)
        if any("\0" in value for value in values.values()):
            raise GiveUp(f"step {ctx.step.name!r}: a value in config.run contains a NUL character")
        directory = directory_of(home + (cwd or "") or None, ctx.cwd)
        interpreter = Interpreter.of(config.get("shell"), directory=directory, path=own.get("PATH"))
        result = files.add("result", is_open=True)
        unseen = {name: value for name, value in values.items() if _is_unseen(ctx, value)}
        in_files = {name: value for name, value in values.items() if name not in unseen}
        return cls(
            run=run,
            interpreter=interpreter,
            command=interpreter.command_for(loading(in_files, files) + script, files),
            cwd=directory,
            own=own,
            environment={**environment_of(ctx, run, own, files, result=result), **unseen},
            result=result,
            policy=StopPolicy.of(config.get("stop")),
            output=config.get("output"),
        )

    def give_up(self, ctx: StepContext, error: OSError) -> None:
        """Raise `GiveUp` where *error* came of what is not there, or cannot be given to a process: it stays so."""
        config = {"cwd": self.cwd, "shell": str(self.interpreter), "env": self.own}
        if missing := missing_for("shell", config, None):
            raise GiveUp(f"step {ctx.step.name!r}: {missing[0]}") from error
        if error.errno == errno.E2BIG:
            raise GiveUp(f"step {ctx.step.name!r}: {self._too_large()}") from error

    def _too_large(self) -> str:
        """Return which variable is too large, as far as one can tell, and what to do about it."""
        sizes = {name: len(os.fsencode(value)) for name, value in self.environment.items()}
        largest = max(sizes, key=sizes.__getitem__)
        if largest in self.own:
            instead = "put the {{…}} into the command, where a value may have any size"
            return f"config.env {largest} has {sizes[largest]} bytes, more than this system takes: {instead}"
        total = f"the variables of this process have {sum(sizes.values())} bytes together, more than this system takes"
        return f"{total}: {largest} is the largest, with {sizes[largest]}"


def _is_unseen(ctx: StepContext, value: str) -> bool:
    """Whether *value* must not be seen: then it is in no file, which a crash would leave behind, if that can be."""
    is_secret = ctx.redaction.is_active and ctx.redaction.text(value) != value
    return is_secret and len(value.encode()) <= MAX_VARIABLE


def _rendered(ctx: StepContext, value: Json) -> str:
    """Return *value* as it would stand in a command, but without quotes; what is written as null is empty."""
    if value is None:
        return ""
    if isinstance(value, str):
        return str(ctx.render(value, quote=str))
    return json.dumps(ctx.render(value), ensure_ascii=False, separators=(",", ":"))
