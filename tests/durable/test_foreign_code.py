"""Foreign code: whatever a handler raises, or what the program brings does, the run ends in order and recorded."""

import logging
import pickle
import sys
from decimal import Decimal

import pytest
from helper_engine import bounded

from szal import (
    CancellationToken,
    EncodeError,
    Engine,
    EngineClosed,
    FlowDef,
    FlowMode,
    GiveUp,
    Handlers,
    InMemoryStorage,
    RetryAfter,
    ShellFailed,
    SkipStep,
    StepDef,
    StepError,
    StepTimeout,
    StoreError,
    SzalError,
    WorkflowState,
)
from szal.errors import MAX_TEXT, LeaseLost, RetryExhausted, StoreUnavailable, SubFlowError
from szal.model.state import StepStatus, Stop


class Wordless(StepError):
    """An application's own subclass of an exported class."""

    def __str__(self):
        return self.nothing


class Exits(Exception):
    def __str__(self):
        raise SystemExit(3)


class NoText(Exception):
    def __str__(self):
        return 42  # noqa: PLE0307


class Stubborn(Exception):
    """One that does not let itself be looked at."""

    def with_traceback(self, trace):
        raise RuntimeError("no")

    @property
    def __cause__(self):
        raise RuntimeError("nor this")


class LateRetry(RetryAfter):
    seconds = Decimal("0.5")

    def __init__(self):
        pass


class Judge(type):
    def __instancecheck__(cls, other):
        raise SystemExit(1)


class Judged(Exception, metaclass=Judge):
    pass


def liar(kind):
    """Return a class whose exceptions say that they are of another one; a function is called instead."""
    answer = property(kind if not isinstance(kind, type) else lambda _: kind)
    return type(f"Liar{getattr(kind, '__name__', '')}", (Exception,), {"__class__": answer})


def refuse(*_):
    raise RuntimeError("no")


class Nameless(type):
    __name__ = property(refuse)
    __eq__ = __subclasscheck__ = refuse
    __hash__ = type.__hash__


IN_THE_WAY = [
    liar(refuse),
    *(liar(kind) for kind in (KeyboardInterrupt, StepTimeout, SkipStep, RetryAfter, StoreError, EngineClosed)),
    type("Silent", (Exception,), {"__getattribute__": refuse}),
    type("Rigid", (Exception,), {"__setattr__": refuse}),
    type("Unlike", (Exception,), {"__eq__": refuse, "__hash__": refuse, "__bool__": refuse, "__repr__": refuse}),
    type("Gone", (GiveUp,), {"__copy__": lambda _: None, "__init__": lambda _: None, "__str__": refuse}),
    type("Turned", (GiveUp,), {"with_traceback": lambda *_: None}),
    Nameless("Named", (Exception,), {}),
]


def in_a_circle():
    one, other = ValueError("a"), ValueError("b")
    one.__cause__, other.__cause__ = other, one
    return one


BAD = {
    "decimal": lambda: RetryAfter(Decimal("0.5")),
    "big": lambda: RetryAfter(10**400),
    "late": LateRetry,
    "wordless": Wordless,
    "exits": lambda: Exits("x"),
    "no text": NoText,
    "stubborn": Stubborn,
    "no limit": lambda: StepTimeout("s", None),
    "no status": lambda: ShellFailed("make", "1", "oops"),
    "no attempts": lambda: RetryExhausted("s", None, None),
    "no problem": lambda: SubFlowError(None),
    "no reason": lambda: SkipStep(None),
    "given up": lambda: GiveUp(404),
    "circle": in_a_circle,
    "surrogate": lambda: ValueError("bad \udc80 name"),
    "nul": lambda: ValueError("bad \0 name"),
    "huge": lambda: ValueError("x" * 5_000_000),
    "group": lambda: ExceptionGroup("g", [ValueError("a"), ExceptionGroup("h", [KeyError("b")])]),
}


def undoing(*steps, mode=FlowMode.SEQUENTIAL):
    """Return a flow that undoes its first step, and then fails."""
    return FlowDef("f", mode, steps=[StepDef("pay", rollbackable=True), *steps], rollback_on_failure=True)


def state_of(engine, execution_id):
    return engine.config.execution_store.get(execution_id).state


