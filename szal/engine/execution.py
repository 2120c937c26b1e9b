"""A run in the background, as whoever started it sees it."""

import contextvars
import threading
from collections.abc import Callable

from szal.model.results import FlowResult
from szal.scheduler.cancel import CancellationToken

__all__ = ["Execution"]


class Execution:
    """A run in the background, as `Engine.start` returns it. Its methods may be called from any thread."""

    def __init__(self, execution_id: str, token: CancellationToken, drive: Callable[[], FlowResult]) -> None:
        self.execution_id = execution_id
        self._token = token
        self._drive = drive
        self._result: FlowResult | None = None
        self._error: BaseException | None = None
        work = contextvars.copy_context().run
        self._thread = threading.Thread(target=work, args=(self._work,), name=f"szal-run-{execution_id}")
        self._thread.start()

    def _work(self) -> None:
        try:
            self._result = self._drive()
        except BaseException as error:  # noqa: BLE001 (raised again by `result`)
            self._error = error

    @property
    def done(self) -> bool:
        """Whether the run has ended and is recorded."""
        return not self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the run has ended, at most *timeout* seconds; return whether it has."""
        self._thread.join(timeout)
        return self.done

    def result(self, timeout: float | None = None) -> FlowResult:
        """Block for the result, at most *timeout* seconds (then TimeoutError); raise what `Engine.run` would have."""
        if not self.wait(timeout):
            raise TimeoutError(f"execution {self.execution_id} has not ended within {timeout:g}s")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def cancel(self) -> None:
        """Cancel the run. Returns at once; `result` then has the state CANCELLED, or ROLLED_BACK."""
        self._token.cancel()
