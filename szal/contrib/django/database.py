"""The URL of the store that a database of ``DATABASES`` is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

__all__ = ["url_of"]

_OF_DJANGO: Final = {"client_encoding", "context", "cursor_factory"}
_IN_PLACE: Final = ("user", "password", "host", "port", "dbname")


def url_of(alias: str) -> str:
    """Return the URL of a database of the project, as its settings are now: a test's while that runs.

    Raises `ImproperlyConfigured` for one that can be no store.
    """
    connection = connections[alias]
    if connection.vendor == "sqlite":
        return _file(alias, connection)
    if connection.vendor == "postgresql":
        return _server(alias, connection)
    raise _no_store(alias, f"is {connection.display_name}: szal records in PostgreSQL and SQLite")


def _no_store(alias: str, problem: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(
        f'the database {alias!r} {problem}; SZAL["STORE"] = "postgresql://…" names another store'
    )


def _file(alias: str, connection: Any) -> str:
    name = str(connection.settings_dict["NAME"])
    if connection.is_in_memory_db():
        raise _no_store(alias, "is in memory, where only Django sees it")
    if "?" in name or name.startswith("file:"):
        raise _no_store(alias, f"is the file {name!r}, which no URL can name")
    return f"sqlite:///{Path(name).absolute()}"


def _server(alias: str, connection: Any) -> str:
    parameters: dict[str, Any] = connection.get_connection_params()
    role = connection.settings_dict["OPTIONS"].get("assume_role")
    if role is not None:
        raise _no_store(alias, f"assumes the role {role!r}, which szal does not")
    found = {key: str(value) for key, value in parameters.items() if key not in _OF_DJANGO and value is not None}
    if "/" in found.get("host", "") or "," in found.get("host", ""):  # a directory of sockets, or several servers
        found["?host"] = found.pop("host")
    return _url(found)


def _url(found: Mapping[str, str]) -> str:
    user, password, host, port, name = (quote(found.get(key, ""), safe="") for key in _IN_PLACE)
    who = f"{user}:{password}@" if password else f"{user}@" if user else ""
    place = f"{host}:{port}" if port else host
    others = (f"{key.lstrip('?')}={quote(value, safe='')}" for key, value in found.items() if key not in _IN_PLACE)
    query = "&".join(others)
    return f"postgresql://{who}{place}/{name}{'?' if query else ''}{query}"
