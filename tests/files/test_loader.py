"""Flow files: what they mean, and how everything that is wrong with them is told."""

import contextlib
import itertools
import json
import re
import subprocess
import sys
import textwrap
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from szal.engine.engine import Engine
from szal.errors import LoadError, MissingExtra
from szal.files.document import Unreadable
from szal.files.json import read_json
from szal.files.loader import load_flow
from szal.files.yaml import read_yaml
from szal.model.duration import parse_duration
from szal.model.flow import FlowMode
from szal.model.state import WorkflowState
from szal.model.step import BackoffStrategy, TriggerMode
from szal.steps.handlers import Handlers

RELEASE = """
name: release
description: builds and publishes
version: 3
mode: dag                    # the default for files
rollback_on_failure: true
timeout: 10m
inputs: {channel: staging, out: dist, n: 1}
steps:
  - name: build
    description: the wheel
    run: python -m build --wheel --outdir {{inputs.out}}
    cwd: "{{inputs.out}}"
    env: {PORT: 8080, VERSION: 1.10, EMPTY: , DEBUG: yes}
    timeout: 90s
    retries: {max: 2, delay: 1s, backoff: exponential, max_delay: 1m, jitter: 0.5, on: OSError, give_up_on: [a.B, 75]}
  - name: checksum
    needs: build
    run: sha256sum {{inputs.out}}/*.whl
  - name: publish
    needs: [build, checksum]
    if: inputs.channel == 'prod'
    call: mypackage.publish:upload
    with: {directory: "{{inputs.out}}", tries: 3}
    rollback: {run: rm -f x}
  - name: child
    flow: other
    with: {x: 1}
  - name: custom
    type: http
    config: {url: "https://example.org"}
    retries: 4
    rollback: true
  - name: notify
    needs: publish
    when: all_done
    run: echo done
"""


WAYS = "'mode: sequential' (one after another), 'mode: parallel' (all at once), or 'needs' in the steps"


def step(fields):
    """A flow with one step, called "a", with these lines."""
    return "name: x\nsteps:\n  - name: a\n" + textwrap.indent(textwrap.dedent(fields).strip("\n"), "    ")


