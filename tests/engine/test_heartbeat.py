"""The heartbeat: one thread that keeps an engine's leases, for as long as there are any."""

import logging
import os
import threading
import time
import weakref
from queue import SimpleQueue

import pytest
from forking import FORKS, in_child
from helper_engine import LONG, bounded, waited
from processes import wait_until

from szal.engine.leases import Heartbeat

TTL = 0.15


class Leases:
    """As much of a ledger as a heartbeat knows: it keeps all that is renewed, but for what is *lost*."""

    def __init__(self):
        self.renewed = SimpleQueue()
        self.lost = set()
        self.cancelled = set()
        self.before = lambda: None

    def renew(self, renewal):
        self.before()
        self.renewed.put(renewal.epochs)
        return {name: name in self.cancelled for name in renewal.epochs if name not in self.lost}


@pytest.fixture
def store():
    return Leases()


@pytest.fixture
def heartbeat(store):
    made = Heartbeat(store, "me", TTL)
    yield made
    made.close()


def hold(heartbeat, name="e", epoch=1, *, lost=None, cancel=None, beat=None):
    def nothing():
        pass

    heartbeat.hold(name, epoch, lost or nothing, cancel or nothing, beat or nothing)


@pytest.fixture
def beats():
    """The threads of heartbeats, but for those that there were before the test."""
    before = set(threading.enumerate())

    def beats():
        return [thread for thread in threading.enumerate() if thread.name == "szal-heartbeat" and thread not in before]

    return beats


class TestItsThread:
    def test_is_started_by_the_first_lease(self, heartbeat, store, beats):
        assert beats() == []
        hold(heartbeat)
        assert store.renewed.get(timeout=LONG) == {"e": 1}
        assert len(beats()) == 1
        hold(heartbeat, "other", 7)
        assert len(beats()) == 1
        wait_until(lambda: store.renewed.get(timeout=LONG) == {"e": 1, "other": 7})

    def test_ends_when_nothing_was_held_for_a_while_and_comes_back(self, heartbeat, store, beats):
        for _ in range(2):
            hold(heartbeat)
            store.renewed.get(timeout=LONG)
            heartbeat.drop("e", 1)
            wait_until(lambda: not beats())

    def test_stays_where_one_lease_follows_another(self, store, beats):
        heartbeat = Heartbeat(store, "me", 1.0)
        hold(heartbeat)
        [thread] = beats()
        for _ in range(15):
            heartbeat.drop("e", 1)
            time.sleep(0.1)
            hold(heartbeat)
        assert beats() == [thread]

    def test_ends_when_closed(self, heartbeat, beats):
        hold(heartbeat)
        [thread] = beats()
        heartbeat.close()
        heartbeat.close()
        thread.join(LONG)
        assert not thread.is_alive()

    def test_comes_back_after_that_for_another_lease(self, heartbeat, store, beats):
        hold(heartbeat)
        heartbeat.close()
        hold(heartbeat, "later")
        wait_until(lambda: "later" in store.renewed.get(timeout=LONG))
        wait_until(lambda: len(beats()) == 1)

    def test_ends_with_its_owner_by_reference_count_alone(self, no_collector, beats):
        stores = []
        for _ in range(30):
            store = Leases()
            stores.append(weakref.ref(store))
            heartbeat = Heartbeat(store, "me", 1000.0)
            hold(heartbeat)
            heartbeat.drop("e", 1)
        del heartbeat, store
        wait_until(lambda: not beats())
        assert [store() for store in stores if store() is not None] == []

    def test_keeps_nothing_of_what_it_renewed_last_alive(self, no_collector, beats):
        store = Leases()
        heartbeat = Heartbeat(store, "me", 0.9)
        hold(heartbeat)
        store.renewed.get(timeout=LONG)
        heartbeat.drop("e", 1)
        kept = weakref.ref(store)
        time.sleep(0.05)
        del heartbeat, store
        assert kept() is None
        wait_until(lambda: not beats())

    def test_where_there_is_none_to_be_had_nothing_is_held_and_the_next_lease_tries_again(
        self, heartbeat, store, monkeypatch
    ):
        def refuse(thread):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                hold(heartbeat, "refused")
        monkeypatch.undo()
        hold(heartbeat)
        assert store.renewed.get(timeout=LONG) == {"e": 1}


