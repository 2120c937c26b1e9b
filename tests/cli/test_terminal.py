"""The live view, in a pseudo-terminal."""

import re
import signal

import pytest

from szal import WorkflowState, open_store

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def frames(text):
    """Return what was drawn while the view was there, without colours."""
    drawn = text[text.index(HIDE) : text.rindex(SHOW)]
    return re.sub(r"\x1b\[[\d;]*m", "", drawn)


def after(text):
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text[text.rindex(SHOW) :])


def test_it_draws_a_line_for_each_step_and_ends_with_the_table(spawn):
    process = spawn("run", "flows:mixed", terminal=True)
    assert process.end() == 1
    assert process.seen.count(HIDE) == process.seen.count(SHOW) == 1
    assert "mixed failed in" in after(process.seen)
    assert re.search(r"✗ fail +failed", after(process.seen))
    assert after(process.seen).rstrip().endswith("(not recorded: no --store)")


def test_it_shows_what_runs_and_what_it_said_last(spawn):
    process = spawn("run", "flows:waits", terminal=True)
    process.until("ready now")
    process.signal(signal.SIGINT)
    assert process.end() == 130
    drawn = frames(process.seen)
    assert re.search(r"\S ready running +\d+ms", drawn)
    assert "· after waiting" in drawn
    assert "waits cancelled in" in after(process.seen)


def test_it_shows_what_a_signal_does(spawn, database):
    process = spawn("run", "flows:hangs", "--id", "e1", "--store", database, terminal=True)
    process.until("ready now")
    process.signal(signal.SIGINT)
    process.until("SIGINT: pausing as soon as what runs has ended; once more to stop waiting")
    process.signal(signal.SIGINT)
    assert process.end() == 130
    assert "hangs paused in" in after(process.seen)


def test_a_command_is_not_broken_at_the_edge_of_the_terminal(spawn, database):
    process = spawn("run", "flows:waits", "--id", "e1", "--store", database, terminal=True)
    process.until("ready now")
    process.signal(signal.SIGINT)
    assert process.end() == 130
    assert f"interrupted; to go on: szal resume e1 flows:waits --store {database}\r\n" in after(process.seen)
    shown = spawn("show", "e1", "--store", database, terminal=True)
    assert shown.end() == 0
    command = f"interrupted; to go on: szal resume e1 MODULE:ATTRIBUTE --store {database}\r\n"
    assert command in re.sub(r"\x1b\[[\d;]*m", "", shown.seen)


def test_where_the_terminal_is_closed_the_run_is_left_to_whoever_recovers(spawn, database):
    process = spawn("run", "flows:waits", "--id", "e1", "--store", database, terminal=True, is_its_own=True)
    process.until("ready now")
    process.hang_up()
    assert process.popen.wait(20) == 129
    assert spawn("recover", "flows:good", "--store", database).end() == 0  # it is of another flow
    with open_store(database) as store:
        assert store.get("e1").state is WorkflowState.RUNNING
        assert list(store.ledger.interrupted(lambda owner: False)) == ["e1"]


def test_a_large_flow_is_counted_not_drawn(spawn):
    process = spawn("run", "flows:large", terminal=True)
    assert process.end() == 0
    assert max(frame.count("step-") for frame in frames(process.seen).split("large")) <= 24
    assert "300 completed" in after(process.seen)


def test_what_steps_say_cannot_act_on_the_terminal(spawn):
    process = spawn("run", "flows:evil", terminal=True)
    assert process.end() == 1
    for sequence in ("\x1b]0;", "\x1b[2J", "\x9b", "\u202e", "\x07"):
        assert sequence not in process.seen
    assert "[red]markup" in process.seen


def test_what_steps_print_stands_above_the_view(spawn):
    process = spawn("run", "flows:rolls", terminal=True)
    process.until("ready now")
    process.signal(signal.SIGTERM)
    assert process.end() == 143
    assert "undone one" in frames(process.seen)
    assert "rolls rolled_back in" in after(process.seen)


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_a_plain_log_where_a_view_is_not_wanted(spawn, environment):
    process = spawn("run", "flows:shell", terminal=True, **environment)
    assert process.end() == 0
    assert HIDE not in process.seen
    assert "hello  | bye" in process.seen


def test_a_progress_bar_moves_while_its_command_runs(spawn, here):
    process = spawn("run", "flows:bar", terminal=True)
    process.until("10%")
    (here / "go").touch()
    assert process.end() == 0
    assert re.search(r"✓ load +completed .* 100%", after(process.seen))


def test_output_that_was_cut_is_told_when_it_ends_and_later(spawn, szal, database):
    told = "of stdout of flood the end is kept: the last 1024 KiB"
    process = spawn("run", "flows:floods", "--id", "e1", "--store", database, terminal=True)
    assert process.end() == 0
    assert told in after(process.seen)
    assert told in szal("show", "e1", "--store", database).stdout
