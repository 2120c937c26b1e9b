"""The order of the modules, from the bottom up: each imports only what stands above it in this list.

This list is the architecture document; docs/architecture.md tells how the modules work together.
"""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

ORDER = {
    "errors": "every exception, in one tree",
    # the small languages, and algorithms on plain data
    "path": "where a value is in a JSON value",
    "condition": "when a step runs, as text",
    "template": "values put into a step's config",
    "graph": "algorithms on lists of edges",
    "timers": "due times",
    "jsontext": "JSON values as text",
    # the model
    "state": "states, and which may follow which",
    "step": "a step's definition",
    "analysis": "what can be known of a flow before it runs",
    "flow": "a flow's definition",
    "execution": "results and records",
    "codec": "the model as JSON",
    "definition": "a flow as it is recorded; where two of them differ",
    "migration": "definitions across versions",
    "storage": "where sub-flows are looked up",
    # one concern each
    "cancel": "cancellation tokens",
    "subscription": "a bounded queue that drops its oldest",
    "events": "what happens, published",
    "progress": "what handlers report, published",
    "retry": "whether another attempt follows",
    "interrupts": "Ctrl-C, as a message",
    # stores: no engine below this line knows more of them than the protocol in stores.base
    "stores": "where executions are recorded",
    # running
    "plan": "a flow as nodes and typed edges",
    "context": "what a handler is given",
    "process": "processes and their groups",
    "shell": "a step that is a command",
    "handlers": "which function does which step",
    "config": "what an engine can be told",
    "reporting": "events and metrics of one execution",
    "attempt": "one call of a handler, which may be abandoned",
    "workers": "threads",
    "running": "the state of one plan being run",
    "scheduler": "the one loop that drives runs",
    "journal": "what an execution writes as it goes",
    "waiting": "steps that wait for a signal or a time",
    "leases": "who runs an execution",
    "rollback": "undoing a run",
    "request": "what is to be run",
    "sub_flows": "the executions that sub_flow steps stand for",
    "lifecycle": "one execution from its first record to its last",
    "recovery": "taking executions up again",
    "handle": "a run in the background",
    "engine": "the facade",
    # on top
    "document": "YAML and JSON with positions",
    "fields": "the fields of an object in a file",
    "loader": "flows as files",
    "__init__": "the public names",
    "cli": "the command line",
    "__main__": "python -m szal",
}


def package() -> Path:
    spec = importlib.util.find_spec("szal")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def concern(path: Path) -> str:
    """Return the name in ORDER that a file belongs to."""
    return path.relative_to(package()).parts[0].removesuffix(".py")


FILES = sorted(package().rglob("*.py"))


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a module, but for those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from runtime_nodes(child)


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in runtime_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "szal":
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("szal.")}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(package())))
def test_a_module_imports_only_what_stands_above_it(path: Path) -> None:
    order = list(ORDER)
    here = concern(path)
    assert here in order, f"{here} has no place in ORDER"
    if here in ("__init__", "cli", "__main__"):
        return
    above = set(order[: order.index(here) + 1])
    assert imported(path) <= above


def test_every_line_of_the_order_is_a_module() -> None:
    assert set(ORDER) == {concern(path) for path in FILES}


def test_nothing_uses_asyncio() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text())
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)], path
        assert "asyncio" not in path.read_text(), path
