"""Runs flows in processes that die at a chosen place, and says what is wrong after that.

As a script (``crashes.py URL LOG``) it reads `Request`s, a line of JSON each, forks a child for each life, and prints
how many fault points there were. It has no thread of its own, so forking it is safe.

There are a thousand lives, so what each would do anew, and what is not looked at here, is done once: imports, a first
run that warms up all caches, the migration. A life on PostgreSQL has one connection instead of a pool. Who lives on
after the deaths is this script's own process, with a new engine and a new store, so that it knows nothing. Where a
request says ``spared=False``, all lives are new processes, with the store that an application opens; as a service is
started again and again, they try to for as long as there is no server. Where it says ``calls=True``, lives print a line
"CALL" at random fault points: whoever reads it may do to the server what must not change how an execution ends.
"""

import gc
import json
import logging
import os
import random
import signal
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NoReturn

import psycopg
from in_front import InFront
from psycopg_pool import ConnectionPool

from szal import (
    Engine,
    EngineConfig,
    ExecutionRecord,
    FlowDef,
    FlowMode,
    FlowResult,
    InMemoryStorage,
    StepContext,
    StepDef,
    StepStatus,
    TriggerMode,
    UnknownOutcome,
    WorkflowState,
)
from szal.engine.lineage import child_id
from szal.errors import StoreUnavailable
from szal.model.json import decode_checkpoint
from szal.model.key import is_memo, item_in, item_key
from szal.model.results import StepResult
from szal.stores import PostgresExecutionStore, SqliteExecutionStore, Store, open_store
from szal.stores.base import read_record
from szal.stores.sink.sink import Sink

ALL = TriggerMode.ALL
DIED = 77
CALL = "now"
PATIENCE = 60  # seconds for one child, which takes a fraction of one


class Faults:
    """Counts the places at which a process may die, and dies at one of them; calls at another. For any thread.

    `places` says of each what it is before or after: a write, or a call for a step. `lost` counts the writes that found
    no server, or lost it.
    """

    def __init__(self, at: int | None, *, call_at: int | None = None, by_signal: bool = False) -> None:
        self.count = self.lost = 0
        self.places: set[str] = set()
        self.at = at
        self._call_at = call_at
        self._by_signal = by_signal
        self._lock = threading.Lock()

    def point(self, place: str) -> None:
        """Stand at a place where the process may die."""
        with self._lock:
            self.count += 1
            self.places.add(place)
            if self.count == self._call_at:
                os.write(1, f"{CALL}\n".encode())
            if self.count != self.at:
                return
            if self._by_signal:
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(DIED)

    def lose(self) -> None:
        """Take note of a write that the server did not answer."""
        with self._lock:
            self.lost += 1


class FaultyStore:
    """Another store, with a fault point before and after each of its writes."""

    WRITES = ("apply", "create", "take_over", "renew", "send", "request_pause")

    def __init__(self, store: Any, faults: Faults) -> None:
        self._store = store
        self._faults = faults
        self.ledger = InFront(
            store.ledger, **{name: self._between_faults(name, getattr(store.ledger, name)) for name in self.WRITES}
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _between_faults(self, name: str, write: Callable[..., Any]) -> Callable[..., Any]:
        def writing(*arguments: Any, **options: Any) -> Any:
            self._faults.point(f"before {name}")
            try:
                done = write(*arguments, **options)
            except StoreUnavailable:
                self._faults.lose()
                raise
            self._faults.point(f"after {name}")
            return done

        return writing


class OneConnection(ConnectionPool["psycopg.Connection[Any]"]):
    """What a store takes for a pool: one connection, which threads take turns at. It starts no threads."""

    name = "one connection"

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None
        self._lock = threading.Lock()

    def getconn(self, timeout: float) -> "psycopg.Connection[Any]":
        assert self._lock.acquire(timeout=timeout)
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self._url, autocommit=True)
        except BaseException:
            self._lock.release()
            raise
        return self._connection

    def putconn(self, _: object) -> None:
        self._lock.release()

    def check(self) -> None:
        pass

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()


# -- what is run ------------------------------------------------------------------------------------


AGAIN = " again"
"""How the id of a rerun ends."""


def called(flow_name: str, execution_id: str) -> str:
    """Return what a flow is called here: of a rerun it is another one."""
    return flow_name + AGAIN if execution_id.endswith(AGAIN) else flow_name


