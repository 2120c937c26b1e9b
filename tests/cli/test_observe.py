"""What runs elsewhere, from a terminal: szal show -f, szal top, szal logs."""

import json
import re
import signal
import threading
from datetime import datetime

import pytest
from helper_engine import bounded, waited
from processes import wait_until

from szal import Engine, FlowDef, StepDef, open_store
from szal.cli import console, follow, top
from szal.errors import StoreUnavailable

FLOW = FlowDef("load", steps=[StepDef("one"), StepDef("two"), StepDef("three", max_retries=1, retry_delay=0.0)])
ASKS = FlowDef("asks", steps=[StepDef("one"), StepDef("ask", step_type="wait", config={"signal": "go"})])


@pytest.fixture
def database(here):
    return f"sqlite:///{here}/szal.db"


@pytest.fixture
def gate():
    return threading.Event()


@pytest.fixture
def engine(database, gate):
    """An engine in whose flows the step two waits, and the step three fails once."""

    def handler(ctx):
        if ctx.step.name == "two":
            ctx.report({"done": 3})
            waited(gate)
        if ctx.step.name == "three" and (ctx.attempt < 2 or ctx.inputs.get("fails")):
            raise OSError("not yet")
        return {"rows": 1}

    with Engine.open(database, handler, share_progress=True) as engine:
        yield engine
        gate.set()


@pytest.fixture
def released(gate, monkeypatch):
    """The step two goes on once whoever follows has written something."""

    def write(out, text):
        console.write(out, text)
        gate.set()

    monkeypatch.setattr(follow, "write", write)


def until_reported(database, name):
    """Wait until it is recorded that the first step has ended, and what the second has reported."""

    def is_recorded():
        steps = other.look(name).steps
        return steps["one"].attempts and steps["two"].report

    with Engine.open(database) as other:
        wait_until(is_recorded, 30)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.usefixtures("released")
def test_following_tells_each_step_and_ends_with_the_state_s_status(szal, engine, database, fails):
    engine.start(FLOW, {"fails": fails}, execution_id="e1")
    until_reported(database, "e1")
    result = bounded(szal, "show", "-f", "e", "--store", database)
    assert result.exit_code == fails
    lines = re.sub(r"\d\d:\d\d:\d\d ", "", result.stdout).splitlines()
    assert re.match(r"one +completed in ", lines[0])
    assert {"two    running", 'two    | {"done": 3}', "load   running"} <= {*lines}
    assert any(re.match(r"two +completed in ", line) for line in lines)
    assert f"load {'failed' if fails else 'completed'} in" in result.stdout


@pytest.mark.usefixtures("released")
def test_following_as_json_is_a_line_for_each_change(szal, engine, database):
    engine.start(FLOW, execution_id="e1")
    until_reported(database, "e1")
    result = bounded(szal, "show", "--follow", "e1", "--json", "--store", database)
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, told[0]["state"], told[-1]["state"]) == (0, "running", "completed")
    assert told[0]["steps"]["two"]["report"] == {"done": 3}
    assert "one" not in told[-1]["steps"]


def test_what_has_ended_is_shown_at_once(szal, engine, database, gate):
    gate.set()
    engine.run(FLOW, execution_id="e1")
    assert bounded(szal, "show", "-f", "e1", "--json", "--store", database).stdout.count("\n") == 1


@pytest.mark.parametrize("other", [["--html", "page.html"], ["--output", "one"]])
def test_following_goes_with_nothing_that_shows_it_once(szal, database, other):
    result = szal("show", "-f", "e1", *other, "--store", database)
    assert (result.exit_code, "--follow goes with neither --html nor --output" in result.stderr) == (2, True)


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_following_what_waits_for_somebody_says_so_and_ends(szal, engine, database, options):
    engine.run(ASKS, execution_id="e1")
    result = bounded(szal, "show", "-f", "e1", "--store", database, *options)
    assert result.exit_code == 3
    if options:
        assert json.loads(result.stdout)["waits"] == [{"step": "ask", "signal": "go", "until": None}]
    else:
        assert "asks  paused: waits for go\n" in result.stdout
        assert f"waits for the signal go (step ask): szal signal e1 go --store {database}" in result.stdout


def test_following_with_wait_says_so_and_goes_on_until_it_has_ended(szal, engine, database, monkeypatch):
    told = []

    def write(out, text):
        console.write(out, text)
        told.append(text)
        if "waits for the signal go" in text:
            engine.signal("e1", "go")
            engine.resume("e1")

    monkeypatch.setattr(follow, "write", write)
    engine.run(ASKS, execution_id="e1")
    result = bounded(szal, "show", "-f", "e1", "--wait", "--store", database)
    assert (result.exit_code, "asks completed in" in result.stdout) == (0, True)
    asked = [line for line in told if "waits for the signal go" in line]
    assert len(asked) == 1
    assert asked[0].endswith(f"(step ask): szal signal e1 go --store {database}")


def test_what_a_person_has_paused_waits_for_somebody(szal, engine, database):
    engine.run(ASKS, execution_id="e1")
    engine.pause("e1")
    result = bounded(szal, "show", "-f", "e1", "--store", database)
    assert (result.exit_code, "szal resume e1" in result.stdout) == (3, True)


