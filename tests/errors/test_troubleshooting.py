"""docs/troubleshooting.md: it has each exception, says what the docstrings say, and names commands that there are."""

import re

import pytest
from troubleshooting import PAGE, classes, entry_of, page

from szal.cli.commands import szal as group


def test_the_page_is_what_the_docstrings_say() -> None:
    assert PAGE.read_text() == page(), "run: python tests/troubleshooting.py"


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_each_exception_tells_its_message_its_cause_and_what_to_do(kind: type) -> None:
    entry = entry_of(kind, "")
    assert entry.message
    assert entry.cause
    assert entry.next


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_the_commands_that_it_names_are_there(kind: type) -> None:
    named = re.findall(r"`szal ([a-z]+)", entry_of(kind, "").next)
    assert [name for name in named if name not in group.commands] == []


def test_no_exception_is_left_out_of_the_page() -> None:
    headings = re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(kind.__name__ for kind in classes())
