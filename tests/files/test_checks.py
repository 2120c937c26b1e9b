"""What a file says of commands and functions that can never work is told with its place."""

import textwrap

import pytest

from szal.errors import LoadError
from szal.files.loader import load_flow

RULE = "the name of a variable has letters, digits and _, and begins with no digit"


def step(lines):
    """A flow with one step, called "a", with these lines, from the fourth on."""
    return "name: x\nsteps:\n  - name: a\n" + textwrap.indent(textwrap.dedent(lines), "    ")


@pytest.fixture
def problems(tmp_path):
    """``problems(text, here=…)``: what is wrong with a file, without the file's name."""

    def problems(text, **how):
        file = tmp_path / "flow.yaml"
        file.write_text(text)
        try:
            load_flow(file, **how)
        except LoadError as error:
            return list(error.problems)
        return []

    return problems


class TestWhateverTheMachine:
    @pytest.mark.parametrize(
        ("lines", "problem"),
        [
            ("run: x\nshell: ''", ":5:12: 'shell' in step 'a' must be a command like \"bash -e\", not ''"),
            (
                'run: x\nshell: "bash \'x"',
                ":5:12: 'shell' in step 'a' must be a command like \"bash -e\", not \"bash 'x\"",
            ),
            (
                "run: x\nshell: '{{inputs.s}}'",
                ":5:12: 'shell' in step 'a' must be a command like \"bash -e\", and takes no",
            ),
            ("run: x\ncwd: ''", ":5:10: 'cwd' in step 'a' must be a directory, not ''"),
            ("run: x\nstop: {grace: 1e7}", ":5:12: 'stop' in step 'a' has the grace 10000000.0, which must be"),
            ("run: x\nstop: {signal: SIGINT}", ":5:20: 'signal' in 'stop' of step 'a' must be one of TERM, INT"),
            ("run: x\nstop: {after: 1s}", ":5:12: unknown key 'after' in 'stop' of step 'a'"),
            ("run: x\nstop: 10s", ":5:11: 'stop' in step 'a' must be an object"),
            ("run: x\nenv: {A: 1, B-C: 2}", f":5:17: 'env' in step 'a' has the name 'B-C': {RULE}"),
            ("run: x\nenv: {'': 2}", f":5:11: 'env' in step 'a' has the name '': {RULE}"),
            ("run: x\nenv: {1A: 2}", f":5:11: 'env' in step 'a' has the name '1A': {RULE}"),
            ("run: x\nenv: {A=B: 2}", f":5:11: 'env' in step 'a' has the name 'A=B': {RULE}"),
            (
                "run: x\nenv: {A: '{{inputs.x}}', BASH_ENV: '{{inputs.x}}'}",
                ":5:30: 'env' in step 'a' fills in BASH_ENV, of which a shell runs the commands in its value",
            ),
            ("call: nothing", ":4:11: 'call' in step 'a' must be like \"package.module:function\", not 'nothing'"),
            ("call: 'a b:c'", ":4:11: 'call' in step 'a' must be like \"package.module:function\", not 'a b:c'"),
            ("call: '{{inputs.m}}:f'", ":4:11: 'call' in step 'a' must be like"),
            ("run: x\nrollback: {run: y, shell: ''}", ":5:31: 'shell' in 'rollback' of step 'a' must be a command"),
            ("run: x\nrollback: {call: y}", ":5:22: 'call' in 'rollback' of step 'a' must be like"),
            ("type: shell\nconfig: {run: x, cwd: ''}", ":5:27: 'cwd' in 'config' of step 'a' must be a directory"),
            ("type: shell\nconfig: {cwd: x}", ":5:13: 'config' of step 'a': shell step requires config.run"),
            ("type: python\nconfig: {call: x, args: 1}", ":5:20: 'call' in 'config' of step 'a' must be like"),
            ("type: sleep\nconfig: {seconds: soon}", ":3:5: step 'a': config.seconds must be a number of seconds"),
            ("type: sub_flow", ":3:5: step 'a': sub_flow step requires config.flow_name"),
        ],
    )
    def test_of_a_step(self, problems, lines, problem):
        assert problems(step(lines))[0].startswith(problem)

    def test_what_a_flow_says_for_all_of_its_steps_is_told_once(self, problems):
        text = "name: x\nmode: parallel\nshell: ''\nenv: {A-B: 1}\nsteps: [{name: a, run: x}, {name: b, run: x}]\n"
        assert problems(text) == [
            ":3:8: 'shell' in the flow must be a command like \"bash -e\", not ''",
            f":4:7: 'env' in the flow has the name 'A-B': {RULE}",
        ]

    def test_all_is_told_at_once(self, problems):
        assert len(problems(step("run: x\nshell: ''\ncwd: ''\nenv: {A-B: 1, 1: 2, C: $HOME}\nuses: x"))) == 6


