"""Executions that go on elsewhere or after their file was corrected; parts of flows, dry runs, standard input."""

import json
import re

import pytest

from szal import WorkflowState, open_store
from szal.model.json import decode_record

on_both_databases = pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)

ETL = """
name: etl
inputs: {env: dev}
steps:
  - name: extract
    run: echo extract >> log; echo rows
  - name: load
    needs: extract
    run: LOAD
  - name: report
    needs: load
    if: inputs.env == 'prod'
    run: echo report to {{inputs.env}} >> log
  - name: beside
    run: echo beside >> log
"""
WAITS = """
name: clean
steps:
  - name: approved
    wait: go
  - name: clean
    needs: approved
    run: rm -rf dist
"""


@pytest.fixture
def url(database, monkeypatch):
    monkeypatch.setenv("SZAL_STORE", database)
    return database


@pytest.fixture
def write(here):
    """``write(load)``: the flow's file, with that as its command 'load'."""

    def write(load="echo load >> log"):
        (here / "etl.yaml").write_text(ETL.replace("LOAD", load))

    write()
    return write


@pytest.fixture
def log(here):
    """What the commands have done since this was asked last."""

    def log():
        file = here / "log"
        lines = file.read_text().split() if file.exists() else []
        file.write_text("")
        return lines

    return log


def record(url, execution_id):
    with open_store(url) as store:
        return store.get(execution_id)


def records(url):
    with open_store(url) as store:
        return store.list()


class TestInAnotherDirectory:
    @pytest.fixture
    def projects(self, here, szal, url, monkeypatch):
        """Two of them; in the first one an execution waits, and what it waits for has come. We are in the second."""
        for name in ("one", "other"):
            (here / name / "dist").mkdir(parents=True)
        (here / "one" / "clean.yaml").write_text(WAITS)
        monkeypatch.chdir(here / "one")
        assert szal("run", "clean.yaml", "--id", "e1").exit_code == 3
        monkeypatch.chdir(here / "other")
        szal("signal", "e1", "go")
        return here

    @on_both_databases
    @pytest.mark.parametrize("command", [["resume", "e1"], ["recover"]])
    def test_commands_run_where_they_ran_first(self, szal, projects, command):
        assert szal(*command).exit_code == 0
        assert ((projects / "one/dist").exists(), (projects / "other/dist").exists()) == (False, True)

    @pytest.mark.parametrize("command", [["resume", "e1"], ["rerun", "e1"], ["recover"]])
    def test_where_that_is_gone_it_is_told_and_left_as_it_is(self, szal, projects, url, command):
        (projects / "one").rename(projects / "moved")
        result = szal(*command)
        assert result.exit_code == (1 if command == ["recover"] else 2)
        assert f"execution e1: its commands ran in {projects}/one, which is not there" in result.stderr
        assert "--cwd DIR" in result.stderr
        assert record(url, "e1").state is WorkflowState.PAUSED
        assert (projects / "other/dist").exists()

    @pytest.mark.parametrize("command", [["resume", "e1"], ["recover"]])
    def test_where_it_is_now_can_be_said(self, szal, projects, url, command):
        (projects / "one").rename(projects / "moved")
        assert szal(*command, "--cwd", projects / "moved").exit_code == 0
        assert not (projects / "moved/dist").exists()

    def test_a_directory_that_is_not_there_is_refused(self, szal, projects):
        result = szal("resume", "e1", "--cwd", "nowhere")
        assert result.exit_code == 2
        assert "nowhere" in result.stderr

    def test_a_file_s_commands_run_in_its_folder(self, szal, here, tmp_path):
        (here / "sub").mkdir()
        (here / "sub" / "f.yaml").write_text("name: f\nsteps:\n  - name: a\n    run: touch made\n")
        assert szal("run", "sub/f.yaml").exit_code == 0
        assert (here / "sub" / "made").exists()


