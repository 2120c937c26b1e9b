"""What an SQL database has to offer for a store and a ledger to be kept in it."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, Protocol, TypeAlias, TypeVar

from szal.stores.listening import ChangeListener, Listener
from szal.stores.statements import Statements

__all__ = ["SPLIT", "Database", "Guest", "Held", "Keeper", "Row", "Rows", "Transaction", "no_connection"]

Row: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = list[Row]
Made = TypeVar("Made")

SPLIT: Final = (
    "it was committed, or rolled back, within the block: what was committed there is there without the outcome of the"
    " step. Do that after the block"
)
"""What is wrong with a transaction of the application's that is another one than before."""

_DRIVERS_OWN: Final = {
    "django": ": szal.contrib.django has a transaction and a submit that take Django's",
    "sqlalchemy": ": give the driver's own, as session.connection().connection.driver_connection",
}
"""What to give instead of a library's own connection."""


def no_connection(wanted: str, given: object) -> TypeError:
    """Return the error for what is *given* as a connection, and is not what the store has."""
    kind = type(given)
    hint = _DRIVERS_OWN.get(kind.__module__.partition(".")[0], "")
    return TypeError(
        f"connection= takes a {wanted}, as the store has, not a {kind.__module__}.{kind.__qualname__}{hint}"
    )


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


class Held(Protocol):
    """A transaction on a connection that is nobody else's meanwhile, for as long as its `Keeper` says."""

    is_exclusive: ClassVar[bool]
    """Whether nobody else can write to the database meanwhile."""

    @property
    def connection(self) -> Any:
        """The driver's: statements of others run there, too."""

    def do(self, work: Callable[[Transaction], Made]) -> Made:
        """Return what *work* makes of it. From any thread."""

    def commit(self, work: Callable[[Transaction], object]) -> object | None:
        """Do that, and commit; return None, or, where the answer was lost, what to ask `Database.has_committed`.

        After an exception nothing has happened: what the driver raises for what others have written is raised as it is.
        """

    def roll_back(self) -> None:
        """End it, where it has not ended. Never raises."""

    def end_by_force(self, why: str) -> None:
        """Roll it back, whatever others are at: they cannot use the connection any more. Never raises."""

    def close(self) -> None:
        """Let go of the connection, which nobody uses any more. Never raises."""


class Keeper(Protocol):
    """Who has a transaction held."""

    is_wanted: bool
    """Whether it is still to be begun."""
    opener: int
    """The thread that it is for: while it is held, that one must not wait for others who write."""
    limit: float
    """For how many seconds it may last, where it is exclusive, and be waited for."""

    def keep(self, held: Held) -> None:
        """Hold it for as long as it is to last, and end it. Raises what keeps it from being used at all."""


class Guest(Protocol):
    """A transaction of somebody else's, on a connection of its own."""

    def check(self) -> None:
        """Raise ValueError unless a transaction is open on the connection, or begins with the next statement.

        So it is where the connection is seen at once to lead to another database.
        """

    def do(self, work: Callable[[Transaction], Made]) -> Made:
        """Return what *work* makes of it. `TransactionFailed`: the one that it was called in before has ended."""

    def is_over(self) -> bool:
        """Whether the transaction has ended in which `do` was called last."""

    def is_of(self, database: "Database") -> bool:
        """Whether it is in *database*, of this kind."""


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

    def listen(self, channel: str) -> Listener:
        """Return what hears of what is told there, from now on (`szal.stores.listening`)."""

    def changes(self) -> ChangeListener:
        """Return what hears of changes of executions from now on."""

    def hold(self, keeper: Keeper) -> None:
        """Begin a write transaction, and have *keeper* keep it. Raises `NotSupportedHere` where there can be none.

        Where it is not wanted any more it is not begun. What may pass is tried again until it is kept.
        """

    def has_committed(self, doubt: object) -> bool:
        """Return what became of a COMMIT whose answer was lost; *doubt* is what `Held.commit` has returned."""

    def join(self, connection: object) -> Guest:
        """Return the transaction of *connection*, somebody else's. Raises TypeError where it is not of this driver."""

    def tidy(self) -> None:
        """Delete what the database keeps for itself, and needs no more."""
