"""What other threads have for a coordinating thread."""

import pytest

from szal.scheduler.coordinator import Inbox


def test_a_call_that_raises_keeps_those_after_it_for_the_next_time():
    inbox, called = Inbox(), []

    def fail():
        raise ValueError("no")

    inbox.call(fail)
    inbox.call(lambda: called.append("after"))
    with pytest.raises(ValueError, match="no"):
        inbox.make_calls()
    assert (called, inbox.has_calls) == ([], True)
    inbox.make_calls()
    assert (called, inbox.has_calls) == (["after"], False)
