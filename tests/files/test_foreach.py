"""Steps of files that run over a list."""

import json

import pytest

from szal.engine.engine import Engine
from szal.files.schema import flow_schema
from szal.steps.handlers import Handlers

FLOW = """
name: f
steps:
  - {name: list, run: "printf 'a b\\nc'", output: lines}
  - name: each
    needs: list
    foreach: steps.list.output
    max_parallel: 2
    max_items: 5
    run: echo "{{item}}-$SZAL_ITEM-$SZAL_INDEX-{{index}}"
    output: text
"""


def run(flow):
    with Engine(Handlers()) as engine:
        return engine.run(flow)


def test_a_command_runs_for_each_element_of_a_list(load):
    flow = load(FLOW)
    step = flow.steps[1]
    assert (step.foreach, step.max_parallel, step.max_items) == ("steps.list.output", 2, 5)
    assert run(flow)["each"].output == ["a b-a b-0-0", "c-c-1-1"]


def test_the_list_may_stand_in_the_file(load):
    flow = load("{name: f, steps: [{name: each, foreach: [1, {a: b}], run: 'echo $SZAL_ITEM', output: text}]}")
    assert flow.steps[0].foreach == [1, {"a": "b"}]
    assert run(flow)["each"].output == ["1", '{"a":"b"}']


def test_an_element_that_is_too_large_for_a_variable_is_a_file(load):
    text = "{name: f, steps: [{name: each, foreach: [ELEMENT], run: 'wc -c < $SZAL_ITEM_FILE', output: json}]}"
    assert run(load(text.replace("ELEMENT", "x" * 200_000)))["each"].output == [200_000]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("foreach: {a: 1}", ":5:14: 'foreach' in step 'a' must be a list or text, not an object"),
        ("foreach: '{{inputs.x}}'", ":5:5: step 'a': foreach is a path: write 'inputs.x'"),
        ("foreach: steps.b.output", ":5:5: step 'a': foreach refers to an unknown step 'b'"),
        ("foreach: ['{{x}}']", ":5:5: step 'a': its foreach holds {{, and nothing is filled in there"),
        ("max_parallel: 2", ":5:5: step 'a': max_parallel without foreach"),
        ("max_items: 2", ":5:5: step 'a': max_items without foreach"),
        ("for_each: [1]", ":5:5: unknown key 'for_each' in step 'a'; did you mean 'foreach'?"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_column(problems, line, problem):
    assert problems(f"name: f\nsteps:\n  - name: a\n    run: 'true'\n    {line}\n") == [problem]


def test_the_schema_has_it():
    step = flow_schema()["$defs"]["step"]["properties"]
    assert {"foreach", "max_parallel", "max_items"} <= step.keys()
    assert json.dumps(step["max_parallel"]).count('"minimum": 1') == 1


def test_what_undoes_an_item_sees_what_that_came_to(load, tmp_path):
    flow = load(
        """
name: f
rollback_on_failure: true
steps:
  - name: each
    foreach: [a, b]
    run: printf 'made %s' {{item}}
    rollback: {run: "echo {{steps.each.output.stdout}} $SZAL_OUTPUT {{steps.each.status}} >> undone"}
  - {name: boom, needs: each, run: exit 3}
"""
    )
    run(flow)
    assert sorted((tmp_path / "undone").read_text().splitlines())[0].startswith("made a ")
    assert [line.split()[1] for line in sorted((tmp_path / "undone").read_text().splitlines())] == ["a", "b"]
