"""A store when a signal handler raises in the middle of it, at every moment: it is usable, and nothing is half done.

In a database at some of them; SZAL_TEST_FULL=1: at every one, which takes some minutes.
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pairs import FULL
from stores.interruptions import interrupted, interruptions
from stores.samples import record

from szal.stores import Store, open_store
from szal.stores.writes import Save

ALIVE = 20.0
EVERY = {  # moment: on PostgreSQL one takes as long as ten of SQLite
    "memory": 1,
    "sqlite": 1 if FULL else 7,
    "postgres": 1 if FULL else 29,
}
PARTS = 5 if FULL else 1  # that the first use is taken in: a test may not take 150 seconds
FIRST_EVERY = {"sqlite": PARTS if FULL else 11, "postgres": PARTS if FULL else 79}
SHIFT = sys.version_info.minor  # the moments of another Python are others
BATCH = [Save.of(record(number)) for number in (1, 2, 3)]

USES: dict[str, Callable[[Store], object]] = {
    "save": lambda store: store.save(record(1)),
    "remove": lambda store: store.remove("e00009"),
    "apply": lambda store: store.ledger.apply(BATCH),
    "get": lambda store: store.get("e00009"),
    "list": lambda store: store.list(),
}
pytestmark = pytest.mark.timeout(140 if FULL else 60)
WRITTEN = {"save": {"e00001"}, "apply": {"e00001", "e00002", "e00003"}}


def every_of(store: Store) -> int:
    """Return which of the moments are taken with a store of that kind: each so many."""
    kinds = {"memory:": "memory", "postgresql:": "postgres"}
    return EVERY[next((kind for start, kind in kinds.items() if store.name.startswith(start)), "sqlite")]


def is_usable(store: Store) -> None:
    """Every thread can write, and soon."""
    problems: list[BaseException] = []

    def save() -> None:
        try:
            store.save(record(90))
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=save, daemon=True)
    thread.start()
    thread.join(ALIVE)
    assert not thread.is_alive()
    assert problems == []
    assert store.get("e00090") == record(90)


def check(store: Store, use: str, where: str | None) -> None:
    is_usable(store)
    found = {*store.list()} - {"e00009", "e00090"}
    assert found in (set(), WRITTEN.get(use, set())), where
    assert ("e00009" in store.list()) or use == "remove", where


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("use", USES)
def test_an_interruption_at_any_moment_leaves_a_store_usable(backend: Store, use: str) -> None:
    if use == "apply" and backend.name == "memory:":
        pytest.skip("one operation after the other")
    every = every_of(backend)
    for interruption in interruptions(every=every, first=1 + SHIFT % every):
        backend.save(record(9))
        held = interrupted(interruption, USES[use], backend)  # the exception, so that its frames stay
        check(backend, use, interruption.where)
        del held
        for execution_id in backend.list():
            backend.remove(execution_id)


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore:.*thread started by:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize("part", range(PARTS))
def test_also_at_the_first_use(kind: str, part: int, request: pytest.FixtureRequest, path: Path) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else f"sqlite:///{path}"
    with open_store(url) as migrated:
        every = FIRST_EVERY[kind]
        for interruption in interruptions(every=every, first=1 + (part if FULL else SHIFT % every)):
            with type(migrated).connect(url) as store:  # type: ignore[attr-defined]
                held = interrupted(interruption, store.save, record(1))
                is_usable(store)
                del held


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_was_interrupted_before_it_was_committed_is_not_told_as_committed(backend: Store) -> None:
    every = every_of(backend)
    for interruption in interruptions(every=every, first=1 + SHIFT % every):
        told: list[Exception | None] = []
        save = Save.of(record(1))
        save.done = told.append
        interrupted(interruption, backend.ledger.write, save)
        assert told in ([], [None])
        assert told == [] or backend.remove("e00001") is not None, interruption.where
        backend.remove("e00001")