class Scenario:
    """A flow, the flows that it begins, and how its handlers behave."""

    def __init__(
        self,
        flow: FlowDef,
        others: tuple[FlowDef, ...] = (),
        *,
        act: Callable[[StepContext, Engine], Any] = lambda ctx, engine: ctx.step.name,
        undo: Callable[[StepContext], Any] = lambda ctx: None,
        go_on: "Callable[[Life, str, FlowResult], FlowResult | None] | None" = None,
        sure: Mapping[tuple[str, str], Any] | None = None,
        kept: Sequence[tuple[str, str]] = (),
        pauses: bool = False,
    ) -> None:
        self.flow = flow
        self.kept = kept  # by flow and step, what a rerun must not do again
        self.pauses = pauses  # a person asks for that
        self.flows = {each.name: each for each in (flow, *others)}
        self.flows[called(flow.name, AGAIN)] = flow
        self.storage = InMemoryStorage(others)
        self.act = act
        self.undo = undo
        self.go_on = go_on  # what a person does when a run returns, and the result of that; None: nothing
        self.sure = sure or {}  # by flow and step, what must come out of it when nothing happens to it

    def family(self, execution_id: str) -> Iterator[str]:
        """Return the execution, those of all sub-flows, and its rerun, which may or may not have been begun."""
        yield from self._family(self.flow, execution_id)
        if self.go_on is not None:
            yield execution_id + AGAIN

    def _family(self, flow: FlowDef, execution_id: str) -> Iterator[str]:
        yield execution_id
        for step in flow.walk():
            if step.step_type == "sub_flow":
                for attempt in range(1, step.max_retries + 2):
                    child = child_id(execution_id, step.name, attempt)
                    yield from self._family(self.flows[step.config["flow_name"]], child)

    def needs(self, flow_name: str) -> Mapping[str, list[str]]:
        """Return, by step, what must have ended before it begins."""
        flow = self.flows[flow_name]
        names = {step.id: step.name for step in flow.walk()}
        order = [step.name for step in flow.walk()]
        others = [step.name for step in flow.walk() if not step.finally_]
        if flow.mode is FlowMode.SEQUENTIAL:
            needs = {name: order[:place][-1:] for place, name in enumerate(order)}
        else:
            needs = {step.name: [names[need] for need in step.depends_on] for step in flow.walk()}
        return needs | {step.name: [*others, *needs[step.name]] for step in flow.walk() if step.finally_}


def modes() -> Scenario:
    """Every mode, retries, conditions, a sub-flow of each kind, a failing branch; waits and sleeps here and there.

    One of the waits, inside of a sub-flow, is for what is only sent when everything else is done and all is paused.
    """
    main = FlowDef("main", FlowMode.DAG)

    def step(name: str, *needs: StepDef, **options: Any) -> StepDef:
        return main.add_step(StepDef(name, depends_on=needs, retry_delay=0.0, **options))

    first = step("first")
    ask = step("ask", first)
    flaky = step("flaky", first, max_retries=2)
    never = step("never", first, condition="steps.first.output == 'something else'")
    once = step("once", flaky, never, condition="steps.first.output == 'first'")
    answer = step("answer", ask, step_type="wait", config={"signal": "approve"})
    broken = step("broken", once, max_retries=1)
    step("cut off", broken)
    step("then", step("caught", flaky, continue_on_error=True))
    line = step("line", once, step_type="sub_flow", config={"flow_name": "line"})
    step("tree", answer, step_type="sub_flow", config={"flow_name": "tree"})
    step("bundle", line, step_type="sub_flow", config={"flow_name": "bundle"})
    step("nap", ask, step_type="sleep", config={"seconds": 0.002})
    step("patience", first, step_type="sub_flow", config={"flow_name": "patience"})
    quick = step("quick", first)
    hold = step("hold", first, step_type="wait", config={"signal": "nobody"})
    step("won", quick, hold, trigger_mode=TriggerMode.ANY, cancel_losers=True)
    clean = step("clean", finally_=True)
    step("tell", clean, finally_=True)
    steps = [StepDef("l1"), StepDef("l2", max_retries=1, retry_delay=0.0), StepDef("l3"), StepDef("l4", finally_=True)]
    return Scenario(
        main,
        (
            FlowDef("line", steps=steps),
            FlowDef(
                "tree",
                FlowMode.HIERARCHICAL,
                steps=[StepDef("t", sub_steps=[StepDef("t1"), StepDef("t2")]), StepDef("u")],
            ),
            FlowDef("bundle", FlowMode.PARALLEL, steps=[StepDef("b1"), StepDef("b2"), StepDef("b3")]),
            FlowDef(
                "patience",
                steps=[
                    StepDef("p1"),
                    StepDef("doze", step_type="sleep", config={"seconds": 0.002}),
                    StepDef("one", step_type="wait", config={"signal": "soon", "timeout": 3600}),
                    StepDef("two", step_type="wait", config={"signal": "soon"}),
                    StepDef("late", step_type="wait", config={"signal": "late"}),
                    StepDef("p2"),
                ],
            ),
        ),
        act=_act_in_modes,
        go_on=_go_on_in_modes,
        sure={
            ("main", "answer"): {"by": "ask"},
            ("patience", "one"): "signal 1",
            ("patience", "two"): "signal 2",
            ("patience", "late"): {"by": "somebody"},
        },
    )


def _act_in_modes(ctx: StepContext, engine: Engine) -> Any:
    name = ctx.step.name
    if name == "ask":
        engine.signal(ctx.execution_id, "approve", {"by": "ask"}, signal_id="the only one")
    if name == "p1":
        for signal_id in ("1", "2"):
            engine.signal(ctx.execution_id, "soon", f"signal {signal_id}", signal_id=signal_id)
    if name == "flaky":
        assert [ctx.once(f"page {number}", lambda: {"page": ctx.index}) for number in range(3)] == [{"page": None}] * 3
    if (name, ctx.attempt) in {("flaky", 1), ("flaky", 2), ("l2", 1)} or name in ("broken", "caught"):
        raise ValueError(f"{name} fails")
    return name if name != "once" else {"seen": dict(ctx.outputs)}


