"""Secrets on the command line: no screen shows one, and none is in any file."""

import json

import pytest

SECRET = "hunter2-sésame"
FLOW = """
name: deploy
mode: sequential
inputs:
  password: {type: string, secret: true, required: true, help: of the database}
  n: 3
steps:
  - name: login
    run: |
      echo "logging in as u:$SZAL_INPUT_PASSWORD"
      echo warning {{inputs.password}} >&2
  - name: ask
    wait: go
  - name: check
    if: inputs.password != ''
    run: echo "$SZAL_INPUT_PASSWORD" >&2; test -n {{inputs.password}} && exit 3
"""


@pytest.fixture
def file(here):
    (here / "deploy.yaml").write_text(FLOW)
    return here / "deploy.yaml"


def assert_unseen(here, *results):
    for result in results:
        assert "hunter2" not in result.stdout + result.stderr
    for path in here.iterdir():
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), path


@pytest.fixture(params=["-i", "environment"])
def given(request, monkeypatch):
    """How a command is given it: words of its own, or a variable."""
    if request.param == "-i":
        return ["-i", f"password={SECRET}"]
    monkeypatch.setenv("SZAL_SECRET_PASSWORD", SECRET)
    return []


def test_from_the_run_to_the_end(szal, file, here, database, given):
    begun = szal("run", file, *given, "--store", database, "--id", "a")
    assert begun.exit_code == 3, begun.stderr
    shown = [szal("show", "a", "--store", database), szal("list", "--store", database, "--json")]
    assert '"password":"***"' in szal("show", "a", "--store", database, "--json").stdout
    szal("signal", "a", "go", "--store", database)
    ended = szal("resume", "a", *given, "--store", database)
    assert ended.exit_code == 1, ended.stderr
    assert "exit status 3" in ended.stdout + ended.stderr
    assert "***" in ended.stdout + ended.stderr
    shown.append(szal("show", "a", "--store", database))
    again = szal("rerun", "a", *given, "--store", database, "--from", "check", "--new-id", "b", "--json")
    assert json.loads(again.stdout)["inputs"] == {"password": "***", "n": 3}
    assert_unseen(here, begun, ended, again, *shown)


def test_without_it_an_execution_that_waits_is_refused(szal, file, here, database):
    szal("run", file, "-i", f"password={SECRET}", "--store", database, "--id", "a")
    szal("signal", "a", "go", "--store", database)
    for command in (["resume", "a"], ["resume", "a", file]):
        refused = szal(*command, "--store", database)
        assert refused.exit_code == 2
        assert "the input 'password' was not recorded, as it is secret: set SZAL_SECRET_PASSWORD" in refused.stderr
    again = szal("rerun", "a", "--store", database)
    assert "input 'password' is required: text (secret: SZAL_SECRET_PASSWORD may hold it)" in again.stderr
    many = szal("resume", "--flow", "deploy", "-i", "password=x", "--store", database, "-y")
    assert "-i is for one execution: for many, set SZAL_SECRET_KEY" in many.stderr
    assert_unseen(here, refused, again, many)


def test_a_dry_run_shows_where_it_goes(szal, file, here):
    shown = szal("run", file, "-i", f"password={SECRET}", "--dry-run")
    as_json = szal("run", file, "-i", f"password={SECRET}", "--dry-run", "--json")
    assert "echo warning '***'" in shown.stdout
    assert json.loads(as_json.stdout)["inputs"] == {"password": "***", "n": 3}
    assert [step["does"] for step in json.loads(as_json.stdout)["steps"]] == ["run", "run", "run"]
    assert_unseen(here, shown, as_json)


def test_what_is_wrong_with_it_is_told_without_it(szal, here):
    (here / "pin.yaml").write_text(
        "name: pin\ninputs: {pin: {type: integer, secret: true}}\nsteps: [{name: a, run: 'true'}]\n"
    )
    refused = szal("run", "pin.yaml", "-i", f"pin={SECRET}")
    assert "input 'pin': expected a whole number, given something else (it is secret)" in refused.stderr
    assert_unseen(here, refused)


def test_a_number_of_no_type_is_text(szal, here):
    (here / "pin.yaml").write_text("name: pin\ninputs: {pin: {secret: true}}\nsteps: [{name: a, call: flows:f}]\n")
    (here / "flows.py").write_text("def f(ctx):\n    return type(ctx.inputs['pin']).__name__\n")
    shown = szal("run", "pin.yaml", "-i", "pin=12345", "--json")
    assert json.loads(shown.stdout)["result"]["steps"][0]["output"] == "str", shown.stdout


def test_help_says_so(szal, file):
    assert "secret: SZAL_SECRET_PASSWORD may hold it" in " ".join(szal("run", file, "--help").stdout.split())


def test_the_screen_of_a_run_has_none(spawn, file, here):
    run = spawn("run", "deploy.yaml", "-i", f"password={SECRET}", "--store", "sqlite:///szal.db", terminal=True)
    assert run.end() == 3
    assert "u:***" in run.seen or "login" in run.seen
    assert "hunter2" not in run.seen
