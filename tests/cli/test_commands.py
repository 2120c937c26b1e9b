"""The commands and their exit statuses: 0 success, 1 the flow failed, 2 a wrong command or an invalid flow."""

import json

import pytest

from szal import ExecutionRecord, WorkflowState, open_store
from szal.cli.commands import szal as group
from szal.cli.help import Command
from szal.model.json import decode_record, encode_record


def saved(database, *ids, **more):
    with open_store(database) as store:
        for execution_id in ids:
            store.save(ExecutionRecord(execution_id, "ci", **more))


class TestRun:
    @pytest.mark.parametrize(("flow", "status"), [("good", 0), ("shell", 0), ("outer", 0), ("bad", 1), ("mixed", 1)])
    def test_the_exit_status_says_how_it_went(self, szal, flow, status):
        assert szal("run", f"flows:{flow}").exit_code == status

    @pytest.mark.parametrize("flow", ["unhandled", "twice", "nothing"])
    def test_what_cannot_be_run_has_status_2_and_one_message(self, szal, flow):
        result = szal("run", f"flows:{flow}")
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith("szal: ")

    def test_it_logs_what_happens_and_closes_with_a_table_and_the_id(self, szal):
        result = szal("run", "flows:mixed")
        log = [line.split(maxsplit=2)[1:] for line in result.stdout.splitlines()]
        assert ["build", "completed in 0ms"] in log or any(name == "build" for name, *_ in log)
        assert "attempt 1 failed, again in 10ms: OSError: not yet" in result.stdout
        assert "FAILED in" in result.stdout
        assert "skipped: condition not met" in result.stdout
        assert "skipped: dependency failed" in result.stdout
        assert "mixed failed in" in result.stdout
        assert "2 completed, 1 failed, 2 skipped" in result.stdout
        assert "it went wrong\nin two lines" in result.stdout
        assert "not recorded: no --store" in result.stdout

    def test_a_shell_step_streams_its_output(self, szal):
        result = szal("run", "flows:shell")
        assert "hello  | hello\n" in result.stdout
        assert "hello  | bye\n" in result.stdout

    def test_json_is_the_record(self, szal):
        result = szal("run", "flows:bad", "--json")
        assert result.exit_code == 1
        record = decode_record(result.stdout)
        assert record.state is WorkflowState.FAILED
        assert [step.step_name for step in record.result.steps] == ["one", "fail", "three"]
        assert result.stdout == encode_record(record) + "\n"
        assert "bad failed in" in result.stderr

    def test_with_a_store_it_is_recorded(self, szal, database):
        result = szal("run", "flows:good", "--store", database, "--label", "team=a", "-i", "value=7")
        execution_id = result.stdout.split()[-1]
        with open_store(database) as store:
            record = store.get(execution_id)
        assert record.state is WorkflowState.COMPLETED
        assert record.labels == {"team": "a"}
        assert record.result.outputs == {"one": 7, "two": 7}
        assert "not recorded" not in result.stdout

    def test_the_store_is_taken_from_the_environment(self, szal, database, monkeypatch):
        monkeypatch.setenv("SZAL_STORE", database)
        szal("run", "flows:good")
        szal("run", "flows:good")
        with open_store(database) as store:
            assert store.count() == 2

    def test_json_with_a_store_is_what_the_store_has(self, szal, database):
        record = decode_record(szal("run", "flows:good", "--store", database, "--json").stdout)
        with open_store(database) as store:
            assert store.get(record.execution_id) == record

    def test_without_a_store_outputs_may_be_any_object(self, szal):
        assert szal("run", "flows:unserializable").exit_code == 0
        assert szal("run", "flows:unserializable", "--json").exit_code == 1

    @pytest.mark.parametrize("url", ["nothing", "ftp://x", "sqlite:///no/such/directory/x.db", "sqlite:///flows.py"])
    def test_a_store_that_cannot_be_opened(self, szal, url):
        result = szal("run", "flows:good", "--store", url)
        assert result.exit_code == 2
        assert result.stderr.startswith("szal: ")
        assert "started" not in result.stdout

    def test_max_concurrency(self, szal):
        assert szal("run", "flows:large", "--max-concurrency", 2).exit_code == 0


