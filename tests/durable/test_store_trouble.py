"""A store that fails in the middle of a run: handlers are told and waited for, the lease is kept, then `run` raises."""

import sqlite3
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress

import psycopg
import pytest
from helper_engine import ForeignStore, bounded, waited
from pairs import FULL, beside
from processes import wait_until

from szal import Engine, EngineConfig, FlowDef, FlowMode, InMemoryStorage, StepDef, WorkflowState
from szal.errors import ExecutionOwned, SinkFull, StoreClosed, StoreError, StoreUnavailable, WriteFailed
from szal.stores import SqliteExecutionStore, open_store

LEASE = 2.0  # seconds; a heartbeat may be held up for a second where the machine is busy
SOON = 3.0  # for what takes milliseconds where it is right, in a test that has to go on where it is not
ENDS = ("step_completed", "step_failed", "step_skipped")


class Database:
    """A connection of the test's own to a database: to lock it, and to hide its tables."""

    def __init__(self, url):
        self.is_sqlite = url.startswith("sqlite")
        if self.is_sqlite:
            path = url.removeprefix("sqlite:///")
            self.connection = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
        else:
            self.connection = psycopg.connect(url, autocommit=True)
        self._undo = []

    def hide(self, table):
        """Rename *table*, until `restore`."""
        self.connection.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
        self._undo.append(f"ALTER TABLE {table}_away RENAME TO {table}")

    def lock(self):
        """Let nobody write the outcomes of steps, until `restore`."""
        self.connection.execute("BEGIN IMMEDIATE" if self.is_sqlite else "BEGIN")
        if not self.is_sqlite:
            self.connection.execute("LOCK TABLE szal_steps IN EXCLUSIVE MODE")
        self._undo.append("ROLLBACK")

    def restore(self):
        """Have all as it was; again: do nothing."""
        while self._undo:
            self.connection.execute(self._undo.pop())

    def close(self):
        self.restore()
        self.connection.close()


class Trouble:
    """A store for the engine that is to meet trouble, and one for another engine; `begin` and `end` of the trouble."""

    def __init__(self, stack, case, url):
        kind, self.what = case
        shared = stack.enter_context(open_store("memory:" if kind == "memory" else url))
        other = shared if kind == "memory" else stack.enter_context(open_store(url))
        self.store = other
        self.other = stack.enter_context(other.engine_sink())
        self.database = None if kind == "memory" else stack.enter_context(closing(Database(url)))
        if self.what == "locked, without a sink":
            path = url.removeprefix("sqlite:///")
            self.mine = stack.enter_context(SqliteExecutionStore.connect(path, busy_timeout=0.1))
        elif self.what == "refuses, without a sink":
            self.mine = shared
        else:
            full = {"max_pending": 1, "block_timeout": 0.2} if self.what == "locked" else {}
            self.mine = shared.engine_sink(**full)
            stack.callback(self._close)

    def _close(self):
        with suppress(StoreError):  # of what it lost
            self.mine.close(timeout=5)

    def begin(self):
        if self.what == "closed":
            self.mine.close()
        elif self.what.startswith("locked"):
            self.database.lock()
        elif self.what == "refuses reads":
            self.database.hide("szal_signals")
        else:
            self.database.hide("szal_steps")

    def end(self):
        if self.database is not None:
            self.database.restore()

    @property
    def error(self):
        known = {"locked": SinkFull, "closed": StoreClosed, "locked, without a sink": StoreUnavailable}
        return known.get(self.what, StoreError)


CASES = [
    ("postgres", "locked"),
    ("sqlite", "locked, without a sink"),
    ("memory", "closed"),
    ("postgres", "closed"),
    ("sqlite", "refuses writes"),
    ("postgres", "refuses, without a sink"),
    ("sqlite", "refuses reads"),
]
if FULL:
    CASES += [
        ("sqlite", "locked"),
        ("sqlite", "closed"),
        ("postgres", "refuses writes"),
        ("sqlite", "refuses, without a sink"),
        ("postgres", "refuses reads"),
    ]


