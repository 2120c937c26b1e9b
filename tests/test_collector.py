"""The garbage collector is off while something large is made, and as before after that, whatever happens."""

import gc
import os
import threading
from contextlib import suppress

import pytest
from forking import in_child
from helper_engine import bounded, waited
from injection import alarm_in, alarm_off, alarms

from szal import FlowDef, StepDef, collector
from szal.collector import without_collector


class TookTooLong(Exception):
    """What a signal handler of the program raises."""


@pytest.fixture
def off():
    """The collector, switched off by the program."""
    gc.disable()
    yield
    gc.enable()


def test_it_is_on_again_after_that_also_of_one_in_another():
    assert without_collector(lambda: (without_collector(gc.isenabled), gc.isenabled())) == (False, False)
    assert gc.isenabled()


def test_it_is_on_again_where_that_raises():
    with pytest.raises(ZeroDivisionError):
        without_collector(lambda: 1 / 0)
    assert gc.isenabled()


@pytest.mark.usefixtures("off")
def test_it_stays_off_where_the_program_has_it_off():
    assert not without_collector(gc.isenabled)
    assert not gc.isenabled()


def test_it_is_on_again_when_the_last_of_several_threads_is_done():
    begun, go = threading.Event(), threading.Event()
    thread = threading.Thread(target=without_collector, args=[lambda: (begun.set(), waited(go))])
    thread.start()
    waited(begun)
    assert not without_collector(gc.isenabled)
    assert not gc.isenabled()
    go.set()
    thread.join(20)
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_is_forked_while_another_thread_makes_something_collects():
    begun, go = threading.Event(), threading.Event()
    thread = threading.Thread(target=without_collector, args=[lambda: (begun.set(), waited(go))])
    thread.start()
    waited(begun)
    try:
        in_child(lambda: _check(gc.isenabled(), not without_collector(gc.isenabled), gc.isenabled()))
        without_collector(lambda: in_child(lambda: _check(not gc.isenabled())))
    finally:
        go.set()
        thread.join(20)


def _check(*facts: bool) -> None:
    assert all(facts), facts


def test_an_interruption_at_any_moment_leaves_it_on(monkeypatch):
    def interrupt(number, frame):
        raise TookTooLong

    monkeypatch.setattr("sys.unraisablehook", lambda told: None)  # of one in a destructor, which cannot raise
    with alarms(interrupt):
        for number in range(600):
            with suppress(TookTooLong):
                try:
                    alarm_in(number % 20)
                    for _ in range(20):
                        without_collector(lambda: 1)
                finally:
                    alarm_off()
            assert (gc.isenabled(), collector._collector._uses) == (True, {}), number
            assert bounded(without_collector, gc.isenabled) is False, number


@pytest.mark.parametrize(("steps", "is_on"), [(10, True), (1000, False)])
def test_a_large_plan_is_made_without_it(monkeypatch, steps, is_on):
    seen = []
    analyse = FlowDef.analyse
    monkeypatch.setattr(FlowDef, "analyse", lambda flow: (seen.append(gc.isenabled()), analyse(flow))[1])
    from szal.scheduler.plan import Plan

    Plan.of(FlowDef("f", steps=[StepDef(f"s{number}") for number in range(steps)]))
    assert (seen, gc.isenabled()) == ([is_on], True)
