"""The engine of an application, in each process that serves it."""

import atexit
import contextvars
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from szal.contrib.streaming import LONGEST, Answer, Streams
from szal.engine.engine import Engine
from szal.engine.stream import EventStream, sse_stream
from szal.logs import SafeLogger
from szal.number import check, check_wait
from szal.process_events import enroll_lock
from szal.steps.around import Surrounding, surrounding

if TYPE_CHECKING:
    from szal.engine.opening import StoreLike
    from szal.steps.resolving import Handling

__all__ = ["EXTENSION", "ApplicationEngine", "Settings", "without_context"]

logger = SafeLogger(logging.getLogger(__name__))

T = TypeVar("T")

EXTENSION: Final = "szal"
"""Under which name a Flask application has its `ApplicationEngine` among its extensions."""

_RELOADED: Final = 1.0
"""How often a server that begins again looks for what it has left before, in seconds."""


@attrs.frozen(kw_only=True)
class Settings:
    """What an application says of its engine; durations are seconds.

    `around`: what the framework needs around attempts; what the application has there itself comes within. `more`: all
    other settings of `EngineConfig`. `recover_every`: how often each process looks for executions that nobody runs, or
    None. `threads`: how many requests each process serves at a time; half of them may stream. `drain`: how long a
    process that ends waits for the steps that it runs. `is_reloaded`: it begins again when a file changes, and waits
    for none.
    """

    store: "StoreLike"
    flows: "Sequence[Handling]"
    around: Sequence[Surrounding]
    more: Mapping[str, object] = attrs.field(factory=dict)
    recover_every: float | None = attrs.field(default=10.0)
    drain: float = attrs.field(default=20.0)
    is_reloaded: bool = False
    threads: int = attrs.field(default=4)

    @threads.validator
    def _a_number(self, attribute: "attrs.Attribute[int]", value: int) -> None:
        check(attribute.name, value, whole=True)
        if value < 1:
            raise ValueError(f"{attribute.name} must be at least 1, not {value}")

    @recover_every.validator
    def _an_interval(self, attribute: "attrs.Attribute[float | None]", value: float | None) -> None:
        if value is not None:
            check(attribute.name, value)
            if not value > 0:
                raise ValueError(f"{attribute.name} must be positive or None, and is {value}")

    @drain.validator
    def _a_wait(self, attribute: "attrs.Attribute[float]", value: float) -> None:
        check_wait(attribute.name, value)

    def open(self) -> Engine:
        """Return an engine of the flows. It keeps no process from ending: its owner drains it."""
        return Engine.open(self.store, *self.flows, **{"daemon": True, **self.config})

    @property
    def config(self) -> dict[str, object]:
        """The settings of `EngineConfig`, with all that is around attempts."""
        own = surrounding(self.more.get("around", ()))
        return {**self.more, "around": (*self.around, *own)}

    def recover(self, engine: Engine) -> None:
        """Have *engine* go on with what others have left, from now on."""
        if self.recover_every is not None:
            engine.start_recovery(min(self.recover_every, _RELOADED) if self.is_reloaded else self.recover_every)


@attrs.frozen
class _Opened:
    """An engine, and the process whose end it ends with."""

    engine: Engine
    settings: Settings
    pid: int = attrs.field(factory=os.getpid)
    is_of_a_test: bool = False

    @property
    def is_here(self) -> bool:
        return self.pid == os.getpid()


class ApplicationEngine:
    """Opens an engine where it is first asked for, and drains it when the process ends. From any thread.

    Nothing is opened, and no thread started, before: so a process that loads the application and then forks its workers
    hands on neither. What the parent of a fork has opened, the child uses, with connections of its own.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._opened: _Opened | None = None
        self._serves: int | None = None  # the process that has begun to
        self.streams = Streams(lambda: self._opened_here().settings.threads)
        """All that this process streams, whatever serves it."""
        enroll_lock(self, ApplicationEngine._make_lock)

    def _make_lock(self) -> threading.RLock:
        self._lock = threading.RLock()
        return self._lock

    def get(self) -> Engine:
        """Return the engine, which is opened for that. Raises what that does."""
        return self._opened_here().engine

    def _opened_here(self) -> _Opened:
        opened = self._opened
        return opened if opened is not None and opened.is_here else self._open()

    @property
    def is_replaced(self) -> bool:
        """Whether the engine is a test's here: see `replaced`."""
        opened = self._opened
        return opened is not None and opened.is_of_a_test

    def _open(self) -> _Opened:
        with self._lock:
            opened = self._opened
            if opened is None:
                settings = self._settings()
                opened = _Opened(settings.open(), settings)
                atexit.register(self._end)
            self._opened = attrs.evolve(opened, pid=os.getpid())  # a child has it from its parent, and the end too
            return self._opened

    def stream(
        self, execution_id: str, last_event_id: str | None, *, is_threaded: bool, keep_alive: float = 15.0
    ) -> Answer:
        """Return what a request for a stream of an execution's events is answered: see `Streams.open`.

        It is `sse_stream`'s, with outputs. Raises `ExecutionNotFound`, and what `get` does.
        """

        def make() -> EventStream:
            return sse_stream(self.get(), execution_id, last_event_id, keep_alive, timeout=LONGEST, outputs=True)

        return self.streams.open(make, last_event_id, is_threaded=is_threaded)

    def serve(self) -> None:
        """Have this process go on with what others have left, from now on; called with each request, it does so once.

        On a thread, which opens the engine: a store that is away fails no request, and the next one tries again.
        """
        if self._serves != os.getpid():
            self._serves = os.getpid()
            try:
                threading.Thread(target=self._serve, name="szal-serve", daemon=True).start()
            except RuntimeError:  # there is none to be had
                self._serves = None

    def _serve(self) -> None:
        try:
            opened = self._open()
            opened.settings.recover(opened.engine)
        except Exception:
            self._serves = None
            logger.exception("the engine cannot be opened: the next request tries that again")

    @contextmanager
    def replaced(self, engine: Engine) -> Iterator[None]:
        """Return a context manager: within it *engine* is the application's here: that of a test."""
        settings = Settings(store="memory:", flows=(), around=())
        before, self._opened = self._opened, _Opened(engine, settings, is_of_a_test=True)
        try:
            yield
        finally:
            self._opened = before

    def close(self, drain: float | None = None) -> None:
        """Close the engine of this process, as `Engine.close` does; its next use opens another. Tests call it."""
        with self._lock:
            opened, self._opened, self._serves = self._opened, None, None
        atexit.unregister(self._end)
        if opened is not None and opened.is_here:
            opened.engine.close(drain)

    def _end(self) -> None:
        """Drain it at the end of the process, when nothing is served any more."""
        opened = self._opened
        if opened is not None and opened.is_here:
            opened.engine.close(drain=0.0 if opened.settings.is_reloaded else opened.settings.drain)


def without_context(function: Callable[[], T]) -> T:
    """Return what *function* does, called without any of the caller's context variables.

    A request's are there for as long as it lasts, in its process: what goes on after that has none of them. It is told
    of in the same trace all the same, where OpenTelemetry is in use.
    """
    context = contextvars.Context()
    telemetry = sys.modules.get("opentelemetry.context")
    if telemetry is not None:
        context.run(telemetry.attach, telemetry.get_current())
    return context.run(function)
