"""Forks and the end of the process, as those see them who take part."""

import functools
import gc
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from contextlib import suppress

import pytest
from forking import FORKS, in_child
from injection import Injection, alarm_in, alarm_off, alarms

from szal import interruption, logs, process_events
from szal.logs import SafeLogger

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


class Counter:
    """What has a lock: two numbers that are the same whenever the lock is free."""

    def __init__(self):
        process_events.enroll_lock(self, Counter.make_lock)
        self.one = self.other = 0

    def make_lock(self):
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        return self.lock

    def count(self):
        with self.lock:
            self.one += 1
            time.sleep(0)
            self.other += 1
            self.changed.notify_all()

    def check(self):
        assert self.lock.acquire(timeout=20), "the lock is held by nobody"
        assert self.one == self.other
        self.changed.wait(0)
        self.lock.release()
        self.count()


class Diary:
    """A whole member that writes down what it is told."""

    def __init__(self, name, pages, *, fail=None):
        self.name, self.pages, self.fail = name, pages, fail
        process_events.enroll(self)

    def write(self, what):
        self.pages.append(f"{self.name} {what}")
        if self.fail is not None and what == self.fail[0]:
            self.fail[1]()

    def before_fork(self):
        self.write("rests")

    def after_fork_in_parent(self):
        self.write("goes on")

    def after_fork_in_child(self):
        self.write("begins anew")

    def begin_exit(self):
        self.write("begins to end")

    def finish_exit(self, began):
        self.write("ends")


@pytest.fixture
def dropped(monkeypatch):
    """What the interpreter drops, as hooks cannot raise."""
    errors = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: errors.append(report.exc_value))
    return errors


def came_up_in(error, module):
    """Return whether *error* was raised by a function of *module*."""
    frame = list(traceback.walk_tb(error.__traceback__))[-1][0]
    return frame.f_code.co_filename == module.__file__


def is_free(lock):
    """Return whether another thread could take the lock."""
    taken = []

    def take():
        if lock.acquire(timeout=20):
            taken.append(True)
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join(30)
    return taken == [True]


class TestLocks:
    def test_are_free_again_in_the_parent(self):
        counter = Counter()
        lock = counter.lock
        in_child(lambda: None)
        assert counter.lock is lock
        assert is_free(lock)

    def test_are_new_in_the_child(self):
        counter = Counter()
        lock = counter.lock

        def child():
            assert counter.lock is not lock
            assert is_free(counter.lock)

        in_child(child)

    def test_are_held_by_nobody_in_a_child_whatever_the_parents_threads_do(self):
        counters = [Counter() for _ in range(3)]
        stop = threading.Event()

        def work():
            while not stop.is_set():
                for counter in counters:
                    counter.count()
                Counter()

        threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for _ in range(FORKS):
                in_child(lambda: [counter.check() for counter in counters])
        finally:
            sys.setswitchinterval(interval)
            stop.set()
            for thread in threads:
                thread.join(30)
        for counter in counters:
            counter.check()

    def test_of_several_threads_that_fork_at_once(self):
        counters = [Counter() for _ in range(3)]
        failures = []

        def fork():
            try:
                for _ in range(10):
                    in_child(lambda: [counter.check() for counter in counters])
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=fork) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == []
        assert all(is_free(counter.lock) for counter in counters)

    def test_may_be_held_by_the_thread_that_forks(self):
        counter = Counter()
        with counter.lock:
            in_child(counter.check)
        assert is_free(counter.lock)

    def test_may_be_asked_for_by_a_child_of_a_child(self):
        counter = Counter()
        in_child(lambda: in_child(counter.check))
        counter.check()

    def test_are_given_back_when_a_fork_fails(self):
        counter = Counter()

        def child():
            if os.getuid() == 0:  # who may fork as often as it likes
                os.setuid(65534)
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            with pytest.raises(BlockingIOError):
                os.fork()
            assert counter.lock.acquire(blocking=False)
            counter.lock.release()
            assert process_events._registry._forks == {}
            with pytest.raises(RuntimeError):
                counter.lock.release()

        in_child(child)

    def test_keep_no_owner(self):
        gone = weakref.ref(Counter())
        gc.collect()
        assert gone() is None
        in_child(lambda: None)


