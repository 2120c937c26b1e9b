"""Executions as tables, for people."""

import io
import json
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from rich.console import Console

from szal import ExecutionRecord, Flow, FlowDef, FlowResult, StepDef, StepResult, StepStatus, WorkflowState
from szal.cli.advice import Advice
from szal.cli.closing import closing
from szal.cli.listing import executions
from szal.cli.place import place_of
from szal.cli.show import full_record
from szal.engine.status import ExecutionStatus, Wait
from szal.model.json import AttemptEnd, Checkpoint
from szal.stores import ExecutionSummary

START = datetime(2026, 6, 10, 12, 0, 0, tzinfo=UTC)


def drawn(make, *args, width=80, encoding="utf-8", **more):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=file, width=width, markup=False, emoji=False, highlight=False)
    console.print(make(console, *args, **more))
    file.flush()
    return re.sub(" +\n", "\n", raw.getvalue().decode(encoding))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_terminal(make, *args, width, **more):
    """As `drawn`, on a terminal without colours."""
    file = Terminal()
    console = Console(file=file, width=width, markup=False, emoji=False, highlight=False, color_system=None)
    console.print(make(console, *args, **more), crop=False)
    return re.sub(" +\n", "\n", file.getvalue())


def step(name, status=StepStatus.COMPLETED, start=None, duration=0.0, attempts=1, **more):
    began = None if start is None else START + timedelta(seconds=start)
    return StepResult(name, name, status, duration=duration, attempts=attempts, started_at=began, **more)


@pytest.fixture
def record():
    steps = [
        step("build", start=0, duration=5.0, output={"exit_code": 0, "stdout": "first\nlast\n", "stderr": ""}),
        step("test", StepStatus.FAILED, start=5, duration=2.5, attempts=3, error="ValueError: one\n  two"),
        step("undo", StepStatus.ROLLED_BACK, start=0, duration=0.0),
        step("notify", StepStatus.SKIPPED, attempts=0, error="prior step failed"),
    ]
    error = "step 'test' failed: ValueError: one\n  two"
    result = FlowResult("ci", steps, 10.0, False, False, "order-42", WorkflowState.FAILED, error)
    end = START + timedelta(seconds=10)
    record = ExecutionRecord("order-42", "ci", WorkflowState.FAILED, result, START, end)
    record.inputs, record.labels, record.error = {"n": 3, "who": "me"}, {"team": "a"}, error
    return record


def line(text, start):
    return next(line for line in text.splitlines() if start in line)


def test_a_record_has_its_steps_with_states_tries_and_times(record):
    text = drawn(full_record, record)
    assert line(text, "build").split()[:5] == ["✓", "build", "completed", "1", "5.0s"]
    assert line(text, "✗ test  ").split()[:5] == ["✗", "test", "failed", "3", "2.5s"]
    assert line(text, "notify").split(maxsplit=3) == ["\N{EN DASH}", "notify", "skipped", "prior step failed"]
    assert "↶ undo   rolled_back" in text


def test_a_record_has_its_facts(record):
    text = drawn(full_record, record)
    assert "ci failed in 10.0s  1 completed, 1 failed, 1 skipped, 1 rolled_back" in text
    assert line(text, "execution").split() == ["execution", "order-42"]
    assert line(text, "inputs").split() == ["inputs", "n=3", "who=me"]
    assert line(text, "labels").split() == ["labels", "team=a"]


def test_the_timeline_shows_when_each_step_ran(record):
    text = drawn(full_record, record)
    scale = line(text, "  step  ").index("time 0") + 5
    width = len(line(text, "  step  ")) - scale
    bars = {name: line(text, name)[scale:] for name in ("✓ build", "✗ test  ", "↶ undo")}
    assert bars["✓ build"] == "█" * round(width / 2)
    assert bars["✗ test  "].lstrip(" ") == "█" * len(bars["✗ test  "].lstrip(" "))
    assert len(bars["✗ test  "]) - len(bars["✗ test  "].lstrip(" ")) == width // 2
    assert len(bars["✗ test  "]) == pytest.approx(width * 0.75, abs=1)
    assert bars["↶ undo"] == "▏"


def test_the_timeline_shows_when_a_step_was_undone_behind_when_it_ran(record):
    at = [START + timedelta(seconds=seconds) for seconds in (7.5, 8.75, 8.75, 10)]
    undos = [AttemptEnd(at[0], at[1], "OSError: no"), AttemptEnd(at[2], at[3])]
    kept = {"build": Checkpoint(record.result.steps[0], undos=undos)}
    text = drawn(full_record, record, kept=kept)
    scale = line(text, "  step  ").index("time 0") + 5
    bar = line(text, "✓ build")[scale:]
    half = len(bar) // 2
    assert bar[:half] == "█" * half
    assert bar[half:].lstrip(" ") == "░" * len(bar[half:].lstrip(" "))
    assert len(bar[half:].lstrip(" ")) == pytest.approx(len(bar) / 4, abs=1)


