"""Files on the command line: what is refused before anything runs, and sub-flows under every command."""

import os
import subprocess
import sys

import pytest

from szal import Engine, EngineConfig, Handlers, WorkflowState, load_flow, open_store
from szal.cli.execute import PAUSED
from szal.model.json import decode_record

on_both_databases = pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)

RELEASE = """\
name: release
mode: sequential
rollback_on_failure: true
steps:
  - name: build
    run: echo built
    rollback: {run: echo unbuilt >> undone.txt}
  - name: gate
    wait: go
  - name: eu
    flow: deploy
    with: {region: eu}
flows:
  deploy:
    mode: sequential
    inputs: {region: none}
    steps:
      - name: copy
        run: echo {{inputs.region}} >> copied.txt
        rollback: {run: "echo {{inputs.region}} >> undone.txt"}
      - name: ask
        flow: approve
  approve:
    steps:
      - name: approval
        wait: approve
"""


@pytest.fixture(autouse=True)
def url(here, monkeypatch, database):
    (here / "release.yaml").write_text(RELEASE)
    monkeypatch.setenv("SZAL_STORE", database)
    return database


def record(url, name="e1"):
    with open_store(url) as store:
        return store.get(name)


def waiting(url, signal="approve"):
    """The execution that waits for *signal*: that of a sub-flow."""
    with open_store(url) as store:
        return next(row.execution_id for row in store.find(flow_name="approve", states=[WorkflowState.PAUSED]))


