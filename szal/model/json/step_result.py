"""The result of a step as JSON text and back."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from szal.errors import EncodeError
from szal.expressions.path import Json
from szal.model.json.reading import ObjectReader
from szal.model.json.text import MAX_DEPTH, dumps, loads
from szal.model.json.writing import checked_count, checked_member, measured_ms, message_json, name_json, time_json
from szal.model.moment import NO_LIMIT_MS
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.model.step import MAX_COUNT
from szal.number import shown

__all__ = [
    "decode_step_result",
    "encode_step_result",
    "outcome_json",
    "plain_outcome",
    "read_outcome",
    "read_step_results",
]

_COMPLETED: Final = StepStatus.COMPLETED
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 (the offset is written beside it)


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
        status = "Completed" if result.status is _COMPLETED else checked_member(result.status, StepStatus, "status")
        duration, attempts = result.duration, result.attempts
        is_usual = type(duration) is float and 0.0 <= duration < 1e12
        ms = int(duration * 1000 + 0.5) if is_usual else measured_ms(duration, "duration")
        if type(attempts) is not int or not 0 <= attempts <= MAX_COUNT:
            attempts = int(checked_count(attempts, "attempts"))
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


def read_step_results(read: ObjectReader) -> list[StepResult]:
    """Return the results that *read* has under "steps"."""
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
