"""Shell steps, run by the engine as users run them."""

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import attrs
import pytest
from processes import is_running, number_in, wait_until

from szal.engine.config import EngineConfig
from szal.engine.engine import Engine
from szal.errors import InvalidFlow, ShellFailed, SzalError
from szal.model.catalogue import InMemoryStorage
from szal.model.config import STOP_SIGNALS
from szal.model.flow import FlowDef, FlowMode
from szal.model.state import StepStatus, WorkflowState
from szal.model.step import StepDef, TriggerMode
from szal.scheduler.cancel import CancellationToken
from szal.steps.handlers import Handlers
from szal.steps.shell import MAX_OUTPUT, run_shell
from szal.stores import open_store


def shell(run, name="sh", *, timeout=None, max_retries=0, rollbackable=False, **config):
    return StepDef(
        name,
        timeout=timeout,
        max_retries=max_retries,
        retry_delay=0,
        rollbackable=rollbackable,
        step_type="shell",
        config={"run": run, **config},
    )


def run(step, inputs=None, **config):
    flow = FlowDef("demo", steps=[step])
    with Engine(Handlers(), EngineConfig(**config)) as engine:
        return engine.run(flow, inputs)[step.name]


def stdout(run_, inputs=None, **config):
    result = run(shell(run_, **config), inputs)
    assert result.status is StepStatus.COMPLETED, result.error
    return result.output["stdout"]


LIKE = 'must be like {"signal": "INT", "grace": 10}'
NO_SIGNAL = f"which is none of {', '.join(STOP_SIGNALS)}"
NO_NUMBER = "which must be a number of seconds"
NAN = float("nan")
NAMES = "the name of a variable has letters, digits and _, and begins with no digit"


class TestWhere:
    """A command runs where its flow's file is, unless the engine says otherwise; its `cwd` is seen from there."""

    @pytest.fixture
    def pwd(self, tmp_path):
        (tmp_path / "flows" / "sub").mkdir(parents=True)
        (tmp_path / "elsewhere" / "sub").mkdir(parents=True)

        def pwd(cwd=None, *, inputs=None, engine_cwd=None):
            step = shell("pwd") if cwd is None else shell("pwd", cwd=cwd)
            flow = FlowDef("demo", steps=[step], file=str(tmp_path / "flows" / "flow.yaml"))
            with Engine(Handlers(), EngineConfig(cwd=engine_cwd)) as engine:
                return Path(engine.run(flow, inputs).raise_for_failure()["sh"].output["stdout"].rstrip())

        return pwd

    def test_it_is_beside_the_file(self, pwd, tmp_path):
        assert pwd() == tmp_path / "flows"

    def test_a_relative_directory_is_seen_from_there(self, pwd, tmp_path):
        assert pwd("sub") == pwd("{{inputs.x}}", inputs={"x": "./sub"}) == tmp_path / "flows" / "sub"

    def test_the_engine_may_say_another(self, pwd, tmp_path):
        assert pwd(engine_cwd=tmp_path / "elsewhere") == tmp_path / "elsewhere"
        assert pwd("sub", engine_cwd=tmp_path / "elsewhere") == tmp_path / "elsewhere" / "sub"

    def test_an_absolute_one_stays(self, pwd, tmp_path):
        assert pwd(str(tmp_path)) == tmp_path

    @pytest.mark.parametrize("home", ["~", "$HOME", "${HOME}"])
    def test_the_home_directory_may_be_named(self, pwd, tmp_path, monkeypatch, home):
        monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
        assert pwd(home) == tmp_path / "elsewhere"
        assert pwd(home + "/{{inputs.x}}", inputs={"x": "sub"}) == tmp_path / "elsewhere" / "sub"

    def test_what_a_value_says_is_taken_as_it_is(self, pwd):
        with pytest.raises(SzalError, match="flows/~' is not there"):
            pwd("{{inputs.x}}", inputs={"x": "~"})

    def test_a_sub_flow_runs_where_its_parent_does(self, tmp_path):
        inner = FlowDef("inner", steps=[shell("pwd")])
        step = StepDef("outer", step_type="sub_flow", config={"flow_name": "inner"})
        outer = FlowDef("outer", steps=[step], file=str(tmp_path / "flow.yaml"))
        with Engine(Handlers(), EngineConfig(storage=InMemoryStorage([inner]))) as engine:
            found = engine.run(outer)["outer"].output["sh"]
        assert found["stdout"].rstrip() == str(tmp_path)

    def test_so_does_an_undo(self, tmp_path):
        made = StepDef(
            "make", step_type="shell", rollbackable=True, config={"run": "true", "rollback": {"run": "pwd > here"}}
        )
        flow = FlowDef("f", steps=[made, shell("false")], rollback_on_failure=True, file=str(tmp_path / "flow.yaml"))
        with Engine(Handlers()) as engine:
            engine.run(flow)
        assert (tmp_path / "here").read_text() == f"{tmp_path}\n"


