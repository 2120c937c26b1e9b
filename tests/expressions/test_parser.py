"""What people write who come from elsewhere, and what they are told."""

import pytest

from szal.errors import ConditionError, NotComparable
from szal.expressions.condition import CompiledCondition, evaluate


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("always()", "write when: all_done"),
        ("failure() && inputs.x", "ask for steps.NAME.status == 'failed'"),
        ("success()", "leave it out"),
        ("cancelled()", "once a flow is cancelled, no step begins any more"),
        ("contains(inputs.x, 'y')", "write a contains b"),
        ("fromJSON(steps.a.output.stdout)", "write output: json"),
        ("startsWith(inputs.x, 'y')", "a condition has no functions such as startsWith()"),
        ("not inputs.x", "not is written !"),
        ("not 'x' in inputs.y", "not is written !"),
        ("not(inputs.x)", "write !(...)"),
        ("inputs.x not in ['a']", "not is !, as in !(x in y)"),
        ("inputs.x is null", "compare with =="),
        ("inputs.x and inputs.y", "and is &&"),
        ("${{ inputs.x }}", "a condition is written without ${{ }}"),
        ("{{inputs.x}} == 'y'", "a condition names a path without {{ }}"),
    ],
)
def test_they_are_told_how_it_is_said_here(text: str, told: str) -> None:
    with pytest.raises(ConditionError) as caught:
        CompiledCondition.compile(text)
    assert told in str(caught.value)


def test_not_may_still_be_the_name_of_something() -> None:
    assert evaluate("not == 1 && not in [1]", {"not": 1})


CONTEXT = {"inputs": {"n": 3, "text": "3", "list": [1], "yes": True}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("inputs.n > inputs.text", "inputs.n > inputs.text: a number and text have no order"),
        ("!(inputs.text <= 5)", "inputs.text <= 5: text and a number have no order"),
        ("!inputs.text <= 5", "!inputs.text <= 5: true or false and a number have no order"),
        ("(inputs.list) < 'x'", "(inputs.list) < 'x': a list and text have no order"),
        ("inputs.yes >= false", "inputs.yes >= false: true or false and true or false have no order"),
    ],
)
def test_a_strict_condition_orders_nothing_that_has_no_order(text: str, said: str) -> None:
    assert isinstance(evaluate(text, CONTEXT), bool), "alone it is decided, as in szal-rs"
    with pytest.raises(NotComparable, match="have no order") as caught:
        CompiledCondition.compile(text, strict=True).evaluate(CONTEXT)
    assert str(caught.value) == f"condition: {said}"


@pytest.mark.parametrize(
    ("text", "is_met"),
    [
        ("inputs.n > 2.5", True),
        ("inputs.text < 'a'", True),
        ("inputs.none > 5", False),
        ("!(null < inputs.text)", True),
        ("inputs.n == '3'", False),
        ("inputs.none && inputs.n > 'x'", False),
    ],
)
def test_everything_else_means_the_same_in_both(text: str, is_met: bool) -> None:
    assert CompiledCondition.compile(text, strict=True).evaluate(CONTEXT) is is_met
    assert evaluate(text, CONTEXT) is is_met
