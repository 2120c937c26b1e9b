"""What a constructor accepts is refused where it is written, by its path, or comes back equal."""

import enum
import json
import math
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from szal import (
    BackoffStrategy,
    DecodeError,
    EncodeError,
    Engine,
    EngineConfig,
    ExecutionRecord,
    FlowDef,
    FlowMode,
    FlowResult,
    InvalidFlow,
    StepDef,
    StepResult,
    StepStatus,
    TriggerMode,
    WorkflowState,
)
from szal.model.definition import Definition
from szal.model.json import (
    decode_checkpoint,
    decode_flow,
    decode_record,
    decode_step_result,
    encode_checkpoint,
    encode_flow,
    encode_record,
    encode_step_result,
)
from szal.model.json.text import MAX_DEPTH, dumps, loads
from szal.model.state import Stop
from szal.stores import open_store


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Fraction(float):
    pass


class Dict(dict[str, Any]):
    pass


class Colour(str, enum.Enum):  # noqa: UP042 (as people write them)
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Plain(enum.Enum):
    ONE = 1


def nested(levels: int, key: str | None = None) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value] if key is None else {key: value}
    return value


ODD = st.sampled_from(
    [
        *(
            None,
            True,
            False,
            0,
            1,
            -1,
            2**32 - 1,
            2**32,
            2**63,
            2**64,
            -(2**70),
            10**308,
            10**309,
            -(10**400),
            10**5000,
        ),
        *(0.0, -0.0, 0.0004, 0.0005, 1e-9, -1e-9, 1.5, 1e12, 1e300, math.nan, math.inf, -math.inf),
        *(
            "",
            "a",
            "a\0b",
            "\ud800",
            "é\udfff",
            "🧵",
            "x" * 3000,
            b"x",
            object,
            object(),
            (),
            (1,),
            [],
            {},
            {1: 2},
            {"a": 1},
        ),
        *(
            {1: 1, "1": 2},
            {None: 1},
            {True: 1},
            {1.5: 1},
            {"\ud800": 1},
            {(1,): 1},
            {"a": (1, [2])},
            {1, 2},
            [("a", 1)],
        ),
        *(Text("t"), Text("\udc00"), Number(5), Number(10**400), Fraction(0.5), Fraction("nan"), Dict(a=1), Plain.ONE),
        *(Colour.RED, Level.LOW, {Colour.RED: Level.LOW}, {Text("k"): Number(1)}, OrderedDict(a=(1,))),
        *(nested(MAX_DEPTH), nested(MAX_DEPTH + 1), nested(MAX_DEPTH, "k"), nested(MAX_DEPTH + 1, "k"), nested(990)),
        *(MappingProxyType({"a": 1}), MappingProxyType({1: "a"}), WorkflowState.FAILED, StepStatus.FAILED, Stop.LOST),
    ]
)
ANYTHING = (
    ODD
    | st.text(max_size=3)
    | st.floats()
    | st.integers()
    | st.lists(ODD, max_size=2)
    | st.dictionaries(st.text(), ODD)
)
MOMENT: st.SearchStrategy[Any] = (
    st.datetimes(timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))))
    | st.datetimes(timezones=st.timezones())
    | st.datetimes()
    | ODD
)


