"""YAML's merge keys, and keys for people."""

import itertools

import pytest

from szal.files.merging import merged
from szal.files.yaml import read_yaml


def plain(text):
    problems = []
    found = merged(read_yaml(text, problems), problems).plain()
    assert problems == []
    return found


@pytest.mark.parametrize(
    ("text", "y"),
    [
        ("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}", {"a": 1, "b": 3}),
        ("x: &x {a: 1, b: 2}\ny: {b: 3, <<: *x}", {"a": 1, "b": 3}),
        ("x: [&x {a: 1, b: 1}, &z {b: 2, c: 2}]\ny: {<<: [*x, *z]}", {"a": 1, "b": 1, "c": 2}),
        ("w: &w {a: 1, b: 1}\nx: &x {<<: *w, b: 2}\ny: {<<: *x, c: 3}", {"a": 1, "b": 2, "c": 3}),
        ("x: &x {a: {b: 1}}\ny: [{<<: *x}, *x]", [{"a": {"b": 1}}, {"a": {"b": 1}}]),
        ("y: {<<: {a: 1}}", {"a": 1}),
        ("y: <<", "<<"),
    ],
)
def test_an_object_takes_over_the_keys_of_others_and_its_own_win(text, y):
    assert plain(text)["y"] == y


def test_what_is_taken_over_stands_where_its_anchor_does():
    root = merged(read_yaml("x: &x\n  a: 1\ny:\n  <<: *x\n", []), [])
    assert root.data["y"].value.data["a"].place == (2, 3)


@pytest.mark.parametrize(
    ("value", "place"),
    [("1", (1, 6)), ("text", (1, 6)), ("", (1, 6)), ("[{a: 1}, 2]", (1, 15)), ("[[{a: 1}]]", (1, 7))],
)
def test_only_objects_can_be_taken_over(value, place):
    problems = []
    merged(read_yaml(f"{{<<: {value}}}", problems), problems)
    assert [(problem.place, problem.text[:26]) for problem in problems] == [(place, "'<<' takes over the keys o")]


def test_aliases_that_multiply_are_merged_in_no_time():
    lines = ["a: &a {k: [1, 2, 3]}"] + [
        f"{new}: &{new} {{<<: *{old}, {new}: [*{old}]}}" for old, new in itertools.pairwise("abcdefghi")
    ]
    assert sorted(plain("\n".join(lines))["i"]) == [*"bcdefghi", "k"]


ANCHORS = """
    name: x
    mode: sequential
    x-anything: [not, {looked: at}]
    x-common: &common
      timeout: 5m
      env: &variables {A: 1, B: 2}
    steps:
      - name: a
        <<: *common
        run: echo
      - name: b
        <<: *common
        x-owner: me
        timeout: 1m
        run: echo
        env: {<<: *variables, B: 3}
"""


def test_steps_share_what_is_under_an_anchor(load):
    a, b = load(ANCHORS).steps
    assert (a.timeout, a.config["env"]) == (300.0, {"A": "1", "B": "2"})
    assert (b.timeout, b.config["env"]) == (60.0, {"A": "1", "B": "3"})


def test_what_is_wrong_under_an_anchor_is_told_there_of_each_step(problems):
    assert problems(ANCHORS.replace("timeout: 5m", "timeout: soon")) == [
        ':6:12: \'timeout\' in step \'a\': \'soon\' is no duration, as "90s", "10m", "1h30m" and "250ms" are'
    ]


def test_json_has_no_merge_keys(problems):
    assert problems('{"name": "x", "<<": {}, "steps": []}', "json") == [":1:15: unknown key '<<' in the flow"]
