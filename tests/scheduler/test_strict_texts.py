"""In a flow, a template that finds nothing and a condition that orders what has no order fail their step."""

import pytest
from helper_flows import outcomes, run_flow

from szal import FlowDef, FlowMode, MissingValue, NotComparable, StepDef, StepStatus, TriggerMode, WorkflowState


def config_of(config, *before, inputs=None, script=None, **fields):
    """Run steps and then one with that config; return its result, whose output is what it made of the config."""
    flow = FlowDef("f", steps=[*before, StepDef("x", config=config, **fields)])
    return run_flow(flow, {**(script or {}), "x": lambda ctx: ctx.config}, inputs)["x"]


# -- templates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "inputs", "error"),
    [
        (
            "rm -rf {{inputs.oot}}/*",
            {"out": "d", "env": "p"},
            "inputs.oot: inputs has 'out' and 'env'; did you mean 'out'?",
        ),
        ("{{inputs.x}}", {}, "inputs.x: inputs has nothing in it"),
        ("{{inputs.a.b.c}}", {"a": {"z": 1}}, "inputs.a.b.c: inputs.a has 'z'"),
        ("{{inputs.a.b}}", {"a": None}, "inputs.a.b: inputs.a is null"),
        ("{{inputs.a.b}}", {"a": "text"}, "inputs.a.b: inputs.a is text"),
        ("{{inputs.a.b}}", {"a": [1]}, "inputs.a.b: inputs.a is a list"),
        ("{{inputs.a[2]}}", {"a": [1]}, "inputs.a[2]: inputs.a has 1 part"),
        ("{{inputs.a[0]}}", {"a": {"0": 1}}, "inputs.a[0]: inputs.a is an object, and has no numbered parts"),
        ("{{steps.first.output.ulr}}", {}, "steps.first.output.ulr: steps.first.output has 'url'; did you mean 'url'?"),
    ],
)
def test_a_template_that_finds_nothing_says_what_there_is(text, inputs, error):
    result = config_of({"deep": [text]}, StepDef("first"), inputs=inputs, script={"first": {"url": 1}})
    path = text[text.index("{{") + 2 : text.index("}}")]
    assert result.status is StepStatus.FAILED
    assert result.error == f"nothing at {error} (where it may be missing, write {{{{{path}?}}}})"
    assert isinstance(result.exception, MissingValue)


def test_of_a_large_object_the_first_keys_are_named():
    result = config_of("{{inputs.x}}", inputs={f"key{number}": 1 for number in range(30)})
    assert "'key9' and 20 more" in result.error or "'key9', " not in result.error
    assert "and 20 more" in result.error


def test_it_is_not_tried_again():
    result = config_of("{{inputs.x}}", max_retries=3, retry_delay=0, retry_on=[Exception])
    assert (result.status, result.attempts) == (StepStatus.FAILED, 1)


def test_what_may_be_missing_is_null_alone_and_empty_in_text():
    config = ["{{inputs.x?}}", "<{{inputs.x ?}}>", "{{inputs.null?}}", "<{{inputs.null?}}>", "{{inputs.n?}}"]
    assert config_of(config, inputs={"null": None, "n": 5}).output == [None, "<>", None, "<>", 5]


def test_a_default_stands_for_what_is_missing_or_null():
    config = [
        "{{inputs.x | default('y')}}",
        "<{{ inputs.null|default(3) }}>",
        "{{inputs.x | default(['a', true])}}",
        "{{inputs.x | default(null)}}",
        "{{inputs.n | default(1)}}",
        "{{inputs.empty | default('never')}}",
    ]
    found = config_of(config, inputs={"null": None, "n": 5, "empty": ""}).output
    assert found == ["y", "<3>", ["a", True], None, 5, ""]


@pytest.mark.parametrize("text", ["{{inputs.null}}", "<{{inputs.null}}>"])
def test_null_is_there(text):
    assert config_of(text, inputs={"null": None}).output == {"{{inputs.null}}": None}.get(text, "<null>")


