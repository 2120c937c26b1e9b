"""A value is data wherever a placeholder is accepted, in every shell; elsewhere the placeholder is refused.

The table of contexts is in `contexts.py`.
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripts.contexts import ACCEPTED, IN_BASH, REFUSED
from scripts.shells import SHELLS, printed

from szal.scripts.script import Script

FULL = bool(os.environ.get("SZAL_TEST_FULL"))
"""Then these tests take some minutes."""

PAGE = Path(__file__).parents[2] / "docs" / "shell.md"
HOSTILE = [
    "",
    " ",
    "*",
    "a b",
    "-n",
    "#x",
    "~",
    "'",
    '"',
    "\\",
    "a\n\tb\n",
    "$(touch pwned)",
    "`touch pwned`",
    ";touch pwned;",
    "'; touch pwned; '",
    '"; touch pwned; "',
    "\n touch pwned\n",
    "a[$(touch pwned)]",
    "x=$(touch pwned)",
    "${HOME}",
    "$v",
    "{a,b}",
    "a)b}c]d",
    "<<EOF",
    "EOF",
    "é\u2028\x7f",
]
VALUES = st.lists(
    st.text(st.characters(exclude_characters="\0\x1e", exclude_categories=["Cs"]), max_size=8)
    | st.lists(st.sampled_from([*"'\"\\$`(){}[]<>|&;#*?~!=\n\t -", "touch pwned", "$(", "v"]), max_size=6).map("".join),
    min_size=3,
    max_size=3,
)


def written(context: str) -> str:
    return context.replace("@@", "{{inputs.v}}")


def contexts_of(shell: str) -> list[tuple[str, str]]:
    return [*ACCEPTED, *IN_BASH] if "bash" in shell and shell != "bash as sh" else ACCEPTED


def filled(context: str, shell: str) -> str:
    script = Script.read(written(context), SHELLS[shell])
    assert not script.misplaced, context
    return script.filled(["v"] * script.size)


def check(shell: str, values: list[str], folder: Path) -> None:
    """Run all contexts with *values*: each prints what it would if the value was written there, in quotes."""
    contexts = contexts_of(shell)
    before = sorted(folder.iterdir())
    found = printed(shell, [filled(context, shell) for context, _ in contexts], values, folder)
    wrong = [
        (context, value, is_)
        for (context, prints), each in zip(contexts, found, strict=True)
        for value, is_ in zip(values, each, strict=True)
        if is_ != prints.replace("@@", value)
    ]
    assert wrong == []
    assert sorted(folder.iterdir()) == before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files, for what is not to be expanded."""
    for name in ("one", "two words", "-n"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("shell", SHELLS)
def test_a_hostile_value_is_data_in_every_accepted_context(shell: str, folder: Path) -> None:
    share = [*SHELLS].index(shell) + sys.version_info.minor  # each shell has all of them in four versions of Python
    check(shell, HOSTILE if FULL else HOSTILE[share % 4 :: 4], folder)


@pytest.mark.parametrize("shell", SHELLS)
@given(values=VALUES)
@settings(max_examples=30 if FULL else 2, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_so_is_any_value(shell: str, values: list[str], folder: Path) -> None:
    check(shell, values, folder)


@pytest.mark.parametrize("shell", ["sh -e", "/bin/bash -eo pipefail", "dash", "env bash", "busybox sh"])
def test_elsewhere_a_placeholder_is_refused_whatever_the_shell(shell: str) -> None:
    for context, reason in REFUSED:
        [*_, last] = Script.read(written(context), shell.split()).misplaced or [None]
        assert last is not None, context
        assert reason in last.refusal.reason, context
        assert last.written == "{{inputs.v}}", context


def rows() -> Iterator[tuple[str, bool]]:
    """Yield the example of each row of the tables in docs/shell.md, and whether the row says what to write instead."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = re.split(r" (?<!\\)\| ", line.strip("| "))
        if line.startswith("| ") and "{{" in line:
            yield cells[1].strip("` ").replace("\\|", "|").replace("⏎", "\n"), len(cells) > 2


@pytest.mark.parametrize(("example", "is_refused"), list(rows()))
def test_the_page_tells_the_truth(example: str, is_refused: bool) -> None:
    assert bool(Script.read(example, ["bash"]).misplaced) == is_refused


def test_there_are_enough_contexts() -> None:
    assert len(ACCEPTED) + len(IN_BASH) > 100
    assert len(REFUSED) > 100
