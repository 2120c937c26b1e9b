"""`EngineConfig.around` after an approval and after a crash: it is the engine's that goes on."""

from contextlib import contextmanager
from contextvars import ContextVar

from szal import FlowDef, Handlers, StepDef

REQUEST: ContextVar[str | None] = ContextVar("request", default=None)


def within(name, log):
    @contextmanager
    def request(ctx):
        log.append(f"{name} {ctx.step.name}{' undo' if ctx.reason else ''}")
        token = REQUEST.set(name)
        yield
        REQUEST.reset(token)

    return [request]


def test_whoever_goes_on_brings_its_own(new_engine):
    log = []
    steps = [StepDef("ask"), StepDef("ok", step_type="wait", config={"signal": "go"}), StepDef("pay")]
    flow = FlowDef("shop", steps=steps)
    with new_engine(lambda ctx: REQUEST.get(), around=within("first", log)) as engine:
        engine.run(flow, execution_id="a")
    with new_engine(lambda ctx: REQUEST.get(), around=within("second", log)) as engine:
        engine.signal("a", "go")
        assert engine.resume("a").outputs == {"ask": "first", "ok": None, "pay": "second"}
    assert log == ["first ask", "second pay"]


def test_an_undo_after_an_approval_is_within(new_engine):
    log, handlers = [], Handlers(lambda ctx: 1 / 0 if ctx.step.name == "pay" else None)
    handlers.rollback("ask")(lambda ctx: REQUEST.get())
    steps = [StepDef("ask"), StepDef("ok", step_type="wait", config={"signal": "go"}), StepDef("pay")]
    flow = FlowDef("shop", steps=[StepDef("ask", rollbackable=True), *steps[1:]], rollback_on_failure=True)
    with new_engine(handlers, around=within("first", log)) as engine:
        engine.run(flow, execution_id="a")
    with new_engine(handlers, around=within("second", log)) as engine:
        engine.signal("a", "go")
        result = engine.resume("a")
    assert (result.rolled_back, result["ask"].undo_output) == (True, "second")
    assert log == ["first ask", "second pay", "second ask undo"]
