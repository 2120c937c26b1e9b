"""The state table of DESIGN section 2, pair by pair."""

import itertools

import pytest

from szal import BackoffStrategy, FlowMode, StepStatus, TriggerMode, WorkflowState

S = WorkflowState
ALLOWED = {
    (S.CREATED, S.RUNNING),
    (S.RUNNING, S.PAUSED),
    (S.RUNNING, S.COMPLETED),
    (S.RUNNING, S.FAILED),
    (S.RUNNING, S.CANCELLED),
    (S.RUNNING, S.ROLLING_BACK),
    (S.PAUSED, S.RUNNING),
    (S.PAUSED, S.CANCELLED),
    (S.FAILED, S.ROLLING_BACK),
    (S.ROLLING_BACK, S.ROLLED_BACK),
    (S.ROLLING_BACK, S.FAILED),
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(S, S)))
def test_a_state_can_become_exactly_what_the_table_says(before: S, after: S) -> None:
    assert before.can_become(after) is ((before, after) in ALLOWED)


def test_terminal_states() -> None:
    assert {state for state in S if state.is_terminal} == {S.COMPLETED, S.ROLLED_BACK, S.CANCELLED}


def test_live_states_are_those_that_an_engine_may_still_work_on() -> None:
    assert {state for state in S if state.is_live} == {S.CREATED, S.RUNNING, S.PAUSED, S.ROLLING_BACK}


@pytest.mark.parametrize(
    ("member", "value", "text"),
    [
        (StepStatus.ROLLED_BACK, "RolledBack", "rolled_back"),
        (WorkflowState.ROLLING_BACK, "RollingBack", "rolling_back"),
        (FlowMode.DAG, "Dag", "dag"),
        (BackoffStrategy.EXPONENTIAL, "Exponential", "exponential"),
        (TriggerMode.ALL_DONE, "AllDone", "all_done"),
        (TriggerMode.ONE_FAILED, "OneFailed", "one_failed"),
        (TriggerMode.ONE_DONE, "OneDone", "one_done"),
    ],
)
def test_an_enum_is_pascal_case_in_json_and_snake_case_as_text(member: object, value: str, text: str) -> None:
    assert (member.value, str(member)) == (value, text)  # type: ignore[attr-defined]
