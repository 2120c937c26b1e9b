"""A flow, or what it was given, cannot be run as it is."""

from collections.abc import Sequence

import attrs

from szal.errors.root import SzalError

__all__ = [
    "CycleDetected",
    "HandlerNotFound",
    "InvalidFlow",
    "InvalidInputs",
    "LoadError",
    "MigrationFailed",
    "MissingExtra",
    "ShellNotSupported",
    "UnusedHandlers",
]


@attrs.define(repr=False, slots=False)
class InvalidFlow(SzalError):
    """A flow that cannot be run. Lists every problem found, each naming its step.

    Cause: the flow says something that cannot be, as a step that needs one that is not there; or szal could not make
        sense of a value.
    Next: mend what each line names; `szal validate FILE` (or `flow.validate()`) tells all of it without running
        anything.

    >>> print(InvalidFlow("ci", ("step 'test': max_retries is negative (-1)",)))
    invalid flow 'ci': step 'test': max_retries is negative (-1)
    """

    flow: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return _with_problems(f"invalid flow {self.flow!r}", self.problems)


@attrs.define(repr=False, slots=False)
class CycleDetected(InvalidFlow):
    """The dependencies of a flow form a cycle; `path` names its steps, the first one again at the end.

    Cause: steps wait for each other in a circle.
    Next: take one `depends_on` (in a file: `needs`) of the path out; `szal graph FILE` draws the flow.

    >>> print(CycleDetected("ci", ("dependency cycle: a -> b -> a",), ("a", "b", "a")))
    invalid flow 'ci': dependency cycle: a -> b -> a
    """

    path: tuple[str, ...] = ()


@attrs.define(repr=False, slots=False)
class InvalidInputs(SzalError, ValueError):
    """What a flow was given is not what it declares. Lists every problem found; raised before anything is recorded.

    `missing` are the names of required inputs that were not given.

    Cause: an input is missing, is of another type than the flow declares, or is none that it declares.
    Next: `szal run FILE --help` lists the inputs with their types; give each as `-i NAME=VALUE`, or in `run(flow,
        {...})`.

    >>> print(InvalidInputs("ci", ("unknown input 'oot'; did you mean 'out'?",)))
    invalid inputs for flow 'ci': unknown input 'oot'; did you mean 'out'?
    """

    flow: str
    problems: tuple[str, ...]
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        return _with_problems(f"invalid inputs for flow {self.flow!r}", self.problems)


def _with_problems(what: str, problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return f"{what}: {problems[0]}"
    lines = "".join(f"\n  - {problem}" for problem in problems)
    return f"{what}: {len(problems)} problems{lines}"


@attrs.define(repr=False, slots=False)
class HandlerNotFound(SzalError):
    """Some steps have nothing to run (or undo) them. Raised before anything runs.

    Cause: the engine was made without a function for these steps; or the program is newer than the execution, and has
        renamed or dropped it.
    Next: register it (`Handlers.step`), or give the target that has it: `szal resume ID MODULE:ATTRIBUTE`. Before a
        release, `szal check MODULE:ATTRIBUTE` finds these.

    >>> print(HandlerNotFound(("build", "test")))
    no handler for steps: build, test
    """

    steps: tuple[str, ...]
    kind: str = "handler"
    hints: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"no {self.kind} for step{'s' * (len(self.steps) > 1)}: {', '.join(self.steps)}"
        return f"{text} ({'; '.join(self.hints)})" if self.hints else text


@attrs.define(repr=False, slots=False)
class UnusedHandlers(SzalError):
    """A strict registry has handlers for steps, or types of steps, that no flow of its engine has.

    Cause: the name of a step is misspelt where its handler is registered; or the step is in a flow that the engine
        does not know yet.
    Next: mend the name; put further flows into `EngineConfig.storage`; or leave `strict=True` out.

    >>> print(UnusedHandlers(("step 'biuld'; did you mean 'build'?",)))
    a handler is registered for what no flow has: step 'biuld'; did you mean 'build'?
    """

    names: tuple[str, ...]

    def __str__(self) -> str:
        if len(self.names) == 1:
            return f"a handler is registered for what no flow has: {self.names[0]}"
        lines = "".join(f"\n  - {name}" for name in self.names)
        return f"handlers are registered for what no flow has:{lines}"


@attrs.define(repr=False, slots=False)
class ShellNotSupported(HandlerNotFound):
    """Some steps are commands, and this system cannot run them: it is not a POSIX one. Raised before anything runs.

    Cause: the flow has commands, and this is no POSIX system.
    Next: run it on Linux or macOS, or replace the commands by functions; docs/platforms.md says what runs where.

    >>> print(ShellNotSupported(("build",), missing="os.killpg"))
    step build is a command: that needs a POSIX system, and this one has no os.killpg
    """

    missing: str = ""

    def __str__(self) -> str:
        which = (
            f"steps {', '.join(self.steps)} are commands"
            if len(self.steps) > 1
            else f"step {self.steps[0]} is a command"
        )
        return f"{which}: that needs a POSIX system, and this one has no {self.missing}"


@attrs.define(repr=False, slots=False)
class MigrationFailed(SzalError):
    """A definition that cannot be brought to another version, or a migration that cannot be registered.

    Cause: the stored definition has a version from which no registered migration leads to the newest one; or a
        migration raised, or was registered twice.
    Next: register the missing step (`MigrationRegistry.register(from, to)`), or go on with the program that began the
        execution.

    >>> print(MigrationFailed("ci", "no migration from version 2 is registered"))
    flow 'ci': no migration from version 2 is registered
    """

    flow: str
    problem: str

    def __str__(self) -> str:
        return f"flow {self.flow!r}: {self.problem}" if self.flow else self.problem


@attrs.define(repr=False, slots=False)
class LoadError(SzalError):
    """A flow file that cannot be read; one line per problem, each with its place in the file.

    Cause: the file is not what szal reads, at each place that is named.
    Next: open it at that line; `szal schema > szal.schema.json` has an editor check it as you type;
        docs/flows-as-files.md has all words.

    >>> print(LoadError("ci.yaml", (":3:5: step 'test' needs an unknown step",)))
    ci.yaml:3:5: step 'test' needs an unknown step
    """

    file: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(f"{self.file}{problem}" for problem in self.problems)


@attrs.define(repr=False, slots=False)
class MissingExtra(SzalError, ImportError):
    """An optional library is not installed; the message says which extra brings it.

    Cause: an optional library is not installed where szal is.
    Next: run the `pip install` of the message, in the same environment as szal (`python -m pip`).

    >>> print(MissingExtra("the command line", "cli"))
    the command line needs an optional part of szal: pip install "szal[cli]"
    """

    feature: str
    extra: str

    def __str__(self) -> str:
        return f'{self.feature} needs an optional part of szal: pip install "szal[{self.extra}]"'
