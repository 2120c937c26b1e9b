"""A script with placeholders: what is put in their places, for which shells, and what is said where nothing can be."""

import pytest

from szal.model.config import misplaced_in
from szal.scripts.script import Script


def told(text: str, shell: str = "sh -e") -> list[str]:
    return [fault.text for fault in misplaced_in({"run": text, "shell": shell})]


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("a {{inputs.x}} b", 'a "${v}" b'),
        ('a "{{inputs.x}}" b', 'a "${v}" b'),
        ("a 'b {{inputs.x}}'", "a 'b '\"${v}\"''"),
        ("a {{inputs.x?}} {{inputs.y | default('z')}}", 'a "${v}" "${v}"'),
        ("a {{'{{'}}b}} {{inputs.x}}", 'a {{b}} "${v}"'),
        ("a \\{{'$'}}{{inputs.x}}", 'a \\$"${v}"'),
        ("# it's {{'{{'}}\n{{inputs.x}}", '# it\'s {{\n"${v}"'),
        ("no placeholder `", "no placeholder `"),
    ],
)
def test_a_variable_takes_the_place_of_each_placeholder_and_all_else_stays(text: str, filled: str) -> None:
    script = Script.read(text, ["sh"])
    assert script.filled(["v"] * script.size) == filled


@pytest.mark.parametrize(
    "shell",
    [
        "sh",
        "/bin/sh -e",
        "dash",
        "ash -eu",
        "bash -eo pipefail",
        "bash -O nullglob -e",
        "/usr/bin/env bash",
        "busybox sh",
    ],
)
def test_these_are_shells_of_which_all_is_known(shell: str) -> None:
    assert told("echo {{inputs.x}}", shell) == []


@pytest.mark.parametrize(
    "shell", ["python3", "zsh -e", "ksh", "pwsh", "ssh host", "sudo sh", "bash script", "env -i sh", "env"]
)
def test_in_a_script_for_any_other_program_a_placeholder_is_refused(shell: str) -> None:
    [problem] = told("print({{inputs.x}})", shell)
    assert problem.startswith(
        f"{{{{inputs.x}}}} is in a script for {shell.partition(' ')[0]}: where a value is data szal"
    )
    assert problem.endswith("have the script read the environment variable SZAL_INPUT_X")
    assert told("print(1)", shell) == []


@pytest.mark.parametrize(
    ("path", "variable"),
    [
        ("inputs.x", "$SZAL_INPUT_X there"),
        ("inputs.my-name", "$SZAL_INPUT_MY_NAME there"),
        ('steps["unit test"].output', "$SZAL_OUTPUT_UNIT_TEST there"),
        ("steps.a.output.file", "$VALUE there, with VALUE: \"{{steps.a.output.file}}\" under 'env'"),
        ("item", "$VALUE there, with VALUE: \"{{item}}\" under 'env'"),
    ],
)
def test_what_is_said_names_a_variable_with_the_value(path: str, variable: str) -> None:
    [problem] = told(f"cat <<EOF\n{{{{{path}}}}}\nEOF")
    assert problem == f"{{{{{path}}}}} stands in a here-document: write {variable}"


def test_what_is_said_names_the_placeholder_as_it_is_written() -> None:
    [problem] = told("sh -c '{{ inputs.x | default(\"}}\") }}'")
    assert problem.endswith("""-c '… "$1" …' sh {{ inputs.x | default("}}") }}""")


def test_where_a_script_is_not_understood_it_is_said_where_that_begins() -> None:
    text = 'echo {{inputs.a}}\necho "${x%\'"\'}" {{inputs.b}}\necho {{inputs.c}}'
    assert told(text)[0] == (
        "{{inputs.b}} stands where szal does not know how the script is read: what begins at line 2, column 7 of it "
        '(${x%\'"\'}" …) has no end, or is read otherwise by another shell: write "$SZAL_INPUT_B"'
    )


def test_the_longest_and_the_deepest_scripts_are_read() -> None:
    assert told("echo a # b\n" * 20_000 + "echo {{inputs.x}}") == []
    assert told("$(" * 30 + "echo {{inputs.x}}" + ")" * 30) == []
    assert len(told("$(" * 10_000 + "echo {{inputs.x}}")) == 1
    assert told("( " * 10_000 + "echo {{inputs.x}}") == []
