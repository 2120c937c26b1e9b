"""The texts of a flow: where templates are filled in, and that they are refused where they are not."""

from typing import Any

import pytest
from model.problems import problems_of

from szal import FlowDef, StepDef


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"name": "{{inputs.x}}"}, "the flow's name"),
        ({"description": "of {{inputs.x}}"}, "the flow's description"),
        ({"inputs": {"x": "{{inputs.y}}"}}, "the flow's inputs: 'x'"),
        ({"inputs": {"x": {"deep": ["{{inputs.y}}"]}}}, "the flow's inputs: 'x'"),
        ({"inputs": {"{{x}}": 1}}, "the flow's inputs: '{{x}}'"),
    ],
)
def test_nothing_is_filled_in_in_the_fields_of_a_flow(fields: dict[str, Any], where: str) -> None:
    assert f"{where} holds {{{{, and nothing is filled in there" in problems_of(FlowDef(**{"name": "f", **fields}))


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"name": "build {{inputs.x}}"}, "its name holds"),
        ({"description": "{{inputs.x}}"}, "its description holds"),
        ({"step_type": "{{inputs.x}}"}, "its step_type holds"),
        ({"retry_on": ["{{inputs.x}}"]}, "its retry_on holds"),
        ({"give_up_on": "{{inputs.x}}"}, "its give_up_on holds"),
        ({"timeout": "{{inputs.x}}"}, "timeout is no duration"),
        ({"retry_delay": "{{inputs.x}}"}, "retry_delay is no duration"),
        ({"step_type": "python", "config": {"call": "m:{{inputs.x}}"}}, "config.call holds"),
        ({"step_type": "shell", "config": {"run": "x", "shell": "{{inputs.x}}"}}, "config.shell holds"),
        ({"step_type": "shell", "config": {"run": "x", "output": "{{inputs.x}}"}}, "config.output holds"),
        ({"step_type": "shell", "config": {"run": "x", "env": {"{{inputs.x}}": "1"}}}, "{{ in a key is not filled in"),
        ({"config": {"rollback": {"call": "m:{{inputs.x}}"}}}, "config.rollback.call holds"),
        ({"config": {"deep": [{"{{inputs.x}}": 1}]}}, "{{ in a key is not filled in"),
        ({"condition": "{{inputs.x}}"}, "a condition names a path without {{ }}"),
    ],
)
def test_nor_in_these_of_a_step(fields: dict[str, Any], where: str) -> None:
    assert where in problems_of(FlowDef("f", steps=[StepDef(**{"name": "a", **fields})]))


@pytest.mark.parametrize("text", ["echo ${{ inputs.x }}", "${{inputs.x}}", "v=${{ github.ref }}"])
def test_the_spelling_of_github_actions_is_refused(text: str) -> None:
    problems = problems_of(FlowDef("f", steps=[StepDef("a", config={"run": text})]))
    assert "${{ }} is not filled in: write {{ }}, and {{'$'}}{{ }} for a dollar sign" in problems


def test_a_dollar_sign_before_a_value_can_be_written() -> None:
    assert problems_of(FlowDef("f", steps=[StepDef("a", config={"text": "{{'$'}}{{inputs.price}}"})])) == ""


def test_an_undo_may_name_what_its_own_step_has_come_to_and_the_step_may_not() -> None:
    undo = {"run": "rm {{steps.a.output.file}} {{steps.first.output}}"}
    first, a = StepDef("first"), StepDef("a", config={"rollback": undo, "x": 1})
    assert problems_of(FlowDef("f", steps=[first, a])) == ""
    assert "config refers to step 'a', which cannot have run before it" in problems_of(
        FlowDef("f", steps=[StepDef("a", config={"run": "rm {{steps.a.output.file}}"})])
    )


def test_an_undo_is_looked_at_as_the_rest_is() -> None:
    later = StepDef("a", config={"rollback": {"run": "rm {{steps.b.output}} {{input.x}} {{steps.none.output}}"}})
    problems = problems_of(FlowDef("f", steps=[later, StepDef("b")]))
    assert "config.rollback refers to step 'b', which cannot have run before it" in problems
    assert "config.rollback: {{input.x}}: there is no 'input' here: did you mean inputs.x?" in problems
    assert "config.rollback refers to an unknown step 'none'" in problems


def test_a_default_that_holds_itself_is_no_crash() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert problems_of(FlowDef("f", inputs={"x": circle})) == ""


@pytest.mark.parametrize("value", [{1: 2}, ["shell"], 5, b"x"])
@pytest.mark.parametrize("field", ["step_type", "config", "condition"])
def test_what_is_of_the_wrong_type_is_no_crash(field: str, value: Any) -> None:
    problems_of(FlowDef("f", steps=[StepDef("a", **{"config": {"output": value}, field: value})]))
