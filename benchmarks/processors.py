"""How long processes have had a processor, as far as this machine can tell."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import psycopg

__all__ = ["Condition", "seconds_of", "server_of"]

Condition: TypeAlias = Callable[[], object]
_PROC = Path("/proc")


def seconds_of(pids: Sequence[int]) -> float | None:
    """Return the seconds of all of them; None where that is not known. One that has ended counts no more."""
    if not pids or not _PROC.exists():
        return None
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def server_of(connection: "psycopg.Connection[Any]") -> list[int]:
    """Return the processes of the server, but for that of this connection; none where it is on another machine."""
    query = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    pids = [int(pid) for (pid,) in connection.execute(query).fetchall()]
    return pids if all(_is_postgres(pid) for pid in pids) else []


def _is_postgres(pid: int) -> bool:
    try:
        return "postgres" in (_PROC / str(pid) / "comm").read_text()
    except OSError:
        return False
