"""Text for databases that are not in UTF-8, which have no place for most characters: JSON says them in ASCII."""

import json
import re
from collections.abc import Mapping, Sequence

from szal.stores.postgres.connection import PostgresConnection
from szal.stores.statement import Statement

__all__ = ["escaped", "fitting", "holds_any_text", "in_ascii"]

_ANY_TEXT = (b"UTF8", b"SQL_ASCII")  # the second takes bytes as they come
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")


def holds_any_text(connection: PostgresConnection) -> bool:
    """Return whether the database that *connection* leads to takes all characters."""
    return connection.pgconn.parameter_status(b"server_encoding") in _ANY_TEXT


def escaped(text: str) -> str:
    """Return *text*, which is JSON, in ASCII.

    >>> escaped('{"name":"naïve 中"}')
    '{"name":"na\\\\u00efve \\\\u4e2d"}'
    """
    return text if text.isascii() else _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)


def in_ascii(steps: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Return *steps* with their results, which are JSON, in ASCII."""
    return [{**step, "result": escaped(str(step["result"]))} for step in steps]


def fitting(connection: PostgresConnection, statement: str, parameters: Sequence[object]) -> Sequence[object]:
    """Return *parameters*, or columns of them, with JSON in ASCII where the database may have no place for more.

    What follows from a record is left for triggers to fill in: they make of it what the database can hold.
    """
    if not isinstance(statement, Statement) or not statement.json or holds_any_text(connection):
        return parameters
    made = list(parameters)
    for index in statement.json:
        given = made[index]
        if isinstance(given, str):
            made[index] = escaped(given)
        elif isinstance(given, list):
            made[index] = [escaped(each) for each in given]
    for index in statement.derived:
        made[index] = None
    return made
