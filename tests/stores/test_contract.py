"""What every store promises: each backend, and each behind the sink."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import attrs
import pytest
from stores.samples import NOON, WIRE, record

from szal.errors import EncodeError
from szal.model.json import decode_record, encode_record
from szal.model.results import ExecutionRecord, FlowResult, StepResult
from szal.model.state import StepStatus, WorkflowState
from szal.stores import Sink, Store
from szal.stores.ledger import Ledger

DECIDED = [WorkflowState.COMPLETED, WorkflowState.FAILED, WorkflowState.ROLLED_BACK, WorkflowState.CANCELLED]


def ids(found: list) -> list[str]:
    return [summary.execution_id for summary in found]


SHOWN = {"name", "save", "get", "remove", "list", "find", "count", "prune", "close", "ledger"}
OF_STORES = {"connect", "migrate", "engine_sink"}
OF_EACH = {"memory": set(), "sqlite": {"from_connection"}, "postgres": {"from_pool", "pool"}}
OF_SINKS = {"flush", "drain", "stats"}


def test_what_it_shows_is_what_people_use(store: Store | Sink, backend_url: str) -> None:
    """What engines need is on its ledger."""
    own = OF_SINKS if isinstance(store, Sink) else OF_STORES | OF_EACH[backend_url.partition(":")[0].removesuffix("ql")]
    assert {name for name in dir(store) if not name.startswith("_")} == SHOWN | own


def test_every_ledger_is_the_protocol_and_nothing_more(store: Store | Sink) -> None:
    shown = {name for name in dir(store.ledger) if not name.startswith("_")}
    assert shown == {name for name in dir(Ledger) if not name.startswith("_")}


# -- one record -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["completed", "failed", "rolled-back", "running"])
def test_a_record_comes_back_as_it_was_saved(store: Store, name: str) -> None:
    saved = decode_record((WIRE / f"record-{name}.json").read_text())
    store.save(saved)
    assert store.get(saved.execution_id) == saved


def test_a_record_with_everything_in_it_comes_back(store: Store) -> None:
    step = StepResult("s", "build", StepStatus.COMPLETED, {"π": [1, None]}, 0.25, 2, started_at=NOON)
    result = FlowResult("ci", [step], 0.5, False, True, "e", WorkflowState.FAILED, "no")
    saved = record(
        1, result=result, inputs={"env": "prod"}, labels={"team": "a"}, parent_execution_id="p", flow_id="f", error="no"
    )
    store.save(saved)
    assert store.get(saved.execution_id) == saved


def test_what_is_not_there_is_none(store: Store) -> None:
    assert store.get("nobody") is None
    assert store.remove("nobody") is None
    assert store.list() == []


def test_a_second_save_replaces_the_first(store: Store) -> None:
    store.save(record(1, state=WorkflowState.RUNNING))
    store.save(record(1, flow="cd", state=WorkflowState.COMPLETED))
    saved = store.get("e00001")
    assert saved is not None
    assert (saved.flow_name, saved.state) == ("cd", WorkflowState.COMPLETED)
    assert store.list() == store.list("cd") == ["e00001"]
    assert store.list("ci") == []


def test_remove_returns_what_was_there_once(store: Store) -> None:
    store.save(record(1))
    assert store.remove("e00001") == record(1)
    assert store.remove("e00001") is None
    assert store.get("e00001") is None
    assert store.list() == []


def test_of_several_that_remove_a_record_at_a_time_one_is_given_it(store: Store) -> None:
    records = [record(number) for number in range(40)]
    for each in records:
        store.save(each)
    start = threading.Barrier(4)

    def remove() -> list[str]:
        start.wait(20)
        return [each.execution_id for each in records if store.remove(each.execution_id) is not None]

    with ThreadPoolExecutor(4) as pool:
        taken = [future.result(20) for future in [pool.submit(remove) for _ in range(4)]]
    assert sorted(itertools.chain(*taken)) == sorted(each.execution_id for each in records)


def test_a_removed_record_can_be_saved_again(store: Store) -> None:
    store.save(record(1))
    store.remove("e00001")
    store.save(record(1, flow="cd"))
    assert store.list() == ["e00001"]
    assert store.count(flow_name="cd") == 1


def test_a_later_change_of_an_object_does_not_leak_in(store: Store) -> None:
    labels = {"team": "a"}
    saved = record(1, labels=labels)
    store.save(saved)
    labels["team"] = saved.flow_name = "changed"
    assert store.get("e00001") == record(1, labels={"team": "a"})
    store.get("e00001").labels["team"] = "changed"  # type: ignore[union-attr,index]
    assert store.get("e00001") == record(1, labels={"team": "a"})


def test_what_json_cannot_hold_fails_where_it_was_made(store: Store) -> None:
    with pytest.raises(EncodeError, match="inputs"):
        store.save(record(1, inputs={"when": NOON}))
    assert store.list() == []


@pytest.mark.parametrize("name", ["", " ", "a'b\"c", "ß🚀", "x" * 10_000, "a\nb", "%s ? :id"])
def test_any_text_can_be_an_id_and_a_name(store: Store, name: str) -> None:
    store.save(ExecutionRecord(name, name))
    assert store.get(name).flow_name == name  # type: ignore[union-attr]
    assert store.list(name) == [name]
    assert ids(store.find(flow_name=name)) == [name]


def test_list_puts_the_oldest_first(store: Store) -> None:
    for number in (3, 1, 2):
        store.save(record(number))
        store.count()  # with a sink: so that each is committed by itself
    assert store.list() == ["e00001", "e00002", "e00003"]
    assert store.list("ci") == store.list()
    assert store.list("cd") == []


def test_threads_can_share_it(store: Store) -> None:
    errors: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for number in range(worker * 100, worker * 100 + 20):
                store.save(record(number, state=WorkflowState.RUNNING))
                store.save(record(number))
                assert store.get(f"e{number:05}") == record(number)
                if number % 2:
                    assert store.remove(f"e{number:05}") == record(number)
                store.list("cd")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=[worker]) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert store.count(states=WorkflowState.COMPLETED) == store.count() == 40


# -- find and count ---------------------------------------------------------------------------------


def test_find_returns_summaries_the_newest_first(store: Store) -> None:
    store.save(record(1, labels={"team": "a"}, parent_execution_id="p", error="no", state=WorkflowState.FAILED))
    store.save(record(2, flow="cd", state=WorkflowState.RUNNING))
    running, failed = store.find()
    assert (running.execution_id, running.flow_name, running.state) == ("e00002", "cd", WorkflowState.RUNNING)
    assert (running.started_at, running.finished_at) == (NOON + timedelta(minutes=2), None)
    assert (failed.labels, failed.parent_execution_id, failed.error) == ({"team": "a"}, "p", "no")
    assert failed.finished_at == NOON + timedelta(minutes=1, seconds=1)


def test_find_filters_by_everything_at_once(store: Store) -> None:
    for number in range(40):
        state = list(WorkflowState)[number % 8]
        labels = {"team": "ab"[number % 2], 'od"d\\é': str(number % 4)}
        store.save(record(number, flow=f"flow{number % 3}", state=state, labels=labels))
    everything = store.find(limit=None)
    assert len(everything) == store.count() == 40

    def check(**filters: object) -> None:
        def passes(summary: object) -> bool:
            number = int(summary.execution_id[1:])  # type: ignore[attr-defined]
            states = filters.get("states", list(WorkflowState))
            return (
                filters.get("flow_name") in (None, f"flow{number % 3}")
                and list(WorkflowState)[number % 8] in (states if isinstance(states, list) else [states])
                and NOON + timedelta(minutes=number) >= filters.get("since", NOON)  # type: ignore[operator]
                and NOON + timedelta(minutes=number) < filters.get("until", NOON + timedelta(days=1))  # type: ignore[operator]
                and filters.get("labels", {}).items() <= summary.labels.items()  # type: ignore[attr-defined]
            )

        expected = [summary for summary in everything if passes(summary)]
        assert store.find(limit=None, **filters) == expected  # type: ignore[arg-type]
        assert store.find(limit=3, **filters) == expected[:3]  # type: ignore[arg-type]
        assert store.count(**filters) == len(expected)  # type: ignore[arg-type]

    check(flow_name="flow1")
    check(states=WorkflowState.FAILED)
    check(states=[WorkflowState.FAILED, WorkflowState.RUNNING])
    check(states=[])
    check(flow_name="flow2", states=DECIDED)
    check(flow_name="flow2", states=[WorkflowState.PAUSED])
    check(labels={"team": "a"})
    check(labels={'od"d\\é': "3"}, flow_name="flow0")
    check(labels={"team": "b", 'od"d\\é': "2"})
    check(since=NOON + timedelta(minutes=7), until=NOON + timedelta(minutes=30))
    check(since=NOON + timedelta(minutes=7), states=DECIDED, flow_name="flow1", labels={"team": "b"})
    berlin = timezone(timedelta(hours=2))
    check(since=(NOON + timedelta(minutes=12)).astimezone(berlin))


def test_equal_starts_are_ordered_by_id(store: Store) -> None:
    for name in "bdac":
        store.save(ExecutionRecord(name, "ci", started_at=NOON))
    assert ids(store.find()) == ["d", "c", "b", "a"]
    assert ids(store.find(after="c")) == ["b", "a"]


@pytest.mark.parametrize(
    "filters", [{}, {"flow_name": "ci"}, {"states": DECIDED}, {"flow_name": "ci", "states": WorkflowState.COMPLETED}]
)
def test_pages_neither_repeat_nor_miss_while_rows_come_and_go(store: Store, filters: dict) -> None:
    for number in range(20):
        store.save(record(number, started_at=NOON + timedelta(seconds=number // 4)))
    expected = ids(store.find(limit=None, **filters))
    page = store.find(limit=3, **filters)
    seen = ids(page)
    newcomer = 1000
    while page:
        store.save(record(newcomer))
        store.remove(page[-1].execution_id)
        newcomer += 1
        page = store.find(limit=3, after=page[-1], **filters)
        seen += ids(page)
    assert seen == expected


def test_a_page_can_start_after_an_id(store: Store) -> None:
    for number in range(5):
        store.save(record(number))
    assert ids(store.find(after="e00002")) == ["e00001", "e00000"]
    with pytest.raises(ValueError, match="after='nobody'"):
        store.find(after="nobody")


def test_find_refuses_nonsense(store: Store) -> None:
    with pytest.raises(ValueError, match="since has no time zone"):
        store.find(since=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="limit must be at least 0, and is -1"):
        store.find(limit=-1)
    with pytest.raises(TypeError, match="WorkflowState"):
        store.find(states="Failed")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="label"):
        store.find(label={"a": "b"})  # type: ignore[call-arg]
    assert store.find(limit=0) == []


# -- prune ------------------------------------------------------------------------------------------


def aged(number: int, hours: float, **fields: object) -> ExecutionRecord:
    now = datetime.now(timezone.utc)  # noqa: UP017
    started, finished = now - timedelta(hours=hours + 1), now - timedelta(hours=hours)
    return attrs.evolve(record(number, **fields), started_at=started, finished_at=finished)  # type: ignore[arg-type]


def test_prune_deletes_what_finished_long_ago(store: Store) -> None:
    for number in range(10):
        store.save(aged(number, hours=number))
    assert store.prune(older_than=timedelta(hours=5.5)) == 4
    assert store.list() == [f"e0000{number}" for number in (5, 4, 3, 2, 1, 0)]
    assert store.prune(older_than=3600 * 1.5, batch=1) == 4
    assert store.list() == ["e00001", "e00000"]


def test_prune_goes_by_the_end_not_by_the_start(store: Store) -> None:
    now = datetime.now(NOON.tzinfo)
    store.save(record(1, started_at=now - timedelta(days=9), finished_at=now))
    store.save(record(2, started_at=now - timedelta(days=9), finished_at=now - timedelta(days=8)))
    assert store.prune(older_than=timedelta(days=1)) == 1
    assert store.list() == ["e00001"]


def test_prune_leaves_live_executions_alone(store: Store) -> None:
    for number, state in enumerate(WorkflowState):
        store.save(aged(number, 100, state=state))
    assert store.prune(older_than=0, states=WorkflowState.FAILED) == 1
    assert store.prune(older_than=0) == 3
    assert all(summary.state.is_live for summary in store.find())
    with pytest.raises(ValueError, match="live executions"):
        store.prune(older_than=0, states=[WorkflowState.FAILED, WorkflowState.PAUSED])
    assert store.count() == 4


def test_prune_keeps_what_belongs_to_a_live_execution(store: Store) -> None:
    """In pairs of an execution and its parent: sub-flows of sub-flows, and what a live one is a rerun of."""
    live, done = WorkflowState.PAUSED, WorkflowState.COMPLETED
    states = {"a": live, "a1": done, "a11": done, "b": done, "b1": done, "c": live, "c1": done, "d": done, "d1": done}
    parents = {"a1": "a", "a11": "a1", "b1": "b", "c": "b", "c1": "c", "d1": "d", "e1": "gone", "f": "f"}
    for name in [*states, "e1", "f"]:
        kept = aged(0, 100, state=states.get(name, done))
        store.save(attrs.evolve(kept, execution_id=name, parent_execution_id=parents.get(name)))
    assert store.prune(keep=0, batch=2) == 4
    assert sorted(store.list()) == ["a", "a1", "a11", "b", "b1", "c", "c1"]
    assert store.prune(older_than=0) == 0
    for name in ("a", "c"):
        store.remove(name)
    assert store.prune(older_than=0, batch=1) == 5


def test_prune_keeps_the_newest_of_each_flow(store: Store) -> None:
    for number in range(30):
        store.save(aged(number, 100 - number, flow=f"flow{number % 3}"))
    assert store.prune(keep=4, batch=3) == 18
    assert store.list() == [f"e{number:05}" for number in range(18, 30)]
    assert store.prune(keep=2, older_than=3600 * 1000) == 0
    assert store.prune(keep=2, older_than=0) == 6
    assert store.prune(keep=0) == 6


def test_prune_needs_to_know_what(store: Store) -> None:
    with pytest.raises(ValueError, match="older_than, keep or both"):
        store.prune()
    assert store.prune(older_than=timedelta.max) == 0


def fill(store: Store) -> None:
    for number, state in enumerate(DECIDED):
        store.save(record(number, state=state))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"keep": -1}, "keep must be at least 0, and is -1"),
        ({"keep": float("nan")}, "keep is too large, or no number at all"),
        ({"keep": 1.5}, "keep is not a whole number"),
        ({"keep": 1, "batch": 0}, "batch must be at least 1, and is 0"),
        ({"older_than": -1}, "older_than must not be negative, and is -1"),
        ({"older_than": timedelta(-1)}, "older_than must not be negative"),
        ({"older_than": float("nan")}, "older_than is too large, or no number at all"),
        ({"older_than": 10**400}, "older_than is too large, or no number at all"),
    ],
)
def test_prune_refuses_numbers_that_mean_nothing(store: Store, given: dict[str, float], problem: str) -> None:
    fill(store)
    with pytest.raises(ValueError, match=problem):
        store.prune(**given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is not a number"):
        store.prune(**dict.fromkeys(given, "2"))  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"keep": 10**30}, {"older_than": 1e300}, {"older_than": float("inf")}])
def test_prune_takes_numbers_as_large_as_they_come(store: Store, given: dict[str, float]) -> None:
    fill(store)
    assert store.prune(**given) == 0  # type: ignore[arg-type]


def test_what_is_asked_for_may_begin_and_end_with_time_itself(store: Store) -> None:
    fill(store)
    east, west = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
    first, last = datetime.min.replace(tzinfo=east), datetime.max.replace(tzinfo=west)
    assert store.count(since=first) == store.count(until=last) == store.count() > 0
    assert store.count(since=last) == store.count(until=first) == 0
    assert len(store.find(since=first, until=last, limit=10**30)) == store.count()


def test_json_of_szal_is_stored_as_it_is(backend: Store) -> None:
    saved = record(1, labels={"team": "ä"})
    backend.save(saved)
    assert encode_record(backend.get("e00001")) == encode_record(saved)  # type: ignore[arg-type]
