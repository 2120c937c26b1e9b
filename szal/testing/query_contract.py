"""What szal's own stores promise beyond the four methods of each store: looking for executions, and pruning them."""

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
import pytest

from szal.clock import utc_now
from szal.errors import EncodeError
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.testing.store_contract import NOON, StoreContract, record

__all__ = ["QueryContract"]

DECIDED = [WorkflowState.COMPLETED, WorkflowState.FAILED, WorkflowState.ROLLED_BACK, WorkflowState.CANCELLED]


class QueryContract(StoreContract):
    """What szal's own stores promise beyond that: ``find``, ``count`` and ``prune``, and the order of ``list``."""

    def test_what_json_cannot_hold_fails_where_it_was_made(self, store: Any) -> None:
        with pytest.raises(EncodeError, match="inputs"):
            store.save(record(1, inputs={"when": NOON}))
        assert store.list() == []

    def test_list_puts_the_oldest_first(self, store: Any) -> None:
        for number in (3, 1, 2):
            store.save(record(number))
            store.count()  # with a sink: so that each is committed by itself
        assert store.list() == ["e00001", "e00002", "e00003"]
        assert store.list("ci") == store.list()
        assert store.list("cd") == []

    def test_find_returns_summaries_the_newest_first(self, store: Any) -> None:
        store.save(record(1, labels={"team": "a"}, parent_execution_id="p", error="no", state=WorkflowState.FAILED))
        store.save(record(2, flow="cd", state=WorkflowState.RUNNING))
        running, failed = store.find()
        assert (running.execution_id, running.flow_name, running.state) == ("e00002", "cd", WorkflowState.RUNNING)
        assert (running.started_at, running.finished_at) == (NOON + timedelta(minutes=2), None)
        assert (failed.labels, failed.parent_execution_id, failed.error) == ({"team": "a"}, "p", "no")
        assert failed.finished_at == NOON + timedelta(minutes=1, seconds=1)

    def test_find_knows_the_reruns_and_sub_flows_of_an_execution(self, store: Any) -> None:
        for number, parent in enumerate(["p", None, "q", "p", "p"]):
            state = WorkflowState.FAILED if number == 3 else WorkflowState.COMPLETED
            store.save(record(number, parent_execution_id=parent, state=state, labels={"team": "ab"[number % 2]}))
        assert [each.execution_id for each in store.find(parent="p")] == ["e00004", "e00003", "e00000"]
        assert [each.execution_id for each in store.find(parent="p", states=WorkflowState.FAILED)] == ["e00003"]
        assert [each.execution_id for each in store.find(parent="p", labels={"team": "a"}, limit=1)] == ["e00004"]
        assert (store.count(parent="p"), store.count(parent="r")) == (3, 0)

    def test_find_filters_by_everything_at_once(self, store: Any) -> None:
        for number in range(40):
            state = list(WorkflowState)[number % 8]
            labels = {"team": "ab"[number % 2], 'od"d\\é': str(number % 4)}
            store.save(record(number, flow=f"flow{number % 3}", state=state, labels=labels))
        everything = store.find(limit=None)
        assert len(everything) == store.count() == 40

        def check(**filters: Any) -> None:
            def passes(summary: Any) -> bool:
                number = int(summary.execution_id[1:])
                states = filters.get("states", list(WorkflowState))
                return (
                    filters.get("flow_name") in (None, f"flow{number % 3}")
                    and list(WorkflowState)[number % 8] in (states if isinstance(states, list) else [states])
                    and NOON + timedelta(minutes=number) >= filters.get("since", NOON)
                    and NOON + timedelta(minutes=number) < filters.get("until", NOON + timedelta(days=1))
                    and filters.get("labels", {}).items() <= summary.labels.items()
                )

            expected = [summary for summary in everything if passes(summary)]
            assert store.find(limit=None, **filters) == expected
            assert store.find(limit=3, **filters) == expected[:3]
            assert store.count(**filters) == len(expected)

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

    @pytest.mark.parametrize("name", ["", "a'b\"c", "%s ? :id"])
    def test_whatever_its_name_is_it_is_found(self, store: Any, name: str) -> None:
        store.save(ExecutionRecord(name, name))
        assert ids(store.find(flow_name=name)) == [name]

    def test_equal_starts_are_ordered_by_id(self, store: Any) -> None:
        for name in "bdac":
            store.save(ExecutionRecord(name, "ci", started_at=NOON))
        assert ids(store.find()) == ["d", "c", "b", "a"]
        assert ids(store.find(after="c")) == ["b", "a"]

    @pytest.mark.parametrize(
        "filters",
        [{}, {"flow_name": "ci"}, {"states": DECIDED}, {"flow_name": "ci", "states": WorkflowState.COMPLETED}],
    )
    def test_pages_neither_repeat_nor_miss_while_rows_come_and_go(self, store: Any, filters: dict[str, Any]) -> None:
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

    def test_a_page_can_start_after_an_id(self, store: Any) -> None:
        for number in range(5):
            store.save(record(number))
        assert ids(store.find(after="e00002")) == ["e00001", "e00000"]
        with pytest.raises(ValueError, match="after='nobody'"):
            store.find(after="nobody")

    def test_find_refuses_nonsense(self, store: Any) -> None:
        with pytest.raises(ValueError, match="since has no time zone"):
            store.find(since=datetime(2026, 1, 1))  # noqa: DTZ001
        with pytest.raises(ValueError, match="limit must be at least 0, and is -1"):
            store.find(limit=-1)
        with pytest.raises(TypeError, match="WorkflowState"):
            store.find(states="Failed")
        with pytest.raises(TypeError, match="label"):
            store.find(label={"a": "b"})
        assert store.find(limit=0) == []

    def test_prune_deletes_what_finished_long_ago(self, store: Any) -> None:
        for number in range(10):
            store.save(aged(number, hours=number))
        assert store.prune(older_than=timedelta(hours=5.5)) == 4
        assert store.list() == [f"e0000{number}" for number in (5, 4, 3, 2, 1, 0)]
        assert store.prune(older_than=3600 * 1.5, batch=1) == 4
        assert store.list() == ["e00001", "e00000"]

    def test_prune_goes_by_the_end_not_by_the_start(self, store: Any) -> None:
        now = utc_now()
        store.save(record(1, started_at=now - timedelta(days=9), finished_at=now))
        store.save(record(2, started_at=now - timedelta(days=9), finished_at=now - timedelta(days=8)))
        assert store.prune(older_than=timedelta(days=1)) == 1
        assert store.list() == ["e00001"]

    def test_prune_leaves_live_executions_alone(self, store: Any) -> None:
        for number, state in enumerate(WorkflowState):
            store.save(aged(number, 100, state=state))
        assert store.prune(older_than=0, states=WorkflowState.FAILED) == 1
        assert store.prune(older_than=0) == 3
        assert all(summary.state.is_live for summary in store.find())
        with pytest.raises(ValueError, match="live executions"):
            store.prune(older_than=0, states=[WorkflowState.FAILED, WorkflowState.PAUSED])
        assert store.count() == 4

    def test_prune_keeps_what_belongs_to_a_live_execution(self, store: Any) -> None:
        """In pairs of an execution and its parent: sub-flows of sub-flows, and what a live one is a rerun of."""
        live, done = WorkflowState.PAUSED, WorkflowState.COMPLETED
        states = {
            "a": live,
            "a1": done,
            "a11": done,
            "b": done,
            "b1": done,
            "c": live,
            "c1": done,
            "d": done,
            "d1": done,
        }
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

    def test_prune_keeps_the_newest_of_each_flow(self, store: Any) -> None:
        for number in range(30):
            store.save(aged(number, 100 - number, flow=f"flow{number % 3}"))
        assert store.prune(keep=4, batch=3) == 18
        assert store.list() == [f"e{number:05}" for number in range(18, 30)]
        assert store.prune(keep=2, older_than=3600 * 1000) == 0
        assert store.prune(keep=2, older_than=0) == 6
        assert store.prune(keep=0) == 6

    def test_prune_needs_to_know_what(self, store: Any) -> None:
        with pytest.raises(ValueError, match="older_than, keep or both"):
            store.prune()
        assert store.prune(older_than=timedelta.max) == 0

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
    def test_prune_refuses_numbers_that_mean_nothing(self, store: Any, given: dict[str, float], problem: str) -> None:
        fill(store)
        with pytest.raises(ValueError, match=problem):
            store.prune(**given)
        with pytest.raises(TypeError, match="is not a number"):
            store.prune(**dict.fromkeys(given, "2"))

    @pytest.mark.parametrize("given", [{"keep": 10**30}, {"older_than": 1e300}, {"older_than": float("inf")}])
    def test_prune_takes_numbers_as_large_as_they_come(self, store: Any, given: dict[str, float]) -> None:
        fill(store)
        assert store.prune(**given) == 0

    def test_what_is_asked_for_may_begin_and_end_with_time_itself(self, store: Any) -> None:
        fill(store)
        east, west = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
        first, last = datetime.min.replace(tzinfo=east), datetime.max.replace(tzinfo=west)
        assert store.count(since=first) == store.count(until=last) == store.count() > 0
        assert store.count(since=last) == store.count(until=first) == 0
        assert len(store.find(since=first, until=last, limit=10**30)) == store.count()


def ids(found: Iterable[Any]) -> list[str]:
    """Return the ids of what was found."""
    return [summary.execution_id for summary in found]


def aged(number: int, hours: float, **fields: Any) -> ExecutionRecord:
    now = utc_now()
    started, finished = now - timedelta(hours=hours + 1), now - timedelta(hours=hours)
    return attrs.evolve(record(number, **fields), started_at=started, finished_at=finished)


def fill(store: Any) -> None:
    for number, state in enumerate(DECIDED):
        store.save(record(number, state=state))