def fields_of(**usual: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw a few odd fields, the others as usual."""
    return st.fixed_dictionaries({}, optional=usual)


STEP_RESULT = fields_of(
    step_id=ANYTHING,
    step_name=ANYTHING,
    output=ANYTHING,
    duration=ANYTHING,
    attempts=ANYTHING,
    error=ANYTHING,
    error_type=ANYTHING,
    started_at=MOMENT,
    status=ODD,
).map(lambda odd: StepResult(**{"step_id": "1", "step_name": "a", "status": StepStatus.FAILED, **odd}))
FLOW_RESULT = fields_of(
    flow_name=ANYTHING,
    steps=st.lists(STEP_RESULT, max_size=1),
    total_duration=ANYTHING,
    success=ODD,
    rolled_back=ODD,
    execution_id=ANYTHING,
    state=ODD,
    error=ANYTHING,
).map(lambda odd: FlowResult(**{"flow_name": "f", **odd}))
RECORD = fields_of(
    execution_id=ANYTHING,
    flow_name=ANYTHING,
    state=ODD,
    result=FLOW_RESULT,
    started_at=MOMENT,
    finished_at=MOMENT,
    inputs=ANYTHING,
    flow_id=ANYTHING,
    flow_version=ANYTHING,
    parent_execution_id=ANYTHING,
    labels=ANYTHING,
    error=ANYTHING,
    stop=ODD,
    cwd=ANYTHING,
    file=ANYTHING,
).map(lambda odd: ExecutionRecord(**{"execution_id": "e", "flow_name": "f", **odd}))
STEP = fields_of(
    id=ANYTHING,
    name=ANYTHING,
    description=ANYTHING,
    timeout=ANYTHING,
    max_retries=ANYTHING,
    retry_delay=ANYTHING,
    backoff=ODD | st.sampled_from(BackoffStrategy),
    max_retry_delay=ANYTHING,
    total_timeout=ANYTHING,
    resources=ANYTHING,
    inline=ODD | st.just("always"),
    isolation=ODD | st.just("process"),
    retry_jitter=ANYTHING,
    retry_on=st.lists(ANYTHING | st.just(ValueError), max_size=2),
    rollbackable=ODD,
    priority=ANYTHING,
    undo_on_failure=ODD,
    continue_on_error=ODD,
    cancel_losers=ODD,
    until=ANYTHING,
    delay=ANYTHING,
    until_timeout=ANYTHING,
    finally_=ODD,
    step_type=ANYTHING,
    config=ANYTHING,
    condition=ANYTHING,
    depends_on=st.lists(ANYTHING, max_size=2),
    trigger_mode=ODD | st.sampled_from(TriggerMode),
    idempotent=ODD,
).map(lambda odd: StepDef(**{"name": "a", **odd}))
FLOW = fields_of(
    name=ANYTHING,
    mode=ODD | st.sampled_from(FlowMode),
    id=ANYTHING,
    description=ANYTHING,
    version=ANYTHING,
    steps=st.lists(STEP, max_size=2),
    rollback_on_failure=ODD,
    fail_fast=ODD,
    isolation=ODD | st.just("process"),
    timeout=ANYTHING,
    inputs=ANYTHING,
).map(lambda odd: FlowDef(**{"name": "f", **odd}))


def is_refused_or_comes_back(value: Any, encode: Callable[[Any], str], decode: Callable[[str], Any]) -> None:
    try:
        text = encode(value)
    except EncodeError as error:
        assert error.path  # noqa: PT017
        return
    assert decode(text) == value


@given(ANYTHING)
def test_a_value(value: Any) -> None:
    is_refused_or_comes_back([value], dumps, lambda text: [*map(_as_tuple_of(value), loads(text))])


def _as_tuple_of(value: Any) -> Callable[[Any], Any]:
    """Return what makes tuples of lists again where *value* has them: the one thing that JSON does not tell."""

    def again(read: Any, given: Any = value) -> Any:
        if isinstance(given, list | tuple):
            return type(given)(again(*pair) for pair in zip(read, given, strict=True))
        if isinstance(given, dict):
            return {key: again(read[key], inner) for key, inner in given.items()}
        return read

    return again


@given(STEP_RESULT)
def test_a_step_result(result: StepResult) -> None:
    is_refused_or_comes_back(result, encode_step_result, decode_step_result)


@given(STEP_RESULT)
def test_a_checkpoint(result: StepResult) -> None:
    result = attrs.evolve(result, step_name="a", step_id="1")  # neither is in its text
    read = lambda text: decode_checkpoint(text, "a", "1").result  # noqa: E731
    is_refused_or_comes_back(result, encode_checkpoint, read)


@given(RECORD)
def test_a_record(record: ExecutionRecord) -> None:
    is_refused_or_comes_back(record, encode_record, decode_record)


@given(record=RECORD, compact=st.booleans())
def test_who_goes_on_with_a_live_record_reads_all_of_it_but_its_result(record: ExecutionRecord, compact: bool) -> None:
    try:
        record.inputs = {"earlier": loads(encode_record(record))}  # the names of a record may stand in one's inputs
        text = encode_record(record)
    except EncodeError:
        return
    read = decode_record(text if compact else json.dumps(json.loads(text)), to_go_on=True)
    assert read == attrs.evolve(record, result=None if record.state.is_live else record.result)


@given(FLOW)
@example(FlowDef("f", isolation=""))  # type: ignore[arg-type]
@example(FlowDef("f", steps=[StepDef("a", isolation="fork")]))  # type: ignore[arg-type]
@example(FlowDef("f", steps=[StepDef("a", inline="")]))  # type: ignore[arg-type]
def test_a_flow(flow: FlowDef) -> None:
    is_refused_or_comes_back(flow, encode_flow, decode_flow)


@given(FLOW)
def test_a_flow_that_validates_is_refused_for_its_values_only(flow: FlowDef) -> None:
    try:
        flow.validate()
    except InvalidFlow:
        return
    try:
        text = Definition.of(flow).text
    except EncodeError as error:
        assert "config" in error.path or "inputs" in error.path  # noqa: PT017
        return
    decode_flow(text).validate()


@pytest.mark.parametrize(
    ("seconds", "kept"), [(0.0004, 0.001), (1e-300, 0.001), (0.0, 0.0), (1.23456, 1.235), (60, 60.0)]
)
def test_a_limit_is_kept_in_milliseconds_and_a_positive_one_never_becomes_0(seconds: float, kept: float) -> None:
    step = StepDef("a", timeout=seconds, max_retry_delay=seconds)
    flow = FlowDef("f", timeout=seconds, steps=[step])
    assert (flow.timeout, step.timeout, step.max_retry_delay) == (kept,) * 3
    assert decode_flow(encode_flow(flow)).timeout == kept


@pytest.mark.parametrize("levels", [MAX_DEPTH, MAX_DEPTH + 1, 200, 990, 20_000])
@pytest.mark.parametrize("key", [None, "k"])
def test_what_is_nested_too_deeply_is_refused_by_path_when_it_is_made(levels: int, key: str | None) -> None:
    value = nested(levels, key)
    if levels <= MAX_DEPTH:
        assert loads(dumps(value)) == value
    else:
        with pytest.raises(EncodeError, match=r"inputs\[.*nested too deeply.*at most 120 levels"):
            dumps(value, "inputs")
    while value:  # taken apart by hand: destroying it at once would recurse
        value = value.pop() if key is None else value.pop(key, None)


def depth_of(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    return deepest


def test_whatever_is_recorded_rust_can_read() -> None:
    """Its serde_json reads 127 levels."""
    result = FlowResult("f", [StepResult("1", "a", StepStatus.COMPLETED, nested(MAX_DEPTH))])
    assert depth_of(encode_record(ExecutionRecord("e", "f", result=result))) < 128
    assert depth_of(encode_flow(FlowDef("f", steps=[StepDef("a", config=nested(MAX_DEPTH))]))) < 128
    deep = StepDef("a", config=nested(MAX_DEPTH))
    for name in "bcdefg":
        deep = StepDef(name, sub_steps=[deep])
    with pytest.raises(EncodeError, match="nested too deeply"):
        encode_flow(FlowDef("f", FlowMode.HIERARCHICAL, steps=[deep]))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": "order"}, "the flow's id is not a UUID ('order')"),
        ({"version": 2**32}, "the flow's version is more than 4294967295"),
        ({"version": 1.0}, "the flow's version is not a whole number (1.0)"),
        ({"description": None}, "the flow's description is not a string (None)"),
        ({"fail_fast": 1}, "the flow's fail_fast is neither True nor False (1)"),
        ({"isolation": "fork"}, "the flow's isolation is none of thread, process ('fork')"),
        ({"rollback_on_failure": 1}, "the flow's rollback_on_failure is neither True nor False (1)"),
        ({"inputs": [("a", 1)]}, "the flow's inputs are no mapping ([('a', 1)])"),
        ({"name": "\ud800"}, "the flow's name holds a lone surrogate"),
        ({"steps": [StepDef("a", id="1")]}, "step 'a': its id is not a UUID ('1')"),
        ({"steps": [StepDef("a", max_retries=2**32)]}, "step 'a': max_retries is more than 4294967295"),
        ({"steps": [StepDef("a", rollbackable=1)]}, "step 'a': rollbackable is neither True nor False (1)"),  # type: ignore[arg-type]
        ({"steps": [StepDef("a", step_type=5)]}, "step 'a': step_type is not a string (5)"),  # type: ignore[arg-type]
        ({"steps": [StepDef("\ud800")]}, "its name holds a lone surrogate"),
    ],
)
def test_what_cannot_be_read_again_does_not_validate(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidFlow) as caught:
        FlowDef(**{"name": "f", **changes}).validate()
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"pr": 7}, 'labels["pr"]: expected a string, found int'),
        ({"pr": None}, 'labels["pr"]: expected a string, found NoneType'),
        ({1: "x"}, "labels: a key of type int"),
        ([("a", "b")], "labels: expected a mapping, found list"),
    ],
)
@pytest.mark.parametrize("url", [None, "memory:"])
def test_run_takes_no_other_labels_than_text(labels: Any, message: str, url: str | None) -> None:
    store = None if url is None else open_store(url)
    with Engine(lambda ctx: 1, EngineConfig(execution_store=store)) as engine:
        with pytest.raises(EncodeError) as caught:
            engine.run(FlowDef("f"), labels=labels)
        assert str(caught.value) == message
        with pytest.raises(EncodeError, match="labels"):
            encode_record(ExecutionRecord("e", "f", labels=labels))
        assert store is None or list(store.list()) == []


@pytest.mark.parametrize("inputs", [{"a": {1: 2, "1": 3}}, {"a": nested(MAX_DEPTH)}, {"a": 10**400}])
def test_run_takes_no_inputs_that_could_not_be_read_again(inputs: dict[str, Any]) -> None:
    store = open_store("memory:")
    with Engine(lambda ctx: 1, EngineConfig(execution_store=store)) as engine:
        with pytest.raises(EncodeError, match=r'inputs\["a"\]'):
            engine.run(FlowDef("f"), inputs)
        assert list(store.list()) == []


def test_with_a_store_a_run_sees_the_inputs_that_are_recorded() -> None:
    seen = []
    with Engine(lambda ctx: seen.append(ctx.inputs), EngineConfig(execution_store=open_store("memory:"))) as engine:
        engine.run(FlowDef("f", steps=[StepDef("a")]), {"sizes": (1, 2)})
    assert seen == [{"sizes": [1, 2]}]


@pytest.mark.parametrize(
    ("output", "path"),
    [
        ({1: 1, "1": 2}, "output: a key of type int"),
        ([nested(MAX_DEPTH)], "output[0]"),
        ({"a": 10**400}, 'output["a"]: '),
    ],
)
def test_an_output_that_could_not_be_read_again_fails_its_step_alone(output: Any, path: str) -> None:
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("bad"), StepDef("b")])
    with Engine(
        lambda ctx: output if ctx.step.name == "bad" else 1, EngineConfig(execution_store=open_store("memory:"))
    ) as e:
        result = e.run(flow)
    assert [step.status for step in result.steps] == [StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.COMPLETED]
    assert path in str(result["bad"].error)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_a_time_that_utc_has_no_year_for_is_told_by_its_path(moment: str) -> None:
    text = f'{{"execution_id":"e","flow_name":"f","state":"Running","result":null,"started_at":"{moment}"}}'
    with pytest.raises(DecodeError, match=r"^started_at: .*outside the years 1 to 9999"):
        decode_record(text)
    record = ExecutionRecord("e", "f", started_at=datetime.fromisoformat(moment))
    with pytest.raises(EncodeError, match=r"^started_at: .*outside the years 1 to 9999"):
        encode_record(record)


def test_a_record_keeps_its_times_in_utc() -> None:
    east = datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(hours=2, seconds=7)))
    record = ExecutionRecord("e", "f", started_at=east)
    assert record.started_at.tzinfo is UTC
    assert decode_record(encode_record(record)).started_at == east


# -- records of szal-rs ------------------------------------------------------------------------------


def test_of_a_record_without_names_results_are_found_by_id_and_know_their_execution() -> None:
    steps = [StepResult("id-1", "", StepStatus.COMPLETED, 1), StepResult("id-2", "", StepStatus.COMPLETED, 2)]
    record = ExecutionRecord("e", "f", WorkflowState.COMPLETED, FlowResult("f", steps))
    for result in (record.result, decode_record(encode_record(record)).result):
        assert result is not None
        assert result.outputs == {"id-1": 1, "id-2": 2}
        assert result["id-2"].output == 2
        assert (result.execution_id, result.state) == ("e", WorkflowState.COMPLETED)
