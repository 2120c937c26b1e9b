"""A flow as JSON text and back, as szal-rs writes a FlowDef."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from szal.errors import DecodeError, EncodeError
from szal.expressions.path import Json
from szal.model.analysis import FlowMode
from szal.model.class_name import class_name
from szal.model.flow import FlowDef
from szal.model.json.reading import ObjectReader, kind_of
from szal.model.json.text import MAX_DEPTH_OF_A_DOCUMENT, dumps, loads
from szal.model.json.writing import (
    checked_count,
    checked_flag,
    checked_member,
    checked_number,
    checked_object,
    checked_string,
    checked_whole,
    checked_word,
    filled,
    set_ms,
)
from szal.model.moment import NO_LIMIT_MS
from szal.model.step import DELAY, INLINE, ISOLATION, MAX_ITEMS, BackoffStrategy, Failure, StepDef, TriggerMode
from szal.number import shown

__all__ = ["decode_flow", "encode_flow", "flow_fields", "step_fields"]

_Word = TypeVar("_Word", bound=str)


def step_fields(step: StepDef) -> dict[str, Json]:
    """Return *step* as a JSON object that is the caller's own, but for its config."""
    try:
        return _step_fields(step)
    except EncodeError as error:
        raise EncodeError(f"step {shown(step.name)}: {error.path}", error.problem) from None


def _step_fields(step: StepDef) -> dict[str, Json]:
    fields: dict[str, Json] = {
        "id": checked_string(step.id, "id"),
        "name": checked_string(step.name, "name"),
        "description": checked_string(step.description, "description"),
        "timeout_ms": NO_LIMIT_MS if step.timeout is None else set_ms(step.timeout, "timeout"),
        "max_retries": checked_count(step.max_retries, "max_retries"),
        "retry_delay_ms": set_ms(step.retry_delay, "retry_delay"),
        "backoff": checked_member(step.backoff, BackoffStrategy, "backoff"),
        "rollbackable": checked_flag(step.rollbackable, "rollbackable"),
    }
    if step.step_type is not None:
        fields["step_type"] = checked_string(step.step_type, "step_type")
    if step.config is not None:
        fields["config"] = step.config
    if step.condition is not None:
        fields["condition"] = checked_string(step.condition, "condition")
    fields["depends_on"] = [checked_string(id_, "depends_on") for id_ in step.depends_on]
    fields["trigger_mode"] = checked_member(step.trigger_mode, TriggerMode, "trigger_mode")
    return (
        fields
        | filled(
            {
                "sub_steps": [step_fields(sub) for sub in step.sub_steps],
                "total_timeout_ms": None if step.total_timeout is None else set_ms(step.total_timeout, "total_timeout"),
                "max_retry_delay_ms": None
                if step.max_retry_delay is None
                else set_ms(step.max_retry_delay, "max_retry_delay"),
                "retry_jitter": checked_number(step.retry_jitter, "retry_jitter") or None,
                "retry_on": [_failure(kind, "retry_on") for kind in step.retry_on],
                "give_up_on": [_failure(kind, "give_up_on") for kind in step.give_up_on],
                "priority": checked_whole(step.priority, "priority") or None,
                "undo_on_failure": checked_flag(step.undo_on_failure, "undo_on_failure") or None,
                "continue_on_error": checked_flag(step.continue_on_error, "continue_on_error") or None,
                "cancel_losers": checked_flag(step.cancel_losers, "cancel_losers") or None,
                "finally": checked_flag(step.finally_, "finally_") or None,
                "idempotent": None if checked_flag(step.idempotent, "idempotent") else False,
                "resources": _shares(step.resources),
                "rate": {
                    name: checked_string(rate, f"rate.{name}")
                    for name, rate in checked_object(step.rate, "rate").items()
                },
                "inline": checked_word(step.inline, INLINE, "inline"),
                "isolation": checked_word(step.isolation, ISOLATION, "isolation"),
            }
        )
        | _fan_out(step)
        | _polling(step)
    )


def _shares(value: Mapping[str, int]) -> dict[str, Json]:
    return {
        name: checked_count(number, f"resources.{name}") for name, number in checked_object(value, "resources").items()
    }


def _fan_out(step: StepDef) -> dict[str, Json]:
    """Return what a step says of the list that it runs over."""
    fields: dict[str, Json] = {}
    if step.foreach is not None:
        fields["foreach"] = step.foreach if isinstance(step.foreach, list) else checked_string(step.foreach, "foreach")
    if step.max_parallel is not None:
        fields["max_parallel"] = checked_count(step.max_parallel, "max_parallel")
    if step.max_items != MAX_ITEMS:
        fields["max_items"] = checked_count(step.max_items, "max_items")
    return fields


def _polling(step: StepDef) -> dict[str, Json]:
    """Return what a step says of how it polls."""
    fields: dict[str, Json] = {}
    if step.until is not None:
        fields["until"] = checked_string(step.until, "until")
    if step.delay != DELAY:
        fields["delay_ms"] = set_ms(step.delay, "delay")
    if step.until_timeout is not None:
        fields["until_timeout_ms"] = set_ms(step.until_timeout, "until_timeout")
    return fields


def _failure(kind: Failure, path: str) -> str | int:
    if isinstance(kind, int):
        return checked_count(kind, path)
    return class_name(kind) if isinstance(kind, type) else checked_string(kind, path)


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
        "id": checked_string(flow.id, "id"),
        "name": checked_string(flow.name, "name"),
        "description": checked_string(flow.description, "description"),
        "mode": checked_member(flow.mode, FlowMode, "mode"),
        "steps": steps,
        "rollback_on_failure": checked_flag(flow.rollback_on_failure, "rollback_on_failure"),
        "timeout_ms": None if flow.timeout is None else set_ms(flow.timeout, "timeout"),
        "version": checked_count(flow.version, "version"),
    }
    return fields | filled(
        {
            "fail_fast": checked_flag(flow.fail_fast, "fail_fast") or None,
            "isolation": checked_word(flow.isolation, ISOLATION, "isolation"),
            "concurrency_key": None
            if (key := flow.concurrency_key) is None
            else checked_string(key, "concurrency_key"),
            "inputs": checked_object(flow.inputs, "inputs"),
            "sub_flows": sub_flows,
        }
    )


def _read_text(value: Json, path: str) -> str:
    if type(value) is not str:
        raise DecodeError(path, f"expected a string, found {kind_of(value)}")
    return value


def _read_failure(value: Json, path: str) -> str | int:
    if type(value) is int:
        return value
    if type(value) is not str:
        raise DecodeError(path, f"expected a string or a whole number, found {kind_of(value)}")
    return value


def _read_step(value: Json, path: str) -> StepDef:
    read = ObjectReader(value, path)
    jitter = read.values.get("retry_jitter", 0.0)
    if type(jitter) not in (int, float):
        raise DecodeError(read.at("retry_jitter"), f"expected a number, found {kind_of(jitter)}")
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