class TestValidate:
    def test_a_valid_flow(self, szal):
        assert szal("validate", "flows:mixed").stdout == "mixed: valid (dag, 5 steps)\n"

    def test_its_sub_flows_too(self, szal):
        assert (
            szal("validate", "flows:outer").stdout
            == "outer: valid (sequential, 1 step)\ninner: valid (sequential, 1 step)\n"
        )

    def test_an_invalid_flow(self, szal):
        result = szal("validate", "flows:twice")
        assert result.exit_code == 2
        assert "duplicate step name" in result.stderr
        assert "max_retries is negative" in result.stderr

    def test_json(self, szal):
        flows = [
            {"name": "outer", "mode": "Sequential", "steps": 1},
            {"name": "inner", "mode": "Sequential", "steps": 1},
        ]
        assert json.loads(szal("validate", "flows:outer", "--json").stdout) == {
            "valid": True,
            "flows": flows,
            "needs_store": False,
        }

    def test_a_wait_for_a_signal_is_told_or_refused_where_the_store_is_known(self, szal, here):
        (here / "asks.yaml").write_text("name: asks\nsteps:\n  - name: ok\n    wait: approve\n")
        result = szal("validate", "asks.yaml")
        assert (result.exit_code, result.stdout) == (0, "asks: valid (dag, 1 step)\n")
        assert result.stderr == "szal run needs --store here: a signal is waited for (ok)\n"
        assert szal("validate", "asks.yaml", "--store", "sqlite:///x.db").stderr == ""
        result = szal("validate", "asks.yaml", "--store", "memory:")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "step ok waits for a signal, and with the store memory:" in result.stderr
        assert json.loads(szal("validate", "asks.yaml", "--json").stdout)["needs_store"] is True

    @pytest.mark.parametrize(("flow", "problems"), [("twice", 2), ("unhandled", 1), ("nothing", 1)])
    def test_json_of_an_invalid_flow_lists_its_problems(self, szal, flow, problems):
        result = szal("validate", f"flows:{flow}", "--json")
        told = json.loads(result.stdout)
        assert (result.exit_code, told["valid"], len(told["problems"])) == (2, False, problems)

    def test_an_invalid_file_begins_each_line_with_its_place(self, szal, here):
        (here / "bad.yaml").write_text(
            "name: x\nsteps:\n  - name: a\n    rum: echo\n  - name: b\n    run: 3s\n    timeout: x\n"
        )
        result = szal("validate", "bad.yaml")
        assert result.exit_code == 2
        assert all(line.startswith("bad.yaml:") for line in result.stderr.splitlines())


class TestGraph:
    def test_mermaid_is_the_default(self, szal):
        assert "flowchart TD" in szal("graph", "flows:mixed").stdout

    def test_dot(self, szal):
        assert szal("graph", "flows:mixed", "--format", "dot").stdout.startswith('digraph "mixed" {')

    def test_a_module_that_prints_does_not_get_into_it(self, szal):
        assert "printed" not in szal("graph", "flows:noisy").stdout

    def test_svg(self, szal):
        assert szal("graph", "flows:mixed", "--format", "svg").stdout.startswith("<svg ")

    def test_an_execution_is_drawn_with_its_states(self, szal, database):
        szal("run", "flows:bad", "--store", database, "--id", "order-42")
        drawn = szal("graph", "--id", "order", "--store", database)
        assert drawn.exit_code == 0
        assert "szal-failed" in drawn.stdout
        assert "skipped: prior step failed" in drawn.stdout

    @pytest.mark.parametrize(
        "arguments", [[], ["flows:good", "--id", "x"], ["--id", "x", "--format", "dot"], ["--id", "gone"]]
    )
    def test_what_cannot_be_drawn(self, szal, database, arguments):
        szal("run", "flows:good", "--store", database, "--id", "x")
        assert szal("graph", *arguments, "--store", database).exit_code == 2

    def test_an_unknown_format(self, szal):
        assert szal("graph", "flows:mixed", "--format", "png").exit_code == 2


