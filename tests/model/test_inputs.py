"""What a flow declares of its inputs, and which values fit that."""

import contextlib
import pickle
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from szal import FlowDef, InvalidFlow, InvalidInputs, SzalError
from szal.model.definition import differences
from szal.model.inputs import TYPES, Inputs
from szal.model.json import decode_flow, encode_flow

FITTING: dict[str, list[Any]] = {
    "string": ["", "a", "2026-06-10", "3"],
    "integer": [0, -3, 2**63],
    "number": [0, -3, 1.5, 1e300],
    "boolean": [True, False],
    "date": ["2026-06-10", "2024-02-29", "0001-01-01"],
    "list": [[], [1, "a"], ("a",)],
    "object": [{}, {"a": 1}],
}
REFUSED: dict[str, list[Any]] = {
    "string": [3, True, ["a"], {}, b"a", date(2026, 6, 10), object()],
    "integer": [True, 3.0, "3", float("nan"), 10**400, [3], Decimal(3)],
    "number": [True, "3", float("nan"), float("inf"), 10**400, Decimal(3), [3]],
    "boolean": [0, 1, "true", "False", "", [True]],
    "date": [
        *(
            "2026-02-30",
            "20260610",
            "2026-W24-3",
            "2026-6-1",
            "2026-06-10T00:00:00",
            "today",
            "2026-06-10\n",
        ),
        *(20260610, date(2026, 6, 10), datetime(2026, 6, 10, tzinfo=UTC), "\u0662026-06-10"),
    ],
    "list": ["a", {}, {"a": 1}, {1}, b"a", 3],
    "object": ["a", [], [("a", 1)], 3, object()],
}


def pairs(values: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(type_, value, id=f"{type_}-{number}")
        for type_, each in values.items()
        for number, value in enumerate(each)
    ]


