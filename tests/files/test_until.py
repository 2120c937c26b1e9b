"""Steps of files that poll."""

import pytest

from szal.files.schema import flow_schema

FLOW = """
name: f
steps:
  - {name: a, run: date, until: output.stdout == 'x', delay: 1m, until_timeout: 2h}
"""


def test_a_step_polls(load):
    step = load(FLOW).steps[0]
    assert (step.until, step.delay, step.until_timeout) == ("output.stdout == 'x'", 60, 7200)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("until: 'output.x ='", ":5:5: step 'a': until: expected an operator"),
        ("until: inputs.x", ":5:5: step 'a': until names nothing of the output: it would hold at once, or never"),
        ("until: steps.b.output == output", ":5:5: step 'a': until refers to an unknown step 'b'"),
        ("delay: 2s", ":5:5: step 'a': delay without until: the wait between attempts is retry_delay"),
        ("until_timeout: 2s", ":5:5: step 'a': until_timeout without until"),
        ("until_timeout: soon", ":5:20: 'until_timeout' in step 'a': "),
        ("until: [a]", ":5:12: 'until' in step 'a' must be text"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_column(problems, line, problem):
    [found] = problems(f"name: f\nsteps:\n  - name: a\n    run: 'true'\n    {line}\n")
    assert found.startswith(problem)


def test_the_schema_has_it():
    assert {"until", "delay", "until_timeout"} <= flow_schema()["$defs"]["step"]["properties"].keys()
