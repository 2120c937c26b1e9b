"""Running a flow again with outputs given, and under an id of one's own; starting one with a signal."""

import threading

import pytest
from durable.children import killed
from helper_engine import waited

from szal import (
    EncodeError,
    Engine,
    ExecutionNotFound,
    ExecutionOwned,
    FlowDef,
    FlowMode,
    Handlers,
    Part,
    StepDef,
    SzalError,
    WorkflowState,
)


def chain(*names, **options):
    """A flow of such steps, one after the other."""
    return FlowDef("chain", steps=[StepDef(name) for name in names], **options)


class Handler:
    """Fails the steps in `broken`; `ran` names those it was called for, with what the one before had returned."""

    def __init__(self, *broken):
        self.broken = set(broken)
        self.ran = []

    def __call__(self, ctx):
        self.ran.append(ctx.step.name)
        if ctx.step.name in self.broken:
            raise ValueError("broken")
        return [ctx.step.name, *ctx.outputs.values()]


# -- outputs ------------------------------------------------------------------------------------------


def test_a_step_whose_output_is_given_does_not_run_and_what_follows_sees_it(new_engine):
    handler = Handler("b")
    engine = new_engine(handler)
    failed = engine.run(chain("a", "b", "c"))
    handler.ran.clear()
    done = engine.rerun(failed.execution_id, outputs={"b": {"rows": 3}})
    assert done.success
    assert handler.ran == ["c"]
    assert done["b"].output == {"rows": 3}
    assert done["b"].attempts == 0
    assert done["c"].output == ["c", ["a"], {"rows": 3}]


def test_what_comes_after_a_given_output_runs_again_though_it_completed(new_engine):
    handler = Handler()
    engine = new_engine(handler)
    flow = FlowDef("dag", FlowMode.DAG)
    a, beside = flow.add_step(StepDef("a")), flow.add_step(StepDef("beside"))
    b = flow.add_step(StepDef("b", depends_on=[a]))
    flow.add_step(StepDef("c", depends_on=[b, beside]))
    engine.run(flow, execution_id="e")
    handler.ran.clear()
    done = engine.rerun("e", outputs={"a": 1})
    assert handler.ran == ["b", "c"]
    assert done["c"].output[0] == "c"
    handler.ran.clear()
    assert engine.rerun("e", outputs={"a": 1, "b": 2})["b"].output == 2
    assert handler.ran == ["c"]


def test_a_rerun_of_that_rerun_keeps_what_was_given(new_engine):
    handler = Handler("c")
    engine = new_engine(handler)
    engine.run(chain("a", "b", "c"), execution_id="e")
    engine.rerun("e", outputs={"b": "given"}, new_id="e2")
    handler.broken.clear()
    handler.ran.clear()
    done = engine.rerun("e2")
    assert handler.ran == ["c"]
    assert done.outputs == {"a": ["a"], "b": "given", "c": ["c", ["a"], "given"]}


def test_what_was_given_is_not_undone_with_the_rerun(new_engine):
    undone, broken = [], {"b", "c"}
    handlers = Handlers()
    for name in ("a", "b", "c"):

        @handlers.step(name)
        def do(ctx):
            if ctx.step.name in broken:
                raise ValueError

        @handlers.rollback(name)
        def undo(ctx):
            undone.append(ctx.step.name)

    flow = FlowDef("f", steps=[StepDef(name, rollbackable=True) for name in ("a", "b", "c")], rollback_on_failure=True)
    engine = new_engine(handlers)
    engine.run(flow, execution_id="e")
    undone.clear()
    again = engine.rerun("e", outputs={"b": 1})
    assert again.state is WorkflowState.ROLLED_BACK
    assert undone == ["a"]


