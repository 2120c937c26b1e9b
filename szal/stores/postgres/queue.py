"""The queue in PostgreSQL, where a claim is one statement."""

import json

import attrs

from szal.stores.postgres.connection import PostgresConnection, execute
from szal.stores.postgres.database import PostgresDatabase
from szal.stores.queue import Claim
from szal.stores.sql_queue import SqlQueue, in_order

__all__ = ["PostgresQueue"]


class PostgresQueue(SqlQueue):
    """The queue in *database*."""

    _database: PostgresDatabase

    def claim(self, wanted: Claim, /) -> list[str]:
        """Do so at once, unless the time of something has come since a claim.

        What a server has claimed whose answer was lost is due again once it is reserved no more.
        """
        names = json.dumps([*wanted.queues])
        row = (names, names, json.dumps(sorted(wanted.but)), wanted.most, wanted.most, wanted.ttl)

        def claim(connection: PostgresConnection) -> list[tuple[object, ...]]:
            return execute(connection, self._database.statements.claim_now, row).fetchall()

        ((ripens, *first), *others) = self._database.use(claim)
        if ripens:
            return super().claim(wanted)
        if first[0] is None:
            return []
        claimed, taken = in_order([tuple(first), *(each[1:] for each in others)])
        if taken:
            self.give_back(taken)
            claimed += super().claim(attrs.evolve(wanted, most=wanted.most - len(claimed)))
        return claimed
