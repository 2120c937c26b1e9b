"""How an execution gets on, as Server-Sent Events."""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from szal.engine.feed import outline_of
from szal.errors import ExecutionNotFound
from szal.events.progress import sse_frame
from szal.expressions.path import Json
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.number import check

if TYPE_CHECKING:
    from szal.engine.engine import Engine
    from szal.engine.status import ExecutionStatus
    from szal.engine.watching import Watch

__all__ = ["Changes", "EventStream", "Signs", "Telling", "sse_stream"]

_RETRY: Final = "retry: 1000\n\n"
"""In how many milliseconds a browser comes back."""

_ALIVE: Final = ": still here\n\n"


class Telling(Protocol):
    """What an event says of an execution. It may depend on what was said before."""

    def of(self, status: "ExecutionStatus") -> tuple[str, dict[str, Json]]:
        """Return an id of how it stands, which is the same in all processes, and what is to be told of that."""


class Signs:
    """That something has changed, and no more: whoever is told looks what."""

    def of(self, status: "ExecutionStatus") -> tuple[str, dict[str, Json]]:
        """Return what is to be told, and an id of how it stands."""
        return _digest(repr(outline_of(status))), {"state": str(status.state)}


class Changes:
    """How an execution stands, as JSON values; of its steps, those that have changed since it was told last."""

    def __init__(self, *, outputs: bool) -> None:
        self._outputs = outputs
        self._told: dict[str, Json] = {}

    def of(self, status: "ExecutionStatus") -> tuple[str, dict[str, Json]]:
        """Return what is to be told, and an id of how it stands, which is the same in all processes."""
        steps = {step.step_name: _shown_step(step, self._outputs) for step in status.results}
        head = _shown_head(status)
        changed = {name: shown for name, shown in steps.items() if self._told.get(name) != shown}
        self._told = steps
        return _id_of({**head, "steps": steps}), {**head, "steps": changed}