@pytest.fixture
def trouble(request):
    case = request.param
    url = "" if case[0] == "memory" else request.getfixturevalue(f"{case[0]}_url")
    if url:
        open_store(url).close()
    with ExitStack() as stack:
        yield Trouble(stack, case, url)


def in_cases(*chosen):
    cases = chosen or CASES
    return pytest.mark.parametrize("trouble", cases, indirect=True, ids=[" ".join(case) for case in cases])


class Scene:
    """A flow of parallel steps: "breaks" begins the trouble, and "slow" is at work when it does, until `let_go`."""

    def __init__(self, begin, *more):
        self.begin = begin
        names = ["breaks", "second", "slow"]
        self.flow = FlowDef("scene", FlowMode.PARALLEL, steps=[*more, *(StepDef(name) for name in names)])
        self.begun, self.broken, self.told, self.let_go = (threading.Event() for _ in range(4))
        self.saw = []
        self._lock = threading.Lock()
        self._running = self.peak = 0

    def __call__(self, ctx):
        if ctx.step.name == "breaks":
            waited(self.begun)
            self.begin()
            self.broken.set()
        elif ctx.step.name == "second":  # more than one outcome, so that a queue for one is full
            waited(self.broken)
        elif ctx.step.name == "slow":
            with self.counted():
                self.begun.set()
                end = time.monotonic() + SOON
                while not ctx.cancelled and time.monotonic() < end:
                    time.sleep(0.005)
                self.saw.append(ctx.cancelled)
                self.told.set()
                self.let_go.wait(30)
        return ctx.step.name

    @contextmanager
    def counted(self):
        with self._lock:
            self._running += 1
            self.peak = max(self.peak, self._running)
        yield
        with self._lock:
            self._running -= 1

    def another(self, ctx):
        """Do the steps in another engine."""
        if ctx.step.name == "slow":
            with self.counted():
                pass
        return ctx.step.name


def resumed(engine):
    """Return how "e" goes on in *engine*, or None where somebody else has it."""
    try:
        return engine.resume("e")
    except ExecutionOwned:
        return None


def ask():
    return StepDef("ask", step_type="wait", config={"signal": "go"})


# -- a store that fails in the middle of a run ----------------------------------------------------------


@in_cases(*CASES)
def test_handlers_are_told_and_waited_for_under_the_lease_before_run_raises(trouble, renewals):
    scene = Scene(trouble.begin, *([ask()] if trouble.what == "refuses reads" else []))
    first = Engine(scene, EngineConfig(execution_store=trouble.mine, lease_ttl=LEASE, cancel_grace=20))
    second = Engine(scene.another, EngineConfig(execution_store=trouble.other, lease_ttl=LEASE))
    with first, second:
        try:
            execution = first.start(scene.flow, execution_id="e")
            waited(scene.told)
            trouble.end()
            assert scene.saw == [True]
            for _ in range(2):
                renewals.await_another("e")
                assert not execution.done
                assert bounded(resumed, second) is None
            scene.let_go.set()
            with pytest.raises(trouble.error):
                execution.result(timeout=20)
            result = wait_until(lambda: resumed(second), timeout=20)
        finally:
            scene.let_go.set()
            trouble.end()
    assert scene.peak == 1
    assert result.state in (WorkflowState.COMPLETED, WorkflowState.PAUSED)
    assert result.outputs == {name: name for name in ("breaks", "second", "slow")}


@in_cases(("postgres", "closed"), ("memory", "closed"), ("sqlite", "locked"))
def test_a_handler_that_does_not_end_within_the_grace_is_left_behind_and_then_run_raises(trouble):
    progress = []
    scene = Scene(trouble.begin)
    config = EngineConfig(
        execution_store=trouble.mine,
        lease_ttl=LEASE,
        cancel_grace=0.3,
        progress_sink=progress.append,
    )

    def handler(ctx):
        output = scene(ctx)
        if ctx.step.name == "slow":
            ctx.report("late")
            said.set()
        return output

    said = threading.Event()
    with Engine(handler, config) as engine:
        try:
            execution = engine.start(scene.flow, execution_id="e")
            waited(scene.told)
            trouble.end()
            with pytest.raises(trouble.error):
                execution.result(timeout=20)
            assert scene.saw == [True]
            assert engine.abandoned == 1
            scene.let_go.set()
            waited(said)
        finally:
            scene.let_go.set()
    assert progress == []