class TestMembers:
    def test_rest_before_what_they_use_and_go_on_after_it(self):
        pages = []
        members = [Diary("store", pages), Diary("sink", pages)]
        in_child(lambda: None)
        assert pages == ["sink rests", "store rests", "store goes on", "sink goes on"]
        del members

    def test_begin_anew_in_the_child_in_the_order_of_enrolling(self):
        pages = []
        members = [Diary("store", pages), Diary("sink", pages)]

        def child():
            gc.collect()
            assert pages == ["sink rests", "store rests", "store begins anew", "sink begins anew"]

        in_child(child)
        del members

    @pytest.mark.parametrize("moment", ["rests", "goes on"])
    @pytest.mark.parametrize("error", [ValueError, SystemExit])
    def test_that_raise_are_logged_and_disturb_no_other(self, caplog, moment, error):
        def fail():
            raise error

        pages = []
        members = [Diary("store", pages), Diary("broken", pages, fail=(moment, fail)), Diary("sink", pages)]
        in_child(lambda: None)
        assert [page for page in pages if "broken" not in page] == [
            "sink rests",
            "store rests",
            "store goes on",
            "sink goes on",
        ]
        assert pages.count("broken goes on") == 1
        assert error in [record.exc_info[0] for record in caplog.records]
        del members

    def test_may_be_interrupted_while_they_come_to_rest(self, dropped):
        interruptions = iter([signal.SIGINT])

        def interrupt():
            for number in interruptions:
                signal.raise_signal(number)

        pages, counters = [], [Counter()]
        members = [Diary("store", pages), Diary("slow", pages, fail=("rests", interrupt)), Diary("sink", pages)]
        counters.append(Counter())
        in_child(lambda: [counter.check() for counter in counters])
        assert pages == [
            "sink rests",
            "slow rests",
            "slow goes on",
            "slow rests",
            "store rests",
            "store goes on",
            "slow goes on",
            "sink goes on",
        ]
        assert all(is_free(counter.lock) for counter in counters)
        assert [type(error) for error in dropped] == [KeyboardInterrupt]
        del members

    def test_may_be_enrolled_during_a_fork(self):
        born = []
        member = Diary("late", [], fail=("rests", lambda: born.append(Counter())))
        in_child(lambda: [counter.check() for counter in born])
        born[0].check()
        del member

    def test_may_be_enrolled_by_a_finalizer(self):
        class Heir:
            def __del__(self):
                heirs.append(Counter())

        heirs = []
        for _ in range(200):
            cycle = [Heir()]
            cycle.append(cycle)
            del cycle
            Counter()
        gc.collect()
        in_child(lambda: [heir.check() for heir in heirs])
        assert len(heirs) == 200


class Stream(logging.Handler):
    """Writes to what has a lock of its own, of which logging knows nothing, as any file has."""

    def __init__(self, wait=lambda: None):
        super().__init__()
        self.wait, self.inner, self.lines = wait, threading.Lock(), []
        self.writing = threading.Event()

    def handle(self, record):
        self.emit(record)  # without logging's own lock, as what passes lines on to another thread
        return True

    def emit(self, record):
        with self.inner:
            self.writing.set()
            self.wait()
            self.lines.append(record.getMessage())


class TestLines:
    @pytest.fixture
    def logging_to(self):
        plain, handlers = logging.getLogger("szal.test_lines"), []
        plain.propagate = False  # there are too many lines to show

        def log_to(handler):
            plain.addHandler(handler)
            handlers.append(handler)
            return SafeLogger(plain)

        yield log_to
        for handler in handlers:
            plain.removeHandler(handler)

    def test_that_another_thread_logs_are_waited_for(self, logging_to):
        stream = Stream(wait=lambda: go_on.wait(20))
        logger, go_on = logging_to(stream), threading.Event()
        thread = threading.Thread(target=logger.error, args=["the parent's"])
        thread.start()
        assert stream.writing.wait(20)
        member = Diary("sink", [], fail=("rests", go_on.set))  # the fork is under way

        def child():
            stream.wait = lambda: None
            logger.error("the child's")
            assert stream.lines == ["the parent's", "the child's"]

        in_child(child)
        thread.join(20)
        logger.error("one more")
        assert stream.lines == ["the parent's", "one more"]
        del member

    def test_of_a_handler_that_hangs_hold_no_fork_up_for_long(self, logging_to, monkeypatch):
        monkeypatch.setattr(logs.Lines.rest, "__defaults__", (0.05,))
        end = threading.Event()
        stream = Stream(wait=lambda: end.wait(20))
        logger = logging_to(stream)
        thread = threading.Thread(target=logger.error, args=["hangs"])
        thread.start()
        assert stream.writing.wait(20)
        in_child(lambda: None)
        assert thread.is_alive()
        end.set()
        thread.join(20)
        logger.error("one more")
        assert stream.lines == ["hangs", "one more"]

    def test_may_be_what_forks(self, logging_to):
        class Forking(logging.Handler):
            def emit(self, record):
                if record.getMessage() == "fork":
                    in_child(lambda: logger.error("the child's"))

        logger = logging_to(Forking())
        for _ in range(2):
            logger.error("fork")

    def test_whatever_the_parents_threads_log_a_child_can(self, logging_to):
        stream, stop = Stream(), threading.Event()
        logger = logging_to(stream)

        def work():
            while not stop.is_set():
                logger.error("a line")
                thread = threading.Thread(target=logger.error, args=["the first of its thread"])
                thread.start()
                thread.join()

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for _ in range(FORKS):
                in_child(lambda: logger.error("the child's"))
        finally:
            sys.setswitchinterval(interval)
            stop.set()
            for thread in threads:
                thread.join(30)