def test_errors_are_shown_in_full(record):
    assert drawn(full_record, record).endswith("\n✗ test\nValueError: one\n  two\n")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(record, width):
    record.result.steps[0].step_name = "a name that is much too long for its column " * 5
    record.result.steps[1].step_name = "広い" * 40
    for text in (drawn(full_record, record, width=width), drawn(closing, record.result, recorded=True, width=width)):
        assert max(map(len, text.splitlines())) <= width


def test_a_terminal_without_unicode(record):
    text = drawn(full_record, record, encoding="ascii")
    assert line(text, "build").split()[0] == "+"
    assert "####" in text


def test_a_record_without_a_result():
    text = drawn(full_record, ExecutionRecord("e1", "ci", WorkflowState.RUNNING))
    assert "● ci running" in text
    assert "No step is recorded yet." in text


def test_a_record_that_szal_rs_wrote_has_no_names_and_no_starts(record):
    rust = [
        StepResult(each.step_id, "", each.status, duration=each.duration, attempts=1) for each in record.result.steps
    ]
    record.result = FlowResult("ci", rust, 10.0, success=False)
    assert line(drawn(full_record, record), "completed   ").split()[:5] == ["✓", "build", "completed", "1", "5.0s"]


def test_closing_shows_the_last_line_of_a_shell_step_and_why_others_did_not_complete(record):
    text = drawn(closing, record.result, recorded=True)
    assert line(text, "build").split()[-1] == "last"
    assert line(text, "notify").endswith("prior step failed")
    assert line(text, "✗ test  ").endswith("ValueError: one two")
    assert text.rstrip().endswith("execution order-42")


def test_closing_says_in_which_line_of_the_users_own_a_function_raised():
    flow = Flow("broken")
    here = lines_of(lambda: json.loads("{"))  # raised in a library
    flow.step(here.function, name="own")
    flow.step(here.function, name="again", max_retries=1, retry_delay=0)
    flow.step(lambda item: here.function(), name="each", foreach=[1, 2])
    flow.add_step(StepDef("command", step_type="shell", config={"run": "exit 3"}))
    flow_steps = [step.name for step in flow.definition.steps]
    text = drawn(closing, flow.run(), recorded=False, width=200)
    own, again, each, command = (text.rpartition(f"✗ {step}\n")[2].partition("✗ ")[0] for step in flow_steps)
    for failure in (own, again, each):
        assert f"\n  at {here.place}\n" in failure
    assert "\n  at " not in command


def lines_of(function):
    code = function.__code__
    return SimpleNamespace(function=function, place=f"{code.co_filename}, line {code.co_firstlineno}")


def test_what_was_raised_from_another_error_is_placed_where_it_was_raised():
    def wrapped():
        try:
            raise KeyError("a")
        except KeyError as error:
            raise ValueError("b") from error

    with pytest.raises(ValueError, match="b") as caught:
        wrapped()
    assert place_of(caught.value) == f"{__file__}, line {wrapped.__code__.co_firstlineno + 4}"
    assert place_of(ValueError()) is None
    circle = ValueError()
    circle.__cause__ = circle
    assert place_of(circle) is None


def test_closing_says_what_is_not_rolled_back(record):
    record.result.error += "; not rolled back: build (OSError: busy)"
    assert "not rolled back: build (OSError: busy)" in drawn(closing, record.result, recorded=True, width=200)


def test_closing_lists_good_steps_of_a_flow_that_is_not_small():
    steps = [step(f"s{number}", output=number) for number in range(61)]
    text = drawn(closing, FlowResult("good", steps), recorded=True)
    assert [line.split()[1] for line in text.splitlines() if "✓ s" in line] == [f"s{number}" for number in range(61)]


def test_closing_of_a_large_flow_lists_failures_and_counts_the_rest():
    steps = [
        step(f"s{number}", StepStatus.FAILED if number % 10 == 0 else StepStatus.COMPLETED, error="no")
        for number in range(2000)
    ]
    text = drawn(closing, FlowResult("big", steps, success=False), recorded=True)
    assert "1800 completed, 200 failed" in text
    assert "… and 1800 more steps" in text
    assert len([line for line in text.splitlines() if "✗ s" in line and "no" in line]) == 200


def summary(execution_id, state=WorkflowState.COMPLETED, **more):
    return ExecutionSummary(execution_id=execution_id, flow_name="ci", state=state, started_at=START, **more)


def test_a_list_cuts_ids_to_what_tells_them_apart():
    found = [summary("0123456789-a-long-one"), summary("0123456789-b-long-one"), summary("f" * 36)]
    text = on_terminal(executions, found, width=80)
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["0123456789-a", "0123456789-b", "f" * 12]


def test_a_wide_list_and_one_in_a_file_have_them_whole():
    found = [summary("f" * 36)]
    for text in (on_terminal(executions, found, width=120), drawn(executions, found)):
        assert "f" * 36 in text


