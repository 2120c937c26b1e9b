"""docs/reference.md: it says what the docstrings say, of every field and member that there is."""

import re

import attrs
import pytest
from reference import NOT_OF_A_FLOW, OWN, PAGE, fields_of, members_of, page

from szal import EngineConfig, Flow, FlowDef, StepContext, StepDef

TITLES = {FlowDef: "Flow", StepDef: "StepDef", EngineConfig: "EngineConfig"}


def rows_of(title: str) -> list[str]:
    """Return the first word of each row of a table of the page."""
    table = PAGE.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)", table, re.MULTILINE)


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/reference.py"


@pytest.mark.parametrize("kind", TITLES, ids=lambda kind: kind.__name__)
def test_each_field_has_a_row(kind: type) -> None:
    left_out = NOT_OF_A_FLOW if kind is FlowDef else frozenset()
    assert rows_of(TITLES[kind]) == [
        field.name for field in attrs.fields(kind) if field.init and field.name not in left_out
    ]


@pytest.mark.parametrize(("title", "kind"), [("Members of Flow", Flow), ("StepContext", StepContext)])
def test_each_public_member_has_a_row(title: str, kind: type) -> None:
    public = {name for name in vars(kind) if not name.startswith("_")}
    own = {name for name in public if OWN in (getattr(kind, name).__doc__ or "")}
    assert public - own - {"is_hurried", "work"} <= set(rows_of(title))


@attrs.frozen(kw_only=True)
class Untold:
    """Says nothing of what it has.

    `told`: what there is to say.
    """

    told: int = 1
    untold: int = 2


def test_a_field_that_the_docstring_leaves_out_is_found() -> None:
    with pytest.raises(ValueError, match="Untold has no line that begins with `untold`:"):
        fields_of(Untold)


class Silent:
    def told(self) -> None:
        """Do it."""

    def untold(self) -> None: ...


def test_a_member_without_a_docstring_is_found() -> None:
    with pytest.raises(ValueError, match=r"Silent\.untold has no docstring"):
        members_of(Silent)
