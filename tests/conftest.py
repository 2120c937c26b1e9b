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
from zlib import crc32

import pytest
from dask_cluster import connected, held, shared_cluster
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

# How long something takes is no matter of a test. What hypothesis draws is the same each time: who changes something
# sees what that has changed. SZAL_TEST_FULL=1 draws anew, and more.
settings.register_profile("szal", settings(), deadline=None, derandomize=not FULL)
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


# Where most tests begin threads, processes or databases. In scripts/ tests share out their rows themselves.
SLOW_ROOMS = {"cli", "contrib", "durable", "engine", "steps", "stores", "surroundings", "test_benchmarks.py", "testing"}
QUICK_ROOMS = {"events", "files", "model", "scheduler"}
KINDS = ("memory", "sqlite", "postgres")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a test with several rows, or that is marked as slow, have a run of everything take a third.

    Another one on each version of Python, and another one of each test. Whoever names a file runs all of its rows; so
    does SZAL_TEST_FULL=1.
    """
    if FULL or config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    tests = defaultdict[str, list[pytest.Item]](list)
    for item in items:
        tests[item.nodeid.partition("[")[0]].append(item)
    left_out = {item for name, rows in tests.items() if _is_shared_out(rows) for item in _of_others(name, rows)}
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


def _is_shared_out(rows: list[pytest.Item]) -> bool:
    parts = {*rows[0].path.relative_to(Path(__file__).parent).parts}
    least = 2 if SLOW_ROOMS & parts else 3
    is_many = len(rows) >= least and bool((SLOW_ROOMS | QUICK_ROOMS) & parts)
    return is_many or rows[0].get_closest_marker("slow") is not None


def _of_others(name: str, rows: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Yield those that other versions of Python have. Of each kind of store there are as many on each of them."""
    kinds = {item: _kind(item) for item in rows}
    without = {item: item.nodeid.replace(kind, "") for item, kind in kinds.items()}
    places = {row: place for place, row in enumerate(sorted({*without.values()}))}
    first = crc32(name.encode()) + sys.version_info.minor
    for item, kind in kinds.items():
        if (first + places[without[item]] + (KINDS.index(kind) if kind else 0)) % 3:
            yield item


def _kind(item: pytest.Item) -> str:
    params = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    return next((value for value in params if isinstance(value, str) and value in KINDS), "")


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
def dask_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all workers of pytest have to do with one cluster is in this folder."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def dask_address(dask_folder: Path) -> Iterator[str]:
    """Where a dask cluster of two processes is, which all workers of pytest share: nobody kills anything of it.

    What waits until both of its processes are at work needs `both_of_dask`.
    """
    with shared_cluster(dask_folder) as address:
        yield address


@pytest.fixture(scope="session")
def dask_client(dask_address: str) -> "Iterator[distributed.Client]":
    """A client of that."""
    with connected(dask_address) as client:
        yield client


@pytest.fixture
def both_of_dask(dask_client: "distributed.Client", dask_folder: Path) -> "Iterator[distributed.Client]":
    """That client, while nobody else waits for both: of two who do, each would have one, and wait for the other."""
    with held(dask_folder / "dask-both"):
        yield dask_client


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
