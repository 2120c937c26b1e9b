"""Whether an engine can work: what a ``/healthz`` of a web application asks."""

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import attrs

from szal.clock import monotonic
from szal.errors import describe
from szal.waiters import Flag

if TYPE_CHECKING:
    from szal.stores.sink.stats import SinkStats

__all__ = ["Health", "Probe", "problems_of"]

_SLOW: Final = 10.0
"""From how many seconds on it is a problem that what is to be written is not."""


@attrs.frozen(kw_only=True)
class Health:
    """Whether an engine can work, and what of it was found. False where it cannot.

    >>> bool(Health(problems=("the engine is closed",)))
    False
    """

    problems: tuple[str, ...] = ()
    """What is wrong, each a sentence for people; nothing where all is well."""
    store: str | None = None
    """What messages call the store; None where there is none."""
    answered: float | None = None
    """In how many seconds the store took a write, and took it back; None where it did not, or there is none."""
    writer: "SinkStats | None" = None
    """Of a sink: how many writes are pending, and for how long (`SinkStats.lag`)."""
    heartbeat: float | None = None
    """How many seconds ago the leases were renewed that the engine holds; None where it holds none."""
    running: int = 0
    """How many executions run here now."""
    abandoned: int = 0
    """How many handlers have been left behind so far."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok


def problems_of(
    *, is_closed: bool, store: str | None, writer: "SinkStats | None", heartbeat: float | None, ttl: float
) -> Iterator[str]:
    """Yield what is wrong with what is known without asking the store."""
    if is_closed:
        yield "the engine is closed"
    if writer is not None and writer.lag >= _SLOW:
        why = "" if writer.last_error is None else f" ({describe(writer.last_error)})"
        yield f"{store}: {writer.pending} writes are pending, the first for {writer.lag:.0f} s{why}"
    if heartbeat is not None and heartbeat >= ttl * 2 / 3:
        yield f"the leases were renewed {heartbeat:.0f} s ago, and run out after {ttl:g} s"


class Probe:
    """Asks a store whether it can be written to, on a thread: who wants to know waits for a limited time.

    There is one such thread at a time: while a store does not answer, all wait for the same answer. From any thread.
    """

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._asking: _Asking | None = None

    def answer(self, timeout: float) -> tuple[float | None, str | None]:
        """Return in how many seconds the store answered, or what is wrong; raises nothing."""
        asking = self._asking
        if asking is None or asking.over.is_set():
            asking = self._asking = _Asking(self._ask)
            try:
                threading.Thread(target=asking.run, name="szal-health", daemon=True).start()
            except RuntimeError as error:  # no thread is to be had: then nothing runs, either
                self._asking = None
                return None, describe(error)
        if not asking.over.wait(timeout):
            return None, f"the store has not answered for {monotonic() - asking.began:.1f} s"
        return asking.took, asking.problem


class _Asking:
    """One question, and its answer once it is `over`."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self.began = monotonic()
        self.took: float | None = None
        self.problem: str | None = None
        self.over = Flag()

    def run(self) -> None:
        """Ask."""
        try:
            self._ask()
        except BaseException as error:  # noqa: BLE001 (it is told)
            self.problem = describe(error)
        else:
            self.took = monotonic() - self.began
        self.over.set()
