"""Transactions that handlers write in, under the lease of one execution: begun, and ended with a step's outcome."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from szal.engine.leased_store import LeasedStore
from szal.errors import Cancelled, CommitUnknown, FlushTimeout, LeaseLost, TransactionFailed
from szal.model.results import StepResult
from szal.scheduler.call import NextPoll
from szal.scheduler.observers import Joined, Shared
from szal.scheduler.plan import Node

if TYPE_CHECKING:
    from szal.stores.transactions import JoinedTransaction, OpenTransaction
    from szal.stores.writes import SaveStep

__all__ = ["JoinedByHandler", "Rows", "SharedWithHandler", "Transactions"]


class Rows(Protocol):
    """Who knows what is written of a step. Called on the handler's thread."""

    def row(self, node: Node, result: StepResult, following: NextPoll | None) -> "SaveStep":
        """Return the write of the outcome of a step that has completed so, at its place in the order.

        Or, where another poll follows, of what it has come to.
        """

    def recorded(self, node: Node, row: "SaveStep") -> None:
        """Take note that this is committed: it is not written again."""


class Transactions:
    """Begins them, for the execution *execution_id*. *lost* is told what the run is to be left for."""

    def __init__(self, leased: LeasedStore, execution_id: str, epoch: int, lost: Callable[[Exception], None]) -> None:
        self.leased = leased
        self.execution_id = execution_id
        self.epoch = epoch
        self.lost = lost

    def open(self, rows: Rows, check: Callable[[], None]) -> Shared:
        """Begin one of the store's own, once all is committed that is queued."""
        try:
            self.leased.flush([self.execution_id])
            opened = self.leased.transaction(self.execution_id, self.epoch)
            opened.open(check)
        except LeaseLost as error:
            raise self.taken_over(error) from error
        return SharedWithHandler(self, rows, opened)

    def flush(self) -> None:
        """Wait until all is committed that is queued: the application's transaction has to see it, and may keep it out.

        Raises `TransactionFailed` where it does, for as long as nothing renews the lease.
        """
        try:
            self.leased.flush([self.execution_id], self.leased.ttl / 2)
        except LeaseLost as error:
            raise self.taken_over(error) from error
        except FlushTimeout as error:
            raise TransactionFailed(
                f"what is to be recorded before it cannot be written ({error}). Where the connection's transaction has"
                " written already, that is why: call ctx.transaction(connection=…) before its first change"
            ) from error

    def join(self, rows: Rows, connection: object) -> Joined:
        """Return the application's on *connection*."""
        try:
            joined = self.leased.join(self.execution_id, self.epoch, connection)
        except LeaseLost as error:
            raise self.taken_over(error) from error
        return JoinedByHandler(self, rows, joined)

    def taken_over(self, error: LeaseLost) -> Cancelled:
        """Have the run left; return what the handler is told."""
        self.lost(error)
        return Cancelled("another process runs this execution now")

    def memo(self, name: str, text: str) -> "SaveStep":
        """Return the write of a memo: the lease is looked after with the outcome, and held for no longer than that."""
        from szal.stores.writes import SaveStep

        self.leased.check_memo_key(name)
        return SaveStep(self.execution_id, name, 0, text)


class SharedWithHandler(Shared):
    """One of the store's own, which is open."""

    def __init__(self, transactions: Transactions, rows: Rows, opened: "OpenTransaction") -> None:
        self._transactions = transactions
        self._rows = rows
        self._opened = opened

    @property
    def connection(self) -> Any:
        return self._opened.connection

    @property
    def problem(self) -> Exception | None:
        return self._opened.problem

    def memo(self, name: str, text: str) -> None:
        self._opened.write(self._transactions.memo(name, text))

    def commit(self, node: Node, result: StepResult, following: NextPoll | None = None) -> None:
        row = self._rows.row(node, result, following)
        try:
            self._opened.commit(row, self._transactions.leased.commit_timeout)
        except LeaseLost as error:
            raise self._transactions.taken_over(error) from error
        except CommitUnknown as error:
            self._transactions.lost(error)
            raise
        if following is None:
            self._rows.recorded(node, row)

    def roll_back(self) -> None:
        self._opened.roll_back()

    def abandon(self) -> None:
        self._opened.abandon()


class JoinedByHandler(Joined):
    """The application's own."""

    def __init__(self, transactions: Transactions, rows: Rows, joined: "JoinedTransaction") -> None:
        self._transactions = transactions
        self._rows = rows
        self._joined = joined
        self._row: SaveStep | None = None

    def memo(self, name: str, text: str) -> None:
        self._joined.write(self._transactions.memo(name, text))

    def record(self, node: Node, result: StepResult) -> None:
        row = self._rows.row(node, result, None)
        try:
            self._joined.record(row)
        except LeaseLost as error:
            raise self._transactions.taken_over(error) from error
        self._row = row

    def has_committed(self) -> bool:
        from szal.stores.transactions import Fate

        assert self._row is not None
        try:
            fate = self._joined.fate(self._row)
        except Exception as problem:
            self._transactions.lost(problem)  # nobody knows: another attempt might do it twice
            raise
        if fate is Fate.OPEN:
            error = TransactionFailed(
                f"the transaction that step {self._row.step_name!r} is recorded in is still open as its handler has"
                " ended: commit it in the handler, or roll it back. The execution is left as it is; once that"
                " transaction has ended, whoever resumes it goes by what is committed"
            )
            self._transactions.lost(error)
            raise error
        return fate is Fate.COMMITTED