class TestList:
    def test_the_newest_come_first(self, szal, database):
        for flow in ("good", "bad"):
            szal("run", f"flows:{flow}", "--store", database)
        lines = szal("list", "--store", database).stdout.splitlines()
        assert [line.split()[1] for line in lines] == ["flow", "bad", "good"]
        assert all(len(line.split()[0]) == 36 for line in lines[1:])

    @pytest.mark.parametrize(
        ("options", "found"),
        [
            (["--flow", "good"], ["good"]),
            (["--state", "failed"], ["bad"]),
            (["--state", "Failed", "--state", "completed"], ["bad", "good"]),
            (["--label", "of=good"], ["good"]),
            (["--limit", "1"], ["bad"]),
            (["--flow", "other"], []),
        ],
    )
    def test_filters(self, szal, database, options, found):
        for flow in ("good", "bad"):
            szal("run", f"flows:{flow}", "--store", database, "--label", f"of={flow}")
        result = szal("list", "--store", database, "--json", *options)
        assert [item["flow_name"] for item in json.loads(result.stdout)] == found

    def test_json_has_the_keys_of_a_record(self, szal, database):
        szal("run", "flows:bad", "--store", database)
        (item,) = json.loads(szal("list", "--store", database, "--json").stdout)
        assert item["state"] == "Failed"
        assert item["started_at"] < item["finished_at"]
        assert item["error"].startswith("step 'fail' failed")

    def test_nothing_there(self, szal, database):
        saved(database)
        assert szal("list", "--store", database).stdout == ""
        assert szal("list", "--store", database, "--json").stdout == "[]\n"

    def test_an_unknown_state(self, szal, database):
        result = szal("list", "--store", database, "--state", "done")
        assert result.exit_code == 2
        assert "rolled_back" in result.stderr


class TestShow:
    def test_the_beginning_of_an_id_is_enough(self, szal, database):
        saved(database, "abc-1", "abd-2")
        assert "abd-2" in szal("show", "abd", "--store", database).stdout

    def test_a_whole_id_that_others_begin_with(self, szal, database):
        saved(database, "abc", "abcd")
        assert decode_record(szal("show", "abc", "--store", database, "--json").stdout).execution_id == "abc"

    def test_what_several_begin_with(self, szal, database):
        saved(database, "abc-1", "abd-2")
        result = szal("show", "ab", "--store", database)
        assert result.exit_code == 2
        assert result.stderr == "szal: 2 executions begin with ab:\n  abc-1\n  abd-2\n"

    def test_what_none_begins_with(self, szal, database):
        saved(database, "abc-1")
        result = szal("show", "x", "--store", database)
        assert result.exit_code == 2
        assert result.stderr == "szal: there is no execution x\n"

    def test_json_is_the_record_as_it_was_when_it_ran(self, szal, database):
        ran = szal("run", "flows:bad", "--store", database, "--json").stdout
        assert szal("show", json.loads(ran)["execution_id"], "--store", database, "--json").stdout == ran

    def test_a_whole_run(self, szal, database):
        execution_id = json.loads(szal("run", "flows:bad", "--store", database, "--json").stdout)["execution_id"]
        text = szal("show", execution_id[:8], "--store", database).stdout
        assert "bad failed in" in text
        assert "ValueError: it went wrong\nin two lines\n" in text


@pytest.mark.parametrize("command", [["list"], ["show", "x"]])
class TestStore:
    def test_one_is_needed(self, szal, command):
        result = szal(*command)
        assert result.exit_code == 2
        assert "SZAL_STORE" in result.stderr

    def test_looking_makes_no_database(self, szal, here, command):
        result = szal(*command, "--store", "sqlite:///typo.db")
        assert result.exit_code == 2
        assert result.stderr == f"szal: there is no database {here}/typo.db\n"
        assert not (here / "typo.db").exists()


