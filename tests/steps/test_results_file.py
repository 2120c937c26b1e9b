"""What a command writes to ``$SZAL_RESULT``: its outputs by name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steps.commands import command, outcome, printed

from szal import CommandResultUnusable, StepDef, StepStatus
from szal.steps.results_file import MAX_RESULT, outputs_in


def written(text):
    """Return a command that writes that to the file."""
    return command('printf %s "$TEXT" > "$SZAL_RESULT"', "write", env={"TEXT": text})


def outputs(text):
    return outcome(written(text)).output["outputs"]


def problem(text):
    error = outcome(written(text)).error
    start = "what the command wrote to $SZAL_RESULT cannot be used: "
    assert error.startswith(start)
    return error.removeprefix(start)


class TestLines:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("tag=v1", {"tag": "v1"}),
            ("tag=v1\n\nurl=https://x/?a=b<<c\n", {"tag": "v1", "url": "https://x/?a=b<<c"}),
            ("a=1\na=2\n", {"a": "2"}),
            ("a= b \n", {"a": " b "}),
            ("a=1\r\nb=2\r\n", {"a": "1", "b": "2"}),
            ("empty=\n", {"empty": ""}),
            ("image.tag=1\nunit-test=2\n", {"image.tag": "1", "unit-test": "2"}),
            ("notes<<END\nOne\n\n Two=2\nEND\nb=2\n", {"notes": "One\n\n Two=2", "b": "2"}),
            ("notes<<END\nEND\n", {"notes": ""}),
        ],
    )
    def test_each_is_a_name_and_a_text(self, text, found):
        assert outputs(text) == found

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("a=1\nhello\n", "line 2: there is no '=' in 'hello': write name=value, name<<END with lines up to one"),
            ("# why\n", "line 1: there is no '=' in '# why'"),
            (
                "my key=1\n",
                "line 1: 'my key' is no name: a name has letters, digits, '_', '-' and '.', and begins with",
            ),
            ("\n=1\n", "line 2: '' is no name"),
            ("a<<\n", "line 1: after << comes the line that ends the value, as in notes<<END"),
            ("a=1\nb<<END\nx\n", "line 2: no line after it is 'END', which ends the value"),
        ],
    )
    def test_any_other_line_fails_the_attempt_and_is_told_by_its_number(self, text, told):
        assert problem(text).startswith(told)

    @given(st.dictionaries(st.sampled_from(["a", "B-1", "_c.d"]), st.text(st.characters(exclude_characters="\r"))))
    def test_every_text_can_be_written_with_an_end_that_it_has_not(self, values):
        text = "".join(f"{name}<<END-OF-IT\n{value}\nEND-OF-IT\n" for name, value in values.items())
        assert outputs_in(text) == values


class TestJson:
    def test_one_object_gives_outputs_of_any_type(self):
        value = {"n": 3, "files": ["a", "b"], "nested": {"x": None}}
        assert outputs(json.dumps(value, indent=1)) == value

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ('{"a": 1}\n{"b": 2}\n', "line 2, column 1: extra data"),
            ('{\n"a" 1}', "line 2, column 5: expecting ':' delimiter"),
            ('{"a": 1, "a": 2}', "duplicate key 'a'"),
            ('{"a": NaN}', "a: NaN is not JSON"),
        ],
    )
    def test_what_is_none_fails_the_attempt_and_says_where(self, text, told):
        assert problem(text).startswith(told)


class TestBytes:
    @pytest.mark.parametrize(
        ("run", "told"),
        [
            (r"printf 'a=1\nb=\377\n'", "line 2: it is no UTF-8"),
            (r"printf 'a=1\nb=x\000y\n'", "line 2: it contains a NUL character"),
            (
                f"head -c {MAX_RESULT + 1} /dev/zero",
                f"it is more than the {MAX_RESULT} bytes that are kept: write a file",
            ),
        ],
    )
    def test_what_cannot_be_kept_fails_the_attempt(self, run, told):
        assert f"cannot be used: {told}" in outcome(command(f'{run} > "$SZAL_RESULT"')).error

    @pytest.mark.parametrize("made", ["mkdir", "mkfifo"])
    def test_what_is_no_file_any_more_fails_it_too(self, made):
        error = outcome(command(f'rm "$SZAL_RESULT"; {made} "$SZAL_RESULT"')).error
        assert error == "what the command wrote to $SZAL_RESULT cannot be used: it is no file any more"


class TestTheFile:
    def test_it_is_there_and_empty_in_each_attempt(self):
        write = 'test -f "$SZAL_RESULT"; cat "$SZAL_RESULT"; echo "n=$SZAL_ATTEMPT" >> "$SZAL_RESULT"'
        run = f'{write}; test "$SZAL_ATTEMPT" = 2'
        step = StepDef("a", max_retries=1, retry_delay=0, step_type="shell", config={"run": run})
        assert outcome(step).output == {"exit_code": 0, "stdout": "", "stderr": "", "outputs": {"n": "2"}}

    @pytest.mark.parametrize(
        "run", ["true", 'rm "$SZAL_RESULT"', 'echo > "$SZAL_RESULT"', 'echo "{}" > "$SZAL_RESULT"']
    )
    def test_a_command_that_writes_nothing_has_none(self, run):
        assert "outputs" not in outcome(command(run)).output

    def test_a_command_that_fails_has_none(self):
        assert outcome(command('echo "no line" > "$SZAL_RESULT"; exit 3')).error == "command failed with exit status 3"

    def test_they_are_found_under_outputs(self):
        last = command("printf '<%s>' {{steps.write.output.outputs.tag}}")
        assert printed(written("tag=v 1"), last) == "<v 1>"

    @pytest.mark.parametrize("output", ["text", "lines", "json"])
    def test_beside_output_it_is_an_error(self, output):
        result = outcome(command('echo 1; echo a=1 >> "$SZAL_RESULT"', output=output))
        assert result.status is StepStatus.FAILED
        told = f"output: {output} makes stdout the whole output of the step: leave out one of the two"
        assert result.error == str(CommandResultUnusable(told))
