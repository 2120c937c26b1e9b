"""The log that stands in for the live view: what steps report, a line each."""

import io
import re

import pytest
from rich.console import Console

from szal import FlowDef, StepDef, StepProgress
from szal.cli.live import PlainLog
from szal.events.progress import Printed


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
