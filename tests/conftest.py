"""Fixtures that several folders of tests share: a PostgreSQL server."""

import contextlib
import gc
import importlib
import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dask_cluster import connected, shared_cluster
from hypothesis import settings
from pairs import FULL
from stores.postgres_server import PostgresServer, postgres_server

from szal.stores import open_store

if TYPE_CHECKING:
    import distributed

# The processes that tests start are not measured: they would take twice as long, and reach nothing more.
if "PYTEST_XDIST_WORKER" in os.environ:  # the one that starts the workers has to pass it on
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


def _measure_nothing() -> None:
    os._exit = posix._exit  # coverage's own writes a file first
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]


if hasattr(os, "fork"):
    import posix

    os.register_at_fork(after_in_child=_measure_nothing)

# How long something takes is no matter of a test.
settings.register_profile("szal", settings(), deadline=None)
settings.load_profile("szal")

# A shell's background job inherits that the first two are ignored, what nohup runs that the last is.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection(session: pytest.Session) -> None:
    """Have each worker begin with files of its own: of the others it finds the asserts rewritten, which takes long."""
    gc.disable()  # thousands of tests are made, and none is let go of
    if "PYTEST_XDIST_WORKER" in os.environ and session.config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        number, count = int(os.environ["PYTEST_XDIST_WORKER"][2:]), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        here = Path(__file__).parent
        for file in sorted(here.rglob("test_*.py"))[number::count]:
            with contextlib.suppress(Exception, pytest.skip.Exception):  # that will be told where it is collected
                importlib.import_module(".".join(file.relative_to(here).with_suffix("").parts))


MANY_ROWS = 4
SLOW_ROOMS = {"cli", "contrib", "durable", "engine", "steps", "stores", "surroundings", "test_benchmarks.py"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a slow test with many rows, have a run of everything take a third: another one on each version of Python.

    Whoever names a file runs all of its rows; so does SZAL_TEST_FULL=1.
    """
    if FULL or config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    rows = defaultdict[str, list[pytest.Item]](list)
    for item in items:
        if SLOW_ROOMS & {*item.path.relative_to(Path(__file__).parent).parts}:
            rows[item.nodeid.partition("[")[0]].append(item)
    left_out = set[pytest.Item]()
    for group in rows.values():
        if len(group) >= MANY_ROWS:
            group.sort(key=lambda item: item.nodeid)  # not as they are shuffled
            left_out.update(item for place, item in enumerate(group) if (place - sys.version_info.minor) % 3)
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """Keep the garbage collector from going over thousands of tests, which stay, each time that one calls it."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    server = postgres_server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def dask_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a dask cluster of two processes is, which all workers of pytest share: nobody kills anything of it."""
    folder = tmp_path_factory.getbasetemp()
    with shared_cluster(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) as address:
        yield address


@pytest.fixture(scope="session")
def dask_client(dask_address: str) -> "Iterator[distributed.Client]":
    """A client of that."""
    with connected(dask_address) as client:
        yield client


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing but the count of references frees anything."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Refuse threads whose names begin so, as a limit of the system would; called with nothing: no more of them.

    Each call returns a list, to which the names of those are added that are refused.
    """
    start = threading.Thread.start

    def refuse(*prefixes: str) -> list[str]:
        refused: list[str] = []

        def start_or_refuse(thread: threading.Thread) -> None:
            if thread.name.startswith(prefixes):
                refused.append(thread.name)
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_or_refuse)
        return refused

    return refuse


@pytest.fixture(scope="session")
def sqlite_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database, to be copied: to make one takes longer than many tests."""
    path = tmp_path_factory.mktemp("sqlite") / "szal.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def tables() -> None:
    """In the test's schema are szal's tables, if it has one."""


@pytest.fixture
def schema(request: pytest.FixtureRequest, server: PostgresServer) -> Iterator[str]:
    """A schema: an empty one, unless the test asks for `tables`."""
    if "tables" in request.fixturenames:
        name = server.schema_with_tables()
        yield name
        server.give_back(name)
    else:
        with server.temporary_schema() as name:
            yield name


@pytest.fixture
def postgres_url(server: PostgresServer, schema: str) -> str:
    """Where a new schema is the first of the search path."""
    return server.url_of(schema)