def _go_on_in_modes(life: "Life", execution_id: str, result: FlowResult) -> FlowResult | None:
    if result.state is not WorkflowState.PAUSED:
        return None
    life.engine.signal(child_id(execution_id, "patience", 1), "late", {"by": "somebody"}, signal_id="the other one")
    return life.engine.resume(execution_id)


def by_a_person() -> Scenario:
    """A flow that a person has to go on with, time and again.

    A handler does not know whether it has paid; then one has the execution paused, another fails, as its file is late.
    When all is done, it is run again with another output of that step. One step has run out of its time by then.
    """
    flow = FlowDef("person", FlowMode.DAG)

    def step(name: str, *needs: StepDef, **options: Any) -> StepDef:
        return flow.add_step(StepDef(name, depends_on=needs, **options))

    first = step("first")
    hasty = step("hasty", first, max_retries=1, retry_delay=3600, total_timeout=1800, continue_on_error=True)
    late = step("late", step("halt", step("pay", first)))
    step("last", late, hasty)
    return Scenario(
        flow,
        act=_act_for_a_person,
        go_on=_go_on_as_a_person,
        sure={
            ("person", "pay"): {"paid": 7},
            ("person", "last"): {"pay": 7, "late": "came"},
            ("person again", "last"): {"pay": 7, "late": "given"},
        },
        kept=[("person again", name) for name in ("first", "pay", "halt", "late")],
        pauses=True,
    )


def _act_for_a_person(ctx: StepContext, engine: Engine) -> Any:
    name = ctx.step.name
    if name == "hasty":
        raise ConnectionError("reset")
    if name == "pay":
        raise UnknownOutcome("no answer")
    if name == "halt":
        engine.pause(ctx.execution_id)
    if name == "late" and not os.path.exists(f"{ctx.execution_id}.file"):  # noqa: PTH110 (a plain script)
        raise FileNotFoundError("it comes later")
    if name == "last":
        return {"late": ctx.outputs["late"], "pay": ctx.outputs["pay"]["paid"]}
    return "came"


def _go_on_as_a_person(life: "Life", execution_id: str, result: FlowResult) -> FlowResult | None:
    engine = life.engine
    if result.execution_id != execution_id:  # the rerun is over
        return None
    if result.state is WorkflowState.PAUSED:
        if "pay" in [wait.step for wait in engine.look(execution_id).waits]:
            engine.resolve(execution_id, "pay", "completed", {"paid": 7})
        return engine.resume(execution_id)
    if result.state is WorkflowState.FAILED:
        os.close(os.open(f"{execution_id}.file", os.O_CREAT))
        done = {step.step_name: "completed" for step in result.steps if step.status is StepStatus.COMPLETED}
        life.note("retried", before={life.scenario.flow.name: done})
        return engine.run(life.scenario.flow, {"n": 1}, execution_id=execution_id, retry_failed=True)
    return engine.rerun(execution_id, outputs={"late": "given"}, new_id=execution_id + AGAIN)


def undoing() -> Scenario:
    """A flow that fails late and is undone, one step of it only at the second try, one not at all; two steps wait."""
    flow = FlowDef("undone", FlowMode.DAG, rollback_on_failure=True)
    a = flow.add_step(StepDef("a", rollbackable=True))
    b = flow.add_step(StepDef("b", rollbackable=True, depends_on=[a], max_retries=1, retry_delay=0.0))
    c = flow.add_step(StepDef("c", rollbackable=True, depends_on=[a]))
    d = flow.add_step(StepDef("d", rollbackable=True, depends_on=[b, c]))
    flow.add_step(StepDef("plain", depends_on=[c]))
    flow.add_step(StepDef("boom", depends_on=[d], undo_on_failure=True))
    hold = flow.add_step(StepDef("hold", step_type="wait", config={"signal": "never"}))
    flow.add_step(StepDef("held", depends_on=[hold]))
    flow.add_step(StepDef("nap", step_type="sleep", config={"seconds": 3600}, depends_on=[c]))
    flow.add_step(StepDef("tell", finally_=True))
    flow.add_step(StepDef("clean", finally_=True, max_retries=1, retry_delay=0.0))
    return Scenario(flow, act=_act_in_undoing, undo=_undo)


def undoing_a_family() -> Scenario:
    """A flow that fails late, after two sub-flows have completed, which do not roll back by themselves.

    One has a sub-flow of its own, and a step that is undone at the second try only. Nothing of the other can be undone.
    """

    def sub_flow(name: str, **options: Any) -> StepDef:
        return StepDef(f"in {name}", step_type="sub_flow", config={"flow_name": name}, **options)

    def made(name: str, **options: Any) -> StepDef:
        return StepDef(name, rollbackable=True, retry_delay=0.0, **options)

    inner = FlowDef("inner", FlowMode.PARALLEL, steps=[made("i1"), made("i2")])
    middle = FlowDef("middle", steps=[made("m1"), sub_flow("inner"), made("b", max_retries=1)])
    middle.add_step(StepDef("m2", finally_=True))
    plain = FlowDef("plain", steps=[StepDef("p1")])
    last = FlowDef("last", FlowMode.PARALLEL, steps=[StepDef("z1"), StepDef("z2")])
    steps = [made("a"), sub_flow("middle"), sub_flow("plain"), StepDef("boom"), sub_flow("last", finally_=True)]
    flow = FlowDef("family", steps=steps, rollback_on_failure=True)
    return Scenario(flow, (middle, inner, plain, last), act=_act_in_undoing, undo=_undo)


