"""Stopping a run that nothing records: tokens and their callbacks, an undo that sleeps, what a started run raises."""

import asyncio
import logging
import queue
import threading
import time

import pytest
from helper_engine import ForeignStore, bounded, statuses, waited

from szal import CancellationToken, Engine, EngineConfig, FlowDef, FlowMode, StepDef, WorkflowState

BASE_EXCEPTIONS = [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]


def raising(error):
    def callback():
        raise error

    return callback


def by_type(error):
    return type(error).__name__


def raised_by(function, *args):
    """Return what the call raised, on a thread of its own; a KeyboardInterrupt there is nobody's Ctrl-C."""

    def call():
        try:
            function(*args)
        except BaseException as error:
            return error
        return None

    return bounded(call)


class TestACallbackOfATokenThatRaises:
    @pytest.mark.parametrize("error", BASE_EXCEPTIONS, ids=by_type)
    def test_keeps_no_other_from_being_called_and_is_logged(self, caplog, error):
        token, called = CancellationToken(), []
        token.subscribe(lambda: called.append("before"))
        token.subscribe(raising(error))
        token.subscribe(lambda: called.append("after"))
        child = token.child()
        child.subscribe(lambda: called.append("child's"))
        assert raised_by(token.cancel) is None
        assert token.cancelled
        assert child.cancelled
        assert called == ["before", "after", "child's"]
        [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert type(error).__name__ in caplog.text
        assert record.exc_info is not None

    @pytest.mark.parametrize("error", BASE_EXCEPTIONS, ids=by_type)
    def test_is_logged_too_where_the_token_was_cancelled_before(self, caplog, error):
        token = CancellationToken()
        token.cancel()
        assert raised_by(token.subscribe, raising(error)) is None
        assert type(error).__name__ in caplog.text

    @pytest.mark.parametrize("error", BASE_EXCEPTIONS, ids=by_type)
    @pytest.mark.parametrize("where", ["token", "parent"])
    def test_keeps_no_run_from_being_cancelled(self, error, where):
        parent = CancellationToken()
        token = parent.child()
        (token if where == "token" else parent).subscribe(raising(error))
        began, ran = threading.Event(), []

        def handler(ctx):
            ran.append(ctx.step.name)
            began.set()
            ctx.sleep(40)

        flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef(f"s{i}") for i in range(5)])
        with Engine(handler, EngineConfig(max_concurrency=1, cancel_grace=1)) as engine:
            results = queue.SimpleQueue()
            threading.Thread(target=lambda: results.put(engine.run(flow, cancel=token)), daemon=True).start()
            waited(began)
            assert raised_by(parent.cancel) is None
            result = results.get(timeout=20)
        assert result.state is WorkflowState.CANCELLED
        assert ran == ["s0"]


class TestAnUndoOfACancelledRun:
    @pytest.mark.parametrize("limit", [None, 60], ids=["inline", "on a worker"])
    def test_sleeps_as_long_as_it_asks_to(self, limit):
        token, slept = CancellationToken(), []

        def undo(ctx):
            began = time.monotonic()
            slept.append((ctx.sleep(0.2), time.monotonic() - began >= 0.19, ctx.cancelled))

        def handler(ctx):
            if ctx.step.name == "b":
                token.cancel()

        steps = [StepDef("a", rollbackable=True, timeout=limit), StepDef("b")]
        flow = FlowDef("f", steps=steps, rollback_on_failure=True)
        with Engine(handler, EngineConfig(rollback_handler=undo)) as engine:
            result = bounded(engine.run, flow, cancel=token)
        assert result.state is WorkflowState.ROLLED_BACK
        assert slept == [(True, True, False)]


class BrokenStore(ForeignStore):
    """A store that cannot record the beginning of a run."""

    def save(self, record):
        raise OSError("disk on fire")


class TestAStartedRunThatRaises:
    @pytest.mark.parametrize("asked", [0, 1, 2], ids=["never asked for", "asked for once", "asked for twice"])
    def test_is_logged_once_with_its_id(self, caplog, asked):
        with Engine(lambda ctx: 1, EngineConfig(execution_store=BrokenStore())) as engine:
            execution = engine.start(FlowDef("f", steps=[StepDef("a")]), execution_id="order-42")
            assert execution.wait(30)
            for _ in range(asked):
                with pytest.raises(OSError, match="disk on fire"):
                    execution.result(timeout=20)
        [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
        assert "order-42" in record.getMessage()
        assert "disk on fire" in caplog.text

    def test_and_one_that_merely_fails_is_not_logged(self, caplog):
        def handler(ctx):
            raise ValueError("no")

        with Engine(handler) as engine:
            result = engine.start(FlowDef("f", steps=[StepDef("a")])).result(timeout=20)
        assert statuses(result) == {"a": "failed"}
        assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []
