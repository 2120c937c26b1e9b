"""What each transaction leaves in the database: by it is told whether it has been committed, wherever that is read.

The number that PostgreSQL gives a transaction does not tell. After a failover to a standby that had not heard of it,
and after a crash even on the same server, that number is given to another one.
"""

import os
import secrets
from collections import deque

import attrs

__all__ = ["Mark", "Marks"]


@attrs.frozen
class Mark:
    """A row of szal_commits. With it goes the one with the number *before*, which its writer had left last."""

    writer: str
    number: int
    before: int

    def row(self) -> tuple[object, ...]:
        """Return the parameters of the statement that leaves it."""
        return self.writer, self.before, self.writer, self.number


@attrs.define(eq=False)
class Marks:
    """The marks of one process. A writer is whoever has a transaction; as many are used as there are at a time.

    What is forgotten (a doubt that nobody asked about, a thread that was interrupted) leaves one row until a `prune`.
    """

    _free: "deque[Mark]" = attrs.field(factory=deque, init=False)
    """Of each writer that is free now, the last mark that was made."""
    _process: int = attrs.field(factory=os.getpid, init=False)

    def next(self) -> Mark:
        """Return a mark that there has never been."""
        if self._process != os.getpid():  # the writers are the parent's
            self._free, self._process = deque(), os.getpid()
        try:
            last = self._free.pop()
        except IndexError:
            return Mark(secrets.token_urlsafe(16), 1, 0)
        return Mark(last.writer, last.number + 1, last.before)

    def left(self, mark: Mark) -> None:
        """Take note that a transaction is committed."""
        self._free.append(Mark(mark.writer, mark.number, mark.number))

    def undone(self, mark: Mark) -> None:
        """Take note that a transaction has come to nothing."""
        self._free.append(mark)