class TestACorrectedFile:
    @on_both_databases
    def test_is_run_again_keeping_what_completed_and_did_not_change(self, szal, write, log, url):
        write("psql_typo --load")
        assert szal("run", "etl.yaml", "--id", "day1", "-i", "env=prod").exit_code == 1
        log()
        write("echo loaded >> log")
        result = szal("rerun", "day1", "etl.yaml")
        assert result.exit_code == 0
        assert log() == ["loaded", "report", "to", "prod"]
        assert "etl.yaml differs from what execution day1 began with; it runs as that says now" in result.stdout
        assert "step 'load': config.run 'psql_typo --load' -> 'echo loaded >> log'" in result.stdout

    def test_json_has_the_differences(self, szal, write, url):
        szal("run", "etl.yaml", "--id", "day1")
        write("echo loaded >> log")
        result = szal("rerun", "day1", "etl.yaml", "--json")
        assert json.loads(result.stdout)["differences"] == [
            "step 'load': config.run 'echo load >> log' -> 'echo loaded >> log'"
        ]
        assert decode_record(result.stdout).parent_execution_id == "day1"

    def test_what_is_the_same_is_run_again_without_a_word(self, szal, write, log, url):
        szal("run", "etl.yaml", "--id", "day1")
        log()
        result = szal("rerun", "day1", "etl.yaml", "--from", "load")
        assert log() == ["load"]
        assert "differs" not in result.stdout

    @on_both_databases
    def test_does_not_go_on_but_says_how_it_can(self, szal, here, url):
        (here / "clean.yaml").write_text(WAITS)
        szal("run", "clean.yaml", "--id", "e1")
        szal("signal", "e1", "go")
        (here / "clean.yaml").write_text(WAITS.replace("rm -rf dist", "rm -rf build"))
        result = szal("resume", "e1", "clean.yaml")
        assert result.exit_code == 2
        assert "execution e1: clean.yaml differs from what it began with:" in result.stderr
        assert "step 'clean': config.run 'rm -rf dist' -> 'rm -rf build'" in result.stderr
        assert "szal rerun e1 clean.yaml" in result.stderr
        assert record(url, "e1").state is WorkflowState.PAUSED
        assert szal("resume", "e1").exit_code == 0

    def test_does_not_show_the_old_result_of_one_that_failed_either(self, szal, write, url):
        write("psql_typo")
        szal("run", "etl.yaml", "--id", "day1")
        write("echo loaded")
        result = szal("resume", "day1", "etl.yaml")
        assert result.exit_code == 2
        assert "szal rerun day1 etl.yaml" in result.stderr

    def test_is_left_alone_by_recover(self, szal, here, url):
        (here / "clean.yaml").write_text(WAITS)
        szal("run", "clean.yaml", "--id", "e1")
        szal("signal", "e1", "go")
        (here / "clean.yaml").write_text(WAITS.replace("rm -rf dist", "rm -rf build"))
        result = szal("recover", "clean.yaml")
        assert result.exit_code == 1
        assert "clean.yaml differs from what it began with" in result.stderr
        assert record(url, "e1").state is WorkflowState.PAUSED

    def test_under_the_same_id_is_refused_with_what_to_do(self, szal, write, url):
        szal("run", "etl.yaml", "--id", "day1")
        write("echo loaded")
        result = szal("run", "etl.yaml", "--id", "day1")
        assert result.exit_code == 2
        assert "szal rerun day1 etl.yaml" in result.stderr

    def test_a_program_goes_on_as_it_was_recorded_and_that_is_told(self, szal, here, url):
        program = """
from szal import FlowDef, StepDef
wait = StepDef("w", step_type="wait", config={"signal": "go"})
flow = FlowDef("f", steps=[wait, StepDef("a")]), lambda ctx: ctx.step.name
"""
        (here / "older.py").write_text(program)
        szal("run", "older:flow", "--id", "e1")
        szal("signal", "e1", "go")
        (here / "newer.py").write_text(program.replace('StepDef("a")', 'StepDef("a"), StepDef("b")'))
        result = szal("resume", "e1", "newer:flow")
        assert result.exit_code == 0
        assert "step 'b' is new" in result.stdout
        assert list(record(url, "e1").result.outputs) == ["w", "a"]


