"""Flows as they are read from a store."""

from szal import FlowDef, StepDef
from szal.engine.recorded_flows import recorded_flow
from szal.model.json import encode_flow
from szal.scheduler.plan import Plan


def test_executions_of_one_definition_have_one_flow_with_one_plan():
    text = encode_flow(FlowDef("f", steps=[StepDef(f"s{number}") for number in range(5000)]))
    first, second = recorded_flow(text), recorded_flow(str(text.encode(), "utf-8"))
    assert first is second
    assert Plan.of(first) is Plan.of(second)


def test_definitions_that_nobody_asks_for_any_more_are_forgotten():
    texts = [encode_flow(FlowDef(f"f{number}", description="x" * 4_000_000)) for number in range(5)]
    first, *_, last = [recorded_flow(text) for text in texts]
    assert recorded_flow(texts[-1]) is last
    assert recorded_flow(texts[0]) is not first


def test_of_small_definitions_too_only_a_few_are_kept():
    texts = [encode_flow(FlowDef(f"small{number}")) for number in range(100)]
    first, *_, last = [recorded_flow(text) for text in texts]
    assert recorded_flow(texts[-1]) is last
    assert recorded_flow(texts[0]) is not first
