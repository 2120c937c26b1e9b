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

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import is_running, number_in, wait_until

from szal.engine.config import EngineConfig
from szal.engine.engine import Engine
from szal.errors import ShellFailed
from szal.model.flow import FlowDef, FlowMode
from szal.model.state import StepStatus, WorkflowState
from szal.model.step import StepDef
from szal.scheduler.cancel import CancellationToken
from szal.steps.handlers import Handlers


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


class TestSuccess:
    def test_the_output_holds_exit_code_and_both_streams(self):
        result = run(shell("echo out; echo err >&2"))
        assert result.output == {"exit_code": 0, "stdout": "out", "stderr": "err"}

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
            ("\"`printf %s '{{inputs.x}}.'`\"", "{}."),
        ],
    )
    @pytest.mark.parametrize("value", HOSTILE)
    def test_a_value_is_one_word_in_quotes_or_not(self, value, text, word, tmp_path):
        command = f"# it's a comment with {{{{inputs.x}}}}\nprintf '<%s>' {text} # isn't it"
        assert stdout(command, {"x": value}, cwd=str(tmp_path)) == f"<{word.replace('{}', value)}>"
        assert list(tmp_path.iterdir()) == []

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        parts=st.lists(
            st.sampled_from([*"'\"\\`$()#; \n", "$(", "<<E\n", "\nE\n", "{{inputs.x}}", "echo "]), max_size=12
        ),
        value=st.sampled_from(
            ["$(touch pwned)", "`touch pwned`", "';touch pwned;'", '";touch pwned;"', "\n touch pwned\n"]
        ),
    )
    def test_whatever_stands_around_it_a_value_is_never_run(self, parts, value, tmp_path):
        command = "".join(["true ", *parts]).replace("${{", "$ {{")  # which is refused
        run(shell(command, cwd=str(tmp_path)), {"x": value})
        assert not (tmp_path / "pwned").exists()

    def test_other_values_are_json_and_those_that_may_be_missing_are_empty(self):
        values = {"list": [1, "a b"], "n": None}
        assert stdout("printf '<%s>' {{inputs.list}} {{inputs.n}} {{inputs.none?}}", values) == '<[1,"a b"]><null><>'

    def test_a_value_with_a_nul_is_refused(self):
        error = run(shell("echo {{inputs.x}}"), {"x": "a\0b"}).error
        assert error.startswith("inputs.x: a string with a NUL character")


class TestFailure:
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

    def test_a_directory_that_is_not_there_is_named(self):
        assert "/no/such/directory" in run(shell("true", cwd="/no/such/directory")).error

    @pytest.mark.parametrize(
        ("config", "problem"),
        [
            (None, "a shell step needs config.run, a command"),
            ({}, "config.run must be a command, not None"),
            ({"run": " "}, "config.run must be a command, not ' '"),
            ({"run": ["ls"]}, "config.run must be a command, not ['ls']"),
            ({"run": "a\0b"}, "config.run contains a NUL character"),
            ({"run": "ls", "env": "A=1"}, "config.env must be an object, not 'A=1'"),
            ({"run": "ls", "shell": ""}, "config.shell must be a command like \"bash -e\", not ''"),
            ({"run": "ls", "grace": "2s"}, "config.grace must be a number of seconds, not '2s'"),
            ({"run": "ls", "grace": -1}, "config.grace must be a number of seconds, not -1"),
        ],
    )
    def test_a_wrong_config_names_the_step_and_the_field(self, config, problem):
        result = run(StepDef("build", step_type="shell", config=config, max_retries=2, retry_delay=0.0))
        assert (result.error, result.attempts) == (f"GiveUp: step 'build': {problem}", 1)

    def test_it_is_retried_like_any_other(self):
        result = run(shell('test "$SZAL_ATTEMPT" = 3', max_retries=2))
        assert (result.status, result.attempts) == (StepStatus.COMPLETED, 3)


