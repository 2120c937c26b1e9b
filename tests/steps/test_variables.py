"""What a command finds in its environment: its flow's inputs, and what came out before it."""

import json
import sys

import pytest
from steps.commands import command, outcome, printed

from szal import Engine, FlowDef, FlowMode, Handlers, StepDef, TriggerMode, WorkflowState

MEGABYTE = 1_000_000


def show(*names):
    """Return a command that prints these variables, each in brackets; those that are not set as a dash."""
    return "printf '[%s]' " + " ".join(f'"${{{name}-unset}}"' for name in names)


class TestInputs:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("a 'b' $HOME\n\n", "a 'b' $HOME\n\n"),
            ("", ""),
            (5, "5"),
            (True, "true"),
            (None, "null"),
            ([1, "é b"], '[1,"é b"]'),
            ({"a": {"b": None}}, '{"a":{"b":null}}'),
        ],
    )
    def test_text_is_as_it_is_and_any_other_value_is_json(self, value, text):
        assert printed(command(show("SZAL_INPUT_X")), inputs={"x": value}) == f"[{text}]"

    def test_a_name_is_upper_case_with_an_underscore_for_other_characters(self):
        names = {"dry-run": 1, "größe": 2, "a.b c": 3}
        found = printed(command(show("SZAL_INPUT_DRY_RUN", "SZAL_INPUT_GR__E", "SZAL_INPUT_A_B_C")), inputs=names)
        assert found == "[1][2][3]"

    def test_defaults_are_there_too(self):
        assert printed(command(show("SZAL_INPUT_ENV")), flow_inputs={"env": "staging"}) == "[staging]"


class TestOutputs:
    def test_of_all_that_came_before_whatever_did_it(self):
        handlers = Handlers()
        handlers.step("load")(lambda ctx: {"rows": [1]})
        handlers.step("name")(lambda ctx: "a b")
        last = command(show("SZAL_OUTPUT_LOAD", "SZAL_OUTPUT_NAME", "SZAL_OUTPUT_FIRST_ONE"), "last")
        steps = [StepDef("load"), StepDef("name"), command("echo hi", "first-one", output="lines"), last]
        with Engine(handlers) as engine:
            found = engine.run(FlowDef("f", steps=steps))["last"].output["stdout"]
        assert found == '[{"rows":[1]}][a b][["hi"]]'

    def test_of_steps_that_it_does_not_wait_for_there_are_none(self):
        a, b = command("true", "a", output="text"), command("true", "b", output="text")
        c = StepDef("c", step_type="shell", depends_on=[a], config={"run": show("SZAL_OUTPUT_A", "SZAL_OUTPUT_B")})
        d = StepDef("d", step_type="shell", depends_on=[c], config={"run": show("SZAL_OUTPUT_A", "SZAL_OUTPUT_B")})
        with Engine(Handlers()) as engine:
            result = engine.run(FlowDef("f", FlowMode.DAG, steps=[a, b, c, d]))
        assert {result[name].output["stdout"] for name in "cd"} == {"[][unset]"}

    def test_of_a_step_that_was_skipped_there_is_none(self):
        a = StepDef("a", step_type="shell", condition="false", config={"run": "echo"})
        b = StepDef(
            "b",
            step_type="shell",
            depends_on=[a],
            trigger_mode=TriggerMode.ALL_DONE,
            config={"run": show("SZAL_OUTPUT_A")},
        )
        with Engine(Handlers()) as engine:
            assert engine.run(FlowDef("f", FlowMode.DAG, steps=[a, b]))["b"].output["stdout"] == "[unset]"

    def test_programs_that_the_command_starts_have_them(self):
        program = "import os; print(os.environ['SZAL_OUTPUT_A'], os.environ['SZAL_INPUT_X'])"
        steps = [command("echo hi", "a", output="text"), command(f'{sys.executable} -c "{program}"', "b")]
        assert printed(*steps, inputs={"x": 1}) == "hi 1"

    def test_those_of_a_szal_around_this_one_are_not_taken_over(self, monkeypatch):
        for name in ("SZAL_INPUT_X", "SZAL_OUTPUT_A", "SZAL_OUTPUT", "SZAL_OUTPUT_A_FILE"):
            monkeypatch.setenv(name, "outer")
        names = ("SZAL_INPUT_X", "SZAL_OUTPUT_A", "SZAL_OUTPUT", "SZAL_OUTPUT_A_FILE")
        assert printed(command("env | grep -c outer || true")) == "0", names


