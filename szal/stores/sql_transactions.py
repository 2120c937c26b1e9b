"""Transactions that handlers write in, in an SQL database: kept by a thread of their own, or the application's."""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty
from typing import Any, Protocol, TypeAlias

from szal.errors import CommitUnknown, LeaseLost, StoreUnavailable, TransactionFailed
from szal.logs import SafeLogger
from szal.stores.database import Database, Guest, Held, Keeper, Rows, Transaction
from szal.stores.transactions import Fate, JoinedTransaction, OpenTransaction
from szal.stores.writes import Lease, SaveStep, Write
from szal.waiters import Flag, Mailbox

__all__ = ["KeptTransaction", "OthersTransaction"]

logger = SafeLogger(logging.getLogger(__name__))

_LOOK_AGAIN = 0.1
"""Seconds after which who waits sees whether it still has to."""
_PATIENCE = 5.0
"""Seconds that a handler's thread waits for a roll-back: the connection may have been lost in silence."""

Word: TypeAlias = Callable[[Held], None]


class CarryOut(Protocol):
    """What writes in a transaction, as in any other of a ledger's: looking after leases first."""

    def __call__(self, writes: Sequence[Write], transaction: Transaction, /) -> None: ...


class KeptTransaction(OpenTransaction, Keeper):
    """A thread begins it, lends its connection to a handler, and waits for a word, how it ends, or for its time.

    So it ends in time whatever the handler does, and no signal handler comes up in the midst of a driver's work. The
    first word counts. The thread owns what is not told below; the handler's threads read it once a flag is set.
    """

    def __init__(
        self, database: Database, carry_out: CarryOut, begin: Callable[[Transaction], None], limit: float
    ) -> None:
        self.is_wanted = True  # until whoever waits gives up on it
        self.limit = limit
        self.opener = threading.get_ident()
        self._database = database
        self._carry_out = carry_out
        self._begin = begin
        self._words: Mailbox[Word] = Mailbox()
        self._is_open, self._is_over = Flag(), Flag()
        self._held: Held | None = None
        self._has_ended = False
        self._is_committed = False
        self._doubt: object | None = None
        self._error: Exception | None = None

    # -- by the handler's threads ---------------------------------------------------------------------

    @property
    def connection(self) -> Any:
        assert self._held is not None
        return self._held.connection

    @property
    def problem(self) -> Exception | None:
        return self._error if self._is_over.is_set() else None

    def open(self, check: Callable[[], None]) -> None:
        threading.Thread(target=self._run, name="szal-transaction", daemon=True).start()
        try:
            while not self._is_open.wait(_LOOK_AGAIN):
                check()
        except BaseException:
            self.is_wanted = False
            self._words.put(_roll_back)
            raise
        if self._error is not None:
            raise self._error

    def write(self, write: SaveStep) -> None:
        held = self._held
        assert held is not None
        if (problem := self.problem) is not None:
            raise problem
        held.do(partial(self._carry_out, [write]))

    def commit(self, write: SaveStep, timeout: float) -> None:
        self._words.put(partial(self._commit, write))
        if not self._is_over.wait(timeout):
            self.is_wanted = False
            raise self._unknown()
        if self._error is not None or not self._is_committed:
            raise self._error or self._unknown()

    def roll_back(self) -> None:
        self.is_wanted = False
        self._words.put(_roll_back)
        self._is_over.wait(_PATIENCE)
        if self._held is not None and self._is_over.is_set():
            self._held.close()

    # -- by any thread --------------------------------------------------------------------------------

    def abandon(self) -> None:
        self.is_wanted = False
        self._words.put(self._take_away)

    # -- the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._database.hold(self)
            if self._doubt is not None:
                self._ask()
            elif not self._has_ended:
                self._error = TransactionFailed("it was not begun: nobody waits for this attempt any more")
        except BaseException as error:
            if self._has_ended:  # that is told; what is wrong with the connection, its pool has dealt with
                logger.debug("after a handler's transaction", exc_info=True)
            else:
                self._error = error if isinstance(error, Exception) else TransactionFailed(repr(error))
        finally:
            self._is_open.set()
            self._is_over.set()

    def keep(self, held: Held) -> None:
        try:
            held.do(self._begin)
        except BaseException:
            held.roll_back()
            raise
        self._held = held
        self._is_open.set()
        try:
            word = self._words.next(self.limit if held.is_exclusive else None)
        except Empty:
            word = self._take_away_in_time
        self._has_ended = True
        try:
            word(held)
        except Exception as error:  # noqa: BLE001 (raised by who waits for it)
            self._error = error
            held.roll_back()

    def _commit(self, write: SaveStep, held: Held) -> None:
        self._doubt = held.commit(partial(self._carry_out, [write]))
        self._is_committed = self._doubt is None

    def _take_away(self, held: Held) -> None:
        self._error = TransactionFailed("it is rolled back: nobody waits for this attempt any more")
        held.end_by_force(self._error.problem)

    def _take_away_in_time(self, held: Held) -> None:
        self._error = TransactionFailed(
            f"it was open for more than {self.limit:g} s (half of lease_ttl), and is rolled back: nobody else can write"
            " meanwhile. Do what takes long before it"
        )
        held.end_by_force(self._error.problem)

    def _ask(self) -> None:
        """Find out whether it is committed: the answer was lost."""
        while self.is_wanted:
            try:
                self._is_committed = self._database.has_committed(self._doubt)
            except StoreUnavailable:
                self._is_over.wait(_LOOK_AGAIN)
                continue
            if not self._is_committed:
                problem = "the connection was lost before a handler's transaction was committed"
                self._error = StoreUnavailable(self._database.name, problem)
            return
        self._error = self._unknown()

    def _unknown(self) -> CommitUnknown:
        return CommitUnknown(self._database.name, "nobody could be asked whether a handler's transaction is committed")


def _roll_back(held: Held) -> None:
    held.roll_back()


class OthersTransaction(JoinedTransaction):
    """A transaction of the application's, in which the outcome of a step is recorded under *lease*."""

    def __init__(self, database: Database, carry_out: CarryOut, lease: Lease, guest: Guest) -> None:
        self._database = database
        self._carry_out = carry_out
        self._guest = guest
        guest.check()
        found = guest.do(partial(self._look, lease.execution_id))
        if not found:
            raise ValueError(
                f"the connection does not lead to {database.name}, or its transaction began before this execution:"
                " give one to the database of the store, and begin its transaction in the step"
            )
        if found[0][0] != lease.epoch:
            raise LeaseLost(lease.execution_id)

    def _look(self, execution_id: str, transaction: Transaction) -> Rows:
        """Return the epoch of an execution, where it is there: in a database that is a copy it is not."""
        said = self._database.statements
        return transaction.rows(said.leases.epoch, (execution_id,)) if transaction.rows(said.is_there)[0][0] else []

    def write(self, write: SaveStep) -> None:
        self._guest.do(partial(self._carry_out, [write]))

    def record(self, write: SaveStep) -> None:
        self.write(write)  # which has an epoch, by which the lease is looked after

    def fate(self, write: SaveStep) -> Fate:
        is_over = self._guest.is_over()  # first: what is committed in between is seen
        rows = self._database.read(self._database.statements.step, (write.execution_id, write.step_name))
        if [tuple(row) for row in rows] == [(write.seq, write.data)]:
            return Fate.COMMITTED
        return Fate.ROLLED_BACK if is_over else Fate.OPEN
