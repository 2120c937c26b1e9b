"""Interruptions: what a signal handler raised, told from what anybody else raised."""

import functools
import gc
import signal
import sys
import threading
import time
import weakref
from contextlib import contextmanager
from unittest.mock import Mock

import pytest

from szal.interruption import call_each, is_interruption, run_to_end

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")

SIGNAL = signal.SIGUSR1


class TimeUp(Exception):
    """An exception of the program's own."""


def raise_time_up(number, frame):
    raise TimeUp


@contextmanager
def installed(handler, number=SIGNAL):
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def error_of(function):
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def error_of_signal(number=SIGNAL):
    return error_of(lambda: signal.raise_signal(number))


class Shutdown:
    def handle(self, number, frame):
        raise SystemExit(1)

    def __call__(self, number, frame):
        raise SystemExit(1)

    @classmethod
    def of_the_class(cls, number, frame):
        raise SystemExit(1)

    @staticmethod
    def of_nobody(number, frame):
        raise SystemExit(1)


class Inherited(Shutdown):
    pass


class Unhashable(Shutdown):
    def __eq__(self, other):
        return NotImplemented

    __hash__ = None


class Hostile(Shutdown):
    """Answers every question about itself with an exception."""

    def __getattribute__(self, name):
        if name == "__class__":  # which the signal module itself asks for
            return Hostile
        raise RuntimeError("do not ask")


def logged(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)

    return wrapper


def calling(function, number, frame):
    function()


def fail():
    raise TimeUp


HANDLERS = {
    "a function": raise_time_up,
    "a lambda": lambda number, frame: sys.exit(1),
    "a decorated function": logged(raise_time_up),
    "a method": Shutdown().handle,
    "an inherited method": Inherited().handle,
    "a class method": Shutdown.of_the_class,
    "a static method": Shutdown.of_nobody,
    "an object": Shutdown(),
    "an object of a subclass": Inherited(),
    "an object that cannot be hashed": Unhashable(),
    "a mock": Mock(side_effect=TimeUp),
    "a partial of a function": functools.partial(calling, fail),
    "a partial of a method": functools.partial(Shutdown().handle),
    "a partial of an object": functools.partial(Shutdown()),
    "written in C": signal.default_int_handler,
}


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
def test_what_any_signal_handler_raises_is_an_interruption(handler):
    with installed(handler):
        assert is_interruption(error_of_signal())


def test_no_signal_handler_is_asked_anything():
    with installed(Hostile()):
        assert is_interruption(error_of_signal())


def test_what_a_function_that_it_calls_raises_is_one_too():
    def handler(number, frame):
        fail()

    with installed(handler):
        assert is_interruption(error_of_signal())


def test_it_is_found_wherever_it_came_up():
    def deep(levels):
        if levels:
            deep(levels - 1)
        else:
            signal.raise_signal(SIGNAL)

    with installed(raise_time_up):
        assert is_interruption(error_of(lambda: deep(500)))


def test_it_is_found_when_it_ends_a_wait():
    with installed(raise_time_up, signal.SIGALRM):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert is_interruption(error_of(lambda: threading.Event().wait(2)))


def test_every_signal_counts():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGVTALRM, signal.SIGRTMAX):
        with installed(raise_time_up, number):
            assert is_interruption(error_of_signal(number))


@pytest.mark.parametrize("error", [TimeUp(), SystemExit(1), GeneratorExit(), OSError()])
def test_what_anybody_else_raises_is_none(error):
    def raise_it():
        raise error

    with installed(raise_time_up):
        assert not is_interruption(error_of(raise_it))
        assert not is_interruption(error)


def test_what_a_handler_raises_is_none_where_no_signal_handler_is_installed():
    assert not is_interruption(error_of(functools.partial(raise_time_up, SIGNAL, None)))


def test_a_limit_that_has_put_the_old_handler_back_is_none():
    def limited():
        with installed(raise_time_up, signal.SIGALRM):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            time.sleep(10)

    assert not is_interruption(error_of(limited))


