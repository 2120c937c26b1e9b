"""The model as JSON, both ways, and against what szal-rs writes."""

import json
import math
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from szal import (
    BackoffStrategy,
    DecodeError,
    EncodeError,
    ExecutionRecord,
    FlowDef,
    FlowMode,
    FlowResult,
    StepDef,
    StepResult,
    StepStatus,
    TriggerMode,
    WorkflowState,
)
from szal.model.json import decode_flow, decode_record, decode_step_result, encode_flow, encode_record
from szal.model.json import encode_step_result as encode_result
from szal.model.json.text import dumps, loads

WIRE = Path(__file__).parents[1] / "wire"
RECORDS = sorted(WIRE.glob("record-*.json"))
FLOWS = sorted(WIRE.glob("flow-*.json"))
U64 = 2**64 - 1

# -- what szal-rs writes -----------------------------------------------------------------------------


def moments(value: Any) -> Any:
    """Return a record with its times as moments: they may be spelled in several ways."""
    for key in ("started_at", "finished_at"):
        if value[key] is not None:
            value[key] = datetime.fromisoformat(value[key])
    return value


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_of_szal_rs_is_written_back_with_the_same_meaning_and_order(path: Path) -> None:
    text = path.read_text()
    again = encode_record(decode_record(text))
    assert moments(json.loads(again)) == moments(json.loads(text))
    assert list(json.loads(again)) == list(json.loads(text))


@pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.stem)
def test_a_flow_of_szal_rs_is_written_back_with_the_same_meaning(path: Path) -> None:
    flow = decode_flow(path.read_text())
    flow.validate()
    again = encode_flow(flow)
    assert decode_flow(again) == flow
    original, written = json.loads(path.read_text()), json.loads(again)
    assert {key: value for key, value in written.items() if key != "steps"}.items() >= {
        key: value for key, value in original.items() if key != "steps"
    }.items()
    for before, after in zip(original["steps"], written["steps"], strict=True):
        kept = {key: value for key, value in before.items() if key != "sub_steps"}
        assert after.items() >= kept.items()


def test_no_limit_is_written_as_u64_max() -> None:
    flow = decode_flow((WIRE / "flow-dag.json").read_text())
    assert [step.timeout for step in flow.steps] == [60.0, None, 30.0]
    assert json.loads(encode_flow(flow))["steps"][1]["timeout_ms"] == U64


@pytest.mark.parametrize("seconds", [1e17, 1e300, sys.float_info.max, 10**300, 10**308])
def test_a_time_that_is_longer_than_any_number_can_tell_is_no_limit(seconds: float) -> None:
    step = StepDef("s", timeout=seconds, max_retry_delay=seconds, retry_delay=seconds)
    flow = decode_flow(encode_flow(FlowDef("f", steps=[step], timeout=seconds)))
    assert (flow.timeout, flow.steps[0].timeout, flow.steps[0].max_retry_delay) == (None, None, None)
    assert flow.steps[0].retry_delay > 1e16


def test_a_large_unsigned_number_in_an_output_is_kept_exactly() -> None:
    record = decode_record((WIRE / "record-completed.json").read_text())
    assert record.result is not None
    assert record.result.steps[0].output["bytes"] == U64
    assert f'"bytes":{U64}' in encode_record(record)


@pytest.mark.parametrize("spelling", ["2026-06-10T07:41:22Z", "2026-06-10T07:41:22.019384756+00:00"])
def test_both_spellings_of_a_time_are_read(spelling: str) -> None:
    text = json.dumps({"execution_id": "e", "flow_name": "f", "state": "Running", "started_at": spelling})
    assert decode_record(text).started_at.replace(microsecond=0) == datetime(2026, 6, 10, 7, 41, 22, tzinfo=UTC)


# -- round trips -------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), U64) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
SECONDS = st.integers(0, 10**9).map(lambda ms: ms / 1000)
MOMENT = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001

