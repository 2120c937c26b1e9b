"""Whether a failed attempt is followed by another one, and when.

A step's policy is three of tenacity's strategies, asked after a failure: a step that succeeds pays nothing
for having one. The wait itself is the scheduler's: it holds no worker and ends at once on cancellation.
"""

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from szal.errors import (
    AroundFailed,
    GiveUp,
    MissingValue,
    NotSendable,
    OutputMasked,
    OutputNotSerializable,
    RetryAfter,
    RetryExhausted,
    ShellFailed,
    UnknownOutcome,
    ValueNotJson,
    describe,
    partial_output_of,
)
from szal.interruption import is_interruption
from szal.logs import SafeLogger
from szal.model.class_name import class_name, is_called
from szal.model.step import Failure, StepDef
from szal.raised import cause_of, is_a, trace_of
from szal.scheduler.spent import is_meant

if TYPE_CHECKING:
    from tenacity import RetryCallState, Retrying

__all__ = ["Decision", "decide", "get_ready", "policy"]

logger = SafeLogger(logging.getLogger(__name__))

_FINAL: Final = (GiveUp, MissingValue, NotSendable, OutputMasked, OutputNotSerializable, UnknownOutcome, ValueNotJson)


@attrs.frozen(eq=False, repr=False)
class Decision:
    """What follows a failed attempt: another one after `delay` seconds, or (None) the end with `error`."""

    delay: float | None
    error: BaseException


def get_ready() -> None:
    """Import what decides on failures, before there is one: a step may fail because no file can be opened any more."""
    import pathlib  # noqa: F401 (for the names of classes)

    import tenacity  # noqa: F401


def decide(step: StepDef, attempt: int, error: BaseException, mask: Callable[[str], str] | None = None) -> Decision:
    """Return what follows when attempt number *attempt* (from 1) of *step* failed with *error*.

    *mask* masks what must not be seen of what that says.

    >>> step = StepDef("fetch", max_retries=1, retry_delay=0.5)
    >>> decide(step, 1, ValueError("no")).delay
    0.5
    >>> print(decide(step, 2, ValueError("no")).error)
    retry exhausted: fetch after 2 attempts: ValueError: no
    """
    if not step.max_retries:
        return Decision(None, error)
    from tenacity import RetryCallState

    strategies = policy(step)
    state = RetryCallState(strategies, None, (), {})
    state.attempt_number = attempt
    raised = _meant_by(error)
    state.set_exception((type(raised), raised, trace_of(raised)))
    try:
        if not strategies.retry(state):
            return Decision(None, error)
        if not strategies.stop(state):
            return Decision(strategies.wait(state), error)
    except BaseException as problem:  # of a class of the program's, which decides by itself what it is
        if is_interruption(problem):
            raise
        told = problem if mask is None else None  # its context is what must be masked
        logger.error("cannot tell whether step %s is to be retried: it is not", step.name, exc_info=told)
        return Decision(None, error)
    exhausted = RetryExhausted(step.name, attempt, describe(error, mask))
    exhausted.__cause__ = error
    exhausted.partial_output = partial_output_of(error)
    return Decision(None, exhausted)


def _meant_by(error: BaseException) -> BaseException:
    """Return what a step's policy is asked about: of what is entered around an attempt, what came up in it."""
    return (cause_of(error) or error) if is_a(error, AroundFailed) else error


def policy(step: StepDef) -> "Retrying":
    """Return the step's strategies, as tenacity has them."""
    from tenacity import Retrying, retry_if_exception, stop_after_attempt

    return Retrying(
        retry=retry_if_exception(lambda error: _is_retried(step, error)),
        stop=stop_after_attempt(step.max_retries + 1),
        wait=lambda state: _wait(step, state),
    )


def _is_retried(step: StepDef, error: BaseException) -> bool:
    if is_meant(error, *_FINAL) or _matches(step.give_up_on, error):
        return False
    if is_meant(error, RetryAfter):
        return True
    if step.retry_on:
        return _matches(step.retry_on, error)
    return is_a(error, Exception)  # SystemExit and its like are retried only by name


def _matches(kinds: tuple[Failure, ...], error: BaseException) -> bool:
    return any(_is_one(kind, error) for kind in kinds)


def _is_one(kind: Failure, error: BaseException) -> bool:
    if isinstance(kind, int):
        return isinstance(error, ShellFailed) and error.exit_status == kind
    return _named(kind, error) if isinstance(kind, str) else _is_a(kind, error)


def _is_a(kind: type[BaseException], error: BaseException) -> bool:
    """Whether *error* is of *kind*, or of the class that was *kind* before its module was loaded again, or since."""
    if isinstance(error, kind) or "<locals>" in kind.__qualname__:  # each call of that function makes another class
        return isinstance(error, kind)
    name = class_name(kind)
    return any(class_name(cls) == name for cls in type(error).__mro__)


def _named(name: str, error: BaseException) -> bool:
    """Whether *name* is a class of *error*: by its own module, or by one that has it loaded under that name."""
    name = name.replace(":", ".")
    if any(is_called(cls, name) for cls in type(error).__mro__):
        return True
    module, _, attribute = name.rpartition(".")
    found = getattr(sys.modules.get(module or "builtins"), attribute, None)
    return isinstance(found, type) and isinstance(error, found)


def _wait(step: StepDef, state: "RetryCallState") -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, RetryAfter) and is_meant(error, RetryAfter):
        return max(0.0, error.seconds)
    delay = step.backoff.delay(step.retry_delay, state.attempt_number)
    if step.retry_jitter:
        import random

        delay *= 1 + random.uniform(-step.retry_jitter, step.retry_jitter)  # noqa: S311 (not a secret)
    return max(0.0, delay if step.max_retry_delay is None else min(delay, step.max_retry_delay))