class TestPlaceholders:
    """A placeholder that stands where no value can is told where it is, however the command is written."""

    @pytest.mark.parametrize(
        ("lines", "place"),
        [
            ("run: eval {{inputs.x}}", ":4:15: "),
            ("run: 'eval {{inputs.x}}'", ":4:16: "),
            ('run: "a; \\\n  eval {{inputs.x}}"', ":5:12: "),
            ("run: |\n  a {{inputs.x}}\n\n  eval {{inputs.x}}", ":7:12: "),
            ("run: |-\n    # a\n    eval {{inputs.x}}", ":6:14: "),
            ("run: >\n  a;\n  eval\n  {{inputs.x}}", ":7:7: "),
            ("run: a;\n  eval {{'{{'}} {{inputs.x}}", ":5:21: "),
            ("env: {A: b}\nrun: é eval; eval {{inputs.x}}", ":5:23: "),
            ('run: "eval \\x7b\\x7binputs.x}}"', ":4:10: "),
            ("type: shell\nconfig: {run: 'eval {{inputs.x}}'}", ":5:25: "),
        ],
    )
    def test_it_is_told_where_it_is(self, problems, lines, place):
        [problem] = problems(step(lines))
        assert problem.startswith(place + "'run' in ")
        assert "step 'a': {{inputs.x}} is read as code by eval: run the command itself" in problem

    def test_so_it_is_in_what_undoes_a_step(self, problems):
        [problem] = problems(step("run: x\nrollback: {run: 'eval {{steps.a.output}}'}"))
        assert problem.startswith(":5:27: 'run' in 'rollback' of step 'a': {{steps.a.output}} is read as code by eval")

    @pytest.mark.parametrize(("shell", "count"), [("bash -e", 0), ("sh -e", 1), ("zsh", 1), ("bash 'x", 1)])
    def test_the_shell_that_the_file_says_reads_it(self, problems, shell, count):
        command = r"echo $'it\\'s' {{inputs.x}}"
        found = problems(f'name: x\nshell: "{shell}"\nsteps: [{{name: a, run: "{command}"}}]\n')
        assert len(found) == count

    def test_in_json_too(self, tmp_path):
        file = tmp_path / "flow.json"
        file.write_text('{"name": "x", "steps": [\n  {"name": "a", "run": "true\\neval {{inputs.x}}"}]}')
        with pytest.raises(LoadError) as caught:
            load_flow(file)
        assert caught.value.problems[0].startswith(":2:36: 'run' in step 'a': {{inputs.x}} is read as code")

    def test_one_that_does_not_parse_is_told_once(self, problems):
        assert len(problems(step("run: eval {{inputs.}}"))) == 1


