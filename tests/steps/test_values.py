"""How values come into a command: of any size, and where nobody else sees them."""

import re
import shutil
import subprocess
import sys

import pytest
from steps.commands import command, outcome, printed

from szal.steps.folder import CommandFiles
from szal.steps.values import loading

SHELLS = [shell for shell in ("sh", "bash", "dash") if shutil.which(shell)]

QUOTES = "x'y\"$`\\\n"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(QUOTES * 3, id="small"),
        pytest.param(QUOTES * 5_000, id="just too large for quotes"),
        pytest.param(QUOTES * 400_000, id="megabytes"),
        pytest.param("\n" * 100_000, id="nothing but line ends"),
    ],
)
def test_a_value_of_any_size_is_what_it_was(shell, value):
    program = "import sys; text = sys.stdin.read(); print(len(text), hash(text))"
    run = f"printf %s {{{{inputs.x}}}} | {sys.executable} -c '{program}'"
    found = printed(command(run, shell=shell, env={"PYTHONHASHSEED": "0"}), inputs={"x": value})
    expected = printed(
        command(f'{sys.executable} -c "{program}" < "$SZAL_INPUT_X_FILE"', env={"PYTHONHASHSEED": "0"}),
        inputs={"x": value},
    )
    assert found == expected
    assert found.split()[0] == str(len(value))


def test_many_large_ones_in_one_command():
    run = " ".join(f"{{{{inputs.x{number}}}}}" for number in range(20))
    inputs = {f"x{number}": str(number % 10) * 200_000 for number in range(20)}
    assert printed(command(f"printf %s {run} | wc -c"), inputs=inputs).strip() == "4000000"


def test_no_value_is_in_the_process_list():
    inputs = {"secret": "open-sesame", "large": "open-sesame" * 20_000}
    listed = "cat /proc/$$/cmdline /proc/$PPID/cmdline 2>/dev/null || ps -ww -o args="
    run = f": {{{{inputs.secret}}}} {{{{inputs.large}}}}; {listed}"
    assert "sesame" not in printed(command(run), inputs=inputs)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_lines_of_the_script_keep_their_numbers(shell):
    result = outcome(command("echo {{inputs.x}}\n\n${nothing?}", shell=f"{shell} -e"), inputs={"x": "a\nb\nc"})
    assert re.search(r"\b3: nothing", result.error), result.error


def test_the_script_is_what_the_shell_is_called_and_has_no_arguments():
    assert printed(command('echo "$0 $# {{inputs.x}}"', shell="bash"), inputs={"x": 1}) == "bash 0 1"


def test_standard_input_is_empty():
    assert printed(command("cat; echo {{inputs.x}}"), inputs={"x": 1}) == "1"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("value", ["small", "large" * 10_000])
def test_a_script_that_cannot_read_its_values_does_not_run(shell, value):
    """As where the shell changes the user, who may not look into the folder."""
    with CommandFiles() as files:
        first = loading({"x": value}, files)
    done = subprocess.run([shell, "-c", f"{first}echo ran"], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode != 0


@pytest.mark.parametrize("size", [140_000, 10_000_000])
def test_a_variable_of_the_steps_own_that_is_too_large_is_named(size):
    result = outcome(command("true", env={"SMALL": "1", "DATA": "{{inputs.x}}"}), inputs={"x": "y" * size})
    assert result.error == (
        f"GiveUp: step 'sh': config.env DATA has {size} bytes, more than this system takes: "
        "put the {{…}} into the command, where a value may have any size"
    )