def items() -> Scenario:
    """A step that runs over a list, two elements at a time, one of them flaky; then one of which an item fails."""
    flow = FlowDef("items", FlowMode.DAG)
    listed = flow.add_step(StepDef("listed"))
    options: dict[str, Any] = {"max_retries": 1, "retry_delay": 0.0}
    each = flow.add_step(StepDef("each", foreach=listed, depends_on=[listed], max_parallel=2, **options))
    flow.add_step(StepDef("all of it", depends_on=[each]))
    flow.add_step(StepDef("some", foreach=["x", "bad", "y"], depends_on=[each]))
    flow.add_step(StepDef("none", foreach=[]))
    return Scenario(flow, act=_act_in_items)


def _act_in_items(ctx: StepContext, engine: Engine) -> Any:
    if ctx.step.name == "listed":
        return ["a", "flaky", "b", "c"]
    if ctx.index is None:
        return ctx.outputs["each"]
    if ctx.item == "bad" or (ctx.item == "flaky" and ctx.attempt == 1):
        raise ValueError(ctx.item)
    return {ctx.item: ctx.index}


def undoing_items() -> Scenario:
    """A flow that fails when two steps have run over lists: one completed, and an item of the other failed."""
    flow = FlowDef("undone items", FlowMode.DAG, rollback_on_failure=True)
    options: dict[str, Any] = {"rollbackable": True, "max_parallel": 2}
    each = flow.add_step(StepDef("each", foreach=["a", "b", "c"], **options))
    flow.add_step(StepDef("some", foreach=["x", "bad", "y"], depends_on=[each], **options))
    return Scenario(flow, act=_act_in_items, undo=lambda ctx: None)


def failing_fast() -> Scenario:
    """A flow that ends with its first failure, that of an item: its siblings have not begun, and a wait ends."""
    flow = FlowDef("fast", FlowMode.DAG, rollback_on_failure=True, fail_fast=True)
    options: dict[str, Any] = {"rollbackable": True, "max_parallel": 1}
    some = flow.add_step(StepDef("some", foreach=["x", "bad", "y", "z"], **options))
    flow.add_step(StepDef("hold", step_type="wait", config={"signal": "never"}))
    flow.add_step(StepDef("after", depends_on=[some], trigger_mode=TriggerMode.ALL_DONE))
    flow.add_step(StepDef("tell", finally_=True))
    return Scenario(
        flow,
        act=lambda ctx, engine: ctx.flow.error if ctx.step.finally_ else _act_in_items(ctx, engine),
        undo=lambda ctx: None,
        sure={("fast", "tell"): "step 'some[1]' failed: ValueError: bad"},
    )


def _act_in_undoing(ctx: StepContext, engine: Engine) -> Any:
    if ctx.step.name == "boom" or (ctx.step.name, ctx.attempt) == ("clean", 1):
        raise ValueError("boom")
    if ctx.step.finally_:
        return [str(ctx.flow.state), ctx.flow.error, list(ctx.flow.failed)]
    return ctx.step.name


def _undo(ctx: StepContext) -> str:
    assert ctx.output == (ctx.step.name if ctx.step.name != "boom" else None)
    assert ctx.reason in ("step 'boom' failed: ValueError: boom", "undone with what it belongs to")
    if (ctx.step.name, ctx.attempt) == ("b", 1) or ctx.step.name == "c":
        raise ValueError(f"{ctx.step.name} stays")
    return f"{ctx.step.name} is undone"


def random_dag(seed: int) -> Scenario:
    """A DAG of some ten steps that fail, are flaky, conditional and rollbackable at random, or wait; two are sub-flows.

    The sub-flows are such flows too, of some three steps, and are undone by themselves where they fail. Nothing waits
    that rolls back: whether a failure or the end of a wait comes first is a race.
    """
    chance = random.Random(seed)
    kinds: dict[str, str] = {}
    rolls_back = chance.random() < 0.5
    inner = [_random_flow(chance, kinds, name, chance.randint(1, 3), is_below=rolls_back) for name in "xy"]
    flow = _random_flow(chance, kinds, "s", chance.randint(1, 8), rolls_back=rolls_back)
    for each in inner:
        needs = chance.sample(flow.steps, chance.randrange(min(len(flow.steps), 2) + 1))
        config = {"flow_name": each.name}
        flow.add_step(StepDef(f"in {each.name}", depends_on=needs, step_type="sub_flow", config=config))
    flow.add_step(StepDef("last", depends_on=flow.steps[-2:], trigger_mode=chance.choice([ALL, TriggerMode.ALL_DONE])))
    kinds["last"] = "ok"

    def act(ctx: StepContext, engine: Engine) -> Any:
        if kinds[ctx.step.name] == "broken" or (kinds[ctx.step.name] == "flaky" and ctx.attempt == 1):
            raise ValueError(ctx.step.name)
        return ctx.step.name

    return Scenario(flow, tuple(inner), act=act)