class TestWhateverAHandlerRaises:
    @pytest.mark.parametrize("inline", [True, False], ids=["inline", "on a worker"])
    @pytest.mark.parametrize("name", BAD)
    @pytest.mark.parametrize("kind", ["sqlite"])
    def test_is_its_steps_failure(self, new_engine, name, inline):
        undone = []

        def handler(ctx):
            if ctx.step.name == "bad":
                error = BAD[name]()
                raise error

        engine = new_engine(handler, rollback_handler=lambda ctx: undone.append(ctx.step.name))
        bad = StepDef("bad", max_retries=1, retry_delay=0, timeout=None if inline else 60)
        result = bounded(engine.run, undoing(bad), execution_id="x")
        assert result.state is state_of(engine, "x") is WorkflowState.ROLLED_BACK
        assert undone == ["pay"]
        assert str(result["bad"].status) == "failed"
        stored = engine.config.execution_store.get("x").result["bad"]
        assert isinstance(stored.error, str)

    @pytest.mark.parametrize("retries", [0, 1])
    @pytest.mark.parametrize("where", ["inline", "on a daemon thread", "on the pool", "undone"])
    @pytest.mark.parametrize("index", range(len(IN_THE_WAY)))
    @pytest.mark.parametrize("kind", ["memory"])
    def test_is_so_where_it_does_not_tell_what_it_is(self, new_engine, index, where, retries):
        raising, undone = IN_THE_WAY[index], []

        def handler(ctx):
            if where == "undone":
                raise ValueError("no")
            if where != "on the pool" or ctx.step.name == "bad":
                raise raising()

        def undo(ctx):
            undone.append(ctx.step.name)
            if where == "undone":
                raise raising()

        steps = [StepDef("bad", max_retries=retries, retry_delay=0, timeout=60 if "daemon" in where else None)]
        if where == "on the pool":
            steps.append(StepDef("beside"))
        pay = StepDef("pay", rollbackable=True, max_retries=retries, retry_delay=0)
        handlers = Handlers(handler)
        handlers.step("pay")(lambda _: 1)
        engine = new_engine(handlers, rollback_handler=undo)
        mode = FlowMode.PARALLEL if where == "on the pool" else FlowMode.SEQUENTIAL
        flow = FlowDef("f", mode, steps=[pay, *steps], rollback_on_failure=True)
        result = bounded(engine.run, flow, execution_id="x")
        assert result.state is state_of(engine, "x")
        assert undone[0] == "pay"
        assert result.state.is_terminal == (where != "undone")
        assert pickle.loads(pickle.dumps(result))["pay"].status is result["pay"].status
        if not result.success:
            with pytest.raises(SzalError):
                result.raise_for_failure()

    @pytest.mark.parametrize("name", ["wordless", "exits", "surrogate", "nul", "huge"])
    @pytest.mark.parametrize("kind", ["postgres"])
    def test_can_be_recorded(self, new_engine, name):
        def handler(ctx):
            error = BAD[name]()
            raise error

        engine = new_engine(handler)
        assert bounded(engine.run, FlowDef("f", steps=[StepDef("a")]), execution_id="x").state is WorkflowState.FAILED
        assert state_of(engine, "x") is WorkflowState.FAILED

    def test_is_so_where_its_class_decides_by_itself_what_it_is(self, new_engine):
        def handler(ctx):
            raise ValueError("no")

        engine = new_engine(handler)
        step = StepDef("a", max_retries=3, retry_on=Judged)
        result = bounded(engine.run, FlowDef("f", steps=[step]), execution_id="x")
        assert (result["a"].error, result["a"].attempts) == ("ValueError: no", 1)
        assert state_of(engine, "x") is WorkflowState.FAILED

    def test_a_message_of_megabytes_is_cut_and_its_length_told(self, new_engine):
        def handler(ctx):
            raise ValueError(f"begin{'x' * 5_000_000}end")

        engine = new_engine(handler)
        result = bounded(engine.run, FlowDef("f", steps=[StepDef("a", max_retries=1, retry_delay=0)]), execution_id="x")
        error = engine.config.execution_store.get("x").error
        assert error == result.error
        assert len(error) < MAX_TEXT + 200
        assert "ValueError: beginxxx" in error
        assert "[... cut: 5000008 characters in all ...]" in error
        assert error.endswith("xxxend")

    def test_many_long_ones_are_cut_where_they_come_together(self, new_engine):
        def undo(ctx):
            raise ValueError("x" * 30_000)

        engine = new_engine(rollback_handler=undo)
        steps = [StepDef(f"s{number}", rollbackable=True) for number in range(20)]
        bad = StepDef("bad", step_type="sub_flow", config={"flow_name": "{{inputs.nothing?}}"})
        result = bounded(engine.run, FlowDef("f", steps=[*steps, bad], rollback_on_failure=True), execution_id="x")
        assert result.error.startswith("step 'bad' failed: sub_flow step requires config.flow_name")
        assert "not rolled back: s0 " in result.error
        assert "cut: 60" in result.error
        assert len(result.error) < MAX_TEXT + 200

    def test_the_name_of_a_class_is_cut_too(self, new_engine):
        def handler(ctx):
            raise type("Long" * 1_000_000, (Exception,), {})("no")

        result = bounded(new_engine(handler).run, FlowDef("f", steps=[StepDef("a")]), execution_id="x")
        assert len(result["a"].error_type) == len(result["a"].error) == MAX_TEXT
        assert len(result.error) < MAX_TEXT + 200