class TestMeaning:
    def test_a_flow_has_what_its_file_says(self, load):
        flow = load(RELEASE)
        assert (flow.name, flow.description, flow.version) == ("release", "builds and publishes", 3)
        assert (flow.mode, flow.rollback_on_failure, flow.timeout) == (FlowMode.DAG, True, 600.0)
        assert flow.inputs == {"channel": "staging", "out": "dist", "n": 1}
        assert [step.name for step in flow.steps] == ["build", "checksum", "publish", "child", "custom", "notify"]

    def test_a_step_has_what_its_file_says(self, load):
        build, checksum, publish, _, custom, notify = load(RELEASE).steps
        assert (build.description, build.timeout, build.max_retries, build.retry_delay) == ("the wheel", 90.0, 2, 1.0)
        assert (build.backoff, build.max_retry_delay, build.retry_jitter) == (BackoffStrategy.EXPONENTIAL, 60.0, 0.5)
        assert (build.retry_on, build.give_up_on) == (("OSError",), ("a.B", 75))
        assert checksum.depends_on == (build.id,)
        assert publish.depends_on == (build.id, checksum.id)
        assert publish.condition == "inputs.channel == 'prod'"
        assert custom.max_retries == 4
        assert notify.trigger_mode is TriggerMode.ALL_DONE

    def test_what_a_step_does_is_its_type_and_config(self, load):
        build, _, publish, child, custom, _ = load(RELEASE).steps
        assert build.step_type == "shell"
        assert build.config == {
            "run": "python -m build --wheel --outdir {{inputs.out}}",
            "cwd": "{{inputs.out}}",
            "env": {"PORT": "8080", "VERSION": "1.10", "EMPTY": "", "DEBUG": "yes"},
        }
        assert (publish.step_type, child.step_type, custom.step_type) == ("python", "sub_flow", "http")
        assert publish.config["call"] == "mypackage.publish:upload"
        assert publish.config["args"] == {"directory": "{{inputs.out}}", "tries": 3}
        assert child.config == {"flow_name": "other", "inputs": {"x": 1}}
        assert custom.config == {"url": "https://example.org"}

    def test_only_what_has_a_rollback_is_rollbackable(self, load):
        flow = load(RELEASE)
        assert [step.name for step in flow.steps if step.rollbackable] == ["publish", "custom"]
        assert flow.steps[2].config["rollback"] == {"run": "rm -f x"}

    def test_a_command_that_undoes_has_the_surroundings_of_its_step(self, load):
        made = load(step("run: make\ncwd: src\nenv: {A: 1, B: 2}\nrollback: {run: make clean, env: {B: 3}}")).steps[0]
        assert made.config["rollback"] == {"run": "make clean", "cwd": "src", "env": {"A": "1", "B": "3"}}

    def test_a_function_can_undo_a_command(self, load):
        made = load(step("run: make\nrollback: {call: 'm:f', with: [1]}")).steps[0]
        assert made.config == {"run": "make", "rollback": {"call": "m:f", "args": [1]}}

    def test_shell_and_grace(self, load):
        assert load(step("run: make\nshell: bash -e\nstop: {grace: 10s}")).steps[0].config == {
            "run": "make",
            "shell": "bash -e",
            "stop": {"grace": 10.0},
        }

    def test_a_step_without_anything_to_do_is_for_a_handler_of_its_name(self, load):
        found = load(step("config: {x: 1}")).steps[0]
        assert (found.step_type, found.config) == (None, {"x": 1})

    def test_sub_steps_in_hierarchical_mode(self, load):
        flow = load("""
            name: x
            mode: hierarchical
            steps:
              - name: a
                run: x
                steps:
                  - {name: b, run: x}
                  - {name: c, run: x, steps: [{name: d, run: x}]}
        """)
        assert [step.name for step in flow.walk()] == ["a", "b", "c", "d"]

    def test_ids_are_made_of_the_names(self, load):
        first, second = load(RELEASE), load(RELEASE + "\n# changed\n")
        assert first == second
        assert first.id != load(RELEASE.replace("name: release", "name: another")).id
        assert len({uuid.UUID(step.id) for step in first.steps} | {uuid.UUID(first.id)}) == 7

    def test_a_condition_may_be_a_boolean(self, load):
        assert load(step("run: x\nif: false")).steps[0].condition == "false"

    def test_json_means_the_same(self, load):
        fields = r'"name": "a", "run": "é \ud83d\ude00 \u0041", "timeout": 1.5e0, "env": {"A": 1.0}'
        found = load(f'{{"name": "x", "steps": [{{{fields}}}]}}', "json").steps[0]
        assert found.config == {"run": "é 😀 A", "env": {"A": "1.0"}}
        assert found.timeout == 1.5

    def test_a_byte_order_mark_is_passed_over(self, load):
        assert load(b"\xef\xbb\xbf" + step("run: x").encode()).name == "x"
        assert load(b'\xef\xbb\xbf{"name": "x", "steps": []}', "json").name == "x"

    def test_what_was_loaded_runs_and_rolls_back(self, load, tmp_path):
        flow = load("""
            name: demo
            rollback_on_failure: true
            inputs: {greeting: hello, who: null, file: {required: true}}
            steps:
              - name: make
                run: echo "{{inputs.greeting}}, {{inputs.who}}" > {{inputs.file}}
                rollback: {run: "echo {{inputs.who}} was here > {{inputs.file}}"}
              - name: fail
                needs: make
                run: exit 1
              - name: clean
                needs: fail
                when: all_done
                call: pathlib:Path.read_text
                with: ["{{inputs.file}}"]
        """)
        file = tmp_path / "file"
        with Engine(Handlers()) as engine:
            result = engine.run(flow, {"who": "world's", "file": str(file)})
        assert result.state is WorkflowState.ROLLED_BACK
        assert file.read_text() == "world's was here\n"


class TestWaiting:
    def test_a_step_waits_for_a_signal_or_a_time(self, load):
        steps = load("""\
            name: x
            mode: parallel
            steps:
              - name: asked
                wait: approve
              - name: asked in time
                wait: {signal: approve, timeout: 7d, default: {by: nobody}}
              - name: with nothing
                wait: {signal: approve, default: null}
              - name: nap
                sleep: 1m30s
        """).steps
        assert [(step.step_type, step.config) for step in steps] == [
            ("wait", {"signal": "approve"}),
            ("wait", {"signal": "approve", "timeout": 604800.0, "default": {"by": "nobody"}}),
            ("wait", {"signal": "approve", "default": None}),
            ("sleep", {"seconds": 90.0}),
        ]

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("wait: {timeout: 5s}", ":4:11: 'signal' in 'wait' of step 'a' is empty"),
            ("wait: {signal: x, limit: 5s}", ":4:23: unknown key 'limit' in 'wait' of step 'a'"),
            ("wait:", ":4:5: 'wait' in step 'a' is empty"),
            ("sleep: soon", ":4:12: 'sleep' in step 'a': 'soon' is no duration"),
            ("sleep:", ":4:5: 'sleep' in step 'a' is empty"),
        ],
    )
    def test_what_is_wrong_is_told(self, problems, line, problem):
        [found] = problems(f"""\
            name: x
            steps:
              - name: a
                {line}
        """)
        assert found.startswith(problem)


