"""A COMMIT whose answer is lost because the server is: whoever follows it tells what became of it.

SZAL_TEST_FULL=1: a standby that follows. Always: the same server after a crash, in test_postgres_faults.
"""

import os
from collections.abc import Callable, Iterator

import pytest
from stores.cutter import Cutter
from stores.postgres_server import REPLICATION, OwnServer, PostgresServer, Standby
from stores.samples import record

from szal.model.state import WorkflowState
from szal.stores import PostgresExecutionStore, Store, open_store

pytestmark = pytest.mark.skipif(not os.environ.get("SZAL_TEST_FULL"), reason="starts two more servers")

WRITES: dict[str, Callable[[Store], object]] = {
    "save": lambda store: store.save(record(1, state=WorkflowState.RUNNING)),
    "remove": lambda store: store.remove("e00002"),
}


@pytest.fixture(scope="module")
def primary(server: PostgresServer) -> Iterator[OwnServer]:
    """A server that others may follow."""
    if not isinstance(server, OwnServer):
        pytest.skip("servers are started where they are ours")
    primary = OwnServer(REPLICATION)
    yield primary
    primary.close()


def use_up_numbers(server: PostgresServer, count: int) -> None:
    """Have *server* commit so many transactions."""
    server.execute(f"DO $$ BEGIN FOR n IN 1..{count} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("write", WRITES)
def test_what_the_new_server_has_is_not_done_again_and_what_it_has_not_is(
    primary: OwnServer, write: str, is_there: bool
) -> None:
    schema = primary.new_schema()
    url = primary.url_of(schema)
    with open_store(url) as store:
        store.save(record(2))
    standby = Standby(primary)
    place = standby.place / "cut"
    place.mkdir()
    cutter = Cutter(place, url)
    try:
        if not is_there:
            standby.forget_the_primary()

        def fail_over() -> None:
            if is_there:
                standby.catch_up(primary)
            standby.promote()
            use_up_numbers(standby, 100)
            cutter.lead_to(standby.url)
            if is_there:
                with open_store(standby.url_of(schema)) as other:
                    other.save(record(1))
                    other.save(record(2, state=WorkflowState.PAUSED))

        with PostgresExecutionStore.connect(cutter.url, retry_timeout=20.0) as store:
            assert store.list() == ["e00002"]
            cutter.cut_at(b"COMMIT\0", delivered=True, then=fail_over)
            made = WRITES[write](store)
            assert cutter.cuts == 1
            first = record(1, state=WorkflowState.COMPLETED if is_there else WorkflowState.RUNNING)
            second = record(2, state=WorkflowState.PAUSED)
            if write == "save":
                assert store.get("e00001") == first
            else:
                assert made == record(2)
                assert store.get("e00002") == (second if is_there else None)
    finally:
        cutter.close()
        standby.close()
