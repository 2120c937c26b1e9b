"""What runs a script, and with which options."""

import shutil
import subprocess
import sys

import pytest
from steps.commands import command, outcome, printed

from szal import StepStatus

SHELLS = [shell for shell in ("sh", "bash", "dash", "zsh", "ksh", "mksh") if shutil.which(shell)]


def has_pipefail(shell):
    return subprocess.run([shell, "-c", "set -o pipefail"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("shell", [None, *SHELLS])
class TestAlone:
    """A shell that is named without options, and the one that is not named."""

    def config(self, shell):
        return {} if shell is None else {"shell": shell}

    def test_a_failing_line_ends_the_script(self, shell):
        assert outcome(command("false\necho never", **self.config(shell))).status is StepStatus.FAILED

    def test_a_failing_part_of_a_pipeline_does_where_the_shell_can_tell(self, shell):
        result = outcome(command("false | true\necho on", **self.config(shell)))
        assert (result.status is StepStatus.FAILED) == has_pipefail(shell or "sh")

    def test_its_place_may_be_told(self, shell):
        path = shutil.which(shell or "sh")
        assert outcome(command("false | true\necho on", shell=path)).error == (
            outcome(command("false | true\necho on", **self.config(shell))).error
        )


@pytest.mark.parametrize("shell", ["bash -e", "bash -u", "bash +e"])
def test_options_that_are_written_are_all_that_there_are(shell):
    assert printed(command("false | true; echo on", shell=shell)) == "on"
    result = outcome(command("false; echo on", shell=shell))
    assert (result.status is StepStatus.FAILED) == (shell == "bash -e")


def test_a_shell_that_a_step_before_has_made_is_found(tmp_path):
    made = command("printf '#!/bin/sh\\nexec sh \"$@\"\\n' > bash; chmod +x bash", "make", cwd=str(tmp_path))
    assert printed(made, command("echo on", shell="./bash", cwd=str(tmp_path))) == "on"


def test_any_program_that_takes_a_script_after_c_will_do(tmp_path):
    (tmp_path / "helper.py").write_text("said = 'hello'")
    assert printed(command("import helper\nprint(helper.said)", shell=sys.executable, cwd=str(tmp_path))) == "hello"


class TestLarge:
    """A script that is too large for an argument is read from a file."""

    @pytest.mark.parametrize("shell", SHELLS)
    def test_a_shell_reads_it(self, shell):
        # zsh says by what name it was called only where it is given the script itself
        run = (
            ("echo zsh\n" if shell == "zsh" else 'echo "$0"\n')
            + "# a comment, to make it longer\n" * 100_000
            + "echo end\nfalse\necho never"
        )
        result = outcome(command(run, shell=f"{shell} -e"))
        assert result.error == f"command failed with exit status 1:\n  {shell}\n  end"
        assert printed(command(run.removesuffix("false\necho never"), shell=shell)) == f"{shell}\nend"

    def test_so_does_another_program(self):
        run = "# a comment, to make it longer\n" * 100_000 + "print('end')"
        assert printed(command(run, shell=sys.executable)) == "end"
