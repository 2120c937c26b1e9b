"""What attempts need before they begin, asked for where there may be no thread that asks beyond the engine."""

import pytest

from szal import StepDef
from szal.clock import monotonic
from szal.scheduler.permits import Permits
from szal.scheduler.resources import Resources


class Store:
    """What all engines share: it grants what it is told to, and has no thread where the test says so."""

    has_thread = True

    def __init__(self):
        self.asked = []

    def look(self):
        pass

    def capacity(self, _name):
        return 9

    def ask(self, _share, told):
        self._take(lambda: told(True))

    def take_turns(self, _intervals, taken):
        self._take(lambda: taken(0.0))

    def release(self, share):
        pass

    def _take(self, grant):
        if not self.has_thread:
            raise RuntimeError("can't start new thread")
        self.asked.append(grant)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def permits(store):
    return Permits(Resources({"api": 1}, store))


@pytest.mark.parametrize("step", [StepDef("a", resources={"api": 1}), StepDef("a", rate={"api": "100/s"})])
def test_what_another_run_cannot_ask_for_is_left_to_who_waits(permits, store, step):
    told = []
    first, second = (permits.ask(step, (name, 1), monotonic, told.append) for name in ("first", "second"))
    store.asked.pop()()
    store.has_thread = False
    first.begun()
    first.release()
    assert [first.is_held, second.is_held, told] == [False, False, [first, second]]
    store.has_thread = True
    second.press()
    second.press()
    [grant] = store.asked
    grant()
    assert (second.is_held, told[2:]) == (True, [second])


@pytest.mark.parametrize("step", [StepDef("a", resources={"api": 1}), StepDef("a", rate={"api": "100/s"})])
def test_what_its_own_run_cannot_ask_for_is_held_by_nobody(permits, store, step):
    store.has_thread = False
    with pytest.raises(RuntimeError):
        permits.ask(step, ("first", 1), monotonic, print)
    store.has_thread = True
    second = permits.ask(step, ("second", 1), monotonic, lambda _: None)
    store.asked.pop()()
    assert second.is_held