def test_a_store_of_four_methods_that_cannot_save_a_sub_flow_stops_the_run_in_order():
    class Full(ForeignStore):
        def save(self, record):
            if record.flow_name == "child":
                scene.broken.set()
                raise OSError("no space left")
            super().save(record)

    child = FlowDef("child", steps=[StepDef("in")])
    scene = Scene(lambda: None)
    breaks = StepDef("breaks")
    sub = StepDef("sub", step_type="sub_flow", config={"flow_name": "child"}, depends_on=[breaks])
    flow = FlowDef("scene", FlowMode.DAG, steps=[breaks, sub, StepDef("slow"), StepDef("after", depends_on=[sub])])
    config = EngineConfig(execution_store=Full(), storage=InMemoryStorage([child]), cancel_grace=20)
    with Engine(scene, config) as engine:
        try:
            execution = engine.start(flow, execution_id="e")
            waited(scene.told)
            assert scene.saw == [True]
            assert not execution.done
            with pytest.raises(ExecutionOwned):
                engine.run(flow, execution_id="e")
            scene.let_go.set()
            with pytest.raises(OSError, match="no space left"):
                execution.result(timeout=20)
        finally:
            scene.let_go.set()


@in_cases(("sqlite", "closed"), ("memory", "closed"), ("postgres", "locked"))
def test_nothing_new_starts_once_the_store_has_failed(trouble):
    began = []
    scene = Scene(trouble.begin)

    def handler(ctx):
        began.append(ctx.step.name)
        return scene(ctx)

    config = EngineConfig(execution_store=trouble.mine, lease_ttl=LEASE, cancel_grace=20)
    steps = [StepDef("breaks"), StepDef("second"), StepDef("slow")]
    more = [StepDef(f"later {i}", depends_on=[steps[2]]) for i in range(3)]
    with Engine(handler, config) as engine:
        try:
            execution = engine.start(FlowDef("f", FlowMode.DAG, steps=[*steps, *more]), execution_id="e")
            waited(scene.told)
            trouble.end()
            assert scene.saw == [True]
            scene.let_go.set()
            with pytest.raises(trouble.error):
                execution.result(timeout=20)
        finally:
            scene.let_go.set()
    assert sorted(began) == ["breaks", "second", "slow"]


@in_cases(("sqlite", "refuses writes"), ("postgres", "refuses writes"))
def test_a_handler_that_is_called_inline_is_told_too(trouble):
    saw = []

    def handler(ctx):
        if ctx.step.name == "breaks":
            trouble.begin()
        else:
            end = time.monotonic() + SOON
            while not ctx.cancelled and time.monotonic() < end:
                time.sleep(0.005)
            saw.append((ctx.step.name, ctx.cancelled))

    steps = [StepDef("breaks"), StepDef("inline"), StepDef("never")]
    with Engine(handler, EngineConfig(execution_store=trouble.mine)) as engine, pytest.raises(StoreError):
        bounded(engine.run, FlowDef("f", steps=steps), execution_id="e")
    assert saw == [("inline", True)]


def test_a_connection_that_is_cut_is_no_trouble(postgres_url, server, schema):
    def handler(ctx):
        if ctx.step.name == "cuts":
            assert server.terminate(schema) > 0
        return ctx.step.name

    flow = FlowDef("f", steps=[StepDef("a"), StepDef("cuts", idempotent=False), StepDef("b")])
    with (
        open_store(postgres_url) as store,
        store.engine_sink() as sink,
        Engine(handler, EngineConfig(execution_store=sink, durability="step")) as engine,
    ):
        assert bounded(engine.run, flow, execution_id="e", timeout=30).outputs == {n: n for n in ("a", "cuts", "b")}
        assert store.get("e").state is WorkflowState.COMPLETED


