"""Whatever a script is made of: what the reader accepts, the shell reads as the reader does."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripts.shells import SHELLS, printed

from szal.errors import ConditionError
from szal.scripts.script import Script

FULL = bool(os.environ.get("SZAL_TEST_FULL"))
"""Then these tests take some minutes."""

PIECES = st.sampled_from(
    [
        "'",
        '"',
        "`",
        "(",
        ")",
        "{",
        "}",
        "<",
        "!",
        "$",
        "#",
        "[",
        "]",
        "*",
        "?",
        "~",
        "\\",
        "\t",
        "\n",
        " ",
        ";",
        "|",
        "=",
        "-",
        "\\\n",
        "\\'",
        '\\"',
        "$(",
        "$((",
        "))",
        "${x",
        "${x:-",
        "${x%",
        '${x//"/}',
        "$'",
        '$"',
        "<<E\n",
        "<<'E'\n",
        "<<-E\n",
        "\nE\n",
        "E\n",
        "\n\tE\n",
        "<<<",
        "<(",
        "2>&1",
        ">/dev/null",
        "&&",
        "||",
        "[[ ",
        " ]]",
        "=~",
        "# c",
        "case a in ",
        "case @@ in a) ",
        "a) ",
        "*) p @@;;",
        ";;",
        " esac",
        "$(case x in x) p @@;; esac)",
        "if true; then ",
        "; fi",
        "for i in ",
        "; do ",
        "; done",
        "{ ",
        "; }",
        "f() ",
        "function g ",
        "a=",
        "a=(",
        "eval ",
        "in",
        "x",
        "$x",
        '"$x"',
        "y=1",
        "p ",
        "true; ",
        "@@",
        "p @@",
        "p '@@'",
        'p "@@"',
        "p a@@b",
        "\np @@\n",
        " p @@ | p b\n",
        '"$(p @@)"',
        "p $'a' @@",
        "p ${x##*/} @@",
        "cat <<E; p @@\n",
        "cat <<'E'\n@@",
    ]
)
SCRIPTS = st.lists(
    st.lists(PIECES, min_size=1, max_size=9).map("".join).map(lambda text: text if "@@" in text else f"{text}\np @@"),
    min_size=40,
    max_size=40,
)
TOKEN = "@Xq7z"  # means nothing to a shell, wherever it stands; with a "%" it would be a job
# Without spaces: what a script prints in $( ), without quotes, a shell splits, whatever printed it.
VALUES = ["$(touch${IFS}pwned)", "'", '"', "`touch${IFS}pwned`", "\\", "#x", ";touch${IFS}pwned;"]


def without_places(text: str) -> str:
    """Return what a shell prints without the numbers of lines in its messages."""
    return re.sub(r"\S*: (line )?\d+: |line \d+:? ?", "", text)


def accepted(text: str, shell: str) -> str | None:
    """Return the script with variables, if every placeholder in it is accepted."""
    try:
        script = Script.read(text.replace("@@", "{{inputs.v}}"), SHELLS[shell])
    except ConditionError:  # ${{ }}
        return None
    return None if script.misplaced else script.filled(["v"] * script.size)


@pytest.mark.parametrize("shell", SHELLS)
@given(texts=SCRIPTS)
@settings(
    max_examples=50 if FULL else 2,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.large_base_example],
)
def test_a_variable_is_read_as_what_is_written_in_its_place(shell: str, texts: list[str], tmp_path: Path) -> None:
    scripts = [(text, filled) for text in texts if (filled := accepted(text, shell)) is not None]
    both = [form for text, filled in scripts for form in (text.replace("@@", TOKEN), filled)]
    found = printed(shell, both, [TOKEN, *VALUES], tmp_path)
    for (text, _), written, filled in zip(scripts, found[::2], found[1::2], strict=True):
        assert without_places(filled[0]) == without_places(written[0]), text
        if "!" not in written[0] and "echo" not in text:
            pattern = without_places(written[0])  # a script may send what the shell says where it prints
            assert [*map(without_places, filled[1:])] == [pattern.replace(TOKEN, value) for value in VALUES], text
    assert not (tmp_path / "pwned").exists()


@given(st.lists(PIECES, max_size=30).map("".join), st.booleans())
@settings(max_examples=2000 if FULL else 100)
def test_every_placeholder_is_accepted_or_refused(text: str, in_bash: bool) -> None:
    text = re.sub(r"\{(?=\{|@@)", "{ ", text).replace("$@@", "$ @@").replace("@@", "{{inputs.v}}")
    script = Script.read(text, ["bash" if in_bash else "sh"])
    assert script.size == text.count("{{inputs.v}}")
    assert len({problem.position for problem in script.misplaced}) == len(script.misplaced)
