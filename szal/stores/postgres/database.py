"""A PostgreSQL database as that of a store: transactions on a pool's connections, and what became of a lost COMMIT."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar, cast

import attrs
import psycopg

from szal.errors import NotMigrated, NotSupportedHere, StoreFailed, StoreUnavailable
from szal.stores.database import Database, Keeper, Rows, Transaction
from szal.stores.listening import ChangeListener, Listener
from szal.stores.postgres.connection import ENDED, PostgresConnection, execute, pipeline
from szal.stores.postgres.held import LeftBehind, PostgresGuest, PostgresHeld
from szal.stores.postgres.listener import PostgresChanges, PostgresListener
from szal.stores.postgres.marks import Mark, Marks
from szal.stores.postgres.migrations import migrate, schema_of, structure_of
from szal.stores.postgres.pool import Pool
from szal.stores.postgres.schema import statements
from szal.stores.postgres.sqlstate import one_line
from szal.stores.postgres.statements import BEGIN, PostgresStatements
from szal.stores.postgres.transaction import PostgresTransaction
from szal.stores.retrying import call
from szal.stores.slots import Slots

__all__ = ["PostgresDatabase"]

Made = TypeVar("Made")

_KEPT_BACK = 2
"""So many connections of the pool no handler has: for the writer and the heartbeat, whatever handlers do."""


@attrs.frozen
class _Doubt:
    """A COMMIT that was sent; it goes when the answer comes."""

    request: object
    mark: Mark
    made: object


class _Doubts(threading.local):
    last: _Doubt | None = None


class PostgresDatabase(Database):
    """What *pool* leads to. The tables are in *schema*, or where `schema_of` finds them, once."""

    def __init__(self, pool: Pool, schema: str | None) -> None:
        self.pool = pool
        self._schema = schema
        self._found: PostgresStatements | None = None
        self._doubts = _Doubts()  # of each thread: its own
        self._marks = Marks()

    @property
    def name(self) -> str:
        return self.pool.name

    @property
    def statements(self) -> PostgresStatements:
        """What is said to it, each table with its schema; before the first, the tables are looked for."""
        if (found := self._found) is None:
            found = self._found = call(self.pool.retrying, self.pool.use, self._find)
        return found

    def _find(self, connection: PostgresConnection) -> PostgresStatements:
        schema = schema_of(connection, self._schema)
        if schema is None:
            raise NotMigrated(self.name, "the schema of table szal_executions")
        structure_of(connection, schema).check(self.name)
        return statements(schema)

    def use(self, work: Callable[[PostgresConnection], Made], *, once: bool = False) -> Made:
        """Return what *work* makes of a connection; it is called again, but with *once*, where what is wrong may pass.

        Raises `NotMigrated` where the tables are not as they have to be, or are no more.
        """
        if self._found is None:
            self._found = self.statements
        try:
            return self.pool.use(work) if once else call(self.pool.retrying, self.pool.use, work)
        except NotMigrated as error:
            self._found = None
            self._found = self.statements  # tells what is missing
            # Nothing is: it is of somebody else's trigger.
            problem = error.__cause__ or error
            raise StoreFailed(self.name, one_line(problem)) from problem

    def read(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        return self.use(lambda connection: execute(connection, statement, parameters).fetchall())

    def read_of(self, statement: str, execution_ids: Sequence[str]) -> Rows:
        return self.read(statement, [[*execution_ids]])

    def transact(self, work: Callable[[Transaction], Made], request: object = None, *, once: bool = False) -> Made:
        transaction = partial(self._transaction, work, work if request is None else request)
        with self._keeping_doubts():
            return self.use(transaction, once=once)

    @contextmanager
    def _keeping_doubts(self) -> Iterator[None]:
        try:
            yield
        except StoreUnavailable:
            raise  # whoever asks again with the same *request* is told what became of the COMMIT
        except BaseException:
            self._doubts.last = None
            raise

    def at_once(
        self,
        work: Callable[[PostgresConnection, Mark], bool],
        request: object,
        made: object = None,
        *,
        once: bool = False,
    ) -> bool:
        """Have *work* run one statement, which is a transaction by itself and leaves that mark, and return True.

        False: nothing has happened, as *work* says, or the same *request* is in doubt. Then `transact` tells what
        became of it, as it does of its own, and returns *made* where it is committed.
        """

        def carry_out(connection: PostgresConnection) -> bool:
            if (doubt := self._doubts.last) is not None and doubt.request is request:
                return False
            mark = self._marks.next()
            self._doubts.last = _Doubt(request, mark, made)
            try:
                is_done = work(connection, mark)
            except psycopg.Error as error:
                if not connection.closed and not (error.sqlstate or ENDED).startswith(ENDED):
                    # The server has answered: it is rolled back.
                    self._doubts.last = None
                    self._marks.undone(mark)
                raise
            self._doubts.last = None
            (self._marks.left if is_done else self._marks.undone)(mark)
            return is_done

        with self._keeping_doubts():
            return self.use(carry_out, once=once)

    def _transaction(
        self, work: Callable[[Transaction], Made], request: object, connection: PostgresConnection
    ) -> Made:
        doubt = self._doubts.last
        if doubt is not None and doubt.request is request:
            has_committed = self._has_committed(connection, doubt.mark)
            self._doubts.last = None
            if has_committed:
                self._marks.left(doubt.mark)
                return cast(Made, doubt.made)
            self._marks.undone(doubt.mark)
        mark = self._marks.next()
        try:
            with pipeline(connection):  # what is in there waits for the network together
                connection.execute(BEGIN)
                execute(connection, self.statements.mark, mark.row())
                made = work(PostgresTransaction(self.name, connection))
        except BaseException:
            self._marks.undone(mark)
            raise
        self._doubts.last = _Doubt(request, mark, made)
        connection.execute(b"COMMIT")
        self._doubts.last = None
        self._marks.left(mark)
        return made

    def _has_committed(self, connection: PostgresConnection, mark: Mark) -> bool:
        """Return how a transaction has ended; raises `StoreUnavailable` if it has not."""
        connection.execute(BEGIN)
        connection.execute(b"SET LOCAL lock_timeout = '100ms'")
        try:
            could_be_left = execute(connection, self.statements.mark, mark.row()).fetchall()
        except psycopg.errors.LockNotAvailable as error:
            raise StoreUnavailable(self.name, "a transaction of a lost connection has not ended yet") from error
        connection.execute(b"ROLLBACK")
        return not could_be_left

    def listen(self, channel: str) -> Listener:
        return PostgresListener(self.pool, channel)

    def changes(self) -> ChangeListener:
        def attend(execution_id: str, seconds: float) -> None:
            said = self.statements.watch
            self.use(lambda connection: execute(connection, said, (seconds, execution_id)), once=True)

        return PostgresChanges(self.pool, attend)

    def hold(self, keeper: Keeper) -> None:
        room = self._room()
        if not room.take(lambda: keeper.is_wanted):
            return
        try:
            with suppress(LeftBehind):
                self.use(partial(self._hold, keeper))
        finally:
            room.give_back()

    def _room(self) -> Slots:
        """Return what each handler has one of that has a connection of the pool; found at first use."""
        size = self.pool.size
        if size == 1:
            raise NotSupportedHere(
                "ctx.transaction()", f"the pool of {self.name} has one connection, which szal needs: max_size=2 or more"
            )
        room: Slots = self.__dict__.setdefault("_slots", Slots(size - min(_KEPT_BACK, size - 1)))  # atomic
        return room

    def _hold(self, keeper: Keeper, connection: PostgresConnection) -> None:
        held = PostgresHeld(self.name, connection, self.statements, self._marks, self._end_session)
        held.begin()
        try:
            keeper.keep(held)
        finally:
            held.put_in_order()
        if held.is_taken_away:
            raise LeftBehind

    def _end_session(self, session: Sequence[object]) -> None:
        self.use(lambda connection: execute(connection, self.statements.end_session, session))

    def has_committed(self, doubt: object) -> bool:
        assert isinstance(doubt, Mark)
        committed = self.use(lambda connection: self._has_committed(connection, doubt))
        (self._marks.left if committed else self._marks.undone)(doubt)
        return committed

    def join(self, connection: object) -> PostgresGuest:
        def is_under_way(number: str) -> bool:
            return bool(self.read(self.statements.is_under_way, (number,))[0][0])

        return PostgresGuest(self.name, connection, self.statements, is_under_way)

    def tidy(self) -> None:
        self.transact(lambda transaction: transaction.rows(self.statements.forget_marks))

    def migrate(self) -> None:
        """Create the schema and its tables, or bring them up to date."""
        self._found = statements(call(self.pool.retrying, self.pool.use, self._migrate))

    def _migrate(self, connection: PostgresConnection) -> str:
        return migrate(connection, self.name, self._schema)

    def close(self) -> None:
        """Close the connections for good."""
        self.pool.close()
