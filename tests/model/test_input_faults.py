"""What is wrong with what a flow says of its inputs."""

from typing import Any

import pytest

from szal import FlowDef, InvalidFlow
from szal.model.inputs import is_declaration


def faults(**said: Any) -> list[str]:
    with pytest.raises(InvalidFlow) as caught:
        FlowDef("f", inputs=said).validate()
    return list(caught.value.problems)


@pytest.mark.parametrize(
    "said",
    [
        {"type": "date", "required": True, "help": "the day to report"},
        {"type": "integer", "default": 3},
        {"type": "number", "default": 3},
        {"enum": ["staging", "prod"], "default": "prod"},
        {"type": "boolean"},
        {"type": "list", "default": [1]},
        {"type": "list", "enum": [[1], [2]]},
        {"default": {"type": "x", "n": 3}},
        {"default": None, "type": "integer"},
        {"enum": [None, 1]},
        {"secret": False},
        {"secret": True},
        {"type": "string", "secret": True, "required": True},
        {"required": False, "default": 1},
    ],
)
def test_valid_declarations(said):
    FlowDef("f", inputs={"x": said}).validate()
    assert is_declaration(said)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"type": "int"}, "type is 'int', which is none of string, integer, number, boolean, date, list, object"),
        ({"type": "int"}, "did you mean 'integer'?"),
        ({"type": "dict"}, "did you mean 'object'?"),
        ({"type": "float", "default": 1}, "did you mean 'number'?"),
        ({"type": int}, "type is <class 'int'>"),
        ({"type": None}, "type is null"),
        ({"type": ["string"]}, 'type is ["string"]'),
        ({"type": "integer", "default": "3"}, "default: expected a whole number, given '3'"),
        ({"type": "date", "default": "today"}, "default: expected a date such as '2026-06-10', given 'today'"),
        ({"enum": ["a", "b"], "default": "c"}, "default: expected one of 'a', 'b', given 'c'"),
        ({"type": "integer", "enum": [1, "2"]}, "enum: expected a whole number, given '2'"),
        ({"type": "integer", "enum": [1, None]}, "enum: expected a whole number, given null"),
        ({"enum": []}, "enum is no list of the values that it may have ([])"),
        ({"enum": "a"}, "enum is no list of the values that it may have ('a')"),
        ({"required": True, "default": 1}, "it is required and has a default: leave one of the two out"),
        ({"required": True, "default": None}, "it is required and has a default: leave one of the two out"),
        ({"required": "yes"}, "required is neither true nor false ('yes')"),
        ({"help": 3}, "help is not a string (3)"),
        ({"secret": True, "default": "x"}, "default: it is secret, and this would be recorded with the flow"),
        ({"secret": True, "enum": ["a", "b"]}, "enum: it is secret, and this would be recorded with the flow"),
        ({"secret": 1}, "secret is neither true nor false (1)"),
        ({"type": "string", "defualt": "x"}, "unknown key 'defualt' in its declaration; did you mean 'default'?"),
        ({"default": 1, "description": "x"}, "unknown key 'description' in its declaration; did you mean 'help'?"),
        ({"type": "choice", "options": ["a"]}, "unknown key 'options' in its declaration; did you mean 'enum'?"),
        ({"type": "string", "minimum": 3}, "unknown key 'minimum' in its declaration, which has type, default"),
        ({"type": "string", "minimum": 3}, 'to have this object as its default, write {"default": {…}}'),
        ({"required": True, "x": 1}, "unknown key 'x'"),
    ],
    ids=str,
)
def test_wrong_declarations_do_not_validate(said, problem):
    (found,) = [each for each in faults(x=said) if problem in each]
    assert found.startswith("input 'x': ")


def test_all_faults_are_told_at_once():
    assert faults(
        a={"type": "integer", "default": "x", "enum": ["y"], "help": 1}, b={"required": 1}, ok={"type": "date"}
    ) == [
        "input 'a': help is not a string (1)",
        "input 'a': enum: expected a whole number, given 'y'",
        "input 'a': default: expected one of 'y', given 'x'",
        "input 'b': required is neither true nor false (1)",
    ]


@pytest.mark.parametrize(
    ("name", "problem"),
    [("", "the name of an input is empty"), (3, "the name of an input is not a string (3)")],
)
def test_a_name_is_text(name, problem):
    with pytest.raises(InvalidFlow) as caught:
        FlowDef("f", inputs={name: 1}).validate()
    assert caught.value.problems == (problem,)