class TestStopping:
    def test_a_timeout_ends_the_process_although_nobody_waits_for_it(self, tmp_path):
        file = tmp_path / "pid"
        result = run(shell(f"echo $$ > {file}; sleep 100", timeout=0.5))
        assert result.error == "step timeout: sh after 500ms"
        wait_until(lambda: not is_running(number_in(file)))

    def test_a_cancellation_ends_it_within_the_grace(self, tmp_path):
        file, token = tmp_path / "pid", CancellationToken()
        flow = FlowDef("demo", steps=[shell(f"echo $$ > {file}; sleep 100"), shell("echo never", "next")])
        with Engine(Handlers()) as engine:
            execution = engine.start(flow, cancel=token)
            group = wait_until(lambda: number_in(file))
            token.cancel()
            result = execution.result(timeout=5)
        assert result.state is WorkflowState.CANCELLED
        assert result["sh"].error == "Cancelled: cancelled"
        assert result["next"].status is StepStatus.SKIPPED
        assert not is_running(group)

    def test_a_flow_timeout_ends_it(self, tmp_path):
        file = tmp_path / "pid"
        flow = FlowDef("demo", steps=[shell(f"echo $$ > {file}; sleep 100")], timeout=0.5)
        with Engine(Handlers()) as engine:
            assert not engine.run(flow).success
        wait_until(lambda: not is_running(number_in(file)))

    def test_ctrl_c_in_the_calling_thread_ends_it(self, tmp_path):
        source = """
            import sys
            from szal import Engine, FlowDef, Handlers, StepDef
            run = f"trap '' TERM; echo $$ > {sys.argv[1]}; while :; do sleep 100; done"
            step = StepDef("sh", step_type="shell", config={"run": run, "grace": 0.2})
            Engine(Handlers()).run(FlowDef("demo", steps=[step]))
        """
        file = tmp_path / "pid"
        command = [sys.executable, "-c", textwrap.dedent(source), file]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
            group = wait_until(lambda: number_in(file))
            program.send_signal(signal.SIGINT)
            assert "KeyboardInterrupt" in program.communicate(timeout=10)[1]
        assert not is_running(group)

    def test_the_grace_is_kept_when_the_program_exits_meanwhile(self, tmp_path):
        source = """
            import sys
            from szal import CancellationToken, Engine, EngineConfig, FlowDef, Handlers, StepDef
            token = CancellationToken()
            config = EngineConfig(cancel_grace=0, progress_sink=lambda _: token.cancel())
            run = f"trap 'sleep 0.3; echo done > {sys.argv[1]}; exit' TERM; echo ready; while :; do sleep 0.01; done"
            step = StepDef("sh", step_type="shell", timeout=60, config={"run": run, "grace": 15})
            Engine(Handlers(), config).run(FlowDef("demo", steps=[step]), cancel=token)
        """
        file = tmp_path / "cleaned-up"
        command = [sys.executable, "-c", textwrap.dedent(source), file]
        assert subprocess.run(command, capture_output=True, timeout=20).returncode == 0
        assert file.read_text() == "done\n"


class TestManyAtOnce:
    def test_they_start_no_threads_of_their_own(self):
        threads = []
        steps = [shell("echo $SZAL_STEP", f"s{number}") for number in range(40)]
        config = EngineConfig(max_concurrency=8, progress_sink=lambda _: threads.append(threading.active_count()))
        before = threading.active_count()
        with Engine(Handlers(), config) as engine:
            result = engine.run(FlowDef("many", FlowMode.PARALLEL, steps=steps))
        assert {name: output["stdout"] for name, output in result.outputs.items()} == {
            step.name: step.name for step in steps
        }
        assert max(threads) <= before + 8 + 1  # the workers, and who ends them when they are idle

    def test_an_idle_command_costs_next_to_nothing(self):
        used = time.process_time()
        run(shell("sleep 0.5"))
        assert time.process_time() - used < 0.2


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

    def test_an_output_that_fits_no_variable_is_left_out(self, tmp_path, caplog):
        result = self.undo(tmp_path, {"run": 'test -z "$SZAL_OUTPUT"'}, first="seq 1 100000")
        assert result.state is WorkflowState.ROLLED_BACK
        assert "SZAL_OUTPUT is left out" in caplog.text
