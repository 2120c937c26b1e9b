"""The definition of a step: what it is called, what it waits for, how often it is tried."""

import math
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs

from szal.expressions.copies import as_written
from szal.expressions.path import Json, spelled
from szal.model.class_name import class_name
from szal.model.duration import in_seconds
from szal.model.moment import in_ms, kept_limit
from szal.model.state import NamedEnum

__all__ = [
    "DELAY",
    "INLINE",
    "ISOLATION",
    "MAX_COUNT",
    "MAX_ITEMS",
    "BackoffStrategy",
    "Failure",
    "Inline",
    "Isolation",
    "StepDef",
    "TriggerMode",
]

MAX_COUNT: Final = 2**32 - 1
"""The largest number of retries, of attempts, of a version: szal-rs keeps them in a u32."""

MAX_ITEMS: Final = 100_000
"""Over how many elements a step runs at most, where it does not say otherwise."""

DELAY: Final = 1.0
"""Seconds between two polls of a step, where it does not say otherwise."""

Inline: TypeAlias = Literal["auto", "never", "always"]
"""Whether a handler is called on the thread that coordinates its run: where nothing is held up by that, or not, or only
there."""

INLINE: Final[tuple[Inline, ...]] = ("auto", "never", "always")

Isolation: TypeAlias = Literal["thread", "process"]
"""Where a handler is called: on a thread of the engine's process, or in a child process, which can be ended."""

ISOLATION: Final[tuple[Isolation, ...]] = ("thread", "process")

WAIT_TYPES = frozenset({"wait", "sleep"})
"""The step types that do nothing but wait."""

ENGINE_TYPES = WAIT_TYPES | {"sub_flow"}
"""The step types that the engine does itself, whatever is registered for them."""


def new_id() -> str:
    """Return a fresh UUID string."""
    return str(uuid.uuid4())


class BackoffStrategy(NamedEnum):
    """How the wait between attempts grows.

    >>> [BackoffStrategy.LINEAR.delay(0.5, attempt) for attempt in (1, 2, 3)]
    [0.5, 1.0, 1.5]
    """

    FIXED = "Fixed"
    LINEAR = "Linear"
    EXPONENTIAL = "Exponential"

    def delay(self, base: float, attempt: int, maximum: float | None = None) -> float:
        """Return the seconds to wait after failed attempt number *attempt* (from 1), at most *maximum*.

        Never overflows: what is too large for a float becomes the largest one.

        >>> [BackoffStrategy.EXPONENTIAL.delay(0.5, attempt, maximum=3.0) for attempt in (1, 2, 3, 4)]
        [0.5, 1.0, 2.0, 3.0]
        """
        try:
            if self is BackoffStrategy.LINEAR:
                delay = base * attempt
            elif self is BackoffStrategy.EXPONENTIAL:
                delay = math.ldexp(base, attempt - 1)
            else:
                delay = base
        except OverflowError:
            delay = sys.float_info.max
        delay = min(delay, sys.float_info.max)
        return delay if maximum is None else min(delay, maximum)


class TriggerMode(NamedEnum):
    """When a step of a DAG runs, seen from its dependencies (docs/semantics.md has the table).

    ALL: every one is done and none failed or was blocked. ANY: the first one completed.
    ALL_COMPLETED: every one completed. ALL_DONE: every one is done, whatever its outcome. ONE_FAILED: the first one
    failed. ONE_DONE: the first one is done, whatever its outcome.
    The last four are szal's own: szal-rs refuses a flow that uses them.

    >>> StepDef("clean up", depends_on=[StepDef("test")], trigger_mode=TriggerMode.ALL_DONE).trigger_mode.value
    'AllDone'
    """

    ALL = "All"
    ANY = "Any"
    ALL_COMPLETED = "AllCompleted"
    ALL_DONE = "AllDone"
    ONE_FAILED = "OneFailed"
    ONE_DONE = "OneDone"

    @property
    def is_early(self) -> bool:
        """Whether a step may run before all that it depends on is done, and so has to depend on something."""
        return self in (TriggerMode.ANY, TriggerMode.ONE_FAILED, TriggerMode.ONE_DONE)


def _backoff(value: BackoffStrategy | str) -> BackoffStrategy:
    return BackoffStrategy.named(value)  # type: ignore[no-any-return]


