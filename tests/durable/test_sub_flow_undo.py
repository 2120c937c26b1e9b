"""What becomes of what a sub-flow did: undone with what it belongs to, kept by a rerun, and never done on top of it."""

import functools
import signal
import threading

import pytest
from durable.children import killed
from helper_engine import ForeignStore, bounded, errors, statuses
from ids import uid

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    Handlers,
    InMemoryStorage,
    MigrationRegistry,
    StepDef,
    TriggerMode,
    WorkflowState,
)
from szal.engine.lineage import child_id
from szal.model.json.text import MAX_DEPTH

EVERYWHERE = pytest.mark.parametrize("kind", ["no store", "four methods", "memory", "sqlite", "postgres"])
ROLLED_BACK, FAILED, COMPLETED = WorkflowState.ROLLED_BACK, WorkflowState.FAILED, WorkflowState.COMPLETED


def made(name, **options):
    return StepDef(name, rollbackable=True, **options)


def sub(name, **options):
    return StepDef(name, step_type="sub_flow", config={"flow_name": name}, retry_delay=0.0, **options)


def trip(*steps, rolls_back=True, version=1):
    return FlowDef("trip", steps=steps, rollback_on_failure=rolls_back, version=version)


BOOK = FlowDef("book", steps=[made("hotel"), made("flight")])


class Trip:
    """Handlers, with a log of what was done and undone. Steps in `broken` fail, those in `stuck` cannot be undone."""

    def __init__(self, *broken, stuck=()):
        self.broken, self.stuck = set(broken), set(stuck)
        self.log = []

    def __call__(self, ctx):
        self.log.append(ctx.step.name)
        if ctx.step.name in self.broken:
            raise ValueError("no")
        return ctx.step.name

    def undo(self, ctx):
        assert ctx.output == ctx.step.name
        self.log.append(f"undo {ctx.step.name}")
        if ctx.step.name in self.stuck:
            raise RuntimeError("stuck")

    def mend(self):
        self.broken.clear()
        self.log.clear()


@pytest.fixture
def start(request, kind):
    """Return a function that makes an engine for a `Trip`, with what the test's store is."""

    def make(handlers, *flows, **config):
        options = {"rollback_handler": handlers.undo, "storage": InMemoryStorage([BOOK, *flows]), **config}
        if kind in ("no store", "four methods"):
            store = None if kind == "no store" else ForeignStore()
            return Engine(handlers, EngineConfig(execution_store=store, **options))
        return request.getfixturevalue("new_engine")(handlers, **options)

    return make


def record_of(engine, parent, step, attempt=1):
    """Return the record of a sub-flow; None where none is kept."""
    store = engine.config.execution_store
    return None if store is None else store.get(child_id(parent, step, attempt))


# -- with what it belongs to ---------------------------------------------------------------------------


@EVERYWHERE
@pytest.mark.parametrize("childs_own", [True, False])
def test_a_sub_flow_that_completed_is_undone_when_its_parent_rolls_back(start, childs_own):
    book = FlowDef("book", steps=[made("hotel"), StepDef("note"), made("flight")], rollback_on_failure=childs_own)
    handlers = Trip("charge")
    engine = start(handlers, book)
    result = bounded(engine.run, trip(made("reserve"), sub("book"), StepDef("charge")))
    assert handlers.log[4:] == ["charge", "undo flight", "undo hotel", "undo reserve"]
    assert (result.state, result.error) == (ROLLED_BACK, "step 'charge' failed: ValueError: no")
    assert statuses(result) == {"reserve": "rolled_back", "book": "rolled_back", "charge": "failed"}
    assert result["book"].output == {"hotel": "hotel", "note": "note", "flight": "flight"}
    child = record_of(engine, result.execution_id, "book")
    if child is not None:
        assert (child.state, child.error) == (ROLLED_BACK, "undone with what it belongs to")
        assert statuses(child.result) == {"hotel": "rolled_back", "note": "completed", "flight": "rolled_back"}
        assert child.result.rolled_back
        assert child.finished_at >= child.started_at


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
def test_it_is_undone_though_what_has_ended_is_pruned_meanwhile(start):
    outer = FlowDef("outer", steps=[sub("book")])
    handlers = Trip("charge")

    def handler(ctx):
        if ctx.step.name == "charge":
            engine.config.execution_store.prune(keep=0)
        return handlers(ctx)

    handler.undo = handlers.undo
    engine = start(handler, outer)
    result = bounded(engine.run, trip(sub("outer"), StepDef("charge")))
    assert (result.state, handlers.log[3:]) == (ROLLED_BACK, ["undo flight", "undo hotel"])
    assert engine.config.execution_store.prune(keep=0) == 3


