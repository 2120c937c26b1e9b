"""Cancelling and stopping runs that are recorded: what is told, what is waited for, and what the record says after."""

import logging
import queue
import threading
import time

import pytest
from durable.children import SETUP, killed, run_child
from helper_engine import bounded, errors, run_new_python, statuses, waited
from pairs import beside, pairs

from szal import (
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    InMemoryStorage,
    SkipStep,
    StepDef,
    WorkflowState,
    open_store,
)

LIMITED = """
    import faulthandler
    faulthandler.dump_traceback_later(40, exit=True)  # a hang ends, and is seen
"""


@pytest.fixture
def url(request, kind):
    """Where the store is, for a process that does everything itself; in memory, each has its own."""
    return "memory:" if kind == "memory" else request.getfixturevalue("store_url")


def in_background(function, *args, **kwargs):
    """Call it on a daemon thread, so that a run that hangs keeps no process; return a queue of what comes of it."""
    results = queue.SimpleQueue()

    def call():
        try:
            results.put(function(*args, **kwargs))
        except BaseException as error:
            results.put(error)

    threading.Thread(target=call, daemon=True).start()
    return results


# -- 1: a step that must not run twice, and whose start is being committed ----------------------------------

STALLED = (
    LIMITED
    + """
    kind, how = sys.argv[2:]
    called = []
    token = CancellationToken()
    stopped = threading.Event()

    if kind == "sqlite":
        import sqlite3
        lock = sqlite3.connect(sys.argv[1].removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
        take, release = (lambda: lock.execute("BEGIN IMMEDIATE")), (lambda: lock.execute("ROLLBACK"))
    else:
        import psycopg
        lock = psycopg.connect(sys.argv[1])
        take, release = (lambda: lock.execute("LOCK TABLE szal_steps IN EXCLUSIVE MODE")), lock.rollback

    def listen(event):
        if event.event_type == "flow_started":
            sink.flush()
            take()  # from here on nothing of a step can be committed
            threading.Thread(target=stop, daemon=True).start()

    def stop():
        while not sink.stats().pending:  # the start of the step is on its way
            time.sleep(0.001)
        if how == "token":
            token.cancel()
        elif how == "engine.cancel":
            engine.cancel("e")
        else:
            time.sleep(0.3)  # longer than the flow may take
        release()

    engine = new_engine(lambda ctx: called.append(ctx.step.name), event_sink=listen)
    limit = 0.2 if how == "timeout" else None
    flow = FlowDef("f", steps=[StepDef("pay", idempotent=False), StepDef("after")], timeout=limit)
    result = engine.run(flow, execution_id="e", cancel=token if how == "token" else None)
    tell(called, result.state, *(f"{step.status} {step.error}" for step in result.steps))
    tell(store.get("e").state)
    os._exit(0)
"""
)


@pytest.mark.parametrize(
    ("how", "state", "reason"),
    [("token", "cancelled", "cancelled"), ("timeout", "failed", "flow timeout exceeded")],
    ids=["token", "timeout"],
)
def test_a_run_that_is_stopped_while_the_start_of_a_step_is_committed_ends_without_it(
    store_url, kind, how, state, reason
):
    told = run_child(SETUP + STALLED, store_url, kind, how).splitlines()
    assert told == [f"[] {state} skipped {reason} skipped {reason}", state]


def test_so_does_one_that_is_cancelled_by_its_id(postgres_url):
    """On SQLite the request itself waits for the lock that this test holds."""
    open_store(postgres_url).close()
    told = run_child(SETUP + STALLED, postgres_url, "postgres", "engine.cancel").splitlines()
    assert told == ["[] cancelled skipped cancelled skipped cancelled", "cancelled"]


