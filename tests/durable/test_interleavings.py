"""Two engines on one database, and people who call both at random, while their stores fail now and then.

Some 5 s; SZAL_TEST_FULL=1: fifty times as many.
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from durable.failing import Broken, FailingSink
from helper_engine import LONG, Hang, bounded
from helper_stress import FINAL, ending, summary
from in_front import InFront
from pairs import FULL

from szal import (
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    FlowResult,
    InMemoryStorage,
    StepContext,
    StepDef,
    StepStatus,
    SzalError,
    WorkflowState,
)
from szal.errors import ExecutionOwned, SinkFull, StoreUnavailable, WriteFailed
from szal.stores import Sink, Store, open_store

BLOCKS = 50 if FULL else 1
SCENARIOS = 60
LIVE = [state for state in WorkflowState if state not in FINAL]


# -- a store that fails ---------------------------------------------------------------------------------


class Faults:
    """Decides which operations of a store fail: none, one of them, or all from one on until it is healed."""

    def __init__(self, chance: Random, *, planned: bool) -> None:
        self._first = chance.randint(1, 30) if planned else 0
        self._last = self._first + chance.choice([0, 0, 3, 10**6])
        self._after = chance.random() < 0.3  # it is done, and fails all the same
        self._error = chance.choice(
            [StoreUnavailable("the test's store", "away"), SinkFull("the test's store", 1, 0.0), Broken("broken")]
        )
        self._count = 0
        self._lock = threading.Lock()
        self.seen: list[str] = []

    def heal(self) -> None:
        """Fail no more."""
        self._last = -1

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return *function*, which fails when it is to."""

        def operation(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self._count += 1
                fails = self._first <= self._count <= self._last
            if not fails:
                return function(*args, **kwargs)
            self.seen.append(name)
            if self._after and name != "write":
                function(*args, **kwargs)
            raise self._error

        return operation


# -- what is run -------------------------------------------------------------------------------------------


def once(name: str, **options: Any) -> StepDef:
    """Return a step that must not be done twice."""
    return StepDef(name, idempotent=False, **options)


def _flows() -> list[FlowDef]:
    dag = FlowDef("dag", FlowMode.DAG)
    a = dag.add_step(StepDef("a"))
    nap = dag.add_step(StepDef("nap", step_type="sleep", config={"seconds": 0.004}))
    b, c = dag.add_step(once("b", depends_on=[a])), dag.add_step(StepDef("c", depends_on=[a, nap]))
    dag.add_step(StepDef("e", depends_on=[b, c]))
    wait = StepDef("wait", step_type="wait", config={"signal": "go"})
    inside = StepDef("inside", step_type="sub_flow", config={"flow_name": "inner"})
    undone = [StepDef("a", rollbackable=True), once("b", rollbackable=True), StepDef("bad")]
    return [
        FlowDef("chain", steps=[StepDef("a"), once("b"), StepDef("c"), once("d")]),
        FlowDef("approval", steps=[StepDef("a"), wait, once("b"), StepDef("c")]),
        FlowDef("outer", steps=[StepDef("a"), inside, once("b")]),
        FlowDef("wide", FlowMode.PARALLEL, steps=[StepDef("a"), once("b"), StepDef("c"), StepDef("e")]),
        FlowDef("undone", steps=undone, rollback_on_failure=True),
        dag,
    ]


FLOWS = _flows()
INNER = FlowDef("inner", steps=[StepDef("i"), once("j"), StepDef("k")])
ONCE = {step.name for flow in (*FLOWS, INNER) for step in flow.walk() if not step.idempotent}


def _needs() -> dict[tuple[str, str], set[str]]:
    """Return which steps must have ended before a step of a flow begins."""
    found = {}
    for flow in (*FLOWS, INNER):
        names = {step.id: step.name for step in flow.walk()}
        before: set[str] = set()
        for step in flow.walk():
            own = {names[each] for each in step.depends_on}
            found[flow.name, step.name] = before.copy() if flow.mode is FlowMode.SEQUENTIAL else own
            before.add(step.name)
    return found


NEEDS = _needs()
Key = tuple[str, str]  # of an execution, and of one of its steps


class Watcher:
    """Does the steps, and takes note of what must not be in `problems`."""

    def __init__(self, durability: str, chance: Random, *, faulty: bool) -> None:
        self.problems: list[str] = []
        self.calls: Counter[Key] = Counter()
        self.retried: Counter[Key] = Counter()
        """How often somebody decided that a step was to be done again."""
        self._durability = durability
        self._chance = chance
        self._faulty = faulty
        self._recorded: set[Key] = set()
        self._completed: set[Key] = set()
        self._under_way: dict[Key, list[StepContext]] = defaultdict(list)
        self._lock = threading.Lock()

    def __call__(self, ctx: StepContext) -> str:
        """Do a step."""
        key = ctx.execution_id, ctx.step.name
        with self._lock:
            self._begin(key, ctx)
        with self._watched(key, ctx):
            ctx.sleep(self._chance.choice([0.0, 0.001, 0.01]))
            if ctx.step.name == "bad":
                raise ValueError("bad")
            with self._lock:
                if not ctx.cancelled:
                    self._completed.add(key)
                    if not self._faulty:
                        self._recorded.add(key)
        return ctx.step.name

    def undo(self, ctx: StepContext) -> None:
        """Undo a step."""
        key = ctx.execution_id, f"undo {ctx.step.name}"
        with self._lock:
            self._begin(key, ctx)
        with self._watched(key, ctx):
            ctx.sleep(0.0005)

    def _begin(self, key: Key, ctx: StepContext) -> None:
        if any(not other.cancelled for other in self._under_way[key]):
            self.problems.append(f"{key} was called while it ran")
        self._under_way[key].append(ctx)
        self.calls[key] += 1
        if key in self._recorded:
            self.problems.append(f"{key} was called although it had completed")
        if key[1] in ONCE and self.calls[key] > 1 + self.retried[key]:
            self.problems.append(f"{key} must not be done twice: {self.calls[key]} calls")
        if self._durability == "step":
            needed = {(key[0], name) for name in NEEDS.get((ctx.flow_name, key[1]), ())}
            self._recorded |= needed & self._completed

    @contextmanager
    def _watched(self, key: Key, ctx: StepContext) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._under_way[key].remove(ctx)

    def returned(self, result: FlowResult) -> None:
        """Take note that a call has returned this: all in it is recorded, unless nothing waits for that."""
        if self._durability == "none":
            return
        done = {step.step_name for step in result.steps if step.status is StepStatus.COMPLETED}
        with self._lock:
            self._recorded |= {(result.execution_id or "", name) for name in done}

    @property
    def executions(self) -> set[str]:
        """The ids of all executions of which a step was called."""
        with self._lock:
            return {execution_id for execution_id, _ in self.calls}


# -- who runs it -------------------------------------------------------------------------------------------


class World:
    """Two engines on one database, as two processes would have them, and one execution that people deal with."""

    def __init__(self, stack: ExitStack, chance: Random, open_one: Callable[[], Store], name: str) -> None:
        self.flow = chance.choice(FLOWS)
        self.name = name
        self.durability = chance.choice(["none", "flow", "step"])
        self.faulty = chance.random() < 0.6
        self.watcher = Watcher(self.durability, Random(chance.random()), faulty=self.faulty)
        self.faults = [Faults(chance, planned=self.faulty and chance.random() < 0.7) for _ in range(2)]
        self.store = open_one()
        self.engines: list[Engine] = []
        self.calls: list[str] = []
        for faults in self.faults:
            opened = open_one()
            sink = opened.engine_sink()
            config = EngineConfig(
                execution_store=FailingSink(sink, faults),
                durability=self.durability,  # type: ignore[arg-type]
                storage=InMemoryStorage([INNER]),
                rollback_handler=self.watcher.undo,
                cancel_grace=1.0,
                lease_ttl=5.0,
                max_recoveries=10**6,
            )
            engine = Engine(self.watcher, config)
            self.engines.append(engine)
            for each in (opened, sink, engine):
                stack.callback(bounded, each.close)
        stack.callback(self.store.close)

    def act(self, chance: Random) -> None:
        """Call some engine in some way, as one of many people; what it may raise is swallowed."""
        number = chance.randrange(2)
        engine = self.engines[number]
        known = [self.name, *sorted(self.watcher.executions)]
        target = chance.choice([self.name, *known])
        ways = ["run"] * 4 + ["start", "resume", "resume", "recover", "signal", "resolve", "resolve", "rerun", "cancel"]
        way = chance.choice(ways)
        started = time.monotonic()
        outcome = "returned"
        try:
            self._act(chance, engine, way, target)
        except (SzalError, Broken, ValueError) as error:  # ValueError: there is nothing to decide on
            outcome = type(error).__name__
        finally:
            self.calls.append(f"{'AB'[number]}.{way} {target}: {outcome} after {time.monotonic() - started:.3f}s")

    def _act(self, chance: Random, engine: Engine, way: str, target: str) -> None:
        if way == "run":
            self.watcher.returned(bounded(engine.run, self.flow, execution_id=self.name))
        elif way == "start":
            execution = bounded(engine.start, self.flow, execution_id=self.name)
            if chance.random() < 0.3:
                execution.cancel()
            self.watcher.returned(bounded(execution.result))
        elif way == "resume":
            self.watcher.returned(bounded(engine.resume, target))
        elif way == "recover":
            for result in bounded(engine.recover):
                self.watcher.returned(result)
        elif way == "signal":
            bounded(engine.signal, target, "go", "gone")
        elif way == "resolve":
            self._resolve(engine, target, chance.choice(sorted(ONCE)), chance.choice(["completed", "failed", "retry"]))
        elif way == "rerun":
            self.watcher.returned(bounded(engine.rerun, target))
        elif chance.random() < 0.5:
            bounded(engine.cancel, target)

    def _resolve(self, engine: Engine, target: str, step: str, decision: str) -> None:
        if (
            decision == "retry"
        ):  # before the call: from then on it may be done again; if it is refused, as often as that
            self.watcher.retried[target, step] += 1
        bounded(engine.resolve, target, step, decision)

    # -- in the end --------------------------------------------------------------------------------------------

    def live(self) -> list[str]:
        """Return what has not ended yet, in the database."""
        for engine in self.engines:
            try:
                engine.config.execution_store.flush(LONG)  # type: ignore[union-attr]
            except WriteFailed:  # refused to a run that a store error has ended, and that was taken over since
                if not self.faulty:
                    raise
        return [summary.execution_id for summary in self.store.find(states=LIVE, limit=None)]

    def finish(self, chance: Random) -> None:
        """Bring all that there is to its end, now that nothing fails."""
        for faults in self.faults:
            faults.heal()
        end = time.monotonic() + LONG
        rounds = 0
        while live := self.live():
            rounds += 1
            assert time.monotonic() < end, f"{live} cannot be brought to an end"
            for execution_id in live:
                for engine in chance.sample(self.engines, 2):
                    self._go_on(engine, execution_id, cancel=rounds > 8)
            if rounds > 2:
                threading.Event().wait(0.02)

    def _go_on(self, engine: Engine, execution_id: str, *, cancel: bool) -> None:
        with suppress(ExecutionOwned):
            if cancel:
                bounded(engine.cancel, execution_id)
            result = bounded(engine.resume, execution_id)
            self.watcher.returned(result)
            if result.state is WorkflowState.PAUSED:
                bounded(engine.signal, execution_id, "go", "gone")
                for step in sorted(ONCE):
                    with suppress(ValueError):
                        self._resolve(engine, execution_id, step, "completed")

    def check(self) -> None:
        """Nothing that has ended runs again, or is held by anybody."""
        calls = self.watcher.calls.copy()
        for execution_id in sorted(self.watcher.executions | {self.name}):
            record = self.store.get(execution_id)
            if record is None:
                assert execution_id == self.name
                assert not calls, "its steps were called, and it is not there"
                continue
            assert record.state in FINAL
            for engine in self.engines:
                if record.parent_execution_id is None:
                    assert summary(bounded(engine.run, self.flow, execution_id=execution_id)) == summary(record.result)
                assert summary(bounded(engine.resume, execution_id)) == summary(record.result)
        for engine in self.engines:
            assert bounded(engine.interrupted) == []
        assert self.watcher.calls == calls


def play_seed(seed: int, open_one: Callable[[], Store], prefix: str) -> None:
    """Let three people act at once, then bring all to an end; where that fails, tell what they did."""
    chance = Random(seed)
    with ExitStack() as stack:
        world = World(stack, chance, open_one, f"{prefix}-{seed}")
        chances = [Random(f"{seed} {number}") for number in range(3)]
        problems: list[BaseException] = []

        def person(own: Random) -> None:
            try:
                for _ in range(own.randint(1, 5)):
                    world.act(own)
            except BaseException as error:
                problems.append(error)

        people = [threading.Thread(target=person, args=[own], daemon=True) for own in chances]
        try:
            for each in people:
                each.start()
            for each in people:
                each.join(LONG * 6)
                if each.is_alive():
                    raise Hang("somebody waits for ever")
            for problem in problems:
                raise problem
            world.finish(chance)
            world.check()
            assert world.watcher.problems == []
        except BaseException as error:
            lines = [f"{name} failed at {faults.seen[:5]}" for name, faults in zip("AB", world.faults, strict=True)]
            lines += [*world.calls, *world.watcher.problems]
            error.add_note(f"seed {seed}, {world.flow.name}, durability {world.durability}\n  " + "\n  ".join(lines))
            raise


@pytest.fixture(params=["memory", "sqlite"])
def database(request: pytest.FixtureRequest, fast_path: Path) -> Iterator[Callable[[], Store]]:
    """Open the test's database once more; in memory there is one store, which all share."""
    if request.param == "memory":
        shared = Shared(open_store("memory:"))
        yield lambda: shared
        shared.end()
    else:
        url = f"sqlite:///{fast_path}/szal.db"
        yield lambda: open_store(url)


class Shared:
    """A store that is not closed by those who share it."""

    def __init__(self, target: Store) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def close(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Close it."""
        self._target.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", range(BLOCKS))
def test_whoever_calls_and_whatever_fails_each_step_is_done_once_and_all_can_end(database, block, pytestconfig):
    with ending(pytestconfig):
        for seed in range(block * SCENARIOS, (block + 1) * SCENARIOS):
            play_seed(seed, database, f"e{block}")


# -- what it found, cut down -------------------------------------------------------------------------------


class Slow:
    """A store whose writes take their time, and whose ledger can be held up before it says what it knows."""

    def __init__(self, target: Store) -> None:
        self._target = target
        self.ledger = InFront(target.ledger, apply=self.apply, read=self.read)
        self.is_slow = threading.Event()
        self.looked, self.go_on = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def apply(self, writes: Any, *, once: bool = False) -> None:
        if self.is_slow.is_set():
            threading.Event().wait(0.3)
        self._target.ledger.apply(writes, once=once)

    def read(self, execution_id: str, **how: Any) -> Any:
        found = self._target.ledger.read(execution_id, **how)
        self.looked.set()
        self.go_on.wait(LONG)
        return found


def test_a_run_that_ends_while_it_is_to_be_resumed_is_not_run_again():
    calls, end = [], threading.Event()

    def handler(ctx: StepContext) -> None:
        calls.append(ctx.step.name)
        end.wait(LONG)

    def resume() -> None:
        with suppress(ExecutionOwned):
            engine.resume("e1")
        slow.looked.set()

    slow = Slow(open_store("memory:"))
    with Sink(slow) as sink, Engine(handler, EngineConfig(execution_store=sink, durability="none")) as engine:
        execution = bounded(engine.start, FlowDef("one", steps=[StepDef("a")]), execution_id="e1")
        resumer = threading.Thread(target=resume, daemon=True)
        resumer.start()
        assert slow.looked.wait(LONG)
        slow.is_slow.set()
        end.set()
        bounded(execution.result)
        slow.go_on.set()
        resumer.join(LONG)
        assert not resumer.is_alive()
        sink.flush(LONG)
    assert calls == ["a"]
