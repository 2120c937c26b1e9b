"""A flow run in a test: at once, in memory, and with nothing really done that has a fake."""

import json
import threading
from unittest.mock import Mock, create_autospec

import pytest
from helper_engine import bounded, errors, statuses

from szal import (
    Flow,
    FlowDef,
    FlowMode,
    GiveUp,
    HandlerNotFound,
    InvalidInputs,
    NotAHandler,
    SkipStep,
    StepDef,
    UnknownOutcome,
    WorkflowState,
    each,
    open_store,
)
from szal.testing import FakeClock, engine, run_flow

HOUR = 3600.0


def never(*args, **kwargs):
    raise AssertionError("this was really done")


def wait(name, **config):
    return StepDef(name, step_type="wait", config={"signal": name, **config})


def order_flow():
    order = Flow("order", rollback_on_failure=True)

    @order.step(max_retries=2, retry_delay=HOUR)
    def charge(ctx, amount, currency="EUR"):
        never()

    @charge.rollback
    def refund(charge):
        never()

    @order.step
    def ship(charge, address):
        never()

    return order


GIVEN = {"amount": 7, "address": "Kossuth tér 1"}


@pytest.fixture
def order():
    return order_flow()


# -- fakes ----------------------------------------------------------------------------------------------


def test_a_fake_is_the_output_itself(order):
    result = run_flow(order, GIVEN, fakes={"charge": {"id": "c1"}, "ship": None})
    assert result.outputs == {"charge": {"id": "c1"}, "ship": None}


def test_each_step_has_an_output_of_its_own(order):
    seen = []
    charged = {"lines": []}

    def ship(charge):
        charge["lines"].append(1)
        seen.append(charge)

    for _ in range(2):
        run_flow(order, GIVEN, fakes={"charge": charged, "ship": ship}, store=None)
    assert charged == {"lines": []}
    assert seen == [{"lines": [1]}] * 2


@pytest.mark.parametrize("error", [ConnectionError, ConnectionError("down")])
def test_an_exception_is_raised_at_each_attempt(order, error):
    result = run_flow(order, GIVEN, fakes={"charge": error, "ship": never}, undos={"charge": never})
    assert (result["charge"].attempts, result.total_duration) == (3, 2 * HOUR)
    assert "ConnectionError" in result["charge"].error
    assert result.state is WorkflowState.ROLLED_BACK


@pytest.mark.parametrize(
    ("error", "ends"), [(GiveUp("no licence"), "failed"), (SkipStep("closed"), "skipped"), (SkipStep, "skipped")]
)
def test_what_an_exception_tells_the_engine_holds(order, error, ends):
    result = run_flow(order, GIVEN, fakes={"charge": error, "ship": "shipped"}, undos={"charge": None})
    assert (str(result["charge"].status), result["charge"].attempts) == (ends, 1)


def test_a_function_is_bound_as_the_steps_own(order):
    def charge(ctx, amount, currency="HUF"):
        assert ctx.step.name == "charge"
        if ctx.attempt == 1:
            raise ConnectionError("down")
        return f"{amount} {currency}"

    result = run_flow(order, GIVEN, fakes={"charge": charge, "ship": lambda charge, address: f"{charge} to {address}"})
    assert result["ship"].output == "7 HUF to Kossuth tér 1"
    assert result["charge"].duration == HOUR


def test_a_mock_is_called_as_the_steps_own_function(order):
    charge, ship = Mock(return_value="c1"), Mock(side_effect=OSError("no stock"))
    refund = Mock(return_value="refunded")
    result = run_flow(order, GIVEN, fakes={"charge": charge, "ship": ship}, undos={"charge": refund})
    assert charge.call_args.kwargs.keys() == {"ctx", "amount", "currency"}
    assert charge.call_args.kwargs["currency"] == "EUR"
    ship.assert_called_once_with(charge="c1", address="Kossuth tér 1")
    refund.assert_called_once_with(charge="c1")
    assert result["charge"].undo_output == "refunded"


def test_so_is_one_with_a_signature(order):
    def charge(amount): ...

    fake = create_autospec(charge, return_value="c1")
    run_flow(order, GIVEN, fakes={"charge": fake, "ship": None})
    fake.assert_called_once_with(amount=7)


def test_another_step_is_a_function_too(order):
    other = Flow("other")

    @other.step
    def charge(amount):
        return amount * 2

    assert run_flow(order, GIVEN, fakes={"charge": charge, "ship": None})["charge"].output == 14