class TestAnOutputThatRuns:
    def test_code_when_it_is_looked_at_fails_the_step_that_asks(self):
        class Touchy(dict):
            def touch(self, *_):
                raise SystemExit(1)

            __getitem__ = __contains__ = get = items = touch

        flow = FlowDef("f", steps=[StepDef("a"), StepDef("b", condition="steps.a.output.x == 1")])
        with Engine(lambda ctx: Touchy()) as engine:
            result = bounded(engine.run, flow)
        assert result["b"].error == "SystemExit: 1"


class TestLogging:
    """A filter or a handler of the program's logging raises."""

    @pytest.fixture(params=["filter", "handler"])
    def broken(self, request):
        def fail(*_):
            raise RuntimeError("broken logging")

        names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "szal"]
        loggers = [logging.getLogger(name) for name in [*names, "szal.step"]]
        handler = logging.Handler()
        handler.emit = fail
        for each in loggers:
            each.addFilter(fail) if request.param == "filter" else each.addHandler(handler)
        yield
        for each in loggers:
            each.removeFilter(fail)
            each.removeHandler(handler)

    @pytest.mark.usefixtures("broken")
    @pytest.mark.parametrize("where", ["time-out", "sink", "metrics", "progress", "undo", "log"])
    def test_the_run_ends_as_it_would(self, new_engine, where):
        def fail(*_):
            raise ValueError("no")

        def handler(ctx):
            if ctx.step.name == "b":
                if limited:
                    ctx.sleep(60)
                ctx.report(1)
                ctx.log.error("no %s", "luck")

        undone, limited = [], where in ("time-out", "undo")
        config = {"sink": "event_sink", "metrics": "step_type_metrics", "progress": "progress_sink"}
        settings = {config[where]: fail} if where in config else {}
        undo = fail if where == "undo" else lambda ctx: undone.append(ctx.step.name)
        engine = new_engine(handler, rollback_handler=undo, **settings)
        result = bounded(engine.run, undoing(StepDef("b", timeout=0.02 if limited else 60)), execution_id="x")
        expected = {"time-out": WorkflowState.ROLLED_BACK, "undo": WorkflowState.FAILED}
        assert result.state is state_of(engine, "x") is expected.get(where, WorkflowState.COMPLETED)


class Token(CancellationToken):
    """A token that breaks when it is asked for the second time: by the sub-flow that begins."""

    def __init__(self):
        super().__init__()
        self.asked = []

    @property
    def cancelled(self):
        self.asked.append(None)
        if len(self.asked) > 1:
            raise ZeroDivisionError("a broken token")
        return False


@pytest.mark.parametrize("error", [SkipStep("no"), StoreUnavailable("s", "away"), LeaseLost("e")], ids=repr)
def test_what_a_storage_of_sub_flows_raises_is_its_steps_failure_whatever_it_means_elsewhere(new_engine, error):
    class Storage(InMemoryStorage):
        def get_by_name(self, name):
            raise error

    step = StepDef("sub", step_type="sub_flow", config={"flow_name": "child"}, max_retries=1, retry_delay=0.0)
    result = bounded(new_engine(storage=Storage()).run, FlowDef("f", steps=[step]))
    assert (result.state, result["sub"].status, result["sub"].attempts) == (
        WorkflowState.FAILED,
        StepStatus.FAILED,
        2,
    )
    assert "the storage of sub-flows failed: " in result["sub"].error


