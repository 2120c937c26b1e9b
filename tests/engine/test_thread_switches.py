"""Random flows while threads are switched every 10 µs: cancelled, timed out, signalled and recorded at any moment.

Some 6 s; SZAL_TEST_FULL=1: sixty times as many.
"""

import os
import sys
import tempfile
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from random import Random
from typing import Any

import pytest
from helper_engine import LONG, ForeignStore, Hang, bounded
from helper_stress import (
    FINAL,
    INPUTS,
    Story,
    Watcher,
    check_events,
    check_result,
    draw_story,
    ending,
    summary,
)
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from pairs import FULL

from szal import CancellationToken, Engine, EngineConfig, Execution, FlowResult, WorkflowState
from szal.errors import ExecutionNotFound
from szal.stores import Store, open_store

BLOCKS = 40 if FULL else 1
RUNS = 60 if FULL else 40
ROUNDS = 50  # of pausing and going on: more than any flow has waits and attempts
STORES = [
    ("none", "flow"),
    ("foreign", "flow"),
    ("memory", "none"),
    ("memory", "flow"),
    ("memory", "step"),
    ("sqlite", "none"),
    ("sqlite", "flow"),
    ("sqlite", "step"),
]


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    """Have threads switched every 10 µs."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, Store]]:
    """A store of each of szal's kinds; the database is in memory, where the system has room for files there."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=where))
        urls = {"memory": "memory:", "sqlite": f"sqlite:///{folder}/szal.db"}
        yield {kind: stack.enter_context(open_store(url)) for kind, url in urls.items()}


class Meddler:
    """Cancels a run, and signals it, when so many things have happened in it: there and then, or from a thread."""

    def __init__(self, chance: Random, engine: Engine, story: Story, watcher: Watcher, *, by_id: bool) -> None:
        self.way = chance.choice(["none", "none", "token", "handle", *["engine"] * by_id])
        """How it cancels."""
        self.token = CancellationToken() if self.way == "token" or chance.random() < 0.2 else None
        self.asked = False
        """Whether it has cancelled the run."""
        self.execution: Execution | None = None
        self._engine = engine
        self._execution_id = ""
        self._deeds: dict[int, list[Callable[[], object]]] = defaultdict(list)
        if self.way != "none":
            self._deeds[chance.randint(0, 25)].append(self._cancel)
        for signal in story.signals if by_id else ():
            if chance.random() < 0.6:
                self._deeds[chance.randint(1, 25)].append(partial(self._signal, signal))
        self._here = chance.random() < 0.3
        self._due: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        watcher.on_note = self._noted

    def begin(self, execution_id: str) -> None:
        """Take note of the run that is about to begin; cancel it now, if that is the moment."""
        self._execution_id = execution_id
        self._thread.start()
        if self.way == "token":
            self._noted(0)

    def end(self) -> None:
        """Wait for the thread."""
        self._due.put(None)
        self._thread.join(LONG)
        if self._thread.is_alive():
            raise Hang("a call that cancels or signals hangs")

    def _noted(self, count: int) -> None:
        for deed in self._deeds.get(count, ()):
            if self._here:
                deed()
            else:
                self._due.put(deed)

    def _work(self) -> None:
        while (deed := self._due.get()) is not None:
            deed()

    def _cancel(self) -> None:
        if self.way == "token":
            self.asked = True
            self.token.cancel()  # type: ignore[union-attr]
        elif self.way == "engine":
            with suppress(ExecutionNotFound):  # it is not recorded yet
                self.asked = self._engine.cancel(self._execution_id) or self.asked
        elif self.execution is not None:  # the first things happen before `start` returns
            self.asked = True
            self.execution.cancel()

    def _signal(self, name: str) -> None:
        with suppress(ExecutionNotFound):
            self._engine.signal(self._execution_id, name, "come")


def play(story: Story, chance: Random, *, kind: str, durability: str, store: Store | None, number: str) -> None:
    """Run *story* until it has ended, and look at all that can be seen of it."""
    watcher = Watcher(story, chance.randint(1, 4))
    with ExitStack() as stack:
        sink: Any = {"none": None, "foreign": ForeignStore()}.get(kind)
        if store is not None:
            sink = stack.enter_context(store.engine_sink())
        config = EngineConfig(
            max_concurrency=watcher.room,
            execution_store=sink,
            durability=durability,  # type: ignore[arg-type]
            storage=story.storage(),
            rollback_handler=watcher.undo,
            event_sink=watcher.hear,
            cancel_grace=chance.choice([0.002, 0.05, 5.0]),
        )
        engine = stack.enter_context(Engine(watcher, config))
        stack.callback(watcher.release.set)
        execution_id = number if chance.random() < 0.7 else None
        meddler = Meddler(chance, engine, story, watcher, by_id=store is not None)
        segments: list[list[Any]] = []
        try:
            meddler.begin(execution_id or story.flow.id)
            with watcher.run():
                result = _begun(engine, story, execution_id, meddler, chance)
            segments.append(watcher.events.copy())
            while result.state is WorkflowState.PAUSED and len(segments) < ROUNDS:
                check_result(story.flow, result)
                result = _gone_on(engine, watcher, meddler, result, chance)
                segments.append(watcher.events[sum(map(len, segments)) :])
        finally:
            meddler.end()
        assert result.state in FINAL
        check_result(story.flow, result)
        check_events(segments, story.flow, result)
        assert watcher.left_behind <= engine.abandoned
        if result.state is WorkflowState.CANCELLED:
            assert meddler.asked
        if watcher.told:
            assert not result.success, f"{watcher.told} saw ctx.cancelled, and the run completed"
        if sink is not None:
            _check_record(engine, sink, store, result, watcher)
        watcher.drain()
        assert watcher.problems == []


