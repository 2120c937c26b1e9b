"""docs/reference.md, made of the docstrings of four classes: ``python tests/reference.py`` writes it.

The docstring of an attrs class has a line that begins with the name of each field; members of other classes say in
their own what they are. What is the engine's own says so, and is left out.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from szal import EngineConfig, Flow, FlowDef, StepContext, StepDef

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"

HEAD = """\
# Reference

The fields and members of what flows are written with. This page is made from the code (`python tests/reference.py`),
and a test keeps it so. [flows-in-python.md](flows-in-python.md) shows them at work; [semantics.md](semantics.md) says
what is promised.

A duration is a number of seconds, a `timedelta`, or a text like "1m30s" in steps and flows, and a number of seconds in
settings of engines.
"""

OWN = "The engine's own."
"""What the docstring of a member says that no handler needs."""

NOT_OF_A_FLOW = frozenset({"steps", "sub_flows", "file", "parameters"})
"""Fields of `FlowDef` that a `Flow` finds itself."""


@attrs.frozen
class Table:
    """One table of the page."""

    title: str
    head: str
    columns: tuple[str, ...]
    rows: "Rows"

    def __str__(self) -> str:
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        table = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
        return "\n".join([f"## {self.title}\n", f"{self.head}\n", *table, ""])


Rows: TypeAlias = tuple[tuple[str, ...], ...]


def fields_of(kind: type, *, without: frozenset[str] = frozenset()) -> Rows:
    """Return name, type, default and meaning of each field; ValueError where the docstring lacks one."""
    doc, types = inspect.getdoc(kind) or "", annotations_of(kind)
    found = [field for field in attrs.fields(kind) if field.init and field.name not in without]
    names = [field.name for field in found]
    said = [meaning_of(kind, doc, name) for name in names]
    return tuple(
        (f"`{name}`", types[name], default_of(each), what) for name, each, what in zip(names, found, said, strict=True)
    )


def meaning_of(kind: type, doc: str, name: str) -> str:
    """Return what the docstring of a class says of one of its fields."""
    said = re.search(rf"^`{name}`: (.*?)(?=\n`\w+`: |\n\n|\Z)", doc, re.DOTALL | re.MULTILINE)
    if said is None:
        raise ValueError(f"the docstring of {kind.__name__} has no line that begins with `{name}`:")
    return as_markdown(said[1])


def annotations_of(kind: type) -> dict[str, str]:
    """Return the type of each field, in words."""
    lines = [each for each in body_of(kind) if isinstance(each, ast.AnnAssign)]
    return {ast.unparse(each.target): in_words(ast.unparse(each.annotation)) for each in lines}


def in_words(annotation: str) -> str:
    """Return a type as a person would say it."""
    return annotation.strip("'\"").replace(" | ", " or ")


def default_of(field: "attrs.Attribute[Any]") -> str:
    """Return the default of a field, as one would write it."""
    default = field.default
    if default is attrs.NOTHING:
        return "required"
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        made = default.factory()
        return "a new UUID" if isinstance(made, str) else f"`{made!r}`"
    if isinstance(default, Enum):
        return f"`{type(default).__name__}.{default.name}`"
    return f"`{default:_}`" if type(default) is int else f"`{default!r}`"


def members_of(kind: type) -> Rows:
    """Return what is written, and what it means, for each public member; ValueError where one has no docstring."""
    return tuple((f"`{written}`", as_markdown(doc)) for written, doc in sorted(_members(kind)) if OWN not in doc)


def _members(kind: type) -> Iterator[tuple[str, str]]:
    body = body_of(kind)
    made = next((each.body for each in body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), [])
    for line, after in [*pairwise(body), *pairwise(made)]:
        target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
        name = getattr(target, "id", getattr(target, "attr", "_"))
        if not name.startswith("_"):
            if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
                raise ValueError(f"{kind.__name__}.{name} has no docstring below it")
            yield name, str(after.value.value)
    for name, member in vars(kind).items():
        if name.startswith("_") or not (callable(member) or isinstance(member, property | classmethod)):
            continue
        doc = inspect.getdoc(member)
        if doc is None:
            raise ValueError(f"{kind.__name__}.{name} has no docstring")
        yield (name if isinstance(member, property) else f"{name}{parameters_of(member)}"), doc.partition("\n>>> ")[0]


def parameters_of(function: Any) -> str:
    """Return how a method is called: its parameters, without types."""
    signature = inspect.signature(getattr(function, "__func__", function))
    parts, is_marked = [], False
    for each in list(signature.parameters.values())[1:]:
        if each.kind is each.KEYWORD_ONLY and not is_marked:
            parts.append("*")
        is_marked = is_marked or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        parts.append(str(each.replace(annotation=each.empty)))
    return f"({', '.join(parts)})"


def body_of(kind: type) -> list[ast.stmt]:
    """Return what a class is written as."""
    tree = ast.parse(Path(inspect.getfile(kind)).read_text(encoding="utf-8"))
    return next(each.body for each in tree.body if isinstance(each, ast.ClassDef) and each.name == kind.__name__)


def as_markdown(text: str) -> str:
    """Return reStructuredText, as docstrings are, as one line of Markdown."""
    return " ".join(text.replace("``", "`").split())


def tables() -> list[Table]:
    """Return what the page consists of."""
    fields, members = ("field", "type", "default", "meaning"), ("member", "meaning")
    flow = "Keywords of `szal.Flow(name, …)`, whose `mode` is DAG unless said otherwise, and of `FlowDef(name, …)`."
    step = 'A keyword each of `Flow.step(…)`, and of `StepDef("name", …)`.'
    config = "`Engine(flow, EngineConfig(…))`; `Engine.open(url, flow, …)` and `szal.run` take the same as keywords."
    return [
        Table("Flow", flow, fields, fields_of(FlowDef, without=NOT_OF_A_FLOW)),
        Table(
            "Members of Flow",
            "[flows-in-python.md](flows-in-python.md) has an example of each.",
            members,
            members_of(Flow),
        ),
        Table("StepDef", step, fields, fields_of(StepDef)),
        Table("StepContext", "What a function gets as its parameter `ctx`.", members, members_of(StepContext)),
        Table("EngineConfig", config, fields, fields_of(EngineConfig)),
    ]


def page() -> str:
    """Return the page."""
    return "\n".join([HEAD, *map(str, tables())]).replace("\n\n\n", "\n\n").rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
