"""Comparisons that come to the same whatever happens are refused, with what to write."""

from typing import Any

import pytest
from model.problems import problems_of

from szal import FlowDef, FlowMode, StepDef, TriggerMode


def told(condition: str, trigger: TriggerMode = TriggerMode.ALL, **config: Any) -> str:
    """Return what is said of a condition that follows the command "a" and any other step "f"."""
    a, f = StepDef("a", step_type="shell", config={"run": "echo 5", **config}), StepDef("f")
    b = StepDef("b", depends_on=[a, f], condition=condition, trigger_mode=trigger)
    return problems_of(FlowDef("f", FlowMode.DAG, steps=[a, f, b]))


@pytest.mark.parametrize(
    ("condition", "hint"),
    [
        ("steps.f.status == 'Completed'", "write steps.f.status == 'completed'"),
        ("steps.f.status != 'success'", "write steps.f.status != 'completed'"),
        ("'failure' == steps.f.status", "write steps.f.status == 'failed'"),
        ("steps.f.status == 'complted'", "did you mean 'completed'?"),
        ("steps.f.status == 'zzz'", "they are pending, running, completed, failed, skipped, rolled_back"),
        ("steps.f.status in ['failed', 'SKIPPED']", "write steps.f.status == 'skipped'"),
        ("steps.f.status == true", "steps.f.status is always text"),
        ("inputs.x && steps.f.status", "write steps.f.status == 'completed'"),
        ("!steps.f.status", "write steps.f.status == 'completed'"),
    ],
)
def test_what_no_status_can_be(condition: str, hint: str) -> None:
    assert hint in told(condition)


@pytest.mark.parametrize("status", ["pending", "running", "completed", "failed", "skipped", "rolled_back"])
def test_every_status_can_be_asked_for(status: str) -> None:
    assert told(f"steps.f.status == '{status}' || steps.f.status in ['{status}'] || steps.f.status != null") == ""


JSON = "write output: json on step 'a', and name steps.a.output"


@pytest.mark.parametrize(
    ("until", "output", "hint"),
    [
        (
            "output == '3'",
            None,
            "and '3' is text; they are never equal: write output: json",
        ),
        ("output >= 3", None, "output is an object, which has no order"),
        ("output >= 3", "text", "they have no order: write output: json on step 'a', and name output"),
        ("output.stdout > 3", None, "write output: json on step 'a', and name output"),
        ("output.stdot == 'x'", None, "did you mean 'stdout'?"),
        ("output.ready == true", None, "write output: json on step 'a', and name output.ready"),
        ("output.ready == true", "text", "output is text, and has nothing in it"),
        ("output.outputs.n == '3'", "text", "leave out 'output' of step 'a'"),
        ("output.ready", "lines", "output is a list, and has no 'ready': name an element, as in output[0]"),
    ],
)
@pytest.mark.parametrize("foreach", [None, [1, 2]])
def test_what_a_command_is_called_until_can_hold(until: str, output: str | None, hint: str, foreach: Any) -> None:
    config = {"run": "state", "output": output} if output else {"run": "state"}
    step = StepDef("a", step_type="shell", config=config, until=until, foreach=foreach)
    assert hint in problems_of(FlowDef("f", steps=[step]))


def test_what_a_command_may_be_called_until() -> None:
    for output, until in (
        (None, "output.exit_code == 0 && output.stdout != 'starting' && output.outputs.state == 'up'"),
        ("json", "output.state == 'up' || output > 3 || output[0].x"),
        ("lines", "'up' in output || output[0] == 'up'"),
        ("text", "output == 'up'"),
    ):
        config = {"run": "state", "output": output} if output else {"run": "state"}
        steps = [StepDef("a", step_type="shell", config=config, until=until), StepDef("b", until="output.x == 3")]
        assert problems_of(FlowDef("f", steps=steps)) == ""


@pytest.mark.parametrize(
    ("condition", "hint"),
    [
        ("steps.a.output.stdout > 40000", JSON),
        ("!(steps.a.output.stdout > 40000)", JSON),
        ("40000 <= steps.a.output.stderr", "have no order"),
        ("steps.a.output.stdout == 5", JSON),
        ("steps.a.output.stdout != true", "they are never equal"),
        ("steps.a.output.stdout in [1, 2]", JSON),
        ("5 in steps.a.output.stdout", "in text there is only text"),
        ("steps.a.output.stdout.rows == 3", f"{JSON}.rows"),
        ("steps.a.output.rows == 3", f"{JSON}.rows"),
        ("steps.a.output.stdot == '3'", "did you mean 'stdout'?"),
        ("steps.a.output == 'ok'", "steps.a.output is always an object"),
        ("steps.a.output.exit_code == '0'", "steps.a.output.exit_code is always a number"),
        ("steps.f.error > 3", "steps.f.error is always text"),
        ("'50000' > 40000", "'50000' is text, and 40000 is a number"),
        ("inputs.n > true", "true is true or false, which has no order"),
        ("!inputs.n > 3", "! binds to the value next to it: write !(...)"),
        ("inputs.x in 5", "nothing is in a number"),
        ("'false'", "'false' is text, and holds whatever happens"),
    ],
)
def test_what_is_always_text_is_no_number(condition: str, hint: str) -> None:
    assert hint in told(condition)


@pytest.mark.parametrize(
    "condition",
    [
        "steps.a.output.stdout == '5' && steps.a.output.stdout > '40' && steps.a.output.stdout contains '5'",
        "steps.a.output.exit_code == 0 && steps.a.output.exit_code < 5",
        "steps.a.output.stdout == null || steps.a.output.stdout in ['a', 5]",
        "steps.f.output > 3 && steps.f.output == 'x' && steps.f.output.rows == 3",
        "inputs.n > 3 || inputs.n > '3' || 'x' in inputs.n || true || false || 1",
        "steps.a.output.truncated contains 'stdout'",
    ],
)
def test_what_may_be_so_is_not_refused(condition: str) -> None:
    assert told(condition) == ""


@pytest.mark.parametrize(
    ("output", "condition", "hint"),
    [
        ("text", "steps.a.output == 5", JSON),
        ("text", "steps.a.output.stdout == 'x'", "steps.a.output is text, and has nothing in it"),
        ("lines", "steps.a.output[0] > 3", JSON),
        ("lines", "steps.a.output.first", "steps.a.output is a list"),
        ("lines", "steps.a.output == 'x'", "steps.a.output is always a list"),
    ],
)
def test_what_output_makes_of_it_is_known(output: str, condition: str, hint: str) -> None:
    assert hint in told(condition, output=output)


@pytest.mark.parametrize(
    ("output", "condition"),
    [
        ("text", "steps.a.output == 'x'"),
        ("lines", "steps.a.output[0] == 'x' && steps.a.output contains 'y'"),
        ("json", "steps.a.output > 3 || steps.a.output.rows[2].x == 3 || steps.a.output == 'x'"),
    ],
)
def test_and_may_be_used_as_that(output: str, condition: str) -> None:
    assert told(condition, output=output) == ""


@pytest.mark.parametrize("output", ["text", "lines", "json"])
def test_where_a_step_may_have_failed_its_output_is_what_it_printed(output: str) -> None:
    condition = "steps.a.output.exit_code == 3 && steps.a.output.stderr contains 'x' && steps.a.output.signal == null"
    assert told(condition, TriggerMode.ALL_DONE, output=output) == ""
