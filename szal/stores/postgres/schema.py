"""Which schema szal's tables in PostgreSQL are in, and what is said to them there."""

from functools import lru_cache
from typing import Any

import attrs

from szal.stores.postgres.statements import STATEMENTS, PostgresStatements
from szal.stores.statement import Statement

__all__ = ["in_schema", "prefix", "quoted", "statements"]


@lru_cache(maxsize=16)
def statements(schema: str | None) -> PostgresStatements:
    """Return the statements for tables in *schema*, or in the first schema of the search path."""

    def moved(given: Any) -> Any:
        if isinstance(given, Statement):
            return given.with_schema(_for_statements(schema))
        if attrs.has(type(given)):
            fields = (each.name for each in attrs.fields(type(given)) if each.init)
            return type(given)(**{name: moved(getattr(given, name)) for name in fields})
        return in_schema(schema, given) if isinstance(given, str) else given

    found: PostgresStatements = moved(STATEMENTS)
    return found


def in_schema(schema: str | None, statement: str) -> str:
    """Return *statement* for tables in *schema*."""
    return statement.replace("szal.", _for_statements(schema))


def _for_statements(schema: str | None) -> str:
    return prefix(schema).replace("%", "%%")


def prefix(schema: str | None) -> str:
    """Return what stands before the name of a table: its schema and a dot, or nothing."""
    return f"{quoted(schema)}." if schema else ""


def quoted(name: str) -> str:
    """Return *name* as an identifier."""
    return '"{}"'.format(name.replace('"', '""'))
