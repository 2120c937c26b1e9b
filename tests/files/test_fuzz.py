"""Whatever stands in a file, a condition or a template, nothing but szal's own errors comes of it."""

import contextlib
import json
import os
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from szal import CompiledCondition, FlowDef, StepDef, SzalError, load_flow
from szal.expressions.template import CompiledTemplate
from szal.model.flow import FlowMode

FULL = bool(os.environ.get("SZAL_TEST_FULL"))
"""Then these tests take about five minutes."""

TIMES = 150 if FULL else 1
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
CALM = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=100)

WORDS = st.sampled_from(
    r"""
    name mode steps inputs run call flow wait sleep with env cwd shell needs when if timeout retries rollback defaults
    flows output json text lines type config idempotent continue_on_error one_failed finally version x-a <<
    true false null 1.10 007 1e309 9m ~ $HOME {{ }}
    {{inputs.a}} {{steps.a.output.b?}} {{inputs.a|default('x')}} ${{inputs.a}} steps.a.output inputs.a inputs['a'] == !=
    <= > && || ! in contains ( ) [ ] 'a' "b" always() not yes item output dag sequential all_done any a b \u0000 - : , {
    } # | > & * &a *a !!int !!python/none é 😀""".split()  # noqa: SIM905 (a line each would be a page)
)
PIECES = WORDS | st.text(max_size=3) | st.sampled_from([" ", "\n", "\n  ", "\n- ", ": ", ", "])
TEXT = st.lists(PIECES, max_size=30).map(" ".join) | st.lists(PIECES, max_size=30).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
STEPS = st.fixed_dictionaries(
    {"name": st.sampled_from("abc") | VALUES},
    optional=dict.fromkeys(
        ("run", "call", "flow", "wait", "sleep", "if", "when", "needs", "env", "timeout", "retries", "with"),
        TEXT | VALUES,
    ),
)
DOCUMENTS = st.fixed_dictionaries(
    {"name": WORDS, "steps": st.lists(STEPS, max_size=4) | VALUES},
    optional=dict.fromkeys(("mode", "inputs", "defaults", "flows", "env", "cwd", "version", "timeout"), VALUES),
)
CONTEXT = {"inputs": {"a": [1, "x", None]}, "steps": {"a": {"status": "completed", "output": {"b": 1}, "error": None}}}


def load(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with contextlib.suppress(SzalError):
        load_flow(path, is_whole=True).validate()


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
@given(data=st.data())
@settings(CALM, max_examples=100 * TIMES)
def test_a_file(suffix: str, data: st.DataObject, tmp_path: Path) -> None:
    content = data.draw(
        TEXT.map(lambda text: text.encode("utf-8", "surrogatepass"))
        | DOCUMENTS.map(lambda document: json.dumps(document).encode())
        | st.binary(max_size=40)
    )
    load(tmp_path / f"flow{suffix}", content)


@given(TEXT, TEXT, VALUES)
@settings(CALM, max_examples=200 * TIMES)
def test_a_flow(condition: str, text: str, config: object) -> None:
    steps = [
        StepDef("a", step_type="shell", config={"run": text}),
        StepDef("b", condition=condition, config={"run": text, "x": config}),  # type: ignore[dict-item]
    ]
    with contextlib.suppress(SzalError):
        FlowDef("f", FlowMode.SEQUENTIAL, steps=steps, inputs={"a": 1}).validate()


@given(TEXT)
@settings(CALM, max_examples=300 * TIMES)
def test_a_condition(text: str) -> None:
    with contextlib.suppress(SzalError):
        CompiledCondition.compile(text).evaluate(CONTEXT)


@given(TEXT | VALUES)
@settings(CALM, max_examples=300 * TIMES)
def test_a_template(value: object) -> None:
    with contextlib.suppress(SzalError):
        CompiledTemplate.compile(value).render(CONTEXT)  # type: ignore[arg-type]
