"""What all engines of a store share, asked for by a thread of this one: no coordinating thread waits for a database."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import Empty
from typing import Final

import attrs

from szal.clock import monotonic
from szal.errors import StoreClosed
from szal.logs import SafeLogger, Trouble
from szal.model.step import new_id
from szal.process_events import enroll_lock
from szal.scheduler.resources import Share
from szal.stores.ledger import Lease, Ledger
from szal.stores.limits import Limits, Request
from szal.stores.listening import Listening
from szal.waiters import Mailbox

__all__ = ["SharedLimits"]

logger = SafeLogger(logging.getLogger(__name__))

_LOOK_EVERY: Final = 5.0
"""Seconds for which it is taken for granted how much there is."""

_ASK_EVERY: Final = 1.0
"""Seconds between two questions where nobody tells of anything: a process may have died."""

_IDLE: Final = 10.0
"""Seconds after which the thread ends."""

_CLOSING: Final = 5.0
"""Seconds that what was given back has to be written in when the engine is closed."""


@attrs.frozen(eq=False)
class _Asked:
    """A share that was asked for, and the request that it is."""

    request: Request
    told: Callable[[bool], object]

    @property
    def order(self) -> tuple[int, float, str]:
        return -self.request.priority, self.request.asked, self.request.permit_id


class _News:
    """What has come for the thread since it looked last. Changed under the lock of `SharedLimits`."""

    def __init__(self) -> None:
        self.asked: dict[Share, Callable[[bool], object]] = {}
        self.over: list[Share] = []
        self.turns: list[tuple[Mapping[str, float], Callable[[float], object]]] = []

    def __bool__(self) -> bool:
        return bool(self.asked or self.over or self.turns)


class SharedLimits:
    """The limits of the store of *ledger*, as the engine's `Resources` sees them (`Beyond`).

    One daemon thread does all that is asked for in few transactions, begun by the first question, and ended when there
    was none for a while. Another one listens to the store while something is waited for. From any thread.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._capacities: dict[str, int] = {}
        enroll_lock(self, SharedLimits._begin_anew)

    def _begin_anew(self) -> threading.RLock:
        """Have nothing asked for; what the parent of a fork has is the parent's."""
        self._lock = threading.RLock()
        self._news = _News()
        self._bell: Mailbox[None] = Mailbox()
        self._thread: threading.Thread | None = None
        self._looked: float | None = None
        self._is_closed = False
        return self._lock

    @property
    def _limits(self) -> Limits:
        return self._ledger.limits

    # -- what resources ask ---------------------------------------------------------------------------

    def look(self) -> None:
        """See how much there is, unless that was done a moment ago. Raises what the store does."""
        now = monotonic()
        if self._looked is None or now >= self._looked + _LOOK_EVERY:
            self._capacities = self._limits.capacities()
            self._looked = now

    def capacity(self, name: str) -> int | None:
        """Return how much there was at the last look."""
        return self._capacities.get(name)

    def ask(self, share: Share, told: Callable[[bool], object]) -> None:
        """Have *told* called once the store has enough of it, and before, where that is not at once."""
        with self._lock:
            self._news.asked[share] = told
            self._ring()

    def release(self, share: Share) -> None:
        """Give that back, or ask for it no more."""
        with self._lock:
            if self._news.asked.pop(share, None) is None:
                self._news.over.append(share)
                with suppress(RuntimeError):  # whoever asks next has a thread, or its execution's lease ends
                    self._ring()

    def take_turns(self, intervals: Mapping[str, float], taken: Callable[[float], object]) -> None:
        """Have *taken* called with the seconds until the next free point in time."""
        with self._lock:
            self._news.turns.append((intervals, taken))
            self._ring()

    def close(self) -> None:
        """Have the thread end once it has written what was given back."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
        self._bell.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSING)

    def _ring(self) -> None:
        """Have the thread look, with the lock held; begin it where there is none."""
        if self._thread is None:
            self._thread = threading.Thread(target=_Keeper(self, self._limits).keep, name="szal-limits", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                self._thread = None
                raise
        self._bell.put(None)

    # -- what the thread asks -------------------------------------------------------------------------

    def hear(self, timeout: float) -> None:
        """Wait for news, so many seconds at most."""
        try:
            self._bell.next(timeout)
            while True:
                self._bell.get()
        except Empty:
            return

    def take_news(self) -> _News:
        """Return what has come."""
        with self._lock:
            news, self._news = self._news, _News()
        return news

    def ends(self, *, is_idle: bool) -> bool:
        """Whether the thread is to end: it is closed, or nothing has come for long. Then there is none any more."""
        with self._lock:
            ends = (self._is_closed or is_idle) and not self._news
            if ends:
                self._thread = None
        return ends

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is waited for."""
        return self._is_closed

    def await_begin(self, execution_id: str) -> None:
        """Wait until an execution is recorded, where its beginning is queued: before, there is no lease of it."""
        self._ledger.drain(begin_of=execution_id)

    def clock(self) -> float:
        """Return Unix time, by the database's clock."""
        return self._ledger.clock()

    def ring(self) -> None:
        """Have the thread look. From any thread."""
        self._bell.put(None)


