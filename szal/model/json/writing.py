"""The model as JSON text."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from szal.errors import EncodeError
from szal.expressions.path import Json
from szal.model.class_name import class_name
from szal.model.flow import FlowDef
from szal.model.json.text import dumps, encode_text
from szal.model.results import ExecutionRecord, FlowResult, StepResult
from szal.model.state import StepStatus
from szal.model.step import StepDef

__all__ = [
    "NO_LIMIT_MS",
    "encode_checkpoint",
    "encode_flow",
    "encode_record",
    "encode_step_result",
    "flow_fields",
    "step_fields",
]

NO_LIMIT_MS: Final = 2**64 - 1  # Rust's u64::MAX: how a StepDef without a time limit is written
_COMPLETED = StepStatus.COMPLETED


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
            "retry_on": [kind if isinstance(kind, str) else class_name(kind) for kind in step.retry_on],
            "give_up_on": [kind if isinstance(kind, str) else class_name(kind) for kind in step.give_up_on],
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
    if record.stop is not None:
        text += f',"stop":"{record.stop.value}"'
    return text + "}"


def encode_checkpoint(
    result: StepResult,
    outcome: int | None = None,
    *,
    due: float | None = None,
    undo_error: str | None = None,
    age: int = 0,
    sub_flow: str | None = None,
    origin: str | None = None,
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
    if age:
        text += f',"age":{age}'
    if sub_flow is not None:
        text += f',"sub_flow":{_text(sub_flow)}'
    if origin is not None:
        text += f',"origin":{_text(origin)}'
    return f"{{{text}}}"
