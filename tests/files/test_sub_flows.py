"""Flows that a file's steps name: under "flows", and in files beside it."""

import pytest

from szal.engine.engine import Engine
from szal.model.flow import FlowMode
from szal.steps.handlers import Handlers

RELEASE = """\
name: release
mode: sequential
steps:
  - name: eu
    flow: deploy
    with: {region: eu}
  - name: us
    flow: deploy
    with: {region: us}
flows:
  deploy:
    mode: sequential
    inputs: {region: none}
    steps:
      - name: copy
        run: echo {{inputs.region}}
      - name: check
        flow: smoke
  smoke:
    steps:
      - name: ping
        run: echo pong
"""


def call(name):
    return f"name: x\nsteps:\n  - name: a\n    flow: {name}\n"


def one(name, **more):
    extra = "".join(f"{key}: {value}\n" for key, value in more.items())
    return f"name: {name}\nsteps:\n  - name: a\n    run: echo {name}\n{extra}"


class TestFlowsOfTheFile:
    def test_a_step_runs_one_by_its_name(self, load):
        with Engine(Handlers()) as engine:
            result = engine.run(load(RELEASE))
        assert result.outputs["us"]["copy"]["stdout"].strip() == "us"
        assert result.outputs["eu"]["check"]["ping"]["stdout"].strip() == "pong"

    def test_they_are_read_as_flows_are(self, load):
        deploy, smoke = load(RELEASE).sub_flows
        assert (deploy.name, deploy.mode, deploy.inputs) == ("deploy", FlowMode.SEQUENTIAL, {"region": "none"})
        assert deploy.steps[1].config["flow_name"] == smoke.name == "smoke"

    def test_their_ids_are_made_of_the_names(self, load):
        assert load(RELEASE) == load(RELEASE)
        ids = {flow.id for flow in load(RELEASE).sub_flows}
        assert len(ids) == 2
        assert ids.isdisjoint(flow.id for flow in load(RELEASE.replace("name: release", "name: other")).sub_flows)

    def test_what_is_wrong_with_them_is_told_with_its_place(self, problems):
        text = RELEASE.replace("run: echo pong", "rnu: echo").replace("{region: none}", "[x]")
        text = text.replace("  smoke:\n", "  smoke:\n    name: s\n    flows: {}\n    mod: dag\n")
        assert [problem.partition(": ")[2] for problem in problems(text)] == [
            "'inputs' in flow 'deploy' must be an object, not a list",
            "flow 'smoke' is called by its key: leave 'name' out",
            "unknown key 'flows' in flow 'smoke'; it belongs at the top of the file",
            "unknown key 'mod' in flow 'smoke'; did you mean 'mode'?",
            "unknown key 'rnu' in step 'ping'; did you mean 'run'?",
        ]

    @pytest.mark.parametrize(
        ("flows", "problem"),
        [
            ("[a]", "'flows' in the flow must be an object, not a list"),
            ("{b: 1}", "flow 'b' must be an object, not 1"),
            ("{x: {steps: []}}", "another flow is called 'x' too"),
            ("{b: {steps: [{name: s, run: x}, {name: t, run: x}]}}", "flow 'b' does not say how its 2 steps run"),
            ("{b: {}}", "flow 'b' has no steps"),
            ("{'': {steps: []}}", "a flow under 'flows' needs a name, as its key"),
        ],
    )
    def test_what_is_no_flow(self, problems, flows, problem):
        found = problems(f"name: x\nsteps: []\nflows: {flows}\n")
        assert len(found) == 1
        assert problem in found[0]

    @pytest.mark.parametrize(
        ("pairs", "line", "path"),
        [
            ("b: b", 8, "b -> b"),
            ("b: x", 4, "x -> b -> x"),
            ("b: c, c: d, d: b", 8, "b -> c -> d -> b"),
        ],
    )
    def test_a_circle_is_told_with_its_path(self, problems, pairs, line, path):
        text = call("b") + "flows:\n"
        for name, called in (pair.split(": ") for pair in pairs.split(", ")):
            text += f"  {name}:\n    steps:\n      - {{name: s, flow: {called}}}\n"
        [found] = problems(text)
        assert found.startswith(f":{line}:")
        assert found.endswith(f"these flows would run each other for ever: {path}")

    def test_what_the_file_says_for_commands_holds_for_them_too(self, load):
        text = RELEASE + "env: {A: 1, B: 1}\ncwd: src\ndefaults: {timeout: 5m}\n"
        deploy, _ = load(
            text.replace("    inputs:", "    env: {B: 2}\n    defaults: {timeout: 1m}\n    inputs:")
        ).sub_flows
        assert deploy.steps[0].config["env"] == {"A": "1", "B": "2"}
        assert (deploy.steps[0].config["cwd"], deploy.steps[0].timeout) == ("src", 60.0)