class TestALease:
    def test_that_is_dropped_is_renewed_no_more(self, heartbeat, store):
        hold(heartbeat)
        hold(heartbeat, "dropped")
        heartbeat.drop("dropped", 1)
        heartbeat.drop("never held", 1)
        assert store.renewed.get(timeout=LONG) == {"e": 1}

    def test_that_is_lost_is_told_once_and_renewed_no_more(self, heartbeat, store):
        told = SimpleQueue()
        store.lost.add("e")
        hold(heartbeat, lost=lambda: told.put(None))
        hold(heartbeat, "kept")
        told.get(timeout=LONG)
        wait_until(lambda: store.renewed.get(timeout=LONG) == {"kept": 1})
        store.renewed.get(timeout=LONG)
        assert told.empty()

    def test_that_is_to_be_cancelled_is_told_once_and_renewed(self, heartbeat, store):
        told, heard = SimpleQueue(), SimpleQueue()
        store.cancelled.add("e")
        hold(heartbeat, cancel=lambda: told.put(None), beat=lambda: heard.put(None))
        told.get(timeout=LONG)
        for _ in range(3):
            heard.get(timeout=LONG)
        assert told.empty()

    def test_that_was_taken_up_again_is_not_dropped_by_whoever_had_it_before(self, heartbeat, store, beats):
        hold(heartbeat, epoch=1)
        hold(heartbeat, epoch=2)
        heartbeat.drop("e", 1)
        wait_until(lambda: store.renewed.get(timeout=LONG) == {"e": 2})
        heartbeat.drop("e", 2)
        wait_until(lambda: not beats())

    def test_that_was_taken_up_again_during_a_slow_renewal_is_kept(self, heartbeat, store):
        """The renewal is about the epoch before, which is no more."""
        entered, gate, told = SimpleQueue(), threading.Event(), []

        def slow():
            entered.put(None)
            waited(gate)

        store.before = slow
        store.lost.add("e")
        hold(heartbeat, epoch=1, lost=lambda: told.append(1), beat=lambda: told.append("beat"))
        entered.get(timeout=LONG)
        heartbeat.drop("e", 1)
        hold(heartbeat, epoch=2, lost=lambda: told.append(2))
        store.lost.clear()
        gate.set()
        assert store.renewed.get(timeout=LONG) == {"e": 1}
        assert store.renewed.get(timeout=LONG) == {"e": 2}
        assert told == []

    def test_of_two_of_one_execution_the_older_one_is_lost(self, heartbeat, store):
        told = SimpleQueue()
        hold(heartbeat, epoch=1, lost=lambda: told.put(1))
        hold(heartbeat, epoch=2, lost=lambda: told.put(2))
        assert told.get(timeout=LONG) == 1
        store.renewed.get(timeout=LONG)
        assert store.renewed.get(timeout=LONG) == {"e": 2}
        assert told.empty()

    def test_that_was_dropped_during_a_slow_renewal_is_told_nothing(self, heartbeat, store, beats):
        entered, gate, told = SimpleQueue(), threading.Event(), []

        def slow():
            entered.put(None)
            waited(gate)

        store.before = slow
        store.lost.add("e")
        hold(heartbeat, lost=lambda: told.append(1))
        entered.get(timeout=LONG)
        heartbeat.drop("e", 1)
        gate.set()
        wait_until(lambda: not beats())
        assert told == []

    @pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
    def test_whose_owner_raises_when_told_keeps_no_other_from_being_renewed(self, heartbeat, store, caplog, error):
        def fail():
            raise error("told")

        told = SimpleQueue()
        store.lost.add("lost")
        store.cancelled.add("cancelled")
        hold(heartbeat, "lost", lost=fail)
        hold(heartbeat, "cancelled", beat=fail, cancel=lambda: told.put(None))
        hold(heartbeat, "beaten", beat=fail, cancel=fail)
        told.get(timeout=LONG)
        for _ in range(3):
            store.renewed.get(timeout=LONG)
        assert {record.levelno for record in caplog.records} == {logging.ERROR}
        assert "lost" in caplog.text

    @pytest.mark.parametrize("error", [ValueError, SystemExit])
    def test_that_cannot_be_renewed_is_tried_again(self, heartbeat, store, caplog, error):
        failures = [error("away"), error("away")]

        def fail():
            if failures:
                raise failures.pop()

        store.before = fail
        hold(heartbeat)
        assert store.renewed.get(timeout=LONG) == {"e": 1}
        assert caplog.text.count("cannot renew the leases of 1 execution") == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
class TestForks:
    def test_a_child_begins_with_a_thread_of_its_own_and_holds_nothing(self, heartbeat, store, beats):
        def child():
            hold(heartbeat, "the child's")
            while not store.renewed.empty():
                store.renewed.get()
            assert store.renewed.get(timeout=LONG) == {"the child's": 1}

        hold(heartbeat)
        store.renewed.get(timeout=LONG)
        in_child(child)
        hold(heartbeat, "other")
        wait_until(lambda: store.renewed.get(timeout=LONG) == {"e": 1, "other": 1})
        assert len(beats()) == 1

    def test_a_child_that_python_was_not_told_of_in_time_begins_anew(self, heartbeat, store):
        """uWSGI forks, and then tells the child."""
        hold(heartbeat)
        with heartbeat._lock:
            bounded(heartbeat.after_fork_in_child)
            bounded(hold, heartbeat, "the child's")
        wait_until(lambda: store.renewed.get(timeout=LONG) == {"the child's": 1})

    def test_no_child_hangs_while_others_use_it(self, heartbeat):
        def use(name):
            number = 0
            while not stop.is_set():
                number += 1
                hold(heartbeat, name, number)
                if number % 5 == 0:
                    heartbeat.close()
                heartbeat.drop(name, number)

        def child():
            for name in ("a", "b"):
                hold(heartbeat, name)
                heartbeat.drop(name, 1)
            heartbeat.close()

        stop = threading.Event()
        users = [threading.Thread(target=use, args=(str(number),)) for number in range(3)]
        for user in users:
            user.start()
        try:
            for _ in range(FORKS):
                in_child(child)
        finally:
            stop.set()
            for user in users:
                user.join(LONG)
