"""What is kept with a step's row of its attempts, and of the last failure's traceback."""

from datetime import timedelta

import pytest
from helper_engine import bounded

from szal import FlowDef, StepDef
from szal.engine.attempt_log import MOST_OF_A_TRACEBACK, traceback_of
from szal.model.json import MOST_ATTEMPTS, decode_checkpoint


def checkpoints(store, execution_id):
    return {name: decode_checkpoint(data, name) for name, _, data in store.ledger.read(execution_id).steps}


def flow(*steps):
    return FlowDef("f", steps=[StepDef(name, max_retries=retries, retry_delay=0.0) for name, retries in steps])


class Busy(Exception):
    pass


def fails(times):
    """Return a handler whose first attempts fail, *times* of them, each with its number."""

    def handler(ctx):
        if ctx.attempt <= times:
            raise Busy(f"attempt {ctx.attempt}")
        return ctx.attempt

    return handler


@pytest.mark.parametrize("durability", ["flow", "step"])
def test_each_attempt_is_told_with_its_times_and_its_error(new_engine, store, durability):
    engine = new_engine(fails(2), durability=durability)
    result = bounded(engine.run, flow(("a", 3)), execution_id="e")
    kept = checkpoints(store, "e")["a"]
    assert [end.error for end in kept.attempts] == ["Busy: attempt 1", "Busy: attempt 2", None]
    times = [time for end in kept.attempts for time in (end.started_at, end.ended_at)]
    assert times == sorted(times)
    assert abs(times[0] - result["a"].started_at) < timedelta(milliseconds=1)
    lines = kept.traceback.splitlines()
    assert (lines[0], lines[-1][-15:]) == ("Traceback (most recent call last):", "Busy: attempt 2")
    assert any("in handler" in line for line in lines)
    assert not any("szal/scheduler" in line for line in lines)


def test_of_a_step_that_completes_at_once_nothing_is_told(new_engine, store):
    bounded(new_engine(fails(0)).run, flow(("a", 3), ("b", 0)), execution_id="e")
    assert all((kept.attempts, kept.traceback) == ((), None) for kept in checkpoints(store, "e").values())


def test_of_a_single_attempt_that_fails_the_traceback_is_told(new_engine, store):
    """When it was, and what it failed with, the result has."""
    bounded(new_engine(fails(1)).run, flow(("a", 0), ("b", 0)), execution_id="e")
    kept = checkpoints(store, "e")
    assert (kept["a"].attempts, kept["a"].traceback.splitlines()[-1][-15:]) == ((), "Busy: attempt 1")
    assert (kept["b"].attempts, kept["b"].traceback) == ((), None)


def test_of_many_attempts_the_last_ones_are_told(new_engine, store):
    bounded(new_engine(fails(30)).run, flow(("a", 24)), execution_id="e")
    errors = [end.error for end in checkpoints(store, "e")["a"].attempts]
    assert errors == [f"Busy: attempt {number}" for number in range(26 - MOST_ATTEMPTS, 26)]


def test_a_very_long_traceback_is_cut_at_its_beginning(new_engine, store):
    def handler(ctx):
        raise ValueError("\0 ü " * 10_000)

    bounded(new_engine(handler).run, flow(("a", 0)), execution_id="e")
    traceback = checkpoints(store, "e")["a"].traceback
    assert MOST_OF_A_TRACEBACK - 4 <= len(traceback.encode()) <= MOST_OF_A_TRACEBACK
    assert traceback.endswith("\ufffd ü \n")


def test_a_step_that_is_undone_keeps_its_attempts(new_engine, store):
    def handler(ctx):
        if ctx.attempt == 1:
            raise Busy("once")

    done = FlowDef(
        "f",
        steps=[StepDef("a", max_retries=1, retry_delay=0.0, rollbackable=True), StepDef("b")],
        rollback_on_failure=True,
    )
    bounded(new_engine(handler, rollback_handler=lambda ctx: None).run, done, execution_id="e")
    kept = checkpoints(store, "e")["a"]
    assert (str(kept.result.status), [end.error for end in kept.attempts]) == ("rolled_back", ["Busy: once", None])


def test_an_exception_that_cannot_be_looked_at_has_no_traceback():
    class Broken(Exception):
        def __getattribute__(self, name):
            raise RuntimeError(name)

    assert traceback_of(Broken()) is None
