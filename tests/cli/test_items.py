"""Steps that run over a list, on the screens of the command line: one row each."""

import pytest

from szal import FlowDef, StepDef, StepResult, StepStatus, WorkflowEvent
from szal.cli.board import Board, Stage
from szal.pictures.dot import to_dot
from szal.pictures.mermaid import to_mermaid

DONE, FAILED = StepStatus.COMPLETED, StepStatus.FAILED


def test_the_live_screen_has_one_row_that_counts():
    board = Board(FlowDef("f", steps=[StepDef("each", id="s", foreach=["a"] * 9)]))

    def tell(kind, **more):
        board.event(WorkflowEvent(kind, "f", "each", "s", execution_id="e", **more))

    board.event(WorkflowEvent("flow_started", "f", execution_id="e"))
    tell("step_started")
    for index in range(3):
        tell("step_started", index=index, items=9)
    tell("step_completed", index=1, items=9, attempt=1)
    tell("step_failed", index=0, items=9, attempt=1, error="no")
    [row] = board.snapshot(9).rows
    assert (row.stage, row.note(0.0)) == (Stage.RUNNING, "2 of 9, 1 failed")
    assert board.snapshot(9).counts[Stage.RUNNING] == 1
    tell("step_failed", attempt=1, error="1 of 9 items failed")
    [row] = board.snapshot(9).rows
    assert (row.stage, row.note(0.0)) == (Stage.FAILED, "1 of 9 items failed")


def test_what_was_done_before_an_interruption_counts():
    items = [StepResult("s", "each", DONE), StepResult("s", "each", StepStatus.PENDING)]
    before = [StepResult("s", "each", StepStatus.PENDING, items=items)]
    board = Board(FlowDef("f", steps=[StepDef("each", id="s", foreach=["a", "b"])]), before=before)
    for kind, more in (("step_started", {}), ("step_started", {"index": 1, "items": 2})):
        board.event(WorkflowEvent(kind, "f", "each", "s", execution_id="e", **more))
    assert board.snapshot(9).rows[0].note(0.0) == "1 of 2"


@pytest.mark.parametrize("draw", [to_mermaid, to_dot])
def test_a_drawing_says_what_it_runs_over(draw):
    make = StepDef("list")
    text = draw(FlowDef("f", steps=[make, StepDef("a", foreach=make), StepDef("b", foreach=[1, 2])]))
    assert "for each of steps.list.output" in text
    assert "for each of 2" in text


FILE = """
name: fan
steps:
  - name: each
    foreach: [a, b, c]
    run: test {{item}} != b
"""


@pytest.fixture
def ran(tmp_path, szal):
    (tmp_path / "fan.yaml").write_text(FILE)
    store = f"sqlite:///{tmp_path}/s.db"
    return szal("run", f"{tmp_path}/fan.yaml", "--store", store, "--id", "e"), store


def test_show_has_the_items_that_did_not_complete(ran, szal):
    done, store = ran
    assert done.exit_code == 1
    shown = szal("show", "e", "--store", store).output
    assert "each: 3 items: 2 completed, 1 failed" in shown
    assert "[1] command failed with exit status 1" in shown


def test_the_log_names_items(ran):
    done, _ = ran
    assert "each[1]  FAILED" in done.output
    assert "each[0]  completed" in done.output


def test_a_dry_run_says_what_it_runs_over(tmp_path, szal):
    (tmp_path / "fan.yaml").write_text(FILE)
    assert (
        "1. each for each of 3 elements\n       test {{item}} != b"
        in szal("run", f"{tmp_path}/fan.yaml", "--dry-run").output
    )
