"""Progress: the hub that fans it out, the subscription that bounds it, and the frames that carry it."""

import gc
import json
import threading
import weakref
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from szal.events.progress import ProgressHub, StepProgress, progress_to_sse, sse_frame
from szal.events.subscription import Subscription


def progress(data):
    return StepProgress("build", "0b9f", "order-42", data)


def in_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def drained(subscription):
    subscription.close()
    return list(subscription)


class TestSubscription:
    def test_gives_items_in_the_order_they_came(self):
        letters = Subscription(capacity=10)
        for letter in "abc":
            letters.put(letter)
        assert [letters.get(), letters.get(), letters.get()] == ["a", "b", "c"]

    def test_drops_the_oldest_when_full_and_counts_it(self):
        numbers = Subscription(capacity=3)
        for number in range(10):
            numbers.put(number)
        assert numbers.lagged == 7
        assert drained(numbers) == [7, 8, 9]

    def test_get_returns_none_when_time_is_up(self):
        quiet = Subscription(capacity=1)
        assert quiet.get(timeout=0.001) is None
        assert not quiet.closed

    def test_get_returns_none_when_closed(self):
        done = Subscription(capacity=1)
        done.close()
        assert done.get() is None
        assert done.closed

    def test_what_came_before_closing_is_still_delivered(self):
        numbers = Subscription(capacity=3)
        numbers.put(1)
        numbers.close()
        assert list(numbers) == [1]

    def test_what_comes_after_closing_is_not(self):
        numbers = Subscription(capacity=3)
        numbers.close()
        numbers.put(1)
        assert list(numbers) == []

    def test_closing_ends_an_iteration_that_blocks(self):
        numbers = Subscription(capacity=3)
        numbers.put(1)
        started = threading.Event()
        seen = []

        def read():
            for number in numbers:
                seen.append(number)
                started.set()

        reader = in_thread(read)
        assert started.wait(30)
        numbers.close()
        reader.join(30)
        assert not reader.is_alive()
        assert seen == [1]

    def test_closing_wakes_every_reader(self):
        numbers = Subscription(capacity=3)
        readers = [in_thread(lambda: list(numbers)) for _ in range(5)]
        numbers.close()
        for reader in readers:
            reader.join(30)
            assert not reader.is_alive()

    def test_may_be_closed_inside_its_own_iteration(self):
        numbers = Subscription(capacity=3)
        numbers.put(1)
        numbers.put(2)
        seen = []
        for number in numbers:
            seen.append(number)
            numbers.close()
        assert seen == [1, 2]

    def test_is_closed_by_a_with_statement(self):
        with Subscription(capacity=1) as numbers:
            assert not numbers.closed
        assert numbers.closed

    @pytest.mark.parametrize("capacity", [0, -1])
    def test_needs_room_for_one_item(self, capacity):
        with pytest.raises(ValueError, match="capacity"):
            Subscription(capacity)

    def test_may_be_published_to_by_the_finalizer_of_what_it_drops(self):
        texts = Subscription(capacity=1)

        class Restless:
            def __del__(self):
                texts.put("freed")

        texts.put(Restless())
        texts.put("last")
        assert drained(texts) == ["freed"]

    @pytest.mark.parametrize("readers", [1, 4])
    def test_loses_nothing_and_no_wakeup_under_stress(self, readers):
        writers, each = 4, 2_000
        numbers = Subscription(capacity=writers * each)
        seen = [[] for _ in range(readers)]
        reading = [in_thread(lambda mine=mine: mine.extend(numbers)) for mine in seen]
        writing = [
            in_thread(lambda first=first: [numbers.put(first + i) for i in range(each)])
            for first in range(0, writers * each, each)
        ]
        for thread in writing:
            thread.join(30)
        numbers.close()
        for thread in reading:
            thread.join(30)
            assert not thread.is_alive()
        assert sorted(number for mine in seen for number in mine) == list(range(writers * each))
        assert numbers.lagged == 0

    def test_counts_all_that_it_drops_under_stress(self):
        writers, each = 4, 2_000
        numbers = Subscription(capacity=8)
        seen = []
        reader = in_thread(lambda: seen.extend(numbers))
        writing = [in_thread(lambda: [numbers.put(i) for i in range(each)]) for _ in range(writers)]
        for thread in writing:
            thread.join(30)
        numbers.close()
        reader.join(30)
        assert len(seen) + numbers.lagged == writers * each

    def test_hands_over_one_by_one_without_losing_a_wakeup(self):
        there, back = Subscription(capacity=1), Subscription(capacity=1)

        def echo():
            for number in there:
                back.put(number)

        echoing = in_thread(echo)
        for number in range(2_000):
            there.put(number)
            assert back.get(timeout=20) == number
        there.close()
        echoing.join(30)
        assert not echoing.is_alive()


