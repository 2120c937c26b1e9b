"""What stores promise, as tests for stores of one's own: szal's own pass the same ones.

A class of tests inherits one of these, and has a fixture ``store`` that is an empty store:

    from szal.testing.store_contract import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self):
            return MyStore()
"""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from szal.engine.config import EngineConfig
from szal.engine.engine import Engine
from szal.model.flow import FlowDef
from szal.model.results import ExecutionRecord, FlowResult, StepResult
from szal.model.state import StepStatus, WorkflowState
from szal.model.step import StepDef
from szal.scheduler.context import StepContext

try:
    import pytest
except ImportError as missing:
    raise ImportError("szal.testing.store_contract is made of tests: pip install pytest") from missing

__all__ = ["NOON", "StoreContract", "record"]

NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)


def record(
    number: int, flow: str = "ci", state: WorkflowState = WorkflowState.COMPLETED, **fields: Any
) -> ExecutionRecord:
    """Return a record that began *number* minutes after noon, and ended a second later if its state is an end."""
    started = NOON + timedelta(minutes=number)
    finished = None if state.is_live else started + timedelta(seconds=1)
    values = {"started_at": started, "finished_at": finished} | fields
    return ExecutionRecord(f"e{number:05}", flow, state, **values)


class StoreContract:
    """What each store promises that has ``save``, ``get``, ``list`` and ``remove`` (`szal.stores.ExecutionStore`)."""

    def test_a_record_with_everything_in_it_comes_back(self, store: Any) -> None:
        step = StepResult("s", "build", StepStatus.COMPLETED, {"π": [1, None]}, 0.25, 2, started_at=NOON)
        result = FlowResult("ci", [step], 0.5, False, True, "e", WorkflowState.FAILED, "no")
        saved = record(
            1,
            result=result,
            inputs={"env": "prod"},
            labels={"team": "a"},
            parent_execution_id="p",
            flow_id="f",
            error="no",
        )
        store.save(saved)
        assert store.get(saved.execution_id) == saved

    def test_what_is_not_there_is_none(self, store: Any) -> None:
        assert store.get("nobody") is None
        assert store.remove("nobody") is None
        assert store.list() == []

    def test_a_second_save_replaces_the_first(self, store: Any) -> None:
        store.save(record(1, state=WorkflowState.RUNNING))
        store.save(record(1, flow="cd", state=WorkflowState.COMPLETED))
        saved = store.get("e00001")
        assert saved is not None
        assert (saved.flow_name, saved.state) == ("cd", WorkflowState.COMPLETED)
        assert store.list() == store.list("cd") == ["e00001"]
        assert store.list("ci") == []

    def test_remove_returns_what_was_there_once(self, store: Any) -> None:
        store.save(record(1))
        assert store.remove("e00001") == record(1)
        assert store.remove("e00001") is None
        assert store.get("e00001") is None
        assert store.list() == []

    def test_of_several_that_remove_a_record_at_a_time_one_is_given_it(self, store: Any) -> None:
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

    def test_a_removed_record_can_be_saved_again(self, store: Any) -> None:
        store.save(record(1))
        store.remove("e00001")
        store.save(record(1, flow="cd"))
        assert store.list() == store.list("cd") == ["e00001"]
        assert store.list("ci") == []

    def test_a_later_change_of_an_object_does_not_leak_in(self, store: Any) -> None:
        labels = {"team": "a"}
        saved = record(1, labels=labels)
        store.save(saved)
        labels["team"] = saved.flow_name = "changed"
        assert store.get("e00001") == record(1, labels={"team": "a"})
        store.get("e00001").labels["team"] = "changed"
        assert store.get("e00001") == record(1, labels={"team": "a"})

    @pytest.mark.parametrize("name", ["", " ", "a'b\"c", "ß🚀", "x" * 10_000, "a\nb", "%s ? :id"])
    def test_any_text_can_be_an_id_and_a_name(self, store: Any, name: str) -> None:
        store.save(ExecutionRecord(name, name))
        assert store.get(name).flow_name == name
        assert store.list(name) == store.list() == [name]

    def test_threads_can_share_it(self, store: Any) -> None:
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
            except BaseException as error:  # noqa: BLE001 (told below)
                errors.append(error)

        threads = [threading.Thread(target=work, args=[worker]) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert len(store.list()) == 40

    def test_an_engine_records_its_runs_in_it(self, store: Any) -> None:
        seen: list[WorkflowState] = []

        def handler(ctx: StepContext) -> str:
            seen.append(store.get(ctx.execution_id).state)
            if ctx.inputs["fails"]:
                raise ValueError("no")
            return ctx.step.name

        flow = FlowDef("ci", steps=[StepDef("build"), StepDef("test")])
        with Engine(handler, EngineConfig(execution_store=store)) as engine:
            results = [engine.run(flow, {"fails": fails}, execution_id=f"e{fails:d}") for fails in (False, True)]
            assert engine.run(flow, {"fails": False}, execution_id="e0").outputs == results[0].outputs
        assert set(seen) == {WorkflowState.RUNNING}
        for name, result in zip(("e0", "e1"), results, strict=True):
            found = store.get(name)
            assert (found.state, found.error, found.result.outputs) == (result.state, result.error, result.outputs)
        assert sorted(store.list("ci")) == ["e0", "e1"]
