"""What an engine can be told."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import attrs

from szal.engine.process_start import ProcessStart, modules, problem_of_preload, problem_of_start
from szal.events.progress import StepProgress
from szal.events.sinks import EventSink, Sinks, sinks_in
from szal.expressions.path import Json
from szal.function import ONE_CONTEXT, check_handler
from szal.model.catalogue import WorkflowStorage
from szal.model.fields import problem_of_isolation, problem_of_shares
from szal.model.flow import FlowDef
from szal.model.redaction import Redaction, Rule, Rules
from szal.model.state import StepStatus
from szal.model.step import INLINE, Inline, Isolation
from szal.number import check
from szal.scheduler.clock import REAL, Clock
from szal.scheduler.context import Handler
from szal.steps.around import Surrounding, surrounding

if TYPE_CHECKING:
    from szal.model.migration import MigrationRegistry
    from szal.stores.base import ExecutionStore

__all__ = ["Durability", "EngineConfig", "check_store"]

Durability = Literal["none", "flow", "step"]
OnInterrupt = Literal["pause", "cancel"]

_DEEPEST: Final = 64
"""The output of each is one level deeper in that of the run, and JSON values have a limit of those."""


def _rules(rules: object) -> tuple[Rule, ...]:
    if isinstance(rules, str) or not isinstance(rules, Sequence):
        raise TypeError(f"redact takes a sequence of names, patterns and functions, as in redact=({rules!r},)")
    return tuple(rules)


def _absolute(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.path.abspath(path)  # noqa: PTH100 (Path.absolute leaves ".." in it)


_CALLED_WITH: Final = {
    "rollback_handler": ONE_CONTEXT,
    "event_sink": ("event",),
    "progress_sink": ("progress",),
    "step_type_metrics": ("step_type", "status", "seconds"),
}
"""What is called, and with which arguments."""

_METHODS: Final = ("save", "get", "list", "remove")


def check_store(name: str, store: object, wanted: str) -> None:
    """Raise TypeError for what is no store, called *name*, where *wanted* says what would be one."""
    if isinstance(store, type) or not all(callable(getattr(store, method, None)) for method in _METHODS):
        told = f"the class {store.__name__}" if isinstance(store, type) else type(store).__name__
        raise TypeError(f"{name} must be {wanted}, not {told}")


def _adapted(executor: Any) -> Any:
    """Return what attempts are submitted to in the place of *executor*, checked later."""
    if executor is None:
        return None
    from szal.steps.adapter import adapted

    return adapted(executor)


@attrs.frozen(kw_only=True)
class EngineConfig:
    """Settings of an `Engine`; durations are seconds.

    `max_concurrency`: how many handlers of one run are at work at a time; its sub-flows count with it.
    `timeout`: limits each run, in place of the flow's own limit.
    `execution_store`: where runs are recorded; anything with ``save``, ``get``, ``list`` and ``remove``.
    `storage`: where sub-flows are looked up that a flow does not bring itself (`FlowDef.sub_flows`).
    `rollback_handler`: undoes every rollbackable step for which the handlers bring nothing of their own.
    `event_sink`: called with every `WorkflowEvent`, on the run's coordinating thread; one function, or a sequence of
    several, called in order. One that raises is logged, fails nothing, and the others are called. What takes long
    belongs behind a subscription of an `EventBus`, where no run waits for it. A sink may also be told of engines and
    runs: `szal.events.sinks` says how.
    `step_type_metrics`: called with ``(step_type or "default", status, seconds)`` after each step, likewise.
    `progress_sink`: called with every `StepProgress`, on the step's thread.
    `share_progress`: whether what each step under way reported last is seen from everywhere, as its `StepResult.report`
    (`Engine.look`, `Engine.watch`). It is written once a second at most, by a thread of its own: no run waits for that.
    So is that a step has begun, once it has run for half a second; else that is told with the next renewal of the
    lease. Without one of szal's own stores it is seen in this engine.
    `durability`: what a run waits to be committed ("none": nothing; "flow": all, before it ends, pauses or is undone;
    "step": also each step, before anything that depends on it starts). An `execution_id` that is given, or the flow's
    own, is recorded before anything runs, whatever it is. docs/stores.md says what a crash can lose.
    `commit_timeout`: how long at most the end of a run, the beginning of a sub-flow, and whatever looks at executions
    (`resume`, `recover`, `rerun`, `resolve`, `cancel`, `signal`), waits for what is queued to be committed; then it
    raises `FlushTimeout`. What is queued stays so, and is written when it can be. A wait of more than 5 seconds is
    logged.
    `lease_ttl`: how long after its last sign of life an execution may be taken over by another process. In an SQLite
    file a handler's transaction (`ctx.transaction`) lasts half as long at most.
    `max_recoveries`: how often an execution is taken up again after its process died without a step that settled in
    between, before it is failed.
    `max_recovering`: how many executions are recovered at a time.
    `on_interrupt`: what it does to an execution that a signal handler raises (Ctrl-C). "pause": it stops, and can be
    continued later; "cancel": it is cancelled, and undone where it rolls back. Without one of szal's own stores it is
    always cancelled.
    `around`: functions of the `StepContext`, each returning a context manager, that is entered in the attempt's thread
    around every attempt and every undo, in order, and left in reverse: an application's context, a session, a span.
    What one raises fails the attempt (`AroundFailed`); one that suppresses an exception changes nothing.
    `capacities`: how much there is of what steps share (`StepDef.resources`), by name, for all runs of the engine
    together; one of each that is not named.
    `inline`: whether handlers are called on the thread that coordinates a run (the caller's of `run` and `resume`; of
    what is started or recovered, a thread of its own), for steps that do not say it themselves: "auto" (where nothing
    is held up by that), "never", "always" (nowhere else, one at a time: objects that only one thread may use are
    usable). With "always" a step has no time limit, nobody stops waiting for it, and it learns of a stop by
    `StepContext.cancelled` only.
    `executor`: any `concurrent.futures.Executor`, as a `ProcessPoolExecutor`: it makes all attempts and undos whose
    functions are the program's, but for steps with ``inline="always"``; commands stay here. What crosses is pickled:
    functions that are found by import, and plain data. `around` is entered there. Whoever has made it shuts it down.
    It is given `max_concurrency` attempts of a run at a time. docs/scaling.md says what goes where.
    `isolation`: "process": attempts and undos of steps that say nothing of it, in flows that say nothing, are made in
    child processes of the engine's, up to `max_concurrency` of them, which time-outs and cancellations really end
    (`StepDef.isolation`). As on an executor, what crosses is pickled, and `around` is entered there; it cannot be said
    beside one. A clock that a test moves has all of them made here.
    `process_start`: how child processes are started. "spawn": each is a fresh Python, which imports szal and the
    program's modules. "forkserver": each is a fork of one that has szal imported and no threads, which takes a tenth of
    that, with the environment, the working directory and the output that this process has then.
    `process_preload`: modules that the process which is forked imports, too, by name ("__main__": the script itself).
    They must not start threads, nor open what forks cannot share, as they are imported.
    `idle_timeout`: how long a thread of the engine's, or a child process, may be idle before it ends.
    `daemon`: nothing that this engine runs keeps the interpreter from exiting: no thread of `start`, no handler.
    Whoever says so closes it in time (`Engine.close` with *drain*, in an `atexit` function say); what then still runs
    is left, as by a crash. The engines of `szal.contrib.flask` and `szal.contrib.django` are such.
    `max_depth`: how deeply sub-flows may be nested, at most 64.
    `max_sub_flows`: how many a run may have in all, each attempt and those of its sub-flows counted (by each process
    that goes on with it, anew). More of either ends the whole run.
    `cwd`: the directory that commands run in, of executions that begin and of those that go on. Without it that is the
    folder of the flow's file, or the working directory of the process in which the execution began: it is recorded, and
    where it is gone, the execution is not gone on with (`WorkingDirectoryGone`).
    `clock`: what limits, waits and back-offs go by: that of this machine, or one that a test moves
    (`szal.testing.FakeClock`).
    `redact`: what must not be recorded or shown, of any run: names of inputs and of keys of objects (``*`` stands for
    anything, case does not count), compiled patterns of texts, and functions that return a text masked.
    `secrets`: a function that returns the secret input of that name, or None: asked for secret inputs that are not
    given, and by who goes on with an execution, as they are not recorded. The environment variable
    ``SZAL_SECRET_NAME`` comes after it. docs/secrets.md says more.
    `migrations`: by flow name, how stored definitions are brought forward before an execution is resumed.
    `cancel_grace`: how long a cancelled run waits for its running handlers before it leaves them behind; how long a
    handler in a child process has from SIGTERM to SIGKILL, at a time-out too; and how long
    the end of a ``with engine`` block waits for what runs, where others can go on with it (`Engine.close`).

    >>> EngineConfig(max_concurrency=0)
    Traceback (most recent call last):
    ValueError: max_concurrency must be at least 1, not 0
    """

    max_concurrency: int = attrs.field(default=16)
    timeout: float | None = attrs.field(default=None)
    execution_store: "ExecutionStore | None" = attrs.field(default=None)
    storage: WorkflowStorage | None = attrs.field(default=None)
    rollback_handler: Handler | None = attrs.field(default=None)
    event_sink: EventSink | Sequence[EventSink] | None = attrs.field(default=None)
    progress_sink: Callable[[StepProgress], object] | None = attrs.field(default=None)
    step_type_metrics: Callable[[str, StepStatus, float], object] | None = attrs.field(default=None)
    share_progress: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    cancel_grace: float = attrs.field(default=5.0)
    durability: Durability = attrs.field(default="flow")
    commit_timeout: float = attrs.field(default=60.0)
    lease_ttl: float = attrs.field(default=30.0)
    max_recoveries: int = attrs.field(default=5)
    max_recovering: int = attrs.field(default=8)
    on_interrupt: OnInterrupt = attrs.field(default="pause")
    capacities: Mapping[str, int] = attrs.field(factory=dict, converter=dict)
    inline: Inline = attrs.field(default="auto")
    executor: Executor | None = attrs.field(default=None, converter=_adapted)
    isolation: Isolation | None = attrs.field(default=None)
    around: tuple[Surrounding, ...] = attrs.field(default=(), converter=surrounding)
    process_start: ProcessStart = attrs.field(default="spawn")
    process_preload: Sequence[str] = attrs.field(default=(), converter=modules)
    idle_timeout: float = attrs.field(default=10.0)
    daemon: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    max_depth: int = attrs.field(default=32)
    max_sub_flows: int = attrs.field(default=100_000)
    cwd: str | None = attrs.field(default=None, converter=_absolute)
    clock: Clock = attrs.field(default=REAL)
    redact: tuple[Rule, ...] = attrs.field(default=(), converter=_rules)
    secrets: Callable[[str], Json] | None = attrs.field(default=None)
    migrations: "Mapping[str, MigrationRegistry]" = attrs.field(factory=dict)
    _redacted: Rules = attrs.field(
        init=False, repr=False, eq=False, default=attrs.Factory(lambda self: Rules.of(self.redact), takes_self=True)
    )

    _sinks: Sinks = attrs.field(
        init=False, repr=False, eq=False, default=attrs.Factory(lambda self: Sinks.of(self.event_sink), takes_self=True)
    )

    @property
    def sinks(self) -> Sinks:
        """What `event_sink` comes to."""
        return self._sinks

    def limit_of(self, flow: FlowDef) -> float | None:
        """Return how many seconds a run of *flow* may take; None: as long as it likes."""
        return flow.timeout if self.timeout is None else self.timeout

    def redaction(self) -> Redaction:
        """Return what must not be seen of a run that begins."""
        return Redaction(self._redacted)

    @execution_store.validator
    def _a_store(self, attribute: "attrs.Attribute[ExecutionStore | None]", value: object) -> None:
        if isinstance(value, str | os.PathLike):
            told = "a URL or a path: Engine.open(url, flow) opens one, and open_store(url).engine_sink() gives a sink"
            raise TypeError(f"{attribute.name} must be a store or its sink, not {told}")
        if value is not None:
            check_store(attribute.name, value, "a store or its sink")

    @max_concurrency.validator
    @max_recovering.validator
    def _at_least_one(self, attribute: "attrs.Attribute[int]", value: int) -> None:
        check(attribute.name, value, whole=True)
        if value < 1:
            raise ValueError(f"{attribute.name} must be at least 1, not {value}")

    @max_depth.validator
    def _not_too_deep(self, attribute: "attrs.Attribute[int]", value: int) -> None:
        check(attribute.name, value, whole=True)
        if not 0 <= value <= _DEEPEST:
            raise ValueError(f"{attribute.name} must be from 0 to {_DEEPEST}, not {value}")

    @event_sink.validator
    def _functions(self, attribute: "attrs.Attribute[object]", value: object) -> None:
        for place, sink in enumerate(sinks_in(value)):
            name = attribute.name if sink is value else f"{attribute.name}[{place}]"
            check_handler(sink, name, _CALLED_WITH[attribute.name])

    @rollback_handler.validator
    @progress_sink.validator
    @step_type_metrics.validator
    def _a_function(self, attribute: "attrs.Attribute[object]", value: object) -> None:
        if value is not None:
            check_handler(value, attribute.name, _CALLED_WITH[attribute.name])

    @storage.validator
    def _a_catalogue(self, attribute: "attrs.Attribute[WorkflowStorage | None]", value: object) -> None:
        if value is not None and not callable(getattr(value, "get_by_name", None)):
            raise TypeError(f"{attribute.name} must be a WorkflowStorage, not {type(value).__name__}")

    @migrations.validator
    def _by_flow_name(self, attribute: "attrs.Attribute[object]", value: object) -> None:
        told = value if isinstance(value, Mapping) else {}
        registries = [callable(getattr(each, "migrate_latest", None)) for each in told.values()]
        if not isinstance(value, Mapping) or not all(registries):
            raise TypeError(f"{attribute.name} must be a mapping of flow names to MigrationRegistry, not {value!r}")

    @clock.validator
    def _a_clock(self, attribute: "attrs.Attribute[Clock]", value: object) -> None:
        if not isinstance(value, Clock):
            raise TypeError(f"{attribute.name} must be a szal.testing.FakeClock, not {type(value).__name__}")

    @secrets.validator
    def _a_source(self, attribute: "attrs.Attribute[object]", value: object) -> None:
        if value is not None and not callable(value):
            hint = f": write {attribute.name}={{…}}.get" if isinstance(value, Mapping) else ""
            raise TypeError(f"{attribute.name} must be a function of an input's name{hint}")

    @cwd.validator
    def _a_directory(self, attribute: "attrs.Attribute[str | None]", value: str | None) -> None:
        if value is not None and not os.path.isdir(value):  # noqa: PTH112 (pathlib takes long to import)
            raise ValueError(f"{attribute.name}: there is no directory {value}")

    @durability.validator
    def _known(self, attribute: "attrs.Attribute[str]", value: str) -> None:
        if value not in get_args(Durability):
            raise ValueError(f"{attribute.name} is one of {', '.join(get_args(Durability))}, not {value!r}")

    @on_interrupt.validator
    def _one_of_two(self, attribute: "attrs.Attribute[str]", value: str) -> None:
        if value not in get_args(OnInterrupt):
            raise ValueError(f"{attribute.name} is one of {', '.join(get_args(OnInterrupt))}, not {value!r}")

    @capacities.validator
    def _enough(self, attribute: "attrs.Attribute[Mapping[str, int]]", value: Mapping[str, int]) -> None:
        if (problem := problem_of_shares(value)) is not None:
            raise ValueError(f"{attribute.name} {problem}")

    @inline.validator
    def _one_of_three(self, attribute: "attrs.Attribute[str]", value: str) -> None:
        if value not in INLINE:
            raise ValueError(f"{attribute.name} is one of {', '.join(INLINE)}, not {value!r}")

    @isolation.validator
    def _one_place(self, attribute: "attrs.Attribute[object]", value: object) -> None:
        if (problem := problem_of_isolation(value)) is not None:
            raise ValueError(f"{attribute.name} {problem}")
        called_elsewhere = self.executor is not None or self.inline == "always"
        if value == "process" and called_elsewhere and not self.clock.stands_still:
            other = "inline='always'" if self.executor is None else "an executor"
            raise ValueError(f"{attribute.name}='process' and {other}: a handler is called in one place")

    @process_start.validator
    def _a_start(self, attribute: "attrs.Attribute[str]", value: str) -> None:
        if (problem := problem_of_start(value)) is not None:
            raise ValueError(f"{attribute.name} {problem}")

    @process_preload.validator
    def _preloaded(self, attribute: "attrs.Attribute[object]", value: Sequence[str]) -> None:
        if (problem := problem_of_preload(value, self.process_start)) is not None:
            raise ValueError(f"{attribute.name}: {problem}")

    @executor.validator
    def _an_executor(self, attribute: "attrs.Attribute[Executor | None]", value: object) -> None:
        if value is not None and not isinstance(value, Executor):
            told = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
            raise TypeError(f"{attribute.name} must be a concurrent.futures.Executor, not {told}")

    @around.validator
    def _found_by_import(self, _: "attrs.Attribute[object]", value: tuple[Surrounding, ...]) -> None:
        isolates = self.isolation == "process" and not self.clock.stands_still
        if self.executor is None and not isolates:
            return
        from szal.steps.sending import problems_of_around

        where = "in a child process" if isolates else "where the executor calls handlers"
        for problem in problems_of_around(value, where):
            raise ValueError(problem)

    @commit_timeout.validator
    @lease_ttl.validator
    @idle_timeout.validator
    def _positive(self, attribute: "attrs.Attribute[float]", value: float) -> None:
        check(attribute.name, value)
        if value <= 0:
            raise ValueError(f"{attribute.name} must be positive, and is {value}")

    @timeout.validator
    @cancel_grace.validator
    @max_recoveries.validator
    @max_sub_flows.validator
    def _not_negative(self, attribute: "attrs.Attribute[float | None]", value: float | None) -> None:
        if value is None and attribute.default is None:
            return
        check(attribute.name, value, whole=isinstance(attribute.default, int))
        if value < 0:  # type: ignore[operator]
            raise ValueError(f"{attribute.name} must not be negative, and is {value}")
