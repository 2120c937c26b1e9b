"""Cancellation: who hears of it, when, and what is left behind."""

import functools
import gc
import logging
import signal
import threading
import weakref

import pytest
from injection import Injection, alarm_in, alarm_off, alarms

from szal import interruption, waiters
from szal.scheduler import cancel
from szal.scheduler.cancel import CancellationToken


def in_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


class Cancelled(BaseException):
    """As event loops raise it."""


@pytest.fixture
def token():
    return CancellationToken()


def test_a_new_token_is_not_cancelled(token):
    assert not token.cancelled
    assert repr(token) == "<CancellationToken active>"


def test_cancelling_twice_is_cancelling_once(token):
    calls = []
    token.subscribe(lambda: calls.append("called"))
    token.cancel()
    token.cancel()
    assert token.cancelled
    assert calls == ["called"]


def test_tokens_have_no_dict(token):
    with pytest.raises(AttributeError):
        token.surprise = 1


class TestWaiting:
    def test_returns_at_once_when_already_cancelled(self, token):
        token.cancel()
        assert token.wait() is True

    @pytest.mark.parametrize("timeout", [0, -1, 0.001])
    def test_returns_false_when_time_is_up(self, token, timeout):
        assert token.wait(timeout) is False

    def test_an_endless_timeout_is_accepted(self, token):
        timer = threading.Timer(0.01, token.cancel)
        timer.start()
        assert token.wait(float("inf")) is True
        timer.join()

    def test_every_waiting_thread_wakes(self, token):
        ready = threading.Barrier(9)

        def wait():
            ready.wait()
            token.wait()

        threads = [in_thread(wait) for _ in range(8)]
        ready.wait()
        token.cancel()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()

    def test_no_wakeup_is_lost_when_waiting_races_cancelling(self):
        for _ in range(500):
            token = CancellationToken()
            waiter = in_thread(token.wait)
            token.child().cancel()
            token.cancel()
            waiter.join(30)
            assert not waiter.is_alive()

    def test_waiters_wake_before_callbacks_run(self, token):
        waiting = threading.Event()

        def wait():
            waiting.set()
            token.wait()

        waiter = in_thread(wait)
        waiting.wait(30)
        joined = []

        def slow_callback():
            waiter.join(30)
            joined.append(not waiter.is_alive())

        token.subscribe(slow_callback)
        token.cancel()
        assert joined == [True]


class TestChildren:
    def test_are_cancelled_with_their_parent(self, token):
        child = token.child()
        token.cancel()
        assert child.cancelled

    def test_can_be_cancelled_alone(self, token):
        child, sibling = token.child(), token.child()
        child.cancel()
        assert child.cancelled
        assert not sibling.cancelled
        assert not token.cancelled

    def test_of_a_cancelled_token_are_born_cancelled(self, token):
        token.cancel()
        assert token.child().cancelled

    def test_are_reached_through_a_parent_that_nobody_holds(self, token):
        grandchild = token.child().child()
        gc.collect()
        token.cancel()
        assert grandchild.cancelled

    def test_wake_when_their_parent_is_cancelled(self, token):
        child = token.child()
        waiter = in_thread(child.wait)
        token.cancel()
        waiter.join(30)
        assert not waiter.is_alive()

    def test_read_as_cancelled_before_the_first_callback_runs(self, token):
        child = token.child()
        seen = []
        token.subscribe(lambda: seen.append(child.cancelled))
        token.cancel()
        assert seen == [True]

    def test_are_collected_when_nobody_holds_them(self, token):
        child = weakref.ref(token.child())
        assert child() is None

    def test_leave_nothing_behind_in_their_parent(self, token):
        for _ in range(20_000):
            token.child()
        assert len(token._children) == 0

    def test_go_with_their_parent_when_nobody_holds_either(self):
        token = CancellationToken()
        child = token.child()
        gone = weakref.ref(token)
        del token, child
        gc.collect()
        assert gone() is None

    def test_many_are_all_cancelled(self, token):
        children = [token.child() for _ in range(20_000)]
        token.cancel()
        assert all(child.cancelled for child in children)

    def test_a_long_line_of_descendants_is_no_recursion(self, token):
        last = token
        for _ in range(20_000):
            last = last.child()
        token.cancel()
        assert last.cancelled

    def test_made_while_the_parent_is_cancelled_are_never_missed(self):
        for _ in range(200):
            token = CancellationToken()
            start = threading.Barrier(2)
            born = []

            def bear(token=token, start=start, born=born):
                start.wait()
                born.extend(token.child() for _ in range(20))

            mother = in_thread(bear)
            start.wait()
            token.cancel()
            mother.join(30)
            assert len(born) == 20
            assert all(child.cancelled for child in born)


