"""What is submitted and has not begun: the protocol of each store's queue, what it is asked, and what it answers."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import attrs

from szal.expressions.path import Json
from szal.model.moment import as_datetime
from szal.stores.listening import Listener
from szal.stores.writes import NewExecution, Release

__all__ = ["Claim", "InQueue", "Queue", "Submission"]

_LATEST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
"""What a datetime in UTC can say: a `not_before` in another time zone may be a little later."""


def _moment(at: datetime | float | None) -> datetime | None:
    return at if at is None or isinstance(at, datetime) else as_datetime(min(max(0.0, at), _LATEST))


@attrs.frozen(kw_only=True)
class Submission:
    """An execution that is recorded now and begun later, by whoever takes it from *queue*."""

    new: NewExecution
    """Its record is CREATED, and nobody has its lease."""
    queue: str = "default"
    priority: int = 0
    """Higher ones are taken first; of equals the oldest."""
    not_before: float | None = None
    """When it may begin at the earliest (Unix time)."""

    @property
    def unowned(self) -> NewExecution:
        """What is recorded: its lease is given back as soon as it is made."""
        return self.new.ended_by([Release(self.new.execution_id)])

    def row(self) -> tuple[object, ...]:
        """Return the parameters of the statement that queues it."""
        due = max(self.not_before or 0.0, 0.0)  # 0 is at once, and so is what was before 1970
        key = self.new.record.concurrency_key
        return self.new.execution_id, self.queue, self.priority, self.not_before, due, key


@attrs.frozen(kw_only=True)
class Claim:
    """At most *most* executions of *queues* that are due, reserved for *ttl* seconds; *but* none of these."""

    queues: Sequence[str]
    most: int
    ttl: float
    but: Collection[str] = ()


@attrs.frozen(kw_only=True)
class InQueue:
    """Where an execution stands that was submitted, and has not begun.

    >>> print(InQueue(queue="mail"))
    in the queue 'mail'
    """

    queue: str
    priority: int = 0
    not_before: datetime | None = attrs.field(default=None, converter=_moment)

    def __str__(self) -> str:
        """Return it in words."""
        until = "" if self.not_before is None else f", not before {self.not_before:%Y-%m-%d %H:%M:%S} UTC"
        return f"in the queue {self.queue!r}{until}"

    def as_json(self) -> dict[str, Json]:
        """Return it as a JSON object."""
        return {**attrs.asdict(self), "not_before": None if self.not_before is None else self.not_before.isoformat()}


class Queue(Protocol):
    """A store's queue. All methods may be called from any thread; they block while the store works."""

    def submit(self, submission: Submission, connection: object = None) -> bool:
        """Record an execution and queue it, in one transaction; False, and nothing is done, where its id is taken.

        With *connection*, of the driver's, in the transaction that is open there, and is its owner's to end. Raises
        TypeError and ValueError where that is none of this store's database.
        """

    def claim(self, wanted: Claim, /) -> list[str]:
        """Reserve executions that are due, those of the highest priority first, the oldest first among equals.

        Nobody else is given one of them before its time is over, nor after that where it has begun. Of several who ask
        at a time none waits for another. Those whose concurrency key another one has are passed over, and of those with
        the same key all but the first.
        """

    def begun(self, execution_ids: Collection[str]) -> None:
        """Take executions from the queue: they have begun, and whoever recovers goes on with them."""

    def give_back(self, execution_ids: Collection[str]) -> None:
        """Let others have what was reserved."""

    def listen(self) -> Listener:
        """Return what hears of submissions from now on."""

    def tell(self) -> None:
        """Have whoever listens look: something that was passed over may begin."""

    def places(self, execution_ids: Collection[str]) -> Mapping[str, InQueue]:
        """Return where those of these executions stand that are in a queue, by execution."""

    def due_in(self, queues: Sequence[str]) -> float | None:
        """Return in how many seconds the next one of *queues* may begin, 0.0 for at once; None: there is none.

        What is reserved counts with the end of that.
        """