def test_what_waits_until_a_time_is_followed_for_so_long_at_most(szal, engine, database):
    config = {"signal": "go", "timeout": 3600, "default": 1}
    engine.run(FlowDef("f", steps=[StepDef("later", step_type="wait", config=config)]), execution_id="e1")
    result = bounded(szal, "show", "-f", "e1", "--timeout", "100ms", "--store", database)
    assert result.exit_code == 124
    assert "szal: e1 has not ended after 100ms, and is left as it is" in result.stderr
    assert "step later" in result.stdout


@pytest.mark.parametrize("option", [["--wait"], ["--timeout", "5s"]])
def test_how_long_it_is_followed_is_said_of_following_alone(szal, database, option):
    result = szal("show", "e1", *option, "--store", database)
    assert (result.exit_code, "--wait and --timeout go with --follow" in result.stderr) == (2, True)


def test_on_a_terminal_it_is_drawn_again_until_ctrl_c(spawn, engine, database):
    engine.run(ASKS, execution_id="e1")
    process = spawn("show", "-f", "e1", "--wait", "--store", database, terminal=True)
    process.until("waits for the signal go")
    process.signal(signal.SIGINT)
    assert process.end() == 130
    assert "e1 is followed no more, and left as it is" in process.seen
    assert "Traceback" not in process.seen


def test_top_lists_what_runs_and_what_waits_and_not_what_has_ended(szal, engine, database, gate):
    engine.run(FlowDef("done", steps=[StepDef("one")]), execution_id="d1")
    engine.run(ASKS, execution_id="w1")
    engine.start(FLOW, execution_id="e1")
    until_reported(database, "e1")
    printed = szal("top", "--store", database).stdout
    assert printed.splitlines()[0] == "1 running  1 paused"
    running, waiting = printed.splitlines()[2:]
    assert re.match(r"e1 +load +\S running +\S+ +1/3 +two: \{\"done\": 3\} +process \d+ on ", running)
    assert re.match(r"w1 +asks +\S paused +\S+ +1/2 +waits for go$", waiting)
    told = {
        line["execution_id"]: line
        for line in map(json.loads, szal("top", "--once", "--json", "--store", database).stdout.splitlines())
    }
    assert told.keys() == {"e1", "w1"}
    assert (told["e1"]["running"], told["e1"]["steps"], told["w1"]["waits"]) == (["two"], {"done": 1, "of": 3}, ["go"])


def test_top_says_what_waits_for_others(szal, engine, database, gate):
    with open_store(database) as store:
        store.set_capacity("api", 1)
        holds = engine.start(FlowDef("load", steps=[StepDef("two", resources={"api": 1})]), execution_id="e1")
        wait_until(lambda: store.ledger.limits.uses()[0].used == 1)
        asks = engine.start(FlowDef("load", steps=[StepDef("one", resources={"api": 1})]), execution_id="e2")
        wait_until(lambda: store.ledger.limits.waiting("e2"))
        keyed = FlowDef("keyed", steps=[StepDef("one"), *ASKS.steps[1:]], concurrency_key="k")
        engine.run(keyed, execution_id="first")
        engine.submit(keyed, execution_id="second")
    printed = szal("top", "--store", database).stdout
    assert "one waits for 'api' (1 of 1 in use)" in printed
    assert "queued behind first for 'k'" in printed
    lines = map(json.loads, szal("top", "--once", "--json", "--store", database).stdout.splitlines())
    told = {line["execution_id"]: line for line in lines}
    (queued,) = told["e2"]["queued"]
    assert (queued["name"], queued["used"], queued["in_engine"]) == ("api", 1, False)
    assert datetime.fromisoformat(queued["since"]).tzinfo is not None
    assert (told["second"]["queued_behind"], told["first"]["queued_behind"]) == ("first", None)
    gate.set()
    assert holds.result(20).success
    assert asks.result(20).success


def test_top_lists_what_runs_however_much_is_queued_behind_it_and_counts_all(szal, engine, database, gate, monkeypatch):
    monkeypatch.setattr(top, "_MOST", 3)
    engine.run(ASKS, execution_id="w1")
    execution = engine.start(FLOW, execution_id="e1")
    until_reported(database, "e1")
    for number in range(5):
        engine.submit(FLOW, execution_id=f"q{number}", queue="slow")
    printed = szal("top", "--store", database).stdout.splitlines()
    assert printed[0] == "1 running  1 paused  5 created"
    assert [line.split()[0] for line in printed[2:]] == ["e1", "w1", "q4", "…"]
    assert "in the queue 'slow'" in printed[4]
    assert printed[-1].strip() == "… and 4 more"
    gate.set()
    assert execution.result(20).success


def test_what_ends_while_top_looks_is_not_listed(szal, engine, database, gate, monkeypatch):
    execution = engine.start(FLOW, execution_id="e1")
    until_reported(database, "e1")

    class Late(top.View):
        def look(self):
            gate.set()
            assert execution.result(20).success
            return super().look()

    monkeypatch.setattr(top, "View", Late)
    result = szal("top", "--once", "--json", "--store", database)
    assert (result.exit_code, result.stdout) == (0, "")