def test_the_output_of_a_step_that_was_skipped_is_null_and_nothing_is_in_it():
    skipped = StepDef("skipped", condition="false")
    assert config_of("{{steps.skipped.output}}", skipped).output is None
    assert config_of("{{steps.skipped.output.x?}}", skipped).output is None
    assert "steps.skipped.output is null" in config_of("{{steps.skipped.output.x}}", skipped).error


def test_a_step_that_had_not_ended_when_an_any_step_began_is_missing():
    fast, slow = StepDef("fast"), StepDef("slow", step_type="sleep", config={"seconds": 30})
    either = StepDef("either", depends_on=[fast, slow], trigger_mode=TriggerMode.ANY, config="{{steps.slow.output}}")
    flow = FlowDef("f", FlowMode.DAG, steps=[fast, slow, either], timeout=2)
    result = run_flow(flow, {"either": lambda ctx: ctx.config})["either"]
    assert "nothing at steps.slow.output: step 'slow' had not ended" in result.error


def test_a_handler_that_renders_fails_likewise_unless_it_catches_that():
    def handler(ctx):
        try:
            return ctx.render("{{inputs.x}}")
        except MissingValue as error:
            return error.path

    assert run_flow(FlowDef("f", steps=[StepDef("a")]), handler)["a"].output == "inputs.x"


@pytest.mark.parametrize(("step_type", "key"), [("sleep", "seconds"), ("sub_flow", "flow_name"), ("wait", "signal")])
def test_a_step_of_the_engines_own_fails_likewise(step_type, key):
    config = {key: "{{inputs.x}}"}
    flow = FlowDef("f", steps=[StepDef("a", step_type=step_type, config=config, max_retries=2, retry_delay=0)])
    result = run_flow(flow, {}, execution_store=None)["a"]
    assert result.status is StepStatus.FAILED
    if step_type != "wait":  # which needs a store, and says so first
        assert (result.attempts, result.error.partition(":")[0]) == (1, "nothing at inputs.x")


def test_what_undoes_a_step_is_left_as_it_is_until_it_does():
    undo = {"run": "rm {{steps.x.output.file}}"}
    assert config_of({"n": "{{inputs.n}}", "rollback": undo}, inputs={"n": 1}).output == {"n": 1, "rollback": undo}


# -- conditions ----------------------------------------------------------------------------------------


def asked(condition, output, inputs=None, **fields):
    steps = [StepDef("a"), StepDef("b", condition=condition, **fields), StepDef("c")]
    return run_flow(FlowDef("f", steps=steps), {"a": output}, inputs)


@pytest.mark.parametrize(
    "condition", ["steps.a.output.n > 40", "!(steps.a.output.n > 40)", "inputs.x || 40 < steps.a.output.n"]
)
def test_a_step_whose_condition_orders_what_has_no_order_fails(condition):
    result = asked(condition, {"n": "50"}, max_retries=3)
    assert result.state is WorkflowState.FAILED
    assert result["b"].status is StepStatus.FAILED
    assert result["b"].error.startswith("condition of step 'b': ")
    assert "steps.a.output.n" in result["b"].error
    assert "text" in result["b"].error
    assert "a number" in result["b"].error
    assert isinstance(result["b"].exception, NotComparable)
    assert outcomes(result)["c"] == (StepStatus.SKIPPED, "prior step failed")


@pytest.mark.parametrize("output", [None, {}, {"n": None}])
def test_null_comes_before_nothing(output):
    assert outcomes(asked("steps.a.output.n > 40", output))["b"] == (StepStatus.SKIPPED, "condition not met")


def test_a_list_of_literals_may_be_looked_through():
    assert asked("inputs.env in ['dev', 'staging']", None, {"env": "dev"})["b"].status is StepStatus.COMPLETED
    assert asked("inputs.env in ['dev', 'staging']", None, {"env": "prod"})["b"].status is StepStatus.SKIPPED
