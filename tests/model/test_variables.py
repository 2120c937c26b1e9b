"""Which names make one variable for commands, and which variables are szal's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model.problems import problems_of

from szal import Engine, FlowDef, Handlers, InvalidFlow, InvalidInputs, StepDef, WorkflowState, load_flow
from szal.errors import LoadError
from szal.model.variables import OUTPUT, clashes, file_of, variable_of

COMMAND = StepDef("sh", step_type="shell", config={"run": "true"})


@pytest.mark.parametrize(
    ("first", "second", "variable"),
    [
        ("unit-test", "unit_test", "UNIT_TEST"),
        ("Build", "build", "BUILD"),
        ("日本", "中国", "__"),
        ("report", "report.file", "REPORT_FILE"),
        ("report_FILE", "report", "REPORT_FILE"),
    ],
)
def test_two_names_that_make_one_variable_are_refused(first, second, variable):
    steps = FlowDef("f", steps=[StepDef(first), StepDef(second), COMMAND])
    both = f"{first!r} and {second!r} both make the variable"
    assert problems_of(steps) == f"step {second!r}: {both} SZAL_OUTPUT_{variable} of commands: rename one"
    inputs = FlowDef("f", steps=[COMMAND], inputs={first: 1, second: 2})
    assert problems_of(inputs) == f"the flow's inputs: {both} SZAL_INPUT_{variable} of commands: rename one"


@given(st.lists(st.text(st.sampled_from("aA_-fFiIlLeE"), min_size=1, max_size=8), unique=True, max_size=5))
def test_names_are_refused_exactly_where_a_variable_or_its_file_would_mean_two_things(names):
    made = [variable for name in names for variable in (variable_of(OUTPUT, name), file_of(variable_of(OUTPUT, name)))]
    assert (list(clashes(OUTPUT, names)) != []) == (len(set(made)) < len(made))


def test_a_run_of_such_a_flow_does_not_begin():
    with Engine(Handlers(lambda ctx: None)) as engine, pytest.raises(InvalidFlow, match="SZAL_OUTPUT_A_B"):
        engine.run(FlowDef("f", steps=[StepDef("a.b"), StepDef("a b"), COMMAND]))


def test_nor_does_one_that_is_given_such_inputs():
    with Engine(Handlers()) as engine, pytest.raises(InvalidInputs, match="the inputs 'a-b' and 'a_b' both make"):
        engine.run(FlowDef("f", steps=[COMMAND]), {"a-b": 1, "a_b": 2})


def test_a_flow_without_commands_may_have_such_names():
    flow = FlowDef("f", steps=[StepDef("a-b"), StepDef("a_b")])
    assert problems_of(flow) == ""
    with Engine(Handlers(lambda ctx: None)) as engine:
        assert engine.run(flow, {"a-b": 1, "a_b": 2}).state is WorkflowState.COMPLETED


def test_an_undo_that_is_a_command_has_variables_too():
    undone = StepDef("a", rollbackable=True, config={"rollback": {"run": "true"}})
    found = problems_of(FlowDef("f", steps=[undone, StepDef("file")]))
    assert found.startswith(
        "step 'file': the output of what is undone and 'file' both make the variable SZAL_OUTPUT_FILE"
    )


def test_in_a_file_it_is_told_where_the_name_stands(tmp_path):
    file = tmp_path / "flow.yaml"
    file.write_text("name: f\nmode: sequential\nsteps:\n- {name: a-b, run: 'true'}\n- {name: a_b, run: 'true'}\n")
    with pytest.raises(LoadError, match=r":5:\d+: step 'a_b': 'a-b' and 'a_b' both make the variable SZAL_OUTPUT_A_B"):
        load_flow(file)


@pytest.mark.parametrize("name", ["SZAL_RESULT", "SZAL_OUTPUT", "SZAL_OUTPUT_X", "SZAL_INPUT_X", "SZAL_FLOW"])
def test_a_step_may_not_set_what_szal_sets(name, tmp_path):
    taken = f"has the name {name}, which szal itself gives a value: take another"
    step = StepDef("sh", step_type="shell", config={"run": "true", "env": {name: "x"}})
    with Engine(Handlers()) as engine, pytest.raises(InvalidFlow, match=f"config.env {taken}"):
        engine.run(FlowDef("f", steps=[step]))
    file = tmp_path / "flow.yaml"
    file.write_text(f"name: f\nsteps:\n- {{name: a, run: 'true', env: {{{name}: x}}}}\n")
    with pytest.raises(LoadError, match=f":3:32: 'env' in step 'a' {taken}"):
        load_flow(file)


def test_any_other_that_begins_so_it_may():
    step = StepDef("sh", step_type="shell", config={"run": "true", "env": {"SZAL_STORE": "memory:"}})
    with Engine(Handlers()) as engine:
        assert engine.run(FlowDef("f", steps=[step])).success
