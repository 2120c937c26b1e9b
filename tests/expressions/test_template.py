"""Templates in a step's config: what is filled in, what is left alone, and what is refused."""

import pickle
import shlex
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from szal.errors import ConditionError, EncodeError
from szal.expressions import template as template_module
from szal.expressions.template import CompiledTemplate, render_template

CONTEXT: dict[str, Any] = {
    "inputs": {
        "env": "prod",
        "n": 3,
        "yes": True,
        "nothing": None,
        "empty": "",
        "list": [1, "ü"],
        "object": {"a": [1.5]},
        "sly": "{{inputs.env}}",
        "shell": "a; rm -rf $HOME 'x'",
    },
    "steps": {"a.b": {"status": "completed", "output": {"url": "http://x/"}, "error": None}},
}


def nested(depth: int, leaf: Any) -> Any:
    for number in range(depth):
        leaf = [leaf] if number % 2 else {"in": leaf, "beside": number}
    return leaf


# -- what is filled in -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("to {{inputs.env}}!", "to prod!"),
        ("{{inputs.env}}{{inputs.n}}", "prod3"),
        ("{{  inputs.env\n}} ", "prod "),
        ('<{{steps["a.b"].output.url}}>', "<http://x/>"),
        ("-{{inputs.missing}}-", "--"),
        ("-{{inputs.empty}}-", "--"),
        ("-{{inputs.nothing}}-", "-null-"),
        ("-{{inputs.yes}}-", "-true-"),
        ("-{{inputs.list}}-", '-[1,"ü"]-'),
        ("-{{inputs.object}}-", '-{"a":[1.5]}-'),
        ('{"n":{"m":{{inputs.n}}}}', '{"n":{"m":3}}'),
        ("no { placeholder } here }}", "no { placeholder } here }}"),
    ],
)
def test_placeholders_in_text(text: str, rendered: str) -> None:
    assert render_template(text, CONTEXT) == rendered


@pytest.mark.parametrize("name", ["env", "n", "yes", "nothing", "list", "object"])
def test_a_lone_placeholder_takes_the_value_itself(name: str) -> None:
    rendered = render_template(f"{{{{ inputs.{name} }}}}", CONTEXT)
    assert rendered is CONTEXT["inputs"][name]


def test_a_lone_placeholder_of_a_missing_value_is_empty_text() -> None:
    assert render_template("{{steps.none.output}}", CONTEXT) == ""


def test_structures_are_rendered_at_every_depth() -> None:
    value = {"a": ["{{inputs.n}}", {"b": "x{{inputs.n}}"}, 1, None], "c": {"d": [True, []]}, "e": ({}, "{{inputs.n}}")}
    assert render_template(value, CONTEXT) == {
        "a": [3, {"b": "x3"}, 1, None],
        "c": {"d": [True, []]},
        "e": [{}, 3],
    }


def test_keys_are_left_alone_and_keep_their_order() -> None:
    rendered = render_template({"{{inputs.env}}": "{{inputs.n}}", "b": 1, "a": "{{inputs.n}}"}, CONTEXT)
    assert list(rendered.items()) == [("{{inputs.env}}", 3), ("b", 1), ("a", 3)]


def test_rendered_text_is_not_rendered_again() -> None:
    assert render_template("{{inputs.sly}} {{inputs.sly}}", CONTEXT) == "{{inputs.env}} {{inputs.env}}"
    assert render_template("{{inputs.sly}}", CONTEXT) == "{{inputs.env}}"


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ('{{"{{"}}', "{{"),
        ("{{'{{'}}.Names}}", "{{.Names}}"),
        ('{{ "}}" }}', "}}"),
        ('{{""}}', ""),
        ('{{"{"}}{{inputs.n}}', "{3"),
    ],
)
def test_a_quoted_string_in_braces_stands_for_itself(text: str, rendered: str) -> None:
    assert render_template(text, CONTEXT) == rendered
    assert render_template(text, CONTEXT, quote=str) == rendered


def test_computed_mappings_become_plain_objects() -> None:
    context = {"steps": MappingProxyType({"a": MappingProxyType({"output": 1})})}
    rendered = render_template(["{{steps}}", "{{steps}}!"], context)
    assert rendered == [{"a": {"output": 1}}, '{"a":{"output":1}}!']
    assert type(rendered[0]["a"]) is dict


# -- quoting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["env", "n", "yes", "nothing", "empty", "list", "object", "sly", "shell", "missing"])
def test_each_quoted_value_is_one_word_of_a_shell_command(name: str) -> None:
    plain = render_template(f"{{{{inputs.{name}}}}} ", CONTEXT)[:-1]
    command = render_template(f"run --x={{{{inputs.{name}}}}} {{{{inputs.{name}}}}} end", CONTEXT, quote=shlex.quote)
    assert shlex.split(command) == ["run", f"--x={plain}", plain, "end"]


def test_with_a_quote_a_lone_placeholder_is_text_too() -> None:
    assert render_template(["{{inputs.n}}", "{{inputs.missing}}"], CONTEXT, quote=shlex.quote) == ["3", "''"]


def test_only_values_are_quoted() -> None:
    assert render_template({"a b": ["c d", 1, "{{'$x'}} {{inputs.n}}"]}, CONTEXT, quote=lambda text: f"<{text}>") == {
        "a b": ["c d", 1, "$x <3>"]
    }