class TestAPartOfAFlow:
    @pytest.fixture
    def day1(self, szal, write, log, url):
        assert szal("run", "etl.yaml", "--id", "day1", "-i", "env=prod", "-l", "team=a").exit_code == 0
        log()

    @on_both_databases
    def test_from_a_step_on(self, szal, day1, log, url):
        result = szal("run", "etl.yaml", "--from", "load", "--reuse", "day1", "--id", "day1b")
        assert result.exit_code == 0
        assert log() == ["load", "report", "to", "prod"]
        new = record(url, "day1b")
        assert list(new.result.outputs) == ["extract", "load", "report"]
        assert (new.parent_execution_id, new.labels) == ("day1", {"team": "a"})

    @on_both_databases
    def test_one_step_only(self, szal, day1, log):
        assert szal("run", "etl.yaml", "--only", "load", "--reuse", "day1").exit_code == 0
        assert log() == ["load"]

    def test_one_that_needs_nothing_runs_without_a_store(self, szal, write, log, monkeypatch):
        monkeypatch.delenv("SZAL_STORE", raising=False)
        assert szal("run", "etl.yaml", "--only", "beside").exit_code == 0
        assert log() == ["beside"]

    def test_what_it_needs_has_to_come_from_somewhere(self, szal, write, log):
        result = szal("run", "etl.yaml", "--only", "report")
        assert result.exit_code == 2
        assert "step report comes after extract, load: say which execution has completed that" in result.stderr
        assert "--reuse ID" in result.stderr
        assert log() == []

    def test_what_did_not_complete_there_is_refused_by_name(self, szal, write, log, url):
        write("false")
        szal("run", "etl.yaml", "--id", "day1")
        log()
        result = szal("run", "etl.yaml", "--only", "report", "--reuse", "day1")
        assert result.exit_code == 2
        assert "step 'report' needs what execution day1 has not completed: load (failed)" in result.stderr
        assert (log(), records(url)) == ([], ["day1"])

    def test_what_differs_is_told(self, szal, day1, write, log):
        write("echo again >> log")
        result = szal("run", "etl.yaml", "--only", "report", "--reuse", "day1")
        assert "etl.yaml differs from what execution day1 began with; what is taken from there is as it was" in (
            result.stdout
        )
        assert log() == ["report", "to", "prod"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--only", "lod", "--reuse", "day1"], "did you mean 'load'"),
            (["--only", "load", "--from", "load"], "do not go together"),
            (["--reuse", "day1"], "--reuse goes with --from STEP or --only STEP"),
            (["--only", "load", "--reuse", "nobody"], "there is no execution nobody"),
        ],
    )
    def test_options_that_mean_nothing(self, szal, day1, log, options, message):
        result = szal("run", "etl.yaml", *options)
        assert result.exit_code == 2
        assert message in result.stderr
        assert log() == []

    def test_without_a_store_nothing_can_be_reused(self, szal, write, monkeypatch):
        monkeypatch.delenv("SZAL_STORE", raising=False)
        result = szal("run", "etl.yaml", "--only", "load", "--reuse", "day1")
        assert result.exit_code == 2
        assert "which store?" in result.stderr

    def test_of_an_execution_of_another_flow(self, szal, day1, here):
        (here / "other.yaml").write_text("name: other\nsteps:\n  - name: load\n    run: 'true'\n")
        result = szal("run", "other.yaml", "--only", "load", "--reuse", "day1")
        assert result.exit_code == 2
        assert "execution day1 is of the flow 'etl', not of 'other'" in result.stderr

    def test_how_one_goes_on_names_no_file_which_has_the_whole(self, szal, here, url):
        (here / "clean.yaml").write_text(WAITS)
        result = szal("run", "clean.yaml", "--only", "approved")
        assert re.search(r'then: szal resume \S+ --store "\$SZAL_STORE"\n', result.stdout)