class TestFiles:
    """What is too large for a variable is a file."""

    @pytest.fixture
    def large(self):
        return command(f"head -c {MEGABYTE} /dev/zero | tr '\\0' x", "large", output="text")

    def test_a_value_of_megabytes_is_in_a_file(self):
        count = command('wc -c < "$SZAL_INPUT_X_FILE"; echo "${SZAL_INPUT_X-unset}"')
        assert printed(count, inputs={"x": "é" * 2 * MEGABYTE}).split() == [str(4 * MEGABYTE), "unset"]

    def test_so_is_an_output(self, large):
        assert printed(large, command('wc -c < "$SZAL_OUTPUT_LARGE_FILE"')).strip() == str(MEGABYTE)

    def test_programs_that_the_command_starts_find_it_unasked(self, large):
        program = "import os; print(len(open(os.environ['SZAL_OUTPUT_LARGE_FILE']).read()))"
        assert printed(large, command(program, shell=sys.executable)) == str(MEGABYTE)

    def test_a_file_that_the_command_names_is_there_whatever_the_size(self):
        step = command('cat "$SZAL_INPUT_X_FILE"; printf %s "$SZAL_INPUT_X"')
        assert printed(step, inputs={"x": {"a": 1}}) == '{"a":1}{"a":1}'

    def test_nobody_else_may_look_into_it_and_it_is_gone_afterwards(self, large):
        found = printed(large, command('ls -l "$SZAL_OUTPUT_LARGE_FILE" | cut -c 1-10; ls "$SZAL_OUTPUT_LARGE_FILE"'))
        mode, path = found.split()
        assert mode == "-r--------"
        with pytest.raises(FileNotFoundError):
            open(path)  # noqa: SIM115, PTH123

    def test_what_a_command_does_to_its_file_no_other_sees(self, large):
        spoil = command('f="$SZAL_OUTPUT_LARGE_FILE"; chmod u+w "$f"; echo spoilt >> "$f"; rm "$f"', "spoil")
        assert printed(large, spoil, command('wc -c < "$SZAL_OUTPUT_LARGE_FILE"')).strip() == str(MEGABYTE)

    def test_a_command_that_names_the_variable_alone_fails_before_it_runs(self, large, tmp_path):
        result = outcome(large, command(f'touch {tmp_path}/ran; echo "$SZAL_OUTPUT_LARGE"'))
        assert result.error == (
            "GiveUp: step 'sh': SZAL_OUTPUT_LARGE is no variable: the output of step 'large' is too large for one: "
            "read the file $SZAL_OUTPUT_LARGE_FILE"
        )
        assert list(tmp_path.iterdir()) == []

    def test_so_is_text_with_a_nul(self):
        step = command('od -An -c "$SZAL_INPUT_X_FILE"')
        assert printed(step, inputs={"x": "a\0b"}).split() == ["a", "\\0", "b"]

    def test_many_that_are_too_large_together_are_split(self):
        inputs = {f"n{number}": "x" * 90_000 for number in range(60)}
        program = """
import os
names = [f"SZAL_INPUT_N{number}" for number in range(60)]
print(sum(name in os.environ for name in names) > 0, "PATH" in os.environ)
print(sum(len(os.environ.get(name) or open(os.environ[name + "_FILE"]).read()) for name in names))
"""
        assert printed(command(program, shell=sys.executable), inputs=inputs).split() == ["True", "True", "5400000"]

    def test_a_small_one_beside_many_large_ones_stays_a_variable(self):
        inputs = {f"n{number}": "x" * 90_000 for number in range(60)}
        assert printed(command('echo "$SZAL_INPUT_SMALL"'), inputs={**inputs, "small": "here"}) == "here"


class TestWithoutJson:
    """Without a store a handler may hand on any object."""

    @pytest.fixture
    def last(self):
        def last(run):
            handlers = Handlers()
            handlers.step("load")(lambda ctx: {"ids": {1}})
            with Engine(handlers) as engine:
                return engine.run(FlowDef("f", steps=[StepDef("load"), command(run)]))["sh"]

        return last

    def test_it_is_left_out_where_nobody_asks(self, last):
        assert last("env | grep -c OUTPUT_LOAD || true").output["stdout"] == "0"

    def test_and_a_command_that_names_it_fails(self, last):
        assert last('echo "$SZAL_OUTPUT_LOAD"').error == (
            "GiveUp: step 'sh': SZAL_OUTPUT_LOAD is no variable: the output of step 'load' has no JSON: "
            'steps.load.output["ids"]: set (conditions and templates read nothing but JSON)'
        )


class TestUndo:
    def undone(self, tmp_path, rollback, first="echo made", **config):
        make = StepDef(
            "make", step_type="shell", rollbackable=True, config={"run": first, **config, "rollback": {"run": rollback}}
        )
        with Engine(Handlers()) as engine:
            flow = FlowDef("demo", steps=[make, command("exit 1", "fail")], rollback_on_failure=True)
            return engine.run(flow, {"dir": str(tmp_path)})

    def test_it_has_the_output_of_what_it_undoes_as_json(self, tmp_path):
        result = self.undone(tmp_path, 'printf %s "$SZAL_OUTPUT" > "$SZAL_INPUT_DIR/seen"', output="text")
        assert result.state is WorkflowState.ROLLED_BACK
        assert (tmp_path / "seen").read_text() == '"made"'

    def test_a_large_one_is_a_file(self, tmp_path):
        result = self.undone(tmp_path, 'cp "$SZAL_OUTPUT_FILE" "$SZAL_INPUT_DIR/seen"', "seq 1 100000")
        assert result.state is WorkflowState.ROLLED_BACK
        assert json.loads((tmp_path / "seen").read_text())["stdout"].endswith("99999\n100000")

    def test_one_that_can_only_be_read_wrongly_does_not_run(self, tmp_path):
        result = self.undone(tmp_path, 'rm -r "$SZAL_INPUT_DIR/$SZAL_OUTPUT"', "seq 1 100000")
        assert result.state is WorkflowState.FAILED
        assert "SZAL_OUTPUT is no variable: the output of this step is too large for one" in result.error
