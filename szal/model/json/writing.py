"""The model as JSON text: what `szal.model.json.reading` reads, or an `EncodeError` that names the field."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from szal.errors import EncodeError
from szal.expressions.path import Json
from szal.model.analysis import FlowMode
from szal.model.class_name import class_name
from szal.model.flow import FlowDef
from szal.model.json.text import MAX_DEPTH, MAX_DEPTH_OF_A_DOCUMENT, dumps, encode_text
from szal.model.moment import NO_LIMIT_MS, as_ms
from szal.model.results import ExecutionRecord, FlowResult, StepResult, as_message
from szal.model.state import NamedEnum, StepStatus, Stop, WorkflowState
from szal.model.step import (
    DELAY,
    INLINE,
    ISOLATION,
    MAX_COUNT,
    MAX_ITEMS,
    BackoffStrategy,
    Failure,
    StepDef,
    TriggerMode,
)
from szal.number import problem_of, shown

__all__ = [
    "NO_LIMIT_MS",
    "checked_labels",
    "encode_flow",
    "encode_record",
    "encode_step_result",
    "flow_fields",
    "message_json",
    "name_json",
    "outcome_json",
    "step_fields",
    "time_json",
]

_COMPLETED: Final = StepStatus.COMPLETED
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 (the offset is written beside it)

# -- values of one type ------------------------------------------------------------------------------


def _ms(seconds: float, path: str) -> int:
    """Return a duration that was measured, in milliseconds."""
    ms = as_ms(seconds)
    if ms is None:
        raise EncodeError(path, f"not a duration in seconds ({shown(seconds)})")
    return ms


def _set_ms(seconds: float, path: str) -> int:
    """Return a duration that somebody set."""
    ms = _ms(seconds, path)
    if seconds < 0:
        raise EncodeError(path, f"negative ({shown(seconds)})")
    return ms


def _filled(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pairs that hold something: what szal adds is left out when empty."""
    return {key: value for key, value in pairs.items() if value is not None and value not in ((), {}, [])}


def time_json(moment: object, path: str) -> str:
    """Return a time as text, without the quotes."""
    if type(moment) is datetime and moment.tzinfo is UTC:  # as nearly always: a third of the time
        return moment.isoformat()
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise EncodeError(path, f"not a time with an offset ({shown(moment)})")
    try:
        return moment.astimezone(UTC).isoformat()
    except OverflowError:
        raise EncodeError(path, f"{moment.isoformat()} is outside the years 1 to 9999 in UTC") from None


def _string(value: str, path: str) -> str:
    if not isinstance(value, str):
        raise EncodeError(path, f"expected a string, found {type(value).__name__}")
    return value


def _one_of(value: str | None, words: Sequence[str], path: str) -> str | None:
    if value is not None and _string(value, path) not in words:
        raise EncodeError(path, f"expected one of {', '.join(words)}, found {value!r}")
    return value


def name_json(value: str, path: str) -> str:
    """Return an id or a name as JSON: of what says which one it is, nothing may be replaced."""
    return encode_text(value) if type(value) is str and value.isascii() else dumps(_string(value, path), path)


def message_json(value: str, path: str) -> str:
    """Return a message as JSON: it comes from anywhere, so what is no text in it is replaced."""
    return encode_text(as_message(_string(value, path)))


