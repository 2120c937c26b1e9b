"""How what cannot be done is told; with --json, as one object on stdout."""

import json

import pytest

from szal import open_store

BAD = """
name: x
mode: parallel
steps:
  - name: a
    run: echo
    rum: echo
  - {name: b, run: echo, timeout: x}
"""
COMMANDS = {
    "list": [],
    "show": ["e1"],
    "signal": ["e1", "go"],
    "cancel": ["e1"],
    "resolve": ["e1", "a", "retry"],
    "resume": ["e1"],
    "rerun": ["e1"],
    "prune": [],
}


@pytest.fixture(autouse=True)
def bad_file(here):
    (here / "bad.yaml").write_text(BAD)
    (here / "lists.yaml").write_text(
        "name: x\ninputs: {n: {type: integer, required: true}}\nsteps:\n  - {name: a, run: echo}\n"
    )


def refused(result, status=2):
    assert result.exit_code == status
    assert result.stderr, "people are told, too"
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    "command", [["run"], ["validate"], ["resume", "e1"], ["rerun", "e1"], ["recover"]], ids=" ".join
)
def test_a_file_that_is_none_has_its_problems_with_their_places(szal, database, command):
    with open_store(database):
        pass
    told = refused(szal(*command, "bad.yaml", "--json", "--store", database))
    assert told["error_type"] == "LoadError"
    assert told["error"].startswith("bad.yaml:7:5: ")
    places = [(each["file"], each["line"], each["column"]) for each in told["problems"]]
    assert places == [("bad.yaml", 7, 5), ("bad.yaml", 8, 35)]
    assert told["problems"][0]["message"] == "unknown key 'rum' in step 'a'; did you mean 'run'?"


def test_inputs_that_are_refused(szal):
    told = refused(szal("run", "lists.yaml", "--json", "-i", "m=1"))
    assert told["error_type"] == "InvalidInputs"
    assert len(told["problems"]) == 2


@pytest.mark.parametrize("flow", ["twice", "unhandled", "nothing"])
def test_a_flow_that_is_refused(szal, flow):
    told = refused(szal("run", f"flows:{flow}", "--json"))
    assert told["problems"]
    assert all(each["message"] for each in told["problems"])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_store_that_is_not_there(szal, name):
    told = refused(szal(name, *COMMANDS[name], "--json", "--store", "sqlite:///typo.db"))
    assert "there is no database" in told["error"]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("list", "prune")])
def test_an_execution_that_is_not_there_is_named(szal, database, name):
    with open_store(database):
        pass
    told = refused(szal(name, *COMMANDS[name], "--json", "--store", database))
    assert (told["execution_id"], told["error"]) == ("e1", "there is no execution e1")


@pytest.mark.parametrize(
    "arguments", [["run", "--json"], ["list", "--json"], ["run", "--jsn", "x", "--json"]], ids=" ".join
)
def test_a_wrong_command_too(szal, arguments):
    assert refused(szal(*arguments))["error"]


def test_without_it_stdout_stays_empty(szal):
    assert szal("run", "bad.yaml").stdout == ""


def test_an_option_after_two_dashes_is_none(szal):
    assert szal("run", "--", "bad.yaml", "--json").stdout == ""