SWEPT = (
    LIMITED
    + """
    def attempt(number):
        begun = threading.Event()
        engine = new_engine(lambda ctx: 1, event_sink=lambda event: begun.set(), cancel_grace=0.2)
        steps = [StepDef(f"pay{each}", idempotent=False) for each in range(5)]
        token = CancellationToken()
        results = []
        def work():
            results.append(engine.run(FlowDef("f", steps=steps), execution_id=f"e{number}", cancel=token))
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        begun.wait(30)
        time.sleep(number * 0.0002)
        token.cancel()
        thread.join(2)
        return str(results[0].state) if results else "hangs"

    told = {}
    for number in range(40):
        state = attempt(number)
        told[state] = told.get(state, 0) + 1
        if state == "hangs":
            break
    tell(*sorted(told))
    os._exit(0)
"""
)


def test_a_run_of_steps_that_must_not_run_twice_ends_whenever_it_is_cancelled(url):
    """At 40 moments of its first 8 ms."""
    assert set(run_child(SETUP + SWEPT, url).split()) <= {"cancelled", "completed"}


# -- 2: the last step runs on the thread of the run ----------------------------------------------------------


@pytest.mark.parametrize(
    ("from_where", "steps", "rolls_back", "kind"),
    beside(
        pairs(["its handler", "another thread"], [("only",), ("first", "last")], [False, True]),
        ["memory", "sqlite", "postgres"],
    ),
)
def test_a_run_that_is_cancelled_by_its_id_in_its_last_step_does_not_complete(
    new_engine, store, from_where, steps, rolls_back
):
    state = WorkflowState.ROLLED_BACK if rolls_back else WorkflowState.CANCELLED
    began, answers, seen, undone = threading.Event(), [], [], []

    def handler(ctx):
        if ctx.step.name != steps[-1]:
            return
        if from_where == "its handler":
            answers.append(engine.cancel("e"))
        began.set()
        ctx.sleep(100)
        seen.append(ctx.cancelled)

    engine = new_engine(handler, rollback_handler=lambda ctx: undone.append(ctx.step.name))
    definitions = [StepDef(name, rollbackable=True) for name in steps]
    results = in_background(
        engine.run, FlowDef("f", steps=definitions, rollback_on_failure=rolls_back), execution_id="e"
    )
    waited(began)
    if from_where == "another thread":
        answers.append(engine.cancel("e"))
    result = results.get(timeout=30)
    assert (answers, seen) == ([True], [True])
    assert (result.state, result.success, result.error) == (state, False, "cancelled")
    assert store.get("e").state is state
    assert undone == ([*reversed(steps)] if rolls_back else [])


