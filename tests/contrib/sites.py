"""Applications as tests have them served, whose flows wait for files."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import attrs
import pytest
from processes import UNMEASURED, wait_until
from web import ask

import szal

PROC = Path("/proc")


def environment(place: Path, **variables: str) -> dict[str, str]:
    """Return the environment of an application that has the szal of this process."""
    here = Path(__file__).parent
    return UNMEASURED | {"PYTHONPATH": f"{Path(szal.__file__).parents[1]}:{here}", "PLACE": str(place), **variables}


@contextmanager
def database_url(request: pytest.FixtureRequest, file: Path) -> Iterator[str]:
    """Give the URL of an empty database of the kind that the fixture's parameter names: *file*, or a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{file}"
        return
    server = request.getfixturevalue("server")
    with server.temporary_schema() as schema:
        yield server.url_of(schema)


@attrs.frozen
class Site:
    """An application that is served; *files* is where its steps look for them."""

    address: str
    files: Path

    def begin(self, name: str) -> int:
        """Begin a walk, and return the process in which its first step is at work."""
        pid: int = ask(self.address, "POST", f"/walks/{name}")["pid"]
        wait_until((self.files / f"{name}.busy").exists, 20)
        return pid

    def go_on(self, name: str) -> None:
        """Let the first step of a walk end."""
        (self.files / f"{name}.go").touch()

    def await_state(self, name: str, state: str) -> Any:
        """Wait until an execution is in that state, and return what is told of it."""

        def found() -> Any:
            shown = self.ask("GET", f"/status/{name}")
            return shown if shown and shown["state"] == state else None

        return wait_until(found, 20)

    def await_another(self, before: int) -> int:
        """Wait until another process than *before* answers, and return it."""

        def found() -> int | None:
            pid: int = (self.ask("GET", "/process") or {"pid": before})["pid"]
            return None if pid == before else pid

        pid: int = wait_until(found, 20)
        return pid

    def ask(self, method: str, path: str, body: str | None = None) -> Any:
        """Return what is answered, a moment later; None of a process that ends before that, or in the middle of it."""
        time.sleep(0.02)  # asked again and again, a server takes the time of those that work
        with suppress(OSError, ValueError, HTTPException):
            return ask(self.address, method, path, body)


def files_of(pid: int, name: str) -> list[str]:
    """Return the files whose name begins so that a process has open."""
    found = []
    for each in (PROC / str(pid) / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(each.readlink().name)
    return [each for each in found if each.startswith(name)]