class TestSuccess:
    def test_the_output_holds_exit_code_and_both_streams(self):
        result = run(shell("echo out; echo err >&2"))
        assert result.output == {"exit_code": 0, "stdout": "out", "stderr": "err"}

    @pytest.mark.parametrize(
        ("command", "found"),
        [
            (r"printf 'ok\n\n\n'", "ok"),
            (r"printf 'ok\r\n'", "ok"),
            (r"printf '\n\na \nb \n'", "\n\na \nb "),
            (r"printf '\n'", ""),
            ("true", ""),
        ],
    )
    def test_the_line_ends_at_the_end_are_left_out(self, command, found):
        assert stdout(command) == found
        assert run(shell(f"{{ {command}; }} >&2")).output["stderr"] == found

    def test_lines_are_reported_as_progress(self):
        seen = []
        run(shell("echo one; echo two"), progress_sink=seen.append)
        assert [progress.data for progress in seen] == [
            {"stream": "stdout", "line": "one"},
            {"stream": "stdout", "line": "two"},
        ]
        assert seen[0].step_name == "sh"

    def test_output_that_was_cut_says_so(self):
        result = run(shell("head -c 3000000 /dev/zero | tr '\\0' x >&2"))
        assert result.output["truncated"] == ["stderr"]

    def test_a_failing_line_ends_the_script(self):
        assert run(shell("false\necho never")).error == "command failed with exit status 1"

    def test_another_shell_may_be_named(self):
        assert stdout('echo "${BASH_VERSION:+bash}"; set -o | grep pipefail', shell="bash -o pipefail") == (
            "bash\npipefail       \ton"
        )

    def test_it_runs_where_the_program_runs_unless_told_otherwise(self, tmp_path):
        assert stdout("pwd") == str(Path.cwd())
        assert stdout("pwd", {"where": str(tmp_path)}, cwd="{{inputs.where}}") == str(tmp_path)

    def test_variables_are_rendered_and_become_text(self):
        env = {"A": "{{inputs.a}} b", "N": 1, "T": True, "L": "{{inputs.list}}", "NONE": None}
        assert stdout('echo "$A|$N|$T|$L|$NONE"', {"a": "$x", "list": [1, "é"]}, env=env) == '$x b|1|true|[1,"é"]|'

    def test_it_knows_what_it_is_part_of(self):
        step = shell('echo "$SZAL_FLOW/$SZAL_STEP/$SZAL_ATTEMPT/$SZAL_EXECUTION_ID/$SZAL_IDEMPOTENCY_KEY"; echo $HOME')
        flow = FlowDef("demo", steps=[step])
        with Engine(Handlers()) as engine:
            found = engine.run(flow, execution_id="order-42")["sh"].output["stdout"]
        assert found == f"demo/sh/1/order-42/order-42:sh\n{os.environ['HOME']}"


def made(command, output, **fields):
    return run(shell(command, output=output, **fields))


class TestOutput:
    """``output``: what is made of stdout, which alone is the step's output."""

    def test_text_is_what_was_printed(self):
        assert made("echo ' a'; echo b; echo err >&2", "text").output == " a\nb"

    @pytest.mark.parametrize(
        ("command", "lines"),
        [
            (r"printf 'a\n\nb c\n'", ["a", "", "b c"]),
            (r"printf 'a\r\nb\r\n'", ["a", "b"]),
            ("printf x", ["x"]),
            ("true", []),
            (r"printf '\n\n'", []),
        ],
    )
    def test_lines_are_a_list(self, command, lines):
        assert made(command, "lines").output == lines

    @pytest.mark.parametrize("value", [{"rows": [1, None]}, [], "text", 5, 1.5, True, None])
    def test_json_is_its_value(self, value):
        assert made(f"printf '%s\n' '{json.dumps(value)}'", "json").output == value

    @pytest.mark.parametrize(
        ("command", "problem"),
        [
            ("true", "line 1, column 1: expecting value"),
            (
                r"""printf '{\n  "a": 1,\n  b\n}'""",
                "line 3, column 3: expecting property name enclosed in double quotes",
            ),
            ("echo '{} {}'", "line 1, column 4: extra data"),
            ("echo '[NaN]'", "[0]: NaN is not JSON"),
            ("echo '[[1e999]]'", "[0][0]: the number 1e999 is too large"),
            ("printf '[%.0s' $(seq 100000)", "nested too deeply"),
        ],
    )
    def test_what_is_no_json_fails_the_step_and_says_where(self, command, problem):
        result = made(command, "json")
        assert result.status is StepStatus.FAILED
        assert result.error.startswith("the command's stdout is not what output: json takes: ")
        assert problem in result.error

    def test_that_is_tried_again_as_any_failure_is(self, tmp_path):
        result = made(
            "test -e again && echo 1 || { touch again; echo nothing; }", "json", max_retries=1, cwd=str(tmp_path)
        )
        assert (result.output, result.attempts) == (1, 2)

    @pytest.mark.parametrize("output", ["text", "lines", "json"])
    def test_nothing_is_made_of_a_part(self, output):
        result = made("head -c 3000000 /dev/zero | tr '\\0' 1", output)
        assert "it is more than the 1048576 bytes that are kept: write a file" in result.error

    def test_what_fails_has_failed_whatever_it_printed(self):
        assert made("echo 1; exit 3", "json").error == "command failed with exit status 3: 1"

    def test_conditions_and_templates_reach_into_it(self):
        count = shell("""echo '{"rows": 50000, "file": "a b"}'""", "count", output="json")
        big = StepDef(
            "big",
            step_type="shell",
            condition="steps.count.output.rows > 40000",
            config={
                "run": "printf '<%s>' {{steps.count.output.file}} {{steps.count.output.rows}}",
            },
        )
        with Engine(Handlers()) as engine:
            assert engine.run(FlowDef("f", steps=[count, big]))["big"].output["stdout"] == "<a b><50000>"

    @pytest.mark.parametrize("output", ["yaml", 5])
    def test_there_are_no_others(self, output):
        with pytest.raises(InvalidFlow, match=r"config\.output must be text, lines or json, not"):
            made("true", output)