class TestProgressHub:
    def test_every_subscriber_gets_all_that_is_reported(self):
        hub = ProgressHub()
        clients = [hub.subscribe(), hub.subscribe()]
        report = hub.sink()
        report(progress(1))
        report(progress(2))
        hub.close()
        assert [list(client) for client in clients] == [[progress(1), progress(2)]] * 2

    def test_a_subscriber_gets_what_one_execution_reports_if_it_says_so(self):
        hub = ProgressHub()
        mine, other = hub.subscribe(execution_id="order-42"), hub.subscribe(execution_id="order-43")
        hub.sink()(progress(1))
        assert (hub.subscriber_count, drained(mine), drained(other)) == (2, [progress(1)], [])
        assert hub.subscriber_count == 0

    def test_a_subscriber_gets_what_is_reported_from_then_on(self):
        hub = ProgressHub()
        report = hub.sink()
        report(progress("before"))
        client = hub.subscribe()
        report(progress("after"))
        assert [item.data for item in drained(client)] == ["after"]

    def test_a_slow_client_loses_the_oldest_and_disturbs_no_other(self):
        hub = ProgressHub(capacity=2)
        slow, quick = hub.subscribe(), hub.subscribe()
        report = hub.sink()
        received = []
        for number in range(5):
            report(progress(number))
            received.append(quick.get(timeout=20).data)
        assert received == [0, 1, 2, 3, 4]
        assert quick.lagged == 0
        assert [item.data for item in drained(slow)] == [3, 4]
        assert slow.lagged == 3

    def test_closed_subscriptions_do_not_count(self):
        hub = ProgressHub()
        first, second = hub.subscribe(), hub.subscribe()
        assert hub.subscriber_count == 2
        first.close()
        assert hub.subscriber_count == 1
        second.close()
        assert hub.subscriber_count == 0

    def test_subscriptions_that_nobody_holds_are_collected(self):
        hub = ProgressHub()
        client = weakref.ref(hub.subscribe())
        gc.collect()
        assert client() is None
        assert hub.subscriber_count == 0

    def test_clients_that_come_and_go_leave_nothing_behind(self):
        hub = ProgressHub()
        for _ in range(1_000):
            hub.subscribe()
        assert len(hub._clients) <= 1

    def test_closing_ends_every_iteration(self):
        hub = ProgressHub()
        clients = [hub.subscribe() for _ in range(3)]
        readers = [in_thread(lambda client=client: list(client)) for client in clients]
        hub.close()
        for reader in readers:
            reader.join(30)
            assert not reader.is_alive()
        assert hub.subscriber_count == 0

    def test_a_closed_hub_gives_subscriptions_that_have_ended(self):
        hub = ProgressHub()
        hub.close()
        assert list(hub.subscribe()) == []

    def test_reporting_to_a_closed_hub_does_nothing(self):
        hub = ProgressHub()
        report = hub.sink()
        hub.close()
        report(progress(1))
        assert hub.subscriber_count == 0

    def test_needs_room_for_one_item(self):
        with pytest.raises(ValueError, match="capacity"):
            ProgressHub(capacity=0)

    def test_subscribing_while_closing_never_leaves_a_client_waiting(self):
        for _ in range(200):
            hub = ProgressHub()
            start = threading.Barrier(2)

            def read(hub=hub, start=start):
                start.wait()
                list(hub.subscribe())

            reader = in_thread(read)
            start.wait()
            hub.close()
            reader.join(30)
            assert not reader.is_alive()


def parse_sse(stream):
    """Read a whole stream as the WHATWG HTML standard says (9.2.6): a list of (event, id, data)."""
    dispatched = []
    event, last_id, data = "", "", ""
    for line in stream.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]:
        if line == "":
            if data:
                dispatched.append((event or "message", last_id, data.removesuffix("\n")))
            event, data = "", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            event = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            last_id = value
    return dispatched