class TestYaml:
    """It is read as YAML 1.2 reads it, and less."""

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("yes", "yes"),
            ("off", "off"),
            ("1:30", "1:30"),
            ("0755", "0755"),
            ("0x1f", "0x1f"),
            ("1_000", "1_000"),
            ("2026-06-10", "2026-06-10"),
            ("=", "="),
            ("<<", "<<"),
            (".inf", ".inf"),
            (".5", ".5"),
            ("true", True),
            ("False", False),
            ("~", None),
            ("", None),
            ("null", None),
            ("-12", -12),
            ("1e3", "1e3"),
            ("1.10", "1.10"),
            ("0.5", 0.5),
            ("'1'", "1"),
            ("!!str 1", "1"),
            ("! 1", "1"),
            ("|\n  a\n  b\n", "a\nb\n"),
        ],
    )
    def test_scalars(self, text, value):
        found = []
        assert read_yaml(f"x: {text}", found).plain() == {"x": value}
        assert found == []

    def test_keys_are_text(self):
        assert read_yaml("{on: 1, 2: 3, true: 4, null: 5}", []).plain() == {"on": 1, "2": 3, "true": 4, "null": 5}

    def test_an_alias_stands_for_what_has_its_anchor(self):
        assert read_yaml("a: &x {b: [1]}\nc: *x\nd: &y text\ne: *y", []).plain() == {
            "a": {"b": [1]},
            "c": {"b": [1]},
            "d": "text",
            "e": "text",
        }

    def test_what_json_can_hold_is_read_alike(self):
        text = json.dumps({"a": [1, -2.5, 'x\n"é', None, True, {}, []], "b": {"c": ""}})
        assert read_yaml(text, []).plain() == read_json(text, []).plain() == json.loads(text)

    def test_without_pyyaml_the_error_names_the_extra(self, load, monkeypatch):
        monkeypatch.setitem(sys.modules, "yaml", None)
        with pytest.raises(MissingExtra, match=r'loading YAML files .* pip install "szal\[cli\]"'):
            load(RELEASE)
        assert load('{"name": "x", "steps": []}', "json").name == "x"

    def test_pyyaml_is_imported_when_a_yaml_file_is_loaded_and_not_before(self):
        check = "import sys, szal.files.loader; print('yaml' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
        assert done.stdout == "False\n"