def _random_flow(
    chance: random.Random,
    kinds: dict[str, str],
    name: str,
    size: int,
    *,
    rolls_back: bool | None = None,
    is_below: bool = False,
) -> FlowDef:
    """Return a flow of so many steps; *kinds* is told what becomes of each. *is_below*: of one that rolls back."""
    rolls_back = chance.random() < 0.5 if rolls_back is None else rolls_back
    flow = FlowDef(f"random {name}", FlowMode.DAG, rollback_on_failure=rolls_back)
    for number in range(size):
        needs = chance.sample(flow.steps, min(len(flow.steps), chance.randrange(3)))
        if chance.random() < 0.2 and not (is_below or rolls_back):
            flow.add_step(_random_wait(chance, f"{name}{number}", needs))
            continue
        kinds[f"{name}{number}"] = chance.choices(["ok", "flaky", "broken"], [8, 2, 1])[0]
        condition = f"steps.{needs[0].name}.status == 'completed'" if needs and chance.random() < 0.3 else None
        options = {"condition": condition, "rollbackable": chance.random() < 0.6, "max_retries": 1, "retry_delay": 0.0}
        flow.add_step(StepDef(f"{name}{number}", depends_on=needs, **options))
    return flow


def _random_wait(chance: random.Random, name: str, needs: Sequence[StepDef]) -> StepDef:
    """Return a step that sleeps, or waits for what never comes and then completes, or fails at the second time."""
    signal_for: dict[str, Any] = {"signal": "never", "timeout": 0.003}
    kinds: list[dict[str, Any]] = [
        {"step_type": "sleep", "config": {"seconds": 0.002}},
        {"step_type": "wait", "config": signal_for | {"default": "nothing"}},
        {"step_type": "wait", "config": signal_for, "max_retries": 1, "retry_delay": 0.0},
    ]
    return StepDef(name, depends_on=needs, **chance.choice(kinds))


SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "modes": modes,
    "by a person": by_a_person,
    "undoing": undoing,
    "undoing a family": undoing_a_family,
    "items": items,
    "undoing items": undoing_items,
    "failing fast": failing_fast,
}


# -- one life of a process ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """Where, what and how."""

    url: str
    log: str
    durability: str
    scenario: Scenario
    spared: bool = True
    by_signal: bool = False
    calls: bool = False

    def open(self, pool: OneConnection | None = None) -> tuple[Store, Callable[[], None]]:
        """Return a store and what closes it; with *pool* it uses that, and leaves closing it to others."""
        if not self.spared:
            store = opened(self.url)
            return store, store.close
        if self.url.startswith("sqlite:"):
            store = SqliteExecutionStore.connect(self.url)
            return store, store.close
        pool, close = (pool, lambda: None) if pool is not None else ((own := OneConnection(self.url)), own.close)
        return PostgresExecutionStore.from_pool(pool), close


def opened(url: str) -> Store:
    """Open a store as soon as there is a server."""
    end = time.monotonic() + PATIENCE / 3
    while True:
        try:
            return open_store(url)
        except StoreUnavailable:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


class Life:
    """One process that runs the scenario, or goes on with it, and keeps a log of what it does."""

    def __init__(self, setting: Setting, log: str, faults: Faults, pool: OneConnection | None = None) -> None:
        self.scenario = scenario = setting.scenario
        self.faults = faults
        self._log = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        self._store, self._close = setting.open(pool)
        self._sink = Sink(FaultyStore(self._store, faults))  # type: ignore[arg-type]
        config = EngineConfig(
            execution_store=self._sink,
            durability=setting.durability,  # type: ignore[arg-type]
            storage=scenario.storage,
            rollback_handler=self._undo,
            max_recoveries=10,
        )
        self.engine = Engine(self._act, config)

    def live(self, execution_id: str, *, known: bool) -> None:
        """Run or recover the execution, to its end."""
        result = self._recovered(execution_id) if known else None
        if result is None:
            result = self.engine.run(self.scenario.flow, {"n": 1}, execution_id=execution_id)
        following: FlowResult | None = result
        while following is not None:
            self.note("returned", state=str(following.state))
            following = self._following(execution_id, following)
        self.engine.close()
        self._sink.close()
        self._close()
        os.close(self._log)

    def _following(self, execution_id: str, result: FlowResult) -> FlowResult | None:
        if self.scenario.go_on is not None:
            return self.scenario.go_on(self, execution_id, result)
        return self._woken(execution_id) if result.state is WorkflowState.PAUSED else None

    def _woken(self, execution_id: str) -> FlowResult:
        """Go on with an execution that is paused for a time only, once `recover` finds that it is over."""
        end = time.monotonic() + PATIENCE / 3
        while not (results := self.engine.recover()):
            assert time.monotonic() < end, "it never wakes"
            time.sleep(0.001)
        return next(result for result in results if result.execution_id == execution_id)

    def _recovered(self, execution_id: str) -> FlowResult | None:
        results = {result.execution_id: result for result in self.engine.recover()}
        if results:
            return results.get(execution_id) or results[execution_id + AGAIN]
        record = self._store.get(execution_id)
        assert record is not None
        if self.scenario.go_on is None and record.state is WorkflowState.PAUSED:
            return self._woken(execution_id)
        is_left = record.state is WorkflowState.PAUSED or self.scenario.pauses  # it may have been asked to
        assert is_left or not record.state.is_live, "it was not recovered"
        return None

    def note(self, what: str, **values: Any) -> None:
        os.write(self._log, json.dumps({"what": what, **values}).encode() + b"\n")

    def _note_call(self, what: str, name: str, ctx: StepContext) -> None:
        flow = called(ctx.flow_name, ctx.execution_id)
        self.note(what, flow=flow, step=name, attempt=ctx.attempt, key=ctx.idempotency_key)

    def _act(self, ctx: StepContext) -> Any:
        name = row_of(ctx)
        self.faults.point(f"before act {name}")
        self.note(
            "act", flow=called(ctx.flow_name, ctx.execution_id), step=name, attempt=ctx.attempt, key=ctx.idempotency_key
        )
        output = self.scenario.act(ctx, self.engine)
        self.faults.point(f"after act {name}")
        return output

    def _undo(self, ctx: StepContext) -> Any:
        name = row_of(ctx)
        self.faults.point(f"before undo {name}")
        self.note(
            "undo",
            flow=called(ctx.flow_name, ctx.execution_id),
            step=name,
            attempt=ctx.attempt,
            key=ctx.idempotency_key,
        )
        output = self.scenario.undo(ctx)
        self.faults.point(f"after undo {name}")
        return output


