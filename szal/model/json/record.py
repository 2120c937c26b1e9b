"""The record of an execution, with its result, as JSON text and back."""

import re
from collections.abc import Mapping
from typing import Final

from szal.errors import DecodeError, EncodeError
from szal.expressions.path import Json
from szal.model.json.reading import ObjectReader
from szal.model.json.step_result import encode_step_result, read_step_results
from szal.model.json.text import dumps, encode_text, loads
from szal.model.json.writing import (
    checked_count,
    checked_member,
    checked_object,
    checked_string,
    flag_json,
    measured_ms,
    message_json,
    name_json,
    time_json,
)
from szal.model.results import ExecutionRecord, FlowResult
from szal.model.state import Stop, WorkflowState

__all__ = ["checked_labels", "decode_record", "encode_record"]


def _result_json(result: FlowResult, record: ExecutionRecord) -> str:
    """Return the result of *record*; its id and state are left out where they are the record's."""
    name = name_json(result.flow_name, "flow_name")
    steps = ",".join(map(encode_step_result, result.steps))
    text = (
        f'{{"flow_name":{name},"steps":[{steps}],'
        f'"total_duration_ms":{measured_ms(result.total_duration, "total_duration")},'
        f'"success":{flag_json(result.success, "success")},"rolled_back":{flag_json(result.rolled_back, "rolled_back")}'
    )
    if result.execution_id is not None and result.execution_id != record.execution_id:
        text += f',"execution_id":{name_json(result.execution_id, "execution_id")}'
    if result.state is not None and result.state is not record.state:
        text += f',"state":"{checked_member(result.state, WorkflowState, "state")}"'
    if result.error is not None:
        text += f',"error":{message_json(result.error, "error")}'
    return text + "}"


def encode_record(record: ExecutionRecord) -> str:
    """Return *record* as the `data` of its row; raise `EncodeError` naming what cannot be written and read again.

    >>> from datetime import UTC, datetime
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
        f'"state":"{checked_member(record.state, WorkflowState, "state")}",'
        f'"result":{result},"started_at":"{time_json(record.started_at, "started_at")}","finished_at":{finished}'
    )
    if inputs := checked_object(record.inputs, "inputs"):
        text += f',"inputs":{dumps(inputs, "inputs")}'
    if record.flow_id is not None:
        text += f',"flow_id":{name_json(record.flow_id, "flow_id")}'
    if record.flow_version is not None:
        text += f',"flow_version":{checked_count(record.flow_version, "flow_version"):d}'
    if record.parent_execution_id is not None:
        text += f',"parent_execution_id":{name_json(record.parent_execution_id, "parent_execution_id")}'
    if labels := checked_labels(record.labels):
        text += f',"labels":{dumps(labels, "labels")}'
    if record.error is not None:
        text += f',"error":{message_json(record.error, "error")}'
    if record.stop is not None:
        text += f',"stop":"{checked_member(record.stop, Stop, "stop")}"'
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
    return f'{text},"reopened":{checked_count(record.reopened, "reopened"):d}' if record.reopened else text


def checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels as a dict of their own; raise `EncodeError` for one that is no text.

    >>> checked_labels({"pr": 7})
    Traceback (most recent call last):
    szal.errors.EncodeError: labels["pr"]: expected a string, found int
    """
    found = checked_object(labels, "labels")
    for key, value in found.items():
        if not isinstance(key, str):
            raise EncodeError("labels", f"a key of type {type(key).__name__}")
        checked_string(value, f"labels[{encode_text(key)}]")
    return found


def _read_result(value: Json, path: str) -> FlowResult:
    read = ObjectReader(value, path)
    return FlowResult(
        flow_name=read.get("flow_name", str),
        steps=read_step_results(read),
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
