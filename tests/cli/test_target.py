"""What can be named on the command line, and what is said of what cannot."""

import sys

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


class TestFunctionsBesideTheFile:
    """A "call" step finds modules beside the flow's file and in the working directory, under every command."""

    CALLS = "name: calls\nmode: sequential\nsteps:\n  - name: one\n    call: beside:work\n"
    WAITS = CALLS + "  - name: asked\n    wait: go\n  - name: two\n    call: beside:work\n"

    @pytest.fixture
    def flow_file(self, here, monkeypatch):
        """A folder with a flow and its module, which is not the working directory."""
        folder = here / "flows_of_a_team"
        folder.mkdir()
        write(folder, "def work():\n    return 'from beside'\n", "beside.py")
        write(folder, self.WAITS, "flow.yaml")
        (here / "elsewhere").mkdir()
        monkeypatch.chdir(here / "elsewhere")
        return folder / "flow.yaml"

    @pytest.fixture
    def anew(self, monkeypatch):
        """Forget what has been imported and where from, as another process would not know it."""
        before = [*sys.path]

        def forget():
            sys.modules.pop("beside", None)
            monkeypatch.setattr(sys, "path", [*before])

        return forget

    def test_run(self, szal, flow_file):
        write(flow_file.parent, self.CALLS, "calls.yaml")
        assert szal("run", flow_file.with_name("calls.yaml")).exit_code == 0

    @pytest.mark.parametrize("command", [["validate"], ["graph"]])
    def test_commands_that_run_nothing(self, szal, flow_file, command):
        assert szal(*command, flow_file).exit_code == 0

    @pytest.mark.parametrize("command", [["resume", "e"], ["resume", "e", "FILE"], ["recover"], ["recover", "FILE"]])
    def test_commands_that_go_on(self, szal, flow_file, database, anew, command):
        assert szal("run", flow_file, "--id", "e", "--store", database).exit_code == 3
        assert szal("signal", "e", "go", "--store", database).exit_code == 0
        anew()
        arguments = [flow_file if argument == "FILE" else argument for argument in command]
        result = szal(*arguments, "--store", database, "--json")
        assert result.exit_code == 0, result.stderr
        assert '"from beside"' in result.stdout

    @pytest.mark.parametrize("file", [[], ["FILE"]])
    def test_rerun(self, szal, flow_file, database, anew, file):
        write(flow_file.parent, self.CALLS, "flow.yaml")
        assert szal("run", flow_file, "--id", "e", "--store", database).exit_code == 0
        anew()
        arguments = ["rerun", "e", *[flow_file for _ in file], "--from", "one", "--store", database]
        result = szal(*arguments)
        assert result.exit_code == 0, result.stderr

    def test_the_working_directory_comes_after(self, szal, flow_file, here):
        write(flow_file.parent, self.CALLS.replace("beside:work", "only_here:work"), "flow.yaml")
        write(here / "elsewhere", "def work():\n    return 1\n", "only_here.py")
        write(here / "elsewhere", "def work():\n    raise ValueError\n", "beside.py")
        assert szal("run", flow_file).exit_code == 0
        write(flow_file.parent, self.CALLS, "flow.yaml")
        assert szal("run", flow_file).exit_code == 0


class TestOnThisMachine:
    """`szal validate` says what a flow names that is not here; loading it, or running another part, does not."""

    @pytest.mark.parametrize(
        ("config", "problem"),
        [
            ("'shell', config={'run': 'ls', 'cwd': '/no/such'}", "config.cwd '/no/such' is not there"),
            ("'shell', config={'run': 'ls', 'shell': 'zzsh'}", "config.shell 'zzsh' is not a program on this machine"),
            ("'python', config={'call': 'zz:f'}", "config.call 'zz:f': there is no module zz, here or on sys.path"),
            ("'python', config={'call': 'json:zz'}", "config.call 'json:zz': there is no zz in json"),
            ("'python', config={'call': 'sys:path'}", "config.call 'sys:path' is no function, but of type list"),
            ("'python', config={'call': 'mine:flow'}", "config.call 'mine:flow' is no function, but of type FlowDef"),
        ],
    )
    def test_what_a_flow_in_python_names_is_looked_for(self, szal, here, config, problem):
        write(here, f"from szal import *\nflow = FlowDef('a', steps=[StepDef('x', step_type={config})])\n")
        result = szal("validate", "mine:flow")
        assert result.exit_code == 2
        assert f"invalid flow 'a': step 'x': {problem}" in result.stderr
        assert szal("graph", "mine:flow").exit_code == 0

    def test_what_a_template_fills_in_is_not(self, szal, here):
        config = "{'run': 'ls', 'cwd': '{{inputs.x}}', 'env': {'PATH': '{{inputs.x}}'}}"
        write(
            here, f"from szal import *\nflow = FlowDef('a', steps=[StepDef('x', step_type='shell', config={config})])\n"
        )
        assert szal("validate", "mine:flow").exit_code == 0
