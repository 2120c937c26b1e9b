"""Waits of the main thread hear every signal, also one that the operating system gave to another thread."""

import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from queue import Empty, SimpleQueue

import pytest
from stores.samples import record

from szal import CancellationToken, Engine, EngineConfig, FlowDef, StepDef, WorkflowState
from szal.events.subscription import Subscription
from szal.stores import InMemoryExecutionStore, SqliteExecutionStore
from szal.waiters import Flag, Mailbox, get_within


@contextmanager
def on_a_signal(act: Callable[[], object]) -> Iterator[None]:
    """Have a signal handler call *act*, soon after a wait has begun: for a signal that wakes no wait of this thread.

    Where the main thread does not take a signal, the system hands it to another one, on which the interpreter takes
    note of it; the main thread's wait goes on. The same happens to one that comes just before it falls asleep.
    """

    def press():
        go.wait(30)
        os.kill(os.getpid(), signal.SIGUSR1)

    go = threading.Event()
    presser = threading.Thread(target=press)
    presser.start()  # before the main thread stops taking it: threads inherit that
    before = signal.signal(signal.SIGUSR1, lambda *_: act())
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    timer = threading.Timer(0.1, go.set)
    timer.start()
    try:
        yield
    finally:
        go.set()
        presser.join()
        timer.join()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGUSR1, before)


def test_a_queue():
    queue = Mailbox()
    with on_a_signal(lambda: queue.put("heard")):
        assert queue.next(120) == "heard"


def test_a_queue_without_a_limit():
    queue = Mailbox()
    with on_a_signal(lambda: queue.put("heard")):
        assert queue.next() == "heard"


def test_a_flag():
    flag = Flag()
    with on_a_signal(flag.set):
        assert flag.wait(120)


def test_a_token():
    token = CancellationToken()
    with on_a_signal(token.cancel):
        assert token.wait(120)


def test_a_subscription():
    events = Subscription(capacity=8)
    with on_a_signal(lambda: events.put("heard")):
        assert events.get(timeout=120) == "heard"


def test_a_handler_that_sleeps():
    slept = []
    token = CancellationToken()
    engine = Engine(lambda ctx: slept.append(ctx.sleep(120)))
    with on_a_signal(token.cancel):
        engine.run(FlowDef("f", steps=[StepDef("a")]), cancel=token)
    assert slept == [False]


def test_the_result_of_a_run_on_another_thread():
    go_on = threading.Event()
    engine = Engine(lambda ctx: go_on.wait(150))
    execution = engine.start(FlowDef("f", steps=[StepDef("a")]))
    with on_a_signal(go_on.set):
        assert execution.result(timeout=120).state is WorkflowState.COMPLETED


def test_a_recovery():
    go_on = threading.Event()
    wait = StepDef("wait", step_type="wait", config={"signal": "go"})
    flow = FlowDef("f", steps=[wait, StepDef("a")])
    with (
        InMemoryExecutionStore() as store,
        Engine(lambda ctx: go_on.wait(150), EngineConfig(execution_store=store)) as e,
    ):
        e.run(flow, execution_id="e")
        e.signal("e", "go")
        with on_a_signal(go_on.set):
            assert [result.state for result in e.recover()] == [WorkflowState.COMPLETED]


def test_a_flush(tmp_path):
    file = tmp_path / "szal.db"
    with SqliteExecutionStore.connect(file) as store:
        store.migrate()
        with closing(sqlite3.connect(file)) as other, store.engine_sink() as sink:
            other.execute("BEGIN IMMEDIATE")
            sink.save(record(1))
            with on_a_signal(other.rollback):
                sink.flush(120)


def test_a_limit_is_kept():
    with pytest.raises(Empty):
        Mailbox().next(0.01)
    assert not Flag().wait(0.01)


def test_a_limit_is_kept_by_a_thread_that_is_held_up_for_longer_than_that():
    def wait():
        for _ in range(5000):  # `SimpleQueue.get` itself waits on in one of some thousands
            with suppress(Empty):
                get_within(SimpleQueue(), 1e-9)

    waiting = threading.Thread(target=wait, daemon=True)  # where it waits on, nothing wakes it
    waiting.start()
    waiting.join(20)
    assert not waiting.is_alive()


def test_a_limit_is_kept_though_a_signal_handler_takes_longer_than_that():
    """On CPython 3.11 and 3.12 `SimpleQueue.get` waits on, for ever."""
    until = threading.Event()
    with on_a_signal(lambda: until.wait(0.2)):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])  # it interrupts the wait
        with pytest.raises(Empty):
            Mailbox().get_within(0.15)


def test_a_run_on_the_main_thread_goes_on_after_a_signal_handler_that_takes_its_time():
    """Whatever it waits for: here the pause before the second attempt."""
    taken = []

    def handler(ctx):
        if ctx.attempt == 1:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            raise ValueError("once")

    def take_time(*_):
        threading.Event().wait(0.4)
        taken.append(True)

    before = signal.signal(signal.SIGALRM, take_time)
    try:
        flow = FlowDef("f", steps=[StepDef("a", max_retries=1, retry_delay=0.2)])
        assert Engine(handler).run(flow).success
    finally:
        signal.signal(signal.SIGALRM, before)
    assert taken


def test_a_mailbox_is_a_queue():
    """Also for what comes while nobody waits."""
    mailbox = Mailbox()
    for number in range(3):
        mailbox.put(number)
    assert [mailbox.next(0), mailbox.get(), mailbox.get_within(0)] == [0, 1, 2]
    assert mailbox.empty()


def test_a_flag_that_is_set_does_not_wait():
    flag = Flag()
    flag.set()
    assert flag.is_set()
    assert flag.wait()
