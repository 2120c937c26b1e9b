"""``szal list``: which executions there are, on screens of any width."""

import io
import re

import pytest

from szal import WorkflowState
from szal.cli.console import Stream, console_for
from szal.cli.listing import executions
from szal.clock import utc_now
from szal.stores import ExecutionSummary

IDS = ("9e8758df-629d-4be9-a5cd-08674a48b4ce", "9e8759aa-629d-4be9-a5cd-08674a48b4ce")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(file: io.StringIO, ids: tuple[str, ...], width: int | None = None) -> list[str]:
    """Return the lines of a list, without its head."""
    now = utc_now()
    found = [
        ExecutionSummary(
            execution_id=each,
            flow_name="a-nightly-job",
            state=WorkflowState.ROLLED_BACK,
            started_at=now,
            finished_at=now,
            error="no route to host",
        )
        for each in ids
    ]
    console = console_for(Stream(file))
    if width is not None:
        console.width = width
    console.print(executions(console, found))
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).splitlines()[1:]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_terminal_has_what_tells_ids_apart_and_the_state_whatever_its_width(width):
    lines = shown(Terminal(), IDS, width)
    assert [line[:8] for line in lines] == [each[:8] for each in IDS]
    assert all("…" not in line.split()[0] for line in lines)
    assert all("rolled_back" in line and "0ms" in line for line in lines)
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("length", [10, 140, 500])
def test_a_pipe_has_whole_ids_and_all_else(length):
    (line,) = shown(io.StringIO(), ("x" * length,))
    assert line.startswith("x" * length + " ")
    assert "rolled_back" in line
    assert "no" in line.split()