def row_of(ctx: StepContext) -> str:
    """Return the name of the row of the step, or of the item, that a call is for."""
    return ctx.step.name if ctx.index is None else item_key(ctx.step.name, ctx.index)


def in_child(setting: Setting, execution_id: str, log: str, faults: Faults, *, known: bool) -> bool:
    """Have a child live; tell *faults* what it passed, and return whether it did not die."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _live_and_die(lambda: Life(setting, log, faults).live(execution_id, known=known), faults, writer)
    os.close(writer)
    said = b"".join(iter(lambda: os.read(reader, 65536), b""))
    os.close(reader)
    status = os.waitpid(pid, 0)[1]
    if os.waitstatus_to_exitcode(status) in (DIED, -signal.SIGKILL):
        return False
    assert status == 0, f"{os.waitstatus_to_exitcode(status)}: {said.decode()}"
    faults.count, places, faults.lost = json.loads(said)
    faults.places.update(places)
    return True


def _live_and_die(live: Callable[[], None], faults: Faults, writer: int) -> NoReturn:
    status = 1
    try:
        signal.alarm(PATIENCE)
        live()
        os.write(writer, json.dumps([faults.count, sorted(faults.places), faults.lost]).encode())
        status = 0
    except BaseException:
        os.write(writer, traceback.format_exc().encode())
    os._exit(status)


def in_this_process(
    setting: Setting, execution_id: str, log: str, faults: Faults, *, known: bool, pool: OneConnection | None
) -> None:
    """Live, without dying, and leave no thread behind; tell *faults* what was passed."""
    Life(setting, log, faults, pool).live(execution_id, known=known)
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(PATIENCE)
    assert threading.active_count() == 1, threading.enumerate()


# -- what the database has ----------------------------------------------------------------------------


class Witness:
    """Looks into the database between the lives, with the bare driver, as soon as there is a server."""

    def __init__(self, url: str) -> None:
        self._path = url.removeprefix("sqlite:///") if url.startswith("sqlite:") else None
        # SQLite's must not be open where a child begins; of this one the children know nothing.
        self.pool = OneConnection(url) if self._path is None else None

    def _rows(self, query: str, ids: Sequence[str]) -> list[Any]:
        if self.pool is not None:
            return self._asked(self.pool, query.format(", ".join(["%s"] * len(ids))), ids)
        with closing(sqlite3.connect(self._path)) as connection:  # type: ignore[arg-type]
            return connection.execute(query.format(", ".join("?" * len(ids))), ids).fetchall()

    def _asked(self, pool: OneConnection, query: str, ids: Sequence[str]) -> list[Any]:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                connection = pool.getconn(PATIENCE)
                try:
                    return connection.execute(query.encode(), ids, prepare=False).fetchall()
                finally:
                    pool.putconn(connection)
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def records(self, ids: Sequence[str]) -> list[ExecutionRecord]:
        """Return the records of those of *ids* that there are, in their order."""
        found = dict(self._rows("SELECT execution_id, data FROM szal_executions WHERE execution_id IN ({})", ids))
        return [read_record(each, found[each]) for each in ids if each in found]

    def recorded(self, ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return by flow and step the status that the step has settled with."""
        names = {each.execution_id: called(each.flow_name, each.execution_id) for each in self.records(ids)}
        found: dict[str, dict[str, str]] = {name: {} for name in names.values()}
        query = "SELECT execution_id, step_name, result FROM szal_steps WHERE execution_id IN ({}) ORDER BY seq"
        for execution_id, step, data in self._rows(query, ids) if names else ():
            if is_memo(step):
                continue
            row = decode_checkpoint(data, step)
            is_known = row.outcome is not None or row.is_undecided
            if is_known and not (row.age and execution_id.endswith(AGAIN)):  # what a rerun has kept, it has not done
                found[names[execution_id]][step] = "undo failed" if row.undo_error else str(row.result.status)
        return found

    def ends(self, ids: Sequence[str]) -> list[Any]:
        """Return the final records, without the times and the ids, which differ from run to run."""
        found = []
        for record in self.records(ids):
            result = record.result
            assert result is not None, record
            assert record.finished_at is not None
            steps = [_end_of(step) for step in result.steps]
            ends = [str(record.state), record.error, result.success, result.rolled_back, result.error]
            found.append([called(record.flow_name, record.execution_id), dict(record.inputs), ends, steps])
        return found