class TestADryRun:
    def test_says_what_would_run_in_which_order_and_runs_nothing(self, szal, write, log, url, here):
        result = szal("run", "etl.yaml", "--dry-run", "-i", "env=prod")
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            "etl would run 4 of 4 steps, in this order (nothing was run or recorded):",
            "  1. extract",
            "       echo extract >> log; echo rows",
            "  2. beside",
            "       echo beside >> log",
            "  3. load",
            "       echo load >> log",
            "  4. report",
            "       echo report to prod >> log",
        ]
        assert log() == []
        assert not (here / "szal.db").exists()

    def test_says_what_is_skipped_and_why(self, szal, write):
        result = szal("run", "etl.yaml", "--dry-run")
        assert "   - report: skipped, condition not met: inputs.env == 'prod'" in result.stdout

    def test_leaves_open_what_only_outputs_decide(self, szal, here):
        (here / "f.yaml").write_text(
            "name: f\nsteps:\n  - {name: a, run: echo}\n"
            "  - {name: b, needs: a, if: steps.a.output.exit_code == 0, run: 'echo {{steps.a.output.stdout}}'}\n"
        )
        result = szal("run", "f.yaml", "--dry-run")
        assert "  2. b (if steps.a.output.exit_code == 0)\n       echo {{steps.a.output.stdout}}" in result.stdout

    def test_a_step_whose_template_finds_nothing_would_fail_as_it_does(self, szal, here):
        (here / "f.yaml").write_text(
            "name: f\ninputs: {to: {dir: dist}}\nmode: sequential\nsteps:\n"
            "  - {name: a, run: echo, rollback: {run: 'rm {{steps.a.output.stdout}}'}}\n"
            "  - {name: b, run: 'rm -rf {{inputs.to.dri}}/*'}\n"
        )
        problem = "nothing at inputs.to.dri: inputs.to has 'dir'; did you mean 'dir'?"
        assert f"   - b: would fail, {problem}" in szal("run", "f.yaml", "--dry-run").stdout
        assert problem in szal("run", "f.yaml").stdout

    def test_decides_what_inputs_alone_decide(self, szal, here):
        (here / "f.yaml").write_text(
            "name: f\ninputs: {n: 1}\nsteps:\n  - {name: a, run: echo}\n"
            "  - {name: b, needs: a, if: inputs.n == 2 && steps.a.output.exit_code == 0, run: echo}\n"
        )
        assert "- b: skipped, condition not met: inputs.n == 2 &&" in szal("run", "f.yaml", "--dry-run").stdout

    def test_as_json(self, szal, write):
        found = json.loads(szal("run", "etl.yaml", "--dry-run", "--json").stdout)
        steps = {step["step"]: step for step in found["steps"]}
        assert (found["dry_run"], found["inputs"]) == (True, {"env": "dev"})
        assert steps["report"] == {
            "step": "report",
            "does": "skip",
            "after": ["load"],
            "if": "inputs.env == 'prod'",
            "why": "condition not met",
            "type": "shell",
            "config": None,
        }
        assert steps["load"]["config"] == {"run": "echo load >> log"}

    @on_both_databases
    def test_of_a_part_says_what_is_taken_and_records_nothing(self, szal, write, log, url):
        szal("run", "etl.yaml", "--id", "day1", "-i", "env=prod")
        log()
        result = szal("run", "etl.yaml", "--from", "load", "--reuse", "day1", "--dry-run")
        assert "   - extract: taken from execution day1 (completed)" in result.stdout
        assert "  2. report\n       echo report to prod >> log" in result.stdout
        assert (log(), records(url)) == ([], ["day1"])

    def test_of_an_id_is_refused(self, szal, write, url):
        assert szal("run", "etl.yaml", "--dry-run", "--id", "e1").exit_code == 2

    def test_of_an_invalid_flow_is_refused(self, szal, here):
        (here / "f.yaml").write_text("name: f\nsteps:\n  - {name: a, needs: b, run: echo}\n")
        assert szal("run", "f.yaml", "--dry-run").exit_code == 2


class TestStandardInput:
    YAML = "name: f\nsteps:\n  - name: a\n    run: echo hello\n"

    @pytest.fixture
    def szal_with(self, here, stays):
        from click.testing import CliRunner

        from szal.cli.commands import szal as group

        return lambda text, *arguments: CliRunner().invoke(group, arguments, input=text, prog_name="szal")

    @pytest.mark.parametrize(
        "text", [YAML, json.dumps({"name": "f", "steps": [{"name": "a", "run": "echo hello"}]})], ids=["yaml", "json"]
    )
    def test_a_flow_is_read_from_it(self, szal_with, text):
        result = szal_with(text, "run", "-")
        assert result.exit_code == 0
        assert "hello" in result.stdout

    def test_what_is_wrong_is_told_with_its_place(self, szal_with):
        result = szal_with("name: f\nsteps:\n  - nam: a\n", "validate", "-")
        assert result.exit_code == 2
        assert "<stdin>:3:" in result.stderr

    def test_it_may_not_be_empty(self, szal_with):
        result = szal_with("", "run", "-")
        assert result.exit_code == 2
        assert "standard input is empty" in result.stderr

    def test_what_waits_goes_on_without_it(self, szal_with, url):
        result = szal_with(WAITS, "run", "-")
        assert re.search(r'then: szal resume \S+ --store "\$SZAL_STORE"\n', result.stdout)
