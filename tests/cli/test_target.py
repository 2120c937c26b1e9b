"""What can be named on the command line, and what is said of what cannot."""

import pytest

from szal import Handlers
from szal.cli.target import BadTarget, find_target
from szal.errors import HandlerNotFound, InvalidFlow, LoadError

FILE = "name: from a file\nsteps:\n  - name: one\n    run: echo hello\n"


def write(here, text, name="mine.py"):
    (here / name).write_text(text)


def problem(name):
    with pytest.raises(BadTarget) as caught:
        find_target(name)
    return str(caught.value)


@pytest.mark.parametrize(
    ("attribute", "flow"),
    [("shell", "shell"), ("good", "good"), ("noisy", "noisy"), ("rolls", "rolls"), ("outer", "outer")],
)
def test_an_attribute_is_a_flow_a_tuple_or_a_function(here, attribute, flow):
    target = find_target(f"flows:{attribute}")
    assert target.flow.name == flow
    target.check()


def test_a_tuple_brings_handlers_and_sub_flows(here):
    target = find_target("flows:outer")
    assert isinstance(target.handler, Handlers)
    assert [flow.name for flow in target.sub_flows] == ["inner"]


def test_a_tuple_brings_migrations_of_its_flows(here):
    source = "from szal import *\nflow = FlowDef('a'), FlowDef('b'), MigrationRegistry(), MigrationRegistry('b')\n"
    write(here, source)
    assert set(find_target("mine:flow").config().migrations) == {"a", "b"}


def test_an_attribute_of_a_class(here):
    write(here, "from szal import FlowDef\nclass Jobs:\n    nightly = FlowDef('nightly')\n")
    assert find_target("mine:Jobs.nightly").flow.name == "nightly"


def test_a_file(here):
    write(here, FILE, "release.yaml")
    assert find_target("release.yaml").flow.name == "from a file"


def test_a_file_with_a_colon_in_its_name(here):
    write(here, FILE, "a:b.yaml")
    assert find_target("a:b.yaml").flow.name == "from a file"


def test_a_file_that_is_no_flow(here):
    write(here, "name: x\nsteps:\n  - nmae: one\n", "release.yaml")
    with pytest.raises(LoadError, match=r"release\.yaml:3"):
        find_target("release.yaml")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.yaml", "there is no such file"),
        (".", "directory"),
        ("flows.py", "as in flows:flow"),
        ("flows:", "module:attribute"),
        (":good", "module:attribute"),
        ("no such:thing", "module:attribute"),
        ("nowhere:flow", "there is no module nowhere"),
        ("flows:goood", "did you mean 'good'?"),
        ("flows:sys", "of type module"),
        ("flows:work", "the function failed: TypeError"),
    ],
)
def test_what_is_not_there(here, name, said):
    text = problem(name)
    assert text.startswith(name)
    assert said in text


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("flow = 1 +", "cannot import mine: SyntaxError"),
        ("import sys\n\nraise ValueError('boom')", "ValueError: boom ("),
        ("import nothing_like_this", "No module named 'nothing_like_this'"),
        ("raise SystemExit(3)", "cannot import mine: SystemExit: 3"),
        ("def flow():\n    raise OSError('no')", "the function failed: OSError: no"),
        ("def flow():\n    return None", "this is None"),
        ("flow = ()", "a tuple of nothing"),
        ("flow = (1, 2)", "a tuple of int, int"),
        (
            "from szal import *\nflow = FlowDef('a'), MigrationRegistry(), MigrationRegistry('a')",
            "more than one MigrationRegistry for one flow",
        ),
    ],
)
def test_a_module_that_fails(here, source, said):
    write(here, source)
    assert said in problem("mine:flow")


def test_an_error_in_a_module_says_where(here):
    write(here, "import sys\n\nraise ValueError('boom')")
    assert "mine.py, line 3)" in problem("mine:flow")


def test_what_cannot_be_run_is_found_before_it_is_run(here):
    with pytest.raises(HandlerNotFound, match="steps: one, two"):
        find_target("flows:unhandled").check()
    with pytest.raises(InvalidFlow, match="2 problems"):
        find_target("flows:twice").check()


def test_a_sub_flow_is_checked_too(here):
    write(here, "from szal import *\nflow = FlowDef('a'), FlowDef('b', steps=[StepDef('x')]), Handlers()\n")
    with pytest.raises(HandlerNotFound, match="x"):
        find_target("mine:flow").check()