STEP = st.builds(
    StepDef,
    TEXT,
    description=TEXT,
    timeout=st.none() | SECONDS,
    max_retries=st.integers(0, 9),
    retry_delay=SECONDS,
    backoff=st.sampled_from(list(BackoffStrategy)),
    max_retry_delay=st.none() | SECONDS,
    total_timeout=st.none() | SECONDS,
    resources=st.dictionaries(st.sampled_from(["db", "gpu"]), st.integers(1, 9)),
    inline=st.sampled_from([None, "auto", "never", "always"]),
    isolation=st.sampled_from([None, "thread", "process"]),
    retry_jitter=st.floats(0, 1),
    retry_on=st.lists(st.sampled_from(["ValueError", "http.client.NotConnected", 75]), max_size=2),
    rollbackable=st.booleans(),
    priority=st.integers(-9, 9),
    undo_on_failure=st.booleans(),
    continue_on_error=st.booleans(),
    cancel_losers=st.booleans(),
    until=st.none() | TEXT,
    delay=SECONDS,
    until_timeout=st.none() | SECONDS,
    finally_=st.booleans(),
    step_type=st.none() | TEXT,
    config=JSON,
    condition=st.none() | TEXT,
    depends_on=st.lists(TEXT, max_size=2),
    trigger_mode=st.sampled_from(list(TriggerMode)),
    sub_steps=st.lists(st.builds(StepDef, TEXT), max_size=2),
)
FLOW = st.builds(
    FlowDef,
    TEXT,
    st.sampled_from(list(FlowMode)),
    description=TEXT,
    version=st.integers(0, 99),
    steps=st.lists(STEP, max_size=3),
    rollback_on_failure=st.booleans(),
    fail_fast=st.booleans(),
    isolation=st.sampled_from([None, "thread", "process"]),
    timeout=st.none() | SECONDS,
    inputs=st.dictionaries(TEXT, JSON, max_size=2),
    sub_flows=st.lists(st.builds(FlowDef, TEXT, steps=st.lists(STEP, max_size=1)), max_size=2),
)
STEP_RESULT = st.builds(
    StepResult,
    TEXT,
    TEXT,
    st.sampled_from(list(StepStatus)),
    JSON,
    SECONDS,
    st.integers(0, 99),
    st.none() | TEXT,
    st.none() | TEXT.filter(bool),
    st.none() | MOMENT,
    is_caught=st.booleans(),
    undo_output=st.none() | JSON,
)
FLOW_RESULT = st.builds(
    FlowResult,
    TEXT,
    st.lists(STEP_RESULT, max_size=3),
    SECONDS,
    st.booleans(),
    st.booleans(),
    st.none() | TEXT.filter(bool),
    st.none() | st.sampled_from(list(WorkflowState)),
    st.none() | TEXT.filter(bool),
)
RECORD = st.builds(
    ExecutionRecord,
    TEXT,
    TEXT,
    st.sampled_from(list(WorkflowState)),
    st.none() | FLOW_RESULT,
    MOMENT,
    st.none() | MOMENT,
    inputs=st.dictionaries(TEXT, JSON, max_size=2),
    flow_id=st.none() | TEXT.filter(bool),
    flow_version=st.none() | st.integers(1, 99),
    parent_execution_id=st.none() | TEXT.filter(bool),
    labels=st.dictionaries(TEXT, TEXT, max_size=2),
    error=st.none() | TEXT.filter(bool),
    cwd=st.none() | TEXT,
    file=st.none() | TEXT,
    traceparents=st.lists(TEXT, max_size=2).map(tuple),
)


@given(STEP_RESULT)
def test_a_step_result_comes_back_as_it_was(result: StepResult) -> None:
    assert decode_step_result(encode_result(result)) == result


@given(RECORD)
def test_a_record_comes_back_as_it_was(record: ExecutionRecord) -> None:
    assert decode_record(encode_record(record)) == record


@given(FLOW)
def test_a_flow_comes_back_as_it_was_but_for_empty_configs(flow: FlowDef) -> None:
    assert decode_flow(encode_flow(flow)) == flow


@given(RECORD)
def test_what_szal_adds_is_left_out_when_empty(record: ExecutionRecord) -> None:
    plain = ExecutionRecord(record.execution_id, record.flow_name, record.state, None, record.started_at)
    assert list(json.loads(encode_record(plain))) == [
        "execution_id",
        "flow_name",
        "state",
        "result",
        "started_at",
        "finished_at",
    ]


def test_exception_classes_become_dotted_names() -> None:
    flow = FlowDef("f", steps=[StepDef("a", retry_on=[ValueError, json.JSONDecodeError])])
    assert decode_flow(encode_flow(flow)).steps[0].retry_on == ("ValueError", "json.decoder.JSONDecodeError")


def test_an_output_encoded_before_is_not_encoded_again() -> None:
    result = StepResult("i", "n", StepStatus.COMPLETED, object(), encoded_output='{"seen":1}')
    assert decode_step_result(encode_result(result)).output == {"seen": 1}


def test_times_are_written_in_utc() -> None:
    east = datetime(2026, 6, 10, 12, tzinfo=timezone(timedelta(hours=2)))
    record = ExecutionRecord("e", "f", started_at=east)
    assert json.loads(encode_record(record))["started_at"] == "2026-06-10T10:00:00+00:00"