class TestProblems:
    def test_all_are_told_at_once_in_the_order_of_the_file(self, problems):
        assert problems("""\
            name: x
            mod: dag
            timeout: 5 minutes
            steps:
              - name: test
                need: a
                run: x
                call: y
              - name: other
                if: "a =="
                run: [x]
              - just text
              - run: x
        """) == [
            ":2:1: unknown key 'mod' in the flow; did you mean 'mode'?",
            ':3:10: \'timeout\' in the flow: \'5 minutes\' is no duration, as "90s", "10m", "1h30m" and "250ms" are',
            ":4:1: the flow does not say how its 4 steps run: write " + WAYS,
            ":6:5: unknown key 'need' in step 'test'; did you mean 'needs'?",
            ":8:5: step 'test' has both 'run' and 'call': a step does one thing",
            ":10:5: step 'other': condition: expected a value, found end of text at position 4\n  a ==\n      ^",
            ":11:10: 'run' in step 'other' must be text, not a list",
            ":12:5: step 3 must be an object, not 'just text'",
            ":13:5: step 4 has no name",
        ]

    @pytest.mark.parametrize(
        ("lines", "problem"),
        [
            ("timeout: soon", ":4:14: 'timeout' in step 'a': 'soon' is no duration"),
            ("timeout: -1", ":4:14: 'timeout' in step 'a' must be a number, not -1"),
            ("timeout: true", ":4:14: 'timeout' in step 'a' must be a number, not true"),
            ("needs: [b]", ":4:13: unknown step 'b' in 'needs' of step 'a'"),
            ("needs: {b: 1}", ":4:12: 'needs' in step 'a' must be text or a list of texts, not an object"),
            ("needs: [1]", ":4:13: 'needs' in step 'a' must be text or a list of texts, not 1"),
            ("when: any", ":4:5: 'when: any' without 'needs': the step would never run"),
            (
                "when: allways",
                (
                    ":4:11: 'when' in step 'a' must be one of all, any, all_succeeded, all_done, one_failed, one_done, "
                    "not 'allways'"
                ),
            ),
            ("steps: []", ":4:5: steps within a step are for mode hierarchical, and this flow is dag"),
            ("if: [x]", ":4:9: 'if' in step 'a' must be text, not a list"),
            ("depends_on: b", ":4:5: unknown key 'depends_on' in step 'a'; did you mean 'needs'?"),
            (
                "uses: b",
                ":4:5: unknown key 'uses' in step 'a'; there are no actions: write 'run', a command, or 'call'",
            ),
            ("run: ''", ":4:5: 'run' in step 'a' is empty"),
            ("run:", ":4:5: 'run' in step 'a' is empty"),
            ("call: f", ":4:11: 'call' in step 'a' must be like \"package.module:function\", not 'f'"),
            ("call: 'm:f'\nwith: 1", ":5:11: 'with' in step 'a' must be an object or a list, not 1"),
            ("run: x\nwith: {}", ":5:5: 'with' in step 'a' goes with 'call' or 'flow' only"),
            ("run: x\nconfig: {}", ":5:5: 'config' in step 'a' goes with 'type' only"),
            ("call: 'm:f'\nenv: {}", ":5:5: 'env' in step 'a' goes with 'run' only"),
            ("type: x\nconfig: [1]", ":5:13: 'config' in step 'a' must be an object, not a list"),
            ("run: x\nenv: {A: [1]}", ":5:14: 'A' in 'env' of step 'a' must be text, not a list"),
            ("run: x\nenv: A", ":5:10: 'env' in step 'a' must be an object, not 'A'"),
            ("retries: many", ":4:14: 'retries' in step 'a' must be a whole number or an object, not 'many'"),
            ("retries: -1", ":4:14: 'retries' in step 'a' must be a whole number or an object, not -1"),
            ("retries: {}", ":4:14: 'retries' of step 'a' needs 'max'"),
            (
                "retries: {max: 1, delays: 1s}",
                ":4:23: unknown key 'delays' in 'retries' of step 'a'; did you mean 'delay'?",
            ),
            ("retries: {max: 1.5}", ":4:20: 'max' in 'retries' of step 'a' must be a whole number, not 1.5"),
            ("retries: {max: 1, jitter: x}", ":4:31: 'jitter' in 'retries' of step 'a' must be a number, not 'x'"),
            (
                "retries: {max: 1, on: [75, OSErorr]}",
                ":4:32: 'on' in 'retries' of step 'a': there is no exception 'OSErorr'; did you mean 'OSError'?",
            ),
            (
                "retries: {max: 1, on: 0}",
                ":4:27: 'on' in 'retries' of step 'a': no command fails with 0: exit statuses of failures are 1 to 255",
            ),
            (
                "retries: {max: 1, give_up_on: [true]}",
                ":4:36: 'give_up_on' in 'retries' of step 'a' must be names of exceptions, or exit statuses, not true",
            ),
            ("rollback: no", ":4:15: 'rollback' in step 'a' must be true or false or an object, not 'no'"),
            ("rollback: {}", ":4:15: 'rollback' of step 'a' takes either 'run' or 'call'"),
            ("rollback: {run: x, call: 'm:f'}", ":4:15: 'rollback' of step 'a' takes either 'run' or 'call'"),
            ("rollback: {run: x, with: {}}", ":4:24: 'with' in 'rollback' of step 'a' goes with 'call' or 'flow' only"),
            ("run: x\nrun: y", ":5:5: duplicate key 'run', first on line 4"),
            ("run: !python/object x", ":4:10: the tag '!python/object' is not supported"),
            ("run: x\noutput: yaml", ":5:13: 'output' in step 'a' must be text, lines or json, not 'yaml'"),
            ("call: a:b\noutput: json", ":5:5: 'output' in step 'a' goes with 'run' only"),
            (
                "run: x\nif: always()",
                ":5:5: step 'a': condition: a condition has no functions such as always(): write when",
            ),
            ("run: x\ndescription: of {{inputs.x}}", ":3:5: step 'a': its description holds {{"),
            ("run: x\nenv: {'{{inputs.x}}': y}", ":3:5: step 'a': config: {{ in a key is not filled in"),
            ("run: echo {{inputs.", ":3:5: step 'a': config: "),
            ("run: echo {{steps.b.output}}", ":3:5: step 'a': config refers to an unknown step 'b'"),
        ],
    )
    def test_of_a_step(self, problems, lines, problem):
        found = problems(step(lines))
        assert len(found) == 1
        assert found[0].startswith(problem)

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", ":1:1: the file is empty"),
            ("# nothing\n", ":1:1: the file is empty"),
            ("- a", ":1:1: the flow must be an object, not a list"),
            ("text", ":1:1: the flow must be an object, not 'text'"),
            ("name: x", ":1:1: the flow has no steps"),
            ("steps: []", ":1:1: the flow has no name"),
            ("name: 12\nsteps: []", ":1:7: 'name' in the flow must be text: write \"12\", not 12"),
            ("name: ''\nsteps: []", ":1:7: 'name' in the flow must be text, not ''"),
            ("name: x\nsteps: {a: 1}", ":2:8: 'steps' in the flow must be a list, not an object"),
            ("name: x\nmode: dags\nsteps: []", ":2:7: 'mode' in the flow must be one of sequential, parallel, dag"),
            ("name: x\nversion: 1.5\nsteps: []", ":2:10: 'version' in the flow must be a whole number, not 1.5"),
            ("name: x\ninputs: [a]\nsteps: []", ":2:9: 'inputs' in the flow must be an object, not a list"),
            (
                "name: x\nrollback_on_failure: yes\nsteps: []",
                ":2:22: 'rollback_on_failure' in the flow must be true or",
            ),
            ("steps: []\nname: of {{inputs.x}}", ":2:1: the flow's name holds {{, and nothing is filled in there"),
            ("name: x\nsteps: []\ndescription: '{{x}}'", ":3:1: the flow's description holds {{"),
            ("name: x\ninputs: {y: '{{inputs.x}}'}\nsteps: []", ":2:1: the flow's inputs: 'y' holds {{"),
            ("name: [x\nsteps: []", ":2:6: YAML syntax: "),
            (
                "steps:\n  - run: echo 'a: b'",
                ":2:17: YAML syntax: mapping values are not allowed in this context; is ': ' part of a text? Put",
            ),
            ("name: x\n\tsteps: []", ":2:1: YAML syntax: "),
            ("a: 1\n---\nb: 2", ":2:1: a second document: a file holds one flow"),
            ("a: *b", ":1:4: the alias *b refers to nothing before it"),
            ("a: &b [*b]", ":1:8: the alias *b refers to nothing before it"),
            ("? [a]\n: b", ":1:3: a key must be plain text"),
            ("&a x: 1\n*a : 2", ":2:1: "),
            ('a: "\\U00110000"', ":1:"),
            ("a: \0", ":1:4: YAML cannot contain the character '\\x00'"),
            ("[" * 500, ":1:101: nested more than 100 levels deep"),
            ("[" * 100_000, ":1:1"),  # a new libyaml has a limit of its own, and finds it first
            ("- " * 100_000, ":1:201: nested more than 100 levels deep"),
            ("{a: " * 100_000, ":1:401: nested more than 100 levels deep"),
        ],
    )
    def test_of_a_yaml_file(self, problems, text, problem):
        found = problems(text.encode())
        assert len(found) == 1
        assert found[0].startswith(problem)

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", r":1:1: the file is empty"),
            (" \n\t", r":1:1: the file is empty"),
            ('{"name": "x",\n "steps": [1,]}', r":2:1[34]: JSON syntax: "),  # the comma, from Python 3.13 on
            ('{"name": "x"', r":1:13: JSON syntax: expecting ',' delimiter, found the end"),
            ('{"name" "x"}', r":1:9: JSON syntax: expecting ':' delimiter, found '\"'"),
            ("{name: 1}", r":1:2: JSON syntax: expecting property name enclosed in double quotes, found 'n'"),
            ("{'name': 1}", r":1:2: JSON syntax: expecting property name enclosed in double quotes, found \"'\""),
            ('{"a": 1,}', r":1:[89]: JSON syntax: "),
            ('{"a": 1 // one\n}', r":1:9: JSON syntax: expecting ',' delimiter, found '/'"),
            ('# flow\n{"a": 1}', r":1:1: JSON syntax: expecting value, found '#'"),
            ('{"a": NaN}', r":1:7: JSON syntax: NaN is not JSON"),
            ('{"a": [1, -Infinity]}', r":1:11: JSON syntax: -Infinity is not JSON"),
            ('{"a": ', r":1:7: JSON syntax: expecting value, found the end"),
            ('{"a": "b', r":1:7: JSON syntax: unterminated string starting at"),
            ('{"a": "b\nc"}', r":1:9: JSON syntax: invalid control character at"),
            ('{"a": 01}', r":1:8: JSON syntax: expecting ',' delimiter, found '1'"),
            ('{"a": 0x10}', r":1:8: JSON syntax: expecting ',' delimiter, found 'x'"),
            ("{} {}", r":1:4: JSON syntax: extra data, found '{'"),
            ('{"name": "x", "steps": [], "name": "y"}', r":1:28: duplicate key 'name', first on line 1"),
            ('{"name": "x", "steps": [{"name": "\\ud800"}]}', r":1:34: a lone surrogate, which no text can contain"),
            (
                '{"name": "x",\r\n\t"stepz": [],\n"steps": []}',
                r":2:2: unknown key 'stepz' in the flow; did you mean 'steps'\?",
            ),
            ("[" * 100_000, r":1:101: nested more than 100 levels deep"),
            ('{"a":' * 100_000, r":1:501: nested more than 100 levels deep"),
        ],
    )
    def test_of_a_json_file(self, problems, text, problem):
        found = problems(text.encode(), "json")
        assert len(found) == 1
        assert re.match(problem, found[0])

    @pytest.mark.parametrize("number", ["9" * 309, "-" + "9" * 400, "9" * 4300, "9" * 5000, "1e309", "-1.5e999"])
    @pytest.mark.parametrize("suffix", ["yaml", "json"])
    def test_a_number_that_is_too_large_is_told_wherever_it_stands(self, problems, number, suffix):
        told = "this number is too large: put it in quotes, if it is meant as text"
        flow = '{"name": "x", "version": %s, "inputs": {"n": [%s]},\n"steps": [{"name": "a", "timeout": %s}]}'
        found = problems(flow % (number, number, number), suffix)
        assert [problem.split(": ", 1) for problem in found] == [
            [":1:26", told],
            [f":1:{45 + len(number)}", told],
            [":2:36", told],
        ]

    @pytest.mark.parametrize("unit", ["d", "s", "ms"])
    @pytest.mark.parametrize("digits", [310, 400, 5000])
    def test_a_duration_that_is_too_large_is_none(self, problems, digits, unit):
        [found] = problems(step(f"timeout: {'9' * digits}{unit}"))
        assert found.startswith(":4:14: 'timeout' in step 'a': '999")
        assert len(found) < 300

    def test_a_file_that_is_not_utf_8(self, problems):
        assert problems("name: é\n".encode("latin-1")) == [":1:7: the file is not UTF-8"]
        assert problems("name: x\n".encode("utf-16"), "json") == [":1:1: the file is not UTF-8"]

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            load_flow(tmp_path / "none.yaml")

    def test_aliases_that_multiply_are_stopped(self, problems):
        letters = "abcdefghijkl"
        lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in itertools.pairwise(letters)]
        assert problems("\n".join(lines)) == [":6:36: aliases stand for more than 1000000 values"]

    def test_aliases_that_nest_too_deeply_are_stopped(self, problems):
        lines = ["a: &a [x]", f"b: &b {'[' * 60}*a{']' * 60}", f"c: {'[' * 60}*b{']' * 60}"]
        assert problems("\n".join(lines)) == [":3:64: nested more than 100 levels deep"]

    def test_needs_are_for_dags(self, problems):
        text = "name: x\nmode: sequential\nsteps:\n - {name: a, run: x}\n - {name: b, run: x, needs: a}"
        assert problems(text) == [":5:22: 'needs' is for mode dag, and this flow is sequential"]

    def test_an_unknown_need_has_a_suggestion(self, problems):
        text = "name: x\nsteps:\n - {name: build, run: x}\n - {name: b, run: x, needs: biuld}"
        assert problems(text) == [":4:29: unknown step 'biuld' in 'needs' of step 'b'; did you mean 'build'?"]

    def test_a_duplicate_name_points_at_both(self, problems):
        text = "name: x\nmode: parallel\nsteps:\n - {name: a, run: x}\n - {name: a, run: x}"
        assert problems(text) == [":5:5: duplicate step name 'a', first on line 4"]

    def test_a_cycle_is_told_once(self, problems):
        text = "name: x\nsteps:\n - {name: a, run: x, needs: b}\n - {name: 'b: c', run: x, needs: a}"
        found = problems(text.replace("needs: b", "needs: 'b: c'"))
        assert found == [":3:5: dependency cycle: a -> b: c -> a"]

    def test_a_problem_does_not_bring_others_with_it(self, problems):
        text = """
            name: x
            steps:
              - {name: a, run: x}
              - {name: b, run: x, needs: [aa], when: any}
              - {name: c, run: "echo {{steps.a.output}}", needs: b}
        """
        assert problems(text) == [":5:31: unknown step 'aa' in 'needs' of step 'b'; did you mean 'a'?"]

    def test_many_are_told_in_bounded_time(self, problems):
        steps = "".join(f"  - {{name: s{number}, run: x, needs: t{number}}}\n" for number in range(1000))
        assert len(problems("name: x\nsteps:\n" + steps)) == 1000

    def test_the_message_has_a_line_for_each_with_the_file(self, load, tmp_path):
        with pytest.raises(LoadError) as caught:
            load("nam: x")
        file = tmp_path / "flow.yaml"
        assert str(caught.value).splitlines() == [
            f"{file}:1:1: the flow has no name",
            f"{file}:1:1: the flow has no steps",
            f"{file}:1:1: unknown key 'nam' in the flow; did you mean 'name'?",
        ]


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("90s", 90), ("10m", 600), ("1h30m", 5400), ("250ms", 0.25), ("2d", 172800), ("1.5h", 5400), ("0s", 0)],
    )
    def test_examples(self, text, seconds):
        assert parse_duration(text) == seconds

    @pytest.mark.parametrize(
        "text", ["", "90", "s", "1 h", "-1s", "1s1s", "1x", "1e3s", "1h ", "٣s", "9" * 400 + "d", ".5s"]
    )
    def test_what_is_none_is_refused(self, text):
        with pytest.raises(ValueError, match="is no duration"):
            parse_duration(text)

    @given(st.dictionaries(st.sampled_from(["d", "h", "m", "s", "ms"]), st.integers(0, 10**6), min_size=1))
    def test_the_parts_add_up(self, parts):
        milliseconds = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
        expected = sum(count * milliseconds[unit] for unit, count in parts.items())
        found = parse_duration("".join(f"{count}{unit}" for unit, count in parts.items()))
        assert found == pytest.approx(expected / 1000, rel=1e-12)


