"""Subscriptions and what comes in between: signal handlers that publish, signals that raise, forks."""

import functools
import os
import signal
import sys
import threading
import time
from contextlib import suppress

import pytest
from forking import FORKS, in_child
from injection import Injection, alarm_in, alarms, each_moment

from szal import waiters
from szal.events import bus as bus_module
from szal.events import progress as progress_module
from szal.events import subscription as subscription_module
from szal.events.bus import EventBus, WorkflowEvent
from szal.events.progress import ProgressHub, StepProgress
from szal.events.subscription import Subscription

MODULES = [subscription_module, waiters]


def in_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


class TestPublishingFromASignalHandler:
    def test_at_any_instruction_of_get_is_heard(self):
        def at(moment):
            letters = Subscription(capacity=8)
            with Injection(moment, MODULES, lambda: letters.put("a"), opcodes=True) as injection:
                got = letters.get(timeout=0.02)
            if injection.happened:  # unless it was when get() had looked for the last time
                assert [got or letters.get(timeout=0)] == ["a"], moment
            return injection

        assert each_moment(at) > 50

    def test_at_any_instruction_before_an_endless_wait_ends_it(self):
        def at(moment):
            letters = Subscription(capacity=8)
            rescued = []
            injection = Injection(moment, MODULES, lambda: letters.put("a"), opcodes=True)
            late = threading.Timer(5, lambda: rescued.append(letters.put("too late")))
            # where nothing comes in any more, because the wait has begun, the other thread's letter does
            other = threading.Timer(0.02, lambda: injection.happened or letters.put("b"))
            late.start()
            other.start()
            with injection:
                got = next(letters)
            for timer in (late, other):
                timer.cancel()
                timer.join()
            assert got in ("a", "b"), moment
            assert rescued == [], moment
            return injection

        assert each_moment(at) > 20

    def test_closing_at_any_instruction_ends_the_iteration(self):
        def at(moment):
            letters = Subscription(capacity=8)
            other = threading.Timer(0.02, letters.close)
            other.start()
            with Injection(moment, MODULES, letters.close, opcodes=True) as injection:
                assert list(letters) == []
            other.cancel()
            other.join()
            return injection

        assert each_moment(at) > 20

    def test_at_any_instruction_of_a_put_loses_nothing(self):
        def at(moment):
            letters = Subscription(capacity=2)
            letters.put("a")
            letters.put("b")
            with Injection(moment, MODULES, lambda: letters.put("s"), opcodes=True) as injection:
                letters.put("c")
            letters.close()
            left = list(letters)
            assert len(left) <= 2
            if "_lagged" in injection.line:  # where no signal handler comes in between
                return injection
            assert len(left) + letters.lagged == 3 + injection.happened, moment
            return injection

        assert each_moment(at) > 10

    def test_of_real_signals_ends_every_wait(self):
        letters = Subscription(capacity=8)
        with alarms(lambda number, frame: letters.put(number)):
            for round_ in range(1000):
                alarm_in(round_ % 50)
                assert letters.get(timeout=20) == signal.SIGALRM

    def test_through_a_bus_and_a_hub_at_any_instruction(self):
        event, report = WorkflowEvent("flow_started", "ci"), StepProgress("build", "0b9f", "x", 1)
        modules = [*MODULES, bus_module, progress_module]

        def at(moment):
            bus, hub = EventBus(), ProgressHub()
            heard = []

            def act():
                bus.publish(event)
                hub.sink()(report)
                bus.subscribe("#").close()
                hub.subscribe().close()

            with (
                Injection(moment, modules, act, opcodes=True) as injection,
                bus.subscribe("#", heard.append),
                bus.subscribe("#") as events,
                hub.subscribe() as reports,
            ):
                bus.publish(event)
                hub.sink()(report)
                assert (bus.subscriber_count, hub.subscriber_count) == (2, 1)
                assert events.get(timeout=20) is event
                assert reports.get(timeout=20) is report
            assert event in heard
            assert (bus.subscriber_count, hub.subscriber_count) == (0, 0)
            return injection

        assert each_moment(at) > 200


