"""Which execution a command means."""

import json

import pytest

from szal import open_store

GATE = "name: gate\nsteps:\n  - name: ok\n    wait: approve\n  - name: pay\n    needs: ok\n    run: echo paid\n"
ACTING = {
    "signal": ["ID", "approve"],
    "resume": ["ID"],
    "rerun": ["ID"],
    "cancel": ["ID"],
    "resolve": ["ID", "pay", "retry"],
}


@pytest.fixture
def waiting(szal, here, database, monkeypatch):
    """Have the one execution order-42 wait for the signal approve, in the store of SZAL_STORE; return its URL."""
    (here / "gate.yaml").write_text(GATE)
    monkeypatch.setenv("SZAL_STORE", database)
    assert szal("run", "gate.yaml", "--id", "order-42").exit_code == 3
    return database


def untouched(url):
    with open_store(url) as store:
        (only,) = store.find()
        return str(only.state) == "paused" and not store.ledger.signals(only.execution_id)


def command(name, execution_id):
    return [name, *[execution_id if each == "ID" else each for each in ACTING[name]]]


@pytest.mark.parametrize("name", ACTING)
@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_id_is_none(szal, waiting, name, empty):
    result = szal(*command(name, empty))
    assert result.exit_code == 2
    assert "it is empty" in result.stderr
    assert untouched(waiting)


@pytest.mark.parametrize("name", ACTING)
def test_what_acts_takes_whole_ids(szal, waiting, name):
    result = szal(*command(name, "order-4"))
    assert result.exit_code == 2
    assert result.stderr == "szal: there is no execution order-4; give the whole id. These begin so:\n  order-42\n"
    assert untouched(waiting)


@pytest.mark.parametrize(
    "options",
    [
        ["show", ""],
        ["show", "order-42", "--store", ""],
        ["run", "gate.yaml", "--id", ""],
        ["run", "gate.yaml", "--only", "pay", "--reuse", ""],
        ["run", "gate.yaml", "--only", ""],
        ["run", "gate.yaml", "--from", ""],
        ["rerun", "order-42", "--from", ""],
        ["signal", "order-42", ""],
        ["signal", "order-42", "approve", "--id", ""],
        ["resolve", "order-42", "", "retry"],
    ],
    ids=" ".join,
)
def test_nothing_else_that_names_something_is_empty(szal, waiting, options):
    result = szal(*options)
    assert (result.exit_code, "it is empty" in result.stderr) == (2, True)
    assert untouched(waiting)


def test_what_a_part_reuses_is_named_whole(szal, waiting):
    result = szal("run", "gate.yaml", "--only", "pay", "--reuse", "order-4")
    assert (result.exit_code, "give the whole id" in result.stderr) == (2, True)


def test_to_read_one_its_beginning_is_enough(szal, waiting):
    assert json.loads(szal("show", "ord", "--json").stdout)["execution_id"] == "order-42"