class TestWhatIsNotExpanded:
    """Only the home directory, at the beginning of a `cwd`: where people expect more, they are told what to write."""

    @pytest.mark.parametrize(
        ("value", "found"),
        [
            ("$HOME/bin", "$HOME"),
            ("${HOME}/bin", "${HOME}"),
            ("/opt:$PATH", "$PATH"),
            ("${PATH:-/bin}", "${PATH:-/bin}"),
            ("$(date)", "$(…)"),
            ("~/bin", "~"),
            ("~", "~"),
        ],
    )
    def test_in_a_variable(self, problems, value, found):
        [problem] = problems(step(f"run: x\nenv: {{A: '{value}'}}"))
        assert problem.startswith(f":5:14: 'env' in step 'a': {found} is not expanded here; write it in the command")

    @pytest.mark.parametrize("value", ["^a$", "costs $5", "a$$", "~1.2", "a~", "{{'$'}}HOME", "100%", "$"])
    def test_what_no_shell_would_expand_is_a_value(self, problems, value):
        assert problems(step(f'run: x\nenv: {{A: "{value}"}}')) == []

    @pytest.mark.parametrize(("cwd", "found"), [("$WORK/x", "$WORK"), ("~/$X", "$X"), ("/a/$HOME", "$HOME")])
    def test_in_a_directory(self, problems, cwd, found):
        told = f":5:10: 'cwd' in step 'a': {found} is not expanded here; only ~ and $HOME at the beginning are"
        assert problems(step(f"run: x\ncwd: {cwd}"))[0].startswith(told)

    @pytest.mark.parametrize("cwd", ["~", "~/x", "$HOME", "${HOME}/x", "x~", "{{inputs.x}}"])
    def test_the_home_directory_is(self, problems, cwd):
        assert problems(step(f"run: x\ncwd: '{cwd}'")) == []


class TestOnThisMachine:
    @pytest.mark.parametrize(
        ("lines", "problem"),
        [
            ("run: x\ncwd: nowhere", ":5:10: 'cwd' in step 'a': '"),
            ("run: x\ncwd: flow.yaml", ":5:10: 'cwd' in step 'a': '"),
            ("run: x\nshell: zzsh -e", ":5:12: 'shell' in step 'a': 'zzsh' is not a program on this machine"),
            ("call: zz.y:f", ":4:11: 'call' in step 'a': 'zz.y:f': there is no module zz, here or on sys.path"),
            ("call: json:zz", ":4:11: 'call' in step 'a': 'json:zz': there is no zz in json"),
            ("run: x\nrollback: {call: 'zz:f'}", ":5:22: 'call' in 'rollback' of step 'a': 'zz:f': there is no module"),
            ("type: shell\nconfig: {run: x, cwd: nowhere}", ":5:27: 'cwd' in step 'a': '"),
        ],
    )
    def test_what_is_missing_is_told_only_if_asked_for(self, problems, lines, problem):
        assert problems(step(lines)) == []
        assert problems(step(lines), here=True)[0].startswith(problem)

    def test_what_is_there_is_seen_from_the_file(self, problems, tmp_path):
        (tmp_path / "sub").mkdir()
        assert problems(step("run: x\ncwd: sub\nshell: sh -e"), here=True) == []

    @pytest.mark.parametrize("how", ["mode: sequential", "mode: dag"])
    def test_a_directory_that_a_step_before_may_make_is_not_looked_for(self, problems, how):
        needs = "needs: a, " if how == "mode: dag" else ""
        text = f"name: x\n{how}\nsteps:\n  - {{name: a, run: mkdir made}}\n  - {{name: b, {needs}run: x, cwd: made"
        assert problems(text + "}\n", here=True) == []
        assert problems(text + ", shell: made/bin/sh}\n", here=True) == []
        assert "'zzsh' is not a program" in problems(text + ", shell: zzsh}\n", here=True)[0]

    def test_nor_is_that_of_an_undo(self, problems):
        assert problems(step("run: mkdir made\nrollback: {run: x, cwd: made}"), here=True) == []

    def test_what_a_flow_says_for_all_of_its_steps_is_told_once(self, problems):
        text = "name: x\nmode: parallel\nshell: zzsh\nsteps: [{name: a, run: x}, {name: b, run: x}]\n"
        assert problems(text, here=True) == [":3:8: 'shell' in the flow: 'zzsh' is not a program on this machine"]
