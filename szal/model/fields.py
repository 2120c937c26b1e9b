"""What a field of a definition may hold: what it says can be recorded, and read by szal-rs."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from szal.function import ONE_CONTEXT, problem_of_function
from szal.model.exception_name import problem_of_exception_name
from szal.model.rate import problem_of_rates
from szal.model.state import NamedEnum
from szal.model.step import (
    DELAY,
    ENGINE_TYPES,
    INLINE,
    ISOLATION,
    MAX_COUNT,
    BackoffStrategy,
    Inline,
    StepDef,
    TriggerMode,
)
from szal.number import problem_of, shown

__all__ = [
    "problem_of_id",
    "problem_of_isolation",
    "problem_of_member",
    "problem_of_name",
    "problem_of_shares",
    "problem_of_status",
    "problem_of_text",
    "problems_of_flow",
    "problems_of_inline",
    "problems_of_names",
    "problems_of_step",
]

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")


def problem_of_text(value: object) -> str | None:
    """Return what keeps *value* from being text that can be recorded, as the end of a sentence; None: nothing.

    >>> problem_of_text("build"), problem_of_text(None)
    (None, 'is not a string (None)')
    """
    if not isinstance(value, str):
        return f"is not a string ({shown(value)})"
    if "\0" in value:
        return f"holds a NUL character ({shown(value)}), which not every store can hold"
    if value.isascii():
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return f"holds a lone surrogate ({shown(value)})"
    return None


def problem_of_name(value: object) -> str | None:
    """Return what keeps *value* from being a name: text that can be recorded, and is not empty; None: nothing.

    >>> problem_of_name("db"), problem_of_name("")
    (None, 'is empty')
    """
    return problem_of_text(value) or (None if value else "is empty")


def problem_of_id(value: object) -> str | None:
    """Return what keeps *value* from being the id of a step or a flow: szal-rs reads nothing but UUIDs there.

    >>> problem_of_id("order-42")
    "is not a UUID ('order-42'), which szal-rs reads only"
    """
    if not isinstance(value, str):
        return f"is not a string ({shown(value)})"
    return None if _UUID.fullmatch(value) else f"is not a UUID ({shown(value)}), which szal-rs reads only"


def _problem_of_number(value: object) -> str | None:
    problem = problem_of(value)
    return f"is negative ({shown(value)})" if problem is None and value < 0 else problem  # type: ignore[operator]


def _problem_of_duration(value: object) -> str | None:
    if isinstance(value, str):  # one that could not be read
        return f'is no duration ({shown(value)}), as 90, "90s", "10m", "1h30m" and "250ms" are'
    return _problem_of_number(value)


def _problem_of_count(value: object) -> str | None:
    problem = problem_of(value, whole=True) or _problem_of_number(value)
    return f"is more than {MAX_COUNT} ({shown(value)})" if problem is None and value > MAX_COUNT else problem  # type: ignore[operator]


def _problem_of_size(value: object) -> str | None:
    problem = _problem_of_count(value)
    return f"is not at least 1 ({shown(value)})" if problem is None and not value else problem


def _problem_of_whole(value: object) -> str | None:
    problem = problem_of(value, whole=True)
    if problem is None and abs(value) > MAX_COUNT:  # type: ignore[arg-type]
        return f"is not between {-MAX_COUNT} and {MAX_COUNT} ({shown(value)})"
    return problem


def _problem_of_flag(value: object) -> str | None:
    return None if isinstance(value, bool) else f"is neither True nor False ({shown(value)})"


def _problem_of_question(value: object) -> str | None:
    return problem_of_function(value, ONE_CONTEXT)


def _problem_of_inline(value: object) -> str | None:
    return None if isinstance(value, str) and value in INLINE else f"is none of {', '.join(INLINE)} ({shown(value)})"


def problem_of_isolation(value: object) -> str | None:
    """Return what keeps *value* from saying where handlers are called; None: nothing, or it says nothing."""
    known = value is None or (isinstance(value, str) and value in ISOLATION)
    return None if known else f"is none of {', '.join(ISOLATION)} ({shown(value)})"


def problem_of_shares(value: object) -> str | None:
    """Return what keeps *value* from saying how much there is, or needed, of what is shared.

    >>> problem_of_shares({"db": 1}), problem_of_shares({"db": 0})
    (None, "of 'db' is not at least 1 (0)")
    """
    if not isinstance(value, Mapping):
        return f"is no mapping of names to numbers ({shown(value)})"
    for name, number in value.items():
        if (problem := problem_of_name(name)) is not None:
            return f"has a name that {problem}"
        if (problem := _problem_of_size(number)) is not None:
            return f"of {name!r} {problem}"
    return None


_LAST_STATUS: Final = 255


def problem_of_status(status: int) -> str | None:
    """Return why no command fails with *status*; None: one may.

    >>> problem_of_status(75), problem_of_status(0)
    (None, 'no command fails with 0: exit statuses of failures are 1 to 255')
    """
    if 0 < status <= _LAST_STATUS:
        return None
    return f"no command fails with {shown(status)}: exit statuses of failures are 1 to {_LAST_STATUS}"


def _problem_of_failure(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return problem_of_status(value)
    known = issubclass(value, BaseException) if isinstance(value, type) else problem_of_text(value) is None
    return None if known else f"{shown(value)} is no exception class, no name of one and no exit status"


def problems_of_names(step: StepDef) -> Iterator[str]:
    """Yield what is wrong with the names of exceptions that *step* is tried again after, or not."""
    for field in ("retry_on", "give_up_on"):
        for item in getattr(step, field):
            if isinstance(item, str) and (problem := problem_of_exception_name(item)) is not None:
                yield f"{field}: {problem}"


def problem_of_member(value: object, kind: type[NamedEnum]) -> str | None:
    """Return what keeps *value* from being a member of that enum.

    >>> problem_of_member("expo", BackoffStrategy)
    "is none of fixed, linear, exponential ('expo')"
    """
    return None if isinstance(value, kind) else f"is none of {', '.join(map(str, kind))} ({shown(value)})"


def _member_of(kind: type[NamedEnum]) -> Callable[[object], str | None]:
    return lambda value: problem_of_member(value, kind)


def _problem_of_rates(value: object) -> str | None:
    return problem_of_rates(value, problem_of_name)


_STEP: Final[tuple[tuple[str, Callable[[object], str | None]], ...]] = (
    ("description", problem_of_text),
    ("max_retries", _problem_of_count),
    ("retry_delay", _problem_of_duration),
    ("retry_jitter", _problem_of_number),
    ("delay", _problem_of_duration),
    ("backoff", _member_of(BackoffStrategy)),
    ("trigger_mode", _member_of(TriggerMode)),
    ("rollbackable", _problem_of_flag),
    ("priority", _problem_of_whole),
    ("undo_on_failure", _problem_of_flag),
    ("continue_on_error", _problem_of_flag),
    ("cancel_losers", _problem_of_flag),
    ("finally_", _problem_of_flag),
    ("idempotent", _problem_of_flag),
    ("max_items", _problem_of_size),
    ("resources", problem_of_shares),
    ("rate", _problem_of_rates),
)
_STEP_OR_NONE: Final[tuple[tuple[str, Callable[[object], str | None]], ...]] = (
    ("timeout", _problem_of_duration),
    ("total_timeout", _problem_of_duration),
    ("max_retry_delay", _problem_of_duration),
    ("until_timeout", _problem_of_duration),
    ("step_type", problem_of_text),
    ("max_parallel", _problem_of_size),
    ("inline", _problem_of_inline),
    ("isolation", problem_of_isolation),
    ("done_when", _problem_of_question),
)


def problems_of_step(step: StepDef) -> Iterator[str]:
    """Yield what is wrong with single fields of *step*, but for its name and its id."""
    for field, problem_with in _STEP_OR_NONE:
        value = getattr(step, field)
        if value is not None and (problem := problem_with(value)) is not None:
            yield f"{field} {problem}"
    for field, problem_with in _STEP:
        if (problem := problem_with(getattr(step, field))) is not None:
            yield f"{field} {problem}"
    for field in ("retry_on", "give_up_on"):
        for item in getattr(step, field):
            if (problem := _problem_of_failure(item)) is not None:
                yield f"{field}: {problem}"
    named: tuple[object, ...] = step.depends_on
    for item in named:
        if not isinstance(item, str):
            yield f"depends_on holds what is no step and no id of one ({shown(item)})"
    if step.step_type in sorted(ENGINE_TYPES):
        yield from _problems_of_engine_step(step)
    else:
        yield from problems_of_inline(step, step.inline)
        yield from _problems_of_isolation(step)
    yield from _problems_of_polling(step)
    if step.finally_ is True:
        yield from _problems_of_finally(step)


def _problems_of_engine_step(step: StepDef) -> Iterator[str]:
    """Yield what does not go together with being done by the engine itself."""
    if step.undo_on_failure is True:
        yield f"undo_on_failure of a step of type {step.step_type!r}: what fails there is undone, or did nothing"
    if step.total_timeout is not None:
        yield f"total_timeout of a step of type {step.step_type!r}: it is for steps that a handler does"
    if step.inline is not None:
        yield f"inline of a step of type {step.step_type!r}: it is for steps that a handler does"
    if step.isolation is not None:
        yield f"isolation of a step of type {step.step_type!r}: it is for steps that a handler does"
    if step.resources:
        yield f"resources of a step of type {step.step_type!r}: they are for steps that a handler does"
    if step.rate:
        yield f"rate of a step of type {step.step_type!r}: it is for steps that a handler does"
    if step.until is not None:
        yield f"until of a step of type {step.step_type!r}: it is for steps that a handler does"


def _problems_of_polling(step: StepDef) -> Iterator[str]:
    """Yield what does not go together with being called until something holds, or is for that alone."""
    if step.until is None:
        if step.until_timeout is not None:
            yield "until_timeout without until"
        if step.delay != DELAY:
            yield "delay without until: the wait between attempts is retry_delay"
    elif step.idempotent is False:
        yield "until and idempotent=False: a poll is repeated, so it has to be one that may be"


def problems_of_inline(step: StepDef, inline: Inline | None, where: str = "") -> Iterator[str]:
    """Yield what does not go together with being called on the coordinating thread only, if *inline* says that."""
    for field in () if inline != "always" else ("timeout", "total_timeout"):
        if getattr(step, field) is not None:
            yield f"{field} and inline='always'{where}: nobody can stop waiting for the thread that coordinates"
    if inline == "always" and step.isolation == "process":
        yield f"isolation='process' and inline='always'{where}: it is called in a child process, or on that thread"


def _problems_of_isolation(step: StepDef) -> Iterator[str]:
    """Yield what does not go together with being called in a child process."""
    if step.isolation == "process" and step.step_type == "shell":
        yield "isolation='process' of a step of type 'shell': a command is a process already"


def _problems_of_finally(step: StepDef) -> Iterator[str]:
    """Yield what does not go together with running when all else is over."""
    trigger: object = step.trigger_mode  # anything may stand there
    if isinstance(trigger, TriggerMode) and trigger is not TriggerMode.ALL:
        yield f"trigger mode {trigger} of a finally step: it runs whatever became of the others"
    if step.sub_steps:
        yield "sub_steps of a finally step: it stands alone"
    if step.rollbackable is True or step.undo_on_failure is True:
        yield "rollbackable and finally_: a finally step runs after the undoing, and is not undone"
    if step.idempotent is False:
        yield "idempotent=False of a finally step: after a crash it runs again, as nobody can decide on it then"
    if step.step_type == "wait":
        yield "a finally step cannot wait for a signal: its flow is over"


def problems_of_flow(flow: Any) -> Iterator[str]:
    """Yield what is wrong with a flow's own fields, but for its mode and its steps."""
    checks: dict[str, Callable[[object], str | None]] = {
        "name": problem_of_text,
        "id": problem_of_id,
        "description": problem_of_text,
        "version": _problem_of_count,
        "rollback_on_failure": _problem_of_flag,
        "fail_fast": _problem_of_flag,
        "isolation": problem_of_isolation,
        "timeout": lambda value: None if value is None else _problem_of_duration(value),
        "file": lambda value: None if value is None else problem_of_text(value),
        "inputs": lambda value: None if isinstance(value, Mapping) else f"are no mapping ({shown(value)})",
    }
    for field, problem_with in checks.items():
        if (problem := problem_with(getattr(flow, field))) is not None:
            yield f"the flow's {field} {problem}"
