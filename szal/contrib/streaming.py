"""Streams of events to browsers, of which a server has threads for so many only."""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import attrs

from szal.engine.stream import EventStream
from szal.process_events import enroll_lock

__all__ = ["LONGEST", "Answer", "Streams"]

LONGEST: Final = 25.0
"""Seconds that a stream lasts: then the browser comes back, perhaps to another process. A server that ends waits no
longer for one."""

_HEADERS: Final = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"}
_UNBUFFERED: Final = {"X-Accel-Buffering": "no"}  # by nginx
_LATER: Final = {"Retry-After": "5", "Cache-Control": "no-store"}


@attrs.frozen
class Answer:
    """What a request for a stream is answered. What is in *body* holds a thread of the server, until it is closed."""

    status: int
    headers: Mapping[str, str]
    body: "_Held | tuple[()]" = ()


class Streams:
    """How many streams this process serves just now: half of as many as it has *threads* at most."""

    def __init__(self, threads: Callable[[], int]) -> None:
        self._threads = threads
        self._count = 0
        enroll_lock(self, Streams._make_lock)

    def _make_lock(self) -> threading.RLock:
        self._lock = threading.RLock()  # guards the count
        self._count = 0  # those of a parent are the parent's
        return self._lock

    def open(self, make: Callable[[], EventStream], last_event_id: str | None, *, is_threaded: bool) -> Answer:
        """Return the stream that *make* does; 503 where there are as many as may be, and the page has to poll.

        A process that serves one request at a time streams none. 204 tells a browser that has seen the end, by the
        *last_event_id* that it comes back with, to come back no more. Raises what *make* does.
        """
        if not self._take(self._threads() // 2 if is_threaded else 0):
            return Answer(503, _LATER)
        try:
            stream = make()
            if last_event_id is None or not stream.is_known:
                return Answer(200, {**_HEADERS, **_UNBUFFERED}, _Held(stream, self))
        except BaseException:
            self.give_back()
            raise
        stream.close()
        self.give_back()
        return Answer(204, {"Cache-Control": "no-store"})

    def _take(self, most: int) -> bool:
        with self._lock:
            may = self._count < most
            self._count += may
        return may

    def give_back(self) -> None:
        """Take note that a stream has ended."""
        with self._lock:
            self._count -= 1


class _Held(Iterator[str]):
    """A stream that counts until it is closed, or dropped: servers do the first, whether they have begun it or not."""

    def __init__(self, stream: EventStream, streams: Streams) -> None:
        self._stream = stream
        self._streams: list[Streams] = [streams]  # emptied once: `pop` is atomic

    def __next__(self) -> str:
        try:
            return next(self._stream)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it. From any thread; again does nothing."""
        self._stream.close()
        if self._streams:
            self._streams.pop().give_back()

    def __del__(self) -> None:
        self.close()
