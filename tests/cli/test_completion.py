"""What a shell completes. In each line the last word is being typed."""

import os

import pytest
from click.shell_completion import BashComplete, FishComplete
from processes import command_line

from szal import ExecutionRecord, open_store
from szal.cli.commands import szal as group

GATE = """
name: gate
inputs: {day: 1, env: prod}
steps:
  - {name: ok, wait: approve}
  - {name: pay, needs: ok, run: echo}
"""


@pytest.fixture(autouse=True)
def stored(szal, here, database, monkeypatch):
    (here / "gate.yaml").write_text(GATE)
    monkeypatch.setenv("SZAL_STORE", database)
    szal("run", "gate.yaml", "--id", "order-42")
    szal("run", "flows:good", "--id", "good-1")


def completed(line):
    *words, last = line.split(" ")
    return {item.value for item in BashComplete(group, {}, "szal", "_SZAL_COMPLETE").get_completions(words, last)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sh", {"show"}),
        ("show ", {"order-42", "good-1"}),
        ("show or", {"order-42"}),
        ("rerun g", {"good-1"}),
        ("cancel ", {"order-42"}),
        ("signal order-42 ", {"approve"}),
        ("resolve order-42 p", {"pay"}),
        ("rerun order-42 --from ", {"ok", "pay"}),
        ("show good-1 --output t", {"two"}),
        ("run gate.yaml --from ", {"ok", "pay"}),
        ("run flows:good --only o", {"one"}),
        ("run gate.yaml -i ", {"day=", "env="}),
        ("run gate.yaml --only pay --reuse ord", {"order-42"}),
        ("list --flow g", {"gate", "good"}),
        ("list --state inter", {"interrupted"}),
        ("list --state roll", {"rolling_back", "rolled_back"}),
        ("prune --state fa", {"failed"}),
        ("graph flows:goo", {"flows:good"}),
        ("recover flows:bad", {"flows:bad"}),
    ],
)
def test_what_is_there(line, expected):
    assert completed(line) == expected


def test_each_line_that_a_shell_reads_is_a_candidate_whatever_ids_and_flows_are_called(database):
    with open_store(database) as store:
        store.save(ExecutionRecord("new\nline", "ci"))
        store.save(ExecutionRecord("odd flow", "two\nlines"))
    complete = FishComplete(group, {}, "szal", "_SZAL_COMPLETE")
    lines = [complete.format_completion(each) for each in complete.get_completions(["show"], "")]
    assert all("\n" not in line.removeprefix("plain,") for line in lines), lines
    assert completed("show ") == {"order-42", "good-1", "odd flow"}


@pytest.mark.parametrize(
    "line", ["show --store nothing ", "run nothing.yaml --from ", "run broken:x --only ", "run x:y"]
)
def test_what_is_not_there_is_no_error(here, line):
    (here / "broken.py").write_text("print('noise')\nraise SystemExit(3)\n")
    assert completed(line) == set()


def test_files_are_the_shells_to_complete():
    (item,) = BashComplete(group, {}, "szal", "_SZAL_COMPLETE").get_completions(["run"], "ga")
    assert (item.type, item.value) == ("file", "ga")


def test_a_shell_gets_it_from_the_command(database):
    asked = {"_SZAL_COMPLETE": "bash_complete", "COMP_WORDS": "szal show ord", "COMP_CWORD": "2"}
    process = command_line(environ={**os.environ, **asked})
    out, err = process.communicate(timeout=30)
    assert (out, err) == ("plain,order-42\n", "")


def test_help_says_how_to_have_it(szal):
    assert 'eval "$(_SZAL_COMPLETE=bash_source szal)"' in szal("--help").stdout