HOSTILE = ["", " ", "a b", "it's", '"', "$(touch pwned)", "`touch pwned`", "; touch pwned", "a' ; touch pwned '", "*"]
HOSTILE += [
    "\\",
    '\\"',
    "a\nb",
    "-n",
    "$HOME",
    "${_szal_1}",
    "# no comment",
    "{{inputs.x}}",
    "é\u2028",
    '"; touch pwned; "',
]


class TestTemplates:
    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("{{inputs.x}}", "{}"),
            ('"{{inputs.x}}"', "{}"),
            ("'{{inputs.x}}'", "{}"),
            ("""'a\\'{{inputs.x}}"it's {{inputs.x}}\\""'"'""", 'a\\{}it\'s {}""'),
            ('"$(printf %s "({{inputs.x}})" \'{{inputs.x}}.\')"', "({}){}."),
        ],
    )
    @pytest.mark.parametrize("value", HOSTILE)
    def test_a_value_is_one_word_in_quotes_or_not(self, value, text, word, tmp_path):
        command = f"# it's a comment\nprintf '<%s>' {text} # isn't it"
        assert stdout(command, {"x": value}, cwd=str(tmp_path)) == f"<{word.replace('{}', value)}>"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            (
                {"run": "cd /\nrm `ls {{inputs.x}}`"},
                "config.run, line 2, column 8: {{inputs.x}} stands in backticks: write $(…) in place of `…`",
            ),
            (
                {"run": "true", "rollback": {"run": "eval {{inputs.x}}"}},
                "config.rollback: config.run, line 1, column 6: {{inputs.x}} is read as code by eval: run the command",
            ),
            (
                {"run": "print({{inputs.x}})", "shell": "python3"},
                "config.run, line 1, column 7: {{inputs.x}} is in a script for python3: where",
            ),
        ],
    )
    def test_where_a_value_is_no_data_a_placeholder_is_refused_before_anything_runs(self, fields, problem):
        flow = FlowDef("demo", steps=[shell(rollbackable="rollback" in fields, **fields)], rollback_on_failure=True)
        for begin in (flow.validate, lambda: Engine(Handlers()).run(flow, {"x": "a"})):
            with pytest.raises(InvalidFlow) as caught:
                begin()
            [told] = caught.value.problems
            assert told.startswith(f"step 'sh': {problem}")

    def test_an_execution_from_before_that_was_so_fails_at_the_step_and_says_why(self):
        steps = [StepDef("wait", step_type="wait", config={"signal": "go"}), shell("eval {{inputs.x}}", max_retries=2)]
        handlers = Handlers()
        handlers.step("sh")(lambda ctx: None)  # by which it is not the command that is to be begun
        store = open_store("memory:")
        with Engine(handlers, EngineConfig(execution_store=store)) as engine:
            paused = engine.run(FlowDef("demo", steps=steps), {"x": "true"}).execution_id
        with Engine(Handlers(), EngineConfig(execution_store=store)) as engine:
            engine.signal(paused, "go")
            result = engine.resume(paused)["sh"]
        assert result.attempts == 1
        assert result.error.startswith(
            "GiveUp: step 'sh': config.run, line 1, column 6: {{inputs.x}} is read as code by"
        )

    def test_nothing_but_a_placeholder_is_changed_in_a_script(self):
        script = "#!/bin/sh\ncat <<'EOF'\n# it's a comment\n${_szal_1}\nEOF\nprintf '<%s>' {{inputs.x}} # isn't it"
        assert stdout(script, {"x": "a b"}) == "# it's a comment\n${_szal_1}\n<a b>"

    def test_other_values_are_json_and_those_that_may_be_missing_are_empty(self):
        values = {"list": [1, "a b"], "n": None}
        assert stdout("printf '<%s>' {{inputs.list}} {{inputs.n}} {{inputs.none?}}", values) == '<[1,"a b"]><null><>'

    @pytest.mark.parametrize("value", [None, True, 1.5, "a b", [1, "ü b"], {"a": [None]}])
    def test_a_value_is_the_same_wherever_it_stands(self, value):
        env = {"ALONE": "{{inputs.x}}", "IN_TEXT": "<{{inputs.x}}>", "OPTIONAL": "{{inputs.none?}}"}
        command = 'printf \'%s|\' {{inputs.x}} "$ALONE" "$IN_TEXT" "{{inputs.x}}" "$OPTIONAL"'
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        assert stdout(command, {"x": value}, env=env) == f"{text}|{text}|<{text}>|{text}||"

    @pytest.mark.parametrize("where", ["run", "cwd", "env"])
    def test_a_value_that_is_missing_fails_the_step_before_it_runs(self, where, tmp_path):
        fields = {"run": f"touch {tmp_path}/ran", "env": {}}
        fields[where] = {"A": "{{inputs.oot}}"} if where == "env" else fields.get(where, "") + "{{inputs.oot}}"
        result = run(shell(fields.pop("run"), max_retries=2, **fields), {"out": "x"})
        assert (result.status, result.attempts) == (StepStatus.FAILED, 1)
        assert result.error.startswith("nothing at inputs.oot: inputs has 'out'; did you mean 'out'?")
        assert not (tmp_path / "ran").exists()

    def test_a_value_with_a_nul_is_refused(self):
        assert run(shell("echo {{inputs.x}}"), {"x": "a\0b"}).error == (
            "GiveUp: step 'sh': a value in config.run contains a NUL character"
        )