class TestTheLastNet:
    def test_what_nothing_else_has_caught_ends_the_run_in_order(self, new_engine):
        undone = []
        child = FlowDef("child", steps=[StepDef("never")])
        step = StepDef("sub", step_type="sub_flow", config={"flow_name": "child"})
        engine = new_engine(
            storage=InMemoryStorage([child]),
            rollback_handler=lambda ctx: undone.append(ctx.step.name),
        )
        flow = undoing(step, StepDef("after"))
        flow.steps[0] = StepDef("sleep", step_type="sleep", config={"seconds": 0}, rollbackable=True)
        with pytest.raises(ZeroDivisionError, match="a broken token"):
            bounded(engine.run, flow, execution_id="x", cancel=Token())
        record = engine.config.execution_store.get("x")
        assert (record.state, record.stop) == (WorkflowState.ROLLED_BACK, Stop.BROKEN)
        assert record.error == "ZeroDivisionError: a broken token"
        assert undone == ["sleep"]
        assert record.result["after"].error == "flow failed"


class TestALimitOfSubFlows:
    def test_is_recorded_and_undone_at_every_level(self, new_engine):
        undone = []
        loop = undoing(StepDef("again", step_type="sub_flow", config={"flow_name": "f"}, max_retries=3, retry_delay=0))
        engine = new_engine(
            storage=InMemoryStorage([loop]), rollback_handler=lambda ctx: undone.append(ctx.execution_id), max_depth=3
        )
        result = bounded(engine.run, loop, execution_id="x")
        store = engine.config.execution_store
        records = [store.get(execution_id) for execution_id in store.list()]
        assert len(records) == 4
        assert {record.state for record in records} == {WorkflowState.ROLLED_BACK}
        assert {record.stop for record in records} == {Stop.OVER_LIMIT}
        assert {record.error for record in records} == {"sub-flow 'f' is nested more than 3 deep (max_depth)"}
        assert result.error == records[0].error
        assert len(set(undone)) == 4

    def test_a_bad_wait_is_not_tried_again(self, new_engine):
        engine = new_engine()
        config = {"signal": "go", "timeout": "{{inputs.when}}"}
        step = StepDef("w", step_type="wait", config=config, max_retries=3, retry_delay=0)
        result = bounded(engine.run, FlowDef("f", steps=[step]), {"when": "soon"}, execution_id="x")
        assert result["w"].error == "config.timeout must be a number of seconds, not 'soon'"
        assert result["w"].attempts == 1


@pytest.mark.parametrize("labels", [{"customer": 7}, {"customer": None}, {7: "customer"}], ids=repr)
def test_a_label_that_is_no_text_is_refused_before_anything_is_recorded(new_engine, labels):
    engine = new_engine()
    with pytest.raises(EncodeError, match="labels"):
        engine.run(FlowDef("f", steps=[StepDef("a")]), execution_id="x", labels=labels)
    assert engine.config.execution_store.get("x") is None


class TestNumbersThatNoDatabaseHolds:
    @pytest.mark.parametrize("seconds", [sys.float_info.max, 2**63, 10**300], ids=["float", "2**63", "10**300"])
    def test_are_a_long_time(self, new_engine, seconds):
        engine = new_engine(lease_ttl=seconds, timeout=seconds)
        limited = StepDef("a", timeout=seconds, max_retries=1, retry_delay=seconds, max_retry_delay=seconds)
        waiting = StepDef("w", step_type="wait", config={"signal": "go", "timeout": seconds})
        flow = FlowDef("f", steps=[limited, waiting], timeout=seconds)
        assert bounded(engine.run, flow, execution_id="x").state is WorkflowState.PAUSED
        again = new_engine(lease_ttl=seconds)
        again.signal("x", "go")
        assert bounded(again.resume, "x").state is WorkflowState.COMPLETED


def test_the_definition_stays_what_it_was_whatever_handlers_do_to_their_config(new_engine):
    engine = new_engine(lambda ctx: ctx.config.pop("token"))
    flow = FlowDef("f", steps=[StepDef("a", config={"token": "t"})])
    for _ in range(2):
        assert bounded(engine.run, flow, execution_id="x").state is WorkflowState.COMPLETED
