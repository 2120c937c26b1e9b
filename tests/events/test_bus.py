"""Events: their topics, the patterns that select them, and the bus that delivers them."""

import gc
import logging
import signal
import threading
import weakref
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from injection import alarm_in, alarm_off, alarms
from pairs import FULL

from szal.events.bus import EventBus, EventType, TopicPattern, WorkflowEvent


def flow_event(event_type="flow_started", flow="ci"):
    return WorkflowEvent(event_type, flow)


def step_event(event_type="step_started", step="build"):
    return WorkflowEvent(event_type, "ci", step)


def drained(subscription):
    subscription.close()
    return list(subscription)


@pytest.fixture
def bus():
    return EventBus()


class TestWorkflowEvent:
    def test_has_its_fields_in_the_order_of_szal_rs_and_those_of_items(self):
        names = [field.alias for field in WorkflowEvent.__attrs_attrs__]
        assert names == [
            "event_type",
            "flow_name",
            "step_name",
            "step_id",
            "attempt",
            "duration",
            "error",
            "timestamp",
            "execution_id",
            "step_type",
            "index",
            "items",
        ]

    def test_is_stamped_with_the_present_in_utc(self):
        before = datetime.now(UTC)
        event = flow_event()
        assert before <= event.timestamp <= datetime.now(UTC)
        assert event.timestamp.utcoffset() == timedelta(0)

    @pytest.mark.parametrize("event_type", [name for name in get_args(EventType) if name.startswith("flow_")])
    def test_of_a_flow_goes_under_the_flows_name(self, event_type):
        assert flow_event(event_type).topic == f"szal/flow/ci/{event_type}"

    @pytest.mark.parametrize("event_type", [name for name in get_args(EventType) if name.startswith("step_")])
    def test_of_a_step_goes_under_the_steps_name(self, event_type):
        assert step_event(event_type).topic == f"szal/step/build/{event_type}"

    def test_a_name_is_encoded(self):
        assert step_event(step="50%/a").topic == "szal/step/50%25%2Fa/step_started"

    @given(name=st.text())
    def test_a_name_never_adds_a_level(self, name):
        assert len(step_event(step=name).topic.split("/")) == 4
        assert len(flow_event(flow=name).topic.split("/")) == 4

    @given(names=st.lists(st.text("%/25Fab"), min_size=2, max_size=2, unique=True))
    def test_different_names_have_different_topics(self, names):
        first, second = names
        assert step_event(step=first).topic != step_event(step=second).topic


def naive_match(pattern, topic):
    """The rules of patterns, one level at a time."""
    if not pattern:
        return not topic
    if pattern == ["#"]:
        return True
    return bool(topic) and pattern[0] in ("*", topic[0]) and naive_match(pattern[1:], topic[1:])


levels = st.lists(st.sampled_from(["a", "b", "", "*", "a*"]), min_size=1, max_size=5)


class TestTopicPattern:
    @given(pattern=levels, rest=st.booleans(), topic=levels)
    def test_agrees_with_a_naive_matcher(self, pattern, rest, topic):
        pattern = [*pattern, "#"] if rest else pattern
        assert TopicPattern("/".join(pattern)).matches("/".join(topic)) == naive_match(pattern, topic)

    @pytest.mark.parametrize(
        ("pattern", "topic"),
        [
            ("#", "szal/flow/ci/flow_started"),
            ("szal/flow/#", "szal/flow/ci/flow_started"),
            ("szal/flow/#", "szal/flow"),
            ("szal/step/*/step_failed", "szal/step/build/step_failed"),
            ("*/*/*/*", "szal/step/build/step_failed"),
        ],
    )
    def test_matches(self, pattern, topic):
        assert TopicPattern(pattern).matches(topic)

    @pytest.mark.parametrize(
        ("pattern", "topic"),
        [
            ("szal/flow/#", "szal/step/build/step_failed"),
            ("szal/step/*", "szal/step/build/step_failed"),
            ("szal/step/*/*/*", "szal/step/build/step_failed"),
            ("szal/step/bui*/step_failed", "szal/step/build/step_failed"),
            ("szal/step/Build/step_failed", "szal/step/build/step_failed"),
        ],
    )
    def test_does_not_match(self, pattern, topic):
        assert not TopicPattern(pattern).matches(topic)

    @pytest.mark.parametrize("pattern", ["#/step_failed", "szal/#/step_failed", "#/#"])
    def test_the_rest_is_only_allowed_at_the_end(self, pattern):
        with pytest.raises(ValueError, match="'#' may only be the last level"):
            TopicPattern(pattern)

    def test_a_wildcard_inside_a_level_is_an_ordinary_character(self):
        assert TopicPattern("szal/step/issue #3/*").matches("szal/step/issue #3/step_failed")