@EVERYWHERE
def test_what_is_undone_is_told_as_a_run_of_the_sub_flow(start):
    told = []
    engine = start(Trip("charge"), event_sink=told.append)
    execution_id = bounded(engine.run, trip(sub("book"), StepDef("charge"))).execution_id
    of_child = [(event.event_type, event.step_name) for event in told if event.flow_name == "book"]
    assert of_child[-4:] == [
        ("flow_started", None),
        ("step_rollback", "flight"),
        ("step_rollback", "hotel"),
        ("flow_rolled_back", None),
    ]
    of_parent = [(event.event_type, event.step_name) for event in told if event.execution_id == execution_id]
    assert of_parent[-2:] == [("step_rollback", "book"), ("flow_rolled_back", None)]


@EVERYWHERE
def test_one_of_which_nothing_can_be_undone_stays_completed(start):
    inner = FlowDef("inner", steps=[StepDef("i")])
    outer = FlowDef("outer", steps=[sub("inner"), made("never", condition="false")])
    engine = start(Trip("charge"), inner, outer)
    result = bounded(engine.run, trip(made("reserve"), sub("outer"), StepDef("charge")))
    assert result.state is ROLLED_BACK
    assert statuses(result) == {"reserve": "rolled_back", "outer": "completed", "charge": "failed"}
    child = record_of(engine, result.execution_id, "outer")
    assert child is None or child.state is COMPLETED


@EVERYWHERE
def test_at_every_depth_in_the_reverse_order_of_completion(start):
    inner = FlowDef("inner", steps=[made("i1"), made("i2")])
    outer = FlowDef("outer", steps=[made("o1"), sub("inner"), made("o2")])
    handlers = Trip("charge")
    result = bounded(start(handlers, inner, outer).run, trip(made("a"), sub("outer"), made("z"), StepDef("charge")))
    assert result.state is ROLLED_BACK
    assert handlers.log[7:] == [f"undo {name}" for name in ("z", "o2", "i2", "i1", "o1", "a")]


@EVERYWHERE
def test_with_the_rollback_handler_of_its_step_first_where_there_is_one(start):
    class Whole(Trip):
        def undo(self, ctx):
            self.log.append((f"undo {ctx.step.name}", ctx.output))

    handlers = Whole("charge")
    result = bounded(start(handlers).run, trip(sub("book", rollbackable=True), StepDef("charge")))
    assert (result.state, str(result["book"].status)) == (ROLLED_BACK, "rolled_back")
    assert handlers.log[3:] == [
        ("undo book", {"hotel": "hotel", "flight": "flight"}),
        ("undo flight", "flight"),
        ("undo hotel", "hotel"),
    ]


@EVERYWHERE
def test_an_undo_in_a_sub_flow_that_fails_is_named_and_the_rest_is_undone(start):
    handlers = Trip("charge", stuck=["flight"])
    engine = start(handlers)
    result = bounded(engine.run, trip(made("reserve"), sub("book", max_retries=2), StepDef("charge")))
    assert handlers.log[4:] == ["undo flight", "undo hotel", "undo reserve"]
    assert result.state is FAILED
    assert statuses(result) == {"reserve": "rolled_back", "book": "completed", "charge": "failed"}
    left = "undone with what it belongs to; not rolled back: flight (RuntimeError: stuck)"
    assert result.error == (
        f"step 'charge' failed: ValueError: no; not rolled back: book (sub-flow 'book' failed: {left})"
    )
    child = record_of(engine, result.execution_id, "book")
    if child is not None:
        assert (child.state, child.error) == (FAILED, left)
        assert statuses(child.result) == {"hotel": "rolled_back", "flight": "completed"}


