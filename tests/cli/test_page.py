"""The examples of docs/command-line.md, and that it leaves no command out."""

import doctest
import re
import shlex
from pathlib import Path

import pytest

from szal.cli.commands import szal as group

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^\$ szal (.*)\n((?:(?!\$ ).*\n)*?)(?=\$ |```)", PAGE, re.MULTILINE)
CHECK = doctest.OutputChecker()
AS_SHOWN = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_the_examples_do_what_the_page_shows(szal, here):
    file, text = re.search(r"```yaml\n# (\S+)\n(.*?)```", PAGE, re.DOTALL).groups()
    (here / file).write_text(text)
    assert len(SHOWN) >= 8
    for command, expected in SHOWN:
        result = szal(*shlex.split(command))
        said = result.stdout + result.stderr
        assert CHECK.check_output(expected, said, AS_SHOWN), f"$ szal {command}\n{said}\ninstead of\n{expected}"


@pytest.mark.parametrize("name", group.commands)
def test_every_command_has_a_line(name):
    assert re.search(rf"^\| `szal {name}\b", PAGE, re.MULTILINE)