class TestSubscriptions:
    def test_hear_of_what_matches(self, bus):
        failures = bus.subscribe("szal/step/*/step_failed")
        started, failed = step_event("step_started"), step_event("step_failed")
        bus.publish(started)
        bus.publish(failed)
        assert drained(failures) == [failed]

    def test_hear_of_everything_by_default(self, bus):
        everything = bus.subscribe()
        published = [flow_event(), step_event(), flow_event("flow_completed")]
        for event in published:
            bus.publish(event)
        assert drained(everything) == published

    def test_hear_of_one_execution_only_if_they_say_so(self, bus):
        heard, called = bus.subscribe(execution_id="e2"), []
        bus.subscribe("szal/flow/#", callback=called.append, execution_id="e2")
        events = [WorkflowEvent("flow_started", "ci", execution_id=name) for name in ("e1", "e2", "e3")]
        for event in events:
            bus.publish(event)
        assert (drained(heard), called) == ([events[1]], [events[1]])

    def test_hear_of_what_is_given_to_the_bus_as_a_function(self, bus):
        everything = bus.subscribe()
        bus(flow_event())
        assert len(drained(everything)) == 1

    def test_hold_as_much_as_the_bus_says(self):
        events = EventBus(capacity=2).subscribe()
        assert events.capacity == 2

    def test_hold_as_much_as_they_say(self, bus):
        last = bus.subscribe(capacity=1)
        bus.publish(flow_event("flow_started"))
        bus.publish(flow_event("flow_completed"))
        assert last.lagged == 1
        assert [event.event_type for event in drained(last)] == ["flow_completed"]

    def test_leave_when_closed(self, bus):
        with bus.subscribe():
            assert bus.subscriber_count == 1
        assert bus.subscriber_count == 0
        assert bus._listeners == {}

    def test_leave_when_nobody_holds_them(self, bus):
        subscription = weakref.ref(bus.subscribe())
        gc.collect()
        assert subscription() is None
        assert bus.subscriber_count == 0
        bus.publish(flow_event())
        assert bus._listeners == {}

    def test_that_come_and_go_leave_nothing_behind(self, bus):
        for _ in range(1_000):
            bus.subscribe()
        assert len(bus._listeners) <= 1

    def test_made_later_hear_of_a_topic_already_seen(self, bus):
        first = bus.subscribe()
        bus.publish(flow_event())
        second = bus.subscribe()
        bus.publish(flow_event())
        assert len(drained(first)) == 2
        assert len(drained(second)) == 1

    def test_refuse_a_pattern_that_means_nothing(self, bus):
        with pytest.raises(ValueError, match="last level"):
            bus.subscribe("#/step_failed")
        assert bus.subscriber_count == 0

    def test_an_iteration_blocks_until_the_next_event(self, bus):
        everything = bus.subscribe()
        seen = []
        reader = threading.Thread(target=lambda: seen.extend(everything), daemon=True)
        reader.start()
        event = flow_event()
        bus.publish(event)
        everything.close()
        reader.join(30)
        assert seen == [event]


