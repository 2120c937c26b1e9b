"""docs/semantics.md promises nothing that no test shows: each of its blocks ends with a link to a test that exists.

So does what docs/django.md says of flows in the transaction of a request.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "semantics.md"
LINK = re.compile(r'\[✓\]\((\S+) "([^"]+)"\)')
EXPLAINED = "What is guaranteed, step by step."  # how the paragraph begins that says how to read the page


@cache
def names_in(path: Path) -> frozenset[str]:
    """Return the names of the tests in a file, those of classes after the name of the class."""
    return frozenset(_tests(ast.parse(path.read_text(encoding="utf-8")).body))


def _tests(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef) and (node.name.startswith("Test") or node.name.endswith("Contract")):
            yield from _tests(node.body, f"{prefix}{node.name}.")


def blocks(text: str) -> Iterator[str]:
    """Return the paragraphs, list items and table rows of a page, without its headings and the heads of its tables."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph.startswith("|"):
            yield from paragraph.splitlines()[2:]
        elif not paragraph.startswith("#"):
            yield from re.split(r"\n(?=- )", paragraph)


LINKS = sorted(set(LINK.findall(PAGE.read_text(encoding="utf-8"))))
BLOCKS = [block for block in blocks(PAGE.read_text(encoding="utf-8")) if not block.startswith(EXPLAINED)]


def test_the_page_has_links() -> None:
    assert len(LINKS) > 200
    assert len(BLOCKS) > 80


def test_the_files_that_it_links_to_are_there() -> None:
    assert [file for file, _ in LINKS if not (PAGE.parent / file).is_file()] == []


def test_the_tests_that_it_links_to_are_there() -> None:
    assert [(file, name) for file, name in LINKS if name not in names_in((PAGE.parent / file).resolve())] == []


def test_every_mark_is_a_link() -> None:
    text = PAGE.read_text(encoding="utf-8").replace("A ✓ leads to", "")
    assert text.count("✓") == len(LINK.findall(text))


def test_every_paragraph_item_and_row_ends_with_a_link() -> None:
    """Only what introduces a table or a list may have something after its last one, and ends with a colon."""
    without = [block for block in BLOCKS if not LINK.search(block)]
    assert without == []
    open_ended = [rest for block in BLOCKS if (rest := re.split(LINK, block)[-1].strip(" |\n"))]
    assert [rest for rest in open_ended if not rest.endswith(":")] == []


def test_what_is_said_of_the_transactions_of_requests_is_shown() -> None:
    """Each item of these lists in docs/django.md ends with a link, too."""
    page = PAGE.with_name("django.md")
    part = page.read_text(encoding="utf-8").partition("## Transactions of requests\n")[2].partition("\n## ")[0]
    items = [block for block in blocks(part) if block.startswith("- ")]
    assert len(items) > 5
    assert [item for item in items if not re.search(rf"{LINK.pattern}$", item)] == []
    links = LINK.findall(part)
    assert [(file, name) for file, name in links if name not in names_in((page.parent / file).resolve())] == []


def test_a_list_and_a_table_are_taken_apart() -> None:
    page = "# Head\n\nOne\ntwo.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\n- x\n  y\n- z\n"
    assert list(blocks(page)) == ["One\ntwo.", "| 1 | 2 |", "| 3 | 4 |", "- x\n  y", "- z"]