def _trigger_mode(value: TriggerMode | str) -> TriggerMode:
    return TriggerMode.named(value)  # type: ignore[no-any-return]


def _ids(value: "str | StepDef | Iterable[str | StepDef]") -> tuple[str, ...]:
    several: Iterable[str | StepDef] = (value,) if isinstance(value, str | StepDef) else value
    return tuple(item.id if isinstance(item, StepDef) else item for item in several)


def _steps(value: "Iterable[StepDef]") -> "tuple[StepDef, ...]":
    return tuple(value)


Failure: TypeAlias = type[BaseException] | str | int
"""What an attempt may end with: an exception, by its class or by name, or the exit status of a command."""


def _failures(value: Any) -> tuple[Failure, ...]:
    return (value,) if isinstance(value, str | type | int) else tuple(value)


def _names(kinds: tuple[Failure, ...]) -> tuple[object, ...]:
    return tuple(class_name(kind) if isinstance(kind, type) else kind for kind in kinds)


def _elements(value: Any) -> Any:
    """Return what a step runs over as it is kept: a path, or a list of its own."""
    if isinstance(value, StepDef):
        return spelled(("steps", value.name, "output"))
    return list(value) if isinstance(value, list | tuple) else value


def _shares(value: Any) -> Any:
    """Return what a step shares as it is kept: a dict of its own."""
    return dict(value) if isinstance(value, Mapping) else value


def _number(value: Any) -> Any:
    """Return a number as a float, as it comes back from a record; anything else as it is."""
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    except OverflowError:
        return value


