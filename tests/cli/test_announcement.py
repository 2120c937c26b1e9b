"""What is about to be run is told before it is."""

import json

import pytest

from szal import open_store

FLOW = """
name: deploy
mode: sequential
inputs:
  env: {enum: [staging, prod], default: staging}
  note: {default: none}
rollback_on_failure: true
steps:
  - {name: build, run: echo built}
  - {name: gate, wait: go}
  - {name: ship, run: "echo shipped to {{inputs.env}}"}
"""


@pytest.fixture(autouse=True)
def file(here):
    (here / "deploy.yaml").write_text(FLOW)


def announced(text):
    """Return the lines before the first that says that something happens, by their first word."""
    lines = text.partition("  started\n")[0].splitlines()[:-1]
    return {line.split()[0]: " ".join(line.split()[1:]) for line in lines}


def test_the_flow_its_inputs_and_where_it_is_recorded(szal, database):
    result = szal("run", "deploy.yaml", "--id", "e1", "--store", database, "-i", "env=prod", "-l", "team=a")
    assert announced(result.stdout) == {
        "run": "deploy (sequential, 3 steps, rolls back if it fails)",
        "inputs": "env=prod note=none (default)",
        "labels": "team=a",
        "execution": f"e1, recorded in {database}",
    }


def test_it_says_before_what_the_store_says_after(szal, database):
    told = announced(szal("run", "deploy.yaml", "--id", "e1", "--store", database).stdout)
    with open_store(database) as store:
        assert store.get("e1").inputs == {"env": "staging", "note": "none"}
    assert told["inputs"] == "env=staging (default) note=none (default)"


def test_where_a_variable_names_the_store(szal, database, monkeypatch):
    monkeypatch.setenv("SZAL_STORE", database)
    told = announced(szal("run", "deploy.yaml", "--id", "e1").stdout)
    assert told["execution"] == f"e1, recorded in {database} (SZAL_STORE)"


def test_where_nothing_is_recorded(szal):
    told = announced(szal("run", "flows:good", "-i", "value=7").stdout)
    assert (told["run"], told["inputs"]) == ("good (sequential, 2 steps)", "value=7")
    assert told["execution"].endswith(", not recorded (no --store)")


def test_where_commands_run_if_that_is_elsewhere(szal, here, database, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert announced(szal("run", here / "deploy.yaml", "--store", database).stdout)["directory"] == str(here)


def test_a_long_input_is_cut(szal):
    told = announced(szal("run", "flows:good", "-i", f"text={'x' * 500}").stdout)
    assert told["inputs"] == f"text={'x' * 59}…"


def test_what_goes_on_says_from_where(szal, database):
    szal("run", "deploy.yaml", "--id", "e1", "--store", database, "-i", "env=prod")
    szal("signal", "e1", "go", "--store", database)
    told = announced(szal("resume", "e1", "--store", database).stdout)
    assert told["run"] == "deploy (sequential, 3 steps, rolls back if it fails), goes on: 1 step had ended"
    assert told["inputs"] == "env=prod note=none"


def test_so_does_what_is_run_again(szal, here, database):
    (here / "fails.yaml").write_text("name: f\ninputs: {n: 1}\nsteps:\n  - {name: a, run: exit 3}\n")
    szal("run", "fails.yaml", "--id", "e1", "--store", database)
    told = announced(szal("rerun", "e1", "-i", "n=2", "--store", database).stdout)
    assert told["run"] == "f (dag, 1 step), again, keeping what completed in execution e1"
    assert told["inputs"] == "n=2"


@pytest.mark.parametrize("selection", [["--only", "build"], ["--from", "build"]], ids=" ".join)
def test_so_does_a_part(szal, database, selection):
    told = announced(szal("run", "deploy.yaml", "--store", database, *selection).stdout)
    assert ("only step build" if "--only" in selection else "from step build on") in told["run"]


def test_not_where_a_program_reads(szal):
    result = szal("run", "flows:good", "--json")
    assert json.loads(result.stdout)
    assert "recorded" not in result.stderr.partition("started")[0]


def test_not_where_nothing_is_run(szal, database):
    for _ in range(2):
        result = szal("run", "flows:good", "--id", "e1", "--store", database)
    assert "nothing was run" in result.stdout
    assert "recorded in" not in result.stdout


def test_not_where_it_is_refused(szal):
    assert szal("run", "deploy.yaml", "-i", "env=moon").stdout == ""