class TestSubFlows:
    @on_both_databases
    def test_they_go_on_without_the_file(self, szal, here, url):
        assert szal("run", "release.yaml", "--id", "e1").exit_code == PAUSED
        (here / "release.yaml").unlink()
        szal("signal", "e1", "go")
        assert szal("resume", "e1").exit_code == PAUSED
        szal("signal", waiting(url), "approve", '"yes"')
        assert szal("recover").exit_code == 0
        assert record(url).result.outputs["eu"]["ask"] == {"approval": "yes"}
        assert (here / "copied.txt").read_text() == "eu\n"

    def test_what_to_type_next_names_the_file_only_where_it_was_given(self, szal):
        result = szal("run", "release.yaml", "--id", "e1")
        assert "then: szal resume e1 release.yaml" in result.stdout
        assert 'szal resume e1 --store "$SZAL_STORE"\n' in szal("show", "e1").stdout + szal("signal", "e1", "go").stderr

    def test_they_are_undone_without_the_file(self, szal, here, url):
        szal("run", "release.yaml", "--id", "e1")
        szal("signal", "e1", "go")
        szal("resume", "e1")
        (here / "release.yaml").unlink()
        szal("cancel", "e1")
        assert szal("resume", "e1").exit_code == 1
        assert record(url).state is WorkflowState.ROLLED_BACK
        assert (here / "undone.txt").read_text() == "eu\nunbuilt\n"

    def test_they_are_run_again_without_the_file(self, szal, here, url):
        text = RELEASE.replace("    wait: go\n", "    run: echo\n").replace("wait: approve", "run: test -e repaired")
        (here / "release.yaml").write_text(text.replace("rollback_on_failure: true\n", ""))
        assert szal("run", "release.yaml", "--id", "e1").exit_code == 1
        (here / "release.yaml").unlink()
        (here / "repaired").touch()
        assert szal("rerun", "e1").exit_code == 0
        assert szal("rerun", "e1", "--from", "eu").exit_code == 0

    def test_one_alone_is_run_again_with_the_file_that_has_its_own(self, szal, here, url):
        text = RELEASE.replace("    wait: go\n", "    run: echo\n").replace("wait: approve", "run: test -e repaired")
        (here / "release.yaml").write_text(text.replace("rollback_on_failure: true\n", ""))
        szal("run", "release.yaml", "--id", "e1")
        (here / "repaired").touch()
        with open_store(url) as store:
            [child] = [row.execution_id for row in store.find(flow_name="deploy")]
        refused = szal("rerun", child, "--from", "copy")
        assert refused.exit_code == 2
        assert "no sub-flow for step: ask: name the flow's file" in refused.stderr
        assert szal("rerun", child, "release.yaml", "--from", "copy").exit_code == 0

    def test_they_are_validated_and_drawn(self, szal):
        result = szal("validate", "release.yaml")
        assert result.stdout.splitlines() == [
            "release: valid (sequential, 3 steps)",
            "deploy: valid (sequential, 2 steps)",
            "approve: valid (dag, 1 step)",
        ]
        assert 's2["eu"]' in szal("graph", "release.yaml").stdout

    def test_what_was_loaded_in_python_goes_on_here_and_the_other_way_round(self, szal, here, url):
        with open_store(url) as store, Engine(Handlers(), EngineConfig(execution_store=store)) as engine:
            assert engine.run(load_flow("release.yaml"), execution_id="e1").state is WorkflowState.PAUSED
        szal("signal", "e1", "go")
        assert szal("resume", "e1").exit_code == PAUSED

    def test_a_file_that_changed_is_another_flow(self, szal, here):
        szal("run", "release.yaml", "--id", "e1")
        (here / "release.yaml").write_text(RELEASE.replace("wait: approve", "wait: consent"))
        result = szal("run", "release.yaml", "--id", "e1")
        assert result.exit_code == 2
        assert "sub-flow 'approve': step 'approval': config.signal 'approve' -> 'consent'" in result.stderr

    def test_files_beside_it(self, szal, here, monkeypatch):
        (here / "sub").mkdir()
        (here / "sub" / "main.yaml").write_text("name: m\nsteps:\n  - name: a\n    flow: part\n")
        (here / "sub" / "part.yaml").write_text("name: part\nsteps:\n  - name: b\n    run: echo\n")
        assert szal("run", "sub/main.yaml", "--json").exit_code == 0
        found = decode_record(szal("run", "sub/main.yaml", "--json").stdout)
        assert found.result.outputs["a"]["b"]["exit_code"] == 0


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("flow: nowhere", "broken.yaml:4:5: 'flow' in step 'a': there is no flow 'nowhere'"),
        ("type: http", "broken.yaml:4:5: nothing does the step type 'http' of step 'a'"),
        ("description: x", "broken.yaml:3:5: step 'a' does nothing"),
    ],
)
@pytest.mark.parametrize("command", ["validate", "run"])
def test_what_cannot_be_run_is_told_before_with_its_place(szal, here, command, lines, said):
    (here / "broken.yaml").write_text(f"name: x\nsteps:\n  - name: a\n    {lines}\n")
    result = szal(command, "broken.yaml")
    assert result.exit_code == 2
    assert result.stderr.startswith(said)


def test_an_unknown_sub_flow_of_a_module_too(szal, here):
    (here / "mine.py").write_text(
        "from szal import *\n"
        "flow = FlowDef('a', steps=[StepDef('b', step_type='sub_flow', config={'flow_name': 'x'})]), Handlers()\n"
    )
    result = szal("validate", "mine:flow")
    assert result.exit_code == 2
    assert "no sub-flow for step: b" in result.stderr


def test_a_drawing_has_the_names_that_files_have(szal, here):
    (here / "x.yaml").write_text(
        "name: x\nsteps:\n  - {name: a, run: x}\n  - {name: b, run: x, needs: a, when: all_completed}\n"
    )
    assert '-->|"all succeeded"|' in szal("graph", "x.yaml").stdout


def test_a_file_can_be_a_command(here):
    (here / "bin").mkdir()
    (here / "bin" / "szal").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m szal "$@"\n')
    (here / "hello").write_text(
        "#!/usr/bin/env -S szal run\nname: hello\ninputs: {who: you}\n"
        "steps:\n  - name: a\n    run: echo {{inputs.who}} > out\n"
    )
    for file in ("bin/szal", "hello"):
        (here / file).chmod(0o755)
    environment = {**os.environ, "PATH": f"{here / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["./hello", "-i", "who=me"], cwd=here, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (here / "out").read_text() == "me\n"