class TestWhatAFailedCommandLeaves:
    """What it printed, and how it ended: in its output and in its error."""

    def test_it_is_its_output(self):
        result = run(shell("echo out; echo err >&2; exit 3"))
        assert (result.status, result.output) == (
            StepStatus.FAILED,
            {"exit_code": 3, "stdout": "out", "stderr": "err"},
        )

    @pytest.mark.parametrize("output", ["text", "lines", "json"])
    def test_it_is_the_same_whatever_is_made_of_what_succeeds(self, output):
        assert made("echo out; exit 3", output).output == {"exit_code": 3, "stdout": "out", "stderr": ""}

    def test_a_signal_that_killed_it_is_named(self):
        assert run(shell("echo out; kill -KILL $$")).output == {
            "exit_code": -9,
            "signal": "SIGKILL",
            "stdout": "out",
            "stderr": "",
        }

    def test_what_was_cut_is_told(self):
        result = run(shell("head -c 3000000 /dev/zero | tr '\\0' x; exit 1"))
        assert result.output["truncated"] == ["stdout"]
        assert len(result.output["stdout"]) == MAX_OUTPUT

    def test_it_is_there_where_the_printed_is_not_what_was_to_come(self):
        assert made("echo no json", "json").output == {"exit_code": 0, "stdout": "no json", "stderr": ""}

    def test_it_is_there_after_a_time_out(self):
        result = run(shell("echo out; echo err >&2; exec sleep 100", timeout=1.5))
        assert result.error == "step timeout: sh after 1500ms:\n  stderr:\n    err\n  stdout:\n    out"
        assert result.output == {"exit_code": -15, "signal": "SIGTERM", "stdout": "out", "stderr": "err"}

    def test_it_is_there_after_a_cancellation(self):
        token = CancellationToken()
        flow = FlowDef("demo", steps=[shell("echo ready; exec sleep 100")])
        with Engine(Handlers(), EngineConfig(progress_sink=lambda _: token.cancel())) as engine:
            result = engine.run(flow, cancel=token)
        assert result["sh"].output == {"exit_code": -15, "signal": "SIGTERM", "stdout": "ready", "stderr": ""}

    def test_it_is_that_of_the_last_attempt(self):
        result = run(shell('echo "$SZAL_ATTEMPT"; exit 1', max_retries=2))
        assert result.output["stdout"] == "3"
        assert result.error == "retry exhausted: sh after 3 attempts: command failed with exit status 1: 3"

    def test_who_gets_the_exception_has_it_too(self):
        result = run(shell("echo out; echo err >&2; exit 3"))
        error = pickle.loads(pickle.dumps(result.exception))
        assert (error.exit_code, error.signal, error.stdout, error.stderr) == (3, None, "out", "err")
        assert error.partial_output == result.output

    def test_steps_that_run_all_the_same_see_it(self):
        fails = shell("echo '1 of 5 tests failed'; exit 3", "fails")
        text = "{{steps.fails.output.exit_code}}: {{steps.fails.output.stdout}}"
        tell = StepDef(
            "tell",
            step_type="shell",
            config={"run": f"echo {text}"},
            condition="steps.fails.output.exit_code == 3",
            depends_on=[fails],
            trigger_mode=TriggerMode.ALL_DONE,
        )
        with Engine(Handlers()) as engine:
            result = engine.run(FlowDef("demo", FlowMode.DAG, steps=[fails, tell]))
        assert result["tell"].output["stdout"] == "3: 1 of 5 tests failed"
        assert result.outputs.keys() == {"tell"}

    def test_nothing_is_there_of_a_command_that_did_not_start(self):
        assert run(shell("true", cwd="{{inputs.x}}"), {"x": "/no/such"}).output is None


class TestRetriesAfterAnExitStatus:
    def test_a_command_is_tried_again_after_those_that_are_named(self, tmp_path):
        step = shell('echo "$SZAL_ATTEMPT" >> tries; exit $(( SZAL_ATTEMPT == 1 ? 75 : 2 ))', cwd=str(tmp_path))
        result = run(attrs.evolve(step, max_retries=5, retry_on=75))
        assert (result.attempts, result.output["exit_code"]) == (2, 2)