def test_items_of_a_list_have_it_too():
    flow = Flow("f")

    @flow.step(foreach=each("files"))
    def thumb(item):
        never()

    fake = lambda item, index: f"{index}: {item}"  # noqa: E731
    assert run_flow(flow, {"files": ["a", "b"]}, fakes={"thumb": fake})["thumb"].output == ["0: a", "1: b"]


def test_a_step_without_a_fake_is_really_done():
    flow, done = Flow("f"), []

    @flow.step
    def real():
        done.append(1)
        return "real"

    assert run_flow(flow)["real"].output == "real"
    assert done == [1]


def test_steps_included_from_another_flow_take_what_they_took_there():
    table, etl = Flow("table"), Flow("etl")

    @table.step
    def extract(day):
        never()

    @table.step
    def load(extract):
        never()

    etl.include(table, prefix="eu_")
    mock = Mock(return_value=1)
    result = run_flow(etl, {"day": "Monday"}, fakes={"eu_extract": lambda day: [day], "eu_load": mock})
    mock.assert_called_once_with(extract=["Monday"])
    assert result.success


def test_steps_of_a_flow_that_is_data_have_fakes():
    flow = FlowDef("ci", inputs={"branch": "main"}, steps=[
        StepDef("build", step_type="shell", config={"run": "exit 3"}),
        StepDef("test", step_type="python", config={"call": "no.such:function"}),
        StepDef("tell", condition="steps.test.output.failed == 1"),
    ])  # fmt: skip
    fakes = {
        "build": {"exit_code": 0, "stdout": "", "stderr": ""},
        "test": lambda build, branch: {"failed": 1, "of": branch, "exit": build["exit_code"]},
        "tell": lambda ctx: f"told {ctx.outputs['test']['of']}",
    }
    assert run_flow(flow, fakes=fakes)["tell"].output == "told main"


def test_handlers_of_such_a_flow_are_given():
    flow = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
    result = run_flow(flow, handler=lambda ctx: ctx.step.name, fakes={"b": "fake"})
    assert result.outputs == {"a": "a", "b": "fake"}
    with pytest.raises(HandlerNotFound, match="no handler for step: b"):
        run_flow(flow, fakes={"a": 1})


def test_what_the_engine_does_itself_can_be_faked():
    below, flow = Flow("below"), Flow("above")

    @below.step
    def push(wheel):
        never()

    flow.add_step(wait("approve"))
    flow.add_step(StepDef("nap", step_type="sleep", config={"seconds": HOUR}))
    flow.sub_flow("deploy", below, inputs={"wheel": "{{inputs.wheel}}"})
    fakes = {"approve": "Ada", "nap": lambda ctx: ctx.config["seconds"], "deploy": {"push": "pushed"}}
    result = run_flow(flow, {"wheel": "a.whl"}, fakes=fakes)
    assert result.outputs == {"approve": "Ada", "nap": HOUR, "deploy": {"push": "pushed"}}
    assert result.total_duration == 0


# -- names ----------------------------------------------------------------------------------------------


def nested_flows():
    def unfaked(ctx):
        never()

    parcel, gift, order = Flow("parcel"), Flow("gift"), Flow("order")
    for flow in (parcel, gift):
        flow.step(unfaked, name="label")
    parcel.step(unfaked, name="weigh")
    order.step(lambda: "charged", name="charge")
    parcel.step(lambda: "parcel", name="charge")
    order.sub_flow("send", parcel)
    order.sub_flow("wrap", gift)
    return order


def test_a_name_is_that_of_a_step_of_the_flow_or_else_of_a_sub_flow():
    fakes = {"weigh": 3, "parcel/label": "P", "gift/label": "G", "charge": "fake"}
    result = run_flow(nested_flows(), fakes=fakes)
    assert result["send"].output == {"label": "P", "weigh": 3, "charge": "parcel"}
    assert (result["wrap"].output, result["charge"].output) == ({"label": "G"}, "fake")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("chage", "flow 'order' has no step 'chage'; did you mean 'charge'"),
        ("parcel/lable", "flow 'order' has no step 'parcel/lable'; did you mean 'parcel/label'"),
        ("label", r"several flows have a step 'label': say which \('parcel/label', 'gift/label'\)"),
    ],
)
def test_a_name_that_means_no_step_is_told_of(name, problem):
    with pytest.raises(ValueError, match=f"fakes: .*{problem}"):
        run_flow(nested_flows(), fakes={name: 1})
    with pytest.raises(ValueError, match=f"undos: .*{problem}"):
        run_flow(nested_flows(), undos={name: 1})


def test_a_name_is_a_text(order):
    with pytest.raises(TypeError, match="is no name of a step"):
        run_flow(order, fakes={order: 1})


