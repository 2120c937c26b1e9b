"""One statement of an SQL database, with what is to be known of it."""

from typing import Self

__all__ = ["Statement"]


class Statement(str):
    """SQL, with parameters by position. A batch is a statement that takes rows, or columns of them.

    >>> Statement("SELECT  1", by="a doctest", indexes="")
    'SELECT 1'
    """

    by: str
    """Who runs it."""
    indexes: str
    """The indexes that serve it, with spaces between; of what reads no table: none."""

    json: tuple[int, ...]
    """Which of its parameters, or columns of them, are JSON."""

    derived: tuple[int, ...]
    """Which of them follow from the record: triggers fill in what is NULL."""

    def __new__(
        cls, text: str, *, by: str, indexes: str, json: tuple[int, ...] = (), derived: tuple[int, ...] = ()
    ) -> Self:
        self = super().__new__(cls, " ".join(text.split()))
        self.by, self.indexes, self.json, self.derived = by, indexes, json, derived
        return self

    def with_schema(self, prefix: str) -> Self:
        """Return the same with *prefix* instead of ``szal.``."""
        made = super().__new__(type(self), self.replace("szal.", prefix))
        made.by, made.indexes, made.json, made.derived = self.by, self.indexes, self.json, self.derived
        return made