class TestFailure:
    def test_the_error_has_the_last_lines_of_stdout_where_that_is_all_there_is(self):
        assert run(shell("seq 1 20; exit 3")).error == "command failed with exit status 3:" + "".join(
            f"\n  {number}" for number in range(11, 21)
        )

    def test_of_a_line_that_was_written_over_the_error_has_what_stands_there(self):
        assert run(shell(r"printf '10%%\r20%%\r\n'; exit 3")).error == "command failed with exit status 3: 20%"

    def test_the_error_has_the_last_lines_of_both(self):
        assert run(shell("echo '1 failed'; echo 'a warning' >&2; exit 3")).error == (
            "command failed with exit status 3:\n  stderr:\n    a warning\n  stdout:\n    1 failed"
        )

    def test_the_error_has_the_exit_status_and_the_last_lines_of_stderr(self):
        result = run(shell("seq 1 20 >&2; exit 3"))
        assert result.status is StepStatus.FAILED
        assert result.error_type == "ShellFailed"
        lines = "".join(f"\n  {number}" for number in range(11, 21))
        assert result.error == f"command failed with exit status 3:{lines}"

    def test_one_line_of_stderr_stays_on_the_line(self):
        assert run(shell("echo no such thing >&2; exit 1")).error == "command failed with exit status 1: no such thing"

    def test_a_signal_is_named(self):
        assert run(shell("kill -KILL $$")).error == "command was killed by SIGKILL"
        assert run(shell("sh -c 'kill -TERM $$'; true")).error.startswith(
            "command failed with exit status 143 (killed by SIGTERM)"
        )

    def test_the_error_survives_pickling(self):
        error = ShellFailed("make", 2, "no rule\n")
        assert repr(pickle.loads(pickle.dumps(error))) == repr(error)

    def test_the_command_in_the_error_is_the_one_that_ran(self):
        result = run(shell("ls {{inputs.x}}; exit 1"), {"x": "a b"})
        assert result.exception.command == "ls 'a b'; exit 1"

    @pytest.mark.parametrize(
        ("config", "problem"),
        [
            (None, "shell step requires config.run"),
            ({}, "shell step requires config.run"),
            ("ls", "shell step requires config.run"),
            ({"run": " "}, "config.run must be a command, not ' '"),
            ({"run": ["ls"]}, "config.run must be a command, not ['ls']"),
            ({"run": "a\0b"}, "config.run contains a NUL character"),
            ({"run": "ls", "env": "A=1"}, "config.env must be an object, not 'A=1'"),
            ({"run": "ls", "shell": ""}, "config.shell must be a command like \"bash -e\", not ''"),
            (
                {"run": "ls", "shell": "bash 'x"},
                'config.shell must be a command like "bash -e", not "bash \'x": no closing quotation',
            ),
            (
                {"run": "ls", "shell": "{{inputs.x}}"},
                "config.shell holds {{, and nothing is filled in there",
            ),
            ({"run": "ls", "shell": "sh\0"}, "config.shell contains a NUL character"),
            ({"run": "ls", "cwd": ""}, "config.cwd must be a directory, not ''"),
            ({"run": "ls", "cwd": ["src"]}, "config.cwd must be a directory, not ['src']"),
            ({"run": "ls", "cwd": "a\0b"}, "config.cwd contains a NUL character"),
            ({"run": "ls", "env": {"": "1"}}, "config.env has the name '': " + NAMES),
            ({"run": "ls", "env": {"A=B": "1"}}, "config.env has the name 'A=B': " + NAMES),
            ({"run": "ls", "env": {"A-B": "1"}}, "config.env has the name 'A-B': " + NAMES),
            ({"run": "ls", "env": {"1A": "1"}}, "config.env has the name '1A': " + NAMES),
            ({"run": "ls", "env": {"É": "1"}}, "config.env has the name 'É': " + NAMES),
            ({"run": "ls", "env": {"A\0": "1"}}, "config.env has the name 'A\\x00': " + NAMES),
            ({"run": "ls", "env": {"A": "1\0"}}, "config.env contains a NUL character in A"),
            ({"run": "ls", "stop": "INT"}, f"config.stop {LIKE}, not 'INT'"),
            ({"run": "ls", "stop": {"after": 1}}, f"config.stop {LIKE}; it has no 'after'"),
            ({"run": "ls", "stop": {"signal": "int"}}, f"config.stop has the signal 'int', {NO_SIGNAL}: write 'INT'"),
            (
                {"run": "ls", "stop": {"signal": "SIGINT"}},
                f"config.stop has the signal 'SIGINT', {NO_SIGNAL}: write 'INT'",
            ),
            ({"run": "ls", "stop": {"signal": "STOP"}}, f"config.stop has the signal 'STOP', {NO_SIGNAL}"),
            ({"run": "ls", "stop": {"signal": 15}}, f"config.stop has the signal 15, {NO_SIGNAL}"),
            (
                {"run": "ls", "stop": {"grace": "2s"}},
                f"config.stop has the grace '2s', {NO_NUMBER}",
            ),
            ({"run": "ls", "stop": {"grace": -1}}, f"config.stop has the grace -1, {NO_NUMBER}"),
            (
                {"run": "ls", "stop": {"grace": True}},
                f"config.stop has the grace True, {NO_NUMBER}",
            ),
            ({"run": "ls", "stop": {"grace": NAN}}, f"config.stop has the grace nan, {NO_NUMBER}"),
            ({"run": "ls", "grace": 2}, 'config.grace is a part of config.stop: write {"stop": {"grace": 10}}'),
        ],
    )
    def test_a_config_that_cannot_work_is_refused_before_anything_runs(self, config, problem):
        ran = []
        handlers = Handlers()
        handlers.step("before")(ran.append)
        flow = FlowDef("demo", steps=[StepDef("before"), StepDef("build", step_type="shell", config=config)])
        with pytest.raises(InvalidFlow) as caught, Engine(handlers) as engine:
            engine.run(flow)
        assert (caught.value.problems, ran) == ((f"step 'build': {problem}",), [])

    @pytest.mark.parametrize(
        ("config", "problem"),
        [
            ({"cwd": "/no/such/{{inputs.x}}"}, "config.cwd '/no/such/directory' is not there"),
            ({"cwd": "/dev/null"}, "config.cwd '/dev/null' is no directory"),
            ({"cwd": "{{inputs.empty}}"}, "config.cwd must be a directory, not ''"),
            ({"shell": "no-such-shell -e"}, "config.shell 'no-such-shell' is not a program on this machine"),
            ({"shell": "/no/such/shell"}, "config.shell '/no/such/shell' is not a program on this machine"),
            ({"shell": "/dev/null"}, "config.shell '/dev/null' is not a program on this machine"),
            ({"env": {"PATH": "/no/such"}}, "config.shell 'sh' is not a program on this machine"),
            (
                {"env": {"A": "{{inputs.large}}"}},
                (
                    "config.env A has 10000000 bytes, more than this system takes: "
                    "put the {{…}} into the command, where a value may have any size"
                ),
            ),
        ],
    )
    def test_what_turns_out_not_to_work_is_not_tried_again(self, config, problem):
        inputs = {"x": "directory", "empty": "", "large": "x" * 10_000_000}
        result = run(shell("true", max_retries=2, **config), inputs)
        assert (result.error, result.attempts) == (f"GiveUp: step 'sh': {problem}", 1)

    def test_it_is_retried_like_any_other(self):
        result = run(shell('test "$SZAL_ATTEMPT" = 3', max_retries=2))
        assert (result.status, result.attempts) == (StepStatus.COMPLETED, 3)