def effective(said: dict[str, Any], given: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return Inputs(said).effective("f", given, **more)


def problems(said: dict[str, Any], given: dict[str, Any] | None = None, **more: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidInputs) as caught:
        effective(said, given, **more)
    return caught.value.problems


class TestTypes:
    @pytest.mark.parametrize(("type_", "value"), pairs(FITTING))
    def test_what_is_of_the_type_is_taken_as_it_is(self, type_, value):
        assert effective({"x": {"type": type_}}, {"x": value})["x"] is value

    @pytest.mark.parametrize(("type_", "value"), pairs(REFUSED))
    def test_what_is_not_is_refused(self, type_, value):
        (problem,) = problems({"x": {"type": type_}}, {"x": value})
        assert problem.startswith(f"input 'x': expected {TYPES[type_].called}, given ")

    @pytest.mark.parametrize(
        ("type_", "value", "problem"),
        [
            ("integer", "3", "input 'x': expected a whole number, given '3'"),
            ("integer", True, "input 'x': expected a whole number, given true"),
            ("integer", 3.0, "input 'x': expected a whole number, given 3.0"),
            ("boolean", "no", "input 'x': expected true or false, given 'no'"),
            ("list", {"a": None}, "input 'x': expected a list, given {\"a\": null}"),
            ("string", ["x" * 1000], f"input 'x': expected text, given [\"{'x' * 75}..."),
            (
                "date",
                date(2026, 6, 10),
                "input 'x': expected a date such as '2026-06-10', given datetime.date(2026, 6, 10); use isoformat()",
            ),
        ],
    )
    def test_the_message_names_the_input_what_was_expected_and_what_was_given(self, type_, value, problem):
        assert problems({"x": {"type": type_}}, {"x": value}) == (problem,)


class TestEnum:
    def test_only_its_values_are_taken(self):
        said = {"env": {"enum": ["staging", "prod"]}}
        assert effective(said, {"env": "prod"}) == {"env": "prod"}
        assert problems(said, {"env": "prd"}) == (
            "input 'env': expected one of 'staging', 'prod', given 'prd'; did you mean 'prod'?",
        )

    def test_values_are_equal_as_in_conditions(self):
        said = {"n": {"enum": [1, "1", [True]]}}
        assert effective(said, {"n": 1.0})["n"] == 1
        assert len(problems(said, {"n": True})) == 1
        assert len(problems(said, {"n": [1]})) == 1

    def test_with_a_type_a_value_is_of_that_type_too(self):
        said = {"n": {"type": "integer", "enum": [1, 2]}}
        assert problems(said, {"n": 1.0}) == ("input 'n': expected one of 1, 2, given 1.0",)


class TestWhatIsNotGiven:
    def test_is_the_default_or_null(self):
        said = {"a": 1, "b": {"type": "integer", "default": 2}, "c": {"type": "date"}, "d": {"help": "x"}, "e": {}}
        assert effective(said) == {"a": 1, "b": 2, "c": None, "d": None, "e": {}}

    def test_is_refused_where_it_is_required(self):
        with pytest.raises(InvalidInputs) as caught:
            effective({"day": {"type": "date", "required": True}, "who": {"required": True}})
        assert str(caught.value) == (
            "invalid inputs for flow 'f': 2 problems\n"
            "  - input 'day' is required: a date such as '2026-06-10'\n"
            "  - input 'who' is required: a value"
        )
        assert caught.value.missing == ("day", "who")

    def test_null_is_what_was_not_given(self):
        assert effective({"x": {"type": "integer"}}, {"x": None}) == {"x": None}
        assert effective({"x": {"default": 3}}, {"x": None}) == {"x": None}
        assert effective({"x": 3}, {"x": None}) == {"x": None}
        assert problems({"x": {"type": "integer", "default": 3}}, {"x": None}) == (
            "input 'x': expected a whole number, given null",
        )
        assert problems({"x": {"required": True}}, {"x": None}) == ("input 'x': expected a value, given null",)


class TestNames:
    def test_a_flow_without_inputs_takes_whatever_it_is_given(self):
        assert effective({}, {"anything": object}) == {"anything": object}

    def test_others_than_those_declared_are_refused_with_a_suggestion(self):
        assert problems({"out": "dist", "n": 1}, {"oot": 1, "zzz": 2}) == (
            "unknown input 'oot'; did you mean 'out'?",
            "unknown input 'zzz'; the flow takes 'out', 'n'",
        )

    def test_a_name_that_is_no_text(self):
        assert problems({"n": 1}, {1: 2}) == ("unknown input 1; the flow takes 'n'",)  # type: ignore[dict-item]

    @pytest.mark.parametrize("given_", [[1], "n", 3, [("n", 1)]])
    @pytest.mark.parametrize("said", [{}, {"n": 1}])
    def test_what_is_no_mapping(self, said, given_):
        assert problems(said, given_) == (f"they are no mapping of names to values, but {given_!r}",)

    def test_of_many_the_first_are_named(self):
        (problem,) = problems({f"i{n}": None for n in range(100)}, {"zzz": 1})
        assert problem.endswith("'i19' and 80 more")

    def test_a_default_takes_any_value(self):
        assert effective({"out": "dist"}, {"out": [1]}) == {"out": [1]}


EARLIER = {"day": {"type": "date", "required": True}, "n": {"type": "integer", "default": 3}}


class TestEarlierInputs:
    def test_are_between_the_defaults_and_what_is_given(self):
        assert effective(EARLIER, {"n": 5}, earlier={"day": "2026-06-10", "n": 4}) == {"day": "2026-06-10", "n": 5}
        assert effective(EARLIER, earlier={"day": "2026-06-10"}) == {"day": "2026-06-10", "n": 3}

    def test_have_to_fit_too(self):
        assert problems(EARLIER, {"n": 5}, earlier={"day": "today"}) == (
            "input 'day': expected a date such as '2026-06-10', given 'today'",
        )

    def test_names_that_are_no_longer_declared_stay(self):
        assert effective(EARLIER, earlier={"day": "2026-06-10", "old": 1})["old"] == 1


def test_all_problems_are_told_at_once():
    said = {"day": {"type": "date", "required": True}, "n": {"type": "integer"}, "env": {"enum": ["a", "b"]}}
    assert problems(said, {"n": "x", "env": "c", "dya": 1}) == (
        "unknown input 'dya'; did you mean 'day'?",
        "input 'day' is required: a date such as '2026-06-10'",
        "input 'n': expected a whole number, given 'x'",
        "input 'env': expected one of 'a', 'b', given 'c'",
    )


def test_the_error_is_szals_and_a_value_error_and_survives_pickling():
    with pytest.raises(InvalidInputs) as caught:
        effective({"a": {"required": True}})
    assert isinstance(caught.value, SzalError)
    assert isinstance(caught.value, ValueError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.missing) == (str(caught.value), ("a",))


class TestDeclarations:
    @pytest.mark.parametrize("said", [{}, {"name": "x"}, {"default": 1, "prod": 2}, {"type": "car", "n": 1}, [1], None])
    def test_any_other_value_is_a_default(self, said):
        FlowDef("f", inputs={"x": said}).validate()
        assert effective({"x": said}) == {"x": said}

    def test_they_are_recorded_as_they_are_written(self):
        said = {"day": {"type": "date", "required": True}, "n": {"type": "integer", "default": 3, "help": "x"}}
        flow = FlowDef("f", inputs=said)
        assert decode_flow(encode_flow(flow)).inputs == said
        assert differences(flow, FlowDef("f", inputs={**said, "n": {"type": "number", "default": 3, "help": "x"}})) == (
            "inputs.n.type 'integer' -> 'number'",
        )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
SAID = JSON | st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([*TYPES, "int"]) | JSON,
        "default": JSON,
        "required": st.booleans() | JSON,
        "enum": st.lists(JSON, max_size=2) | JSON,
        "help": JSON,
        "secret": st.booleans(),
    },
)


@given(st.dictionaries(st.sampled_from("abc"), SAID), st.dictionaries(st.sampled_from("abcd"), JSON))
def test_whatever_is_declared_and_given_is_refused_by_name_or_has_every_input(said, values):
    flow = FlowDef("f", inputs=said)
    with contextlib.suppress(InvalidFlow, InvalidInputs):
        flow.validate()
        found = effective(said, values)
        assert found.keys() == said.keys() | values.keys()
        assert {name: found[name] for name in values} == values
        assert effective(said, earlier=found) == found  # what is recorded is what a rerun sees