def _end_of(step: StepResult) -> list[Any]:
    end = [step.step_name, str(step.status), step.output, step.attempts, step.error, step.error_type, step.undo_output]
    return [*end, None if step.items is None else [_end_of(item) for item in step.items]]


# -- what must hold -----------------------------------------------------------------------------------


class Verdict:
    """Reads the log of an execution's lives, and raises AssertionError for what must not be."""

    def __init__(self, scenario: Scenario, durability: str, expected: Any) -> None:
        self.scenario = scenario
        self.durability = durability
        self.expected = expected
        self._skipped = {
            (flow, step) for flow, *_, steps in expected for step, status, *_ in steps if status == "skipped"
        }

        self._items = {  # by flow and step, the rows of its items
            (flow, end[0]): {item_key(end[0], index) for index in range(len(end[-1]))}
            for flow, *_, steps in expected
            for end in steps
            if end[-1] is not None
        }

    def judge(self, notes: list[dict[str, Any]]) -> None:
        """Look at all lives; the last one came to its end."""
        lives: list[list[dict[str, Any]]] = []
        for note in notes:
            if note["what"] in ("life", "retried"):  # what has failed may run again from then on
                lives.append([])
            lives[-1].append(note)
        for life, after in zip(lives, [*lives[1:], None], strict=True):
            self._calls(life)
            if after is not None and after[0]["what"] == "life":
                self._losses(life, after[0])
        keys: dict[tuple[str, str, str], set[str]] = {}
        for note in notes:
            if note["what"] in ("act", "undo"):
                keys.setdefault((note["what"], note["flow"], note["step"]), set()).add(note["key"])
                assert (note["flow"], note["step"]) not in self.scenario.kept, f"kept, and run again: {note}"
        assert all(len(each) == 1 for each in keys.values()), keys
        assert len({key for each in keys.values() for key in each}) == len(keys), "two steps share a key"
        assert lives[-1][-1]["records"] == self.expected, (lives[-1][-1]["records"], self.expected)

    def _calls(self, life: list[dict[str, Any]]) -> None:
        """No step that was recorded is run again, and none twice in one life; the same for undos."""
        before = life[0]["before"]
        first = [note for note in life if note["what"] in ("act", "undo") and note["attempt"] == 1]
        called = [(note["what"], note["flow"], note["step"]) for note in first]
        assert len(set(called)) == len(called), f"run twice in one life: {called}"
        for note in life:
            status = before.get(note.get("flow"), {}).get(note.get("step"))
            assert note["what"] != "act" or status is None, f"recorded, and run again: {note}"
            if note["what"] == "undo":
                assert status not in ("rolled_back", "undo failed"), f"recorded as undone, and undone again: {note}"

    def _losses(self, life: list[dict[str, Any]], next_begins: dict[str, Any]) -> None:
        """What was known is still known; what the durability promises is there, and all that came before."""
        recorded = next_begins["before"]
        for flow, steps in life[0]["before"].items():
            assert steps.keys() <= recorded[flow].keys(), "a record was lost"
        for flow, steps in recorded.items():
            for name, needs in self.scenario.needs(flow).items():
                if name in steps:
                    needs = [need for need in needs if (flow, need) not in self.scenario.kept]  # noqa: PLW2901
                    assert set(needs) <= steps.keys(), f"{name} of {flow} is recorded, of {needs} only {steps}"
                    missing = self._items.get((flow, name), set()) - steps.keys()
                    assert not missing, f"{name} of {flow} is recorded, and not its items {missing}"
        kinds = {note["what"] for note in life}
        if self.durability != "none":
            for name in {note["flow"] for note in life if note["what"] == "undo"}:
                steps = {step.name for step in self.scenario.flows[name].walk() if not step.finally_}
                assert recorded[name].keys() >= steps, f"{name} was undone before it was committed"
        if self.durability != "none" and "returned" in kinds:
            last = max(place for place, note in enumerate(life) if note["what"] == "returned")
            for note in life[:last]:
                lost = note["what"] == "act" and note["step"] not in recorded.get(note["flow"], {})
                assert not lost, f"{note} was not safe when it returned"
        if self.durability == "step":
            for note in life:
                if note["what"] == "act":
                    item = item_in(note["step"])
                    needs = self.scenario.needs(note["flow"])[note["step"] if item is None else item[0]]
                    known = {*self._skipped, *self.scenario.kept}  # decided anew, or done elsewhere
                    needs = [need for need in needs if (note["flow"], need) not in known]
                    assert set(needs) <= recorded[note["flow"]].keys(), f"{note['step']} began before {needs} was safe"


