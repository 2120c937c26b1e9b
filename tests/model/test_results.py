"""What a run leaves behind: results by name, counts, and the failure that can be raised."""

import pickle
from datetime import UTC, datetime, timedelta

import pytest

from szal import (
    Engine,
    ExecutionRecord,
    FlowDef,
    FlowFailed,
    FlowMode,
    FlowResult,
    RetryExhausted,
    StepDef,
    StepFailed,
    StepResult,
    StepStatus,
    StepTimeout,
    WorkflowState,
)


def step(name, status, output=None, error=None, exception=None):
    return StepResult(f"id-{name}", name, status, output=output, error=error, exception=exception)


@pytest.fixture
def mixed():
    return FlowResult(
        "ci",
        [
            step("build", StepStatus.COMPLETED, {"wheel": "a.whl"}),
            step("lint", StepStatus.COMPLETED),
            step("test", StepStatus.FAILED, error="ValueError: no", exception=ValueError("no")),
            step("deploy", StepStatus.SKIPPED, error="dependency failed"),
            step("tag", StepStatus.ROLLED_BACK, "v1"),
        ],
        success=False,
    )


class TestFlowResult:
    def test_counts_by_status(self, mixed):
        assert (mixed.completed_count, mixed.failed_count, mixed.skipped_count) == (2, 1, 1)

    def test_finds_a_step_by_name(self, mixed):
        assert mixed["deploy"].error == "dependency failed"

    def test_an_unknown_name_is_a_key_error(self, mixed):
        with pytest.raises(KeyError, match="nowhere"):
            mixed["nowhere"]

    def test_outputs_are_those_of_the_completed_steps(self, mixed):
        assert mixed.outputs == {"build": {"wheel": "a.whl"}, "lint": None}

    def test_failures_are_in_the_flows_order(self):
        result = FlowResult(
            "f", [step("b", StepStatus.FAILED), step("x", StepStatus.COMPLETED), step("a", StepStatus.FAILED)]
        )
        assert [failure.step_name for failure in result.failures()] == ["b", "a"]

    def test_looking_a_step_up_does_not_change_what_it_equals(self, mixed):
        other = FlowResult("ci", list(mixed.steps), success=False)
        assert mixed["build"] is mixed.steps[0]
        assert mixed == other

    def test_survives_pickling_as_far_as_records_go(self, mixed):
        assert mixed["build"].output
        again = pickle.loads(pickle.dumps(mixed))
        assert again == mixed
        assert again["test"].error == "ValueError: no"


class TestRaiseForFailure:
    def test_returns_the_result_itself_on_success(self):
        result = FlowResult("ci", [step("build", StepStatus.COMPLETED)])
        assert result.raise_for_failure() is result

    def test_raises_the_first_failure_with_the_handlers_exception_as_its_cause(self):
        first, second = ValueError("one"), KeyError("two")

        def handler(ctx):
            raise {"a": first, "b": second}[ctx.step.name]

        with Engine(handler) as engine:
            result = engine.run(FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")]))
        with pytest.raises(StepFailed) as caught:
            result.raise_for_failure()
        assert str(caught.value) == "step failed: a: ValueError: one"
        assert (caught.value.step, caught.value.error) == ("a", "ValueError: one")
        assert caught.value.__cause__ is first

    def test_raises_retry_exhausted_itself(self):
        cause = OSError("disk")

        def handler(ctx):
            raise cause

        with Engine(handler) as engine:
            result = engine.run(FlowDef("f", steps=[StepDef("a", max_retries=1, retry_delay=0)]))
        with pytest.raises(RetryExhausted, match=r"^retry exhausted: a after 2 attempts: OSError: disk$") as caught:
            result.raise_for_failure()
        assert caught.value.__cause__ is cause

    def test_raises_step_timeout_itself(self):
        with Engine(lambda ctx: ctx.sleep(60)) as engine:
            result = engine.run(FlowDef("f", steps=[StepDef("a", timeout=0.02)]))
        with pytest.raises(StepTimeout, match=r"^step timeout: a after 20ms$"):
            result.raise_for_failure()

    def test_a_result_read_back_from_a_store_has_no_cause_to_give(self):
        result = FlowResult("f", [step("a", StepStatus.FAILED, error="ValueError: no")], success=False)
        with pytest.raises(StepFailed, match="ValueError: no") as caught:
            result.raise_for_failure()
        assert caught.value.__cause__ is None

    def test_raises_flow_failed_where_no_step_failed(self):
        result = FlowResult(
            "f",
            [step("a", StepStatus.SKIPPED, error="cancelled")],
            success=False,
            state=WorkflowState.CANCELLED,
            error="cancelled",
        )
        with pytest.raises(FlowFailed, match=r"^flow 'f' did not succeed: cancelled$"):
            result.raise_for_failure()

    def test_may_be_asked_twice(self, mixed):
        for _ in range(2):
            with pytest.raises(StepFailed, match="test"):
                mixed.raise_for_failure()


class TestExecutionRecord:
    def test_begins_created_and_now_in_utc(self):
        before = datetime.now(UTC)
        record = ExecutionRecord("id", "ci")
        assert record.state is WorkflowState.CREATED
        assert before <= record.started_at <= datetime.now(UTC)
        assert record.started_at.utcoffset() == timedelta(0)
        assert record.finished_at is None
        assert record.result is None
        assert (record.inputs, record.labels) == ({}, {})

    def test_records_share_nothing(self):
        one, two = ExecutionRecord("1", "ci"), ExecutionRecord("2", "ci")
        assert one.inputs is not two.inputs
        assert one.labels is not two.labels


def test_values_have_no_dict():
    for value in (step("a", StepStatus.COMPLETED), FlowResult("f"), ExecutionRecord("i", "f")):
        with pytest.raises(AttributeError):
            value.surprise = 1
