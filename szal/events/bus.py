"""What happens during a run, as events, and the bus that routes them by topic."""

import functools
import logging
import weakref
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias, overload

import attrs

from szal import clock
from szal.events.subscription import Subscription
from szal.events.topic import TopicPattern
from szal.interruption import call_each
from szal.logs import SafeLogger
from szal.model.moment import as_datetime

__all__ = ["CallbackHandle", "EventBus", "EventType", "TopicPattern", "WorkflowEvent"]

logger = SafeLogger(logging.getLogger(__name__))

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

    What happens to one item of a step that runs over a list is told as of a step, with its `index`, and in `items` how
    many there are; what happens to the step as a whole has neither. `step_type` is the step's, as it is defined.

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
    _timestamp: datetime | float = attrs.field(factory=clock.wall, eq=as_datetime, repr=False)
    execution_id: str | None = None
    step_type: str | None = None
    index: int | None = None
    items: int | None = None

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


class _Listener(Protocol):
    @property
    def pattern(self) -> TopicPattern: ...

    @property
    def closed(self) -> bool: ...

    @property
    def deliver(self) -> Callable[[WorkflowEvent], object]: ...

    def is_open(self) -> bool: ...


# NO_OP: see Subscription
@attrs.define(eq=False, on_setattr=attrs.setters.NO_OP)
class CallbackHandle:
    """A callback's place on a bus, which it keeps until `close`, whether or not anybody holds this handle.

    >>> bus = EventBus()
    >>> with bus.subscribe("szal/flow/#", callback=lambda event: print(event.event_type)):
    ...     bus.publish(WorkflowEvent("flow_started", "ci"))
    flow_started
    >>> bus.publish(WorkflowEvent("flow_completed", "ci"))
    """

    pattern: TopicPattern
    deliver: Callable[[WorkflowEvent], object]
    """The callback itself."""
    _bus: "weakref.ref[EventBus]" = attrs.field(repr=False)
    closed: bool = attrs.field(default=False, init=False)

    def is_open(self) -> bool:
        """Return whether the callback is still called."""
        return not self.closed

    def close(self) -> None:
        """Have the callback called no more. A call under way on another thread is not waited for."""
        self.closed = True
        bus = self._bus()
        if bus is not None:
            bus._leave(self)

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
    _bus: "weakref.ref[EventBus]"
    _execution_id: str | None
    closed: bool = attrs.field(default=False, init=False)

    def deliver(self, event: WorkflowEvent) -> None:
        if self._execution_id is not None and event.execution_id != self._execution_id:
            return
        subscription = self._subscription()
        if subscription is not None:
            subscription.put(event)
        elif (bus := self._bus()) is not None:
            bus._leave(self)

    def is_open(self) -> bool:
        subscription = self._subscription()
        return subscription is not None and not subscription.closed


@attrs.frozen
class _OfExecution:
    """A callback that is called with what happens in one execution only."""

    execution_id: str
    callback: Callable[[WorkflowEvent], object]

    def __call__(self, event: WorkflowEvent) -> None:
        if event.execution_id == self.execution_id:
            self.callback(event)


Listeners: TypeAlias = tuple[_Listener, ...]


@attrs.frozen(eq=False)
class _Route:
    """Where events of one type lead: by the names that some pattern asks for, and from all others."""

    named: dict[str, Listeners]
    others: Listeners

    @classmethod
    def of(cls, event_type: EventType, listeners: Listeners) -> Self:
        def matching(name: str) -> Listeners:
            topic = _topic(event_type, name)
            return tuple(listener for listener in listeners if listener.pattern.matches(topic))

        names = {name for listener in listeners if (name := listener.pattern.name) is not None}
        return cls({name: matching(name) for name in names}, matching("any other" + "".join(names)))