SHARES = """
from processes import wait_until
from szal import Engine, Flow

shares = Flow("shares")

@shares.step
def copy(ctx, url):
    ctx.report({"done": 3})
    with Engine.open(url) as other:
        wait_until(lambda: other.look("e1").steps["copy"].report is not None, 30)
        return other.look("e1").steps["copy"].report.data
"""


def test_what_szal_run_shares_is_seen_by_others(szal, here, database):
    (here / "sharing.py").write_text(SHARES)
    more = ("--store", database, "--share-progress")
    result = szal("run", "sharing:shares", "--id", "e1", "-i", f"url={database}", *more)
    assert result.exit_code == 0
    assert szal("show", "e1", "--output", "copy", "--json", "--store", database).stdout == '{"done": 3}\n'
    assert szal("run", "sharing:shares", "-i", f"url={database}", "--share-progress").exit_code == 2


def test_top_as_json_outlasts_a_store_that_is_away(szal, engine, database, gate, monkeypatch):
    gate.set()
    engine.run(ASKS, execution_id="w1")
    lines, looks = top._Board.lines, iter(("", "away", "away", "", "over"))

    def look(board):
        match next(looks):
            case "away":
                raise StoreUnavailable("szal.db", "database is locked")
            case "over":
                raise KeyboardInterrupt
        return lines(board)

    monkeypatch.setattr(top._Board, "lines", look)
    result = szal("top", "--json", "--interval", "50ms", "--store", database)
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert result.stderr == "szal: szal.db: database is locked; looking again\n"


def test_top_of_an_empty_store_says_so(szal, engine, database):
    assert szal("top", "--store", database).stdout == "Nothing runs, and nothing waits.\n"
    assert szal("top", "--once", "--json", "--store", database).stdout == ""
    assert szal("top", "--interval", "0", "--store", database).exit_code == 2


def test_top_on_a_terminal_ends_with_ctrl_c(spawn, engine, database):
    engine.run(ASKS, execution_id="e1")
    process = spawn("top", "--store", database, terminal=True)
    process.until("waits for go")
    process.signal(signal.SIGINT)
    assert process.end() == 0
    assert "Traceback" not in process.seen


def test_top_as_json_tells_what_changes_and_what_ends(spawn, engine, database, gate):
    engine.start(FLOW, execution_id="e1")
    process = spawn("top", "--json", "--interval", "50ms", "--store", database)
    process.until('"running": ["two"]')
    gate.set()
    process.until('"state": "completed"')
    process.signal(signal.SIGINT)
    assert process.end() == 0


def test_logs_has_attempts_and_what_steps_came_to(szal, engine, database, gate):
    gate.set()
    engine.run(FLOW, {"fails": True}, execution_id="e1")
    printed = szal("logs", "e", "--store", database).stdout
    assert re.search(r'^one: completed in \S+\n  \{"rows": 1\}$', printed, re.MULTILINE)
    assert re.search(r"^three: failed in \S+, 2 attempts$", printed, re.MULTILINE)
    assert re.search(r"attempt 1 failed: OSError: not yet after", printed)
    assert "OSError: not yet" in printed
    (three,) = szal("logs", "e1", "three", "--json", "--store", database).stdout.splitlines()
    assert [each["error"] for each in json.loads(three)["tries"]] == ["OSError: not yet"] * 2
    missing = szal("logs", "e1", "thre", "--store", database)
    assert (missing.exit_code, "did you mean three" in missing.stderr.lower().replace("'", "")) == (2, True)


def test_logs_has_when_a_step_was_undone(szal, database):
    steps = [StepDef("one", rollbackable=True, max_retries=1, retry_delay=0.0), StepDef("two")]

    def handler(ctx):
        if ctx.step.name == "two":
            raise ValueError("no")

    def undo(ctx):
        if ctx.attempt == 1:
            raise OSError("busy")

    with Engine.open(database, handler, rollback_handler=undo) as engine:
        engine.run(FlowDef("f", steps=steps, rollback_on_failure=True), execution_id="u1")
    printed = szal("logs", "u1", "one", "--store", database).stdout
    assert re.search(r"undo 1 failed: OSError: busy after \S+\n  \S+ \S+ undo 2 completed after \S+\n", printed)
    (one,) = szal("logs", "u1", "one", "--json", "--store", database).stdout.splitlines()
    assert [each["error"] for each in json.loads(one)["undos"]] == ["OSError: busy", None]
    assert "░" in szal("show", "u1", "--store", database).stdout


def test_logs_has_what_a_step_said_last_and_what_a_command_printed(szal, engine, database):
    engine.start(FLOW, execution_id="e1")
    until_reported(database, "e1")
    assert re.search(
        r'^two: running(?: for \S+)?\n  \S+ \S+ \| \{"done": 3\}$', szal("logs", "e1", "--store", database).stdout, re.M
    )
    szal("run", "flows:shell", "--id", "s1", "--store", database)
    assert szal("logs", "s1", "--store", database).stdout.endswith("  stdout: hello\n  stdout: bye\n")