def test_what_was_raised_from_an_interruption_is_none():
    def translate():
        try:
            signal.raise_signal(SIGNAL)
        except TimeUp as error:
            raise OSError("timed out") from error

    with installed(raise_time_up):
        assert not is_interruption(error_of(translate))


def test_keyboard_interrupt_always_is_one():
    assert is_interruption(KeyboardInterrupt())


def test_on_another_thread_nothing_is():
    answers = []

    def ask():
        answers.append(is_interruption(KeyboardInterrupt()))
        answers.append(is_interruption(error_of(functools.partial(raise_time_up, SIGNAL, None))))

    with installed(raise_time_up):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(30)
    assert answers == [False, False]


def test_a_partial_of_itself_is_looked_into_no_longer_than_any():
    handler = functools.partial(fail)
    handler.__setstate__((handler, (), {}, {}))
    try:
        with installed(handler):
            assert not is_interruption(error_of(fail))
    finally:
        handler.__setstate__((fail, (), {}, {}))


def test_asking_leaves_no_reference_to_the_error():
    gc.collect()
    with installed(raise_time_up):
        error = error_of_signal()
        before = sys.getrefcount(error)
        is_interruption(error)
        assert sys.getrefcount(error) == before


class TestRunningToTheEnd:
    def test_what_is_not_interrupted_runs_once(self):
        calls = []
        run_to_end(lambda: calls.append("called"))
        assert calls == ["called"]

    def test_an_interruption_is_raised_when_it_is_done(self):
        calls = []

        def work():
            calls.append("called")
            if len(calls) == 1:
                signal.raise_signal(SIGNAL)

        with installed(raise_time_up), pytest.raises(TimeUp):
            run_to_end(work)
        assert calls == ["called"] * 2

    def test_what_is_raised_still_is_an_interruption(self):
        signals = [SIGNAL]

        def work():
            if signals:
                signal.raise_signal(signals.pop())

        with installed(raise_time_up):
            assert is_interruption(error_of(lambda: run_to_end(work)))

    def test_a_second_one_is_noted_on_the_first(self):
        errors = [KeyboardInterrupt("one"), KeyboardInterrupt("two")]

        def work():
            if errors:
                raise errors.pop(0)

        with pytest.raises(KeyboardInterrupt, match="one") as caught:
            run_to_end(work)
        assert "two" in caught.value.__notes__[0]

    def test_a_failure_ends_it(self):
        calls = []

        def work():
            calls.append("called")
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            run_to_end(work)
        assert calls == ["called"]

    def test_a_failure_after_an_interruption_does_not_hide_it(self):
        errors = [KeyboardInterrupt(), ValueError("no")]

        def work():
            raise errors.pop(0)

        with pytest.raises(KeyboardInterrupt) as caught:
            run_to_end(work)
        assert "ValueError" in caught.value.__notes__[0]

    def test_leaves_no_reference_cycle(self):
        gc.collect()
        gc.disable()
        try:
            error = error_of(lambda: run_to_end(fail))
            gone = weakref.ref(error)
            del error
            assert gone() is None
        finally:
            gc.enable()


class TestCallingEach:
    def test_whatever_one_raises_all_are_called(self):
        calls, failures = [], []
        errors = [ValueError(), SystemExit(), GeneratorExit(), TimeUp()]

        def raising(error):
            def fail():
                calls.append(error)
                raise error

            return fail

        call_each([raising(error) for error in errors], lambda function, error: failures.append(error))
        assert calls == failures == errors

    def test_an_interruption_is_raised_when_all_have_been_called(self):
        calls, failures = [], []
        functions = [lambda: calls.append(1), lambda: signal.raise_signal(SIGNAL), lambda: calls.append(2)]
        with installed(raise_time_up), pytest.raises(TimeUp):
            call_each(functions, lambda function, error: failures.append(error))
        assert calls == [1, 2]
        assert failures == []

    def test_on_another_thread_nothing_is_raised(self):
        failures = []

        def interrupt():
            raise KeyboardInterrupt

        def work():
            call_each([interrupt, interrupt], lambda function, error: failures.append(function))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(30)
        assert failures == [interrupt, interrupt]