# -- 3: what a handler on the thread of the run is told ------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "postgres"])
class TestTheGraceOfAHandlerOnTheThreadOfTheRun:
    @pytest.fixture
    def deaf(self):
        """What a handler waits for that does not listen; it comes at the end of the test."""
        event = threading.Event()
        yield event
        event.set()

    @pytest.fixture
    def begin(self, new_engine, deaf):
        """Run it, and cancel it by its id."""

        def begin(how, **config):
            began = threading.Event()

            def handler(ctx):
                began.set()
                deaf.wait(30)
                return "late"

            engine = new_engine(handler, **config)
            flow = FlowDef("f", steps=[StepDef("deaf"), StepDef("after")])
            if how == "run":
                results = in_background(engine.run, flow, execution_id="e")
            else:
                results = in_background(engine.start(flow, execution_id="e").result, timeout=30)
            waited(began)
            assert engine.cancel("e")
            return engine, results

        return begin

    @pytest.mark.parametrize(
        "how",
        ["run", "start"],
    )
    def test_is_over_in_time_and_what_it_returns_later_is_not_recorded(self, begin, deaf, store, caplog, how):
        engine, results = begin(how, cancel_grace=0.1)
        time.sleep(0.3)  # well past the grace
        deaf.set()
        result = results.get(timeout=20)
        assert engine.abandoned == 1
        assert errors(result) == {
            "deaf": "Cancelled: still running 0.1s after the cancellation",
            "after": "cancelled",
        }
        assert (result.state, result["deaf"].output) == (WorkflowState.CANCELLED, None)
        assert errors(store.get("e").result) == errors(result)
        assert any("deaf" in record.getMessage() for record in caplog.records)

    def test_ends_a_started_run_though_the_handler_goes_on(self, begin, store):
        engine, results = begin("start", cancel_grace=0.1)
        assert results.get(timeout=20).state is WorkflowState.CANCELLED
        assert store.get("e").state is WorkflowState.CANCELLED
        assert engine.abandoned == 1

    def test_can_be_cut_short(self, begin, deaf):
        engine, results = begin("run", cancel_grace=1000)
        engine.end_grace()
        deaf.set()
        assert results.get(timeout=20)["deaf"].error.startswith("Cancelled: still running")
        assert engine.abandoned == 1

    def test_is_longer_for_one_that_promises_to_end(self, new_engine):
        began = threading.Event()

        def handler(ctx):
            with ctx.ends_within(20):
                began.set()
                ctx.sleep(60)
                time.sleep(0.3)
            return "tidied up"

        engine = new_engine(handler, cancel_grace=0.05)
        results = in_background(engine.run, FlowDef("f", steps=[StepDef("a")]), execution_id="e")
        waited(began)
        engine.cancel("e")
        assert results.get(timeout=30)["a"].output == "tidied up"
        assert engine.abandoned == 0

    def test_is_over_for_one_that_promises_to_end_when_a_person_wants_it_to(self, new_engine):
        began = threading.Event()

        def handler(ctx):
            with ctx.ends_within(60):
                began.set()
                while not ctx.is_hurried:
                    time.sleep(0.01)
            return "broken off"

        engine = new_engine(handler, cancel_grace=1000)
        results = in_background(engine.run, FlowDef("f", steps=[StepDef("a")]), execution_id="e")
        waited(began)
        engine.cancel("e")
        engine.end_grace()
        assert results.get(timeout=30)["a"].output == "broken off"
        assert engine.abandoned == 0

    def test_is_not_needed_by_one_that_listens(self, new_engine):
        began = threading.Event()

        def handler(ctx):
            began.set()
            ctx.sleep(100)
            return "tidied up"

        engine = new_engine(handler, cancel_grace=60)
        flow = FlowDef("f", steps=[StepDef("a"), StepDef("after")])
        results = in_background(engine.run, flow, execution_id="e")
        waited(began)
        engine.cancel("e")
        result = results.get(timeout=30)
        assert (result.state, result["a"].output) == (WorkflowState.CANCELLED, "tidied up")
        assert engine.abandoned == 0


@pytest.mark.parametrize(("depth", "kind"), [(1, "memory"), (2, "sqlite"), (1, "postgres")])
def test_who_cancels_a_sub_flow_by_its_id_tells_the_handler_that_it_is_in(new_engine, store, depth):
    began, ids, slept = threading.Event(), [], []

    def handler(ctx):
        ids.append(ctx.execution_id)
        began.set()
        slept.append(ctx.sleep(100))

    def calling(name, other):
        return FlowDef(name, steps=[StepDef("in", step_type="sub_flow", config={"flow_name": other})])

    flows = [FlowDef("flow0", steps=[StepDef("leaf")])]
    flows += [calling(f"flow{level}", f"flow{level - 1}") for level in range(1, depth + 1)]
    engine = new_engine(handler, storage=InMemoryStorage(flows[:-1]))
    results = in_background(engine.run, flows[-1], execution_id="e")
    waited(began)
    assert engine.cancel(ids[0])
    result = results.get(timeout=30)
    assert slept == [False]
    assert result.state is WorkflowState.CANCELLED
    assert store.get(ids[0]).state is WorkflowState.CANCELLED


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
class TestAnUndoOfARunThatIsCancelledByItsId:
    def run(self, new_engine, undo, limit=None):
        def handler(ctx):
            if ctx.step.name == "b":
                engine.cancel("e")

        engine = new_engine(handler, rollback_handler=lambda ctx: undo(engine, ctx))
        steps = [StepDef("a", rollbackable=True, timeout=limit), StepDef("b"), StepDef("c")]
        flow = FlowDef("f", steps=steps, rollback_on_failure=True)
        return in_background(engine.run, flow, execution_id="e").get(timeout=30)

    @pytest.mark.parametrize("limit", [None, 60], ids=["inline", "on a worker"])
    def test_sleeps_as_long_as_it_asks_to(self, new_engine, limit):
        slept = []

        def undo(engine, ctx):
            began = time.monotonic()
            slept.append((ctx.sleep(0.2), time.monotonic() - began >= 0.19, ctx.cancelled))

        assert self.run(new_engine, undo, limit).state is WorkflowState.ROLLED_BACK
        assert slept == [(True, True, False)]

    @pytest.mark.parametrize("limit", [None, 60], ids=["inline", "on a worker"])
    def test_sleeps_on_where_it_is_cancelled_again(self, new_engine, limit):
        slept = []

        def undo(engine, ctx):
            began = time.monotonic()
            threading.Timer(0.05, engine.cancel, ["e"]).start()
            slept.append((ctx.sleep(0.2), time.monotonic() - began >= 0.19, ctx.cancelled))

        assert self.run(new_engine, undo, limit).state is WorkflowState.ROLLED_BACK
        assert slept == [(True, True, False)]