def test_what_steps_say_cannot_act_on_the_terminal(szal, database):
    ran = szal("run", "flows:evil", "--store", database, "--id", "e1")
    shown = szal("show", "e1", "--store", database)
    listed = szal("list", "--store", database)
    drawn = [szal("graph", "flows:evil", "--format", language) for language in ("mermaid", "dot")]
    for output in (ran.stdout, shown.stdout, listed.stdout, *(each.stdout for each in drawn)):
        assert not set(output) & set("\x1b\x07\x9b\r\u202e")
        assert "evil" in output
    assert "[red]markup[/red]" in ran.stdout


def test_help_names_every_command(szal):
    text = szal("--help").stdout
    said = [line for line in text.partition("Commands:")[2].partition("\n\n")[0].splitlines() if line]
    assert [line.split()[0] for line in said][:3] == ["run", "validate", "graph"]
    assert all(line.endswith(".") and not line.endswith("...") for line in said), "each is said in full"


def test_an_unknown_command(szal):
    assert szal("rum").exit_code == 2


class TestRunAgainWhatFailed:
    """``szal run --id ID --retry-failed``."""

    @pytest.fixture
    def file(self, tmp_path):
        file = tmp_path / "night.yaml"
        steps = "  - {name: a, run: echo a}\n  - {name: b, run: 'test -e came'}\n"
        file.write_text(f"name: night\nmode: sequential\nsteps:\n{steps}")
        return file

    def test_runs_that_and_keeps_the_rest(self, file, database, szal):
        open_store(database).close()
        command = ("run", str(file), "--id", "e", "--store", database)
        first = szal(*command)
        assert first.exit_code == 1, first.output
        (file.parent / "came").touch()
        before = szal(*command)
        assert (before.exit_code, "had ended before" in before.stdout) == (1, True)
        after = szal(*command, "--retry-failed")
        assert (after.exit_code, "had ended before" in after.stdout) == (0, False), after.output
        with open_store(database) as store:
            assert store.get("e").reopened == 1

    def test_needs_the_id_and_the_whole_flow(self, file, database, szal):
        open_store(database).close()
        for more in ((), ("--id", "e", "--only", "a", "--reuse", "x")):
            found = szal("run", str(file), "--retry-failed", "--store", database, *more)
            assert (found.exit_code, "--retry-failed needs the --id" in found.stderr) == (2, True), found.output


@pytest.mark.parametrize("name", group.commands)
def test_the_help_of_every_command_is_printed_as_all_else_is(name):
    assert isinstance(group.commands[name], Command)


class TestPage:
    def test_an_execution_as_a_page(self, szal, database, here):
        szal("run", "flows:bad", "--store", database, "--id", "order-42")
        shown = szal("show", "order", "--store", database, "--html", "page.html")
        assert (shown.exit_code, shown.stdout) == (0, "")
        page = (here / "page.html").read_text()
        assert page == szal("show", "order-42", "--store", database, "--html", "-").stdout.rstrip("\n") + "\n"
        for told in ("it went wrong\nin two lines", "prior step failed: fail", "szal rerun order-42 MODULE:ATTRIBUTE"):
            assert told in page

    def test_a_page_that_cannot_be_written_leaves_the_old_one(self, szal, database, here):
        szal("run", "flows:good", "--store", database, "--id", "order-42")
        refused = szal("show", "order-42", "--store", database, "--html", "gone/page.html")
        assert (refused.exit_code, "No such file or directory: 'gone/page.html'" in refused.stderr) == (2, True)
        assert not [path for path in here.iterdir() if "page" in path.name]

    @pytest.mark.parametrize("other", [["--json"], ["--output", "one"]])
    def test_it_goes_with_no_other_form(self, szal, database, other):
        szal("run", "flows:good", "--store", database, "--id", "order-42")
        assert szal("show", "order-42", "--store", database, "--html", "page.html", *other).exit_code == 2