@EVERYWHERE
def test_it_has_the_retries_and_limits_of_its_own_steps(start):
    class Slow(Trip):
        def undo(self, ctx):
            self.log.append((ctx.step.name, ctx.attempt, ctx.remaining()))
            if ctx.attempt == 1:
                raise RuntimeError("try again")

    book = FlowDef("book", steps=[made("hotel", max_retries=1, retry_delay=0.0)])
    handlers = Slow("charge")
    result = bounded(start(handlers, book).run, trip(sub("book", timeout=1000), StepDef("charge")))
    assert result.state is ROLLED_BACK
    assert handlers.log[2:] == [("hotel", 1, None), ("hotel", 2, None)]


@EVERYWHERE
def test_steps_that_nobody_can_undo_are_named_before_any_of_it_runs(start):
    handlers = Handlers(default=lambda ctx: None)
    handlers.undo = None
    result = bounded(start(handlers).run, trip(sub("book")))
    assert errors(result) == {"book": "sub-flow 'book': no rollback handler for steps: hotel, flight"}


# -- where it fails, or its time is over ---------------------------------------------------------------


@EVERYWHERE
@pytest.mark.parametrize("how", ["fails", "times out"])
def test_a_sub_flow_that_is_tried_again_is_undone_first(start, how):
    calls = []

    class Once(Trip):
        def __call__(self, ctx):
            super().__call__(ctx)
            if ctx.step.name == "pay":
                calls.append(ctx)
                if len(calls) == 1 and how == "times out":
                    ctx.sleep(60)
                elif len(calls) == 1:
                    raise ValueError("try again")
            return ctx.step.name

    book = FlowDef("book", steps=[made("hotel"), StepDef("pay")])
    handlers = Once("charge")
    engine = start(handlers, book)
    limit = 2 if how == "times out" else None
    result = bounded(engine.run, trip(sub("book", max_retries=1, timeout=limit), StepDef("charge")))
    assert handlers.log == ["hotel", "pay", "undo hotel", "hotel", "pay", "charge", "undo hotel"]
    assert (result.state, result["book"].attempts) == (ROLLED_BACK, 2)
    for attempt in (1, 2):
        child = record_of(engine, result.execution_id, "book", attempt)
        assert child is None or child.state is ROLLED_BACK


@EVERYWHERE
@pytest.mark.parametrize("how", ["fails", "times out"])
def test_a_sub_flow_that_has_left_something_is_not_run_again_and_its_step_says_so(start, how):
    class Late(Trip):
        def __call__(self, ctx):
            super().__call__(ctx)
            if ctx.step.name == "pay":
                ctx.sleep(60)
            return ctx.step.name

    book = FlowDef("book", steps=[made("hotel"), made("pay")])
    handlers = Late(stuck=["hotel"]) if how == "times out" else Trip("pay", stuck=["hotel"])
    options = {"timeout": 2, "retry_on": ("szal.StepTimeout",)} if how == "times out" else {}
    result = bounded(start(handlers, book).run, trip(made("reserve"), sub("book", max_retries=5, **options)))
    assert handlers.log == ["reserve", "hotel", "pay", "undo hotel", "undo reserve"]
    why = "flow timeout exceeded" if how == "times out" else "step 'pay' failed: ValueError: no"
    assert result["book"].error == f"sub-flow 'book' failed: {why}; not rolled back: hotel (RuntimeError: stuck)"
    assert (result["book"].attempts, result["book"].error_type) == (1, "SubFlowError")
    assert (result.state, result.rolled_back) == (FAILED, False)
    assert result.error.endswith("; not rolled back: book (hotel (RuntimeError: stuck))")


