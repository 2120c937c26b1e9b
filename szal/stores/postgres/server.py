"""Where a PostgreSQL server is: what `connect` was given, checked, and what szal adds to it."""

import re
from typing import Any, Literal, TypeAlias

import attrs
import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from szal.stores.url import PostgresUrl, scheme_of

__all__ = ["PrepareThreshold", "Server", "among"]

PrepareThreshold: TypeAlias = int | Literal["auto"] | None

# What libpq would do without limit. A network that goes silent is noticed within 30 seconds: where nothing is answered
# by the keepalives of a session that waits, where nothing is acknowledged by `tcp_user_timeout`.
_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
    "fallback_application_name": "szal",
}
_NO_TIMEOUT = 130.0
"""What psycopg makes of a `connect_timeout` of 0, which is none for libpq."""
_LEAST_TIMEOUT = 2.0
# A host holds nothing of what a password would bring along that was taken for one. "@" begins an abstract socket.
_HOST = re.compile(r"@?[^@=;\s/]*|@?/[^@=;]*")


@attrs.frozen(kw_only=True)
class Server:
    """Where the database is, and how it is connected to."""

    name: str
    """What messages call the database: neither user nor password are in it."""
    parameters: dict[str, Any] = attrs.field(repr=False)
    """Of libpq, with the password."""
    prepare_threshold: PrepareThreshold
    connect_timeout: float
    """For each host."""

    @classmethod
    def of(cls, url: str, schema: str | None, prepare_threshold: PrepareThreshold) -> "Server":
        """Return what *url* names, a URL or ``key=value`` text; raises ValueError, with nothing of a password in it."""
        if not isinstance(url, str):
            raise TypeError(f"a database is named by a URL, not by a {type(url).__name__}; a pool is for from_pool")
        own: dict[str, str] = {}
        if scheme_of(url) in ("postgresql", "postgres"):
            cut = PostgresUrl.of(url)
            url, own = cut.for_libpq, {**cut.own}
        given = _parsed(url)
        if given is None:
            raise ValueError(
                "libpq does not understand this: write postgresql://user:password@host:5432/database?name=value with"
                " names that libpq has, or key=value text"
            )
        _check(given)
        environment = {each.keyword.decode() for each in pq.Conninfo.get_defaults() if each.val}
        defaults = {key: value for key, value in _DEFAULTS.items() if key not in environment}
        threshold = _threshold(own["prepare_threshold"]) if "prepare_threshold" in own else prepare_threshold
        if threshold is not None and threshold != "auto" and (type(threshold) is not int or threshold < 0):
            raise ValueError(f'prepare_threshold is a number, None or "auto", not {threshold!r}')
        return cls(
            name=_name(given) + among(schema),
            parameters=defaults | given | {"client_encoding": "UTF8"},
            prepare_threshold=threshold,
            connect_timeout=_timeout(given.get("connect_timeout")),
        )

    def conninfo(self) -> str:
        """Return what connects to the first host that answers."""
        return make_conninfo("", **self.parameters)

    def conninfo_of(self, pgconn: pq.abc.PGconn) -> str:
        """Return what connects to the host that *pgconn* has, or tried, connected to, and to no other."""
        place = {
            name: value.decode()
            for name, value in (("host", pgconn.host), ("hostaddr", pgconn.hostaddr), ("port", pgconn.port))
            if value
        }
        others = {key: value for key, value in self.parameters.items() if key not in ("host", "hostaddr", "port")}
        return make_conninfo("", **others, **place)


def among(schema: str | None) -> str:
    """Return what names a schema behind a database."""
    return f", schema {schema}" if schema else ""


def _name(given: dict[str, Any]) -> str:
    host, port = given.get("host") or given.get("hostaddr") or "", given.get("port")
    return f"postgresql://{host}{f':{port}' if port else ''}/{given.get('dbname') or ''}"


def _parsed(text: str) -> dict[str, Any] | None:
    """Return what libpq makes of *text*. Its error would quote the password, if that is what it stumbles over."""
    try:
        return {**conninfo_to_dict(text)}
    except (psycopg.Error, UnicodeError):
        return None


def _check(given: dict[str, Any]) -> None:
    """Raise ValueError for a place that is none: it would be named in messages, and might be a part of a password."""
    for key in ("host", "hostaddr"):
        if not all(_HOST.fullmatch(host) for host in given.get(key, "").split(",")):
            raise ValueError(
                f"this is no {key}: escape @ / : ? and % in a password (%40 %2F %3A %3F %25), and write key=value text"
                " with spaces between the pairs"
            )
    if not re.fullmatch(r"[0-9]*(,[0-9]*)*", given.get("port", "")):
        raise ValueError("the port is no number: a '/' or '?' in a password is written %2F, %3F")
    name = given.get("dbname", "")
    if "=" in name or "://" in name:
        raise ValueError("the name of the database is none: it holds a '=' or a URL")


def _timeout(given: str | None) -> float:
    """Return for how long psycopg tries each host."""
    defaults = {each.keyword: each.val for each in pq.Conninfo.get_defaults()}
    text = given or (defaults.get(b"connect_timeout") or b"").decode() or _DEFAULTS["connect_timeout"]
    try:
        seconds = float(int(float(text)))
    except ValueError:
        raise ValueError("connect_timeout is no number of seconds") from None
    return max(seconds, _LEAST_TIMEOUT) if seconds > 0 else _NO_TIMEOUT


def _threshold(text: str) -> PrepareThreshold:
    if text.lower() in ("none", ""):
        return None
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise ValueError('prepare_threshold in a URL is a number, "none" or "auto"')
    return int(text)
