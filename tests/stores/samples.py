"""What the tests of the stores share: records, and Python processes of their own."""

import subprocess
import textwrap
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from in_front import InFront
from processes import zygote
from zygote import Process

from szal.stores import InMemoryExecutionStore
from szal.stores.writes import Save, Write
from szal.testing.store_contract import NOON, record

__all__ = ["NOON", "WIRE", "ForeignBackend", "Process", "python", "record", "run_python"]

WIRE = Path(__file__).parents[1] / "wire"


def python(code: str, *arguments: object, cwd: Path | None = None) -> Process:
    """Start a Python process with the szal of this one."""
    return Process(zygote(), textwrap.dedent(code), [*map(str, arguments)], cwd=cwd)


def run_python(
    code: str, *arguments: object, cwd: Path | None = None, timeout: float = 50.0
) -> "subprocess.CompletedProcess[str]":
    """Run a Python process to its end; TimeoutExpired if that does not come."""
    process = python(code, *arguments, cwd=cwd)
    out, err = process.communicate(timeout=timeout)
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class ForeignBackend:
    """A store that somebody else wrote over the seam of the sink. Its troubles come when they are told to.

    `batches` holds what was applied, one list of "state id" for each transaction. Clear `open` to make `apply` wait.
    `refuse` is asked about each batch, and raises.
    """

    name = "foreign"

    def __init__(self) -> None:
        self.store = InMemoryExecutionStore()
        self.batches: list[list[str]] = []
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()
        self.calls = 0
        self.refuse: Callable[[list[str]], None] = lambda batch: None

    @property
    def ledger(self) -> InFront:
        return InFront(self.store.ledger, apply=self.apply)

    def apply(self, writes: Sequence[Write], *, once: bool = False) -> None:
        self.calls += 1
        self.waiting.set()
        assert self.open.wait(30)
        self.waiting.clear()
        batch = [_words(write) for write in writes]
        self.refuse(batch)
        self.batches.append(batch)
        self.store.ledger.apply(writes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def _words(write: Write) -> str:
    return f"{write.state if isinstance(write, Save) else 'remove'} {write.execution_id}"