@EVERYWHERE
def test_a_sub_flow_that_is_cancelled_is_undone_with_its_parent(start):
    token = CancellationToken()

    class Cancelling(Trip):
        def __call__(self, ctx):
            if ctx.step.name == "flight":
                token.cancel()
            return super().__call__(ctx)

    handlers = Cancelling()
    result = bounded(start(handlers).run, trip(made("reserve"), sub("book"), StepDef("charge")), cancel=token)
    assert result.state is ROLLED_BACK
    assert handlers.log == ["reserve", "hotel", "flight", "undo flight", "undo hotel", "undo reserve"]


@EVERYWHERE
def test_where_nothing_rolls_back_nothing_is_undone(start):
    handlers = Trip("charge")
    result = bounded(start(handlers).run, trip(sub("book"), StepDef("charge"), rolls_back=False))
    assert (result.state, handlers.log) == (FAILED, ["hotel", "flight", "charge"])


# -- after a crash -------------------------------------------------------------------------------------

TRIP = """
    def undo(ctx):
        add(sys.argv[2], f"undo {ctx.step.name}")
        if (what := sys.argv[3]) == f"undo {ctx.step.name}":
            die()

    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        if ctx.step.name == "charge":
            raise ValueError("no")
        return ctx.step.name

    def listen(event):
        if sys.argv[3] == f"{event.event_type} {event.flow_name}":
            die()

    made = [StepDef("hotel", rollbackable=True), StepDef("flight", rollbackable=True)]
    book = FlowDef("book", steps=made)
    steps = [StepDef("book", step_type="sub_flow", config={"flow_name": "book"}), StepDef("charge")]
    flow = FlowDef("trip", steps=steps, rollback_on_failure=True)
    engine = new_engine(handler, storage=InMemoryStorage([book]), rollback_handler=undo, event_sink=listen)
    engine.run(flow, execution_id="e")
"""


def test_one_that_dies_while_a_sub_flow_is_undone_goes_on_with_that(store_url, new_engine, store, log):
    killed(TRIP, store_url, log.path, "undo hotel")
    handlers = Trip()
    engine = new_engine(handlers, storage=InMemoryStorage([BOOK]), rollback_handler=handlers.undo)
    [result] = bounded(engine.recover)
    assert log.lines == ["hotel", "flight", "charge", "undo flight", "undo hotel"]
    assert handlers.log == ["undo hotel"]
    assert (result.state, str(result["book"].status)) == (ROLLED_BACK, "rolled_back")
    assert store.get(child_id("e", "book", 1)).state is ROLLED_BACK


def test_who_cannot_undo_what_the_sub_flows_did_leaves_it_alone(store_url, new_engine, store, log):
    killed(TRIP, store_url, log.path, "undo hotel")
    assert bounded(new_engine(storage=InMemoryStorage([BOOK])).recover) == []
    assert store.get("e").state is WorkflowState.ROLLING_BACK


def test_a_sub_flow_that_completed_just_before_the_crash_is_undone_by_who_cancels(store_url, new_engine, store, log):
    """Of its step nothing is recorded."""
    killed(TRIP, store_url, log.path, "flow_completed book")
    handlers = Trip()
    engine = new_engine(handlers, storage=InMemoryStorage([BOOK]), rollback_handler=handlers.undo)
    engine.cancel("e")
    [result] = bounded(engine.recover)
    assert result.state is ROLLED_BACK
    assert handlers.log == ["undo flight", "undo hotel"]
    assert statuses(result) == {"book": "rolled_back", "charge": "skipped"}