def _count(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise EncodeError(path, f"not a whole number between 0 and {MAX_COUNT} ({shown(value)})")
    return value


def _whole(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAX_COUNT:
        raise EncodeError(path, f"not a whole number between {-MAX_COUNT} and {MAX_COUNT} ({shown(value)})")
    return value


def _number(value: float, path: str) -> float:
    if (problem := problem_of(value)) is not None:
        raise EncodeError(path, problem)
    return value


def _flag(value: bool, path: str) -> bool:
    if not isinstance(value, bool):
        raise EncodeError(path, f"neither True nor False ({shown(value)})")
    return value


def _bool(value: bool, path: str) -> str:
    return "true" if _flag(value, path) else "false"


def _object(value: Mapping[str, Json], path: str) -> dict[str, Json]:
    if not isinstance(value, Mapping):
        raise EncodeError(path, f"expected a mapping, found {type(value).__name__}")
    return dict(value)


def _member(value: NamedEnum, kind: type[NamedEnum], path: str) -> str:
    if not isinstance(value, kind):
        raise EncodeError(path, f"not a {kind.__name__} ({shown(value)})")
    return str(value.value)


# -- definitions -------------------------------------------------------------------------------------


def step_fields(step: StepDef) -> dict[str, Json]:
    """Return *step* as a JSON object that is the caller's own, but for its config."""
    try:
        return _step_fields(step)
    except EncodeError as error:
        raise EncodeError(f"step {shown(step.name)}: {error.path}", error.problem) from None


def _step_fields(step: StepDef) -> dict[str, Json]:
    fields: dict[str, Json] = {
        "id": _string(step.id, "id"),
        "name": _string(step.name, "name"),
        "description": _string(step.description, "description"),
        "timeout_ms": NO_LIMIT_MS if step.timeout is None else _set_ms(step.timeout, "timeout"),
        "max_retries": _count(step.max_retries, "max_retries"),
        "retry_delay_ms": _set_ms(step.retry_delay, "retry_delay"),
        "backoff": _member(step.backoff, BackoffStrategy, "backoff"),
        "rollbackable": _flag(step.rollbackable, "rollbackable"),
    }
    if step.step_type is not None:
        fields["step_type"] = _string(step.step_type, "step_type")
    if step.config is not None:
        fields["config"] = step.config
    if step.condition is not None:
        fields["condition"] = _string(step.condition, "condition")
    fields["depends_on"] = [_string(id_, "depends_on") for id_ in step.depends_on]
    fields["trigger_mode"] = _member(step.trigger_mode, TriggerMode, "trigger_mode")
    return (
        fields
        | _filled(
            {
                "sub_steps": [step_fields(sub) for sub in step.sub_steps],
                "total_timeout_ms": None
                if step.total_timeout is None
                else _set_ms(step.total_timeout, "total_timeout"),
                "max_retry_delay_ms": None
                if step.max_retry_delay is None
                else _set_ms(step.max_retry_delay, "max_retry_delay"),
                "retry_jitter": _number(step.retry_jitter, "retry_jitter") or None,
                "retry_on": [_failure(kind, "retry_on") for kind in step.retry_on],
                "give_up_on": [_failure(kind, "give_up_on") for kind in step.give_up_on],
                "priority": _whole(step.priority, "priority") or None,
                "undo_on_failure": _flag(step.undo_on_failure, "undo_on_failure") or None,
                "continue_on_error": _flag(step.continue_on_error, "continue_on_error") or None,
                "cancel_losers": _flag(step.cancel_losers, "cancel_losers") or None,
                "finally": _flag(step.finally_, "finally_") or None,
                "idempotent": None if _flag(step.idempotent, "idempotent") else False,
                "resources": _shares(step.resources),
                "rate": {name: _string(rate, f"rate.{name}") for name, rate in _object(step.rate, "rate").items()},
                "inline": _one_of(step.inline, INLINE, "inline"),
                "isolation": _one_of(step.isolation, ISOLATION, "isolation"),
            }
        )
        | _fan_out(step)
        | _polling(step)
    )


def _shares(value: Mapping[str, int]) -> dict[str, Json]:
    return {name: _count(number, f"resources.{name}") for name, number in _object(value, "resources").items()}


def _fan_out(step: StepDef) -> dict[str, Json]:
    """Return what a step says of the list that it runs over."""
    fields: dict[str, Json] = {}
    if step.foreach is not None:
        fields["foreach"] = step.foreach if isinstance(step.foreach, list) else _string(step.foreach, "foreach")
    if step.max_parallel is not None:
        fields["max_parallel"] = _count(step.max_parallel, "max_parallel")
    if step.max_items != MAX_ITEMS:
        fields["max_items"] = _count(step.max_items, "max_items")
    return fields


def _polling(step: StepDef) -> dict[str, Json]:
    """Return what a step says of how it polls."""
    fields: dict[str, Json] = {}
    if step.until is not None:
        fields["until"] = _string(step.until, "until")
    if step.delay != DELAY:
        fields["delay_ms"] = _set_ms(step.delay, "delay")
    if step.until_timeout is not None:
        fields["until_timeout_ms"] = _set_ms(step.until_timeout, "until_timeout")
    return fields


def _failure(kind: Failure, path: str) -> str | int:
    if isinstance(kind, int):
        return _count(kind, path)
    return class_name(kind) if isinstance(kind, type) else _string(kind, path)


def encode_flow(flow: FlowDef) -> str:
    """Return *flow* as szal-rs writes a FlowDef; raise `EncodeError` for a config that JSON cannot hold."""
    return dumps(flow_fields(flow), "flow", depth=MAX_DEPTH_OF_A_DOCUMENT)


def flow_fields(flow: FlowDef) -> dict[str, Json]:
    """Return *flow* as a JSON object that is the caller's own, but for what its steps are configured with."""
    try:
        steps = [step_fields(step) for step in flow.steps]
        sub_flows = [flow_fields(sub_flow) for sub_flow in flow.sub_flows]
    except RecursionError:
        raise EncodeError("steps", "sub-steps are nested too deeply") from None
    fields: dict[str, Json] = {
        "id": _string(flow.id, "id"),
        "name": _string(flow.name, "name"),
        "description": _string(flow.description, "description"),
        "mode": _member(flow.mode, FlowMode, "mode"),
        "steps": steps,
        "rollback_on_failure": _flag(flow.rollback_on_failure, "rollback_on_failure"),
        "timeout_ms": None if flow.timeout is None else _set_ms(flow.timeout, "timeout"),
        "version": _count(flow.version, "version"),
    }
    return fields | _filled(
        {
            "fail_fast": _flag(flow.fail_fast, "fail_fast") or None,
            "isolation": _one_of(flow.isolation, ISOLATION, "isolation"),
            "concurrency_key": None if (key := flow.concurrency_key) is None else _string(key, "concurrency_key"),
            "inputs": _object(flow.inputs, "inputs"),
            "sub_flows": sub_flows,
        }
    )


# -- results -----------------------------------------------------------------------------------------


def encode_step_result(result: StepResult) -> str:
    """Return *result* as JSON text; what the engine has encoded before is not encoded again."""
    name = f',"step_name":{name_json(result.step_name, "step_name")}' if result.step_name != "" else ""
    items = "" if result.items is None else f',"items":[{",".join(map(encode_step_result, result.items))}]'
    return f'{{"step_id":{name_json(result.step_id, "step_id")},{result.encoded or outcome_json(result)}{items}{name}}}'


def outcome_json(result: StepResult) -> str:
    """Return the fields of *result* that say how the step ended: what its own row and the whole record share."""
    try:
        output = result.encoded_output
        if output is None:
            depth = MAX_DEPTH if result.items is None else MAX_DEPTH + 1  # a list of outputs
            output = "null" if result.output is None else dumps(result.output, "output", depth=depth)
        # the look-up costs as much as the rest
        status = "Completed" if result.status is _COMPLETED else _member(result.status, StepStatus, "status")
        duration, attempts = result.duration, result.attempts
        is_usual = type(duration) is float and 0.0 <= duration < 1e12
        ms = int(duration * 1000 + 0.5) if is_usual else _ms(duration, "duration")
        if type(attempts) is not int or not 0 <= attempts <= MAX_COUNT:
            attempts = int(_count(attempts, "attempts"))
        text = f'"status":"{status}","output":{output},"duration_ms":{ms},"attempts":{attempts},'
        text += '"error":null' if result.error is None else f'"error":{message_json(result.error, "error")}'
        if result.error_type is not None:
            text += f',"error_type":{message_json(result.error_type, "error_type")}'
        started = _start(result)
    except EncodeError as error:
        raise EncodeError(f"{_shown_name(result)}.{error.path}", error.problem) from None
    if started is not None:
        text += f',"started_at":"{started}"'
    if result.undo_output is not None:
        text += f',"undo_output":{_undo_output_json(result)}'
    if result.is_masked:
        text += ',"masked":true'
    return f'{text},"caught":true' if result.is_caught else text


def _undo_output_json(result: StepResult) -> str:
    try:
        return dumps(result.undo_output, "undo_output")
    except EncodeError as error:
        raise EncodeError(f"{_shown_name(result)}.{error.path}", error.problem) from None


def _shown_name(result: StepResult) -> str:
    name: object = result.step_name
    return name if isinstance(name, str) else shown(name)


def _start(result: StepResult) -> str | None:
    """Return when a step started, as text: a Unix time as it is, since a datetime would cost as much as the rest."""
    moment = result._started_at
    if not isinstance(moment, float):
        return None if moment is None else time_json(moment, "started_at")
    try:
        seconds, micros = divmod(int(moment * 1_000_000 + 0.5), 1_000_000)
        return f"{_second(seconds)}.{micros:06}+00:00"
    except (ValueError, OverflowError):
        raise EncodeError("started_at", f"not a Unix time ({moment})") from None


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


def _result_json(result: FlowResult, record: ExecutionRecord) -> str:
    """Return the result of *record*; its id and state are left out where they are the record's."""
    name = name_json(result.flow_name, "flow_name")
    steps = ",".join(map(encode_step_result, result.steps))
    text = (
        f'{{"flow_name":{name},"steps":[{steps}],'
        f'"total_duration_ms":{_ms(result.total_duration, "total_duration")},'
        f'"success":{_bool(result.success, "success")},"rolled_back":{_bool(result.rolled_back, "rolled_back")}'
    )
    if result.execution_id is not None and result.execution_id != record.execution_id:
        text += f',"execution_id":{name_json(result.execution_id, "execution_id")}'
    if result.state is not None and result.state is not record.state:
        text += f',"state":"{_member(result.state, WorkflowState, "state")}"'
    if result.error is not None:
        text += f',"error":{message_json(result.error, "error")}'
    return text + "}"


def encode_record(record: ExecutionRecord) -> str:
    """Return *record* as the `data` of its row; raise `EncodeError` naming what cannot be written and read again.

    >>> record = ExecutionRecord("e1", "ci", started_at=datetime(2026, 6, 10, tzinfo=UTC))
    >>> encode_record(record)[:52]
    '{"execution_id":"e1","flow_name":"ci","state":"Creat'
    """
    result, finished = "null", "null"
    if record.result is not None:
        try:
            result = _result_json(record.result, record)
        except EncodeError as error:
            raise EncodeError(f"result.{error.path}", error.problem) from None
    if record.finished_at is not None:
        finished = f'"{time_json(record.finished_at, "finished_at")}"'
    text = (
        f'{{"execution_id":{name_json(record.execution_id, "execution_id")},'
        f'"flow_name":{name_json(record.flow_name, "flow_name")},'
        f'"state":"{_member(record.state, WorkflowState, "state")}",'
        f'"result":{result},"started_at":"{time_json(record.started_at, "started_at")}","finished_at":{finished}'
    )
    if inputs := _object(record.inputs, "inputs"):
        text += f',"inputs":{dumps(inputs, "inputs")}'
    if record.flow_id is not None:
        text += f',"flow_id":{name_json(record.flow_id, "flow_id")}'
    if record.flow_version is not None:
        text += f',"flow_version":{_count(record.flow_version, "flow_version"):d}'
    if record.parent_execution_id is not None:
        text += f',"parent_execution_id":{name_json(record.parent_execution_id, "parent_execution_id")}'
    if labels := checked_labels(record.labels):
        text += f',"labels":{dumps(labels, "labels")}'
    if record.error is not None:
        text += f',"error":{message_json(record.error, "error")}'
    if record.stop is not None:
        text += f',"stop":"{_member(record.stop, Stop, "stop")}"'
    return text + _place_json(record) + "}"


def _place_json(record: ExecutionRecord) -> str:
    text = "" if record.cwd is None else f',"cwd":{name_json(record.cwd, "cwd")}'
    if record.file is not None:
        text += f',"file":{name_json(record.file, "file")}'
    if record.secret_inputs:
        text += f',"secret_inputs":{dumps([*record.secret_inputs], "secret_inputs")}'
    if record.concurrency_key is not None:
        text += f',"concurrency_key":{name_json(record.concurrency_key, "concurrency_key")}'
    if record.traceparents:
        text += f',"traceparents":{dumps([*record.traceparents], "traceparents")}'
    return f'{text},"reopened":{_count(record.reopened, "reopened"):d}' if record.reopened else text


def checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels as a dict of their own; raise `EncodeError` for one that is no text.

    >>> checked_labels({"pr": 7})
    Traceback (most recent call last):
    szal.errors.EncodeError: labels["pr"]: expected a string, found int
    """
    found = _object(labels, "labels")
    for key, value in found.items():
        if not isinstance(key, str):
            raise EncodeError("labels", f"a key of type {type(key).__name__}")
        _string(value, f"labels[{encode_text(key)}]")
    return found