@attrs.define(eq=False, repr=False)
class EventBus:
    """Routes events to subscribers by topic; give it to the engine as ``EngineConfig(event_sink=bus)``.

    *capacity* is how many unread events a subscription holds, unless it says otherwise. Every method may be called
    from any thread, and from a signal handler or finalizer. In a process that was forked, callbacks are called as
    before, and subscriptions begin empty.

    >>> bus = EventBus()
    >>> failures = bus.subscribe("szal/step/*/step_failed")
    >>> bus(WorkflowEvent("step_started", "ci", "build"))
    >>> bus(WorkflowEvent("step_failed", "ci", "build", error="ValueError: no"))
    >>> failures.get(timeout=1).error
    'ValueError: no'
    """

    capacity: int = attrs.field(default=1024, validator=attrs.validators.ge(1))
    # In the order of subscribing. Changed and copied by atomic operations only: there is no lock.
    _listeners: dict[_Listener, None] = attrs.field(factory=dict, init=False)
    # What the listeners come to, worked out when it is first needed. A change of the listeners puts a new dict here;
    # who is working on a route meanwhile leaves it in the old one.
    _routes: dict[EventType, _Route] = attrs.field(factory=dict, init=False)

    def publish(self, event: WorkflowEvent) -> None:
        """Hand *event* to whoever subscribed to its topic. Waits for callbacks, never for a subscription's reader.

        What a callback raises is logged; an interruption goes on, when all have had the event.
        """
        if not self._listeners:
            return
        routes = self._routes
        route = routes.get(event.event_type) or self._route(routes, event.event_type)
        listeners = route.named.get(event.subject, route.others) if route.named else route.others
        listener = None
        try:
            for listener in listeners:
                if not listener.closed:  # by a callback before this one
                    listener.deliver(event)
            return
        except BaseException as error:  # noqa: BLE001 - logged or raised when all have had the event
            raised = error
        try:
            _go_on(event, listeners, listener, raised)
        finally:
            del raised  # its traceback holds this frame

    __call__ = publish

    @overload
    def subscribe(
        self,
        pattern: str = "#",
        callback: None = None,
        capacity: int | None = None,
        *,
        execution_id: str | None = None,
    ) -> Subscription[WorkflowEvent]: ...

    @overload
    def subscribe(
        self, pattern: str, callback: Callable[[WorkflowEvent], object], *, execution_id: str | None = None
    ) -> CallbackHandle: ...

    @overload
    def subscribe(
        self, pattern: str = "#", *, callback: Callable[[WorkflowEvent], object], execution_id: str | None = None
    ) -> CallbackHandle: ...

    def subscribe(
        self,
        pattern: str = "#",
        callback: Callable[[WorkflowEvent], object] | None = None,
        capacity: int | None = None,
        *,
        execution_id: str | None = None,
    ) -> "Subscription[WorkflowEvent] | CallbackHandle":
        """Receive the events whose topic matches *pattern* (see `TopicPattern`; `ValueError` if it is not one).

        Without *callback*, returns an iterator that buffers up to *capacity* events and leaves the bus when closed
        or dropped. With it, *callback* is called on the thread that publishes, until the returned handle is closed;
        there is nothing to buffer, and a *capacity* is a ValueError. With *execution_id*, it is what happens in that
        execution, not in its sub-flows.
        """
        compiled = TopicPattern(pattern)
        if callback is not None:
            if capacity is not None:
                raise ValueError("capacity is for subscriptions without a callback")
            called = callback if execution_id is None else _OfExecution(execution_id, callback)
            handle = CallbackHandle(compiled, called, weakref.ref(self))
            self._join(handle)
            return handle
        size = self.capacity if capacity is None else capacity
        subscription: Subscription[WorkflowEvent] = Subscription(size, lambda: self._leave(mailbox))
        mailbox = _Mailbox(compiled, weakref.ref(subscription), weakref.ref(self), execution_id)
        self._join(mailbox)
        return subscription

    @property
    def subscriber_count(self) -> int:
        """How many callbacks and subscriptions would hear of an event that everyone listens to."""
        return sum(listener.is_open() for listener in self._listeners.copy())

    def _join(self, listener: _Listener) -> None:
        for other in self._listeners.copy():
            if not other.is_open():  # a subscription that was dropped
                self._leave(other)
        self._listeners[listener] = None
        self._routes = {}

    def _leave(self, listener: _Listener) -> None:
        """Deliver to *listener* no more; what closes a handle or subscription calls this."""
        self._listeners.pop(listener, None)
        self._routes = {}

    def _route(self, routes: dict[EventType, _Route], event_type: EventType) -> _Route:
        route = routes[event_type] = _Route.of(event_type, tuple(self._listeners.copy()))
        return route


def _go_on(event: WorkflowEvent, listeners: Listeners, last: _Listener | None, error: BaseException) -> None:
    """Deliver *event* to the *listeners* after the *last* one that had it and raised *error*, and deal with that."""

    def failed(call: "functools.partial[None]", error: BaseException) -> None:
        callback = getattr(call.args[0], "deliver", None)
        logger.error(
            "callback %r raised on %s (execution %s)", callback, event.topic, event.execution_id, exc_info=error
        )

    rest = listeners if last is None else listeners[listeners.index(last) + 1 :]
    calls = [functools.partial(_deliver, listener, event) for listener in rest]
    call_each([functools.partial(_raise, last, error), *calls], failed)


def _raise(_listener: _Listener | None, error: BaseException) -> None:
    raise error


def _deliver(listener: _Listener, event: WorkflowEvent) -> None:
    if not listener.closed:
        listener.deliver(event)
