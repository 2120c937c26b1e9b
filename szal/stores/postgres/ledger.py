"""The ledger in PostgreSQL, which has a shorter way for the most frequent writes."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import ClassVar, TypeAlias

import attrs
import psycopg

from szal.model.bounds import Bounds
from szal.stores.batch import begins_late, leases_of, merged
from szal.stores.database import Transaction
from szal.stores.ledger import Snapshot, TakeOver
from szal.stores.postgres.connection import PostgresConnection, execute
from szal.stores.postgres.database import PostgresDatabase
from szal.stores.postgres.encoding import fitting, holds_any_text, in_ascii
from szal.stores.postgres.marks import Mark
from szal.stores.postgres.one_execution import in_one, statement_of
from szal.stores.postgres.queue import PostgresQueue
from szal.stores.postgres.terms import RECORD
from szal.stores.postgres.transaction import check_texts
from szal.stores.sql_ledger import SqlLedger
from szal.stores.writes import Lease, NewExecution, Release, Save, SaveStep, Write

__all__ = ["PostgresLedger"]

_MANY = 10_000
_FEW = 32  # of more rows each costs less in arrays
_SHORT = 32_768  # of more characters each costs less as they are than inside of JSON
_LEASE = ("execution_id", "owner", "epoch", "ttl", "content_id", "wake", "awaits")
_STEP = ("execution_id", "step_name", "seq", "result", "signal_id")
_RELEASE = ("wake", "awaits", "execution_id")

_Few: TypeAlias = dict[str, list[dict[str, object]]]


class PostgresLedger(SqlLedger):
    """The ledger in PostgreSQL."""

    _database: PostgresDatabase
    bounds: ClassVar[Bounds] = Bounds(key=1300)  # an index entry, 2704 bytes, has an id and a name

    def __init__(self, database: PostgresDatabase) -> None:
        super().__init__(database)
        self._late: set[tuple[str, int]] = set()
        """Under which a statement may still be carried out, whose answer was lost."""
        self._defined: set[str] = set()
        """Definitions that were there, and need not be sent again."""

    @property
    def queue(self) -> PostgresQueue:
        return PostgresQueue(self._database)

    def _apply_shortly(self, writes: Sequence[Write], *, once: bool) -> bool:
        """Carry out few writes by one statement that looks after their leases too, which waits for the network once.

        False: nothing is written. One of the leases is not held, or an answer was lost under it: a server that is held
        up, or a proxy, may have the statement carried out later, over what is written meanwhile. The transaction that
        follows then puts up a fence.
        """
        if len(writes) > 2 * _FEW or not all(_is_simple(each) for each in writes):
            return False
        needed = merged(writes)
        if len(needed) > _FEW or begins_late(needed):
            return False
        leases = leases_of(writes)
        if all(type(each) is SaveStep for each in needed):
            return self._save_few_steps(needed, leases, once=once)
        is_done = self._carry_out_few(writes, needed, leases, once=once)
        if is_done:
            self._ended((each.execution_id, each.epoch or 0) for each in writes if type(each) is Release)
        return is_done

    def create(self, new: NewExecution, /) -> int | None:
        is_simple = new.record.concurrency_key is None and _is_simple(new)
        if is_simple and self._carry_out_few(new, [new], leases_of([new]), new.first_epoch, once=False):
            return new.first_epoch
        return super().create(new)

    def take_over(self, wanted: TakeOver, /) -> Snapshot:
        known = wanted.known
        if known is not None and self._takes_new(wanted, known):
            return attrs.evolve(known, epoch=(known.epoch or 0) + wanted.rise, owner=wanted.owner)
        return super().take_over(wanted)

    def _takes_new(self, wanted: TakeOver, known: Snapshot) -> bool:
        """Take over what has not begun, by one statement; False, and nothing is done, where it is not as it was.

        Whoever has a lease raises its epoch, and what is cancelled says so. So nothing else can have changed.
        """
        if not known.is_new or known.cancelled or known.record.concurrency_key is not None or wanted.under is not None:
            return False
        row = (wanted.owner, wanted.rise, wanted.ttl, wanted.execution_id, known.epoch)
        check_texts(self.name, [row])

        def take(connection: PostgresConnection, mark: Mark) -> bool:
            if not holds_any_text(connection):
                return False
            with suppress(psycopg.errors.DivisionByZero):  # nothing is done
                execute(connection, self._database.statements.take_new, [*row, *mark.row()])
                return True
            return False

        return self._database.at_once(take, wanted)

    def _save_few_steps(self, needed: Sequence[Write], leases: Collection[Lease], *, once: bool) -> bool:
        rows = [step.row() for step in needed]
        check_texts(self.name, rows)
        said = self._database.statements

        def in_json(connection: PostgresConnection) -> Sequence[object]:
            given = [
                dict(zip(_STEP, row, strict=True)) | {"epoch": step.epoch}
                for step, row in zip(needed, rows, strict=True)
            ]
            return [json.dumps(given if holds_any_text(connection) else in_ascii(given), ensure_ascii=False)]

        def in_row(connection: PostgresConnection) -> Sequence[object]:
            return fitting(connection, said.save_held_step, (*rows[0], needed[0].execution_id, needed[0].epoch))

        statement, parameters = (said.save_held_step, in_row) if len(rows) == 1 else (said.save_few_steps, in_json)

        def save(connection: PostgresConnection) -> int:
            if self._is_late(leases):
                return 0
            given = parameters(connection)
            with self._late_if_lost(connection, leases):
                return execute(connection, statement, given).rowcount

        return self._database.use(save, once=once) == len(needed)

    def _carry_out_few(
        self, request: object, needed: Sequence[Write], leases: Collection[Lease], made: object = None, *, once: bool
    ) -> bool:
        said = self._database.statements
        new = [each for each in needed if type(each) is NewExecution]
        if one := in_one(needed, leases, self._defined):
            shape, values = one
            statement = statement_of(shape, said.prefix)
            check_texts(self.name, [values])
        elif text := self._in_json(needed, leases):
            statement, values = said.carry_out_few, [text]
        else:
            return False

        def carry_out(connection: PostgresConnection, mark: Mark) -> bool:
            if self._is_late(leases) or not holds_any_text(connection):
                return False
            with self._late_if_lost(connection, leases), suppress(psycopg.errors.DivisionByZero):  # nothing is done
                execute(connection, statement, [*values, *mark.row()])
                return True
            return False

        is_done = self._database.at_once(carry_out, request, made, once=once)
        defined = {each.content_id for each in new}
        if not is_done:
            self._defined -= defined
            return False
        self._defined = self._defined | defined if len(self._defined) < _MANY else defined
        return True

    def _in_json(self, needed: Sequence[Write], leases: Collection[Lease]) -> str | None:
        """Return what `carry_out_few` takes; None where there is too much of it."""
        given = _few(needed, self._defined)
        rows = [each for rows in given.values() for each in rows]
        # A definition is kept as the text that it is: it may say that a text in it holds a NUL character.
        check_texts(self.name, [[value for name, value in row.items() if name != "flow"] for row in rows])
        if sum(len(value) for row in rows for value in row.values() if isinstance(value, str)) > _SHORT:
            return None
        given["held"] = [lease._asdict() for lease in leases]
        return json.dumps(given, ensure_ascii=False)

    def _is_late(self, leases: Collection[Lease]) -> bool:
        return bool(self._late) and not self._late.isdisjoint(leases)

    @contextmanager
    def _late_if_lost(self, connection: PostgresConnection, leases: Collection[Lease]) -> Iterator[None]:
        """Take note that what is done under *leases* in here may be carried out later, if no answer comes."""
        try:
            yield
        except BaseException as error:
            if connection.closed or not isinstance(error, psycopg.Error):
                self._late.update(leases)
            raise

    def _fence(self, leases: Collection[Lease], transaction: Transaction) -> None:
        if late := sorted(lease for lease in leases if lease in self._late):
            # A statement that has begun is waited for. One that has not sees the fence, and writes nothing.
            said = self._database.statements
            transaction.many(said.lock_all, sorted({(lease.execution_id,) for lease in leases}))
            transaction.many(said.fence, [(lease.execution_id,) for lease in late])

    def _ended(self, leases: Iterable[tuple[str, int]]) -> None:
        if self._late:
            self._late.difference_update(leases)


def _is_simple(write: Write) -> bool:
    """Whether that is a write as most are, under a lease."""
    if type(write) is NewExecution:
        return not (write.replace or write.steps)
    if type(write) is SaveStep:
        return write.epoch is not None and write.progress_of is None
    return type(write) in (Save, Release) and write.epoch is not None


def _few(writes: Sequence[Write], defined: Collection[str]) -> _Few:
    """Return the rows of *writes*, by name; of *defined* definitions the text is there."""
    few: _Few = {"new": [], "steps": [], "saves": [], "releases": []}
    for write in writes:
        if type(write) is NewExecution:
            row = dict(zip(RECORD, write.row(), strict=True)) | dict(zip(_LEASE, write.lease_row(), strict=True))
            few["new"].append(row | {"flow": None if write.content_id in defined else write.flow})
        elif type(write) is SaveStep:
            few["steps"].append(dict(zip(_STEP, write.row(), strict=True)))
        elif type(write) is Save:
            few["saves"].append(dict(zip(RECORD, write.row(), strict=True)))
        else:
            few["releases"].append(dict(zip(_RELEASE, write.row(), strict=True)))
    return few