def test_a_list_shows_state_time_and_error():
    found = [
        summary("one", finished_at=START + timedelta(minutes=3)),
        summary("two", WorkflowState.ROLLED_BACK, error="step 'x' failed: " + "no " * 50),
        summary("three", WorkflowState.RUNNING),
    ]
    text = drawn(executions, found)
    assert "3m00s" in line(text, "one")
    assert "↶ rolled_back" in line(text, "two")
    assert "…" in line(text, "two")
    assert "● running" in line(text, "three")
    assert max(map(len, text.splitlines())) <= 80


class TestOutputs:
    """What steps returned is in show, a few lines of each."""

    def shown(self, *outputs, width=80):
        steps = [step(f"s{number}", output=output) for number, output in enumerate(outputs)]
        result = FlowResult("ci", steps, 1.0, execution_id="e1", state=WorkflowState.COMPLETED)
        record = ExecutionRecord("e1", "ci", WorkflowState.COMPLETED, result, START, START)
        text = on_terminal(full_record, record, None, Advice("memory:"), width=width)
        return text.partition("outputs\n")[2]

    def test_values_in_a_line(self):
        assert self.shown({"n": [1, "é"]}, 3, None, "text") == '  s0  {"n": [1, "é"]}\n  s1  3\n  s3  text\n'

    def test_of_a_long_text_the_beginning_and_how_to_see_the_rest(self):
        text = self.shown("\n".join(map(str, range(9))))
        words = "s0 0 1 2 … 6 more lines all of s0: szal show e1 --output s0 --store memory:"
        assert " ".join(text.split()) == words

    def test_of_a_command_the_last_lines(self):
        text = self.shown({"exit_code": 0, "stdout": "a\nb\nc\nd\n", "stderr": "careful\n"})
        assert text.split()[:8] == ["s0", "…", "1", "more", "line", "b", "c", "d"]
        assert "stderr: careful\n" in text

    def test_of_a_silent_one_nothing(self):
        assert self.shown({"exit_code": 0, "stdout": "", "stderr": ""}) == ""

    @pytest.mark.parametrize("width", [40, 80, 200])
    def test_a_wide_one_leaves_the_names_whole(self, width):
        text = self.shown("x" * 500, "short", width=width)
        assert [line.split()[0] for line in text.splitlines()[:2]] == ["s0", "s1"]

    def test_a_wide_one_is_cut(self):
        text = self.shown("x" * 500)
        assert max(map(len, text.splitlines()[:1])) == 78
        assert "szal show e1 --output s0" in text


class TestAFailure:
    def shown(self, error="command failed with exit status 3", **more):
        failed = step("ship", StepStatus.FAILED, error=error, **more)
        result = FlowResult("ci", [failed], 1.0, False, execution_id="e1", state=WorkflowState.FAILED)
        record = ExecutionRecord("e1", "ci", WorkflowState.FAILED, result, START, START)
        flow = FlowDef("ci", steps=[StepDef("ship", step_type="shell", config={"run": "x"})])
        return drawn(
            full_record,
            record,
            ExecutionStatus(record=record, flow=flow, results=[failed]),
            Advice("memory:"),
            width=60,
        )

    def test_it_ends_with_the_error_what_was_printed_last_and_the_next_command(self):
        output = {"exit_code": 3, "signal": None, "stdout": "connecting\nsending", "stderr": "no route\n"}
        lines = [
            "✗ ship",
            "command failed with exit status 3",
            "stdout:",
            "  connecting",
            "  sending",
            "stderr:",
            "  no route",
            "",
            "to run what failed again: szal rerun e1 --store memory:",
        ]
        assert self.shown(output=output).splitlines()[-len(lines) :] == lines

    def test_nothing_is_said_twice(self):
        output = {"exit_code": 3, "stdout": "", "stderr": "no route\n"}
        assert self.shown("command failed with exit status 3: no route", output=output).count("no route") == 1


@pytest.mark.parametrize("state", [WorkflowState.RUNNING, WorkflowState.PAUSED])
def test_what_polls_in_another_process_is_shown_with_what_it_last_came_to(state):
    record = ExecutionRecord("e1", "deploy", state)
    ready = StepResult("1", "ready", StepStatus.PENDING, "starting", attempts=1, started_at=record.started_at)
    each = StepResult("2", "each", StepStatus.PENDING, items=[StepResult("2", "each", StepStatus.PENDING, attempts=1)])
    standing = ExecutionStatus(
        record=record,
        results=[ready, each, StepResult("3", "last", StepStatus.PENDING)],
        waits=[Wait("e1", "ready", until=record.started_at)] if state is WorkflowState.PAUSED else (),
        is_running=state is WorkflowState.RUNNING,
    )
    text = drawn(full_record, record, standing)
    assert line(text, "ready").split()[1:4] == ["ready", str(state), "1"]
    assert line(text, "last").split()[1:3] == ["last", "pending"]
    assert "No step is recorded yet." not in text
