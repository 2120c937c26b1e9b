"""A store that fails, told by somebody at which of its operations."""

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Broken", "FailingLedger", "FailingSink"]


class Broken(RuntimeError):
    """What no store should raise, and one does."""


class Faults(Protocol):
    """Decides which operations fail."""

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return *function*, which fails when it is to."""


class FailingLedger:
    """A ledger of which any method may fail."""

    def __init__(self, target: Any, faults: Faults) -> None:
        self._target = target
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        return self._faults.wrap(f"ledger.{name}", found) if callable(found) else found


class FailingSink:
    """A sink whose writes may fail, and whose ledger may."""

    def __init__(self, target: Any, faults: Faults) -> None:
        self._target = target
        self._faults = faults
        self.ledger = FailingLedger(target.ledger, faults)
        vars(self.ledger).update(write=self.write, flush=self.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def save(self, record: Any) -> None:
        self._faults.wrap("save", self._target.save)(record)

    def write(self, write: Any) -> None:
        self._faults.wrap("write", self._target.ledger.write)(write)

    def flush(self, timeout: float | None = None, **which: Any) -> None:
        self._faults.wrap("flush", self._target.ledger.flush)(timeout, **which)
