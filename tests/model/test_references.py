"""What conditions and templates may name, and what people are told who name something else."""

import time
from typing import Any

import pytest
from model.problems import problems_of

from szal import FlowDef, FlowMode, InvalidFlow, StepDef


def told(text: str, *, inputs: Any = None, template: bool = False) -> str:
    """Return what is said of a step after the step "a", with that condition, or that template."""
    a = StepDef("a", config={"any": "thing"})
    own: dict[str, Any] = {"config": {"x": text}} if template else {"condition": text}
    return problems_of(FlowDef("f", FlowMode.DAG, steps=[a, StepDef("b", depends_on=a, **own)], inputs=inputs or {}))


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("input.x", "did you mean inputs.x?"),
        ("params.x", "did you mean inputs.x?"),
        ("ctx.inputs.x", "did you mean inputs.x?"),
        ("ctx.outputs.a.size", "did you mean steps.a.output.size?"),
        ("step.a.status", "did you mean steps.a.status?"),
        ("step.a", "did you mean steps.a.output?"),
        ("a.output.size", "did you mean steps.a.output.size?"),
        ("needs.a.outputs.size", "did you mean steps.a.output.size?"),
        ("outputs.a.ok", "did you mean steps.a.output.ok?"),
        ("steps.a.state", "did you mean steps.a.status?"),
        ("steps.a.outputs.size", "did you mean steps.a.output.size?"),
        ("steps.a.exception", "did you mean steps.a.error?"),
        ("steps.a.statsu", "did you mean steps.a.status?"),
        ("steps.a.size", "did you mean steps.a.output.size?"),
        ("steps.a", "steps.a is no value: name its output, status or error"),
        ("steps", "steps is no value: name a step"),
        ("steps[0].output", "name a step"),
        ("steps.a.status.x", "steps.a.status is text, and has nothing in it"),
        ("github.ref", "a text names inputs.NAME, and steps.NAME.output, .status or .error"),
        ("inputs[0]", "inputs have names"),
        ('stpes["a"].output', "did you mean steps.a.output?"),
    ],
)
@pytest.mark.parametrize("template", [False, True], ids=["condition", "template"])
def test_nothing_else_may_be_named(path: str, hint: str, template: bool) -> None:
    problems = told(f"{{{{{path}}}}}" if template else f"{path} == 1", template=template)
    assert hint in problems
    assert problems.startswith("step 'b': " + ("config: " if template else "condition: "))


@pytest.mark.parametrize("path", ["inputs", "inputs.x", "inputs.x.y[0]", "steps.a.output", "steps.a.output.x[1].y"])
@pytest.mark.parametrize("template", [False, True], ids=["condition", "template"])
def test_inputs_and_how_steps_ended_may_be_named(path: str, template: bool) -> None:
    assert told(f"{{{{{path}}}}}" if template else path, template=template) == ""


def told_of_a_command(text: str, **config: Any) -> str:
    """Return what is said of a step with that template after the step "a", which is a command."""
    a = StepDef("a", step_type="shell", config={"run": "true", **config})
    return problems_of(FlowDef("f", steps=[a, StepDef("b", config={"x": text})]))


@pytest.mark.parametrize("path", ["outputs", "outputs.tag", 'outputs["a.b"].c[0]'])
def test_outputs_that_a_command_writes_by_name_may_be_named(path: str) -> None:
    assert told_of_a_command(f"{{{{steps.a.output.{path}}}}}") == ""


@pytest.mark.parametrize("output", ["text", "lines"])
def test_beside_output_there_are_none(output: str) -> None:
    told = told_of_a_command("{{steps.a.output.outputs.tag}}", output=output)
    assert ("leave out 'output' of step 'a'" in told) == (output == "text")
    assert "steps.a.output is" in told


def test_the_spelling_of_others_leads_to_them() -> None:
    assert "did you mean steps.a.output.outputs.tag?" in told_of_a_command("{{steps.a.outputs.tag}}")
    assert "did you mean steps.a.output.tag?" in told_of_a_command("{{steps.a.outputs.tag}}", output="json")


def test_they_have_names_and_no_numbers() -> None:
    assert "steps.a.output.outputs has names, and no numbers" in told_of_a_command("{{steps.a.output.outputs[0]}}")


def test_texts_of_a_step_may_be_named_in_comparisons() -> None:
    assert told("steps.a.status == 'failed' || steps.a.error contains 'disk' || steps.a.error != null") == ""
    assert told("{{steps.a.status}} {{steps.a.error?}}", template=True) == ""


@pytest.mark.parametrize(
    ("condition", "hint"),
    [
        ("inputs.channel == prod", "write 'prod' in quotes, or inputs.prod"),
        ("channel == 'prod'", "write 'channel' in quotes, or inputs.channel"),
        ("inputs.load == True", "True is written true"),
        ("inputs.load != None", "None is written null"),
        ("yes", "write true, or 'yes' in quotes"),
        ("inputs.load == off", "write false, or 'off' in quotes"),
        ("a == 1", "did you mean steps.a.output?"),
    ],
)
def test_bare_words_are_no_values(condition: str, hint: str) -> None:
    assert hint in told(condition)


def test_a_bare_word_in_a_template_is_an_input() -> None:
    assert "did you mean inputs.channel?" in told("{{channel}}", template=True)


# -- declared inputs -----------------------------------------------------------------------------------

DECLARED = {"out": "dist", "channel": None}


@pytest.mark.parametrize("template", [False, True], ids=["condition", "template"])
def test_where_inputs_are_declared_no_others_may_be_named(template: bool) -> None:
    problems = told("{{inputs.oot}}" if template else "inputs.oot", inputs=DECLARED, template=template)
    assert "there is no input 'oot': did you mean 'out'?" in problems
    assert told("{{inputs.out}}" if template else "inputs.out", inputs=DECLARED, template=template) == ""
    assert told("{{inputs.oot}}" if template else "inputs.oot", template=template) == ""


def test_an_input_that_is_like_none_is_told_which_there_are() -> None:
    assert "declared are 'out', 'channel'" in told("inputs.zzz", inputs=DECLARED)


def test_a_declared_input_is_what_a_bare_word_was_meant_to_be() -> None:
    assert "did you mean inputs.channel?" in told("channel == 'prod'", inputs=DECLARED)
    assert "did you mean inputs.out?" in told("{{oot}}", inputs=DECLARED, template=True)


def test_many_inputs_that_are_none_are_reported_in_little_time() -> None:
    inputs = {f"input-{number}": None for number in range(1000)}
    steps = [StepDef(f"s{number}", condition=f"inputs.inptu-{number}") for number in range(2000)]
    begin = time.process_time()
    with pytest.raises(InvalidFlow) as caught:
        FlowDef("f", steps=steps, inputs=inputs).validate()
    assert len(caught.value.problems) == 2000
    assert time.process_time() - begin < 5
