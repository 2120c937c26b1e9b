"""The sink against a dict: whatever is done to it, what one reads is what one wrote, and so is the database."""

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stores.samples import ForeignBackend, record

from szal.errors import StoreFailed, StoreUnavailable, WriteFailed
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores import Sink, open_store

NUMBERS = st.integers(0, 4)
STATES = st.sampled_from(WorkflowState)
FLOWS = st.sampled_from(["ci", "cd"])


class SinkMachine(RuleBasedStateMachine):
    """One thread submits; the writer's pace, its troubles and its losses are hypothesis's choice."""

    @initialize(kind=st.sampled_from(["foreign", "sqlite"]))
    def start(self, kind: str) -> None:
        self.foreign = ForeignBackend()
        if kind == "sqlite":
            self.foreign.store = open_store("sqlite:///:memory:")  # type: ignore[assignment]
        self.foreign.refuse = self.refuse
        self.sink = Sink(self.foreign, max_pending=50)
        self.model: dict[str, ExecutionRecord] = {}
        self.submitted: list[str] = []
        self.outages = 0
        self.lost: list[str] = []

    def refuse(self, batch: list[str]) -> None:
        if self.outages:
            self.outages -= 1
            raise StoreUnavailable("foreign", "locked")
        if any(entry.endswith("poison") for entry in batch):
            raise StoreFailed("foreign", "poison")

    @rule(number=NUMBERS, state=STATES, flow=FLOWS)
    def save(self, number: int, state: WorkflowState, flow: str) -> None:
        saved = record(number, flow, state)
        self.sink.save(saved)
        self.model[saved.execution_id] = saved
        self.submitted.append(f"{state} {saved.execution_id}")

    @rule(number=NUMBERS)
    def remove(self, number: int) -> None:
        execution_id = f"e{number:05}"
        assert self.sink.remove(execution_id) == self.model.get(execution_id)
        if self.model.pop(execution_id, None) is not None:
            self.submitted.append(f"remove {execution_id}")

    @precondition(lambda self: len(self.lost) < 3)
    @rule()
    def poison(self) -> None:
        self.sink.save(ExecutionRecord("poison", "bad"))
        self.lost.append("poison")

    @rule(outages=st.integers(1, 2))
    def outage(self, outages: int) -> None:
        self.outages = outages

    @rule()
    def hold(self) -> None:
        self.foreign.open.clear()

    @rule()
    def let_go(self) -> None:
        self.foreign.open.set()

    @rule()
    def flush(self) -> None:
        self.foreign.open.set()
        if self.lost:
            with pytest.raises(WriteFailed) as caught:
                self.sink.flush(20)
            assert list(caught.value.execution_ids) == self.lost
        self.sink.flush(20)
        self.lost = []
        assert {name: self.foreign.store.get(name) for name in self.foreign.store.list()} == self.model
        assert [entry for batch in self.foreign.batches for entry in batch] == self.submitted
        assert self.sink.stats().pending == 0

    @rule(flow=FLOWS, states=st.lists(STATES, unique=True))
    def find(self, flow: str, states: list[WorkflowState]) -> None:
        self.foreign.open.set()
        expected = [name for name, saved in self.model.items() if saved.flow_name == flow and saved.state in states]
        found = self.sink.find(flow_name=flow, states=states)
        assert [summary.execution_id for summary in found] == sorted(expected, reverse=True)
        assert self.sink.count(flow_name=flow, states=states) == len(expected)

    @invariant()
    def what_is_read_is_what_was_written(self) -> None:
        for number in range(5):
            assert self.sink.get(f"e{number:05}") == self.model.get(f"e{number:05}")
        assert {*self.sink.list()} - {"poison"} == {*self.model}
        assert {*self.sink.list("cd")} == {name for name, saved in self.model.items() if saved.flow_name == "cd"}

    def teardown(self) -> None:
        if hasattr(self, "sink"):
            self.flush()
            self.sink.close(20)
            self.foreign.store.close()


TestSink = SinkMachine.TestCase
TestSink.settings = settings(max_examples=25, stateful_step_count=30)
