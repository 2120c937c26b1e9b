"""What an attempt needs before it begins: its share of what handlers share, and then its time, where that has a rate.

The share comes first: who has its time begins at once, or the times would be no rate. Only one of each name at a time
has taken a point in time and has not begun: so what dies, or is held up, leaves next to nothing of it unused.
"""

import threading
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial

import attrs

from szal.model.rate import interval_of
from szal.model.step import StepDef
from szal.process_events import enroll_lock
from szal.scheduler.resources import Holder, Resources, Share
from szal.scheduler.timers import Timer

__all__ = ["Lack", "Permit", "Permits"]


class _State(Enum):
    """What becomes of a permit. It changes under the lock of `Permits`.

    WAITING -> HELD, when there is nothing more to wait for but its time -> OVER, when it is given back
    WAITING -> OVER, when it is not wanted any more
    """

    WAITING = "waiting"
    HELD = "held"
    OVER = "over"


@attrs.frozen
class Lack:
    """What one attempt waits for: so many units of a resource, of which so much is used, or its time, by a rate.

    *used* is None of what all engines of a store share: the store tells that.
    """

    name: str
    units: int = 1
    capacity: float | None = None
    used: int | None = 0
    rate: str | None = None


class Permit:
    """What one attempt of *step* asks for before it begins."""

    __slots__ = (
        *("asking", "clock", "delay", "holder", "left", "owner"),
        *("share", "state", "step", "timer", "told", "turn"),
    )

    def __init__(
        self,
        owner: "Permits",
        step: StepDef,
        holder: Holder | None,
        clock: Callable[[], float],
        told: "Callable[[Permit], object]",
    ) -> None:
        self.owner = owner
        self.step = step
        self.holder = holder
        self.clock = clock
        self.told = told
        self.state = _State.WAITING
        self.asking: int | None = threading.get_ident()
        """The thread that asks for it, as long as it does."""
        self.left: Callable[[], object] | None = None
        """What there is to ask for that another run's thread could not: there was none to be had that would."""
        self.share: Share | None = None
        self.turn: Share | None = None
        """It is the next to begin of all in this engine that name one of its rates."""
        self.delay = 0.0
        """In how many seconds its time has come."""
        self.timer: Timer | None = None
        """Of that. The coordinating thread's."""

    @property
    def is_held(self) -> bool:
        """Whether it has been granted, and not been given back."""
        return self.state is _State.HELD

    @property
    def is_being_asked(self) -> bool:
        """Whether an answer is to come by itself, of a store."""
        share, turn = self.share, self.turn
        if self.state is not _State.WAITING:
            return False
        return (share is not None and share.is_being_asked) or (turn is not None and turn.is_held)

    def lacks(self) -> "list[Lack]":
        """Return what it waits for, as far as this engine knows."""
        share, rate = self.share, self.step.rate
        if share is not None and not share.is_held:
            missing = self.owner.resources.missing(share)
            return [Lack(name, share.needs[name], capacity, used) for name, capacity, used in missing]
        return [Lack(name, rate=every) for name, every in rate.items()]

    def begun(self) -> None:
        """Take note that the attempt begins, on this thread."""
        if self.share is not None:
            self.share.thread = threading.get_ident()
        if self.turn is not None:
            self.turn.release()

    def press(self) -> None:
        """Ask for what was left, on the thread of its run. Raises RuntimeError where there is no thread for it."""
        left, self.left = self.left, None
        if left is not None:
            left()

    def release(self) -> None:
        """Give back what is held, or wait no more; nothing, where that was done before. From any thread."""
        self.owner.release(self)


