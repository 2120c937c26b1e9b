"""What is known of a run while it goes on."""

import pytest

from szal import FlowDef, FlowMode, StepDef, StepProgress, WorkflowEvent
from szal.cli.board import Board, Stage


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def board(clock):
    steps = [StepDef("a", id="a", max_retries=2), StepDef("b", id="b"), StepDef("c", id="c")]
    board = Board(FlowDef("f", FlowMode.PARALLEL, steps=steps), clock)
    board.event(WorkflowEvent("flow_started", "f", execution_id="e1"))
    return board


def tell(board, kind, step="a", *, execution="e1", **more):
    board.event(WorkflowEvent(kind, "f", step, step, execution_id=execution, **more))


def row(board, name="a", room=20):
    return next(row for row in board.snapshot(room).rows if row.name.endswith(name))


def test_at_first_every_step_waits(board):
    snapshot = board.snapshot(20)
    assert [item.stage for item in snapshot.rows] == [Stage.WAITING] * 3
    assert snapshot.counts[Stage.WAITING] == 3
    assert snapshot.is_complete


def test_a_running_step_has_its_time_and_its_last_line(board, clock):
    tell(board, "step_started")
    for line in ("one", "two"):
        board.progress(StepProgress("a", "a", "e1", {"stream": "stdout", "line": line}))
    clock.now += 2.5
    assert row(board).stage is Stage.RUNNING
    assert row(board).seconds(clock.now) == 2.5
    assert row(board).note(clock.now) == "two"


def test_a_retry_tells_why_and_when_then_shows_output_again(board, clock):
    tell(board, "step_started")
    tell(board, "step_retry", attempt=1, duration=4.0, error="OSError: no\nway")
    clock.now += 1
    found = row(board)
    assert (found.stage, found.attempt, found.tries) == (Stage.RETRYING, 2, 3)
    assert found.note(clock.now) == "again in 3.0s: OSError: no way"
    clock.now += 3.5
    board.progress(StepProgress("a", "a", "e1", "trying"))
    assert row(board).note(clock.now) == "trying"


@pytest.mark.parametrize(
    ("event", "stage"),
    [("step_completed", Stage.COMPLETED), ("step_failed", Stage.FAILED), ("step_skipped", Stage.SKIPPED)],
)
def test_an_end_stops_the_clock(board, clock, event, stage):
    tell(board, "step_started")
    tell(board, event, attempt=1, duration=0.5, error="why")
    clock.now += 100
    assert row(board).stage is stage
    assert row(board).seconds(clock.now) == 0.5
    assert board.snapshot(20).counts == {stage: 1, Stage.WAITING: 2, Stage.RUNNING: 0}


def test_a_step_that_never_ran_took_no_time(board, clock):
    tell(board, "step_skipped", attempt=0, duration=0.0, error="condition not met")
    assert row(board).seconds(clock.now) is None
    assert row(board).note(clock.now) == "condition not met"


def test_rollback(board, clock):
    for step in "ab":
        tell(board, "step_started", step)
        tell(board, "step_completed", step, attempt=1, duration=1.0)
    tell(board, "step_rollback", "b", attempt=1, duration=1.0)
    tell(board, "step_rollback", "a", attempt=1, duration=1.0, error="OSError: no")
    assert row(board, "b").stage is Stage.ROLLED_BACK
    assert row(board, "a").stage is Stage.COMPLETED
    assert row(board, "a").note(clock.now) == "rollback failed: OSError: no"


def test_steps_of_a_sub_flow_have_rows_while_they_run_and_are_not_counted(board):
    tell(board, "step_started", "a", execution="e2")
    assert [item.name for item in board.snapshot(20).rows] == ["a", "b", "c", "f: a"]
    assert board.snapshot(20).counts[Stage.RUNNING] == 0
    board.progress(StepProgress("a", "a", "e2", "inner"))
    assert row(board, "f: a").said == "inner"
    tell(board, "step_completed", "a", execution="e2", attempt=1)
    board.progress(StepProgress("a", "a", "e2", "too late"))
    assert len(board.snapshot(20).rows) == 3


def test_sub_steps_are_indented():
    tree = StepDef("a", sub_steps=[StepDef("b", sub_steps=[StepDef("c")]), StepDef("d")])
    board = Board(FlowDef("f", FlowMode.HIERARCHICAL, steps=[tree]))
    assert [(item.name, item.depth) for item in board.snapshot(20).rows] == [("a", 0), ("b", 1), ("c", 2), ("d", 1)]


def test_a_large_flow_shows_what_runs_and_what_failed_and_counts_the_rest():
    names = [str(number) for number in range(5000)]
    board = Board(FlowDef("f", FlowMode.PARALLEL, steps=[StepDef(name, id=name) for name in names]))
    board.event(WorkflowEvent("flow_started", "f", execution_id="e1"))
    for name in names[:100]:
        tell(board, "step_started", name)
    for name in names[:30]:
        tell(board, "step_failed" if int(name) % 2 else "step_completed", name, attempt=1, duration=0.1)
    snapshot = board.snapshot(20)
    assert not snapshot.is_complete
    assert [item.name for item in snapshot.rows if item.stage is Stage.FAILED] == ["19", "21", "23", "25", "27", "29"]
    assert [item.name for item in snapshot.rows if item.stage is Stage.RUNNING] == [str(n) for n in range(30, 44)]
    assert snapshot.counts == {Stage.WAITING: 4900, Stage.RUNNING: 70, Stage.FAILED: 15, Stage.COMPLETED: 15}
