"""The log that stands in for the live view: what steps report, a line each."""

import io
import re

import pytest
from rich.console import Console

from szal import FlowDef, StepDef, StepProgress, WorkflowEvent
from szal.cli.live import PlainLog
from szal.events.progress import Printed
from szal.model.results import StepResult
from szal.model.state import StepStatus


@pytest.fixture
def told():
    """``told(*data)``: what a log says of what a step has reported."""
    file = io.StringIO()
    log = PlainLog(FlowDef("f", steps=[StepDef("load")]), Console(file=file))

    def told(*data):
        for each in data:
            log.progress(StepProgress("load", "1", "e", each))
        return [re.sub(r"^\d\d:\d\d:\d\d load  ", "", line) for line in file.getvalue().splitlines()]

    return told


def test_each_line_that_a_command_printed_is_one(told):
    assert told(Printed("stdout", b"one\n\n  two\n"), Printed("stderr", b"three\n")) == [
        "| one",
        "| ",
        "|   two",
        "| three",
    ]


def test_a_progress_bar_that_moves_fast_is_there_at_times_and_in_the_end(told):
    moves = [Printed("stderr", b"%d%%\r" % percent) for percent in range(100)]
    assert told(*moves, Printed("stderr", b"98%\r99%\r100%\n")) == ["| 0%", "| 100%"]


def test_what_is_printed_cannot_act_on_a_terminal(told):
    assert told(Printed("stdout", b"\x1b[31mred\x1b[0m\x07\n\x1b]0;title\nnext\n")) == ["| red\ufffd", "| ", "| next"]


def test_whatever_else_is_reported_is_a_line(told):
    assert told({"percent": 5}, "text") == ['| {"percent": 5}', "| text"]


class TestTheStartOfAStep:
    @pytest.fixture
    def lines(self):
        """``lines(*happened)``: the log of an execution in which this happens, in this order."""

        def lines(*happened, before=()):
            file = io.StringIO()
            log = PlainLog(FlowDef("f", steps=[StepDef("load")]), Console(file=file), before)
            for each in happened:
                log.event(each) if isinstance(each, WorkflowEvent) else log.progress(each)
            return [line[9:].split(maxsplit=1) for line in file.getvalue().splitlines()]

        return lines

    flow = WorkflowEvent("flow_started", "f", execution_id="e")
    step = WorkflowEvent("step_started", "f", "load", "1", 1, execution_id="e")
    report = StepProgress("load", "1", "e", "one")

    def test_is_told_once_and_before_what_it_reports_whichever_comes_first(self, lines):
        told = [["f", "started"], ["load", "started"], ["load", "| one"]]
        assert lines(self.flow, self.report, self.step) == lines(self.flow, self.step, self.report) == told

    def test_is_not_told_where_only_its_undo_reports(self, lines):
        assert lines(self.report) == [["load", "| one"]]
        ended = StepResult("1", "load", StepStatus.COMPLETED)
        assert lines(self.flow, self.report, before=[ended]) == [["f", "started"], ["load", "| one"]]