@pytest.fixture
def alone(monkeypatch):
    """Nobody else is enrolled: each member makes a fork run more lines."""
    monkeypatch.setattr(process_events._registry, "_parts", {})


@pytest.mark.usefixtures("alone")
def test_ctrl_c_at_any_line_leaves_every_lock_free_and_the_child_able_to_work(dropped):
    counters = [Counter() for _ in range(2)]
    happened, moment = True, 0
    while happened:
        interrupt = functools.partial(signal.raise_signal, signal.SIGINT)
        # without: nothing comes in where a with statement lets go
        injection = Injection(moment, [process_events, interruption], interrupt, opcodes=False, without=["rest"])
        with injection:
            child = os.fork()
            if child == 0:
                os._exit(0)
        os.waitpid(child, 0)
        for counter in counters:
            assert is_free(counter.lock), (moment, injection.line)
        assert process_events._registry._forks == {}, moment
        happened, moment = injection.happened, moment + 1
    assert moment > 20
    in_child(lambda: [counter.check() for counter in counters])


@pytest.mark.usefixtures("alone")
def test_signals_at_any_moment_of_a_fork_leave_every_lock_free(dropped):
    class Interrupted(Exception):
        pass

    def interrupt(number, frame):
        raise Interrupted

    def scene():
        members = [Counter() if number % 2 else Diary("store", []) for number in range(40)]
        with alarms(interrupt):
            for round_ in range(100):
                with suppress(Interrupted):
                    try:
                        alarm_in(5 * round_)
                        child = os.fork()
                        if child == 0:
                            os._exit(0)
                    finally:
                        alarm_off()
                with suppress(ChildProcessError):
                    os.waitpid(-1, 0)
        assert all(is_free(member.lock) for member in members if isinstance(member, Counter))
        assert process_events._registry._forks == {}
        ours = [error for error in dropped if not came_up_in(error, logging)]  # its own hook may lose its lock
        assert {type(error) for error in ours} <= {Interrupted}

    in_child(scene)  # where no child but its own is waited for


def test_what_has_no_lock_begins_anew_in_the_child_only():
    class Cache:
        values = ("the parent's",)

        def forget(self):
            self.values = ()

    cache = Cache()
    process_events.enroll_renewal(cache, Cache.forget)

    def child():
        assert cache.values == ()

    in_child(child)
    assert cache.values == ("the parent's",)


class TestTheEndOfTheProcess:
    PROGRAM = """
import signal, sys
from szal import process_events

class Member:
    def __init__(self, name, fail=None):
        self.name, self.fail = name, fail
        process_events.enroll(self)

    def begin_exit(self):
        print(self.name, "begins", flush=True)
        if self.fail == "begin":
            raise SystemExit(1)
        if self.fail == "interrupt":
            signal.raise_signal(signal.SIGINT)

    def finish_exit(self, began):
        print(self.name, "ends", flush=True)
        if self.fail == "finish":
            raise ValueError("no")

members = [Member("store"), Member("broken", *sys.argv[1:]), Member("sink")]
"""

    @pytest.mark.parametrize("fail", ["never", "begin", "finish", "interrupt"])
    def test_is_told_to_all_before_any_is_waited_for(self, fail):
        ended = subprocess.run([sys.executable, "-c", self.PROGRAM, fail], capture_output=True, text=True, timeout=30)
        names = ["sink", "broken", "store"]
        assert ended.stdout.splitlines() == [f"{name} begins" for name in names] + [f"{name} ends" for name in names]
        assert ("KeyboardInterrupt" in ended.stderr) == (fail == "interrupt")