class TestCallbacks:
    def test_are_called_on_the_publishing_thread(self, bus):
        called_on = []
        bus.subscribe("#", lambda event: called_on.append(threading.current_thread()))
        publisher = threading.Thread(target=bus.publish, args=(flow_event(),))
        publisher.start()
        publisher.join(30)
        assert called_on == [publisher]

    def test_are_called_with_what_matches(self, bus):
        seen = []
        bus.subscribe("szal/flow/#", seen.append)
        event = flow_event()
        bus.publish(step_event())
        bus.publish(event)
        assert seen == [event]

    def test_stay_when_nobody_holds_the_handle(self, bus):
        seen = []
        bus.subscribe(callback=seen.append)
        gc.collect()
        bus.publish(flow_event())
        assert len(seen) == 1

    def test_are_called_no_more_once_closed(self, bus):
        seen = []
        handle = bus.subscribe("#", seen.append)
        handle.close()
        handle.close()
        bus.publish(flow_event())
        assert seen == []
        assert bus.subscriber_count == 0

    def test_are_closed_by_a_with_statement(self, bus):
        with bus.subscribe("#", print):
            assert bus.subscriber_count == 1
        assert bus.subscriber_count == 0

    def test_that_raise_are_logged_with_the_topic_and_disturb_no_other(self, bus, caplog):
        seen = []
        bus.subscribe("#", lambda event: 1 / 0)
        bus.subscribe("#", seen.append)
        with caplog.at_level(logging.ERROR, "szal.events.bus"):
            bus.publish(step_event("step_failed"))
        assert len(seen) == 1
        assert "szal/step/build/step_failed" in caplog.text
        assert "ZeroDivisionError" in caplog.text

    @pytest.mark.parametrize("error", [SystemExit(1), GeneratorExit(), RecursionError()])
    def test_that_raise_anything_are_logged_and_disturb_no_other(self, bus, caplog, error):
        def fail(event):
            raise error

        seen = []
        for callback in (fail, seen.append, fail, seen.append):
            bus.subscribe("#", callback)
        with caplog.at_level(logging.ERROR, "szal.events.bus"):
            bus.publish(flow_event())
        assert len(seen) == 2
        assert [record.exc_info[1] for record in caplog.records] == [error] * 2
        assert "During handling" not in caplog.text

    def test_of_another_thread_may_raise_even_ctrl_c(self, bus, caplog):
        def interrupt(event):
            raise KeyboardInterrupt

        seen, survived = [], []
        bus.subscribe("#", interrupt)
        bus.subscribe("#", seen.append)

        def publish():
            bus.publish(flow_event())
            survived.append(True)

        with caplog.at_level(logging.ERROR, "szal.events.bus"):
            thread = threading.Thread(target=publish)
            thread.start()
            thread.join(30)
        assert (len(seen), survived) == (1, [True])
        assert "KeyboardInterrupt" in caplog.text

    def test_what_a_signal_handler_raises_in_one_goes_on_when_all_have_been_called(self, bus, caplog):
        seen = []
        bus.subscribe("#", lambda event: signal.raise_signal(signal.SIGINT))
        bus.subscribe("#", lambda event: 1 / 0)
        bus.subscribe("#", seen.append)
        events = bus.subscribe("#")
        with caplog.at_level(logging.ERROR, "szal.events.bus"), pytest.raises(KeyboardInterrupt):
            bus.publish(flow_event())
        assert len(seen) == 1
        assert len(drained(events)) == 1
        assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]

    def test_are_called_once_each_wherever_a_signal_handler_raises(self, bus):
        class Interrupted(Exception):
            pass

        def interrupt(number, frame):
            raise Interrupted

        counts = [[] for _ in range(10)]
        for count in counts:
            bus.subscribe("#", count.append)  # written in C: no signal comes up before its first line
        with alarms(interrupt):
            for round_ in range(600 if FULL else 120):
                with suppress(Interrupted):
                    alarm_in(round_ % 20)
                    for _ in range(1000):  # whenever it comes, it is in the midst of one
                        bus.publish(flow_event())
                    alarm_off()  # the interpreter ignored what it raised: in a weak reference's callback, say
                assert len({len(count) for count in counts}) == 1
                for count in counts:
                    count.clear()

    def test_are_called_where_logging_is_broken(self, bus):
        def break_down(record):
            raise RuntimeError("broken filter")

        seen = []
        bus.subscribe("#", lambda event: 1 / 0)
        bus.subscribe("#", seen.append)
        logger = logging.getLogger("szal.events.bus")
        logger.addFilter(break_down)
        try:
            bus.publish(flow_event())
        finally:
            logger.removeFilter(break_down)
        assert len(seen) == 1

    def test_go_with_a_bus_that_nobody_holds(self):
        gc.disable()
        try:
            bus = EventBus()
            handle = bus.subscribe("#", lambda event: None)
            gone = weakref.ref(bus)
            del bus
            assert gone() is None
            handle.close()
        finally:
            gc.enable()

    def test_can_close_themselves(self, bus):
        seen = []

        def once(event):
            seen.append(event)
            handle.close()

        handle = bus.subscribe("#", once)
        bus.publish(flow_event())
        bus.publish(flow_event())
        assert len(seen) == 1

    def test_can_close_one_whose_turn_has_not_come(self, bus):
        seen = []
        bus.subscribe("#", lambda event: second.close())
        second = bus.subscribe("#", seen.append)
        bus.publish(flow_event())
        assert seen == []

    def test_can_subscribe_and_publish(self, bus):
        seen = []

        def on_start(event):
            bus.subscribe("szal/flow/*/flow_completed", seen.append)
            bus.publish(flow_event("flow_completed"))

        bus.subscribe("szal/flow/*/flow_started", on_start)
        bus.publish(flow_event("flow_started"))
        assert [event.event_type for event in seen] == ["flow_completed"]


