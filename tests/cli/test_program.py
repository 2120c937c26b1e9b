"""Flows of functions on the command line: as programs of their own, and as targets; and handlers without a flow."""

import importlib
import json
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from szal import open_store
from szal.cli.target import BadTarget, find_target

PROGRAM = """
import szal

etl = szal.Flow("etl", description="Loads a day.")

@etl.step
def extract(day: str, size: int = 3, dry=False):
    return [day, size, dry]

@etl.step
def load(extract, tags: list = (), store="here", fails=False):
    if fails:
        raise ValueError("no")
    return [*tags, store]

declared = szal.Flow("declared", inputs={
    "channel": {"enum": ["staging", "prod"], "default": "staging", "help": "where to"}, "when": {"type": "date"}})
declared.step(lambda channel: channel, name="deploy")

waiting = szal.Flow("waiting")
waiting.add_step(szal.StepDef("ask", step_type="wait", config={"signal": "go"}))

@waiting.step
def after(ask):
    return ask

handlers = szal.Handlers()
handlers.step("after")(lambda ctx: f"handled {ctx.outputs['ask']}")

if __name__ == "__main__":
    import sys
    {"etl": etl, "declared": declared, "waiting": waiting}[sys.argv.pop(1)].main()
"""


@pytest.fixture
def program(here):
    (here / "etl.py").write_text(PROGRAM)
    return here / "etl.py"


@pytest.fixture
def start(program, capfd, monkeypatch):
    """Run the program's main here; gives returncode, stdout, stderr."""

    def run(flow, *arguments):
        monkeypatch.syspath_prepend(program.parent)
        made = getattr(importlib.import_module("etl"), flow)
        with pytest.raises(SystemExit) as leaving:
            made.main(arguments)
        out, err = capfd.readouterr()
        return SimpleNamespace(returncode=leaving.value.code, stdout=out, stderr=err)

    return run


def told(text):
    return " ".join(text.split())


# -- a program -----------------------------------------------------------------------------------------------


def test_inputs_are_options_with_their_types(start, here):
    ended = start("etl", "--day", "007", "--size", "5", "--dry", "--tags", '["a"]', "--store", "sqlite:///a.db")
    assert ended.returncode == 0, ended.stderr
    with open_store(f"sqlite:///{here}/a.db") as store:
        (execution_id,) = store.list()
        assert store.get(execution_id).result.outputs == {"extract": ["007", 5, True], "load": ["a", "here"]}
    assert "etl completed" in ended.stdout


@pytest.mark.parametrize("words", [(), ("--help",), ("--day", "1", "--json")])
def test_a_flow_that_cannot_be_run_is_one_message(start, here, words):
    program = here / "etl.py"
    program.write_text(program.read_text() + "\netl.step(lambda item: item, name='each')\n")
    ended = start("etl", *words)
    problem = "step 'each' takes 'item', and has no foreach= to take it from: an input needs another name"
    assert (ended.returncode, ended.stderr) == (2, f"szal: invalid flow 'etl': {problem}\n")
    assert ("--json" not in words) or json.loads(ended.stdout)["error_type"] == "InvalidFlow"


def test_help_lists_them_beside_those_of_run(start):
    ended = start("etl", "--help")
    assert ended.returncode == 0
    options = ("--day STRING required", "--size INTEGER default 3", "--dry / --no-dry default False", "--store URL")
    for said in ("Loads a day.", *options):
        assert said in told(ended.stdout)
    text = told(start("declared", "--help").stdout)
    assert "--channel staging|prod where to; default 'staging'" in text
    assert "--when DATE" in text


def test_an_input_with_the_name_of_another_option_is_given_as_an_input(start):
    ended = start("etl", "--day", "1", "-i", "store=there", "--json")
    assert '"there"' in ended.stdout


def test_exit_statuses_are_those_of_run(start):
    assert start("etl", "--day", "1", "--fails").returncode == 1
    missing = start("etl")
    assert (missing.returncode, missing.stderr.splitlines()[-1]) == (2, "give it with --day …")
    assert start("etl", "--dayy", "1").returncode == 2
    assert start("etl", "--day", "1", "--size", "many").returncode == 2
    waits = start("waiting", "--store", "sqlite:///a.db", "--id", "w")
    assert waits.returncode == 3
    assert "szal resume w etl:waiting --store sqlite:///a.db" in waits.stdout


@pytest.mark.parametrize(("script", "named"), [("etl.py", "etl"), ("flows/etl.py", "flows/etl.py")])
def test_a_script_prints_what_goes_on_with_it(program, szal, script, named):
    (program.parent / script).parent.mkdir(exist_ok=True)
    program.rename(program.parent / script)
    words = [sys.executable, script, "waiting", "--store", "sqlite:///a.db", "--id", "w"]
    ended = subprocess.run(words, cwd=program.parent, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 3, ended.stderr
    *_, line = ended.stdout.splitlines()
    assert line == f"then: szal resume w {named}:waiting --store sqlite:///a.db"
    szal("signal", "w", "go", "now", "--store", "sqlite:///a.db")
    assert "now" in szal(*line.split()[2:]).output


# -- a target ------------------------------------------------------------------------------------------------


def test_a_flow_of_functions_is_a_target(program, szal):
    assert find_target("etl:etl").flow.name == "etl"
    assert szal("run", "etl:etl", "-i", "day=1").exit_code == 0
    assert "-i day=STRING" in szal("run", "etl:etl", "--help").output
    assert szal("validate", "etl:etl").exit_code == 0
    assert "extract" in szal("graph", "etl:etl").output


def test_a_step_is_no_target(program):
    with pytest.raises(BadTarget, match="this is the step 'extract' of the flow 'etl': name the flow"):
        find_target("etl:extract")


def test_what_goes_on_takes_handlers_without_a_flow(program, szal):
    store = ("--store", "sqlite:///a.db")
    for name in "abc":
        assert szal("run", "etl:waiting", "--id", name, *store).exit_code == 3
        szal("signal", name, "go", "now", *store)
    for command in (["resume", "a"], ["rerun", "a", "--from", "after"], ["recover"]):
        assert szal(*command, "etl:handlers", *store).exit_code == 0
    with open_store("sqlite:///a.db") as opened:
        assert {opened.get(name).result["after"].output for name in "abc"} == {"handled now"}


def test_many_are_gone_on_with_by_handlers_without_a_flow(program, szal):
    store = ("--store", "sqlite:///a.db")
    szal("run", "etl:waiting", "--id", "a", *store)
    szal("signal", "a", "go", "now", *store)
    assert szal("resume", "--flow", "waiting", "--state", "paused", "etl:handlers", "-y", *store).exit_code == 0
    with open_store("sqlite:///a.db") as opened:
        assert opened.get("a").result["after"].output == "handled now"


def test_what_begins_takes_no_handlers_without_a_flow(program, szal):
    ended = szal("run", "etl:handlers")
    assert ended.exit_code == 2
    assert "of type Handlers, not a Flow, a FlowDef" in ended.output


def test_a_tuple_of_flows_brings_the_functions_of_each(here):
    (here / "mine.py").write_text(
        textwrap.dedent("""
        import szal
        one, two = szal.Flow("one"), szal.Flow("two", version=2)
        one.add_step(szal.StepDef("two", step_type="sub_flow", config={"flow_name": "two"}))
        two.step(lambda ctx: "two", name="a")
        two.migration(1, 2)(lambda flow: flow)
        both = one, two
        """)
    )
    target = find_target("mine:both")
    target.check()
    assert [flow.name for flow in target.flows] == ["one", "two"]
    assert list(target.migrations) == ["two"]
