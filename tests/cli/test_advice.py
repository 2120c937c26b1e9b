"""Commands that people are told to type."""

import pytest

from szal import ExecutionRecord, FlowDef, StepDef, WorkflowState
from szal.cli.advice import Advice
from szal.engine.status import Wait


def test_the_store_and_the_target_are_in_it():
    advice = Advice("sqlite:///szal.db", "mine:flow")
    assert advice.resume("e1") == "szal resume e1 mine:flow --store sqlite:///szal.db"
    assert advice.undo("e1") == f"szal cancel e1 --store sqlite:///szal.db && {advice.resume('e1')}"


def test_where_no_target_was_named_its_place_is_kept_unless_none_is_needed():
    shell = FlowDef("f", steps=[StepDef("a", step_type="shell", config={"run": "true"})])
    assert Advice().resume("e1", FlowDef("f", steps=[StepDef("a")])) == "szal resume e1 MODULE:ATTRIBUTE"
    assert Advice().resume("e1", shell) == Advice().resume("e1") == "szal resume e1"


def test_a_shell_reads_each_word_as_it_is():
    assert Advice("sqlite:///my files.db").resume("a b") == "szal resume 'a b' --store 'sqlite:///my files.db'"
    assert Advice("memory:", "m:f").resume("-x") == "szal resume --store memory: -- -x m:f"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:se:cret@db/prod", "postgresql://ann@db/prod"),
        ("postgresql+psycopg://ann:cret@db/prod", "postgresql+psycopg://ann@db/prod"),
        ("postgresql://ann:s@cret@db/prod", "'postgresql://…'"),
        ("postgresql://:secret@db/prod", "postgresql://@db/prod"),
        ("postgresql://ann@db/prod?password=secret&sslmode=require", "'postgresql://ann@db/prod?sslmode=require'"),
        ("postgresql://db/prod?password=secret", "postgresql://db/prod"),
        ("postgresql://ann@db:5432/prod", "postgresql://ann@db:5432/prod"),
        ("postgresql://db:5432/prod?options=a%40b", "'postgresql://db:5432/prod?options=a%40b'"),
        ("postgresql://db/prod?%70assword=secret&sslpassword=secret", "postgresql://db/prod"),
    ],
)
def test_no_password_is_in_it(url, shown):
    assert Advice(url).resume("e1") == f"szal resume e1 --store {shown}"


def test_a_wait_says_what_sends_what_it_is_for():
    waits = [Wait("e1", "ask", "the go"), Wait("e1", "pay")]
    signal, decision = Advice("memory:").waits(waits)
    assert signal == "waits for the signal the go (step ask): szal signal e1 'the go' --store memory:"
    assert decision.endswith(": szal resolve e1 pay completed|failed|retry --store memory:")


@pytest.mark.parametrize(
    ("state", "first"),
    [
        (WorkflowState.PAUSED, "interrupted; to go on: "),
        (WorkflowState.RUNNING, "interrupted, and left to whoever recovers; to go on: "),
        (WorkflowState.ROLLING_BACK, "interrupted while it was undone; to go on with that: "),
    ],
)
def test_after_an_interruption_it_says_how_to_go_on(state, first):
    lines = list(Advice().after_interruption(ExecutionRecord("e1", "f", state), None))
    assert lines[0] == f"{first}szal resume e1"
    assert lines[1:] == ([] if state is WorkflowState.ROLLING_BACK else [f"to undo it: {Advice().undo('e1')}"])