@attrs.frozen(kw_only=True)
class StepDef:
    """One unit of work. A value: change it with `attrs.evolve`, and never its `config` in place.

    Durations are seconds, a `timedelta`, or a text like "1m30s". They are kept as seconds, and recorded in whole
    milliseconds; a limit is kept so, and a positive one is never 0. A member of an enum may be given by its name, as it
    is printed or as JSON has it: ``backoff="exponential"``.

    `name`: what outputs, conditions and parameters call it; no two steps of a flow have the same.
    `id`: what `depends_on` of other steps has.
    `description`: what it is for, in words.
    `timeout`: limits one attempt, counted from its start; None: nothing does.
    `total_timeout`: limits all attempts together, and the waits between them, counted from the first one's start.
    `max_retries`: how many attempts there may be after the first.
    `retry_delay`: how long to wait before the second attempt.
    `backoff`: how that wait grows from one attempt to the next.
    `max_retry_delay`: the longest wait.
    `retry_jitter`: spreads each wait by that fraction, both ways.
    `retry_on`: what is worth another attempt; nothing given: everything. Exception classes, or their dotted names
    (``"requests.exceptions.Timeout"``; builtins need no module), of which nothing is imported to find out: a name
    matches a class and everything derived from it. A class that a script defines has the name that it has where the
    script is imported. A whole number is the exit status of a command, as a shell tells it: 137 also where the shell
    itself was killed by SIGKILL.
    `give_up_on`: what is not; it beats `retry_on`, and takes the same.
    `rollbackable`: it is undone where its flow rolls back, as is every step that an undo is registered for, and what a
    sub-flow did.
    `priority`: of the steps that are ready, and wait for a worker, those with a higher one go first.
    `undo_on_failure`: it is undone also where it failed or ran out of time, as it may have done half of it. Implies
    `rollbackable`.
    `continue_on_error`: its failure is caught, so its flow may succeed all the same, and what depends on it runs as if
    it had completed without an output.
    `cancel_losers`: of an ANY step: when it starts, what only it waits for has lost, and ends.
    `finally_`: it runs when everything else, the undoing included, is over, whatever the end was; it has
    `StepContext.flow`.
    `step_type`: which handler does it, where none is registered for its name: "shell", "python", "wait", "sleep",
    "sub_flow", or one of `Handlers.step_type`.
    `config`: what its handler is told; templates in it are filled in (`StepContext.config`).
    `condition`: what must hold when its turn has come (``"inputs.env == 'prod'"``); else it is skipped.
    `depends_on`: what it waits for, in a DAG. Takes steps or their ids, and stores ids.
    `trigger_mode`: what must have become of these.
    `sub_steps`: its parts, in a hierarchical flow.
    `idempotent`: whether it may run again where its process died while it ran. If not, its execution waits for
    `Engine.resolve`.
    `inline`: whether its handler is called on the thread that coordinates the run, the caller's of `Engine.run`: "auto"
    (where nothing is held up by that), "never", "always" (nowhere else: for objects that only one thread may use; it
    has no time limit then). None: as `EngineConfig.inline` says.
    `isolation`: "process": its attempts, and its undo, are made in a child process, which a time-out or a cancellation
    really ends: SIGTERM, `EngineConfig.cancel_grace`, SIGKILL; its functions are found by import. "thread": they are
    not. None: as `FlowDef.isolation` says, then `EngineConfig.isolation`. docs/scaling.md says more.
    `resources`: what its handlers share with those of other steps: so much of each, by name, as ``{"db": 1}``. An
    attempt begins when it has all of it, and holds no worker until then. `EngineConfig.capacities` says how much there
    is in one engine, `store.set_capacity` in all engines of a store.
    `rate`: how often its handlers are called, by the name of what they call, as ``{"api": "10/s"}`` (also ``/m`` and
    ``/h``): attempts of all steps with that name begin at points in time that are spread evenly, in all engines of a
    store together. One that waits for its time holds no worker.
    `foreach`: it runs once for each element of a list, its *items*, which have attempts, retries, limits and results of
    their own. A path ("steps.list.output.files", "inputs.files"), a step whose output is a list, or the list itself.
    `max_parallel`: how many items may run at a time.
    `max_items`: a list that is longer fails the step.
    `until`: a condition over what it returns (``"output.state == 'ready'"``), beside `inputs` and the steps before it:
    it polls, which is to say that it is called again and again until that holds (`StepContext.poll`). It holds no
    thread between two polls.
    `delay`: how long to wait between two polls.
    `until_timeout`: limits all polls together, counted from the first one's start, over crashes too.
    `done_when`: a function of the `StepContext`, asked before the first attempt, in its thread: where it returns true,
    the work is there already, and the step is skipped, "up to date". It is not recorded: a process that goes on has its
    own, found by the names of flow and step as handlers are (`Handlers.done_when`).

    >>> build = StepDef("build", timeout=60, max_retries=2)
    >>> StepDef("test", depends_on=[build]).depends_on == (build.id,)
    True
    """

    name: str = attrs.field(kw_only=False)
    id: str = attrs.field(factory=new_id)
    description: str = ""
    timeout: float | None = attrs.field(default=None, converter=kept_limit)
    total_timeout: float | None = attrs.field(default=None, converter=kept_limit)
    max_retries: int = 0
    retry_delay: float = attrs.field(default=1.0, converter=in_seconds, eq=in_ms)
    backoff: BackoffStrategy = attrs.field(default=BackoffStrategy.FIXED, converter=_backoff)
    max_retry_delay: float | None = attrs.field(default=None, converter=kept_limit)
    retry_jitter: float = attrs.field(default=0.0, converter=_number)
    retry_on: tuple[Failure, ...] = attrs.field(default=(), converter=_failures, eq=_names)
    give_up_on: tuple[Failure, ...] = attrs.field(default=(), converter=_failures, eq=_names)
    rollbackable: bool = False
    priority: int = 0
    undo_on_failure: bool = False
    continue_on_error: bool = False
    cancel_losers: bool = False
    finally_: bool = False
    step_type: str | None = None
    config: Json = attrs.field(default=None, hash=False, eq=as_written)
    condition: str | None = None
    depends_on: tuple[str, ...] = attrs.field(default=(), converter=_ids)
    trigger_mode: TriggerMode = attrs.field(default=TriggerMode.ALL, converter=_trigger_mode)
    sub_steps: "tuple[StepDef, ...]" = attrs.field(default=(), converter=_steps)
    idempotent: bool = True
    inline: Inline | None = None
    isolation: Isolation | None = None
    resources: Mapping[str, int] = attrs.field(factory=dict, converter=_shares, hash=False)
    rate: Mapping[str, str] = attrs.field(factory=dict, converter=_shares, hash=False)
    foreach: str | list[Json] | None = attrs.field(default=None, converter=_elements, hash=False, eq=as_written)
    max_parallel: int | None = None
    max_items: int = MAX_ITEMS
    until: str | None = None
    delay: float = attrs.field(default=DELAY, converter=in_seconds, eq=in_ms)
    until_timeout: float | None = attrs.field(default=None, converter=kept_limit)
    done_when: Callable[[Any], object] | None = attrs.field(default=None, repr=False)