# -- what cannot be read -----------------------------------------------------------------------------


def failed(**changes: Any) -> str:
    value = json.loads((WIRE / "record-failed.json").read_text())
    value["result"]["steps"][1].update(changes)
    return json.dumps(value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "Skiped"}, "result.steps[1].status: 'Skiped' is none of Pending, Running, "),
        ({"status": 3}, "result.steps[1].status: expected a string, found an integer"),
        ({"attempts": True}, "result.steps[1].attempts: expected an integer, found true or false"),
        ({"duration_ms": -1}, "result.steps[1].duration_ms: -1 is not between 0 and 18446744073709551615"),
        ({"duration_ms": U64 + 1}, "result.steps[1].duration_ms: 18446744073709551616 is not between"),
        ({"duration_ms": 1.5}, "result.steps[1].duration_ms: expected an integer, found a number"),
        ({"error": ["x"]}, "result.steps[1].error: expected a string, found an array"),
        ({"started_at": "yesterday"}, "result.steps[1].started_at: 'yesterday' is not a time with an offset"),
        ({"started_at": "2026-06-10T00:00:00"}, "is not a time with an offset"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_path(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_record(failed(**changes))
    assert message in str(caught.value)


@pytest.mark.parametrize("key", ["execution_id", "flow_name", "state", "started_at"])
def test_a_missing_required_key_is_an_error(key: str) -> None:
    value = json.loads((WIRE / "record-running.json").read_text())
    del value[key]
    with pytest.raises(DecodeError, match=f"^{key}: is missing$"):
        decode_record(json.dumps(value))


def test_an_unknown_key_is_passed_over() -> None:
    value = json.loads((WIRE / "record-running.json").read_text())
    assert decode_record(json.dumps({**value, "new_in_2_0": {"a": [1]}})) == decode_record(json.dumps(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1, 2", "not JSON"),
        ('{"a": NaN}', "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("1e999", "the number 1e999 is too large"),
        ('{"a": 1, "a": 2}', "duplicate key 'a'"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "4300"),
    ],
    ids=lambda text: text[:12],
)
def test_hostile_json_is_a_clear_error(text: str, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        loads(text)
    assert message in str(caught.value)


@given(st.text(max_size=40) | JSON.map(json.dumps))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (loads, decode_record, decode_flow, decode_step_result):
        try:
            read(text)
        except DecodeError as error:
            assert str(error)  # noqa: PT017


@pytest.mark.parametrize("kind", ["flow", "record"])
@pytest.mark.parametrize("value", ["[]", "3", "null", '"text"'])
def test_what_is_no_object_is_refused(kind: str, value: str) -> None:
    with pytest.raises(DecodeError, match="expected an object"):
        (decode_flow if kind == "flow" else decode_record)(value)


# -- what cannot be written --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"when": datetime(2026, 1, 1, tzinfo=UTC)}, 'output["when"]: datetime'),
        ([1, [2, {3}]], "output[1][1]: set"),
        ({"a": math.nan}, 'output["a"]: nan is not a JSON number'),
        ([math.inf], "output[0]: inf is not a JSON number"),
        ({"a": "x\ud800"}, 'output["a"]: a string with a lone surrogate'),
        ({"\udc00": 1}, "output: a key with a lone surrogate ('\\udc00')"),
        ({(1, 2): 3}, "output: a key of type tuple"),
        (b"bytes", "output: bytes"),
        ({"n": 10**5000}, 'output["n"]: an integer of more than 3000 digits'),
    ],
)
def test_what_json_cannot_hold_is_named_by_path(value: Any, message: str) -> None:
    with pytest.raises(EncodeError) as caught:
        dumps(value, "output")
    assert str(caught.value) == message


def test_a_circle_and_endless_nesting_are_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(EncodeError, match="nested too deeply, or in a circle"):
            dumps(value, "output")
    while deep:  # taken apart by hand: destroying it at once would recurse
        deep = deep.pop()


@given(JSON)
def test_dumps_and_loads_are_inverse(value: Any) -> None:
    assert loads(dumps(value)) == value


def test_text_is_not_escaped() -> None:
    assert dumps("пример 🚀") == '"пример 🚀"'


def test_a_lone_surrogate_in_an_error_message_does_not_lose_the_record() -> None:
    result = StepResult("i", "n", StepStatus.FAILED, error="bad name: \udcff")
    assert decode_step_result(encode_result(result)).error == "bad name: \ufffd"
