"""The schedules of a store in an SQL database: one table."""

from collections.abc import Callable, Sequence

from szal.stores.database import Database, Transaction
from szal.stores.queue import Submission
from szal.stores.schedules import ScheduleRow, Schedules

__all__ = ["SqlSchedules"]


class SqlSchedules(Schedules):
    """The schedules in *database*; *submit* queues an execution in a transaction, unless it is there."""

    def __init__(self, database: Database, submit: Callable[[Submission, Transaction], bool]) -> None:
        self._database = database
        self._submit = submit

    def put(self, row: ScheduleRow, /) -> None:
        said = self._database.statements.schedules
        given = (row.name, row.data, row.flow, row.next_at)
        self._database.transact(lambda transaction: transaction.many(said.put, [given]))

    def remove(self, name: str) -> bool:
        said = self._database.statements.schedules
        return bool(self._database.transact(lambda transaction: transaction.rows_of(said.remove, [name])))

    def all(self) -> list[ScheduleRow]:
        return [ScheduleRow(*row) for row in self._database.read(self._database.statements.schedules.all)]

    def advance(self, row: ScheduleRow, next_at: float, submissions: Sequence[Submission]) -> bool:
        said = self._database.statements.schedules
        last = submissions[-1].new.execution_id if submissions else row.last_id

        def advance(transaction: Transaction) -> bool:
            if not transaction.rows(said.advance, (next_at, last, row.name, row.data, row.next_at)):
                return False
            for submission in submissions:
                self._submit(submission, transaction)
            return True

        return self._database.transact(advance, submissions)
