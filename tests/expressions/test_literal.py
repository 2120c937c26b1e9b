"""Literals: what stands for itself in conditions and in defaults."""

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from szal.errors import ConditionError
from szal.expressions.condition import evaluate
from szal.expressions.literal import MAX_LISTS, read_literal
from szal.expressions.path import Scanner


def written(value: Any) -> str:
    if isinstance(value, list):
        return f"[ {' , '.join(map(written, value))} ]"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return json.dumps(value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("ab'\\ ]["),
    lambda parts: st.lists(parts, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_a_literal_is_read_as_it_was_written(value: Any) -> None:
    assume(written(value).count("[") <= MAX_LISTS)
    assert read_literal(Scanner(written(value))) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[dev]", "(text stands in quotes: 'dev')"),
        ("['a' 'b']", "expected ',' or the ']' for position 0"),
        ("['a',]", "expected a string, a number"),
        ("[", "expected a string, a number"),
        ("[inputs.x]", "text stands in quotes: 'inputs'"),
        ("[" * (MAX_LISTS + 1), f"lists nested deeper than {MAX_LISTS} levels"),
        ("[1", "found end of text"),
        ("{}", "found '{'"),
    ],
)
def test_what_is_none_is_refused_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(ConditionError) as caught:
        read_literal(Scanner(text))
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("text", "is_true"),
    [
        ("inputs.env in ['dev', 'staging']", True),
        ("inputs.env in ['prod']", False),
        ("inputs.env in []", False),
        ("['prod', 'dev'] contains inputs.env", True),
        ("inputs.list == [1, 'a', [true, null]]", True),
        ("[1, 2] contains inputs.n || inputs.n in [3]", True),
        ("!([])", True),
    ],
)
def test_conditions_have_lists(text: str, is_true: bool) -> None:
    assert evaluate(text, {"inputs": {"env": "dev", "n": 3, "list": [1, "a", [True, None]]}}) is is_true
