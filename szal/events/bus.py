"""What happens during a run, as events, and the bus that routes them by topic."""

import logging
import threading
import time
import weakref
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias, overload

import attrs

from szal.events.subscription import Subscription
from szal.model.moment import as_datetime

__all__ = ["CallbackHandle", "EventBus", "EventType", "TopicPattern", "WorkflowEvent"]

logger = logging.getLogger(__name__)

EventType = Literal[
    "flow_started",
    "flow_completed",
    "flow_failed",
    "flow_rolled_back",
    "flow_paused",
    "flow_cancelled",
    "step_started",
    "step_completed",
    "step_failed",
    "step_retry",
    "step_rollback",
    "step_skipped",
    "step_timeout",
]
"""Every type of event there is. Each run emits one of the flow_* end events."""


@attrs.define
class WorkflowEvent:
    """One thing that happened in a run. Nobody changes it once made; one object goes to every subscriber.

    >>> WorkflowEvent("step_failed", "ci", "unit/fast", error="ValueError: no").topic
    'szal/step/unit%2Ffast/step_failed'
    """

    event_type: EventType
    flow_name: str
    step_name: str | None = None
    step_id: str | None = None
    attempt: int | None = None
    duration: float | None = None
    error: str | None = None
    _timestamp: datetime | float = attrs.field(factory=time.time, eq=as_datetime, repr=False)
    execution_id: str | None = None

    @property
    def timestamp(self) -> datetime:
        """When it happened (aware, UTC)."""
        return as_datetime(self._timestamp)

    @property
    def topic(self) -> str:
        """Where the event is published: ``szal/flow/NAME/TYPE`` or ``szal/step/NAME/TYPE``.

        In a name, ``%`` is written ``%25`` and ``/`` is written ``%2F``, so a topic always has four levels.
        """
        return _topic(self.event_type, self.subject)

    @property
    def subject(self) -> str:
        """The name of the step that it is about, or of the flow."""
        return (self.step_name or "") if self.event_type.startswith("step_") else self.flow_name


def _topic(event_type: EventType, name: str) -> str:
    if "%" in name or "/" in name:
        name = name.replace("%", "%25").replace("/", "%2F")
    return f"szal/{event_type.partition('_')[0]}/{name}/{event_type}"


@attrs.frozen
class TopicPattern:
    """A pattern of topics: ``*`` stands for exactly one level, a final ``#`` for any number, none included.

    Both are wildcards only as a whole level: ``issue #3`` is an ordinary name.

    >>> TopicPattern("szal/step/*/step_failed").matches("szal/step/build/step_failed")
    True
    >>> TopicPattern("szal/flow/#").matches("szal/step/build/step_failed")
    False
    """

    text: str
    _levels: tuple[str, ...] = attrs.field(init=False, repr=False, eq=False)
    _open_ended: bool = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        levels = self.text.split("/")
        open_ended = levels[-1] == "#"
        if open_ended:
            levels.pop()
        if "#" in levels:
            raise ValueError(f"pattern {self.text!r}: '#' may only be the last level; '*' matches one level")
        object.__setattr__(self, "_levels", tuple(levels))
        object.__setattr__(self, "_open_ended", open_ended)

    @property
    def name(self) -> str | None:
        """The one name that the pattern stands for; None where it is for any."""
        name = self._levels[2] if len(self._levels) > 2 else "*"
        return None if name == "*" else name.replace("%2F", "/").replace("%25", "%")

    def matches(self, topic: str) -> bool:
        """Return whether *topic* is one of those that the pattern stands for."""
        levels = topic.split("/")
        if len(levels) < len(self._levels) or (len(levels) > len(self._levels) and not self._open_ended):
            return False
        return all(wanted in ("*", level) for wanted, level in zip(self._levels, levels, strict=False))


class _Listener(Protocol):
    @property
    def pattern(self) -> TopicPattern: ...

    @property
    def closed(self) -> bool: ...

    def deliver(self, event: WorkflowEvent) -> None: ...


@attrs.define(eq=False)
class CallbackHandle:
    """A callback's place on a bus, which it keeps until `close`, whether or not anybody holds this handle.

    >>> bus = EventBus()
    >>> with bus.subscribe("szal/flow/#", callback=lambda event: print(event.event_type)):
    ...     bus.publish(WorkflowEvent("flow_started", "ci"))
    flow_started
    >>> bus.publish(WorkflowEvent("flow_completed", "ci"))
    """

    pattern: TopicPattern
    _callback: Callable[[WorkflowEvent], object]
    _on_close: Callable[[], object] = attrs.field(repr=False)
    closed: bool = attrs.field(default=False, init=False)

    def deliver(self, event: WorkflowEvent) -> None:
        """Call the callback; what it raises is logged."""
        if self.closed:  # by a callback before this one, during the same publish
            return
        try:
            self._callback(event)
        except Exception:
            logger.exception("callback %r raised on %s (execution %s)", self._callback, event.topic, event.execution_id)

    def close(self) -> None:
        """Have the callback called no more. A call under way on another thread is not waited for."""
        self.closed = True
        self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@attrs.define(eq=False)
