"""An application's own tables beside those of szal, in the same database: money that is moved, or not."""

import sqlite3
from contextlib import closing
from typing import Any, NamedTuple

import psycopg

TABLES = (
    "CREATE TABLE accounts (name TEXT PRIMARY KEY, amount INTEGER NOT NULL)",
    "CREATE TABLE transfers (note TEXT NOT NULL)",
    "INSERT INTO accounts VALUES ('ann', 100), ('bob', 0)",
)


class Moved(NamedTuple):
    """What there is in the tables."""

    ann: int
    bob: int
    notes: list[str]


UNTOUCHED = Moved(100, 0, [])


def once(note: str = "t") -> Moved:
    """What there is after one transfer."""
    return Moved(93, 7, [note])


class Bank:
    """The tables in the database at *url*."""

    def __init__(self, url: str, *, make: bool = True) -> None:
        self.is_sqlite = url.startswith("sqlite:")
        self.place = url.removeprefix("sqlite:///") if self.is_sqlite else url
        if make:
            with closing(self.connect()) as connection:
                for statement in TABLES:
                    connection.execute(statement)
                connection.commit()

    def connect(self) -> Any:
        """A connection of the application's own, which begins a transaction with its first change."""
        return sqlite3.connect(self.place) if self.is_sqlite else psycopg.connect(self.place)

    @property
    def moved(self) -> Moved:
        """What is committed."""
        with closing(self.connect()) as connection:
            amounts = dict(connection.execute("SELECT name, amount FROM accounts").fetchall())
            notes = [note for (note,) in connection.execute("SELECT note FROM transfers ORDER BY note").fetchall()]
            return Moved(amounts["ann"], amounts["bob"], notes)


def transfer(connection: Any, note: str = "t", pause: Any = lambda place: None) -> None:
    """Move 7 from Ann to Bob, in three statements; *pause* is called before each, and after the last."""
    pause(0)
    connection.execute("UPDATE accounts SET amount = amount - 7 WHERE name = 'ann'")
    pause(1)
    connection.execute("UPDATE accounts SET amount = amount + 7 WHERE name = 'bob'")
    pause(2)
    connection.execute(f"INSERT INTO transfers VALUES ('{note}')")
    pause(3)
