"""Some of the parameters of a test, where all would take long: SZAL_TEST_FULL=1 has them all."""

import os
from collections.abc import Sequence
from itertools import combinations, cycle, islice, product
from typing import Any

FULL = bool(os.environ.get("SZAL_TEST_FULL"))


def pairs(*columns: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return rows in which each two values of two columns come together at least once."""
    rows = list(product(*columns))
    if FULL:
        return rows

    def pairs_of(row: tuple[Any, ...]) -> set[tuple[Any, ...]]:
        return {(i, j, row[i], row[j]) for i, j in combinations(range(len(row)), 2)}

    missing, chosen = set().union(*map(pairs_of, rows)), []
    while missing:
        best = max(rows, key=lambda row: len(missing & pairs_of(row)))
        missing -= pairs_of(best)
        chosen.append(best)
    return chosen


def beside(rows: Sequence[Any], *columns: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return *rows* with one value of each of the columns beside each, in turn; each of these comes at least once."""
    rows = [row if isinstance(row, tuple) else (row,) for row in rows]
    if FULL:
        return [(*row, *rest) for row in rows for rest in product(*map(dict.fromkeys, columns))]
    count = max(len(rows), *map(len, columns))
    turns = [islice(cycle(column), count) for column in columns]
    return [(*row, *rest) for row, *rest in zip(islice(cycle(rows), count), *turns, strict=True)]
