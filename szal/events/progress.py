"""What running steps report, handed to any number of slow readers, and as Server-Sent Events."""

import json
import re
import weakref
from collections.abc import Callable, Iterator
from enum import Enum

import attrs

from szal.events.subscription import Subscription
from szal.interruption import run_to_end
from szal.storable import as_text, repr_of, standing_in

__all__ = [
    "Hearing",
    "InBulk",
    "Printed",
    "ProgressHub",
    "StepProgress",
    "progress_to_sse",
    "sse_frame",
]

_LINE_END = re.compile(r"\r\n|\r|\n")
_ONE_LINE = {ord("\r"): None, ord("\n"): None}
_ONE_LINE_ID = {**_ONE_LINE, 0: None}  # a browser ignores an id with a NUL in it


@attrs.define
class StepProgress:
    """What a handler passed to `StepContext.report`, and where it came from.

    >>> StepProgress("build", "0b9f", "order-42", {"done": 3, "of": 10}).data["done"]
    3
    """

    step_name: str
    step_id: str
    execution_id: str
    data: object
    index: int | None = None
    """Of the item, where the step runs over a list."""


class Hearing(Enum):
    """What the progress sink of a run hears of what a command prints."""

    NOTHING = "nothing"  # there is none
    LINES = "lines"
    PRINTED = "printed"  # see `InBulk`


@attrs.frozen
class InBulk:
    """A progress sink that takes what commands print many lines at a time: its ``data`` is a `Printed` then.

    A call for each line is what a command that prints much would wait for. Everything else that is reported comes as
    to any other sink.

    >>> seen = InBulk(lambda progress: print(progress.data))
    >>> seen(StepProgress("build", "0b9f", "order-42", Printed("stdout", b"one\\ntwo\\n")))
    Printed(stream='stdout', data=b'one\\ntwo\\n')
    """

    sink: Callable[[StepProgress], object]

    def __call__(self, progress: StepProgress) -> object:
        """Hand it on."""
        return self.sink(progress)


@attrs.frozen
class Printed:
    r"""What has come from one stream of a command: whole lines, or how the last one stands, which may still change.

    >>> list(Printed("stdout", b"one\n10%\r20%\n").lines())
    [{'stream': 'stdout', 'line': 'one'}, {'stream': 'stdout', 'line': '20%'}]
    >>> list(Printed("stdout", b"30%\r").lines())
    [{'stream': 'stdout', 'line': '30%', 'end': '\r'}]
    """

    stream: str
    data: bytes
    """Ends with a line end, or with ``\\r`` where the line may still change."""

    @property
    def is_final(self) -> bool:
        """Whether it is of whole lines."""
        return self.data.endswith(b"\n")

    def masked(self, mask: Callable[[str], str]) -> "Printed":
        """Return it as *mask* leaves it."""
        text = self.data.decode(errors="surrogateescape")
        return Printed(self.stream, mask(text).encode(errors="surrogateescape"))

    def text(self) -> str:
        """Return it without its last end, as it was printed."""
        return as_text(self.data[:-1])

    def lines(self) -> Iterator[dict[str, str]]:
        """Yield what a sink is told that takes a line at a time."""
        if not self.is_final:
            yield {"stream": self.stream, "line": self.text(), "end": "\r"}
            return
        for line in self.text().split("\n"):
            yield {"stream": self.stream, "line": standing_in(line) if "\r" in line else line}