@attrs.define(eq=False, repr=False)
class Permits:
    """All permits of an engine: shares of *resources*, and times. From any thread."""

    resources: Resources
    goes_by_store: bool = True
    """Whether times are those of the store, where there is one: not with a clock that a test moves."""
    _turns: Resources = attrs.field(factory=lambda: Resources({}), init=False)
    _due: dict[str, float] = attrs.field(factory=dict, init=False)  # by name: the next free point in time, by the clock
    _lock: threading.RLock = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        enroll_lock(self, Permits._begin_anew)

    def _begin_anew(self) -> threading.RLock:
        self._lock = threading.RLock()
        return self._lock

    def ask(
        self, step: StepDef, holder: Holder | None, clock: Callable[[], float], told: Callable[[Permit], object]
    ) -> Permit:
        """Return the permit of *step*: it is held, or *told* is called with it when it is, on any thread.

        And where it is known that it has to wait for others, or what is left to be asked for. *clock* is the run's.
        Raises `ResourceHeld` as `Resources.ask` does.
        """
        permit = Permit(self, step, holder, clock, told)
        try:
            self._ask(permit)
        except BaseException:
            self.release(permit)
            raise
        with self._lock:
            permit.asking = None
        return permit

    def _ask(self, permit: Permit) -> None:
        """Ask for its share, if it needs one, and its time."""
        step = permit.step
        if not step.resources:
            self._take_turn(permit)
            return

        def shared(share: Share) -> None:
            self._shared(permit, share)

        share = self.resources.ask(step.name, step.resources, step.priority, shared, permit.holder)
        if share.is_held:
            self._shared(permit, share)
        else:
            self._keep(permit, share)

    def release(self, permit: Permit) -> None:
        """Give back what *permit* has, or withdraw it."""
        with self._lock:
            if permit.state is _State.OVER:
                return
            permit.state = _State.OVER
            parts = [part for part in (permit.turn, permit.share) if part is not None]
        for part in parts:
            part.release()

    def _keep(self, permit: Permit, share: Share, *, is_turn: bool = False) -> bool:
        """Have *permit* give *share* back with it; at once, and False, where it is not wanted any more."""
        with self._lock:
            if is_wanted := permit.state is not _State.OVER:
                if is_turn:
                    permit.turn = share
                else:
                    permit.share = share
        if not is_wanted:
            share.release()
        return is_wanted

    def _shared(self, permit: Permit, share: Share) -> None:
        if not share.is_held:
            permit.left = share.press if share.is_left else None
            permit.told(permit)
        elif self._keep(permit, share):
            self._take_turn(permit)

    def _take_turn(self, permit: Permit) -> None:
        """Have *permit* be the next to begin, of those that name its rates, once those before it have."""
        step = permit.step
        if not step.rate:
            self._grant(permit, 0.0)
            return

        def turned(turn: Share) -> None:
            if self._keep(permit, turn, is_turn=True):
                self._take_time(permit)

        turn = self._turns.ask(step.name, dict.fromkeys(step.rate, 1), step.priority, turned)
        if turn.is_held:
            turned(turn)
        else:
            self._keep(permit, turn, is_turn=True)

    def _take_time(self, permit: Permit) -> None:
        """Take the next free points in time for *permit*: in all engines of a store, or in this one."""
        intervals = {name: interval_of(rate) for name, rate in permit.step.rate.items()}
        if self.goes_by_store and self.resources.beyond is not None and permit.holder is not None:

            def taken(delay: float) -> None:
                self._grant(permit, delay)

            try:
                self.resources.beyond.take_turns(intervals, taken)
            except RuntimeError:
                if permit.asking == threading.get_ident():
                    raise
                permit.left = partial(self.resources.beyond.take_turns, intervals, taken)
                permit.told(permit)
        else:
            self._grant(permit, self._next(intervals, permit.clock()))

    def _next(self, intervals: Mapping[str, float], now: float) -> float:
        with self._lock:
            points = {name: max(self._due.get(name, now), now) for name in intervals}
            self._due.update({name: points[name] + every for name, every in intervals.items()})
        return max(point - now for point in points.values())

    def _grant(self, permit: Permit, delay: float) -> None:
        with self._lock:
            if permit.state is not _State.WAITING:
                return
            permit.delay = delay
            permit.state = _State.HELD
            is_asking = permit.asking is not None
        if not is_asking:
            permit.told(permit)
