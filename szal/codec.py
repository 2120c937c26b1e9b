"""The model as JSON text and back: the one place that knows how it is written.

The keys, their order and their types are szal-rs 1.2's, so that a Rust and a Python program can share a
database; what szal adds are extra keys, left out when empty. Reading is strict about what it knows and
tolerant of the rest: an unknown key is passed over, a missing optional one takes its default.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import attrs

from szal.analysis import FlowMode
from szal.errors import DecodeError, EncodeError
from szal.execution import ExecutionRecord, FlowResult, StepResult
from szal.flow import FlowDef
from szal.jsontext import dumps, encode_text, loads
from szal.state import NamedEnum, StepStatus, WorkflowState
from szal.step import BackoffStrategy, Json, StepDef, TriggerMode

__all__ = [
    "Checkpoint",
    "decode_checkpoint",
    "decode_flow",
    "decode_record",
    "decode_step_result",
    "encode_checkpoint",
    "encode_flow",
    "encode_record",
    "encode_step_result",
    "flow_fields",
    "step_fields",
]

NO_LIMIT_MS = 2**64 - 1  # Rust's u64::MAX: how a StepDef without a time limit is written
_COMPLETED = StepStatus.COMPLETED
_T = TypeVar("_T")
_E = TypeVar("_E", bound=NamedEnum)

# -- model to JSON ----------------------------------------------------------------------------------


def _ms(seconds: float) -> int:
    ms = int(seconds * 1000 + 0.5)
    return ms if 0 <= ms <= NO_LIMIT_MS else NO_LIMIT_MS * (ms > 0)


def _optional(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pairs that hold something: what szal adds is left out when empty."""
    return {key: value for key, value in pairs.items() if value not in (None, "", (), {}, [])}


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def _start(result: StepResult) -> str | None:
    """Return when a step started, as text: a Unix time as it is, since a datetime would cost as much as the rest."""
    moment = result._started_at
    if not isinstance(moment, float):
        return None if moment is None else _time(moment)
    seconds, micros = divmod(int(moment * 1_000_000 + 0.5), 1_000_000)
    return f"{_second(seconds)}.{micros:06}+00:00"


def _class_name(kind: type[BaseException] | str) -> str:
    if isinstance(kind, str):
        return kind
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def step_fields(step: StepDef) -> dict[str, Json]:
    """Return *step* as a JSON object that is the caller's own, but for its config."""
    fields: dict[str, Json] = {
        "id": step.id,
        "name": step.name,
        "description": step.description,
        "timeout_ms": NO_LIMIT_MS if step.timeout is None else _ms(step.timeout),
        "max_retries": step.max_retries,
        "retry_delay_ms": _ms(step.retry_delay),
        "backoff": step.backoff.value,
        "rollbackable": step.rollbackable,
    }
    rust = {"step_type": step.step_type, "config": step.config, "condition": step.condition}
    fields |= {key: value for key, value in rust.items() if value is not None}
    fields |= {"depends_on": list(step.depends_on), "trigger_mode": step.trigger_mode.value}
    return fields | _optional(
        {
            "sub_steps": [step_fields(sub) for sub in step.sub_steps],
            "max_retry_delay_ms": None if step.max_retry_delay is None else _ms(step.max_retry_delay),
            "retry_jitter": step.retry_jitter or None,
            "retry_on": [_class_name(kind) for kind in step.retry_on],
            "give_up_on": [_class_name(kind) for kind in step.give_up_on],
            "idempotent": None if step.idempotent else False,
        }
    )


def encode_flow(flow: FlowDef) -> str:
    """Return *flow* as szal-rs writes a FlowDef; raise `EncodeError` for a config that JSON cannot hold."""
    return dumps(flow_fields(flow), "flow")


def flow_fields(flow: FlowDef) -> dict[str, Json]:
    """Return *flow* as a JSON object that is the caller's own, but for what its steps are configured with."""
    try:
        steps = [step_fields(step) for step in flow.steps]
    except RecursionError:
        raise EncodeError("steps", "sub-steps are nested too deeply") from None
    fields: dict[str, Json] = {
        "id": flow.id,
        "name": flow.name,
        "description": flow.description,
        "mode": flow.mode.value,
        "steps": steps,
        "rollback_on_failure": flow.rollback_on_failure,
        "timeout_ms": None if flow.timeout is None else _ms(flow.timeout),
        "version": flow.version,
    }
    return fields | _optional({"inputs": dict(flow.inputs)})


def encode_step_result(result: StepResult) -> str:
    """Return *result* as JSON text; what the engine has encoded before is not encoded again."""
    name = f',"step_name":{_text(result.step_name)}' if result.step_name else ""
    return f'{{"step_id":{_text(result.step_id)},{result.encoded or _outcome(result)}{name}}}'