@attrs.define(eq=False, repr=False)
class ProgressHub:
    """Passes progress from the engine's threads to every subscriber, never waiting for a slow one.

    >>> hub = ProgressHub(capacity=100)
    >>> client = hub.subscribe()
    >>> report = hub.sink()  # goes to EngineConfig(progress_sink=...)
    >>> report(StepProgress("build", "0b9f", "order-42", "half way"))
    >>> hub.close()
    >>> [progress.data for progress in client]
    ['half way']
    """

    capacity: int = attrs.field(default=256, validator=attrs.validators.ge(1))
    # Changed and copied by atomic operations only, as nothing here takes a lock. Who closes the hub sets the flag and
    # then takes the clients, who subscribes adds one and then looks at the flag: whichever comes second sees the first.
    # Each with the execution that it is to hear of, or None.
    _clients: "dict[weakref.ref[Subscription[StepProgress]], str | None]" = attrs.field(factory=dict, init=False)
    _closed: bool = attrs.field(default=False, init=False)

    def sink(self) -> Callable[[StepProgress], None]:
        """Return the function to give to the engine as ``progress_sink``."""
        return self._publish

    def subscribe(self, *, execution_id: str | None = None) -> Subscription[StepProgress]:
        """Return an iterator over the progress reported from now on; already at its end if the hub is closed.

        With *execution_id*, over what steps of that execution report, not of its sub-flows.

        >>> hub = ProgressHub()
        >>> client = hub.subscribe(execution_id="order-42")
        >>> for order in ("order-41", "order-42"):
        ...     hub.sink()(StepProgress("build", "0b9f", order, 50))
        >>> client.get(timeout=1).execution_id, client.get(timeout=0)
        ('order-42', None)
        """
        client: Subscription[StepProgress] = Subscription(self.capacity, lambda: self._clients.pop(place, None))
        place = weakref.ref(client, lambda gone: self._clients.pop(gone, None))
        self._clients[place] = execution_id
        if self._closed:
            client.close()
        return client

    @property
    def subscriber_count(self) -> int:
        """How many subscriptions are neither closed nor dropped.

        >>> hub = ProgressHub()
        >>> with hub.subscribe():
        ...     hub.subscriber_count
        1
        >>> hub.subscriber_count
        0
        """
        return len(self._live())

    def close(self) -> None:
        """End every subscriber's iteration, after what has been reported so far."""
        self._closed = True

        def close_clients() -> None:
            for client in self._live():
                client.close()

        run_to_end(close_clients)

    def _publish(self, progress: StepProgress) -> None:
        clients = iter(self._live(progress.execution_id))
        try:
            for client in clients:
                client.put(progress)
        except BaseException:  # an interruption: it goes on, when the others have been told too
            for client in clients:
                client.put(progress)
            raise

    def _live(self, execution_id: str | None = None) -> list[Subscription[StepProgress]]:
        """Return who still listens; with *execution_id*, who is to hear of that one."""
        return [
            client
            for place, wanted in self._clients.copy().items()
            if (wanted is None or execution_id in (None, wanted))
            and (client := place()) is not None
            and not client.closed
        ]


def sse_frame(event: str | None, id: str | None, data: object) -> str:  # noqa: A002 - the field's name
    r"""Return one Server-Sent Event; *event* and *id* are left out where they are None.

    *data* is sent as it is if it is a string, else as JSON (`TypeError` or `ValueError` if JSON cannot hold it).
    No text can forge another field: *data* goes out line by line, line ends are removed from *event* and *id*.

    >>> sse_frame("log", "7", "one\ntwo")
    'event: log\nid: 7\ndata: one\ndata: two\n\n'
    >>> sse_frame(None, None, {"done": True})
    'data: {"done":true}\n\n'
    """
    fields = []
    if event is not None:
        fields.append(f"event: {event.translate(_ONE_LINE)}\n")
    if id is not None:
        fields.append(f"id: {id.translate(_ONE_LINE_ID)}\n")
    text = data if isinstance(data, str) else _compact(data)
    fields.extend(f"data: {line}\n" for line in _LINE_END.split(text))
    return "".join(fields) + "\n"


def progress_to_sse(progress: StepProgress) -> str:
    r"""Return *progress* as one ``step_progress`` event whose id is the step's.

    Its data is a JSON object of all four fields. Where JSON cannot hold what the handler reported (an object, NaN,
    a list that contains itself), the whole of it is sent as a string, its repr: progress never fails a reader.

    >>> progress_to_sse(StepProgress("build", "0b9f", "order-42", 50)).splitlines()[:2]
    ['event: step_progress', 'id: 0b9f']
    >>> "Ellipsis" in progress_to_sse(StepProgress("build", "0b9f", "order-42", ...))
    True
    """
    fields = {"step_name": progress.step_name, "step_id": progress.step_id, "execution_id": progress.execution_id}
    try:
        data = _compact({**fields, "data": progress.data})
    except (TypeError, ValueError, RecursionError):
        data = _compact({**fields, "data": repr_of(progress.data)})
    return sse_frame("step_progress", progress.step_id, data)


def _compact(value: object) -> str:
    # ASCII, as a lone surrogate (which a file's name may contain) cannot be sent as UTF-8
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
