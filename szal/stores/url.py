"""URLs of stores, in each spelling that people have at hand, and what of a URL may be shown.

A URL that does not parse may have its password anywhere. So messages are made of what was taken apart and checked, and
nothing is ever cut out of a text by searching for the password.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote

import attrs

__all__ = ["PostgresUrl", "SqliteFile", "known_scheme", "scheme_of", "without_password"]

# SQLAlchemy writes the driver behind a plus sign. Two letters at least: "C:\\runs.db" is a path.
_FILE = re.compile(r"[\w./-]+\.(?:db|sqlite3?)")
_URL = re.compile(r"([a-z][a-z0-9.-]+)(?:\+(\w+))?:(.*)", re.IGNORECASE | re.DOTALL)
_SQLITE = "sqlite:///relative.db, sqlite:////absolute.db or sqlite:///:memory:"
_POSTGRES = "postgresql://user:password@host:5432/database"
_EXAMPLES = {
    "memory": "memory:",
    "sqlite": "sqlite:///FILE",
    "postgresql": "postgresql://…",
    "postgres": "postgresql://…",
}


def scheme_of(text: str) -> str | None:
    """Return the scheme of a URL, in small letters and without a driver; None for what is no URL.

    >>> [scheme_of(text) for text in ("postgresql+psycopg://host/db", "SQLite:///x", "host=h password=a:b", "C:/x")]
    ['postgresql', 'sqlite', None, None]
    """
    found = _URL.fullmatch(text)
    return None if found is None else found[1].lower()


def known_scheme(url: str, known: Iterable[str]) -> str:
    """Return the scheme of *url*, which is one of *known*; else a ValueError says what to write, and quotes little.

    >>> known_scheme("postgre://me:secret@host/db", ["memory", "sqlite", "postgresql", "postgres"])
    Traceback (most recent call last):
    ValueError: no store for postgre://…: did you mean postgresql://…? Known are memory:, sqlite:///FILE, postgresql://…
    """
    if not isinstance(url, str):
        raise TypeError(f"a store is named by a URL ({_SQLITE}), not by a {type(url).__name__}")
    found, known = _URL.fullmatch(url), [*known]
    scheme = "" if found is None else found[1].lower()
    if scheme in known:
        return scheme
    examples = f"Known are {', '.join(dict.fromkeys(_EXAMPLES[each] for each in known))}"
    if found is None or not found[3].startswith("//"):
        raise ValueError(f"this is no URL of a store: {_meant_by(url)}. {examples}")
    close = difflib.get_close_matches(scheme, known, n=1)
    meant = f"did you mean {_EXAMPLES[close[0]]}? " if close else ""
    raise ValueError(f"no store for {scheme}://…: {meant}{examples}")


def _meant_by(text: str) -> str:
    """Return what to write for what is no URL. What may hold a password is not quoted."""
    if "=" in text:
        return "what libpq calls key=value text is for PostgresExecutionStore.connect"
    if not text:
        return "it is empty"
    if text.strip(":").lower() == "memory":
        return "write memory:"
    return f"write sqlite:///{text}" if _FILE.fullmatch(text) else "that of a file begins with sqlite:///"


def without_password(url: str) -> str:
    """Return *url* as it may stand in a log; libpq has other ways to be told a password.

    >>> without_password("postgresql+psycopg://ann:secret@db/prod?password=secret&sslmode=require")
    'postgresql+psycopg://ann@db/prod?sslmode=require'
    """
    scheme = scheme_of(url)
    if scheme not in ("postgresql", "postgres"):
        return url if scheme in _EXAMPLES else "…"
    try:
        return PostgresUrl.of(url).shown
    except ValueError:
        return f"{scheme}://…"


# -- SQLite -----------------------------------------------------------------------------------------


@attrs.frozen
class SqliteFile:
    """A file, or ``:memory:``, and its mode: "rwc" makes the file where it is not there, "rw" does not, "ro" reads."""

    path: str
    """Absolute: a later chdir must not move the database."""
    mode: str = "rwc"

    @classmethod
    def of(cls, given: str | os.PathLike[str]) -> "SqliteFile":
        """Return what a path, or a URL, names; raises ValueError.

        Three slashes stand before a relative path, four before an absolute one, as SQLAlchemy writes it. szal-rs writes
        a relative one behind two, or none. Nothing is escaped; a question mark begins the parameters.

        >>> SqliteFile.of("sqlite:////var/szal.db?mode=ro"), SqliteFile.of("sqlite::memory:").path
        (SqliteFile(path='/var/szal.db', mode='ro'), ':memory:')
        """
        text = os.fspath(given)
        if not isinstance(text, str):
            raise TypeError("the path of a database is text, not bytes")
        mode = "rwc"
        if isinstance(given, str):
            scheme = scheme_of(text)
            if scheme == "sqlite":
                text, mode = _sqlite_path(text)
            elif scheme is not None and "://" in text:
                raise ValueError(f"this is no URL of SQLite: write {_SQLITE}")
        if not text:
            raise ValueError(f"the path of the database is empty: write {_SQLITE}")
        return cls(text if text == ":memory:" else str(Path(text).absolute()), mode)

    @property
    def is_memory(self) -> bool:
        return self.path == ":memory:"

    @property
    def uri(self) -> str:
        """The URL that SQLite itself understands."""
        return f"{Path(self.path).as_uri()}?mode={self.mode}"


def _sqlite_path(url: str) -> tuple[str, str]:
    """Return the path and the mode of *url*, which begins with ``sqlite``."""
    found = _URL.fullmatch(url)
    assert found is not None
    if found[2] not in (None, "pysqlite", "aiosqlite"):
        raise ValueError(f"szal opens SQLite files with Python's own driver: write {_SQLITE}")
    path, question, query = found[3].partition("?")
    if path.startswith("///"):
        path = path[3:]
    elif path.startswith("//"):
        path = path[2:]
        if "@" in path:
            raise ValueError(f"a file has no user, no password and no host: write {_SQLITE}")
    key, _, mode = query.partition("=")
    if question and (key != "mode" or mode not in ("rwc", "rw", "ro")):
        raise ValueError(
            "behind the '?' of a URL of SQLite stands mode=rwc, mode=rw or mode=ro, and nothing else;"
            " a file with a '?' in its name is given as a path"
        )
    return path, mode or "rwc"


# -- PostgreSQL -------------------------------------------------------------------------------------

# As libpq cuts it. User and password end at an "@" before which there is no slash.
_AUTHORITY = re.compile(r"(?:([^:@/]*)(?::([^@/]*))?@)?([^?]*)(?:\?(.*))?", re.DOTALL)
_SECRET = frozenset({"password", "sslpassword", "oauth_client_secret"})
_OWN = frozenset({"prepare_threshold"})


@attrs.frozen
class PostgresUrl:
    """A URL of PostgreSQL without what is SQLAlchemy's and szal's in it, and what of it may be shown."""

    for_libpq: str = attrs.field(repr=False)
    shown: str
    own: Mapping[str, str] = MappingProxyType({})
    """Parameters that are szal's."""

    @classmethod
    def of(cls, url: str) -> "PostgresUrl":
        """Return *url*, taken apart; raises ValueError where a password might be taken for something else.

        >>> url = PostgresUrl.of("postgresql+psycopg2://me:s%40cret@db.example/app?prepare_threshold=none")
        >>> url.shown, url.own
        ('postgresql+psycopg2://me@db.example/app?prepare_threshold=none', {'prepare_threshold': 'none'})
        >>> PostgresUrl.of("postgresql://me:s@cret@db.example/app")
        Traceback (most recent call last):
        ValueError: an '@' may stand between user and host only: write %40 for any other
        """
        found = _URL.fullmatch(url)
        if found is None or not found[3].startswith("//"):
            raise ValueError(f"this is no URL of PostgreSQL: {_POSTGRES}")
        driver = "" if found[2] is None else f"+{found[2]}"
        rest = found[3][2:]
        _check(rest)
        parts = _AUTHORITY.fullmatch(rest)
        assert parts is not None
        user, password, place, query = parts.groups()
        if password == "***":  # noqa: S105
            raise ValueError("the password is ***, as SQLAlchemy shows it: use render_as_string(hide_password=False)")
        if user is not None and "?" in user:
            raise ValueError("the name of the user has a '?' in it: write %3F for it")
        parameters = [] if query is None else [each for each in query.split("&") if each]
        if any(each.count("=") != 1 for each in parameters):
            raise ValueError("behind the '?' of a URL stands name=value&name=value: write %3F, %26 and %3D for others")
        own = {name: unquote(value) for name, _, value in (each.partition("=") for each in parameters) if name in _OWN}
        who = "" if user is None else f"{user}@" if password is None else f"{user}:{password}@"
        shown = [each for each in parameters if unquote(each.partition("=")[0]).lower() not in _SECRET]
        kept = [each for each in parameters if each.partition("=")[0] not in own]
        return cls(
            f"postgresql://{who}{place}{_query(kept)}",
            f"{found[1].lower()}{driver}://{'' if user is None else f'{user}@'}{place}{_query(shown)}",
            own,
        )


def _check(rest: str) -> None:
    """Raise ValueError where people forget to escape: libpq would take a part of the password for a host."""
    if re.search(r"%(?![0-9a-fA-F]{2})", rest):
        raise ValueError("a '%' in a URL begins two hexadecimal digits: write %25 for a percent sign")
    before, at, after = rest.partition("@")
    if "@" in after:
        raise ValueError("an '@' may stand between user and host only: write %40 for any other")
    if at and "/" in before:
        raise ValueError("a '/' stands before the '@': write %2F for one in a password, %40 for an '@' behind the host")


def _query(parameters: list[str]) -> str:
    return f"?{'&'.join(parameters)}" if parameters else ""
