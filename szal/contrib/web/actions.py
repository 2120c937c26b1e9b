"""What is done with one execution: it is told something, or taken up on a thread of this process."""

import logging
import threading
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, Literal, cast

import attrs

from szal.clock import monotonic
from szal.contrib.web.source import store_of
from szal.engine.engine import Engine
from szal.errors import DecodeError, ExecutionOwned, SzalError
from szal.expressions.path import Json
from szal.logs import SafeLogger
from szal.model.json.text import loads

__all__ = ["Act", "Refused", "json_of", "perform"]

logger = SafeLogger(logging.getLogger(__name__))

_BEGINS_WITHIN: Final = 10.0
_LOOKS_EVERY: Final = 0.02


class Act(Enum):
    """What can be done with an execution. The value is the last part of the address."""

    RESUME = "resume"
    RERUN = "rerun"
    CANCEL = "cancel"
    SIGNAL = "signal"
    RESOLVE = "resolve"


@attrs.define
class Refused(SzalError):
    """What somebody wants done cannot be done with what was typed, or as the execution stands."""

    problem: str

    def __str__(self) -> str:
        return self.problem


def json_of(text: str) -> Json:
    """Return the value of JSON that was typed; null where nothing was. Raises `Refused` with the place."""
    if not text.strip():
        return None
    try:
        return loads(text)
    except DecodeError as error:
        raise Refused(f'that is no JSON ({error}). A text stands in double quotes: "yes"') from error


def perform(engine: Engine, act: Act, execution_id: str, form: Mapping[str, str]) -> str:
    """Do it, and return the id of the execution to look at then. Raises `Refused`, and what the engine raises."""
    try:
        return _DOERS[act](engine, execution_id, form)
    except SzalError:
        raise
    except ValueError as error:
        raise Refused(str(error)) from error


def _cancel(engine: Engine, execution_id: str, _form: Mapping[str, str]) -> str:
    if not engine.cancel(execution_id):
        raise Refused("it has ended, or nothing of it is left that could be cancelled")
    return execution_id


def _signal(engine: Engine, execution_id: str, form: Mapping[str, str]) -> str:
    name = form.get("name", "").strip()
    if not name:
        raise Refused("which signal? Its name is missing")
    signal_id = form.get("signal_id") or None  # of the form, so that sending it twice does no harm
    sent = engine.signal(execution_id, name, json_of(form.get("value", "")), signal_id=signal_id)
    if not sent and not engine.look(execution_id).state.is_live:
        raise Refused("it has ended: no signal reaches it any more")
    return execution_id


def _resolve(engine: Engine, execution_id: str, form: Mapping[str, str]) -> str:
    decision = form.get("decision", "")
    if decision not in ("completed", "failed", "retry"):
        raise Refused("completed, failed or retry? The decision is missing")
    output = json_of(form.get("output", "")) if decision == "completed" else None
    engine.resolve(
        execution_id, form.get("step", ""), cast('Literal["completed", "failed", "retry"]', decision), output
    )
    return execution_id


def _resume(engine: Engine, execution_id: str, _form: Mapping[str, str]) -> str:
    status = engine.look(execution_id)
    if not status.state.is_live:
        raise Refused("it has ended: it can be run again")
    if status.is_running:
        raise ExecutionOwned(execution_id)
    engine.check(execution_id)

    def has_begun() -> bool:
        return engine.look(execution_id).is_running

    _begin(lambda: engine.resume(execution_id), has_begun, execution_id)
    return execution_id


def _rerun(engine: Engine, execution_id: str, form: Mapping[str, str]) -> str:
    new_id = form.get("new_id") or f"{execution_id}-rerun"
    from_step, inputs = form.get("from_step") or None, json_of(form.get("inputs", ""))
    if not (inputs is None or isinstance(inputs, dict)):
        raise Refused('inputs are an object: {"name": value}')

    def has_begun() -> bool:
        return store_of(engine).get(new_id) is not None

    _begin(lambda: engine.rerun(execution_id, from_step, inputs, new_id=new_id), has_begun, new_id)
    return new_id


_DOERS: Final[Mapping[Act, Callable[[Engine, str, Mapping[str, str]], str]]] = {
    Act.RESUME: _resume,
    Act.RERUN: _rerun,
    Act.CANCEL: _cancel,
    Act.SIGNAL: _signal,
    Act.RESOLVE: _resolve,
}


def _begin(run: Callable[[], object], has_begun: Callable[[], bool], execution_id: str) -> None:
    """Have a thread run an execution, and return once it has begun; raise what keeps it from that.

    The thread sees nothing of the request. It ends with the process: what it has not done, another one goes on with.
    """
    ended, raised = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            run()
        except BaseException as error:
            raised.append(error)
            if is_over.is_set():  # nobody waits for it any more
                logger.exception("execution %s, begun by the dashboard, came to nothing", execution_id)
        finally:
            ended.set()

    is_over = threading.Event()
    threading.Thread(target=work, name=f"szal-web-{execution_id}", daemon=True).start()
    until = monotonic() + _BEGINS_WITHIN
    while not (ended.wait(_LOOKS_EVERY) or has_begun() or monotonic() >= until):
        pass
    is_over.set()
    if raised and not isinstance(raised[0], ExecutionOwned):  # who runs it already does what is wanted
        raise raised[0]