def _outcome(result: StepResult) -> str:
    """Return the fields of *result* that say how the step ended: what its own row and the whole record share."""
    output = result.encoded_output
    if output is None:
        output = "null" if result.output is None else dumps(result.output, f"{result.step_name}.output")
    status = (
        "Completed" if result.status is _COMPLETED else result.status.value
    )  # the look-up costs as much as the rest
    text = f'"status":"{status}","output":{output},"duration_ms":{_ms(result.duration)},"attempts":{result.attempts},'
    text += '"error":null' if result.error is None else f'"error":{_text(result.error)}'
    if result.error_type:
        text += f',"error_type":{_text(result.error_type)}'
    started = _start(result)
    return text if started is None else f'{text},"started_at":"{started}"'


def _text(value: str | None) -> str:
    """Return a message as JSON. It comes from anywhere (str(exception)), so lone surrogates are replaced."""
    if value is None:
        return "null"
    return encode_text(value if value.isascii() else value.encode("utf-8", "replace").decode())


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _result_json(result: FlowResult) -> str:
    steps = ",".join(map(encode_step_result, result.steps))
    state = None if result.state is None else result.state.value
    extras = _optional({"execution_id": result.execution_id, "state": state, "error": result.error})
    return (
        f'{{"flow_name":{_text(result.flow_name)},"steps":[{steps}],'
        f'"total_duration_ms":{_ms(result.total_duration)},"success":{_flag(result.success)},'
        f'"rolled_back":{_flag(result.rolled_back)}'
        + "".join(f',"{key}":{_text(value)}' for key, value in extras.items())
        + "}"
    )


def encode_record(record: ExecutionRecord) -> str:
    """Return *record* as the `data` of its row; raise `EncodeError` naming what JSON cannot hold.

    >>> record = ExecutionRecord("e1", "ci", started_at=datetime(2026, 6, 10, tzinfo=UTC))
    >>> encode_record(record)[:52]
    '{"execution_id":"e1","flow_name":"ci","state":"Creat'
    """
    finished = "null" if record.finished_at is None else f'"{_time(record.finished_at)}"'
    text = (
        f'{{"execution_id":{dumps(record.execution_id, "execution_id")},'
        f'"flow_name":{dumps(record.flow_name, "flow_name")},"state":"{record.state.value}",'
        f'"result":{"null" if record.result is None else _result_json(record.result)},'
        f'"started_at":"{_time(record.started_at)}","finished_at":{finished}'
    )
    extras = _optional(
        {
            "inputs": dict(record.inputs),
            "flow_id": record.flow_id,
            "flow_version": record.flow_version,
            "parent_execution_id": record.parent_execution_id,
            "labels": dict(record.labels),
        }
    )
    text += "".join(f',"{key}":{dumps(value, key)}' for key, value in extras.items())
    if record.error:
        text += f',"error":{_text(record.error)}'
    return text + "}"


# -- JSON to model ----------------------------------------------------------------------------------


class _Object:
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
        if moment is None or moment.tzinfo is None:
            raise DecodeError(self.at(key), f"{text!r} is not a time with an offset")
        return moment.astimezone(UTC)

    def many(self, key: str, read: Callable[[Json, str], _T], *default: list[Json]) -> list[_T]:
        where = self.at(key)
        return [read(item, f"{where}[{index}]") for index, item in enumerate(self.get(key, list, *default))]


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


def _read_step(value: Json, path: str) -> StepDef:
    read = _Object(value, path)
    jitter = read.values.get("retry_jitter", 0.0)
    if type(jitter) not in (int, float):
        raise DecodeError(read.at("retry_jitter"), f"expected a number, found {_kind(jitter)}")
    return StepDef(
        read.get("name", str),
        id=read.get("id", str),
        description=read.get("description", str, ""),
        timeout=read.limit("timeout_ms"),
        max_retries=read.count("max_retries", 0),
        retry_delay=read.seconds("retry_delay_ms", 1000),
        backoff=read.enum("backoff", BackoffStrategy, BackoffStrategy.FIXED),
        max_retry_delay=read.limit("max_retry_delay_ms"),
        retry_jitter=float(jitter),
        retry_on=read.many("retry_on", _read_text, []),
        give_up_on=read.many("give_up_on", _read_text, []),
        rollbackable=read.get("rollbackable", bool, False),
        step_type=read.maybe("step_type", str),
        config=read.values.get("config"),
        condition=read.maybe("condition", str),
        depends_on=read.many("depends_on", _read_text, []),
        trigger_mode=read.enum("trigger_mode", TriggerMode, TriggerMode.ALL),
        sub_steps=read.many("sub_steps", _read_step, []),
        idempotent=read.get("idempotent", bool, True),
    )


