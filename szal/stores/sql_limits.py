"""The limits of a store in an SQL database: a table each for capacities, for who uses them, and for rates."""

import json
from collections.abc import Collection, Mapping, Sequence

from szal.errors import ConcurrencyKeyTaken
from szal.stores.database import Database, Transaction
from szal.stores.limit_statements import LimitStatements
from szal.stores.limits import Limits, Request, ResourceUse, WaitingStep, check_capacity, names_of
from szal.stores.listening import LIMITS, Listener

__all__ = ["SqlLimits", "take_key"]


def take_key(transaction: Transaction, said: LimitStatements, key: str, execution_id: str) -> None:
    """Have an execution have a concurrency key, until it ends. Raises `ConcurrencyKeyTaken`."""
    ((holder,),) = transaction.rows_for(said.take_key, [(key, execution_id)])
    if holder != execution_id and not transaction.rows(said.free_key, (execution_id, key)):
        raise ConcurrencyKeyTaken(execution_id, key, holder)


class SqlLimits(Limits):
    """The limits in *database*."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def _said(self) -> LimitStatements:
        return self._database.statements.limits

    def set_capacity(self, name: str, capacity: int | None) -> None:
        check_capacity(name, capacity)

        def put(transaction: Transaction) -> None:
            if capacity is None:
                transaction.rows_of(self._said.remove_capacity, [name])
            else:
                transaction.many(self._said.set_capacity, [(name, capacity)])
            self._announce(transaction)

        self._database.transact(put)

    def capacities(self) -> dict[str, int]:
        return {name: int(capacity) for name, capacity in self._database.read(self._said.capacities)}

    def uses(self) -> list[ResourceUse]:
        return [ResourceUse(name, *map(int, counts)) for name, *counts in self._database.read(self._said.uses)]

    def claim(self, requests: Sequence[Request], over: Collection[str] = ()) -> set[str]:
        return self._database.transact(lambda transaction: self._claim(requests, over, transaction))

    def _claim(self, requests: Sequence[Request], over: Collection[str], transaction: Transaction) -> set[str]:
        said, names = self._said, names_of(requests)
        if names and said.lock is not None:
            transaction.rows_of(said.lock, names)
        if over:
            transaction.rows_of(said.give_back, sorted(over))
        granted = set()
        if requests:
            ids = [request.permit_id for request in requests]
            transaction.many(said.ask, [row for request in requests for row in request.rows()])
            transaction.rows_of(said.sweep, names)
            transaction.rows(said.grant, (json.dumps(names), json.dumps(ids)))
            granted = {row[0] for row in transaction.rows_of(said.held, ids)}
        if over:
            self._announce(transaction)
        return granted

    def _announce(self, transaction: Transaction) -> None:
        if self._said.announce is not None:
            transaction.rows(self._said.announce)

    def has_turn(self, requests: Sequence[Request]) -> bool:
        ids = [request.permit_id for request in requests]
        return bool(self._database.read(self._said.turn, (json.dumps(names_of(requests)), json.dumps(ids))))

    def waiting(self, execution_id: str) -> list[WaitingStep]:
        rows = self._database.read(self._said.waiting, (execution_id,))
        return [
            WaitingStep(step, name, int(units), None if capacity is None else int(capacity), int(used), float(asked))
            for step, name, units, capacity, used, asked in rows
        ]

    def take_turns(self, intervals: Mapping[str, float]) -> float:
        rows = sorted(intervals.items())
        taken = self._database.transact(lambda transaction: transaction.rows_for(self._said.take_turns, rows))
        return max(0.0, *(float(seconds) for (seconds,) in taken))

    def key_holder(self, key: str) -> str | None:
        rows = self._database.read(self._said.key_holder, (key,))
        return rows[0][0] if rows else None

    def listen(self) -> Listener:
        return self._database.listen(LIMITS)