def _begun(engine: Engine, story: Story, execution_id: str | None, meddler: Meddler, chance: Random) -> FlowResult:
    given = {"execution_id": execution_id, "cancel": meddler.token}
    if meddler.way != "handle" and chance.random() < 0.6:
        return bounded(engine.run, story.flow, INPUTS, **given)
    execution = meddler.execution = bounded(engine.start, story.flow, INPUTS, **given)
    return bounded(execution.result)


def _gone_on(engine: Engine, watcher: Watcher, meddler: Meddler, result: FlowResult, chance: Random) -> FlowResult:
    """Send it the signals that it may wait for, or cancel it; and go on with it."""
    execution_id = result.execution_id or ""
    if chance.random() < 0.15:
        assert bounded(engine.cancel, execution_id)
        meddler.asked = True
    for signal in watcher.story.signals:
        assert bounded(engine.signal, execution_id, signal, "come")
    with watcher.run():
        if chance.random() < 0.5:
            return bounded(engine.resume, execution_id)
        return bounded(engine.run, watcher.story.flow, INPUTS, execution_id=execution_id)


def _check_record(engine: Engine, sink: Any, store: Store | None, result: FlowResult, watcher: Watcher) -> None:
    execution_id = result.execution_id or ""
    calls = watcher.calls.copy()
    again = bounded(engine.run, watcher.story.flow, INPUTS, execution_id=execution_id)
    assert summary(again) == summary(result)
    assert watcher.calls == calls
    if store is not None:
        assert execution_id not in bounded(engine.interrupted)
        sink.flush(LONG)
    record = (sink if store is None else store).get(execution_id)
    assert record is not None
    assert (record.state, record.error) == (result.state, result.error)
    assert summary(record.result) == summary(result)


def play_seed(seed: int, kind: str, durability: str, stores: dict[str, Store]) -> None:
    """Draw a story by *seed*, and play it; where that fails, tell which."""
    chance = Random(seed)
    story = draw_story(chance, waits=kind in stores)
    try:
        play(
            story,
            chance,
            kind=kind,
            durability=durability,
            store=stores.get(kind),
            number=f"{kind}-{durability}-{seed}",
        )
    except BaseException as error:
        error.add_note(f"seed {seed}, {kind}, durability {durability}\n{story}")
        raise


@pytest.mark.timeout(300)
@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize(("kind", "durability"), STORES)
def test_every_run_ends_once_and_as_it_is_recorded(kind, durability, block, stores, pytestconfig):
    with ending(pytestconfig):
        for seed in range(block * RUNS, (block + 1) * RUNS):
            play_seed(seed, kind, durability, stores)


# -- the same outcome, however threads are switched -----------------------------------------------------------


def outcome_of(story: Story, kind: str, durability: str, room: int, stores: dict[str, Store]) -> Any:
    """Run *story* undisturbed, and return what each of its steps, and the flow, came to."""
    watcher = Watcher(story, room)
    with ExitStack() as stack:
        sink = stack.enter_context(stores[kind].engine_sink()) if kind in stores else None
        config = EngineConfig(
            max_concurrency=room,
            execution_store=sink,
            durability=durability,  # type: ignore[arg-type]
            storage=story.storage(),
            rollback_handler=watcher.undo,
            event_sink=watcher.hear,
        )
        engine = stack.enter_context(Engine(watcher, config))
        with watcher.run():
            result = bounded(engine.run, story.flow, INPUTS, execution_id=str(uuid.uuid4()))
        check_result(story.flow, result)
        check_events([watcher.events], story.flow, result)
    assert watcher.problems == []
    steps = {step.step_name: (str(step.status), step.error, step.attempts) for step in result.steps}
    return str(result.state), result.success, steps


@settings(
    max_examples=600 if FULL else 15,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(chance=st.randoms(use_true_random=False))
@pytest.mark.timeout(300)
def test_the_outcome_depends_on_no_store_and_no_switch_of_threads(chance, stores):
    story = draw_story(chance, waits=False, calm=True)
    note(str(story))
    alone = outcome_of(story, "none", "flow", 1, stores)
    assert outcome_of(story, "none", "flow", 4, stores) == alone
    assert outcome_of(story, "memory", chance.choice(["none", "flow", "step"]), 3, stores) == alone
    assert outcome_of(story, "sqlite", chance.choice(["none", "flow", "step"]), 2, stores) == alone