WORDS = [
    "name",
    "steps",
    "needs",
    "run",
    "a",
    "b",
    "[",
    "]",
    "{",
    "}",
    ": ",
    ", ",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "&a ",
    "*a",
]
WORDS += [
    "'",
    '"',
    "|",
    "? ",
    "!!str ",
    "---\n",
    "# ",
    "%YAML 9.9\n",
    "\t",
    "\\",
    "1",
    "~",
    "on",
    "<<",
    "é",
    "\ufeff",
    "\r",
]


class TestAnyText:
    """Whatever is in a file, it is a flow or a `LoadError`."""

    @pytest.mark.parametrize("suffix", ["yaml", "json"])
    @settings(max_examples=100)
    @given(text=st.one_of(st.text(), st.lists(st.sampled_from(WORDS), max_size=40).map("".join)))
    def test_loads_or_raises_load_error(self, tmp_path_factory, suffix, text):
        file = tmp_path_factory.getbasetemp() / f"any.{suffix}"
        file.write_bytes(text.encode(errors="surrogatepass"))
        with contextlib.suppress(LoadError):
            load_flow(file).validate()

    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=20,
    )

    @pytest.mark.parametrize(
        "text",
        [
            '{\n\t"a":\t1\n}',
            '{"a":{"b":[1,2]}}',
            '["\\/", "\\ud83d\\ude00", "\\"", "\\\\", "\\\\\\""]',
            '{"%s": "\x7f\u2028\x85"}' % ("k" * 2000),
            "[1e5, 1E+2, -0, -0.0, 1.10]",
            '["[", "}", ",", ":", "# no comment"]',
        ],
    )
    def test_what_yaml_reads_otherwise_or_not_at_all_is_json(self, text):
        assert read_json(text, []).plain() == json.loads(text)

    @given(json_values)
    def test_json_is_read_as_the_json_module_reads_it(self, value):
        text = json.dumps(value, indent=1)
        assert read_json(text, []).plain() == value

    @given(st.text(alphabet='{}[]":,0123456789.eE+-truefalsn \n\\u', max_size=30))
    def test_what_is_no_json_is_refused(self, text):
        try:
            expected = json.loads(text)
        except ValueError:
            with pytest.raises(Unreadable):
                read_json(text, [])
        else:
            problems = []
            value = read_json(text, problems).plain()
            if "Infinity" in json.dumps(expected):
                assert all(problem.text.startswith("this number is too large") for problem in problems)
            else:
                assert (value, problems) == (expected, [])

    steps = st.lists(
        st.dictionaries(
            st.sampled_from(
                ["name", "needs", "when", "if", "run", "call", "with", "retries", "rollback", "steps", "timeout"]
            ),
            st.sampled_from(
                ["a", "b", "x", "any", "1s", "m:f", 1, -1, True, None, [], ["a"], {}, {"run": "x"}, {"max": 1}]
            ),
            max_size=6,
        ),
        max_size=4,
    )

    @given(steps=steps, mode=st.sampled_from(["dag", "sequential", "parallel", "hierarchical", "x"]))
    def test_a_flow_that_loads_is_valid(self, tmp_path_factory, steps, mode):
        file = tmp_path_factory.getbasetemp() / "flow.json"
        file.write_text(json.dumps({"name": "x", "mode": mode, "steps": steps}))
        try:
            flow = load_flow(file)
        except LoadError:
            return
        flow.validate()


