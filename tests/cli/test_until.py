"""What the command line tells of steps that poll."""

import json

import pytest

from szal import FlowDef, StepDef
from szal.pictures.dot import to_dot
from szal.pictures.mermaid import to_mermaid

FILE = """\
name: deploy
steps:
  - name: ready
    run: echo "{\\"tries\\":$(cat tries 2> /dev/null | wc -l)}"; echo >> tries
    output: json
    until: output.tries == 2
    delay: 1ms
    until_timeout: 2h
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "deploy.yaml"
    path.write_text(FILE)
    return path


def test_a_command_polls(file, szal):
    done = szal("run", file, "--json")
    assert json.loads(done.stdout)["result"]["steps"][0]["output"] == {"tries": 2}


def test_a_dry_run_says_until_what(file, szal):
    assert "1. ready until output.tries == 2\n" in szal("run", file, "--dry-run").stdout
    assert json.loads(szal("run", file, "--dry-run", "--json").stdout)["steps"][0]["until"] == "output.tries == 2"


@pytest.mark.parametrize("draw", [to_mermaid, to_dot])
def test_a_drawing_says_until_what(draw):
    assert "until output.done" in draw(FlowDef("f", steps=[StepDef("a", until="output.done")]))