class TestBus:
    def test_keeps_routes_by_type_and_for_the_names_that_were_asked_for(self, bus):
        everything, one = bus.subscribe(), bus.subscribe("szal/flow/flow-7/#")
        for number in range(100):
            bus.publish(flow_event(flow=f"flow-{number}"))
        assert list(bus._routes) == ["flow_started"]
        assert list(bus._routes["flow_started"].named) == ["flow-7"]
        assert len(drained(everything)) == 100
        assert [event.flow_name for event in drained(one)] == ["flow-7"]

    def test_a_name_with_slashes_is_asked_for_by_its_topic(self, bus):
        one = bus.subscribe("szal/flow/a%2Fb%25/flow_started")
        for name in ("a/b%", "a%2Fb%25", "a", "b"):
            bus.publish(flow_event(flow=name))
        assert [event.flow_name for event in drained(one)] == ["a/b%"]

    def test_keeps_no_routes_while_nobody_listens(self, bus):
        bus.publish(flow_event())
        assert bus._routes == {}

    def test_needs_room_for_one_event(self):
        with pytest.raises(ValueError, match="capacity"):
            EventBus(capacity=0)

    def test_serves_threads_that_come_and_go_while_others_publish(self, bus):
        writers, each = 3, 1_000
        start = threading.Barrier(writers + 2)
        steady = bus.subscribe(capacity=writers * each)
        counted = []

        def publish():
            start.wait()
            for _ in range(each):
                bus.publish(step_event())

        def come_and_go():
            start.wait()
            for _ in range(200):
                bus.subscribe("szal/step/#")
                with bus.subscribe("szal/step/#"), bus.subscribe("#", counted.append):
                    pass

        threads = [threading.Thread(target=work, daemon=True) for work in (*[publish] * writers, come_and_go)]
        for thread in threads:
            thread.start()
        start.wait()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert len(drained(steady)) == writers * each
        assert bus.subscriber_count == 0


def test_a_capacity_with_a_callback_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        EventBus().subscribe("#", print, 10)  # type: ignore[call-overload]