class TestMode:
    """What is not said is not guessed: each way to run steps is somebody's habit."""

    def test_several_steps_without_needs_have_to_say_it(self, problems):
        text = "name: x\nsteps:\n - {name: a, run: x}\n - {name: b, run: x}\n"
        assert problems(text) == [f":2:1: the flow does not say how its 2 steps run: write {WAYS}"]

    def test_steps_below_steps_are_hierarchical(self, problems):
        text = "name: x\nsteps:\n - {name: a, run: x, steps: [{name: c, run: x}]}\n - {name: b, run: x}\n"
        assert "write 'mode: hierarchical'" in problems(text)[0]

    @pytest.mark.parametrize(
        "steps",
        [
            "[]",
            "[{name: a, run: x}]",
            "[{name: a, run: x}, {name: b, run: x, needs: a}]",
            "[{name: a, run: x}, {name: b, run: x, needs: []}]",
        ],
    )
    def test_one_step_or_steps_with_needs_need_not(self, load, steps):
        assert load(f"name: x\nsteps: {steps}\n").mode is FlowMode.DAG

    @pytest.mark.parametrize("mode", ["sequential", "parallel", "dag"])
    def test_what_is_said_holds(self, load, mode):
        flow = load(f"name: x\nmode: {mode}\nsteps: [{{name: a, run: x}}, {{name: b, run: x}}]\n")
        assert str(flow.mode) == mode