# text in which whatever means something to a parser is frequent
lines = st.text(st.one_of(st.sampled_from("\r\n\0: aé\u2028\ufeff"), st.characters(exclude_categories=["Cs"])))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class TestServerSentEvents:
    @given(event=lines, step_id=lines, data=lines)
    def test_a_browser_reads_back_what_was_sent(self, event, step_id, data):
        sent_event = event.replace("\r", "").replace("\n", "")
        sent_id = step_id.replace("\r", "").replace("\n", "").replace("\0", "")
        sent_data = data.replace("\r\n", "\n").replace("\r", "\n")
        assert parse_sse(sse_frame(event, step_id, data)) == [(sent_event or "message", sent_id, sent_data)]

    @given(frames=st.lists(st.tuples(lines, lines, lines), max_size=4))
    def test_frames_that_follow_each_other_stay_apart(self, frames):
        stream = "".join(sse_frame(*frame) for frame in frames)
        assert len(parse_sse(stream)) == len(frames)

    @given(value=json_values.filter(lambda value: not isinstance(value, str)))
    def test_json_values_come_back_as_they_were(self, value):
        [(_, _, data)] = parse_sse(sse_frame(None, None, value))
        assert json.loads(data) == value

    def test_fields_that_are_none_are_left_out(self):
        assert sse_frame(None, None, "hello") == "data: hello\n\n"
        assert sse_frame("log", None, "hello") == "event: log\ndata: hello\n\n"
        assert sse_frame(None, "7", "hello") == "id: 7\ndata: hello\n\n"

    def test_each_kind_of_line_end_starts_a_data_line(self):
        assert sse_frame(None, None, "a\r\nb\rc\nd") == "data: a\ndata: b\ndata: c\ndata: d\n\n"

    def test_a_line_end_in_a_field_forges_nothing(self):
        assert sse_frame("log\ndata: forged", "7\r\n\r\nid: 8", "") == "event: logdata: forged\nid: 7id: 8\ndata: \n\n"

    def test_json_is_compact(self):
        assert sse_frame(None, None, {"a": [1, 2]}) == 'data: {"a":[1,2]}\n\n'

    @pytest.mark.parametrize("data", [object(), float("nan")])
    def test_what_json_cannot_hold_is_refused(self, data):
        with pytest.raises((TypeError, ValueError)):
            sse_frame(None, None, data)


def decoded(frame):
    [(event, step_id, data)] = parse_sse(frame)
    return event, step_id, json.loads(data)


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no")


class TestProgressToSse:
    @given(data=json_values)
    def test_carries_the_progress_as_json(self, data):
        fields = {"step_name": "build", "step_id": "0b9f", "execution_id": "order-42", "data": data}
        assert decoded(progress_to_sse(progress(data))) == ("step_progress", "0b9f", fields)

    def test_is_one_event_with_the_steps_id(self):
        assert progress_to_sse(progress(50)) == (
            "event: step_progress\nid: 0b9f\n"
            'data: {"step_name":"build","step_id":"0b9f","execution_id":"order-42","data":50}\n\n'
        )

    @pytest.mark.parametrize("data", [{1, 2}, {"when": datetime(2026, 1, 1, tzinfo=UTC)}, float("inf"), {(1, 2): 3}])
    def test_what_json_cannot_hold_is_sent_as_its_repr(self, data):
        _, _, fields = decoded(progress_to_sse(progress(data)))
        assert fields["data"] == repr(data)

    def test_a_list_that_contains_itself_is_sent_as_its_repr(self):
        data = []
        data.append(data)
        _, _, fields = decoded(progress_to_sse(progress(data)))
        assert fields["data"] == "[[...]]"

    def test_nesting_without_end_is_sent_as_something(self):
        data = []
        for _ in range(100_000):
            data = [data]
        _, _, fields = decoded(progress_to_sse(progress(data)))
        assert fields["data"] == "<unprintable list>"

    def test_what_has_no_repr_is_sent_as_its_type(self):
        _, _, fields = decoded(progress_to_sse(progress(Unprintable())))
        assert fields["data"] == "<unprintable Unprintable>"

    def test_a_file_name_that_is_not_utf8_can_be_sent(self):
        frame = progress_to_sse(progress("caf\udce9.txt"))
        assert frame.encode()
        _, _, fields = decoded(frame)
        assert fields["data"] == "caf\udce9.txt"