class TestSignalHandlersThatRaise:
    def test_leave_no_reader_asleep_beside_an_item(self):
        """Ctrl-C at any line of a put: the item has arrived and a reader has it, or it has not."""

        def at(moment):
            letters, read = Subscription(capacity=8), []
            reader = in_thread(lambda: read.extend(letters))
            while not letters._waiters:
                time.sleep(0)
            interrupt = functools.partial(signal.raise_signal, signal.SIGINT)
            injection = Injection(moment, MODULES, interrupt, opcodes=False)
            with suppress(KeyboardInterrupt), injection:
                letters.put("a")
            until = time.monotonic() + 5
            while letters._items and time.monotonic() < until:
                time.sleep(0)
            assert not letters._items, moment
            letters.close()
            reader.join(30)
            assert not reader.is_alive(), moment
            return injection

        assert each_moment(at) > 5

    def test_leave_no_reader_asleep_when_it_is_closed(self):
        def at(moment):
            letters = Subscription(capacity=8)
            reader = in_thread(lambda: list(letters))
            while not letters._waiters:
                time.sleep(0)
            interrupt = functools.partial(signal.raise_signal, signal.SIGINT)
            injection = Injection(moment, MODULES, interrupt, opcodes=False)
            with suppress(KeyboardInterrupt), injection:
                letters.close()
            if letters.closed:
                reader.join(30)
                assert not reader.is_alive(), moment
            letters.close()
            reader.join(30)
            return injection

        assert each_moment(at) > 5

    def test_leave_a_reader_that_can_read_on(self):
        letters = Subscription(capacity=1000)

        class Interrupted(Exception):
            pass

        def interrupt(number, frame):
            raise Interrupted

        with alarms(interrupt):
            for round_ in range(1000):
                with suppress(Interrupted):
                    alarm_in(round_ % 50)
                    letters.get(timeout=20)
                assert letters._waiters == set()
                letters.put(round_)
                assert letters.get(timeout=20) == round_


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
class TestForks:
    def test_in_the_child_a_subscription_begins_empty(self):
        letters = Subscription(capacity=1)
        letters.put("a")
        letters.put("b")

        def child():
            assert letters.get(timeout=0) is None
            assert letters.lagged == 0
            letters.put("c")
            assert letters.get(timeout=0) == "c"

        in_child(child)
        assert letters.get(timeout=0) == "b"
        assert letters.lagged == 1

    def test_in_the_child_a_closed_one_stays_closed(self):
        letters = Subscription(capacity=1)
        letters.put("a")
        letters.close()

        def child():
            assert letters.closed
            assert list(letters) == []

        in_child(child)
        assert list(letters) == ["a"]

    def test_in_the_child_the_bus_keeps_its_callbacks_and_subscriptions(self):
        bus, seen = EventBus(), []
        bus.subscribe("#", seen.append)
        events = bus.subscribe("#")
        bus.publish(WorkflowEvent("flow_started", "in the parent"))

        def child():
            bus.publish(WorkflowEvent("flow_started", "in the child"))
            assert [event.flow_name for event in seen] == ["in the parent", "in the child"]
            events.close()
            assert [event.flow_name for event in events] == ["in the child"]

        in_child(child)

    def test_no_child_hangs_however_busy_the_parents_threads_are(self):
        bus, hub = EventBus(capacity=8), ProgressHub(capacity=8)
        events, reports = bus.subscribe("#"), hub.subscribe()
        event, report = WorkflowEvent("flow_started", "ci"), StepProgress("build", "0b9f", "x", 1)
        stop = threading.Event()

        def publish():
            while not stop.is_set():
                bus.publish(event)
                hub.sink()(report)
                with bus.subscribe("#", lambda event: None), hub.subscribe():
                    pass

        def read(subscription):
            for _ in subscription:
                pass

        def child():
            for subscription in (events, reports, bus.subscribe("#"), hub.subscribe()):
                bus.publish(event)
                hub.sink()(report)
                assert subscription.get(timeout=20) in (event, report)
            bus.subscribe("#", lambda event: None).close()
            hub.close()
            events.close()
            list(events)
            list(reports)

        threads = [
            in_thread(publish),
            in_thread(publish),
            in_thread(lambda: read(events)),
            in_thread(lambda: read(reports)),
        ]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for _ in range(FORKS):
                in_child(child)
        finally:
            sys.setswitchinterval(interval)
            stop.set()
            events.close()
            hub.close()
            for thread in threads:
                thread.join(30)