def test_an_undo_is_that_of_a_step_which_is_undone(order):
    with pytest.raises(ValueError, match="undos: step 'ship' is not undone: it has no rollback"):
        run_flow(order, GIVEN, undos={"ship": 1})


@pytest.mark.parametrize(
    ("fake", "error", "problem"),
    [
        (
            lambda amout: 1,
            ValueError,
            "takes 'amout', which is no step and no input of the flow; did you mean 'amount'",
        ),
        (lambda ship: 1, ValueError, "takes the output of step 'ship', which does not come before it"),
        (lambda charge: 1, ValueError, "takes the step's own output"),
        (lambda item: 1, ValueError, "takes 'item', and step 'charge' runs over no list"),
        (lambda *amount: 1, NotAHandler, r"takes \*amount"),
        (dict, NotAHandler, "is the class dict"),
    ],
)
def test_what_cannot_be_bound_is_told_before_anything_runs(order, fake, error, problem):
    with pytest.raises(error, match=r"fakes\['charge'\].*" + problem):
        run_flow(order, GIVEN, fakes={"charge": fake, "ship": never})


def test_inputs_are_checked_as_ever(order):
    with pytest.raises(InvalidInputs, match="did you mean 'amount'"):
        run_flow(order, {**GIVEN, "amout": 1}, fakes={"charge": 1, "ship": 1})


# -- time -----------------------------------------------------------------------------------------------


def test_what_it_waits_for_comes_at_once(order):
    flow = FlowDef("f", steps=[
        StepDef("nap", step_type="sleep", config={"seconds": 8 * HOUR}),
        wait("approve", timeout=24 * HOUR, default="nobody"),
        StepDef("flaky", max_retries=3, retry_delay=HOUR),
        StepDef("hang", timeout=HOUR, continue_on_error=True),
        StepDef("tell"),
    ])  # fmt: skip

    def handler(ctx):
        if ctx.step.name == "flaky" and ctx.attempt < 4:
            raise OSError
        return ctx.sleep(10**9) if ctx.step.name == "hang" else ctx.step.name

    result = bounded(run_flow, flow, handler=handler)
    assert result.success
    began = result.steps[0].started_at
    assert [(step.started_at - began).total_seconds() / HOUR for step in result.steps] == [0, 32, 32, 35, 36]
    assert result.total_duration == 36 * HOUR
    assert errors(result) == {"hang": f"step timeout: hang after {HOUR * 1000:.0f}ms"}


def test_times_that_are_no_whole_seconds_come_too():
    steps = [wait(f"w{number}", timeout=0.1 * number + 1 / 3, default=number) for number in range(20)]
    result = bounded(run_flow, FlowDef("f", steps=steps))
    assert list(result.outputs.values()) == [*range(20)]
    assert result.total_duration == pytest.approx(sum(0.1 * number + 1 / 3 for number in range(20)))
    flow = FlowDef("f", FlowMode.PARALLEL, steps=steps)
    with engine(flow) as test:
        name = test.start(flow).execution_id
        for number in range(20):
            bounded(test.clock.advance, 0.1 + (1 / 3 - 0.1 if number == 0 else 0))
            assert test.look(name).steps[f"w{number}"].output == number or number == 0


def test_the_clock_may_be_ones_own():
    clock = FakeClock()
    flow = FlowDef("f", steps=[StepDef("nap", step_type="sleep", config={"seconds": 60})])
    first, second = (run_flow(flow, clock=clock) for _ in range(2))
    assert (second["nap"].started_at - first["nap"].started_at).total_seconds() == 60


# -- signals --------------------------------------------------------------------------------------------


def test_signals_are_there_from_the_start():
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[
        wait("approve", timeout=60), StepDef("nap", step_type="sleep", config={"seconds": HOUR}),
    ])  # fmt: skip
    result = run_flow(flow, signals={"approve": {"by": "Ada"}})
    assert (result["approve"].output, result["approve"].duration) == ({"by": "Ada"}, 0)


def test_one_may_be_given_several_times():
    steps = [StepDef(name, step_type="wait", config={"signal": "go"}) for name in "abc"]
    result = run_flow(FlowDef("f", steps=steps), signals=[("go", 1), ("go", 2)])
    assert result.outputs == {"a": 1, "b": 2}
    assert result.state is WorkflowState.PAUSED


def test_without_one_it_is_paused_or_its_time_is_over():
    flow = FlowDef("f", steps=[wait("approve")])
    result = run_flow(flow)
    assert (result.state, result.success) == (WorkflowState.PAUSED, False)
    late = bounded(run_flow, FlowDef("f", steps=[wait("approve", timeout=60)]))
    assert late["approve"].error == "step timeout: approve after 60000ms"
    assert late.total_duration == 60