class _Keeper:
    """The thread. All of it is its own."""

    def __init__(self, shared: SharedLimits, limits: Limits) -> None:
        self._shared = shared
        self._limits = limits
        self._news = _News()
        self._waiting: dict[Share, _Asked] = {}
        self._permits: dict[Share, str] = {}  # the ids of those that are granted, or asked for
        self._over: list[str] = []
        self._ahead: float | None = None  # of the database's clock, before the monotonic one
        self._asked_at = 0.0
        self._listening: Listening | None = None
        self._trouble = Trouble(logger)

    def keep(self) -> None:
        """Do what is asked for, until there is nothing more."""
        last = monotonic()
        has_failed = False
        while True:
            busy = bool(self._waiting or self._over or self._news)
            self._shared.hear(_ASK_EVERY if busy else _IDLE)
            if has_failed and not self._shared.is_closed:
                threading.Event().wait(_ASK_EVERY)
            if self._take_news():
                last = monotonic()
            try:
                self._go_round()
                has_failed = False
                self._trouble.is_over()
            except StoreClosed:
                self._waiting.clear()
                self._over.clear()
                self._news = _News()
            except Exception as error:  # noqa: BLE001 (the store is away: it is asked again)
                what = f"cannot ask for what is shared; trying again every {_ASK_EVERY:g}s"
                self._trouble.met(error, what)
                has_failed = True
            self._listen()
            if self._shared.is_closed:
                self._waiting.clear()
            is_idle = not (self._waiting or self._over or self._news) and monotonic() >= last + _IDLE
            if self._shared.ends(is_idle=is_idle):
                self._listen(stop=True)
                return

    def _take_news(self) -> bool:
        """Take note of what has come; return whether that is anything."""
        news = self._shared.take_news()
        self._news.asked.update(news.asked)
        self._news.turns += news.turns
        for share in news.over:
            self._news.asked.pop(share, None)
            self._waiting.pop(share, None)
            if (permit_id := self._permits.pop(share, None)) is not None:
                self._over.append(permit_id)
        return bool(news)

    def _go_round(self) -> None:
        """Ask the store for what has come, and give back what is over; tell whoever has what it waited for."""
        while self._news.turns:
            intervals, taken = self._news.turns[0]
            delay = self._limits.take_turns(intervals)
            self._news.turns.pop(0)
            taken(delay)
        while self._news.asked:
            share = next(iter(self._news.asked))
            self._waiting[share] = self._request(share, self._news.asked[share])
            self._permits[share] = self._waiting[share].request.permit_id
            del self._news.asked[share]
            self._asked_at = 0.0
        was_just_asked = self._waiting and not self._over and monotonic() < self._asked_at + _ASK_EVERY
        if was_just_asked and not self._limits.has_turn([each.request for _, each in self._first()]):
            return
        while self._waiting or self._over:
            if not self._claim():
                return

    def _claim(self) -> bool:
        """Ask for those that are first in line; return whether one of them is granted, and another may be."""
        first = self._first()
        over = [*self._over]
        granted = self._limits.claim([each.request for _, each in first], over)
        self._asked_at = monotonic()
        del self._over[: len(over)]
        has_more = False
        for share, asked in first:
            if asked.request.permit_id in granted:
                has_more = True
                self._waiting.pop(share, None)
                asked.told(True)
        for share, asked in self._waiting.items():
            if not share.waits:
                asked.told(False)
        return has_more and bool(self._waiting)

    def _first(self) -> list[tuple[Share, _Asked]]:
        """Return those that could be granted if all there is were free, and all before them: few of many."""
        found, count = [], Counter[str]()
        for share, asked in sorted(self._waiting.items(), key=lambda item: item[1].order):
            needs = asked.request.needs
            if any(count[name] < (self._shared.capacity(name) or 1) for name in needs):
                count.update(needs.keys())
                found.append((share, asked))
        return found

    def _request(self, share: Share, told: Callable[[bool], object]) -> _Asked:
        assert share.holder is not None
        self._shared.await_begin(share.holder[0])
        if self._ahead is None:
            self._ahead = self._shared.clock() - monotonic()
        request = Request(
            permit_id=new_id(),
            lease=Lease(*share.holder),
            step_name=share.step,
            needs={name: units for name, units in share.needs.items() if self._shared.capacity(name) is not None},
            priority=-share.order[0],
            asked=self._ahead + monotonic(),
        )
        return _Asked(request, told)

    def _listen(self, *, stop: bool = False) -> None:
        """Have another thread listen while something is waited for."""
        if not self._waiting or stop:
            if self._listening is not None:
                self._listening.close()
                self._listening = None
        elif self._listening is None:
            with suppress(RuntimeError):  # there is no thread to be had: it asks by itself meanwhile
                self._listening = Listening(self._limits.listen(), self._shared.ring, _ASK_EVERY)