def decode_flow(text: str) -> FlowDef:
    """Return the flow in *text*; raise `DecodeError` naming the path of what is wrong. Does not validate it."""
    read = _Object(loads(text), "")
    try:
        steps = read.many("steps", _read_step)
    except RecursionError:
        raise DecodeError("steps", "sub-steps are nested too deeply") from None
    return FlowDef(
        read.get("name", str),
        read.enum("mode", FlowMode),
        id=read.get("id", str),
        description=read.get("description", str, ""),
        version=read.count("version", 1),
        steps=steps,
        rollback_on_failure=read.get("rollback_on_failure", bool, False),
        timeout=read.limit("timeout_ms"),
        inputs=read.get("inputs", dict, {}),
    )


def _read_step_result(value: Json, path: str) -> StepResult:
    read = _Object(value, path)
    return _read_outcome(read, read.get("step_id", str), read.get("step_name", str, ""))


def _read_outcome(read: _Object, step_id: str, step_name: str) -> StepResult:
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
    )


def decode_step_result(text: str) -> StepResult:
    """Return the step result in *text*; raise `DecodeError` naming the path of what is wrong."""
    return _read_step_result(loads(text), "")


@attrs.define
class Checkpoint:
    """What is kept of one step while its execution is under way.

    `outcome` is the plan's, None for a step that has only begun; `due` when what it waits for comes (Unix time);
    `undo_error` why undoing it failed.
    """

    result: StepResult
    outcome: int | None = None
    due: float | None = None
    undo_error: str | None = None


def encode_checkpoint(
    result: StepResult, outcome: int | None = None, *, due: float | None = None, undo_error: str | None = None
) -> str:
    """Return a `Checkpoint` as JSON text, and keep that of its result: it is written again with the whole record.

    Neither the step's name nor its id are in it: the one is in the row, the other in the definition.
    """
    text = result.encoded = _outcome(result)
    if outcome is not None:
        text += f',"outcome":{outcome}'
    if due is not None:
        text += f',"due":{dumps(due)}'
    if undo_error is not None:
        text += f',"undo_error":{_text(undo_error)}'
    return f"{{{text}}}"


def decode_checkpoint(text: str, step_name: str, step_id: str = "") -> Checkpoint:
    """Return the checkpoint in *text*, of that step; raise `DecodeError` naming the path of what is wrong."""
    read = _Object(loads(text), "")
    due = read.values.get("due")
    return Checkpoint(
        _read_outcome(read, step_id, step_name),
        read.maybe("outcome", int),
        float(due) if isinstance(due, int | float) else None,
        read.maybe("undo_error", str),
    )


def _read_result(value: Json, path: str) -> FlowResult:
    read = _Object(value, path)
    return FlowResult(
        flow_name=read.get("flow_name", str),
        steps=read.many("steps", _read_step_result),
        total_duration=read.seconds("total_duration_ms"),
        success=read.get("success", bool),
        rolled_back=read.get("rolled_back", bool),
        execution_id=read.maybe("execution_id", str),
        state=None if read.values.get("state") is None else read.enum("state", WorkflowState),
        error=read.maybe("error", str),
    )


def _read_labels(read: _Object) -> dict[str, str]:
    labels = _Object(read.get("labels", dict, {}), read.at("labels"))
    return {key: labels.get(key, str) for key in labels.values}


def decode_record(text: str) -> ExecutionRecord:
    """Return the record in *text*; raise `DecodeError` naming the path of what is wrong.

    >>> decode_record('{"execution_id": "e1", "flow_name": "ci", "state": "Runing"}')
    Traceback (most recent call last):
    szal.errors.DecodeError: state: 'Runing' is none of Created, Running, Paused, Completed, Failed, ...
    """
    read = _Object(loads(text), "")
    result = read.values.get("result")
    return ExecutionRecord(
        execution_id=read.get("execution_id", str),
        flow_name=read.get("flow_name", str),
        state=read.enum("state", WorkflowState),
        result=None if result is None else _read_result(result, "result"),
        started_at=read.time("started_at"),
        finished_at=None if read.values.get("finished_at") is None else read.time("finished_at"),
        inputs=read.get("inputs", dict, {}),
        flow_id=read.maybe("flow_id", str),
        flow_version=None if read.values.get("flow_version") is None else read.count("flow_version"),
        parent_execution_id=read.maybe("parent_execution_id", str),
        labels=_read_labels(read),
        error=read.maybe("error", str),
    )