class _Mailbox:
    """A subscription's place on a bus, which does not keep the subscription alive."""

    pattern: TopicPattern
    _subscription: "weakref.ref[Subscription[WorkflowEvent]]"
    _on_gone: Callable[[], object]

    @property
    def closed(self) -> bool:
        subscription = self._subscription()
        return subscription is None or subscription.closed

    def deliver(self, event: WorkflowEvent) -> None:
        subscription = self._subscription()
        if subscription is None:
            self._on_gone()
        else:
            subscription.put(event)


Deliver: TypeAlias = Callable[[WorkflowEvent], None]


@attrs.frozen(eq=False)
class _Route:
    """Where events of one type lead: by the names that some pattern asks for, and from all others."""

    named: dict[str, tuple[Deliver, ...]]
    others: tuple[Deliver, ...]


@attrs.define(eq=False)
class _Routing:
    """The listeners at one moment. An event costs two look-ups, however many names there are."""

    listeners: tuple[_Listener, ...] = ()
    routes: dict[EventType, _Route] = attrs.field(factory=dict, init=False)

    def route(self, event_type: EventType) -> _Route:
        """Work out a route, once."""

        def of(name: str) -> tuple[Deliver, ...]:
            topic = _topic(event_type, name)
            return tuple(listener.deliver for listener in self.listeners if listener.pattern.matches(topic))

        names = {name for listener in self.listeners if (name := listener.pattern.name) is not None}
        route = _Route({name: of(name) for name in names}, of("any other" + "".join(names)))
        self.routes[event_type] = route
        return route


@attrs.define(eq=False, repr=False)
class EventBus:
    """Routes events to subscribers by topic; give it to the engine as ``EngineConfig(event_sink=bus)``.

    *capacity* is how many unread events a subscription holds, unless it says otherwise.

    >>> bus = EventBus()
    >>> failures = bus.subscribe("szal/step/*/step_failed")
    >>> bus(WorkflowEvent("step_started", "ci", "build"))
    >>> bus(WorkflowEvent("step_failed", "ci", "build", error="ValueError: no"))
    >>> failures.get(timeout=1).error
    'ValueError: no'
    """

    capacity: int = attrs.field(default=1024, validator=attrs.validators.ge(1))
    # Replaced as a whole, under the lock, so that publishing takes none and a cached route is never stale.
    _routing: _Routing = attrs.field(factory=_Routing, init=False)
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)

    def publish(self, event: WorkflowEvent) -> None:
        """Hand *event* to whoever subscribed to its topic. Waits for callbacks, never for a subscription's reader."""
        routing = self._routing
        if not routing.listeners:
            return
        route = routing.routes.get(event.event_type) or routing.route(event.event_type)
        for deliver in route.named.get(event.subject, route.others) if route.named else route.others:
            deliver(event)

    __call__ = publish

    @overload
    def subscribe(
        self, pattern: str = "#", callback: None = None, capacity: int | None = None
    ) -> Subscription[WorkflowEvent]: ...

    @overload
    def subscribe(self, pattern: str, callback: Callable[[WorkflowEvent], object]) -> CallbackHandle: ...

    @overload
    def subscribe(self, pattern: str = "#", *, callback: Callable[[WorkflowEvent], object]) -> CallbackHandle: ...

    def subscribe(
        self,
        pattern: str = "#",
        callback: Callable[[WorkflowEvent], object] | None = None,
        capacity: int | None = None,
    ) -> "Subscription[WorkflowEvent] | CallbackHandle":
        """Receive the events whose topic matches *pattern* (see `TopicPattern`; `ValueError` if it is not one).

        Without *callback*, returns an iterator that buffers up to *capacity* events and leaves the bus when closed
        or dropped. With it, *callback* is called on the thread that publishes, until the returned handle is closed;
        there is nothing to buffer, and a *capacity* is a ValueError.
        """
        compiled = TopicPattern(pattern)
        if callback is not None:
            if capacity is not None:
                raise ValueError("capacity is for subscriptions without a callback")
            handle = CallbackHandle(compiled, callback, self._refresh)
            self._refresh(handle)
            return handle
        size = self.capacity if capacity is None else capacity
        subscription: Subscription[WorkflowEvent] = Subscription(size, self._refresh)
        self._refresh(_Mailbox(compiled, weakref.ref(subscription), self._refresh))
        return subscription

    @property
    def subscriber_count(self) -> int:
        """How many callbacks and subscriptions would hear of an event that everyone listens to."""
        return sum(not listener.closed for listener in self._routing.listeners)

    def _refresh(self, *new: _Listener) -> None:
        """Add *new* listeners, and let go of those that have closed."""
        with self._lock:
            kept = tuple(listener for listener in self._routing.listeners if not listener.closed)
            self._routing = _Routing(kept + new)
