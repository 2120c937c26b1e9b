"""Recovery in the background, and its end."""

import logging
import threading

import pytest
from helper_engine import LONG, waited

from szal.engine.mass_recovery import BackgroundRecovery
from szal.errors import StoreClosed


@pytest.mark.parametrize("doing", ["looking", "resuming"])
def test_what_the_end_of_the_engine_overtakes_is_no_failure(doing, caplog):
    """Its store is closed with it, while somebody is just asking that."""
    asking, closed = threading.Event(), threading.Event()

    def ask(*_):
        asking.set()
        waited(closed)
        raise StoreClosed("app.db")

    before = set(threading.enumerate())
    interrupted = ask if doing == "looking" else lambda: ["order-42"]
    recovery = BackgroundRecovery(0.001, interrupted, ask, lambda _: False, 1)
    waited(asking)
    recovery.close()
    closed.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(LONG)
    assert [record.message for record in caplog.records if record.levelno > logging.DEBUG] == []
