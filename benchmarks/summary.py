"""What a person who chooses an engine wants to know first: szal, the least that it could cost, and the fastest peer."""

from collections.abc import Iterator

import attrs

from benchmarks import svg
from benchmarks.catalogue import EACH, POOL
from benchmarks.measure import Found
from benchmarks.party import Role
from benchmarks.table import number

__all__ = ["Line", "lines", "picture", "table"]

LOOP, ROWS = "loop with results", "no store, JSON, executemany"
TOLD: dict[str, tuple[str, str | None]] = {
    "chain": ("a step of a chain, in memory", LOOP),
    "fan-out": ("one of many steps on 16 threads, in memory", POOL),
    "flows": ("a flow of 3 steps, in memory", LOOP),
    "chain-sqlite": ("a step of a chain, in SQLite", ROWS),
    "chain-sqlite-step": ("a step, each committed, in SQLite", EACH),
    "flows-sqlite": ("a flow of 3 steps, in SQLite", EACH),
    "flows-8-sqlite": ("a flow of 3 steps, from 8 threads, in SQLite", None),
    "chain-postgres": ("a step of a chain, in PostgreSQL", "no store, JSON, unnest, binary"),
    "chain-postgres-step": ("a step, each committed, in PostgreSQL", EACH),
    "flows-postgres": ("a flow of 3 steps, in PostgreSQL", EACH),
    "flows-8-postgres": ("a flow of 3 steps, from 8 threads, in PostgreSQL", None),
}
"""By case: what it is in words, and the floor that keeps as much."""


@attrs.frozen
class Line:
    """One case, in microseconds; None where nobody does it."""

    words: str
    floor: float | None
    szal: float
    peer: float | None
    peers_name: str


def lines(cases: list[Found]) -> list[Line]:
    """Return one for each case that is told here and was measured, at the greatest size that a peer has, if any."""
    found = {each.case.name: each for each in cases}
    return [line for name in TOLD if name in found for line in _of(found[name], *TOLD[name])]


def _of(found: Found, words: str, floor: str | None) -> Iterator[Line]:
    rivals = [label for label, role in found.roles.items() if _is_engine(role)]
    sizes = {size for _, size in found.measures if found.has("szal", size)}
    if not sizes:
        return
    size = max(sizes, key=lambda size: (any(found.has(each, size) for each in rivals), size))
    peers = {each: _micros(found, each, size) for each in rivals if found.has(each, size)}
    fastest = min(peers, key=peers.__getitem__, default="")
    least = _micros(found, floor, size) if floor and found.has(floor, size) else None
    yield Line(words, least, _micros(found, "szal", size), peers.get(fastest), fastest)


def _is_engine(role: Role) -> bool:
    """Whether that is a peer that keeps as much as szal does in the same case."""
    return role.peer is not None and (role.peer.near or role.rival == "engine")


def _micros(found: Found, label: str, size: int) -> float:
    return found.case.per_unit(found.measures[label, size].median, size)


def table(told: list[Line]) -> str:
    """Return *told* in Markdown: µs, and how many a second."""
    head = ["", "the floor, µs", "szal, µs", "szal, a second", "fastest peer, µs", "which takes"]
    rows = [head, ["---", *["---:"] * 4, "---"]]
    for line in told:
        times = "" if line.peer is None else f"{number(line.peer / line.szal)} times ({line.peers_name})"
        second = number(1e6 / line.szal)
        rows.append([line.words, _figure(line.floor), f"**{number(line.szal)}**", second, _figure(line.peer), times])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _figure(value: float | None) -> str:
    return "" if value is None else number(value)


def picture(told: list[Line]) -> str:
    """Return *told* as bars: how many a second."""
    groups = {}
    for line in told:
        bars = {"the floor": line.floor, "szal": line.szal, line.peers_name: line.peer}
        groups[line.words] = {label: 1e6 / value for label, value in bars.items() if value is not None}
    return svg.groups("how many a second: the floor, szal, the fastest peer", groups, "a second")
