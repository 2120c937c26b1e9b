"""Who is told of events: one function or several, and what else those ask to be told."""

import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, cast

import attrs

from szal.events.bus import EventBus, WorkflowEvent
from szal.interruption import call_each
from szal.logs import SafeLogger
from szal.model.results import ExecutionRecord
from szal.model.step import StepDef

__all__ = ["EventSink", "FollowsRuns", "Sinks", "WatchesEngines", "sinks_in"]

logger = SafeLogger(logging.getLogger(__name__))

EventSink: TypeAlias = Callable[[WorkflowEvent], object]


class WatchesEngines(Protocol):
    """A sink with these two methods is told of each engine that has it in its config. What they raise is logged."""

    def engine_opened(self, engine: Any) -> object:
        """*engine*, an `Engine`, is made. Called on the thread that makes it."""

    def engine_closed(self, engine: Any) -> object:
        """*engine* is closed, and nothing runs in it any more; it may be told again."""


class FollowsRuns(Protocol):
    """A sink with these methods is told of runs more than events say. What they raise is logged.

    A run is what one process does of an execution: one that is resumed is another run. What the first two return is
    kept with the execution: whoever goes on finds it last in `record.traceparents`.
    """

    def run_submitted(self, record: ExecutionRecord) -> str | None:
        """An execution is about to be submitted, for somebody else to run: on the thread that does so."""

    def run_begins(self, record: ExecutionRecord, step: StepDef | None) -> str | None:
        """A run begins: its flow_started follows. *step* is the one of its parent that it is the sub-flow of.

        On the coordinating thread, within the context variables of the caller of `run` or `start`.
        """

    def run_ends(self, execution_id: str) -> object:
        """A run is over, be it that it was left, and there was no end event."""


def sinks_in(given: object) -> tuple[object, ...]:
    """Return the sinks that a config is given: one, several, or none."""
    if given is None:
        return ()
    is_several = isinstance(given, Sequence) and not callable(given) and not isinstance(given, str)
    return tuple(cast("Sequence[object]", given)) if is_several else (given,)


@attrs.frozen(eq=False)
class Sinks:
    """The sinks of one engine, as it calls them.

    >>> first, second = [], []
    >>> Sinks.of([first.append, second.append]).emit(WorkflowEvent("flow_started", "ci"))
    >>> first == second
    True
    """

    emit: EventSink | None
    """What an event is given to; None: nobody wants any."""
    watching: tuple[WatchesEngines, ...] = ()
    following: tuple[FollowsRuns, ...] = ()

    @classmethod
    def of(cls, given: object) -> "Sinks":
        """Return what is made of `EngineConfig.event_sink`."""
        sinks = sinks_in(given)
        functions = tuple(cast(EventSink, sink.publish if isinstance(sink, EventBus) else sink) for sink in sinks)
        emit = None if not functions else functions[0] if len(functions) == 1 else functools.partial(_tell, functions)
        watching = tuple(sink for sink in sinks if _has(sink, "engine_opened", "engine_closed"))
        following = tuple(sink for sink in sinks if _has(sink, "run_submitted", "run_begins", "run_ends"))
        return cls(emit, cast("tuple[WatchesEngines, ...]", watching), cast("tuple[FollowsRuns, ...]", following))

    def opened(self, engine: object) -> None:
        """Tell who watches that *engine* is made."""
        _call_all([sink.engine_opened for sink in self.watching], (engine,), "an engine is made")

    def closed(self, engine: object) -> None:
        """Tell who watches that *engine* is closed."""
        _call_all([sink.engine_closed for sink in self.watching], (engine,), "an engine is closed")

    def run_submitted(self, record: ExecutionRecord) -> tuple[str, ...]:
        """Tell who follows that *record* is submitted; return what is to be kept of that."""
        return _kept([sink.run_submitted for sink in self.following], record)

    def run_begins(self, record: ExecutionRecord, step: StepDef | None) -> tuple[str, ...]:
        """Tell who follows that a run begins; return what is to be kept of it."""
        return _kept([sink.run_begins for sink in self.following], record, step)

    def run_ends(self, execution_id: str) -> None:
        """Tell who follows that a run is over."""
        _call_all([sink.run_ends for sink in self.following], (execution_id,), f"execution {execution_id}")


def _has(sink: object, *methods: str) -> bool:
    return all(callable(getattr(sink, method, None)) for method in methods)


def _tell(functions: Sequence[EventSink], event: WorkflowEvent) -> None:
    """Give *event* to each of several sinks, whatever those before it raise."""
    _call_all(functions, (event,), f"{event.flow_name}, execution {event.execution_id}")


def _kept(functions: Iterable[Callable[..., str | None]], record: ExecutionRecord, *more: object) -> tuple[str, ...]:
    """Return what *functions* do that return anything."""
    kept: list[str] = []

    def keeping(function: Callable[..., str | None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            if (mark := function(*arguments)) is not None:
                kept.append(mark)

        return call

    _call_all(map(keeping, functions), (record, *more), f"{record.flow_name}, execution {record.execution_id}")
    return tuple(kept)


def _call_all(functions: Iterable[Callable[..., object]], arguments: tuple[object, ...], told: str) -> None:
    def failed(call: "functools.partial[object]", error: BaseException) -> None:
        logger.error("sink %r failed: %s", call.func, told, exc_info=error)

    call_each([functools.partial(function, *arguments) for function in functions], failed)
