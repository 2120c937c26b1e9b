"""What an SQL database has to offer for a store and a ledger to be kept in it."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from szal.stores.listening import Listener
from szal.stores.statements import Statements

__all__ = ["Database", "Row", "Rows", "Transaction"]

Row: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = list[Row]
Made = TypeVar("Made")


class Transaction(Protocol):
    """What can be done between BEGIN and COMMIT."""

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        """Run one statement and return all its rows."""

    def rows_of(self, statement: str, execution_ids: Sequence[str]) -> Rows:
        """Run a statement that takes an array of ids, and return its rows for all."""

    def rows_for(self, statement: str, rows: Sequence[Row]) -> Rows:
        """Run a statement that takes one of *rows*, or an array of each column, and return its rows for all."""

    def many(self, statement: str, rows: Sequence[Row]) -> None:
        """Run a statement for each of *rows*, in order; it returns none itself."""


class Database(Protocol):
    """One database. It translates its driver's errors into szal's."""

    @property
    def name(self) -> str:
        """What messages call it; never holds a password."""

    @property
    def statements(self) -> Statements:
        """What is said to it. Raises `NotMigrated` where its tables are not as they have to be."""

    def read(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        """Run one statement that changes nothing, and return all its rows."""

    def read_of(self, statement: str, execution_ids: Sequence[str]) -> Rows:
        """Run a statement that takes an array of ids, and return its rows for all."""

    def transact(self, work: Callable[[Transaction], Made], request: object = None, *, once: bool = False) -> Made:
        """Return what *work* makes of a write transaction: committed on return, undone if that raises.

        *work* may be called again, in another transaction, where the first came to nothing; but with *once* that is
        for the caller to do. Who asks again with the same *request* is told what became of the first.
        """

    def listen(self) -> Listener:
        """Return what hears of submissions from now on."""

    def tidy(self) -> None:
        """Delete what the database keeps for itself, and needs no more."""