class Matrix:
    """Kills a scenario at one fault point after another."""

    def __init__(self, setting: Setting, witness: Witness) -> None:
        self._setting = setting
        self._witness = witness
        self._number = 0
        self.troubled = 0  # lives that came to their end, in which a write was lost
        self._chance = random.Random(setting.log)
        whole = Faults(None)
        _, notes = self._lives([whole])
        self.points, self.places = whole.count, sorted(whole.places)
        expected = notes[-1]["records"]
        self.verdict = Verdict(setting.scenario, setting.durability, expected)
        self.verdict.judge(notes)
        outputs = {(flow, step): output for flow, *_, steps in expected for step, _, output, *_ in steps}
        assert setting.scenario.sure.items() <= outputs.items(), outputs

    def try_point(self, *points: int) -> bool:
        """Die at the first point, in the next life at the second; then live on. False if the first was not reached."""
        try:
            died, notes = self._lives([self._faults(at) for at in (*points, None)])
            self.verdict.judge(notes)
        except AssertionError as error:
            error.add_note(f"after dying at {points}; the log is {self._setting.log}.{self._number}")
            raise
        return died

    def _faults(self, at: int | None) -> Faults:
        call_at = self._chance.randint(1, at or self.points // 2) if self._setting.calls else None
        return Faults(at, call_at=call_at, by_signal=self._setting.by_signal)

    def _lives(self, lives: list[Faults]) -> tuple[bool, list[dict[str, Any]]]:
        """Live until one comes to the end; return whether the first died, and all notes."""
        self._number += 1
        log = f"{self._setting.log}.{self._number}"
        family = list(self._setting.scenario.family(log))
        notes: list[dict[str, Any]] = []
        for turn, faults in enumerate(lives):
            before = self._witness.recorded(family)
            place = self._setting, log, f"{log}.{turn}", faults
            is_over = True
            if faults.at is None and self._setting.spared:
                in_this_process(*place, known=bool(before), pool=self._witness.pool)
            else:
                is_over = in_child(*place, known=bool(before))
            self.troubled += faults.lost > 0
            notes.append({"what": "life", "before": before})
            with open(f"{log}.{turn}") as file:  # noqa: PTH123 (a plain script)
                notes += [json.loads(line) for line in file]
            if is_over:
                break
        notes.append({"what": "end", "records": self._witness.ends(family)})
        return turn > 0, notes


@dataclass(frozen=True)
class Request:
    """What to try: of *flow* every `every`-th fault point, of which every `again`-th once more with a second death.

    Where the second deaths come is left to chance, whose seed this is; so is the first of each where it is not said.
    """

    flow: str
    durability: str
    seed: int
    every: int = 1
    first: int | None = None
    again: int = 1
    again_first: int | None = None
    spared: bool = True
    by_signal: bool = False
    calls: bool = False


def tried(request: Request, url: str, log: str, witness: Witness) -> dict[str, Any]:
    """Do what is asked for; return how many fault points there are, and of what, and how often one died at them.

    With it: in how many lives a write was lost.
    """
    chance = random.Random(request.seed)
    scenario = random_dag(request.seed) if request.flow == "random" else SCENARIOS[request.flow]()
    setting = Setting(
        url,
        f"{log}.{request.flow}.{request.durability}.{request.seed}",
        request.durability,
        scenario,
        spared=request.spared,
        by_signal=request.by_signal,
        calls=request.calls,
    )
    matrix = Matrix(setting, witness)
    first = 1 + chance.randrange(min(request.every, matrix.points)) if request.first is None else request.first
    once = range(first, matrix.points + 1, request.every)
    again_first = (
        chance.randrange(min(request.again, len(once))) if request.again_first is None else request.again_first
    )
    twice = once[again_first :: request.again]
    return {
        "points": matrix.points,
        "places": matrix.places,
        "once": sum(matrix.try_point(at) for at in once),
        "twice": sum(matrix.try_point(at, chance.randint(1, matrix.points - at + 10)) for at in twice),
        "troubled": matrix.troubled,
    }


def warm_up(url: str, log: str, witness: Witness) -> None:
    """Do once what is done in all lives."""
    open_store(url).close()
    for name, scenario in SCENARIOS.items():
        setting = Setting(url, log, "flow", scenario())
        in_this_process(setting, f"{log}.{name}", log, Faults(None), known=False, pool=witness.pool)
    gc.collect()
    gc.freeze()  # what a child looks at need not be copied for it


def main(arguments: Sequence[str]) -> None:
    """Answer every line of the input."""
    url, log = arguments
    logging.disable()  # of undos that fail, as they are meant to
    witness = Witness(url)
    warm_up(url, f"{log}.warm", witness)
    for number, line in enumerate(sys.stdin):
        try:
            answer: dict[str, Any] = tried(Request(**json.loads(line)), url, f"{log}.{number}", witness)
        except Exception:
            answer = {"error": traceback.format_exc()}
            with opened(url) as store:  # what is left of it must not trouble the next
                for each in store.list():
                    store.remove(each)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