def test_what_a_sub_flow_has_left_is_known_after_a_crash_too(store_url, new_engine, store, log):
    code = """
    def undo(ctx):
        if ctx.step.name == "reserve":
            die()
        raise RuntimeError("stuck")

    def handler(ctx):
        if ctx.step.name == "pay":
            raise ValueError("no")
        return ctx.step.name

    book = FlowDef("book", steps=[StepDef("hotel", rollbackable=True), StepDef("pay")])
    config = {"flow_name": "book"}
    steps = [StepDef("reserve", rollbackable=True), StepDef("book", step_type="sub_flow", config=config)]
    engine = new_engine(handler, storage=InMemoryStorage([book]), rollback_handler=undo)
    engine.run(FlowDef("trip", steps=steps, rollback_on_failure=True), execution_id="e")
    """
    killed(code, store_url)
    handlers = Trip()
    [result] = bounded(new_engine(handlers, storage=InMemoryStorage([BOOK]), rollback_handler=handlers.undo).recover)
    assert handlers.log == ["undo reserve"]
    assert result.state is FAILED
    assert result.error.endswith("; not rolled back: book (hotel (RuntimeError: stuck))")


class Deep(Trip):
    """What its hotel returns is an output of a step, and as a part of an output of a sub-flow nested too deeply."""

    def __call__(self, ctx):
        output = super().__call__(ctx)
        return functools.reduce(lambda inner, _: [inner], range(MAX_DEPTH), 0) if output == "hotel" else output

    def undo(self, ctx):
        self.log.append(f"undo {ctx.step.name}")
        if ctx.step.name in self.stuck:
            raise RuntimeError("stuck")


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
def test_a_sub_flow_that_completed_is_undone_though_its_step_failed(start):
    handlers = Deep()
    engine = start(handlers)
    clean_up = StepDef("clean up", rollbackable=True, depends_on=[uid("book")], trigger_mode=TriggerMode.ALL_DONE)
    reserve = made("reserve", id=uid("reserve"))
    book = sub("book", id=uid("book"), depends_on=[reserve], max_retries=2)
    flow = FlowDef("trip", FlowMode.DAG, steps=[reserve, book, clean_up], rollback_on_failure=True)
    result = bounded(engine.run, flow)
    assert handlers.log[:4] == ["reserve", "hotel", "flight", "clean up"]  # and nothing is booked again
    assert handlers.log[4:] == ["undo clean up", "undo flight", "undo hotel", "undo reserve"]
    assert result.state is ROLLED_BACK
    assert result.error.startswith("step 'book' failed: ")
    assert statuses(result) == {"reserve": "rolled_back", "book": "failed", "clean up": "rolled_back"}
    assert record_of(engine, result.execution_id, "book").state is ROLLED_BACK


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
def test_what_such_a_sub_flow_leaves_is_named(start):
    handlers = Deep(stuck=["hotel"])
    result = bounded(start(handlers).run, trip(made("reserve"), sub("book")))
    assert handlers.log[3:] == ["undo flight", "undo hotel", "undo reserve"]
    assert result.state is FAILED
    assert "; not rolled back: book (sub-flow 'book' failed: " in result.error


def test_who_goes_on_with_the_undoing_undoes_such_a_sub_flow_too(new_engine, store):
    class Interrupted(Deep):
        def undo(self, ctx):
            super().undo(ctx)
            signal.raise_signal(signal.SIGINT)

    handlers, flow = Interrupted(), trip(made("reserve"), sub("book"))
    engine = new_engine(handlers, storage=InMemoryStorage([BOOK]), rollback_handler=handlers.undo)
    for undone in ("flight", "hotel", "reserve"):
        handlers.log.clear()
        with pytest.raises(KeyboardInterrupt):
            engine.run(flow, execution_id="e")
        assert handlers.log[-1] == f"undo {undone}"
        assert not handlers.log[-2:-1] or undone == "flight"
    assert bounded(engine.resume, "e").state is ROLLED_BACK
    assert [store.get(each).state for each in ("e", child_id("e", "book", 1))] == [ROLLED_BACK] * 2