def test_a_given_output_decides_a_step_of_which_nobody_knows(store_url, new_engine):
    killed(
        """
    def handler(ctx):
        if ctx.step.name == "pay":
            die()
    flow = FlowDef("f", steps=[StepDef("pay", idempotent=False), StepDef("mail")])
    new_engine(handler).run(flow, execution_id="e")
    """,
        store_url,
    )
    handler = Handler()
    engine = new_engine(handler)
    assert engine.resume("e").state is WorkflowState.PAUSED
    with pytest.raises(ValueError, match="may have been done"):
        engine.rerun("e")
    done = engine.rerun("e", outputs={"pay": "receipt 7"})
    assert done.outputs == {"pay": "receipt 7", "mail": ["mail", "receipt 7"]}
    assert handler.ran == ["mail"]


def test_a_wait_whose_output_is_given_is_over(new_engine):
    engine = new_engine(Handler())
    flow = FlowDef("f", steps=[StepDef("ask", step_type="wait", config={"signal": "ok"}), StepDef("pay")])
    engine.run(flow, execution_id="e")
    engine.cancel("e"), engine.resume("e")
    assert engine.rerun("e", outputs={"ask": "yes"})["pay"].output == ["pay", "yes"]


def test_a_rerun_with_outputs_survives_a_crash(store_url, new_engine):
    engine = new_engine(Handler("b"))
    engine.run(chain("a", "b", "c"), execution_id="e")
    killed(
        """
    def handler(ctx):
        if ctx.step.name == "c":
            die()
    new_engine(handler, durability="step").rerun("e", outputs={"b": 5}, new_id="e2")
    """,
        store_url,
    )
    handler = Handler()
    again = new_engine(handler)
    assert [result.outputs["c"] for result in again.recover()] == [["c", ["a"], 5]]
    assert handler.ran == ["c"]


def test_what_is_wrong_with_outputs_is_told_and_nothing_is_begun(new_engine, store):
    engine = new_engine(Handler("b"))
    flow = chain("extract", "b")
    flow.add_step(StepDef("tell", finally_=True))
    engine.run(flow, execution_id="e")
    for outputs, told in (
        ({"extrct": 1}, "no step 'extrct' in this flow; did you mean 'extract'"),
        ({1: 1}, "no step 1 in this flow"),
        ({"tell": 1}, "finally step"),
    ):
        with pytest.raises(ValueError, match=told):
            engine.rerun("e", outputs=outputs)
    with pytest.raises(ValueError, match="is the step that is to run again"):
        engine.rerun("e", "b", outputs={"b": 1})
    with pytest.raises(EncodeError, match=r"outputs\['b'\]"):
        engine.rerun("e", outputs={"b": object()})
    with pytest.raises(ValueError, match="do not go with a part"):
        engine.rerun("e", flow=Part.only(flow, "b"), outputs={"extract": 1})
    assert store.list() == ["e"]


# -- an id of its own ---------------------------------------------------------------------------------


def test_a_rerun_under_one_id_happens_once(new_engine, store):
    handler = Handler("b")
    engine = new_engine(handler)
    engine.run(chain("a", "b"), execution_id="e")
    handler.broken.clear()
    handler.ran.clear()
    first, second = (engine.rerun("e", new_id="e2") for _ in range(2))
    assert first == second
    assert first.execution_id == "e2"
    assert handler.ran == ["b"]
    store.remove("e")
    assert engine.rerun("e", new_id="e2") == first  # also once what it was made of is gone
    with pytest.raises(ExecutionNotFound):
        engine.rerun("e", new_id="e3")


def test_a_rerun_that_was_cut_off_goes_on_under_its_id(store_url, new_engine):
    engine = new_engine(Handler("b"))
    engine.run(chain("a", "b", "c"), execution_id="e")
    killed(
        """
    def handler(ctx):
        if ctx.step.name == "c":
            die()
    new_engine(handler, durability="step").rerun("e", new_id="e2")
    """,
        store_url,
    )
    handler = Handler()
    assert new_engine(handler).rerun("e", new_id="e2").success
    assert handler.ran == ["c"]


# -- a signal with the start ---------------------------------------------------------------------------