class TestFilesBesideIt:
    @pytest.mark.parametrize("name", ["other.yaml", "other.yml", "other.json"])
    def test_a_name_is_that_of_a_file(self, load, write, name):
        write('{"name": "The other", "steps": [{"name": "a", "run": "echo"}]}', name)
        flow = load(call("other"))
        assert flow.steps[0].config["flow_name"] == "The other"
        assert [each.name for each in flow.sub_flows] == ["The other"]

    def test_a_path_leads_from_the_file(self, load, write):
        write(call("../beside.yaml").replace("name: x", "name: inner"), "sub/other.yaml")
        write(one("beside"), "beside.yaml")
        assert [flow.name for flow in load(call("./sub/other.yaml")).sub_flows] == ["inner", "beside"]

    def test_a_flow_of_the_file_comes_first(self, load, write):
        write(one("in a file"), "b.yaml")
        flow = load(call("b") + "flows: {b: {steps: []}}\n")
        assert [each.name for each in flow.sub_flows] == ["b"]

    def test_its_own_flows_come_with_it(self, load, write):
        write(RELEASE, "release.yaml")
        flow = load(call("release"))
        assert [each.name for each in flow.sub_flows] == ["release", "deploy", "smoke"]
        with Engine(Handlers()) as engine:
            assert engine.run(flow).success

    def test_one_that_two_files_name_is_one(self, load, write):
        write(one("c"), "c.yaml")
        for name in "ab":
            write(call("c").replace("name: x", f"name: {name}"), f"{name}.yaml")
        flow = load("name: x\nmode: parallel\nsteps:\n- {name: a, flow: a}\n- {name: b, flow: b}\n")
        assert sorted(each.name for each in flow.sub_flows) == ["a", "b", "c"]

    def test_two_flows_of_one_name_are_refused(self, problems, write):
        write(one("same"), "a.yaml")
        write(one("same", timeout=5), "b.yaml")
        [found] = problems("name: x\nmode: parallel\nsteps:\n- {name: a, flow: a}\n- {name: b, flow: b}\n")
        assert found.startswith(":5:13: another flow is called 'same' too")

    def test_its_problems_are_told_with_its_places(self, problems, write, tmp_path):
        write(one("other", mod="dag"), "other.yaml")
        first, second = problems(call("other"))[0].split("\n")
        assert first == ":4:5: 'flow' in step 'a' is a file with problems:"
        assert second == f"  {tmp_path}/other.yaml:5:1: unknown key 'mod' in the flow; did you mean 'mode'?"

    def test_files_that_name_each_other_are_refused_with_the_path(self, problems, write):
        write(call("flow").replace("name: x", "name: y"), "y.yaml")
        [found] = problems(call("y"))
        assert found.endswith("these flows would run each other for ever: flow.yaml -> y.yaml -> flow.yaml")

    def test_files_that_would_be_read_for_ever_are_read_once(self, problems, write):
        steps = "mode: parallel\nsteps:\n- {{name: a, flow: {0}a}}\n- {{name: b, flow: {0}b}}\n"
        for depth in range(20):
            for letter in "ab":
                write(f"name: f{depth}{letter}\n" + steps.format(f"f{depth + 1}"), f"f{depth}{letter}.yaml")
        write(one("last", oops=1), "f20a.yaml")
        write(one("last too", oops=1), "f20b.yaml")
        assert len(problems(call("f0a"))) == 1

    def test_two_files_of_one_name_are_refused(self, problems, write):
        write(one("b"), "b.yaml")
        write(one("b"), "b.yml")
        assert problems(call("b")) == [":4:5: 'flow' in step 'a' may be b.yaml or b.yml: say which"]

    @pytest.mark.parametrize("name", ["'a/b'", "'..'", "'.'", "'/'", "'" + "x" * 5000 + "'", '"a\\0b"', "flow.d"])
    def test_any_text_is_a_name(self, load, name):
        assert load(call(name)).sub_flows == ()


class TestUnknown:
    def test_one_is_left_to_the_storage_of_an_engine(self, load):
        assert load(call("nowhere")).steps[0].config["flow_name"] == "nowhere"

    def test_where_the_file_is_all_there_is_it_is_refused(self, problems):
        text = call("deplyo") + "flows: {deploy: {steps: []}}\n"
        [found] = problems(text, is_whole=True)
        assert found.startswith(":4:5: 'flow' in step 'a': there is no flow 'deplyo', neither under 'flows' nor in a")
        assert found.endswith("file deplyo.yaml beside this one; did you mean 'deploy'?")

    def test_a_file_that_is_not_there_is_refused_always(self, problems, tmp_path):
        assert problems(call("sub/x.yaml")) == [f":4:5: 'flow' in step 'a': there is no file {tmp_path}/sub/x.yaml"]

    @pytest.mark.parametrize(
        ("lines", "problem"),
        [
            ("description: x", ":3:5: step 'a' does nothing: write 'run', 'call', 'flow', 'wait' or 'sleep' ("),
            ("type: http", ":4:5: nothing does the step type 'http' of step 'a' ("),
            (
                "run: x\n    rollback: true",
                ":5:5: nothing undoes step 'a': write 'rollback: {run: …}' or 'rollback: {call",
            ),
        ],
    )
    def test_so_is_what_only_python_could_do(self, problems, load, lines, problem):
        text = f"name: x\nsteps:\n  - name: a\n    {lines}\n"
        load(text)
        [found] = problems(text, is_whole=True)
        assert found.startswith(problem)

    def test_a_name_that_is_made_as_it_runs_is_looked_for_under_flows_only(self, load, problems):
        text = call('"{{inputs.kind}}"')
        assert "has to stand under 'flows'" in problems(text, is_whole=True)[0]
        load(text)
        load(text + "flows: {b: {steps: []}}\n", is_whole=True)

    def test_what_is_wrong_otherwise_is_told_once(self, problems):
        assert len(problems("name: x\nsteps:\n  - {name: a, run: x, rollback: {}}\n", is_whole=True)) == 1