def test_an_interruption_while_a_sub_flow_is_undone_leaves_that_to_who_goes_on(new_engine, store):
    """Ctrl-C in the undo of its last step, which is heard out."""

    class Interrupted(Trip):
        def undo(self, ctx):
            super().undo(ctx)
            signal.raise_signal(signal.SIGINT)

    handlers = Interrupted("charge")
    engine = new_engine(handlers, storage=InMemoryStorage([BOOK]), rollback_handler=handlers.undo)
    with pytest.raises(KeyboardInterrupt):
        engine.run(trip(sub("book"), StepDef("charge")), execution_id="e")
    child = child_id("e", "book", 1)
    assert [store.get(each).state for each in ("e", child)] == [WorkflowState.ROLLING_BACK] * 2
    handlers = Trip()
    engine = new_engine(handlers, storage=InMemoryStorage([BOOK]), rollback_handler=handlers.undo)
    assert bounded(engine.resume, "e").state is ROLLED_BACK
    assert handlers.log == ["undo hotel"]
    assert store.get(child).state is ROLLED_BACK


def test_what_is_given_up_while_a_sub_flow_is_undone_ends_with_that(store_url, new_engine, store, log):
    killed(TRIP, store_url, log.path, "undo hotel")
    handlers = Trip()
    engine = new_engine(handlers, storage=InMemoryStorage([BOOK]), rollback_handler=handlers.undo, max_recoveries=0)
    [result] = bounded(engine.recover)
    assert (result.state, result.error) == (FAILED, "gave up after 0 recoveries")
    child = store.get(child_id("e", "book", 1))
    assert (child.state, child.error) == (FAILED, "gave up after 0 recoveries")
    assert engine.interrupted() == []


# -- a rerun -------------------------------------------------------------------------------------------


RERUN = """
    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        if ctx.step.name == "pay" and state["again"]:
            die()
        if ctx.step.name == "pay":
            raise ValueError("no")
        return ctx.step.name

    state = {"again": False}
    book = FlowDef("book", steps=[StepDef("hotel"), StepDef("pay"), StepDef("seat")])
    flow = FlowDef("trip", steps=[StepDef("book", step_type="sub_flow", config={"flow_name": "book"})])
    with new_engine(handler, storage=InMemoryStorage([book])) as engine:
        failed = engine.run(flow)
        state["again"] = True
        engine.rerun(failed.execution_id)
"""


