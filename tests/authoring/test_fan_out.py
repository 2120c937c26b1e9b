"""Steps of functions that are done once for each element of a list."""

import pytest

import szal
from szal import Flow, InvalidFlow, InvalidInputs, StepDef, WorkflowState


@pytest.fixture
def flow():
    return Flow("thumbs")


def squares(flow, foreach, **fields):
    @flow.step(foreach=foreach, **fields)
    def square(item, index):
        return [index, item * item]

    return square


def test_a_step_whose_output_is_the_list(flow):
    @flow.step
    def numbers():
        return [3, 4]

    square = squares(flow, numbers, max_parallel=1)

    @flow.step
    def total(square):
        return sum(value for _, value in square)

    result = flow.run()
    assert result.outputs == {"numbers": [3, 4], "square": [[0, 9], [1, 16]], "total": 25}
    assert [item.output for item in result["square"].items] == [[0, 9], [1, 16]]
    assert square(7, 0) == [0, 49]


def test_a_path_makes_a_dependency_of_the_step_that_it_names(flow):
    squares(flow, "steps.numbers.output.all")
    flow.step(lambda: {"all": [2]}, name="numbers")
    assert flow.run()["square"].output == [[0, 4]]


@pytest.mark.parametrize("foreach", ["inputs.files", szal.each("files")])
def test_an_input(flow, foreach):
    squares(flow, foreach)
    assert flow.run({"files": [5]})["square"].output == [[0, 25]]
    with pytest.raises(InvalidInputs, match="input 'files' is required: step 'square' takes it"):
        flow.run()
    with pytest.raises(InvalidInputs, match="unknown input 'fils'; did you mean 'files'"):
        flow.run({"fils": [], "files": []})


def test_a_list_itself(flow):
    squares(flow, [1, 2])
    assert flow.run()["square"].output == [[0, 1], [1, 4]]


def test_a_step_that_was_added_as_a_definition(flow):
    numbers = flow.add_step(StepDef("numbers", step_type="wait", config={"signal": "go", "timeout": 0, "default": [6]}))
    squares(flow, numbers)
    assert flow.run(store="memory:")["square"].output == [[0, 36]]


def test_items_take_outputs_inputs_and_defaults_besides(flow):
    flow.step(lambda: [1, 2], name="numbers")
    flow.step(lambda: 10, name="factor")

    @flow.step(foreach="steps.numbers.output")
    def scale(ctx, item, factor, plus, minus=0):
        return item * factor + plus - minus + ctx.index

    assert flow.run({"plus": 100})["scale"].output == [110, 121]


def test_an_undo_is_done_for_each_item_with_what_that_came_to():
    undone = []
    flow = Flow("thumbs", rollback_on_failure=True)
    square = squares(flow, [3, 4])
    square.rollback(lambda item, index, square: undone.append((item, index, square)))
    flow.step(lambda square: 1 / 0, name="fail")
    assert flow.run().state is WorkflowState.ROLLED_BACK
    assert sorted(undone) == [(3, 0, [0, 9]), (4, 1, [1, 16])]


def test_an_included_list_is_the_included_steps(flow):
    flow.step(lambda: [3], name="numbers")
    squares(flow, "steps.numbers.output")
    whole = Flow("whole")
    whole.include(flow, prefix="a_")
    assert whole.run()["a_square"].output == [[0, 9]]


def test_a_list_of_another_flow_and_a_path_that_is_none_are_refused(flow):
    numbers = Flow("other").step(lambda: [1], name="numbers")
    with pytest.raises(InvalidFlow, match="step 'square' needs 'numbers', which is a step of flow 'other'"):
        squares(flow, numbers)
    squares(flow, "numbers")
    with pytest.raises(InvalidFlow, match="foreach"):
        flow.run()


def test_an_input_that_is_run_over_is_named():
    for name in ("", 3, None):
        with pytest.raises(TypeError, match=f"szal.each takes the name of an input, not {name!r}"):
            szal.each(name)