class TestCallbacks:
    def test_run_on_the_cancelling_thread(self, token):
        ran_on = []
        token.subscribe(lambda: ran_on.append(threading.current_thread()))
        canceller = in_thread(token.cancel)
        canceller.join(30)
        assert ran_on == [canceller]

    def test_run_in_the_order_of_subscription(self, token):
        order = []
        for number in range(5):
            token.subscribe(lambda number=number: order.append(number))
        token.cancel()
        assert order == [0, 1, 2, 3, 4]

    def test_run_at_once_when_already_cancelled(self, token):
        token.cancel()
        calls = []
        token.subscribe(lambda: calls.append("called"))
        assert calls == ["called"]

    def test_of_a_child_run_when_the_parent_is_cancelled(self, token):
        child = token.child()
        calls = []
        child.subscribe(lambda: calls.append("called"))
        token.cancel()
        assert calls == ["called"]

    def test_are_not_called_once_unsubscribed(self, token):
        calls = []
        unsubscribe = token.subscribe(lambda: calls.append("called"))
        unsubscribe()
        unsubscribe()
        token.cancel()
        assert calls == []

    def test_can_unsubscribe_one_that_has_not_run_yet(self, token):
        calls, unsubscribers = [], []

        def first():
            for unsubscribe in unsubscribers:
                unsubscribe()

        token.subscribe(first)
        unsubscribers.append(token.subscribe(lambda: calls.append("called")))
        token.cancel()
        assert calls == []

    def test_can_use_the_token(self, token):
        seen = []

        def callback():
            token.cancel()
            token.subscribe(lambda: seen.append("inner"))
            seen.append((token.wait(), token.child().cancelled))

        token.subscribe(callback)
        token.cancel()
        assert seen == ["inner", (True, True)]

    def test_that_raise_are_logged_and_stop_no_other(self, token, caplog):
        calls = []
        token.subscribe(lambda: 1 / 0)
        token.subscribe(lambda: calls.append("called"))
        with caplog.at_level(logging.ERROR, "szal.scheduler.cancel"):
            token.cancel()
        assert calls == ["called"]
        assert "ZeroDivisionError" in caplog.text

    @pytest.mark.parametrize("error", [SystemExit(1), GeneratorExit(), Cancelled(), RecursionError()])
    def test_whatever_one_raises_all_of_the_family_are_called(self, token, caplog, error):
        calls = []

        def fail():
            calls.append("failed")
            raise error

        child = token.child()
        waiter = in_thread(child.wait)
        for member in (token, child):
            member.subscribe(fail)
            member.subscribe(lambda: calls.append("called"))
        with caplog.at_level(logging.ERROR, "szal.scheduler.cancel"):
            token.cancel()
        assert calls == ["failed", "called"] * 2
        waiter.join(30)
        assert not waiter.is_alive()
        assert [record.exc_info[1] for record in caplog.records] == [error] * 2
        assert "fail" in caplog.text

    def test_ctrl_c_in_one_goes_on_when_all_have_been_called(self, token, caplog):
        calls = []
        token.subscribe(lambda: signal.raise_signal(signal.SIGINT))
        token.subscribe(lambda: calls.append("called"))
        token.child().child().subscribe(lambda: calls.append("nobody holds me"))
        child = token.child()
        child.subscribe(lambda: calls.append("called"))
        with pytest.raises(KeyboardInterrupt):
            token.cancel()
        assert calls == ["called"] * 2
        assert child.cancelled
        assert caplog.records == []

    def test_ctrl_c_of_another_thread_is_logged(self, token, caplog):
        def interrupt():
            raise KeyboardInterrupt

        calls = []
        token.subscribe(interrupt)
        token.subscribe(lambda: calls.append("called"))
        with caplog.at_level(logging.ERROR, "szal.scheduler.cancel"):
            in_thread(token.cancel).join(30)
        assert calls == ["called"]
        assert "KeyboardInterrupt" in caplog.text

    @pytest.mark.parametrize("error", [SystemExit(1), Cancelled()])
    def test_that_raise_when_subscribed_too_late_are_logged(self, token, caplog, error):
        def fail():
            raise error

        token.cancel()
        with caplog.at_level(logging.ERROR, "szal.scheduler.cancel"):
            token.subscribe(fail)
            token.child().subscribe(fail)
        assert [record.exc_info[1] for record in caplog.records] == [error] * 2

    def test_are_called_where_logging_is_broken(self, token):
        def break_down(record):
            raise RuntimeError("broken filter")

        calls = []
        token.subscribe(lambda: 1 / 0)
        token.subscribe(lambda: calls.append("called"))
        logger = logging.getLogger("szal.scheduler.cancel")
        logger.addFilter(break_down)
        try:
            token.cancel()
        finally:
            logger.removeFilter(break_down)
        assert calls == ["called"]

    def test_run_exactly_once_when_many_threads_cancel_and_subscribe(self):
        for _ in range(100):
            token = CancellationToken()
            start = threading.Barrier(4)
            calls = []

            def subscribe(token=token, start=start, calls=calls):
                start.wait()
                for number in range(50):
                    token.subscribe(lambda number=number: calls.append(number))

            def cancel(token=token, start=start):
                start.wait()
                token.cancel()

            threads = [in_thread(work) for work in (subscribe, subscribe, cancel, cancel)]
            for thread in threads:
                thread.join(30)
            assert sorted(calls) == sorted([*range(50), *range(50)])


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")
class TestSignals:
    @pytest.fixture
    def every_millisecond(self):
        """Calls a function from a signal handler, in the main thread, up to a thousand times a second."""
        before = signal.getsignal(signal.SIGUSR1)
        stopped = threading.Event()
        senders = []

        def send():
            while not stopped.wait(0.001):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

        def install(function):
            signal.signal(signal.SIGUSR1, lambda number, frame: function())
            senders.append(in_thread(send))

        yield install
        stopped.set()
        for sender in senders:
            sender.join(30)
        signal.signal(signal.SIGUSR1, before)

    def test_a_handler_ends_the_wait_that_it_interrupts(self, token, every_millisecond):
        every_millisecond(token.cancel)
        assert token.wait(30) is True

    def test_a_handler_may_cancel_whatever_it_interrupts(self, every_millisecond):
        current = [CancellationToken()]
        fired = []

        def cancel_current():
            current[0].cancel()
            fired.append(current[0])

        every_millisecond(cancel_current)
        while len(fired) < 100:
            token = current[0] = CancellationToken()
            while not token.cancelled:
                unsubscribe = token.subscribe(token.child().cancel)
                token.wait(0)
                unsubscribe()
            assert token.child().cancelled

    def test_ctrl_c_at_any_line_keeps_nobody_from_being_told(self):
        """But for the two lines of _call between which the interpreter does not look for signals: see below."""
        happened, moment = True, 0
        while happened:
            token, calls = CancellationToken(), []
            child = token.child()
            for member in (token, child):
                member.subscribe(lambda calls=calls: calls.append("called"))
            thread = in_thread(child.wait)
            while not child._waiters and thread.is_alive():
                pass
            modules = [cancel, interruption, waiters]
            interrupt = functools.partial(signal.raise_signal, signal.SIGINT)
            injection = Injection(moment, modules, interrupt, opcodes=False, without=["_call"])
            try:
                with injection:
                    token.cancel()
            except KeyboardInterrupt:
                assert token.cancelled == child.cancelled, moment
                assert len(calls) == (2 if token.cancelled else 0), moment
            token.cancel()
            thread.join(30)
            assert not thread.is_alive(), moment
            happened, moment = injection.happened, moment + 1
        assert moment > 50

    def test_what_signal_handlers_raise_keeps_nobody_from_being_told(self):
        """With real signals, as many as come: each is raised where the interpreter looks for it."""

        class Interrupted(Exception):
            pass

        def interrupt(number, frame):
            raise Interrupted

        interrupted = 0
        with alarms(interrupt):
            for round_ in range(2000):
                token, calls = CancellationToken(), []
                family = [token, *(token.child() for _ in range(5))]
                for member in family:
                    # written in C: in a function of Python's, the signal may come up before its first line
                    member.subscribe(functools.partial(calls.append, "called"))
                try:
                    alarm_in(round_ % 60)
                    token.cancel()
                    alarm_off()
                except Interrupted:
                    interrupted += token.cancelled
                if token.cancelled:
                    assert all(member.cancelled for member in family)
                    assert len(calls) == len(family)
        assert interrupted > 100