# -- 4: cancelled in the last step, killed in the undo -----------------------------------------------------

KILLED_IN_THE_UNDO = """
    how = sys.argv[2]
    token = CancellationToken()

    def handler(ctx):
        if ctx.step.name == "b":
            token.cancel() if how == "token" else engine.cancel("e")
            ctx.sleep(5)

    def undo(ctx):
        if ctx.step.name == "a":
            die()

    engine = new_engine(handler, rollback_handler=undo, durability="step")
    steps = [StepDef("a", rollbackable=True), StepDef("b", rollbackable=True)]
    engine.run(
        FlowDef("f", steps=steps, rollback_on_failure=True), execution_id="e", cancel=token if how == "token" else None
    )
"""

KILLED = """
    new_engine(lambda ctx: die(), durability="step").run(FlowDef("g", steps=[StepDef("y")]), execution_id="other")
"""

CANCELLED_IN_THE_LAST_STEP = pytest.mark.parametrize("how", ["token", "engine.cancel"])


@CANCELLED_IN_THE_LAST_STEP
def test_a_cancelled_run_that_is_killed_in_its_undo_is_undone_by_whoever_recovers_it(store_url, store, new_engine, how):
    killed(KILLED_IN_THE_UNDO, store_url, how)
    killed(KILLED, store_url)
    undone = []
    engine = new_engine(rollback_handler=lambda ctx: undone.append(ctx.step.name))
    recovered = {result.execution_id: result.state for result in bounded(engine.recover)}
    assert recovered == {"e": WorkflowState.ROLLED_BACK, "other": WorkflowState.COMPLETED}
    assert undone == ["a"]
    record = store.get("e")
    assert (record.state, record.error) == (WorkflowState.ROLLED_BACK, "cancelled")
    assert statuses(record.result) == {"a": "rolled_back", "b": "rolled_back"}


@pytest.mark.parametrize(("how", "kind"), beside(["token", "engine.cancel"], ["sqlite", "postgres"]))
def test_with_python_o_too(store_url, tmp_path, monkeypatch, how):
    killed(KILLED_IN_THE_UNDO, store_url, how)
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    done = run_new_python(
        tmp_path,
        f"""
        from szal import *
        with open_store({store_url!r}) as store, store.engine_sink() as sink:
            undone = []
            config = EngineConfig(execution_store=sink, rollback_handler=lambda ctx: undone.append(ctx.step.name))
            with Engine(lambda ctx: None, config) as engine:
                print(*(result.state for result in engine.recover()), undone, __debug__)
        """,
        timeout=40,
    )
    assert done.stdout.strip() == "rolled_back ['a'] False", done.stderr


# -- 5: reasons that a handler gives ---------------------------------------------------------------------

REASONS = pytest.mark.parametrize("reason", ["cancelled", "flow timeout exceeded"])
WITH_SUB_STEPS = [StepDef("order", sub_steps=[StepDef("pay")]), StepDef("ship")]


