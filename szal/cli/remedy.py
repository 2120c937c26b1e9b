"""What a person can do about a store that does not work, by what its driver has said."""

import shlex
import sqlite3
from pathlib import Path
from typing import Final

from szal.errors import NotMigrated, StoreError, StoreFailed
from szal.stores.url import SqliteFile, scheme_of, without_password

__all__ = ["remedy_for"]

_SQLITE: Final = {
    sqlite3.SQLITE_BUSY: "somebody holds its write lock: end that transaction (fuser {file} tells which processes)",
    sqlite3.SQLITE_LOCKED: "somebody holds its write lock: end that transaction (fuser {file} tells which processes)",
    sqlite3.SQLITE_FULL: "make room on its disk: df -h {folder}",
    sqlite3.SQLITE_READONLY: "let this user write to the file and its folder, and open it without mode=ro:"
    " ls -ld {folder} {file}",
    sqlite3.SQLITE_PERM: "let this user write to the file and its folder: ls -ld {folder} {file}",
    sqlite3.SQLITE_CANTOPEN: "let this user read and write the file and its folder: ls -ld {folder} {file}",
    sqlite3.SQLITE_IOERR: "look at its disk: df -h {folder}; dmesg",
    sqlite3.SQLITE_CORRUPT: "restore it from a backup; what is wrong: sqlite3 {file} 'PRAGMA integrity_check'",
    sqlite3.SQLITE_NOTADB: "name another file: this one is no SQLite database: file {file}",
}
_POSTGRES: Final = {
    "25006": "name the server that takes writes (the primary; target_session_attrs=read-write finds it)",
    "42501": "grant this user SELECT, INSERT, UPDATE and DELETE on szal's tables",
    "53100": "make room on the server's disk",
    "53300": "let fewer connect at a time, or the server take more (max_connections)",
    "55P03": "end the transaction that holds the lock: SELECT * FROM pg_stat_activity",
    "57P03": "wait: it is starting, or shutting down",
}


def remedy_for(url: str, error: StoreError) -> str:
    """Return what to do, as one line, with the command that tells more."""
    if isinstance(error, NotMigrated):
        return "update szal: pip install -U szal" if error.newer else "make them: any command does, as szal list"
    cause = error.__cause__
    code = getattr(cause, "sqlite_errorcode", None)
    if scheme_of(url) == "sqlite":
        file = SqliteFile.of(url).path
        said = _SQLITE.get(code & 0xFF) if isinstance(code, int) else None
        return (said or "look at the file: ls -l {file}").format(
            file=shlex.quote(file), folder=shlex.quote(str(Path(file).parent))
        )
    said = _POSTGRES.get(getattr(cause, "sqlstate", None) or "")
    if said is not None:
        return said
    address = shlex.quote(without_password(url))
    if isinstance(error, StoreFailed):
        return f"see that the user, the password and the database are right: psql {address}"
    return f"see whether it runs, and is reached from here: pg_isready -d {address}"