class EventStream(Iterator[str]):
    """Frames of an execution's events, as `sse_stream` returns them: what a WSGI server iterates over, and closes.

    One thread iterates, which blocks; `close` may be called from any.
    """

    def __init__(
        self,
        watch: "Watch",
        execution_id: str,
        last_event_id: str | None,
        keep_alive: float,
        telling: Telling,
    ) -> None:
        self._execution_id = execution_id
        self._last_event_id = last_event_id
        self._keep_alive = keep_alive
        self._telling = telling
        self._frames = deque([_RETRY])
        self._is_over = False
        self._watch = watch

    def __next__(self) -> str:
        if not self._frames:
            self._fill()
        if not self._frames:
            self.close()
            raise StopIteration
        return self._frames.popleft()

    def _fill(self) -> None:
        """Wait for what comes next, and put it there; nothing, where it is over."""
        if self._is_over:
            return
        try:
            status = self._watch.get(self._keep_alive)
        except ExecutionNotFound:  # it was removed
            self._end(None)
            return
        if status is None:
            if not self._watch.closed:
                self._frames.append(_ALIVE)
            return
        self._tell(status)
        if not status.state.is_live:
            self._end(str(status.state))

    def _tell(self, status: "ExecutionStatus") -> None:
        event_id, told = self._telling.of(status)
        if event_id != self._last_event_id:  # else that is what the browser has
            self._frames.append(sse_frame("status", event_id, told))
        self._last_event_id = event_id

    def _end(self, state: str | None) -> None:
        self._is_over = True
        self._frames.append(sse_frame("end", self._last_event_id, {"execution_id": self._execution_id, "state": state}))

    @property
    def is_known(self) -> bool:
        """Whether the browser has the end already: there is nothing to come, and no need to come back."""
        if len(self._frames) == 1:
            self._fill()
        return self._is_over and not any(frame.startswith("event: status") for frame in self._frames)

    def close(self) -> None:
        """End it. From any thread; again does nothing."""
        self._is_over = True
        self._watch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sse_stream(
    engine: "Engine",
    execution_id: str,
    last_event_id: str | None = None,
    keep_alive: float = 15.0,
    *,
    timeout: float | None = None,
    outputs: bool = False,
) -> EventStream:
    r"""Return how an execution gets on, as Server-Sent Events: now, and whenever it changes, until it has ended.

    An event ``status`` is a JSON object: ``execution_id``, ``flow_name``, ``state``, ``is_running``, ``error``,
    ``started_at``, ``finished_at``, ``waits``, ``queued``, ``queued_behind``, ``in_queue``, and ``steps``: by name,
    those that have changed since the event before, in the first all of them, with *outputs* what each returned, too. An
    event ``end`` is the last: a page closes its EventSource then, which would come back else. Its id says how the
    execution stood, so a browser that comes back with the *last_event_id* that it has (``Last-Event-ID``) is told
    nothing twice, by whichever process.

    After *keep_alive* seconds of quiet a comment is sent, which keeps proxies content, and by which a server notices
    that the browser is gone; then it closes the stream. After *timeout* seconds it ends without an ``end``, and the
    browser comes back. It holds the thread that iterates: docs/observe.md says how many may.

    Raises `ExecutionNotFound`, and what the store raises.

    >>> from szal import Engine, EngineConfig, FlowDef, StepDef, open_store
    >>> with Engine(lambda ctx: 42, EngineConfig(execution_store=open_store("memory:"))) as engine:
    ...     _ = engine.run(FlowDef("shop", steps=[StepDef("order")]), execution_id="order-42")
    ...     _, status, end = sse_stream(engine, "order-42")
    >>> status.splitlines()[0], end.splitlines()[0], end.splitlines()[2]
    ('event: status', 'event: end', 'data: {"execution_id":"order-42","state":"completed"}')
    """
    check("keep_alive", keep_alive)
    if not keep_alive > 0:
        raise ValueError(f"keep_alive must be positive, and is {keep_alive}")
    watch = engine.watch(execution_id, timeout)
    return EventStream(watch, execution_id, last_event_id, keep_alive, Changes(outputs=outputs))


def _shown_head(status: "ExecutionStatus") -> dict[str, Json]:
    return {
        "execution_id": status.execution_id,
        "flow_name": status.flow_name,
        "state": str(status.state),
        "is_running": status.is_running,
        "error": status.error,
        "started_at": status.started_at.isoformat(),
        "finished_at": status.finished_at and status.finished_at.isoformat(),
        "waits": [
            {"step": wait.step, "signal": wait.signal, "until": wait.until and wait.until.isoformat()}
            for wait in status.waits
        ],
        "queued": [step.as_json() for step in status.queued],
        "queued_behind": status.queued_behind,
        "in_queue": status.in_queue and status.in_queue.as_json(),
    }


def _shown_step(step: StepResult, outputs: bool) -> Json:
    shown: dict[str, Json] = {"status": str(step.status), "attempts": step.attempts, "duration": step.duration}
    if step.status is StepStatus.RUNNING and step.started_at is not None:
        shown["started_at"] = step.started_at.isoformat()
    if step.error is not None:
        shown["error"] = step.error
    if step.items is not None:
        shown["items"] = {"done": sum(item.status.has_ended for item in step.items), "of": len(step.items)}
    if step.report is not None:
        shown["report"] = _as_json(step.report.data)
    if outputs:
        shown["output"] = _as_json(step.output)
    return shown


def _as_json(value: Json) -> Json:
    """Return a value as it is, or, where JSON cannot hold it (no store has seen it), its repr."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
    return value


def _id_of(shown: Mapping[str, Json]) -> str:
    return _digest(json.dumps(shown, sort_keys=True))


def _digest(text: str) -> str:
    return blake2b(text.encode(errors="replace"), digest_size=9).hexdigest()
