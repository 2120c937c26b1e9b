"""What commands hand on, for whoever goes on with an execution."""

import pytest

from szal import Engine, EngineConfig, FlowDef, Handlers, StepDef, WorkflowState


def command(name, run, **config):
    return StepDef(name, step_type="shell", config={"run": run, **config})


SEEN = """printf '%s|' "$SZAL_INPUT_ENV" "$SZAL_OUTPUT_BUILD" {{steps.build.output.outputs.tag}}
wc -c < "$SZAL_INPUT_LARGE_FILE"
"""
FLOW = FlowDef(
    "release",
    steps=[
        command("build", 'echo tag=v1 >> "$SZAL_RESULT"'),
        command("live", SEEN),
        StepDef("approve", step_type="wait", config={"signal": "go"}),
        command("later", SEEN),
    ],
)


@pytest.fixture
def engine(store):
    with Engine(Handlers(), EngineConfig(execution_store=store)) as engine:
        yield engine


def test_outputs_by_name_are_recorded_and_a_command_sees_the_same_after_a_resume(engine):
    paused = engine.run(FLOW, {"env": "prod", "large": "x" * 300_000}, execution_id="r1")
    assert paused.state is WorkflowState.PAUSED
    engine.signal("r1", "go")
    result = engine.resume("r1")
    assert result["build"].output == {"exit_code": 0, "stdout": "", "stderr": "", "outputs": {"tag": "v1"}}
    build = '{"exit_code":0,"stdout":"","stderr":"","outputs":{"tag":"v1"}}'
    assert result["later"].output["stdout"].replace(" ", "") == f"prod|{build}|v1|300000"
    assert result["later"].output == result["live"].output


def test_an_output_that_not_every_store_can_hold_fails_its_step(engine):
    result = engine.run(FlowDef("f", steps=[command("a", """printf '%s' '{"x": "\\u0000"}' >> "$SZAL_RESULT" """)]))
    assert 'output["outputs"]["x"]: a string with a NUL character' in result["a"].error
