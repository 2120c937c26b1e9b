"""What the figures were measured on."""

import os
import platform
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["describe"]


def describe() -> dict[str, str]:
    """Return what there is to say, without anything that names the machine or its owner."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "architecture": platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": _field("/proc/meminfo", "MemTotal") or "unknown",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "sqlite": sqlite3.sqlite_version,
        "load at the start": f"{os.getloadavg()[0]:.2f}",
    }


def _field(file: str, name: str) -> str | None:
    path = Path(file)
    if not path.exists():
        return None
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