# -- compiled templates ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 1, "text", [], {}, {"a": [1, {"b": "c"}]}, ["}}", ("x",)]])
def test_a_template_without_placeholders_is_constant_and_renders_to_itself(value: Any) -> None:
    template = CompiledTemplate.compile(value)
    assert template.is_constant
    assert template.references == ()
    assert template.render(CONTEXT) is value
    assert template.render(CONTEXT, shlex.quote) is value


@pytest.mark.parametrize("value", ["{{a}}", ["{{a}}"], {"x": [1, 2, {"y": "{{'z'}}"}]}])
def test_a_template_with_any_placeholder_is_not_constant(value: Any) -> None:
    assert not CompiledTemplate.compile(value).is_constant


def test_constant_parts_are_shared_not_copied() -> None:
    part = {"deep": [1, 2, 3]}
    rendered = render_template(["{{inputs.n}}", part], CONTEXT)
    assert rendered == [3, part]
    assert rendered[1] is part


def test_references_are_listed_once_in_order_as_they_are_spelled() -> None:
    value = {"a": ["{{ steps['x'].output }} {{inputs.b}}", "{{steps.y.status}}"], "c": "{{inputs.b}}{{'q'}}"}
    template = CompiledTemplate.compile(value)
    assert [str(path) for path in template.references] == ["steps['x'].output", "inputs.b", "steps.y.status"]
    assert template.steps == {"x", "y"}


def test_a_compiled_template_survives_pickling() -> None:
    template = pickle.loads(pickle.dumps(CompiledTemplate.compile(["{{inputs.n}}"])))
    assert template.render(CONTEXT) == [3]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("ab{} \ud800"),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text("ab{}"), parts, max_size=4),
)


def escaped(value: Any) -> Any:
    """Write *value* as a template of it."""
    if isinstance(value, str):
        return value.replace("{", "{{'{'}}")
    if isinstance(value, list):
        return [escaped(part) for part in value]
    if isinstance(value, dict):
        return {key: escaped(part) for key, part in value.items()}
    return value


@given(JSON)
def test_any_structure_can_be_written_as_a_template(value: Any) -> None:
    assert render_template(escaped(value), CONTEXT) == value


@given(JSON)
def test_any_structure_comes_through_a_lone_placeholder(value: Any) -> None:
    assert render_template([{"x": "{{inputs.v}}"}], {"inputs": {"v": value}}) == [{"x": value}]


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("a {{inputs.env", 14, "expected '}}', found end of text"),
        ("{{", 2, "expected a path"),
        ("{{}}", 2, "expected a path"),
        ("{{.Names}}", 2, '{{"{{"}} for {{ itself'),
        ("ok {{inputs.env}} {{inputs..x}}", 27, "expected a name"),
        ("{{a b}}", 4, "expected '}}', found 'b'"),
        ("{{a == b}}", 4, "expected '}}'"),
        ("{{a[-1]}}", 4, "an index from 0 up"),
        ("{{'abc}}", 2, "never closed"),
        ("{{a}", 3, "expected '}}'"),
        ("{{a} }", 3, "expected '}}'"),
        ("{{{a}}}", 2, "expected a path"),
        ("{{1}}", 2, "expected a path"),
    ],
)
def test_a_placeholder_that_does_not_parse_says_where(text: str, position: int, problem: str) -> None:
    with pytest.raises(ConditionError) as caught:
        CompiledTemplate.compile({"a": [1, text]})
    assert (caught.value.text, caught.value.position) == (text, position)
    assert problem in caught.value.problem


@given(st.text() | st.text("{}'\"\\. ab0[]\n"))
def test_any_text_renders_or_says_where_it_does_not_parse(text: str) -> None:
    try:
        render_template(text, CONTEXT)
        position = 0
    except ConditionError as error:
        position = error.position
    assert 0 <= position <= len(text)


@pytest.mark.parametrize("value", [datetime.now(UTC), float("nan"), [float("inf")], {"a": {1}}, nested(20_000, 1)])
def test_a_value_that_json_cannot_hold_is_refused_in_text_by_its_path(value: Any) -> None:
    with pytest.raises(EncodeError) as caught:
        render_template("x {{inputs.v}}", {"inputs": {"v": value}})
    assert caught.value.path == "inputs.v"


# -- hostile sizes -----------------------------------------------------------------------------------


def test_a_structure_of_any_depth_renders() -> None:
    value = render_template(nested(20_000, "{{inputs.n}}"), CONTEXT)
    for _ in range(10_000):
        value = value[0]["in"]
    assert value == 3


def test_a_constant_structure_of_any_depth_is_returned_as_it_is() -> None:
    value = nested(20_000, "x")
    assert render_template(value, CONTEXT) is value


def test_a_value_of_any_depth_comes_through_a_lone_placeholder() -> None:
    value = nested(20_000, 1)
    assert render_template("{{inputs.v}}", {"inputs": {"v": value}}) is value


def test_a_structure_that_holds_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_module, "MAX_VALUES", 1000)
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ConditionError, match="holds itself"):
        CompiledTemplate.compile(circle)


def test_many_placeholders_in_one_text() -> None:
    assert render_template("{{inputs.n}}" * 10_000, CONTEXT) == "3" * 10_000


@pytest.mark.parametrize("text", ["{{" * 500_000, "{{a" * 300_000, "{{'" * 300_000, "{" * 1_000_001])
def test_unclosed_braces_without_end(text: str) -> None:
    with pytest.raises(ConditionError):
        CompiledTemplate.compile(text)
