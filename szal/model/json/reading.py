"""The model from JSON text; a `DecodeError` names the path of what is wrong."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from szal.errors import DecodeError
from szal.expressions.path import Json
from szal.model.analysis import FlowMode
from szal.model.flow import FlowDef
from szal.model.json.text import loads
from szal.model.moment import NO_LIMIT_MS
from szal.model.results import ExecutionRecord, FlowResult, StepResult
from szal.model.state import NamedEnum, StepStatus, Stop, WorkflowState
from szal.model.step import INLINE, ISOLATION, MAX_ITEMS, BackoffStrategy, StepDef, TriggerMode

__all__ = ["ObjectReader", "decode_flow", "decode_record", "decode_step_result", "plain_outcome", "read_outcome"]

_T = TypeVar("_T")
_E = TypeVar("_E", bound=NamedEnum)
_Word = TypeVar("_Word", bound=str)


class ObjectReader:
    """A JSON object being read; knows its own path, for the errors."""

    __slots__ = ("path", "values")

    def __init__(self, value: Json, path: str) -> None:
        if not isinstance(value, dict):
            raise DecodeError(path, f"expected an object, found {_kind(value)}")
        self.values = value
        self.path = path

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def get(self, key: str, kind: type[_T], *default: _T) -> _T:
        """Return the value at *key*: of exactly this type, or *default* where it is missing and one is given."""
        value = self.values.get(key, self)
        if value is self:
            if default:
                return default[0]
            raise DecodeError(self.at(key), "is missing")
        if type(value) is not kind:
            raise DecodeError(self.at(key), f"expected {_NAMES[kind]}, found {_kind(value)}")
        return value

    def maybe(self, key: str, kind: type[_T]) -> _T | None:
        return None if self.values.get(key) is None else self.get(key, kind)

    def count(self, key: str, *default: int) -> int:
        value = self.get(key, int, *default)
        if not 0 <= value <= NO_LIMIT_MS:
            raise DecodeError(self.at(key), f"{value} is not between 0 and {NO_LIMIT_MS}")
        return value

    def seconds(self, key: str, *default: int) -> float:
        return self.count(key, *default) / 1000

    def limit(self, key: str) -> float | None:
        """Return an optional number of milliseconds, as seconds; null, u64::MAX and nothing are no limit."""
        if self.values.get(key) is None or (value := self.count(key)) == NO_LIMIT_MS:
            return None
        return value / 1000

    def enum(self, key: str, kind: type[_E], *default: _E) -> _E:
        if default and key not in self.values:
            return default[0]
        name = self.get(key, str)
        try:
            return kind(name)
        except ValueError:
            known = ", ".join(member.value for member in kind)
            raise DecodeError(self.at(key), f"{name!r} is none of {known}") from None

    def time(self, key: str) -> datetime:
        text = self.get(key, str)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is UTC:
            return moment
        if moment is None or moment.tzinfo is None:
            raise DecodeError(self.at(key), f"{text!r} is not a time with an offset")
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise DecodeError(self.at(key), f"{text!r} is outside the years 1 to 9999 in UTC") from None

    def many(self, key: str, read: Callable[[Json, str], _T], *default: list[Json]) -> list[_T]:
        items = self.get(key, list, *default)
        if not items:
            return []
        where = self.at(key)
        return [read(item, f"{where}[{index}]") for index, item in enumerate(items)]


_NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def _kind(value: Json) -> str:
    return _NAMES.get(type(value), type(value).__name__)


def _read_text(value: Json, path: str) -> str:
    if type(value) is not str:
        raise DecodeError(path, f"expected a string, found {_kind(value)}")
    return value


def _read_failure(value: Json, path: str) -> str | int:
    if type(value) is int:
        return value
    if type(value) is not str:
        raise DecodeError(path, f"expected a string or a whole number, found {_kind(value)}")
    return value


def _read_step(value: Json, path: str) -> StepDef:
    read = ObjectReader(value, path)
    jitter = read.values.get("retry_jitter", 0.0)
    if type(jitter) not in (int, float):
        raise DecodeError(read.at("retry_jitter"), f"expected a number, found {_kind(jitter)}")
    return StepDef(
        read.get("name", str),
        id=read.get("id", str),
        description=read.get("description", str, ""),
        timeout=read.limit("timeout_ms"),
        total_timeout=read.limit("total_timeout_ms"),
        max_retries=read.count("max_retries", 0),
        retry_delay=read.seconds("retry_delay_ms", 1000),
        backoff=read.enum("backoff", BackoffStrategy, BackoffStrategy.FIXED),
        max_retry_delay=read.limit("max_retry_delay_ms"),
        retry_jitter=float(jitter),
        retry_on=read.many("retry_on", _read_failure, []),
        give_up_on=read.many("give_up_on", _read_failure, []),
        rollbackable=read.get("rollbackable", bool, False),
        priority=read.get("priority", int, 0),
        undo_on_failure=read.get("undo_on_failure", bool, False),
        continue_on_error=read.get("continue_on_error", bool, False),
        cancel_losers=read.get("cancel_losers", bool, False),
        finally_=read.get("finally", bool, False),
        step_type=read.maybe("step_type", str),
        config=read.values.get("config"),
        condition=read.maybe("condition", str),
        depends_on=read.many("depends_on", _read_text, []),
        trigger_mode=read.enum("trigger_mode", TriggerMode, TriggerMode.ALL),
        sub_steps=read.many("sub_steps", _read_step, []),
        idempotent=read.get("idempotent", bool, True),
        inline=_read_one_of(read, "inline", INLINE),
        isolation=_read_one_of(read, "isolation", ISOLATION),
        resources=_read_shares(read),
        rate=_read_rates(read),
        foreach=_read_foreach(read),
        max_parallel=None if read.values.get("max_parallel") is None else read.count("max_parallel"),
        max_items=read.count("max_items", MAX_ITEMS),
        until=read.maybe("until", str),
        delay=read.seconds("delay_ms", 1000),
        until_timeout=read.limit("until_timeout_ms"),
    )


def _read_one_of(read: ObjectReader, key: str, words: Sequence[_Word]) -> _Word | None:
    value = read.maybe(key, str)
    for known in words:
        if value == known:
            return known
    if value is not None:
        raise DecodeError(read.at(key), f"expected one of {', '.join(words)}, found {value!r}")
    return None


def _read_shares(read: ObjectReader) -> dict[str, int]:
    """Return how much of each resource a step needs."""
    shares = ObjectReader(read.values.get("resources", {}), read.at("resources"))
    return {name: shares.count(name) for name in shares.values}


def _read_rates(read: ObjectReader) -> dict[str, str]:
    """Return at which rates a step uses what it names."""
    rates = ObjectReader(read.values.get("rate", {}), read.at("rate"))
    return {name: rates.get(name, str) for name in rates.values}


def _read_foreach(read: ObjectReader) -> str | list[Json] | None:
    value = read.values.get("foreach")
    return value if type(value) is list else read.maybe("foreach", str)


def decode_flow(text: str) -> FlowDef:
    """Return the flow in *text*; raise `DecodeError` naming the path of what is wrong. Does not validate it."""
    try:
        return _read_flow(loads(text), "")
    except RecursionError:
        raise DecodeError("", "steps or sub-flows are nested too deeply") from None


def _read_flow(value: Json, path: str) -> FlowDef:
    read = ObjectReader(value, path)
    try:
        steps = read.many("steps", _read_step)
    except RecursionError:
        raise DecodeError(read.at("steps"), "sub-steps are nested too deeply") from None
    return FlowDef(
        read.get("name", str),
        read.enum("mode", FlowMode),
        id=read.get("id", str),
        description=read.get("description", str, ""),
        version=read.count("version", 1),
        steps=steps,
        rollback_on_failure=read.get("rollback_on_failure", bool, False),
        fail_fast=read.get("fail_fast", bool, False),
        isolation=_read_one_of(read, "isolation", ISOLATION),
        concurrency_key=read.maybe("concurrency_key", str),
        timeout=read.limit("timeout_ms"),
        inputs=read.get("inputs", dict, {}),
        sub_flows=read.many("sub_flows", _read_flow, []),
    )


def _read_steps(read: ObjectReader) -> list[StepResult]:
    values = read.get("steps", list)
    return [
        _plain_step(value) or _read_step_result(value, f"{read.at('steps')}[{n}]") for n, value in enumerate(values)
    ]


_PLAIN: Final = frozenset({"caught", "undo_output", "masked"})
"""What results of steps have that are not as most are."""


def _plain_step(value: Json) -> StepResult | None:
    """Return the result of a step, read quickly; None: it is not as most are, or something is wrong with it."""
    if type(value) is not dict or not _PLAIN.isdisjoint(value):
        return None
    step_id, step_name = value.get("step_id"), value.get("step_name", "")
    return plain_outcome(value, step_id, step_name) if type(step_id) is type(step_name) is str else None


_STATUSES: Final[dict[object, StepStatus]] = {status.value: status for status in StepStatus}


def plain_outcome(values: dict[str, Json], step_id: str, step_name: str) -> StepResult | None:
    """Return what `read_outcome` does, much faster; None: it is not as most are, or something is wrong with it."""
    get = values.get
    error, error_type, started = get("error"), get("error_type"), get("started_at")
    duration, attempts = get("duration_ms"), get("attempts")
    try:
        status = _STATUSES[get("status")]
        moment = None if started is None else datetime.fromisoformat(started)
    except (KeyError, TypeError, ValueError):
        return None
    if type(duration) is not int or type(attempts) is not int:
        return None
    is_plain = (
        0 <= duration <= NO_LIMIT_MS
        and 0 <= attempts <= NO_LIMIT_MS
        and (error is None or type(error) is str)
        and (error_type is None or type(error_type) is str)
        and (moment is None or moment.tzinfo is UTC)
        and get("items") is None
    )
    if not is_plain:
        return None
    return StepResult(step_id, step_name, status, get("output"), duration / 1000, attempts, error, error_type, moment)


def _read_step_result(value: Json, path: str) -> StepResult:
    read = ObjectReader(value, path)
    return read_outcome(read, read.get("step_id", str), read.get("step_name", str, ""))


def read_outcome(read: ObjectReader, step_id: str, step_name: str) -> StepResult:
    return StepResult(
        step_id,
        step_name,
        status=read.enum("status", StepStatus),
        output=read.values.get("output"),
        duration=read.seconds("duration_ms"),
        attempts=read.count("attempts"),
        error=read.maybe("error", str),
        error_type=read.maybe("error_type", str),
        started_at=None if read.values.get("started_at") is None else read.time("started_at"),
        items=None if read.values.get("items") is None else read.many("items", _read_step_result),
        is_caught=read.get("caught", bool, False),
        undo_output=read.values.get("undo_output"),
        is_masked=read.get("masked", bool, False),
    )


def decode_step_result(text: str) -> StepResult:
    """Return the step result in *text*; raise `DecodeError` naming the path of what is wrong."""
    return _read_step_result(loads(text), "")


def _read_result(value: Json, path: str) -> FlowResult:
    read = ObjectReader(value, path)
    return FlowResult(
        flow_name=read.get("flow_name", str),
        steps=_read_steps(read),
        total_duration=read.seconds("total_duration_ms"),
        success=read.get("success", bool),
        rolled_back=read.get("rolled_back", bool),
        execution_id=read.maybe("execution_id", str),
        state=None if read.values.get("state") is None else read.enum("state", WorkflowState),
        error=read.maybe("error", str),
    )


def _read_labels(read: ObjectReader) -> dict[str, str]:
    labels = ObjectReader(read.get("labels", dict, {}), read.at("labels"))
    return {key: labels.get(key, str) for key in labels.values}


def _read_texts(read: ObjectReader, key: str) -> tuple[str, ...]:
    texts = read.get(key, list, [])
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise DecodeError(f"{read.at(key)}[{place}]", f"expected a string, found {type(text).__name__}")
    return tuple(texts)


_TO_THE_RESULT: Final = (
    r'{"execution_id":"(?:[^"\\]|\\.)*","flow_name":"(?:[^"\\]|\\.)*","state":"(?P<state>\w+)","result":(?={)'
)
_LIVE: Final = frozenset(state.value for state in WorkflowState if state.is_live)
_AFTER_THE_RESULT: Final = ',"started_at":"'


def _without_result(text: str) -> Json:
    """Return what a live record says beside its result, of which not a character is read; None: it has none.

    None also where it is not written as szal writes it. After the result there is one way only to go on such that all
    that was opened before it is closed, and nothing else: what is cut out begins and ends where the result does.
    """
    before, after = re.match(_TO_THE_RESULT, text), text.rfind(_AFTER_THE_RESULT)
    if before is None or after < before.end() or before["state"] not in _LIVE:
        return None
    try:
        return loads(f"{before[0]}null{text[after:]}")
    except DecodeError:  # there is the same in its inputs
        return None


def decode_record(text: str, *, to_go_on: bool = False) -> ExecutionRecord:
    """Return the record in *text*; raise `DecodeError` naming the path of what is wrong.

    *to_go_on*: a live one is read without its result, for whoever goes on with the execution. What that had come to
    when it paused counts no more, and takes longer to read than all the rest.

    >>> decode_record('{"execution_id": "e1", "flow_name": "ci", "state": "Runing"}')
    Traceback (most recent call last):
    szal.errors.DecodeError: state: 'Runing' is none of Created, Running, Paused, Completed, Failed, ...
    """
    read = ObjectReader((to_go_on and _without_result(text)) or loads(text), "")
    state = read.enum("state", WorkflowState)
    result = None if to_go_on and state.is_live else read.values.get("result")
    return ExecutionRecord(
        execution_id=read.get("execution_id", str),
        flow_name=read.get("flow_name", str),
        state=state,
        result=None if result is None else _read_result(result, "result"),
        started_at=read.time("started_at"),
        finished_at=None if read.values.get("finished_at") is None else read.time("finished_at"),
        inputs=read.get("inputs", dict, {}),
        flow_id=read.maybe("flow_id", str),
        flow_version=None if read.values.get("flow_version") is None else read.count("flow_version"),
        parent_execution_id=read.maybe("parent_execution_id", str),
        labels=_read_labels(read),
        error=read.maybe("error", str),
        stop=None if read.values.get("stop") is None else read.enum("stop", Stop),
        cwd=read.maybe("cwd", str),
        file=read.maybe("file", str),
        reopened=read.count("reopened", 0),
        secret_inputs=_read_texts(read, "secret_inputs"),
        traceparents=_read_texts(read, "traceparents"),
        concurrency_key=read.maybe("concurrency_key", str),
    )