WAITS = FlowDef("waits", steps=[StepDef("ask", step_type="wait", config={"signal": "approve"}), StepDef("pay")])


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
@pytest.mark.parametrize("name", [None, "order"])
def test_a_flow_is_started_with_a_signal(new_engine, durability, name):
    engine = new_engine(Handler(), durability=durability)
    execution = engine.start(WAITS, execution_id=name, signal=("approve", {"by": "ann"}))
    assert execution.result(20).outputs == {"ask": {"by": "ann"}, "pay": ["pay", {"by": "ann"}]}


def test_it_is_sent_once_however_often_the_flow_is_started(new_engine):
    twice = FlowDef("twice", steps=[StepDef(n, step_type="wait", config={"signal": "approve"}) for n in ("one", "two")])
    engine = new_engine(Handler())
    for _ in range(3):
        result = engine.start(twice, execution_id="order", signal=("approve", 1)).result(20)
        assert result.state is WorkflowState.PAUSED
    assert engine.signal("order", "approve", 2)
    assert engine.resume("order").outputs == {"one": 1, "two": 2}
    assert engine.start(twice, execution_id="order", signal=("approve", 3)).result(20).outputs == {"one": 1, "two": 2}


def test_what_runs_elsewhere_is_sent_it_too(new_engine):
    begun, go = threading.Event(), threading.Event()
    flow = FlowDef("f", steps=[StepDef("work"), StepDef("ask", step_type="wait", config={"signal": "approve"})])
    first = new_engine(lambda ctx: (begun.set(), waited(go))[1])
    execution = first.start(flow, execution_id="e")
    waited(begun)
    other = new_engine(Handler())
    for engine in (other, first):
        with pytest.raises(ExecutionOwned):
            engine.start(flow, execution_id="e", signal=("approve", 7))
    go.set()
    result = execution.result(20)
    assert (result if result.success else first.resume("e"))["ask"].output == 7


def test_a_signal_that_cannot_be_sent_keeps_the_flow_from_starting(new_engine, store):
    engine = new_engine(Handler())
    with pytest.raises(EncodeError):
        engine.start(WAITS, execution_id="e", signal=("approve", object()))
    assert store.list() == []
    with Engine(Handler()) as unrecorded, pytest.raises(SzalError, match="szal's own stores"):
        unrecorded.start(WAITS, signal=("approve", 1))


@pytest.mark.parametrize("new_id", ["one", "other"])
def test_an_id_that_is_no_rerun_of_that_execution_is_refused(new_engine, new_id):
    engine, flow = new_engine(Handler()), chain("a")
    for execution_id in ("one", "other"):
        engine.run(flow, execution_id=execution_id)
    with pytest.raises(ValueError, match=f"execution {new_id} is there already, and is no rerun of one: give another"):
        engine.rerun("one", "a", new_id=new_id)
    assert engine.rerun("one", "a", new_id="new").success
    assert engine.run(flow, execution_id="new").success
    with pytest.raises(ValueError, match="is no rerun of other"):
        engine.rerun("other", new_id="new")


def test_outputs_are_by_step(new_engine):
    engine = new_engine(Handler())
    engine.run(chain("a"), execution_id="e")
    with pytest.raises(TypeError, match="outputs must be a mapping of steps to their outputs, not list"):
        engine.rerun("e", outputs=["a"])


@pytest.mark.parametrize("signal", ["go", ("go",), ("go", 1, 2), {"go": 1}])
def test_a_signal_to_start_with_is_a_name_and_a_value(new_engine, signal):
    engine = new_engine()
    with pytest.raises(TypeError, match=r"signal must be a name and a value, as in \('approve', True\)"):
        engine.start(chain("a"), execution_id="e", signal=signal)
    with pytest.raises(ValueError, match="the name of the signal is empty"):
        engine.start(chain("a"), execution_id="e", signal=("", 1))
    with pytest.raises(ExecutionNotFound):
        engine.look("e")
