"""The child process that attempts are made in, from within: here on threads, with the test in the engine's place."""

import logging
import os
import pickle
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from processes import wait_until

from szal.steps.child import Child
from szal.steps.errand import Errand
from szal.steps.forwarding import Forwards, log_here
from szal.steps.messages import (
    Asked,
    Begun,
    Do,
    Ended,
    Logged,
    Made,
    Mailing,
    Promised,
    Reply,
    Reported,
    Unreadable,
    framed,
)
from szal.steps.pickling import pickled
from szal.steps.remote import Parcel, unpacked

LONG = 20.0


class Engine:
    """The other end."""

    def __init__(self):
        here, there = socket.socketpair()
        self.child = Child(there, grace=LONG)
        self.mailing = Mailing(here)
        self.heard = []
        self._files = here, there
        self._listener = threading.Thread(target=self.child.listen, daemon=True)
        self._listener.start()

    def close(self):
        self.mailing.finish()
        self._listener.join(LONG)
        for file in self._files:
            file.close()

    def hear(self, kind):
        """Return the next message, which is of that kind."""

        def come():
            self.heard += self.mailing.receive()
            return self.heard

        wait_until(come, timeout=LONG)
        message = self.heard.pop(0)
        assert type(message) is kind
        return message


@pytest.fixture
def engine():
    made = Engine()
    yield made
    made.close()


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as made:
        yield made


def test_an_attempt_begins_and_ends_and_there_are_no_more(engine, threads):
    levels = (logging.getLogger().level, logging.getLogger("szal.step").level)
    work = threads.submit(engine.child.work)
    engine.mailing.send(Do(pickled(Parcel(Errand(sum, ([1, 2],)), None)), levels))
    engine.hear(Begun)
    assert unpacked(engine.hear(Ended).answer, "a", "here").outcome("a", "here") == 3
    engine.mailing.finish()
    assert work.result(LONG) is None


def test_what_is_said_arrives_in_its_order(engine):
    engine.child.report({"n": 1})
    logger = logging.getLogger("test_child.forwarded")
    logger.addHandler(handler := Forwards(engine.child.log))
    logger.propagate = False
    logger.error("number %d", 2, extra={"lock": threading.Lock()})
    logger.removeHandler(handler)
    with engine.child.ends_within(3.0):
        pass
    assert pickle.loads(engine.hear(Reported).data) == {"n": 1}
    assert pickle.loads(engine.hear(Logged).record)["msg"] == "number 2"
    first, second = engine.hear(Promised), engine.hear(Promised)
    assert (first.seconds, second.seconds, first.number) == (3.0, None, second.number)


def test_what_cannot_be_sent_is_refused_with_what_it_is(engine, threads):
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"what ctx\.report\(\) is given cannot be sent to the engine: TypeError: "):
        engine.child.report(lock)
    found = threads.submit(engine.child.once, "k", lambda: lock)
    asked = engine.hear(Asked)
    engine.mailing.send(Reply(asked.number, is_to_be_made=True))
    engine.mailing.send(Reply(asked.number, failure=engine.hear(Made).failure))
    with pytest.raises(TypeError, match=r"what ctx\.once\('k', …\) is to keep cannot be sent to the engine: "):
        found.result(LONG)


def test_a_line_that_cannot_be_loaded_here_is_told_of(caplog):
    log_here(b"what is this")
    assert "a line that a child process has logged is lost" in caplog.text


@pytest.mark.parametrize("place", [0, 5, 13, 17, 40])
def test_a_message_into_which_something_else_was_written_is_not_loaded(place):
    data = framed(Logged(b"a line of a log, say"))
    here, there = socket.socketpair()
    with here, there:
        there.sendall(data + data[:place] + b"!" + data[place:])
        messages = Mailing(here).receive()
        assert next(messages) == Logged(b"a line of a log, say")
        with pytest.raises(Unreadable):
            next(messages)


def test_what_is_kept_is_not_made_and_a_second_thread_waits_for_the_first(engine, threads):
    first, second = (threads.submit(engine.child.once, "k", lambda: 7) for _ in range(2))
    asked = engine.hear(Asked)
    assert pickle.loads(asked.key) == "k"
    engine.mailing.send(Reply(asked.number, is_to_be_made=True))
    made = engine.hear(Made)
    assert (pickle.loads(made.value), made.failure) == (7, None)
    engine.mailing.send(Reply(asked.number, value=pickled(7)))
    again = engine.hear(Asked)
    engine.mailing.send(Reply(again.number, value=pickled(7)))
    assert [each.result(LONG) for each in (first, second)] == [7, 7]


def test_what_cannot_be_had_is_raised_as_it_was(engine, threads):
    def fails():
        raise KeyError("k")

    found = threads.submit(engine.child.once, "k", fails)
    asked = engine.hear(Asked)
    engine.mailing.send(Reply(asked.number, is_to_be_made=True))
    failure = engine.hear(Made).failure
    assert type(pickle.loads(failure).exception) is KeyError
    engine.mailing.send(Reply(asked.number, failure=failure))
    with pytest.raises(KeyError):
        found.result(LONG)
    found = threads.submit(engine.child.once, "k", fails)
    engine.mailing.send(Reply(engine.hear(Asked).number, failure=failure))
    with pytest.raises(KeyError):
        found.result(LONG)


class TestSigterm:
    @pytest.fixture
    def child(self, engine):
        engine.child._is_busy = True
        return engine.child

    def test_comes_up_in_a_handler_once(self, child):
        with pytest.raises(SystemExit):
            child.on_signal(signal.SIGTERM, None)
        child.on_signal(signal.SIGTERM, None)  # its finally clauses are running

    def test_is_left_to_one_that_looks(self, child):
        assert not child.is_told()
        child.on_signal(signal.SIGTERM, None)
        child.wait(LONG)
        assert child.is_told()

    def test_comes_up_at_the_end_of_what_must_not_be_torn(self, child):
        come_so_far = []

        def say():
            with child._uninterrupted():
                child.on_signal(signal.SIGTERM, None)
                come_so_far.append(1)

        with pytest.raises(SystemExit):
            say()
        assert come_so_far == [1]

    def test_ends_one_that_is_idle(self, engine, monkeypatch):
        def leave(status):
            raise LookupError(status)

        monkeypatch.setattr(os, "_exit", leave)
        with pytest.raises(LookupError, match="0"):
            engine.child.on_signal(signal.SIGTERM, None)