@REASONS
def test_a_step_that_its_handler_skips_with_the_words_of_a_stop_stops_nothing_after_a_pause(new_engine, reason):
    def handler(ctx):
        if ctx.step.name == "order":
            raise SkipStep(reason)

    hold = StepDef("hold", step_type="wait", config={"signal": "go"})
    steps = [WITH_SUB_STEPS[0], hold, WITH_SUB_STEPS[1]]
    engine = new_engine(handler)
    assert engine.run(FlowDef("f", FlowMode.HIERARCHICAL, steps=steps), execution_id="e").state is WorkflowState.PAUSED
    engine.signal("e", "go")
    result = bounded(engine.resume, "e", timeout=30)
    assert (result.state, result.error) == (WorkflowState.COMPLETED, None)
    assert errors(result) == {"order": reason, "pay": reason}


@pytest.mark.parametrize(
    ("reason", "rolls_back", "kind"),
    beside(pairs(["cancelled", "flow timeout exceeded"], [False, True]), ["sqlite", "postgres", "postgres"]),
)
def test_nor_after_a_crash(store_url, new_engine, reason, rolls_back):
    killed(
        """
        reason, rolls_back = sys.argv[2:]

        def handler(ctx):
            if ctx.step.name == "order":
                raise SkipStep(reason)
            die()

        steps = [StepDef("order", sub_steps=[StepDef("pay")]), StepDef("ship")]
        flow = FlowDef("f", FlowMode.HIERARCHICAL, steps=steps, rollback_on_failure=rolls_back == "True")
        new_engine(handler, durability="step").run(flow, execution_id="e")
        """.replace("\n    ", "\n"),
        store_url,
        reason,
        rolls_back,
    )
    [result] = bounded(new_engine().recover, timeout=30)
    assert (result.state, result.error) == (WorkflowState.COMPLETED, None)
    assert statuses(result) == {"order": "skipped", "pay": "skipped", "ship": "completed"}


@pytest.mark.parametrize(
    ("how", "rolls_back", "kind"),
    beside(pairs(["token", "timeout"], [False, True]), ["postgres", "sqlite", "sqlite"]),
)
def test_what_did_stop_a_run_stands_after_a_crash(store_url, new_engine, how, rolls_back):
    killed(
        """
        how, rolls_back = sys.argv[2:]
        token = CancellationToken()

        def handler(ctx):
            if ctx.step.name == "b":
                token.cancel()
                ctx.sleep(5)

        def listen(event):
            if event.event_type == "step_skipped":
                die()

        engine = new_engine(handler, event_sink=listen, durability="step")
        limit = 0.1 if how == "timeout" else None
        steps = [StepDef("a"), StepDef("b" if how == "token" else "sleeps"), StepDef("c")]
        if how == "timeout":
            steps[1] = StepDef("nap", step_type="sleep", config={"seconds": 5})
        flow = FlowDef("f", steps=steps, timeout=limit, rollback_on_failure=rolls_back == "True")
        engine.run(flow, execution_id="e", cancel=token)
        """.replace("\n    ", "\n"),
        store_url,
        how,
        rolls_back,
    )
    ran = []
    engine = new_engine(lambda ctx: ran.append(ctx.step.name))
    [result] = bounded(engine.recover, timeout=30)
    ends = {"token": WorkflowState.CANCELLED, "timeout": WorkflowState.FAILED}
    assert result.state is (WorkflowState.ROLLED_BACK if rolls_back else ends[how])
    assert result.error == {"token": "cancelled", "timeout": "flow timeout exceeded"}[how]
    assert ran == []


# -- 11: a started run that raises -----------------------------------------------------------------------


@pytest.mark.parametrize("asked", [False, True], ids=["never asked for", "asked for"])
def test_a_started_run_that_raises_is_logged_once_with_its_id(open_one, caplog, asked):
    with open_one() as opened:
        sink = opened.engine_sink()
        engine = Engine(lambda ctx: sink.close(), EngineConfig(execution_store=sink))
        execution = engine.start(FlowDef("f", steps=[StepDef("a"), StepDef("b")]), execution_id="order-42")
        assert execution.wait(30)
        if asked:
            with pytest.raises(Exception, match="closed"):
                execution.result(timeout=20)
        engine.close()
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len([record for record in told if "order-42" in record.getMessage()]) == 1
