"""What a step says of the list that it runs over: kept, compared, written, read, and what is wrong with it."""

import attrs
import pytest
from model.problems import problems_of

from szal import DecodeError, FlowDef, FlowMode, StepDef, StepResult, StepStatus, TriggerMode
from szal.model.definition import changed_steps, content_id, differences
from szal.model.json import (
    Checkpoint,
    decode_checkpoint,
    decode_flow,
    decode_step_result,
    encode_checkpoint,
    encode_flow,
    encode_step_result,
)


def flow_of(**options):
    make = StepDef("list")
    each = StepDef("each", **{"foreach": make, "depends_on": [make], **options})
    return FlowDef("f", FlowMode.DAG, steps=[make, each])


class TestTheDefinition:
    def test_a_step_stands_for_its_output(self):
        assert StepDef("each", foreach=StepDef("list files")).foreach == 'steps["list files"].output'

    @pytest.mark.parametrize("foreach", ["inputs.files", [], ["a", {"b": [1, None]}]])
    def test_it_is_written_and_read(self, foreach):
        flow = FlowDef("f", steps=[StepDef("each", foreach=foreach, max_parallel=3, max_items=7)])
        assert decode_flow(encode_flow(flow)) == flow

    def test_what_has_its_default_is_left_out(self):
        text = encode_flow(FlowDef("f", steps=[StepDef("a")]))
        assert not any(key in text for key in ("foreach", "max_parallel", "max_items"))

    def test_of_another_type_it_is_refused(self):
        text = encode_flow(FlowDef("f", steps=[StepDef("each", foreach="inputs.x")]))
        with pytest.raises(DecodeError, match=r"steps\[0\].foreach: expected a string"):
            decode_flow(text.replace('"inputs.x"', "3"))

    def test_another_list_is_another_step_and_another_limit_is_not(self):
        old = flow_of()
        assert changed_steps(old, flow_of(foreach="steps.list.output.files")) == {"each"}
        assert changed_steps(old, flow_of(max_parallel=2, max_items=9)) == frozenset()
        assert differences(old, flow_of(max_parallel=2)) == ("step 'each': max_parallel none -> 2",)
        assert content_id(old) == content_id(flow_of())

    def test_a_list_that_was_changed_in_place_is_seen(self):
        step = StepDef("each", foreach=["a"])
        flow = FlowDef("f", steps=[step])
        before = content_id(flow)
        step.foreach.append("b")
        assert content_id(flow) != before


class TestProblems:
    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"foreach": "steps.list.status"}, "foreach: steps.list.status is text, and no list"),
            ({"foreach": "steps.lst.output"}, "foreach refers to an unknown step 'lst'; did you mean 'list'?"),
            ({"foreach": "steps.each.output"}, "foreach refers to step 'each', which cannot have run before it"),
            ({"foreach": "list"}, "foreach: 'list' is no value: did you mean steps.list.output?"),
            ({"foreach": "inputs"}, "foreach: inputs is no list: name one of them, as in inputs.files"),
            ({"foreach": "{{steps.list.output}}"}, "foreach is a path: write 'steps.list.output'"),
            ({"foreach": "steps.list.output["}, "foreach: expected a quoted key or an index"),
            ({"foreach": 3}, "foreach is neither a path nor a list (3)"),
            ({"foreach": ["{{inputs.a}}"]}, "its foreach holds {{, and nothing is filled in there"),
            ({"max_parallel": 0}, "max_parallel is not at least 1 (0)"),
            ({"max_items": 0}, "max_items is not at least 1 (0)"),
            ({"foreach": None, "max_parallel": 1}, "max_parallel without foreach"),
            ({"foreach": None, "max_items": 1}, "max_items without foreach"),
            ({"foreach": None, "config": "{{item}}"}, "config: {{item}}: there is no 'item' here"),
            ({"config": "{{index.a}}"}, "config: {{index.a}}: index is a number, and has nothing in it"),
            ({"condition": "item == 1"}, "condition: item is of an item, and the condition of the step as a whole"),
            (
                {"step_type": "wait", "config": {"signal": "s"}},
                "foreach with step type 'wait': only what a handler does",
            ),
            ({"step_type": "sub_flow", "config": {"flow_name": "f"}}, "foreach with step type 'sub_flow'"),
            ({"step_type": "sleep", "config": {"seconds": 1}}, "foreach with step type 'sleep'"),
        ],
    )
    def test_each_is_told_with_the_name_of_the_step(self, options, problem):
        assert f"step 'each': {problem}" in problems_of(flow_of(**options))

    def test_no_other_step_is_called_as_an_item_is(self):
        flow = flow_of()
        flow.add_step(StepDef("each[0]"))
        assert problems_of(flow) == "step 'each[0]': an item of step 'each' is called that"
        flow.steps[2] = StepDef("list[0]")
        assert problems_of(flow) == ""

    def test_templates_and_undos_name_the_item(self):
        undo = {"call": "m:f", "args": {"a": "{{item.b}}", "i": "{{index}}"}}
        config = {"url": "{{item.url}}/{{index}}", "rollback": undo}
        assert problems_of(flow_of(config=config, trigger_mode=TriggerMode.ALL)) == ""

    def test_what_a_command_came_to_is_in_a_list(self):
        flow = flow_of(step_type="shell", config={"run": "true"})
        flow.add_step(StepDef("z", condition="steps.each.output.exit_code == 0", depends_on=[flow.steps[1]]))
        problem = "steps.each.output is a list, and has no 'exit_code': name an element, as in steps.each.output[0]"
        assert problem in problems_of(flow)
        flow.steps[2] = attrs.evolve(flow.steps[2], condition="steps.each.output[0].exit_code == 0")
        assert problems_of(flow) == ""


class TestResults:
    ITEMS = (
        StepResult("1", "each", StepStatus.COMPLETED, output={"n": 1}, attempts=2),
        StepResult("1", "each", StepStatus.FAILED, error="ValueError: no", error_type="ValueError", attempts=1),
    )

    def test_the_items_are_written_in_order_and_read(self):
        result = StepResult("1", "each", StepStatus.FAILED, error="1 of 2 items failed", items=list(self.ITEMS))
        assert decode_step_result(encode_step_result(result)) == result

    def test_of_a_step_without_a_list_nothing_is_written(self):
        assert "items" not in encode_step_result(self.ITEMS[0])

    def test_the_outputs_may_be_as_deep_as_outputs_may_be(self):
        deep = current = []
        for _ in range(118):
            current.append([])
            current = current[0]
        item = StepResult("1", "each", StepStatus.COMPLETED, output=deep)
        result = StepResult("1", "each", StepStatus.COMPLETED, output=[deep], items=[item])
        assert decode_step_result(encode_step_result(result)) == result

    def test_the_row_of_the_step_has_none_of_what_its_items_have(self):
        result = StepResult("1", "each", StepStatus.COMPLETED, output=["x" * 999], items=list(self.ITEMS[:1]))
        text = encode_checkpoint(result, 0)
        assert len(text) < 200
        found = decode_checkpoint(text, "each", "1")
        assert (found.items, found.result.output, found.outcome) == (1, None, 0)

    def test_the_row_of_an_item_says_which_element_it_was(self):
        text = encode_checkpoint(self.ITEMS[0], 0, item="0123abcd")
        assert decode_checkpoint(text, "each", "1") == Checkpoint(self.ITEMS[0], 0, item="0123abcd")