class TestARerun:
    """The flow reserves, books by a sub-flow (hotel, pay, seat), and charges."""

    book = FlowDef("book", steps=[made("hotel"), StepDef("pay"), made("seat")])
    steps = (made("reserve", condition="!inputs.cheap"), sub("book"), StepDef("charge"))

    def failed(self, start, *broken, rolls_back=False, stuck=(), inputs=None):
        """Return an engine, its handlers, and how the flow ended."""
        handlers = Trip(*broken, stuck=stuck)
        engine = start(handlers, self.book)
        result = bounded(engine.run, trip(*self.steps, rolls_back=rolls_back), inputs)
        assert not result.success
        handlers.mend()
        return engine, handlers, result.execution_id

    def test_keeps_what_the_sub_flow_completed(self, start, store):
        engine, handlers, execution_id = self.failed(start, "pay")
        again = bounded(engine.rerun, execution_id)
        assert (again.success, handlers.log) == (True, ["pay", "seat", "charge"])
        assert again["book"].output == {"hotel": "hotel", "pay": "pay", "seat": "seat"}
        assert again["book"].attempts == 1
        child = store.get(child_id(again.execution_id, "book", 1))
        assert (child.state, child.parent_execution_id) == (COMPLETED, again.execution_id)
        assert store.get(child_id(execution_id, "book", 1)).state is FAILED

    def test_of_a_rerun_keeps_it_too(self, start, store):
        engine, handlers, execution_id = self.failed(start, "pay")
        handlers.broken.add("seat")
        again = bounded(engine.rerun, execution_id)
        assert handlers.log == ["pay", "seat"]
        handlers.mend()
        assert bounded(engine.rerun, again.execution_id).success
        assert handlers.log == ["seat", "charge"]

    def test_begins_the_sub_flow_anew_where_something_before_it_runs_again(self, start, store):
        engine, handlers, execution_id = self.failed(start, "pay", inputs={"cheap": True})
        assert bounded(engine.rerun, execution_id, inputs={"cheap": False}).success
        assert handlers.log == ["reserve", "hotel", "pay", "seat", "charge"]

    def test_from_its_step_begins_it_anew(self, start, store):
        engine, handlers, execution_id = self.failed(start, "pay")
        assert bounded(engine.rerun, execution_id, from_step="book").success
        assert handlers.log == ["hotel", "pay", "seat", "charge"]

    def test_runs_again_what_was_undone(self, start, store):
        engine, handlers, execution_id = self.failed(start, "charge", rolls_back=True)
        assert bounded(engine.rerun, execution_id).success
        assert handlers.log == ["reserve", "hotel", "pay", "seat", "charge"]

    @pytest.mark.parametrize("broken", ["pay", "charge"])
    def test_does_nothing_on_top_of_what_could_not_be_undone_unless_it_is_told_where_to_begin(
        self, start, store, broken
    ):
        engine, handlers, execution_id = self.failed(start, broken, rolls_back=True, stuck=["hotel"])
        again = bounded(engine.rerun, execution_id)
        assert "hotel" not in handlers.log
        child = child_id(execution_id, "book", 1)
        problem = f"sub-flow 'book' is not run again on top of what execution {child} has left"
        assert again["book"].error == f"{problem}: hotel (RuntimeError: stuck)"
        handlers.mend()
        assert bounded(engine.rerun, execution_id, from_step="book").success
        assert handlers.log[-4:] == ["hotel", "pay", "seat", "charge"]

    @pytest.mark.parametrize("retries", [0, 1])
    def test_of_a_rerun_does_nothing_on_top_of_what_the_first_one_left_either(self, start, retries):
        handlers = Trip("pay", stuck=["hotel"])
        engine = start(handlers, self.book)
        result = bounded(engine.run, trip(sub("book", max_retries=retries)))
        handlers.mend()
        for _ in range(3):
            result = bounded(engine.rerun, result.execution_id)
            assert (result.state, handlers.log) == (FAILED, [])

    @pytest.mark.parametrize("rolls_back", [False, True])
    def test_does_nothing_on_top_of_what_a_sub_flow_of_a_sub_flow_left(self, start, rolls_back):
        """Which has rolled back of its own, whether or not those above it do."""
        book = FlowDef("book", steps=self.book.steps, rollback_on_failure=True)
        outer = FlowDef("outer", steps=[StepDef("o"), sub("book", max_retries=1)], rollback_on_failure=rolls_back)
        handlers = Trip("pay", stuck=["hotel"])
        engine = start(handlers, book, outer)
        result = bounded(engine.run, trip(sub("outer", max_retries=1), rolls_back=rolls_back))
        assert handlers.log == ["o", "hotel", "pay", "undo hotel"]
        handlers.mend()
        for _ in range(3):
            result = bounded(engine.rerun, result.execution_id)
            assert result.state is FAILED
            assert "has left: book (hotel (RuntimeError: stuck))" in result["outer"].error
            assert handlers.log == []

    def test_of_a_rerun_keeps_what_followed_a_step_that_could_not_be_undone(self, start):
        handlers = Trip("charge", stuck=["reserve"])
        engine = start(handlers)
        result = bounded(engine.run, trip(made("reserve"), StepDef("seen"), StepDef("charge")))
        for _ in range(2):
            handlers.log.clear()
            result = bounded(engine.rerun, result.execution_id)
            assert handlers.log == ["charge", "undo reserve"]

    def test_of_a_rerun_that_skipped_the_failed_sub_flow_keeps_what_followed_that(self, start):
        handlers = Trip("pay")
        engine = start(handlers, self.book)
        result = bounded(engine.run, trip(sub("book", condition="!inputs.no"), StepDef("seen"), rolls_back=False))
        handlers.mend()
        result = bounded(engine.rerun, result.execution_id, inputs={"no": True})
        assert (result["book"].error, handlers.log) == ("condition not met", ["seen"])
        for _ in range(2):
            handlers.log.clear()
            result = bounded(engine.rerun, result.execution_id)
            assert (result.success, handlers.log) == (True, [])
        assert bounded(engine.rerun, result.execution_id, inputs={"no": False}).success
        assert handlers.log == ["pay", "seat", "seen"]  # what the sub-flow had completed is kept all the while

    def test_of_a_rerun_that_skips_what_a_sub_flow_left_is_not_rolled_back(self, start):
        handlers = Trip("pay", stuck=["hotel"])
        engine = start(handlers, self.book)
        result = bounded(engine.run, trip(sub("book", condition="!inputs.no"), StepDef("seen")))
        handlers.mend()
        handlers.broken.add("seen")
        result = bounded(engine.rerun, result.execution_id, inputs={"no": True})
        assert (result.state, handlers.log) == (FAILED, ["seen"])

    def test_that_rolls_back_undoes_what_the_sub_flow_of_the_earlier_one_did(self, start, store, new_engine):
        engine, handlers, execution_id = self.failed(start, "charge")
        registry = MigrationRegistry("trip")
        registry.register(1, 2, lambda flow: trip(*self.steps, version=2))
        engine = start(handlers, self.book, migrations={"trip": registry})
        handlers.broken.add("charge")
        again = bounded(engine.rerun, execution_id)
        assert again.state is ROLLED_BACK
        assert handlers.log == ["charge", "undo seat", "undo hotel", "undo reserve"]
        assert store.get(child_id(execution_id, "book", 1)).state is ROLLED_BACK
        handlers.mend()
        again = bounded(engine.rerun, execution_id)
        assert again.success
        assert handlers.log == ["reserve", "hotel", "pay", "seat", "charge"]

    def test_keeps_what_sub_flows_of_sub_flows_completed(self, start, store):
        outer = FlowDef("outer", steps=[made("o"), sub("book"), StepDef("end")])
        handlers = Trip("pay")
        engine = start(handlers, self.book, outer)
        failed = bounded(engine.run, trip(sub("outer"), rolls_back=False))
        handlers.mend()
        assert bounded(engine.rerun, failed.execution_id).success
        assert handlers.log == ["pay", "seat", "end"]

    def test_that_dies_in_the_sub_flow_goes_on_with_what_that_kept(self, store_url, new_engine, store, log):
        killed(RERUN, store_url, log.path)
        handlers = Trip()
        [result] = bounded(new_engine(handlers, storage=InMemoryStorage([self.book])).recover)
        assert result["book"].output == {"hotel": "hotel", "pay": "pay", "seat": "seat"}
        assert (log.lines, handlers.log) == (["hotel", "pay", "pay"], ["pay", "seat"])


@EVERYWHERE
def test_two_that_are_under_way_at_once_are_undone_one_after_the_other(start):
    """In the reverse order of their completion, which is that of their steps."""
    both = threading.Barrier(2)

    class Meeting(Trip):
        def __call__(self, ctx):
            if ctx.step.name.startswith("x"):
                both.wait(20)
            return super().__call__(ctx)

    one = FlowDef("one", steps=[made("x1"), made("y1")])
    two = FlowDef("two", steps=[made("x2"), made("y2")])
    flow = FlowDef("trip", FlowMode.DAG, rollback_on_failure=True)
    needs = [flow.add_step(sub(name)) for name in ("one", "two")]
    flow.add_step(StepDef("charge", depends_on=needs))
    handlers, told = Meeting("charge"), []
    engine = start(handlers, one, two, event_sink=told.append)
    result = bounded(engine.run, flow)
    assert result.state is ROLLED_BACK
    order = [event.step_name for event in told if event.event_type == "step_completed" and event.flow_name == "trip"]
    numbers = [name[-1] for name in handlers.log[-4:]]
    assert numbers == [{"one": "1", "two": "2"}[name] for name in reversed(order) for _ in range(2)]
