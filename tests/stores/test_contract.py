"""What every store promises: each backend, and each behind the sink. The contract itself is szal.testing's."""

import pytest
from stores.samples import WIRE, record

from szal.model.json import decode_record, encode_record
from szal.stores import Sink, Store
from szal.stores.ledger import Ledger
from szal.testing.query_contract import QueryContract


class TestEachStore(QueryContract):
    """Its fixture `store` is each kind, bare and behind a sink."""


SHOWN = {"name", "save", "get", "remove", "list", "find", "count", "prune", "close", "ledger"}
OF_STORES = {"connect", "migrate", "engine_sink", "set_capacity", "capacities"}
OF_EACH = {"memory": set(), "sqlite": {"from_connection"}, "postgres": {"from_pool", "pool"}}
OF_SINKS = {"flush", "drain", "stats"}


def test_what_it_shows_is_what_people_use(store: Store | Sink, backend_url: str) -> None:
    """What engines need is on its ledger."""
    own = OF_SINKS if isinstance(store, Sink) else OF_STORES | OF_EACH[backend_url.partition(":")[0].removesuffix("ql")]
    assert {name for name in dir(store) if not name.startswith("_")} == SHOWN | own


def test_every_ledger_is_the_protocol_and_nothing_more(store: Store | Sink) -> None:
    shown = {name for name in dir(store.ledger) if not name.startswith("_")}
    assert shown == {name for name in dir(Ledger) if not name.startswith("_")}


@pytest.mark.parametrize("name", ["completed", "failed", "rolled-back", "running"])
def test_a_record_comes_back_as_it_was_saved(store: Store, name: str) -> None:
    saved = decode_record((WIRE / f"record-{name}.json").read_text())
    store.save(saved)
    assert store.get(saved.execution_id) == saved


def test_json_of_szal_is_stored_as_it_is(backend: Store) -> None:
    saved = record(1, labels={"team": "ä"})
    backend.save(saved)
    assert encode_record(backend.get("e00001")) == encode_record(saved)  # type: ignore[arg-type]