# -- a store that fails as a step begins to wait --------------------------------------------------------


@pytest.fixture
def database(store_url):
    with closing(Database(store_url)) as opened:
        yield opened


@pytest.mark.parametrize(("where", "kind"), beside(["the flow", "a sub-flow"], ["sqlite", "postgres"]))
def test_a_wait_whose_signals_cannot_be_read_stops_the_run_and_settles_once(new_engine, database, where):
    events, told, begun = [], [], threading.Event()

    def handler(ctx):
        if ctx.step.name == "gate":
            waited(begun)
            database.hide("szal_signals")
        elif ctx.step.name == "long":
            begun.set()
            told.append(not ctx.sleep(30))
        return ctx.step.name

    def listen(event):
        events.append(event)
        if (event.step_name, event.event_type) == ("approve", "step_failed"):
            database.restore()  # where the run goes on, only the first read fails

    wait = StepDef("approve", step_type="wait", config={"signal": "go", "timeout": 0.3, "default": "nobody"})
    inner = FlowDef("inner", steps=[wait])
    gate = StepDef("gate")
    if where == "the flow":
        asks = StepDef("approve", step_type="wait", config=wait.config, depends_on=[gate])
    else:
        asks = StepDef("sub", step_type="sub_flow", config={"flow_name": "inner"}, depends_on=[gate])
    flow = FlowDef("f", FlowMode.DAG, steps=[StepDef("long"), gate, asks])
    storage = InMemoryStorage([inner])
    engine = new_engine(handler, storage=storage, event_sink=listen, lease_ttl=LEASE)
    with pytest.raises(StoreError):
        bounded(engine.run, flow, execution_id="e")
    with suppress(WriteFailed):  # what was written while the table was away
        engine.config.execution_store.flush()
    database.restore()
    assert told == [True]
    ends = [event.step_name for event in events if event.event_type in ENDS]
    assert ends.count("approve") <= 1
    assert ends.count(asks.name) <= 1
    other = new_engine(lambda ctx: ctx.step.name, storage=storage)
    result = wait_until(lambda: resumed(other), timeout=20)
    while result.state is WorkflowState.PAUSED:  # until the time of the wait is over
        result = wait_until(lambda: resumed(other), timeout=20)
        time.sleep(0.02)
    assert result.success
    assert result[asks.name].output == ("nobody" if where == "the flow" else {"approve": "nobody"})


def test_a_sub_flow_that_cannot_be_begun_stops_the_run_and_begins_when_it_goes_on(new_engine, database):
    events, told, begun = [], [], threading.Event()

    def handler(ctx):
        if ctx.step.name == "gate":
            waited(begun)
            database.hide("szal_flows")
        elif ctx.step.name == "long":
            begun.set()
            told.append(not ctx.sleep(30))
        return ctx.step.name

    inner = FlowDef("inner", steps=[StepDef("in")])
    gate = StepDef("gate")
    sub = StepDef("sub", step_type="sub_flow", config={"flow_name": "inner"}, depends_on=[gate])
    flow = FlowDef("f", FlowMode.DAG, steps=[StepDef("long"), gate, sub])
    storage = InMemoryStorage([inner])
    engine = new_engine(handler, storage=storage, event_sink=events.append, lease_ttl=LEASE)
    with pytest.raises(StoreError):
        bounded(engine.run, flow, execution_id="e")
    assert told == [True]
    assert [event.event_type for event in events if event.step_name == "sub" and event.event_type in ENDS] == []
    database.restore()
    with suppress(WriteFailed):  # of the gate: the tables may have been looked at before it was written
        engine.config.execution_store.flush(20)
    result = wait_until(lambda: resumed(new_engine(lambda ctx: ctx.step.name, storage=storage)), timeout=20)
    assert result.success
    assert result["sub"].output == {"in": "in"}
