"""What the server says that each statement took: with its extension pg_stat_statements, where that is loaded."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any

import attrs
import psycopg

from szal.stores.postgres.statements import STATEMENTS
from szal.stores.statement import Statement

__all__ = ["Statements", "name_of"]

_TAKEN = """
SELECT query, calls, total_exec_time, total_plan_time, wal_bytes FROM pg_stat_statements AS s
JOIN pg_database AS d ON d.oid = s.dbid
WHERE d.datname = current_database() AND query LIKE '%szal_%' AND query NOT LIKE '%count(*)%'
"""
_MOST = 12  # rows of a table
_LONGEST = 60  # characters of a statement that has no name
_ALIKE = 0.9


@attrs.frozen
class _Row:
    query: str
    calls: int
    milliseconds: float
    wal: int


class Statements:
    """Asks a server what its statements took between `begin` and `end`, for each number of workers."""

    def __init__(self, url: str) -> None:
        self._connection: psycopg.Connection[Any] = psycopg.connect(url, autocommit=True)
        self._found: dict[int, tuple[int, list[_Row]]] = {}
        try:
            self._connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            self._connection.execute("SELECT count(*) FROM pg_stat_statements")
            self._is_there = True
        except psycopg.Error:  # it is not installed, or the server was begun without it
            self._is_there = False

    def begin(self) -> None:
        """Count from now on."""
        if self._is_there:
            self._connection.execute("SELECT pg_stat_statements_reset()")

    def end(self, workers: int, flows: int) -> None:
        """Take note of what that was."""
        if self._is_there:
            rows = [
                _Row(str(query), int(calls), float(took) + float(planned), int(wal))
                for query, calls, took, planned, wal in self._connection.execute(_TAKEN).fetchall()
            ]
            self._found[workers] = flows, rows

    def tables(self) -> Iterator[str]:
        """Yield a table of the least and of the greatest number of workers."""
        for workers in sorted({min(self._found), max(self._found)}) if self._found else ():
            yield _table(workers, *self._found[workers])
        self._connection.close()


def _table(workers: int, flows: int, rows: list[_Row]) -> str:
    every = sum(row.milliseconds for row in rows)
    lines = [f"Of {workers} worker{'s' * (workers > 1)}, the server's statements, by what they take:", ""]
    lines += ["| statement | calls a flow | ms each | ms a flow | of all | bytes of its log a flow |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for row in sorted(rows, key=lambda row: -row.milliseconds)[:_MOST]:
        share = row.milliseconds / every
        figures = f"{row.calls / flows:.2f} | {row.milliseconds / row.calls:.3f} | {row.milliseconds / flows:.3f}"
        lines.append(f"| {name_of(row.query)} | {figures} | {share:.0%} | {row.wal / flows:,.0f} |")
    calls = sum(row.calls for row in rows) / flows
    lines.append(f"| all | {calls:.2f} | | {every / flows:.3f} | 100% | {sum(row.wal for row in rows) / flows:,.0f} |")
    return "\n".join(lines)


def name_of(query: str) -> str:
    """Return what szal calls a statement, or the one that is most like it, as some are put together."""
    plain = _plain(query)
    found = max(_NAMES, key=lambda each: SequenceMatcher(None, each, plain, autojunk=False).quick_ratio())
    if SequenceMatcher(None, found, plain, autojunk=False).ratio() > _ALIKE:
        return f"`{_NAMES[found]}`"
    words = " ".join(re.sub(r"\"?bench_\d+_\d+\"?\.", "", query).split())
    shown = words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"
    return f"`{shown.replace('|', '/')}`"


def _plain(query: str) -> str:
    """Return it without what differs from what szal says: parameters, constants, schemas, spaces."""
    text = re.sub(r"\$\d+|%[sbt]\b|'[^']*'|\b\d+(?:\.\d+)?\b|\b(?:NULL|TRUE|FALSE)\b", "?", query)
    text = re.sub(r"\bszal\.|\bbench_\d+_\d+\.", "", text.replace('"', ""))
    return re.sub(r"\s+", "", text)


def _named(said: object, of: str = "") -> Iterator[tuple[str, str]]:
    for name in dir(said):
        value = getattr(said, name)
        if isinstance(value, Statement):
            yield _plain(value), f"{of}{name}"
        elif not of and name in ("leases", "queue", "schedules"):
            yield from _named(value, f"{name}.")


_NAMES = dict(_named(STATEMENTS))
