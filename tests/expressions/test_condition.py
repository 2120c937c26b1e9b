"""Conditions and the paths in them: what they mean, what they refuse, and that nothing in them can go wrong later."""

import operator
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from threading import Thread
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from szal.errors import ConditionError
from szal.expressions.condition import MAX_LENGTH, MAX_NESTING, CompiledCondition, ConditionCache, evaluate
from szal.expressions.path import Path, build_step_context, resolve_path, step_names

CONTEXT: dict[str, Any] = {
    "inputs": {
        "env": "prod",
        "n": 3,
        "n-1": 2,
        "zero": 0,
        "text": "3",
        "in": "keyword",
        "true": "also",
        "tags": ["a", "b", None],
        "größe": 7,
        "0": "key",
        "nothing": None,
    },
    "steps": {
        "unit-test": {"status": "completed", "output": {"failed": 0, "items": [{"url": "u0"}]}, "error": None},
        "a.b": {"status": "failed", "output": None, "error": "boom"},
        "contains": {"status": "completed", "output": True, "error": None},
    },
}


def nested(depth: int, leaf: Any) -> Any:
    for _ in range(depth):
        leaf = [leaf]
    return leaf


class Lazy(Mapping[str, Any]):
    """Computes its values when asked, and remembers for what it was asked."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values_by_key = values
        self.asked: list[str] = []

    def __getitem__(self, key: str) -> Any:
        self.asked.append(key)
        return self.values_by_key[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_key)

    def __len__(self) -> int:
        return len(self.values_by_key)


# -- meaning -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " ", "\n\t \u00a0"])
def test_blank_is_true(text: str) -> None:
    assert evaluate(text, {})


@pytest.mark.parametrize("value", ["false", "null", "''", "0", "0.0", "-0.0", "-0", "0e5", "inputs.nothing", "missing"])
def test_falsy(value: str) -> None:
    assert not evaluate(value, CONTEXT)


@pytest.mark.parametrize("value", [[], {}, (), Lazy({})])
def test_empty_collections_are_falsy(value: Any) -> None:
    assert not evaluate("x", {"x": value})


@pytest.mark.parametrize("value", ["true", "'0'", "' '", "1", "-0.1", "steps", "inputs.tags"])
def test_truthy(value: str) -> None:
    assert evaluate(value, CONTEXT)


@pytest.mark.parametrize(
    "text",
    [
        "1 == 1.0",
        "1e2 == 100",
        "9007199254740993 != 9007199254740992.0",
        "100000000000000000000000000000001 > 100000000000000000000000000000000",
        "inputs.n > 2.5",
        "inputs.n>-1",
        "'10' < '9'",
        "'a' < 'b'",
        "'Z' < 'a'",
        "true == true",
        "null == null",
        "inputs.missing == null",
        "inputs.nothing == null",
        "steps.unit-test.status == 'completed'",
    ],
)
def test_comparisons_that_hold(text: str) -> None:
    assert evaluate(text, CONTEXT)


@pytest.mark.parametrize("left", ["null", "true", "1", "'1'", "list", "object"])
@pytest.mark.parametrize("right", ["null", "true", "1", "'1'", "list", "object"])
def test_different_types_are_unequal_and_unordered(left: str, right: str) -> None:
    context = {"list": [1], "object": {"1": 1}}
    assert evaluate(f"{left} == {right}", context) is (left == right)
    assert evaluate(f"{left} != {right}", context) is (left != right)
    ordered = left == right and left in ("1", "'1'")
    assert evaluate(f"{left} <= {right}", context) is ordered
    assert evaluate(f"{left} >= {right}", context) is ordered
    assert not evaluate(f"{left} < {right} || {left} > {right}", context)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ([1], [1.0], True),
        ([True], [1], False),
        ([0], [False], False),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}, True),
        ({"a": None}, {"b": None}, False),
        ({"a": 1}, {"a": True}, False),
        ([], {}, False),
        ((1,), [1], True),
        (float("nan"), float("nan"), False),
    ],
)
def test_lists_and_objects_compare_deeply(left: Any, right: Any, same: bool) -> None:
    assert evaluate("a == b", {"a": left, "b": right}) is same
    assert evaluate("a != b", {"a": left, "b": right}) is not same


@pytest.mark.parametrize(
    "text",
    [
        "'a' in inputs.tags",
        "null in inputs.tags",
        "missing in inputs.tags",
        "inputs.tags contains 'b'",
        "'ro' in 'prod'",
        "inputs.env contains ''",
        "'unit-test' in steps",
        "steps contains 'a.b'",
    ],
)
def test_in_and_contains_hold(text: str) -> None:
    assert evaluate(text, CONTEXT)


@pytest.mark.parametrize(
    "text", ["'c' in inputs.tags", "1 in '1'", "1 in 1", "null in null", "inputs.tags in steps", "0 in missing"]
)
def test_in_is_false_for_everything_else(text: str) -> None:
    assert not evaluate(text, CONTEXT)


def test_an_element_is_found_by_json_equality() -> None:
    assert evaluate("1 in x", {"x": [1.0]})
    assert not evaluate("true in x", {"x": [1]})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true || false && false", True),
        ("(true || false) && false", False),
        ("!inputs.zero == true", True),
        ("!(inputs.zero == 1)", True),
        ("!!inputs.n == true", True),
        ("!!!inputs.n", False),
        ("true!=!true", True),
        ("(1 == 1) == true", True),
        ("(0 || 'x') == true", True),
        ("1 < 2 && 2 < 3", True),
    ],
)
def test_how_tightly_operators_bind(text: str, value: bool) -> None:
    assert evaluate(text, CONTEXT) is value


def test_and_and_or_stop_at_the_first_decisive_term() -> None:
    lazy = Lazy({"yes": True, "no": False})
    assert evaluate("x.yes || x.never", {"x": lazy})
    assert not evaluate("x.no && x.never", {"x": lazy})
    assert lazy.asked == ["yes", "no"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"'\\\'\"\n\t\r\/\b\f'", "\\'\"\n\t\r/\b\f"),
        (r'"\u00e9\u0000"', "é\0"),
        (r"'\ud83d\ude00'", "😀"),
        ("'a \"b\" \n c'", 'a "b" \n c'),
    ],
)
def test_string_escapes(text: str, value: str) -> None:
    assert evaluate(f"x == {text}", {"x": value})


class Foreign:
    """A value that JSON does not have, such as an array, that answers every question with an exception."""

    def __bool__(self) -> bool:
        raise AssertionError

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    __hash__ = None  # type: ignore[assignment]


def test_a_value_that_is_not_json_is_truthy_and_equal_to_nothing_and_never_asked() -> None:
    context = {"x": Foreign(), "list": [1]}
    assert evaluate("x && x != x && !(x == 1) && !(x in list) && !(x < 1) && !(x in x) && !(x in 'x')", context)


def test_subclasses_of_json_types_count_as_those() -> None:
    class Colour(StrEnum):
        RED = "red"

    assert evaluate("x == 'red'", {"x": Colour.RED})


# -- paths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("inputs.env", "prod"),
        ("steps.unit-test.output.items[0].url", "u0"),
        ('steps["a.b"].status', "failed"),
        ("steps[ 'a.b' ].error", "boom"),
        ("inputs.tags[1]", "b"),
        ("inputs.tags[3]", None),
        ("inputs.tags[999999999999999999]", None),
        ("inputs.tags.0", None),
        ("inputs.0", "key"),
        ("inputs[0]", None),
        ("inputs.env[0]", None),
        ("inputs.env.length", None),
        ("inputs.nothing.at.all", None),
        ("inputs.in", "keyword"),
        ("inputs.true", "also"),
        ("steps.contains.output", True),
        ("inputs.größe", 7),
        ("inputs.n-1", 2),
        ("anything.else", None),
        ("NaN", None),
        ("Infinity", None),
    ],
)
def test_paths_lead_to_values(path: str, value: Any) -> None:
    assert resolve_path(path, CONTEXT) == value
    assert CompiledCondition.compile(f"{path} == expected").evaluate({**CONTEXT, "expected": value})


def test_a_missing_value_takes_the_default_and_null_does_not() -> None:
    assert resolve_path("inputs.missing", CONTEXT, default="?") == "?"
    assert resolve_path(Path.parse("inputs.nothing"), CONTEXT, default="?") is None


def test_a_dash_belongs_to_a_name() -> None:
    assert Path.parse("a.b-1").segments == ("a", "b-1")
    assert evaluate("inputs.n-1 == 2", CONTEXT)
    with pytest.raises(ConditionError) as caught:
        evaluate("inputs.n -1 == 2", CONTEXT)
    assert caught.value.position == 9


def test_lazy_mappings_are_asked_for_one_key_only() -> None:
    step = Lazy({"status": "completed", "output": [1]})
    steps = Lazy({"build": step, "other": None})
    assert evaluate("steps.build.output[0] == 1 && steps.missing == null", {"steps": steps})
    assert steps.asked == ["build", "missing"]
    assert step.asked == ["output"]


def test_a_path_keeps_its_spelling() -> None:
    text = "  steps[ 'a' ].x == 1 && steps.b.output || inputs.c && steps.b.output || steps[0] || steps"
    condition = CompiledCondition.compile(text)
    assert [str(path) for path in condition.references] == [
        "steps[ 'a' ].x",
        "steps.b.output",
        "inputs.c",
        "steps[0]",
        "steps",
    ]
    assert condition.steps == step_names(condition.references) == {"a", "b"}


@pytest.mark.parametrize(("path", "position"), [("", 0), ("a b", 2), ("a.", 2), ("[0]", 0), ("a[-1]", 2), ("1a", 0)])
def test_a_path_that_does_not_parse_says_where(path: str, position: int) -> None:
    with pytest.raises(ConditionError) as caught:
        resolve_path(path, {})
    assert caught.value.position == position


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.integers(0, 10**18 - 1)))
def test_any_keys_can_be_written_as_a_path(keys: list[str | int]) -> None:
    brackets = "".join(f"[{key}]" if isinstance(key, int) else f"[{quoted(key)}]" for key in keys)
    path = Path.parse(f"root{brackets}")
    assert path.segments == ("root", *keys)
    assert Path.parse(str(path)) == path


# -- what does not parse -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("a == b == c", 7, "do not chain"),
        ("a < b > c", 6, "do not chain"),
        ("a = b", 2, "compare with =="),
        ("a & b", 2, "and is &&"),
        ("a | b", 2, "or is ||"),
        ("a and b", 2, "and is &&"),
        ("a or b", 2, "or is ||"),
        ("a ==", 4, "found end of text"),
        ("&& a", 0, "expected a value"),
        ("a || ", 5, "expected a value"),
        ("!", 1, "expected a value"),
        ("()", 1, "expected a value"),
        ("(a", 2, "the ')' for position 0"),
        ("a)", 1, "found ')'"),
        ("in a", 0, "found 'in'"),
        ("a in in", 5, "found 'in'"),
        ("true.x", 4, "expected an operator"),
        ("a .b", 2, "expected an operator"),
        ("a..b", 2, "expected a name"),
        ("a.[0]", 2, "expected a name"),
        ("a[", 2, "end of text"),
        ("a[-1]", 2, "an index from 0 up"),
        ("a[01]", 3, "expected ']'"),
        ("a[1.5]", 3, "expected ']'"),
        ("a[9999999999999999999]", 2, "an index"),
        ("a['b'", 5, "expected ']'"),
        ("x == 'abc", 5, "never closed"),
        ("'abc\\", 4, "backslash"),
        (r"'ab\q'", 3, r"unknown escape"),
        (r"'\u12g4'", 1, "four hexadecimal"),
        (r"'\ud800'", 1, "surrogate"),
        (r"'\ud800\u0041'", 1, "surrogate"),
        (r"'\ude00\ud83d'", 1, "surrogate"),
        ("'a\ud800'", 2, "surrogate"),
        ("a == \ud800", 5, "expected a value"),
        ("a\0", 1, "expected an operator"),
        ("\0", 0, "expected a value"),
        ("1.", 0, "malformed number"),
        ("01", 0, "malformed number"),
        ("1-2", 0, "malformed number"),
        ("a == 2fa", 5, "malformed number"),
        ("-x", 0, "malformed number"),
        (".5", 0, "expected a value"),
        ("a == 1e999", 5, "too large"),
        ("-1e999", 0, "too large"),
        ("9" * 5000, 0, "too large"),
        ("a; b", 1, "found ';'"),
        ("f(x)", 0, "no functions such as f()"),
    ],
)
def test_errors_say_what_and_where(text: str, position: int, problem: str) -> None:
    with pytest.raises(ConditionError) as caught:
        CompiledCondition.compile(text)
    assert (caught.value.text, caught.value.position) == (text, position)
    assert problem in caught.value.problem


@given(st.text() | st.text("ab.-_!=<>&|()[]'\"\\u0123456789 intrue{}\n", max_size=60))
@example("\ufeffa")
def test_any_text_compiles_or_says_where_it_does_not(text: str) -> None:
    try:
        condition = CompiledCondition.compile(text)
        position = 0
        assert isinstance(condition.evaluate(CONTEXT), bool)
    except ConditionError as error:
        position = error.position
    assert 0 <= position <= len(text)


# -- hostile sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("opening", "closing"), [("(", ")"), ("!", ""), ("( ! ", ")"), ("a && (b || !(1 == ", "))")])
def test_nesting_is_limited(opening: str, closing: str) -> None:
    for count in (MAX_NESTING + 1, 60_000 // len(opening + closing)):
        with pytest.raises(ConditionError, match="nested deeper than 100"):
            CompiledCondition.compile(opening * count + "x" + closing * count)


def test_nesting_up_to_the_limit_compiles_and_evaluates() -> None:
    half = MAX_NESTING // 2
    text = "(0 || 1 && 1 == !" * half + "false" + ")" * half
    assert isinstance(evaluate(text, {}), bool)
    assert evaluate("(" * MAX_NESTING + "1" + ")" * MAX_NESTING, {})
    assert evaluate("!" * MAX_NESTING + "1", {})


def test_the_nesting_error_points_at_what_is_too_deep() -> None:
    with pytest.raises(ConditionError) as caught:
        CompiledCondition.compile("(" * 10_000)
    assert caught.value.position == MAX_NESTING


def test_closed_parentheses_do_not_count() -> None:
    assert evaluate(" && ".join(["(!(1 == 2))"] * 4000), {})


@pytest.mark.parametrize("text", ["(" * 100_000, "!" * 100_000, "a||" * 3_000_000 + "a", "9" * 10_000_000])
def test_length_is_limited(text: str) -> None:
    with pytest.raises(ConditionError, match="at most 65536 characters"):
        CompiledCondition.compile(text)


def test_the_longest_condition_is_accepted() -> None:
    assert evaluate("'" + "x" * (MAX_LENGTH - 2) + "'", {})


@pytest.mark.parametrize("joint", ["||", "&&"])
def test_ten_thousand_terms(joint: str) -> None:
    condition = CompiledCondition.compile(joint.join(["a"] * 10_000))
    assert condition.evaluate({"a": 1})
    assert not condition.evaluate({"a": 0})
    assert len(condition.references) == 1


def test_a_path_of_many_parts() -> None:
    assert not evaluate("a" + ".b" * 10_000 + "[0]" * 10_000, {"a": {"b": 1}})


def test_values_of_any_depth_compare() -> None:
    context = {"a": nested(20_000, 1), "b": nested(20_000, 1.0), "c": nested(20_000, True), "d": nested(19_999, 1)}
    assert evaluate("a == b && a != c && a != d && d in a", context)


def test_values_that_share_or_contain_themselves_compare() -> None:
    def doubling() -> Any:
        value: Any = [1]
        for _ in range(200):
            value = {"left": value, "right": value}
        return value

    def circle() -> Any:
        value: list[Any] = []
        value.append(value)
        return value

    assert evaluate("a == b && c == d && a != c", {"a": doubling(), "b": doubling(), "c": circle(), "d": circle()})


# -- compiled conditions -----------------------------------------------------------------------------


def test_a_compiled_condition_survives_pickling() -> None:
    condition = CompiledCondition.compile("inputs.n == 3")
    copy = pickle.loads(pickle.dumps(condition))
    assert copy == condition
    assert copy.evaluate(CONTEXT)


def test_a_compiled_condition_does_not_change() -> None:
    condition = CompiledCondition.compile("inputs.n")
    with pytest.raises(AttributeError):
        condition.text = "other"  # type: ignore[misc]


def test_a_cache_forgets_what_was_used_longest_ago() -> None:
    cache = ConditionCache(2)
    first, second = cache.get("a"), cache.get("b")
    assert cache.get("a") is first
    cache.get("c")
    assert cache.get("a") is first
    assert cache.get("b") is not second
    assert len(cache) == 2


def test_a_cache_does_not_keep_what_does_not_parse() -> None:
    cache = ConditionCache(2)
    for _ in range(2):
        with pytest.raises(ConditionError):
            cache.get("a ==")
    assert len(cache) == 0


def test_a_cache_needs_room() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ConditionCache(0)


def test_a_cache_serves_many_threads() -> None:
    cache = ConditionCache(5)
    wrong: list[str] = []

    def use() -> None:
        for number in range(300):
            text = f"inputs.n == {number % 7}"
            if cache.get(text).evaluate(CONTEXT) is not (number % 7 == 3):
                wrong.append(text)

    threads = [Thread(target=use, name=f"cache-user-{number}") for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(cache) == 5


# -- contexts ----------------------------------------------------------------------------------------


class Status(Enum):
    COMPLETED = "Completed"
    FAILED = "Failed"

    def __str__(self) -> str:
        return self.name.lower()


@dataclass
class Result:
    step_name: str
    status: Status
    output: Any = None
    error: str | None = None


RESULTS = [Result("build", Status.COMPLETED, {"n": 1}), Result("test", Status.FAILED, None, "boom")]
STEPS = {
    "build": {"status": "completed", "output": {"n": 1}, "error": None},
    "test": {"status": "failed", "output": None, "error": "boom"},
}


def test_a_context_is_built_from_outcomes() -> None:
    assert build_step_context({"env": "prod"}, RESULTS) == {"inputs": {"env": "prod"}, "steps": STEPS}


def test_a_context_is_built_from_outcomes_by_name() -> None:
    assert build_step_context(None, {"build": RESULTS[0]}) == {"inputs": {}, "steps": {"build": STEPS["build"]}}


# -- against a naive evaluator -----------------------------------------------------------------------
#
# An expression is generated as a tree, written as text with random spaces and parentheses, and evaluated
# both ways.


def quoted(text: str) -> str:
    return "'" + "".join(f"\\{char}" if char in "\\'" else char for char in text) + "'"


VALUES: dict[str, Any] = {
    "zero": 0,
    "one": 1.0,
    "two": 2,
    "big": 10**30,
    "yes": True,
    "no": False,
    "null": None,
    "empty": "",
    "a": "a",
    "ab": "ab",
    "list": [1, "a", None, [2.0]],
    "nil": [],
    "inner": [2],
    "object": {"a": 1, "ab": True},
    "none": {},
}
PRECEDENCE = {"||": 1, "&&": 2, "==": 3, "!=": 3, ">": 3, ">=": 3, "<": 3, "<=": 3, "in": 3, "contains": 3, "!": 4}

LEAVES = st.one_of(
    st.sampled_from(sorted(VALUES)).map(lambda name: (f"inputs.{name}", VALUES[name])),
    st.sampled_from([("inputs.missing", None), ("inputs.list[3][0]", 2.0), ('inputs["object"].a', 1)]),
    st.sampled_from([("true", True), ("false", False), ("null", None), ("-0", 0), ("1e0", 1), ("-2.50", -2.5)]),
    st.integers(-3, 3).map(lambda number: (str(number), number)),
    st.text("ab'\\\" é😀", max_size=3).map(lambda text: (quoted(text), text)),
)
TREES = st.recursive(
    LEAVES,
    lambda trees: (
        st.tuples(st.just("!"), trees)
        | st.tuples(st.sampled_from([op for op in PRECEDENCE if op != "!"]), trees, trees)
    ),
    max_leaves=20,
)


def is_leaf(tree: Any) -> bool:
    return tree[0] not in PRECEDENCE


def written(tree: Any, draw: Any) -> str:
    if is_leaf(tree):
        return str(tree[0])
    spaces = st.sampled_from(["", " ", "\n "])

    def operand(part: Any, least: int) -> str:
        text = written(part, draw)
        level = 5 if is_leaf(part) else PRECEDENCE[part[0]]
        return f"({draw(spaces)}{text})" if level < least or draw(st.booleans()) else text

    if tree[0] == "!":
        return f"!{draw(spaces)}{operand(tree[1], 4)}"
    level = PRECEDENCE[tree[0]]
    left, right = operand(tree[1], level + (level == 3)), operand(tree[2], level + 1)
    if tree[0] in ("in", "contains"):
        return f"{left} {tree[0]} {right}"
    return f"{left}{draw(spaces)}{tree[0]}{draw(spaces)}{right}"


def typed(value: Any) -> Any:
    """Tag every value with its type, so that Python's own equality is JSON's."""
    if isinstance(value, list):
        return ("list", [typed(part) for part in value])
    if isinstance(value, dict):
        return ("dict", {key: typed(part) for key, part in value.items()})
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return ("number" if is_number else type(value).__name__, value)


def naive(tree: Any) -> Any:
    if is_leaf(tree):
        return tree[1]
    name, *values = (tree[0], *map(naive, tree[1:]))
    if name in NAIVE_ORDERINGS:
        kinds = {typed(value)[0] for value in values}
        return kinds in ({"number"}, {"str"}) and NAIVE_ORDERINGS[name](*values)
    return NAIVE[name](*values)


def naive_in(left: Any, right: Any) -> bool:
    if isinstance(right, list):
        return typed(left) in [typed(element) for element in right]
    return isinstance(left, str) and isinstance(right, str | dict) and left in right


NAIVE_ORDERINGS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
NAIVE: dict[str, Callable[..., Any]] = {
    "!": operator.not_,
    "||": lambda left, right: bool(left or right),
    "&&": lambda left, right: bool(left and right),
    "==": lambda left, right: typed(left) == typed(right),
    "!=": lambda left, right: typed(left) != typed(right),
    "in": naive_in,
    "contains": lambda left, right: naive_in(right, left),
}


@given(TREES, st.data())
def test_conditions_mean_what_a_naive_evaluator_says(tree: Any, data: st.DataObject) -> None:
    text = written(tree, data.draw)
    assume(len(text) < MAX_LENGTH)
    assert evaluate(text, {"inputs": VALUES}) is bool(naive(tree)), text
