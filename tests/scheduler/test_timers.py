"""Due times: what fires, in which order, and what does not."""

import gc
import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from szal.scheduler.timers import Timers


@pytest.fixture
def timers():
    return Timers()


def test_nothing_is_due_at_first(timers):
    assert timers.next_due() is None
    assert timers.pending == 0
    timers.fire(now=1e9)


def test_fires_what_is_due_the_earliest_first_and_keeps_the_rest(timers):
    fired = []
    for due in (3.0, 1.0, 2.0, 4.0):
        timers.add(due, lambda due=due: fired.append(due))
    timers.fire(now=3.0)
    assert fired == [1.0, 2.0, 3.0]
    assert (timers.pending, timers.next_due()) == (1, 4.0)


def test_equal_due_times_fire_in_the_order_they_were_added(timers):
    fired = []
    for name in "abc":
        timers.add(1.0, lambda name=name: fired.append(name))
    timers.fire(now=1.0)
    assert fired == ["a", "b", "c"]


def test_a_cancelled_timer_does_not_fire_and_is_not_waited_for(timers):
    fired = []
    early = timers.add(1.0, lambda: fired.append("early"))
    timers.add(2.0, lambda: fired.append("late"))
    timers.cancel(early)
    assert (timers.pending, timers.next_due()) == (1, 2.0)
    timers.fire(now=5.0)
    assert fired == ["late"]


def test_cancelling_twice_or_after_firing_counts_once(timers):
    gone = timers.add(1.0, lambda: None)
    kept = timers.add(2.0, lambda: None)
    timers.cancel(gone)
    timers.cancel(gone)
    assert timers.pending == 1
    timers.fire(now=2.0)
    timers.cancel(kept)
    assert timers.pending == 0


def test_an_action_may_add_and_cancel_timers(timers):
    fired = []
    victim = timers.add(2.0, lambda: fired.append("victim"))

    def first():
        timers.cancel(victim)
        timers.add(1.5, lambda: fired.append("added, due already"))
        timers.add(9.0, lambda: fired.append("added for later"))

    timers.add(1.0, first)
    timers.fire(now=3.0)
    assert fired == ["added, due already"]
    assert timers.next_due() == 9.0


def test_cancelled_timers_do_not_pile_up(timers):
    class Lease:
        def __call__(self):
            pass

    alive = weakref.WeakSet()
    for _ in range(10_000):
        action = Lease()
        alive.add(action)
        timers.cancel(timers.add(1e9, action))
        del action
    gc.collect()
    assert timers.pending == 0
    assert len(alive) == 0  # what a timer would have called is let go of at once
    assert len(timers._heap) < 1_000


class AgainstASortedList(RuleBasedStateMachine):
    """Timers against a list that is sorted anew each time."""

    def __init__(self):
        super().__init__()
        self.timers = Timers()
        self.model = []  # (due, number) of what is to fire
        self.made = []
        self.fired = []

    @rule(due=st.integers(0, 20))
    def add(self, due):
        number = len(self.made)
        self.made.append((due, number, self.timers.add(float(due), lambda: self.fired.append(number))))
        self.model.append((due, number))

    @rule(data=st.data())
    def cancel(self, data):
        if self.made:
            due, number, timer = data.draw(st.sampled_from(self.made))
            self.timers.cancel(timer)
            self.model = [entry for entry in self.model if entry != (due, number)]

    @rule()
    def cancel_most(self):
        for due, number, timer in self.made[: len(self.made) * 9 // 10]:
            self.timers.cancel(timer)
            self.model = [entry for entry in self.model if entry != (due, number)]

    @rule(count=st.integers(60, 90), due=st.integers(0, 20))
    def add_many(self, count, due):
        for _ in range(count):
            self.add(due)

    @rule(now=st.integers(0, 20))
    def fire(self, now):
        self.fired.clear()
        self.timers.fire(float(now))
        due = sorted(entry for entry in self.model if entry[0] <= now)
        assert self.fired == [number for _, number in due]
        self.model = [entry for entry in self.model if entry[0] > now]

    @invariant()
    def agrees(self):
        assert self.timers.pending == len(self.model)
        assert self.timers.next_due() == (min(self.model)[0] if self.model else None)


TestAgainstASortedList = AgainstASortedList.TestCase
TestAgainstASortedList.settings = settings(max_examples=30, stateful_step_count=30)


def test_what_is_forgotten_does_not_fire_and_is_let_go_of(timers):
    fired = []
    timer = timers.add(1.0, lambda: fired.append(1))
    timers.clear()
    timers.cancel(timer)
    timers.fire(now=1e9)
    assert (fired, timers.pending, timers.next_due(), timer.action) == ([], 0, None, None)