class TestStopping:
    def test_a_timeout_ends_it_before_the_step_has_failed(self, tmp_path):
        file = tmp_path / "pid"
        flow = FlowDef("demo", steps=[shell(f"echo $$ > {file}; sleep 100", timeout=2)])
        with Engine(Handlers()) as engine:
            result = engine.run(flow)["sh"]
            assert (result.error, result.error_type) == ("step timeout: sh after 2000ms", "StepTimeout")
            assert not is_running(number_in(file))
            assert engine.abandoned == 0

    def test_a_cancellation_ends_it_within_the_grace(self, tmp_path):
        file, token = tmp_path / "pid", CancellationToken()
        flow = FlowDef("demo", steps=[shell(f"echo $$ > {file}; sleep 100"), shell("echo never", "next")])
        with Engine(Handlers()) as engine:
            execution = engine.start(flow, cancel=token)
            group = wait_until(lambda: number_in(file))
            token.cancel()
            result = execution.result(timeout=20)
        assert result.state is WorkflowState.CANCELLED
        assert result["sh"].error == "Cancelled: cancelled"
        assert result["next"].status is StepStatus.SKIPPED
        assert not is_running(group)

    def test_a_flow_timeout_ends_it(self, tmp_path):
        file = tmp_path / "pid"
        flow = FlowDef("demo", steps=[shell(f"echo $$ > {file}; sleep 100")], timeout=2)
        with Engine(Handlers()) as engine:
            result = engine.run(flow)
        assert (result.state, result["sh"].error_type) == (WorkflowState.FAILED, "StepTimeout")
        assert not is_running(number_in(file))

    def test_ctrl_c_in_the_calling_thread_ends_it(self, tmp_path):
        source = """
            import sys
            from szal import Engine, FlowDef, Handlers, StepDef
            run = f"trap '' TERM; echo $$ > {sys.argv[1]}; while :; do sleep 100; done"
            step = StepDef("sh", step_type="shell", config={"run": run, "stop": {"grace": 0.2}})
            Engine(Handlers()).run(FlowDef("demo", steps=[step]))
        """
        file = tmp_path / "pid"
        command = [sys.executable, "-c", textwrap.dedent(source), file]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
            group = wait_until(lambda: number_in(file))
            program.send_signal(signal.SIGINT)
            assert "KeyboardInterrupt" in program.communicate(timeout=30)[1]
        assert not is_running(group)

    @pytest.mark.parametrize("beside", [0, 1], ids=["on the main thread", "on a worker"])
    def test_ctrl_c_twice_kills_it(self, tmp_path, beside):
        source = """
            import sys
            from szal import Engine, EngineConfig, FlowDef, FlowMode, Handlers, StepDef
            run = f"trap '' TERM; echo $$ > {sys.argv[1]}; echo ready; while :; do sleep 100; done"
            config = {"run": run, "stop": {"grace": 60}}
            steps = [StepDef("sh", step_type="shell", config=config)]
            steps += [StepDef(f"other {n}", step_type="shell", config={"run": ":"}) for n in range(int(sys.argv[2]))]
            config = EngineConfig(cancel_grace=60, progress_sink=lambda _: print("ready", flush=True))
            Engine(Handlers(), config).run(FlowDef("demo", FlowMode.PARALLEL, steps=steps))
        """
        file = tmp_path / "pid"
        command = [sys.executable, "-c", textwrap.dedent(source), file, str(beside)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
            program.stdout.readline()
            group = number_in(file)
            program.send_signal(signal.SIGINT)
            time.sleep(0.3)  # a second one that comes at once is the first
            assert is_running(group)
            program.send_signal(signal.SIGINT)
            assert "KeyboardInterrupt" in program.communicate(timeout=30)[1]
        wait_until(lambda: not is_running(group))

    def test_the_grace_is_kept_when_the_program_exits_meanwhile(self, tmp_path):
        source = """
            import sys
            from szal import CancellationToken, Engine, EngineConfig, FlowDef, Handlers, StepDef
            token = CancellationToken()
            config = EngineConfig(cancel_grace=0, progress_sink=lambda _: token.cancel())
            run = f"trap 'sleep 0.3; echo done > {sys.argv[1]}; exit' TERM; echo ready; while sleep 0.01; do :; done"
            step = StepDef("sh", step_type="shell", timeout=60, config={"run": run, "stop": {"grace": 15}})
            Engine(Handlers(), config).run(FlowDef("demo", steps=[step]), cancel=token)
        """
        file = tmp_path / "cleaned-up"
        command = [sys.executable, "-c", textwrap.dedent(source), file]
        assert subprocess.run(command, capture_output=True, timeout=20).returncode == 0
        assert file.read_text() == "done\n"


class TestNothingFollowsBeforeItHasEnded:
    """It takes its time to end, within its grace: what follows waits for that."""

    @pytest.fixture
    def log(self, tmp_path):
        return tmp_path / "log"

    @pytest.fixture
    def slow_to_end(self, log):
        release = f"sleep 0.3; echo attempt $SZAL_ATTEMPT has given the lock back >> {log}; exit 1"
        work = "echo ready; while :; do sleep 0.02 || :; done"
        return f"trap '{release}' TERM; echo attempt $SZAL_ATTEMPT begins >> {log}; {work}"

    def lines(self, log):
        return log.read_text().splitlines()

    def test_another_attempt(self, slow_to_end, log):
        result = run(shell(slow_to_end, timeout=1.6, max_retries=1))
        assert result.error.startswith("retry exhausted: sh after 2 attempts: step timeout: sh after 1600ms")
        assert self.lines(log) == [
            "attempt 1 begins",
            "attempt 1 has given the lock back",
            "attempt 2 begins",
            "attempt 2 has given the lock back",
        ]

    def test_a_step_after_it(self, slow_to_end, log):
        slow = shell(slow_to_end, timeout=1.6)
        after = attrs.evolve(
            shell(f"echo after >> {log}", "after"), depends_on=[slow], trigger_mode=TriggerMode.ALL_DONE
        )
        with Engine(Handlers()) as engine:
            engine.run(FlowDef("demo", FlowMode.DAG, steps=[slow, after]))
        assert self.lines(log) == ["attempt 1 begins", "attempt 1 has given the lock back", "after"]

    @pytest.mark.parametrize("limit", ["step", "flow", "cancelled"])
    @pytest.mark.parametrize("store", [None, "memory:"])
    def test_the_undoing_and_the_end_of_the_run(self, slow_to_end, log, limit, store):
        undone = shell("true", "first", rollback={"run": f"echo undone >> {log}"}, rollbackable=True)
        slow = shell(slow_to_end, timeout=1.6 if limit == "step" else None)
        flow = FlowDef("demo", steps=[undone, slow], rollback_on_failure=True, timeout=1.8 if limit == "flow" else None)
        token = CancellationToken()
        config = EngineConfig(
            execution_store=None if store is None else open_store(store),
            cancel_grace=0.05,  # of handlers that promise nothing
            progress_sink=lambda progress: limit == "cancelled" and token.cancel(),
        )
        with Engine(Handlers(), config) as engine:
            result = engine.run(flow, cancel=token)
        assert result.state is WorkflowState.ROLLED_BACK
        assert self.lines(log) == ["attempt 1 begins", "attempt 1 has given the lock back", "undone"]

    def test_nor_where_a_function_in_python_runs_it(self, slow_to_end, log):
        def handler(ctx):
            return run_shell(ctx, {"run": slow_to_end})

        with Engine(handler) as engine:
            result = engine.run(FlowDef("demo", steps=[StepDef("a", timeout=1.6, max_retries=1, retry_delay=0)]))
        assert result["a"].error.startswith("retry exhausted: a after 2 attempts: step timeout: a after 1600ms")
        assert self.lines(log)[1:3] == ["attempt 1 has given the lock back", "attempt 2 begins"]

    def test_an_undo_that_is_out_of_time_is_tried_again(self, slow_to_end, log):
        first = shell("true", "first", timeout=1.6, max_retries=1, rollback={"run": slow_to_end}, rollbackable=True)
        with Engine(Handlers()) as engine:
            flow = FlowDef("demo", steps=[first, shell("exit 1")], rollback_on_failure=True)
            assert engine.run(flow).state is WorkflowState.FAILED
        assert self.lines(log)[1:3] == ["attempt 1 has given the lock back", "attempt 2 begins"]


class TestHowItIsToldToEnd:
    def test_with_the_signal_that_it_asks_for(self, tmp_path):
        file = tmp_path / "told"
        script = f"trap 'echo INT > {file}; exit' INT; while :; do sleep 0.02 || :; done"
        run(shell(script, timeout=1.5, stop={"signal": "INT"}))
        assert file.read_text() == "INT\n"

    def test_with_the_grace_that_it_asks_for(self):
        result = run(shell("trap '' TERM; while :; do sleep 100; done", timeout=0.5, stop={"grace": 2.5}))
        assert result.error == "step timeout: sh after 500ms"
        assert result.duration >= 3.0  # the grace is 2s where nothing is said

    def test_at_once_where_it_asks_for_that(self, tmp_path):
        file = tmp_path / "told"
        run(
            shell(
                f"trap 'echo TERM > {file}' TERM; while :; do sleep 0.02 || :; done",
                timeout=0.2,
                stop={"signal": "KILL"},
            )
        )
        assert not file.exists()

    def test_so_is_an_undo(self, tmp_path):
        file = tmp_path / "told"
        undo = {
            "run": f"trap 'echo INT > {file}; exit' INT; while :; do sleep 0.02 || :; done",
            "stop": {"signal": "INT"},
        }
        first = shell("true", "first", timeout=1.5, rollback=undo, rollbackable=True)
        with Engine(Handlers()) as engine:
            engine.run(FlowDef("demo", steps=[first, shell("exit 1")], rollback_on_failure=True))
        assert file.read_text() == "INT\n"

    def test_a_command_knows_its_grace(self):
        assert stdout("echo $SZAL_STOP_GRACE", stop={"grace": 7.5}) == "7.5"

    @pytest.mark.parametrize(("outer", "grace"), [("3", "1.5"), ("100", "2"), ("none", "2"), ("-1", "2"), ("nan", "2")])
    def test_within_a_command_of_szal_it_has_a_part_of_that_ones_grace(self, monkeypatch, outer, grace):
        monkeypatch.setenv("SZAL_STOP_GRACE", outer)
        assert stdout("echo $SZAL_STOP_GRACE") == grace


class TestManyAtOnce:
    def test_they_start_no_threads_of_their_own(self):
        threads = []
        steps = [shell("echo $SZAL_STEP", f"s{number}") for number in range(40)]
        config = EngineConfig(
            max_concurrency=8, progress_sink=lambda _: threads.append({*threading.enumerate()} - others)
        )
        others = set(threading.enumerate())
        with Engine(Handlers(), config) as engine:
            result = engine.run(FlowDef("many", FlowMode.PARALLEL, steps=steps))
        assert {name: output["stdout"] for name, output in result.outputs.items()} == {
            step.name: step.name for step in steps
        }
        assert max(map(len, threads)) <= 8 + 1  # the workers, and who ends them when they are idle

    def test_an_idle_command_costs_next_to_nothing(self):
        used = time.process_time()
        run(shell("sleep 1"))
        assert time.process_time() - used < 0.5


class TestUndo:
    def undo(self, tmp_path, rollback, first="echo made"):
        steps = [shell(first, "make", rollbackable=True, rollback=rollback), shell("exit 1", "fail")]
        with Engine(Handlers()) as engine:
            return engine.run(FlowDef("demo", steps=steps, rollback_on_failure=True), {"dir": str(tmp_path)})

    def test_a_command_undoes_a_step_and_sees_its_output(self, tmp_path):
        command = 'printf %s "$SZAL_OUTPUT" > {{inputs.dir}}/undone; echo "$SZAL_IDEMPOTENCY_KEY" > {{inputs.dir}}/key'
        result = self.undo(tmp_path, {"run": command})
        assert result.state is WorkflowState.ROLLED_BACK
        recorded = {"exit_code": 0, "stdout": "made", "stderr": ""}
        assert json.loads((tmp_path / "undone").read_text()) == recorded
        assert (tmp_path / "key").read_text() == f"{result.execution_id}:make:rollback\n"

    def test_an_undo_may_name_what_its_step_has_come_to(self, tmp_path):
        command = "printf %s {{steps.make.output.stdout}} > {{inputs.dir}}/undone"
        assert self.undo(tmp_path, {"run": command}).state is WorkflowState.ROLLED_BACK
        assert (tmp_path / "undone").read_text() == "made"

    def test_an_undo_that_finds_nothing_fails_and_says_so(self, tmp_path):
        result = self.undo(tmp_path, {"run": "rm -rf {{inputs.nowhere}}/*"})
        assert result.state is WorkflowState.FAILED
        assert "make (nothing at inputs.nowhere: inputs has 'dir'" in result.error