class TestWhatStepsShare:
    def test_commands_and_what_undoes_have_what_the_flow_says(self, load):
        flow = load("""
            name: x
            mode: sequential
            env: {A: 1, B: 1}
            cwd: src
            shell: bash -e
            steps:
              - name: a
                run: x
                env: {B: 2}
                rollback: {run: y, env: {A: 3}}
              - name: b
                run: x
                cwd: other
                shell: sh
              - name: c
                call: m:f
                rollback: {run: y}
              - name: d
                sleep: 1s
        """)
        a, b, c, d = (step.config for step in flow.steps)
        assert (a["env"], a["cwd"], a["shell"]) == ({"A": "1", "B": "2"}, "src", "bash -e")
        assert a["rollback"] == {"run": "y", "env": {"A": "3", "B": "2"}, "cwd": "src", "shell": "bash -e"}
        assert (b["env"], b["cwd"], b["shell"]) == ({"A": "1", "B": "1"}, "other", "sh")
        assert c == {
            "call": "m:f",
            "rollback": {"run": "y", "env": {"A": "1", "B": "1"}, "cwd": "src", "shell": "bash -e"},
        }
        assert d == {"seconds": 1.0}

    DEFAULTS = """
        name: x
        mode: parallel
        defaults: {timeout: 5m, retries: {max: 2, delay: 3s}}
        steps:
          - {name: plain, run: x}
          - {name: called, call: "m:f"}
          - {name: own, run: x, timeout: 1s, retries: 1}
          - {name: none, run: x, timeout: null, retries: 0}
          - {name: waits, wait: go}
          - {name: sleeps, sleep: 1h}
          - {name: calls, flow: other}
    """

    def test_defaults_are_for_steps_that_do_something_and_say_nothing_else(self, load):
        found = {step.name: (step.timeout, step.max_retries, step.retry_delay) for step in load(self.DEFAULTS).steps}
        assert found == {
            "plain": (300.0, 2, 3.0),
            "called": (300.0, 2, 3.0),
            "own": (1.0, 1, 1.0),
            "none": (None, 0, 1.0),
            "waits": (None, 0, 1.0),
            "sleeps": (None, 0, 1.0),
            "calls": (None, 0, 1.0),
        }

    @pytest.mark.parametrize(
        ("defaults", "problem"),
        [
            ("[x]", ":2:11: 'defaults' in the flow must be an object, not a list"),
            ("{timeout: x}", ":2:21: 'timeout' in 'defaults' of the flow: 'x' is no duration"),
            ("{retries: {}}", ":2:21: 'retries' of 'defaults' of the flow needs 'max'"),
            ("{env: {}}", ":2:12: unknown key 'env' in 'defaults' of the flow; it belongs at the top of the file"),
            ("{run: {shell: bash}}", ":2:12: unknown key 'run' in 'defaults' of the flow; it belongs in a step"),
            ("{idempotent: false}", ":2:12: unknown key 'idempotent' in 'defaults' of the flow"),
        ],
    )
    def test_what_is_wrong_is_told_once(self, problems, defaults, problem):
        text = f"name: x\ndefaults: {defaults}\nmode: parallel\nsteps: [{{name: a, run: x}}, {{name: b, run: x}}]\n"
        found = problems(text)
        assert len(found) == 1
        assert found[0].startswith(problem)


@pytest.mark.parametrize("name", ["all_succeeded", "all_completed"])
def test_all_succeeded_has_an_earlier_name(load, name):
    flow = load(f"name: x\nsteps: [{{name: a, run: x}}, {{name: b, run: x, needs: a, when: {name}}}]\n")
    assert flow.steps[1].trigger_mode is TriggerMode.ALL_COMPLETED


def test_a_step_that_must_not_run_twice(load):
    assert load(step("run: x\npriority: -3")).steps[0].priority == -3
    assert load(step("run: x\nfinally: true")).steps[0].finally_ is True
    assert load(step("run: x\ncontinue_on_error: true")).steps[0].continue_on_error is True
    assert load(step("run: x")).steps[0].continue_on_error is False
    assert load(step("run: x\nidempotent: false")).steps[0].idempotent is False
    assert load(step("run: x\nidempotent: true")).steps[0].idempotent is True
    assert load(step("run: x")).steps[0].idempotent is True


def test_a_first_line_that_names_a_program_is_a_comment(load):
    assert load("#!/usr/bin/env -S szal run\n" + step("run: x")).name == "x"
