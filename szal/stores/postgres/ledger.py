"""The ledger in PostgreSQL, which has a shorter way for the most frequent writes."""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import ClassVar, TypeGuard

from szal.model.bounds import Bounds
from szal.stores.database import Transaction
from szal.stores.postgres.connection import PostgresConnection, execute
from szal.stores.postgres.database import PostgresDatabase, check_texts
from szal.stores.postgres.encoding import holds_any_text, in_ascii
from szal.stores.sql_ledger import SqlLedger
from szal.stores.writes import Lease, SaveStep, Write, leases_of, merged

__all__ = ["PostgresLedger"]

_FEW = 32  # of more rows each costs less in arrays
_STEP = ("execution_id", "step_name", "seq", "result", "signal_id")


class PostgresLedger(SqlLedger):
    """The ledger in PostgreSQL."""

    _database: PostgresDatabase
    bounds: ClassVar[Bounds] = Bounds(nul=False, key=1300)  # an index entry, 2704 bytes, has an id and a name

    def __init__(self, database: PostgresDatabase) -> None:
        super().__init__(database)
        self._late: set[tuple[str, int]] = set()
        """Under which a statement may still be carried out, whose answer was lost."""

    def _apply_shortly(self, writes: Sequence[Write], *, once: bool) -> bool:
        """Write few steps by one statement that looks after their leases too, which waits for the network once.

        False: nothing is written. One of the leases is not held, or an answer was lost under it: a server that is held
        up, or a proxy, may have the statement carried out later, over what is written meanwhile. The transaction that
        follows then puts up a fence.
        """
        if not _are_few_steps(writes):
            return False
        needed = merged(writes)
        rows = [step.row() for step in needed]
        check_texts(self.name, rows)
        given = [
            {**dict(zip(_STEP, row, strict=True)), "epoch": step.epoch} for step, row in zip(needed, rows, strict=True)
        ]
        statement = self._database.statements.save_few_steps

        def save(connection: PostgresConnection) -> int:
            if self._late and not self._late.isdisjoint(leases_of(writes)):
                return 0
            text = json.dumps(given if holds_any_text(connection) else in_ascii(given), ensure_ascii=False)
            try:
                return execute(connection, statement, [text]).rowcount
            except BaseException:
                self._late.update(leases_of(writes))
                raise

        return self._database.use(save, once=once) == len(needed)

    def _fence(self, leases: Collection[Lease], transaction: Transaction) -> None:
        if late := sorted(lease for lease in leases if lease in self._late):
            # A statement that has begun is waited for. One that has not sees the fence, and writes nothing.
            said = self._database.statements
            transaction.many(said.lock_all, sorted({(lease.execution_id,) for lease in leases}))
            transaction.many(said.fence, [(lease.execution_id,) for lease in late])

    def _ended(self, leases: Iterable[tuple[str, int]]) -> None:
        if self._late:
            self._late.difference_update(leases)


def _are_few_steps(writes: Sequence[Write]) -> TypeGuard[Sequence[SaveStep]]:
    """Return whether that is all there is to write, under leases."""
    return len(writes) <= _FEW and all(
        type(each) is SaveStep and each.epoch is not None and each.progress_of is None for each in writes
    )
