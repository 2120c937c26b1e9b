"""The JSON Schema that `szal schema` prints: what loads is valid by it, and what is no flow mostly is not."""

import json
from pathlib import Path

import hypothesis.strategies as st
import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import example, given

from szal.cli.commands import szal
from szal.errors import LoadError
from szal.files import vocabulary
from szal.files.loader import load_flow
from szal.files.merging import merged
from szal.files.schema import flow_schema
from szal.files.yaml import read_yaml

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "examples").rglob("*") if path.suffix in (".yaml", ".yml"))
CHECKER = jsonschema.Draft202012Validator(flow_schema())

EVERY_KEY = """
name: all of it
description: 1.10
version: 2
mode: dag
inputs: {a: 1, b: [x]}
timeout: 1h30m
rollback_on_failure: true
fail_fast: false
env: {A: 1, B: null, C: true, D: text}
cwd: ~/x
shell: bash -e
defaults: {timeout: 90, retries: 2}
x-people: {anything: [1]}
flows:
  other:
    steps: [{name: z, run: x, x-note: y}]
steps:
  - {name: a, run: make, cwd: src, env: {X: 1}, shell: sh, rollback: {run: make clean, env: {A: 1}},
     stop: {signal: INT, grace: 2s}}
  - name: b
    needs: a
    when: any
    cancel_losers: true
    priority: -1
    if: false
    call: m:f
    with: [1, {a: b}]
    retries: {max: 1, delay: 1s, backoff: linear, max_delay: 1m, jitter: 0.5, on: [75, OSError], give_up_on: [a.A, a.B]}
    rollback: {call: "m:g", with: {a: 1}}
    continue_on_error: true
    undo_on_failure: true
    total_timeout: 10m
    until: output.done
    delay: 30s
    until_timeout: 2h
    inline: auto
    isolation: thread
    resources: {db: 1}
  - {name: c, needs: [a, b], flow: other, with: {x: 1}, timeout: null}
  - {name: d, wait: go}
  - {name: e, wait: {signal: go, timeout: 1d, default: null}}
  - {name: f, sleep: 250ms}
  - {name: g, type: http, config: {url: x}, rollback: true}
  - {name: h, config: {x: 1}, idempotent: false}
  - {name: z, run: x, needs: a, finally: true}
"""


def plain(text):
    problems = []
    value = merged(read_yaml(text, problems), problems).plain()
    assert problems == []
    return value


def is_valid(document):
    return CHECKER.is_valid(document)


def one(**fields):
    return {"name": "x", "steps": [{"name": "a", "run": "x", **fields}]}


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(flow_schema())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_examples_are_valid(file):
    CHECKER.validate(plain(file.read_text()))


def test_every_key_is_valid(tmp_path):
    (tmp_path / "flow.yaml").write_text(EVERY_KEY)
    load_flow(tmp_path / "flow.yaml")
    CHECKER.validate(plain(EVERY_KEY))


@pytest.mark.parametrize("table", ["FLOW", "SUB_FLOW", "STEP", "DEFAULTS", "RETRIES", "WAIT", "ROLLBACK"])
def test_every_key_of_the_loaders_tables_is_in_it_and_described(table):
    parts = {"FLOW": flow_schema(), **{name.upper(): part for name, part in flow_schema()["$defs"].items()}}
    properties = parts[table]["properties"]
    assert list(properties) == list(getattr(vocabulary, table))
    assert [key for key, said in properties.items() if said["description"].startswith("In Python")] == []


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"name": "x"},
        {"steps": []},
        {"name": "", "steps": []},
        {"name": 1, "steps": []},
        {"name": "x", "steps": {}},
        {"name": "x", "steps": [], "step": []},
        {"name": "x", "steps": [], "mode": "serial"},
        {"name": "x", "steps": [], "version": "1.0"},
        {"name": "x", "steps": [], "version": -1},
        {"name": "x", "steps": [], "timeout": "5 minutes"},
        {"name": "x", "steps": [], "timeout": True},
        {"name": "x", "steps": [], "inputs": []},
        {"name": "x", "steps": [], "defaults": {"run": "x"}},
        {"name": "x", "steps": [], "flows": {"y": {"name": "y", "steps": []}}},
        {"name": "x", "steps": ["make"]},
        {"name": "x", "steps": [{"run": "x"}]},
        one(nedds="b"),
        one(call="m:f"),
        one(**{"with": {}}),
        one(config={}),
        one(env={"A-B": 1}),
        one(env=["A=1"]),
        one(env={"A": [1]}),
        one(needs=[1]),
        one(needs={"a": 1}),
        one(when="always"),
        one(retries=-1),
        one(retries={"delay": 1}),
        one(retries={"max": 1, "backoff": "cubic"}),
        one(rollback={}),
        one(rollback={"run": "x", "call": "m:f"}),
        one(rollback="rm"),
        one(steps=[{"run": "x"}]),
    ],
    ids=json.dumps,
)
def test_unknown_keys_and_wrong_types_are_not(document, tmp_path):
    assert not is_valid(document)
    (tmp_path / "flow.json").write_text(json.dumps(document))
    with pytest.raises(LoadError):
        load_flow(tmp_path / "flow.json")


KEYS = sorted({*vocabulary.FLOW, *vocabulary.STEP, *vocabulary.RETRIES, "x-y", "unknown"})
LEAVES = ["a", "b", "1s", "m:f", "all", "dag", "linear", "", 1, 0, -1, 1.5, True, None, [], {}]
VALUES = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)


@given(
    top=st.dictionaries(st.sampled_from(sorted(vocabulary.FLOW)), VALUES, max_size=2),
    steps=st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4), max_size=3),
)
@example(top={}, steps=[{"flow": 1}])
def test_whatever_loads_is_valid(tmp_path_factory, top, steps):
    named = [{**step, "name": f"s{number}"} for number, step in enumerate(steps)]
    document = {"mode": "dag", **top, "name": "x", "steps": named}
    file = tmp_path_factory.getbasetemp() / "schema.json"
    file.write_text(json.dumps(document))
    try:
        load_flow(file)
    except LoadError:
        return
    CHECKER.validate(document)


def test_the_command_prints_it():
    result = CliRunner().invoke(szal, ["schema"])
    assert (result.exit_code, json.loads(result.stdout)) == (0, flow_schema())