def test_a_wait_of_a_sub_flow_has_it(url):
    below, flow = Flow("below"), Flow("above")
    below.add_step(wait("approve", timeout=HOUR, default="nobody"))
    below.step(lambda approve: f"ok by {approve}", name="sign")
    flow.sub_flow("ask", below)
    assert run_flow(flow, signals={"approve": "Ada"}, store=url)["ask"].output["sign"] == "ok by Ada"
    late = bounded(run_flow, flow, store=url)
    assert (late["ask"].output["sign"], late.total_duration) == ("ok by nobody", HOUR)


def test_one_that_no_step_waits_for_is_told_of():
    flow = FlowDef("f", steps=[wait("approve")])
    with pytest.raises(ValueError, match="no step of flow 'f' waits for 'aprove'; did you mean 'approve'"):
        run_flow(flow, signals={"aprove": 1})
    with pytest.raises(ValueError, match="signals need one of szal's own stores"):
        run_flow(flow, signals={"approve": 1}, store=None)
    named = FlowDef("f", steps=[StepDef("a", step_type="wait", config={"signal": "order-{{inputs.id}}"})])
    assert run_flow(named, {"id": 7}, signals={"order-7": "paid"})["a"].output == "paid"


def test_a_step_that_needs_a_decision_leaves_it_paused():
    flow = FlowDef("f", steps=[StepDef("pay")])
    result = run_flow(flow, fakes={"pay": UnknownOutcome("the line went dead")})
    assert (result.state, result.error) == (WorkflowState.PAUSED, "needs a decision: pay")


# -- where it runs --------------------------------------------------------------------------------------


def test_it_is_recorded_as_elsewhere(url):
    flow = FlowDef("f", steps=[StepDef("a"), wait("go", timeout=60, default=1), StepDef("b")])

    def handler(ctx):
        return [ctx.once("key", lambda: "made"), ctx.once("key", never), ctx.attempt]

    result = bounded(run_flow, flow, handler=handler, store=url, execution_id="e1")
    assert result["b"].output == ["made", "made", 1]
    if url != "memory:":
        with open_store(url) as store:
            assert store.get("e1").result.outputs == result.outputs


def test_outputs_are_json_as_where_they_are_recorded(order):
    result = run_flow(order, GIVEN, fakes={"charge": {1, 2}, "ship": 1}, undos={"charge": None})
    assert "OutputNotSerializable" in json.dumps(errors(result))
    assert run_flow(order, GIVEN, fakes={"charge": {1, 2}, "ship": 1}, store=None)["charge"].output == {1, 2}


def test_settings_are_those_of_an_engine(order):
    events = []
    result = run_flow(order, GIVEN, fakes={"charge": 1, "ship": 1}, event_sink=events.append, timeout=5)
    assert events[-1].event_type == "flow_completed"
    assert statuses(result) == {"charge": "completed", "ship": "completed"}
    with pytest.raises(TypeError, match="did you mean 'timeout'"):
        run_flow(order, GIVEN, timeot=5)


def test_polls_and_their_limit_pass_at_once(url):
    flow = FlowDef("f", steps=[
        StepDef("ready", until="output.state == 'ready'", delay=30, until_timeout=HOUR),
        StepDef("never", until="output == 1", delay=60, until_timeout=600, continue_on_error=True),
    ])  # fmt: skip
    fakes = {"ready": lambda ctx: {"state": "ready" if ctx.poll == 4 else "busy"}, "never": 0}
    result = bounded(run_flow, flow, fakes=fakes, store=url)
    assert (result["ready"].duration, statuses(result)) == (90, {"ready": "completed", "never": "failed"})
    assert result.total_duration == 630  # no other poll would be in time


@pytest.mark.parametrize("inline", ["always", "never"])
def test_handlers_that_stay_on_one_thread_may_sleep(inline):
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef(name) for name in "abc"])
    result = bounded(run_flow, flow, handler=lambda ctx: ctx.sleep(60), inline=inline)
    assert result.total_duration == (180 if inline == "always" else 60)


def test_on_one_thread_they_have_their_time_limits_all_the_same():
    """As no time passes while a handler is at work: elsewhere nobody could act on a limit."""
    threads = set()

    def handler(ctx):
        threads.add(threading.get_ident())
        return ctx.sleep(60 if ctx.step.name == "slow" else 1)

    flow = FlowDef("f", steps=[StepDef("quick", timeout=30), StepDef("slow", timeout=30)])
    result = run_flow(flow, handler=handler, inline="always")
    assert errors(result) == {"slow": "step timeout: slow after 30000ms"}
    assert result.total_duration == 31
    assert threads == {threading.get_ident()}
