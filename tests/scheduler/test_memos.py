"""Who waits for what another thread finds out, `StepContext.once`, sleeps until there is something to see."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from helper_engine import LONG, waited

from szal import Cancelled
from szal.scheduler.memos import Memos


class Attempt:
    """What asks for a memo; notes how often it is looked at."""

    work = None

    def __init__(self) -> None:
        self.looks = 0
        self.is_over = False
        self.is_looked_at = threading.Event()

    @property
    def is_left_behind(self) -> bool:
        self.looks += 1
        self.is_looked_at.set()
        return self.is_over


class Slow:
    """A function that begins, and then waits until it is told how to end."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def __call__(self) -> str:
        self.begun.set()
        waited(self.go)
        if self.error is not None:
            raise self.error
        return "first"


@pytest.mark.parametrize("end", ["is done", "fails", "is left behind"])
def test_who_waits_is_woken_as_soon_as_there_is_something_to_see(end: str) -> None:
    memos, first, second, slow = Memos(), Attempt(), Attempt(), Slow()
    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(memos.once, first, "step", "key", slow)
        waited(slow.begun)
        two = threads.submit(memos.once, second, "step", "key", lambda: "second")
        while not memos._waiters:  # it is about to sleep
            waited(second.is_looked_at)
        for _ in range(3):  # for it looks at what it waits for once more
            second.is_looked_at.clear()
            if not second.is_looked_at.wait(0.15):
                break
        else:
            pytest.fail("it looks again and again")
        if end == "is left behind":
            first.is_over = True
            memos.look_again()
        else:
            slow.error = OSError("reset") if end == "fails" else None
            slow.go.set()
        assert two.result(LONG) == ("first" if end == "is done" else "second")
        slow.go.set()
        if end == "is done":
            assert one.result(LONG) == "first"
        else:
            assert type(one.exception(LONG)) is (OSError if end == "fails" else Cancelled)


def test_who_waits_and_is_left_behind_itself_waits_no_longer() -> None:
    memos, first, second, slow = Memos(), Attempt(), Attempt(), Slow()
    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(memos.once, first, "step", "key", slow)
        waited(slow.begun)
        two = threads.submit(memos.once, second, "step", "key", list)
        waited(second.is_looked_at)
        second.is_over = True
        memos.look_again()
        assert type(two.exception(LONG)) is Cancelled
        slow.go.set()
        assert one.result(LONG) == "first"
