"""Another program at the database of a store."""

import json
import sqlite3
from typing import Any

import psycopg

RUST_TABLE = "CREATE TABLE szal_executions (execution_id TEXT PRIMARY KEY, flow_name TEXT NOT NULL, data TEXT NOT NULL)"


class Outside:
    """Another program at the same database, as szal-rs: it knows three columns of one table."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_postgres = url.startswith("postgresql:")
        self.db: Any = (
            psycopg.connect(url, autocommit=True)
            if self.is_postgres
            else sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        )

    def run(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        found = self.db.execute(statement.replace("?", "%s") if self.is_postgres else statement, parameters)
        return [] if found.description is None else found.fetchall()

    def insert(self, data: str, execution_id: str = "p") -> None:
        """Write *data* as it stands, a record or not."""
        self.run("INSERT INTO szal_executions (execution_id, flow_name, data) VALUES (?, 'ci', ?)", execution_id, data)

    def save(self, data: str) -> None:
        """Write a record, or write it anew."""
        fields = json.loads(data)
        self.run(
            "INSERT INTO szal_executions (execution_id, flow_name, data) VALUES (?, ?, ?)"
            " ON CONFLICT (execution_id) DO UPDATE SET flow_name = excluded.flow_name, data = excluded.data",
            fields["execution_id"],
            fields["flow_name"],
            data,
        )
