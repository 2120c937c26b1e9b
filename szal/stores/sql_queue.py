"""The queue of a store in an SQL database: one table."""

import json
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from szal.stores.database import Database, Rows, Transaction
from szal.stores.listening import QUEUE, Listener
from szal.stores.queue import Claim, InQueue, Queue, Submission
from szal.stores.queue_statements import QueueStatements
from szal.stores.sql_executions import record

__all__ = ["SqlQueue", "in_order"]


class SqlQueue(Queue):
    """A queue in *database*."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def _statements(self) -> QueueStatements:
        return self._database.statements.queue

    def submit(self, submission: Submission, connection: object = None) -> bool:
        submit = partial(self.submit_in, submission)
        if connection is None:
            return self._database.transact(submit, submission)
        guest = self._database.join(connection)
        guest.check()
        if not guest.is_of(self._database):
            raise ValueError(f"the connection does not lead to {self._database.name}, the database of the store")
        return guest.do(submit)

    def submit_in(self, submission: Submission, transaction: Transaction) -> bool:
        """Do so in a transaction."""
        if not record(transaction, self._database.statements, [submission.unowned], is_claim=True):
            return False
        transaction.many(self._statements.enqueue, [submission.row()])
        if self._statements.announce is not None:
            transaction.rows(self._statements.announce)
        return True

    def claim(self, wanted: Claim, /) -> list[str]:
        due_in, ripens = self._due(wanted.queues)
        if due_in != 0.0:  # to read costs no lock, and mostly there is nothing
            return []
        return self._database.transact(lambda transaction: self._claim(wanted, ripens, transaction), wanted)

    def _claim(self, wanted: Claim, ripens: bool, transaction: Transaction) -> list[str]:
        if ripens:
            transaction.rows_of(self._statements.sweep, wanted.queues)
            transaction.rows_of(self._statements.ripen, wanted.queues)
        texts = json.dumps([*wanted.queues]), json.dumps(sorted(wanted.but))
        claimed: list[str] = []
        while room := wanted.most - len(claimed):
            rows = transaction.rows(self._statements.claim, (*texts, room, room, wanted.ttl))
            first, others = in_order(rows)
            claimed += first
            if not others:
                break
            transaction.rows_of(self._statements.unclaim, sorted(others))  # and see what comes behind them
        return claimed

    def listen(self) -> Listener:
        return self._database.listen(QUEUE)

    def tell(self) -> None:
        if (announce := self._statements.announce) is not None:
            self._database.transact(lambda transaction: transaction.rows(announce))

    def begun(self, execution_ids: Collection[str]) -> None:
        self._of(self._statements.dequeue, execution_ids)

    def give_back(self, execution_ids: Collection[str]) -> None:
        self._of(self._statements.unclaim, execution_ids)

    def _of(self, statement: str, execution_ids: Collection[str]) -> None:
        if execution_ids:
            ids = sorted(execution_ids)
            self._database.transact(lambda transaction: transaction.rows_of(statement, ids))

    def places(self, execution_ids: Collection[str]) -> Mapping[str, InQueue]:
        rows = self._database.read_of(self._statements.places, sorted(execution_ids)) if execution_ids else ()
        return {
            execution_id: InQueue(queue=queue, priority=int(priority), not_before=not_before)
            for execution_id, queue, priority, not_before in rows
        }

    def due_in(self, queues: Sequence[str]) -> float | None:
        return self._due(queues)[0]

    def _due(self, queues: Sequence[str]) -> tuple[float | None, bool]:
        """Return in how many seconds something is due, and whether the time of something has come since a claim."""
        ((seconds, ripens),) = self._database.read_of(self._statements.due, queues)
        return None if seconds is None else max(0.0, float(seconds)), bool(ripens)


def in_order(claimed: Rows) -> tuple[list[str], list[str]]:
    """Return the executions to begin now, in order, and those whose concurrency key one of these has."""
    rows = sorted(claimed, key=lambda row: (-row[1], row[2], row[4]))
    first: list[str] = []
    others: list[str] = []
    keys: set[str] = set()
    for execution_id, _, _, key, _ in rows:
        (others if key in keys else first).append(execution_id)
        if key is not None:
            keys.add(key)
    return first, others
