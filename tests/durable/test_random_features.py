"""Flows in which what a step may say is combined at random: broken off anywhere, they end as if nothing had happened.

A few of them; SZAL_TEST_FULL=1: some hundreds, and each is killed, too.
"""

import json
import os
import random
import re
import signal
import threading
from typing import Any, Final

import pytest
from processes import wait_until

from szal import (
    Engine,
    Flow,
    FlowResult,
    GiveUp,
    SkipStep,
    StepContext,
    StepResult,
    TriggerMode,
    UnknownOutcome,
    WorkflowState,
    open_store,
)

FULL: Final = bool(os.environ.get("SZAL_TEST_FULL"))
SEEDS: Final = range(300 if FULL else 12)
PLAIN: Final = (TriggerMode.ALL,) * 5 + (TriggerMode.ALL_DONE, TriggerMode.ALL_COMPLETED)
OF_ONE: Final = (TriggerMode.ANY, TriggerMode.ONE_FAILED, TriggerMode.ONE_DONE)  # of several, which is first is a race
DOES: Final = ("returns",) * 5 + ("lists",) * 3 + ("fails", "fails for some", "flaky", "skips", "asks once", "gives up")


class Act:
    """What is done at the moment of a run whose number is `at`: they are counted, before and after each call."""

    def __init__(self) -> None:
        self.count, self.at = 0, 0
        self.does: Any = None

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.at:
            self.does()

    def at_moment(self, number: int, does: Any) -> None:
        self.count, self.at, self.does = 0, number, does


class Maker:
    """Makes flows, whose steps do the same each time that they are run."""

    def __init__(self, seed: int) -> None:
        self.random, self.act = random.Random(seed), Act()
        self.flow = self.made("flow", 6)

    def chance(self, likelihood: float) -> bool:
        return self.random.random() < likelihood

    def made(self, name: str, most: int) -> Flow:
        flow, before = Flow(name, rollback_on_failure=self.chance(0.5)), list[str]()
        count = self.random.randint(2, most)
        for number in range(count):
            is_final = number == count - 1 and self.chance(0.5)
            needs = [step for step in before if self.chance(0.45)]
            self.add(flow, f"{name}{number}", needs, is_final=is_final)
            if not is_final:
                before.append(f"{name}{number}")
        return flow

    def add(self, flow: Flow, name: str, needs: list[str], *, is_final: bool) -> None:
        said: dict[str, Any] = {"finally_": is_final, "continue_on_error": not is_final and self.chance(0.25)}
        if needs and not is_final:
            said["trigger_mode"] = self.random.choice(PLAIN + (OF_ONE if len(needs) == 1 else ()))
        if self.chance(0.3):
            said |= {"max_retries": self.random.randint(1, 2), "retry_delay": 0}
        if flow.name == "flow" and self.chance(0.2):
            flow.sub_flow(name, self.made(f"{name}_", 3), needs=needs, **said)
            return
        if self.chance(0.35):
            items = self.random.choice([[], [1], [1, 2, 3], [{"k": 1}, [2]]])
            said |= {"foreach": items, "max_parallel": self.random.choice([None, 1, 2])}
        if self.chance(0.1):
            said["done_when"] = lambda ctx: (ctx.index or 0) % 2 == 1
        undo = None if is_final else self.random.choice([None, "works", "works", "fails"])
        said["undo_on_failure"] = undo is not None and self.chance(0.4)
        does = self.random.choice(DOES)
        step = flow.step(lambda ctx: self.step(ctx, does), name=name, needs=needs, **said)
        if undo is not None:
            step.rollback(lambda ctx: self.undo(ctx, undo))

    def step(self, ctx: StepContext, does: str) -> Any:
        self.act()
        try:
            is_even = (ctx.index or 0) % 2 == 0
            if does == "fails" or (does == "fails for some" and is_even) or (does == "flaky" and ctx.attempt == 1):
                raise ValueError(ctx.step.name)
            if does == "skips" and is_even:
                raise SkipStep("not this one")
            if does == "gives up":
                raise GiveUp("no")
            if does == "lists":
                return [1, 2, {"name": ctx.step.name}]
            if does == "asks once":
                return [ctx.once(f"key {number}", lambda number=number: number) for number in range(3)]
            before = {name: [str(result.status), result.error] for name, result in ctx.steps.items()}
            end = [str(ctx.flow.state), ctx.flow.error, list(ctx.flow.failed)] if ctx.step.finally_ else None
            return [ctx.index, ctx.item, sorted(ctx.outputs), before, end]
        finally:
            self.act()

    def undo(self, ctx: StepContext, does: str) -> Any:
        self.act()
        if does == "fails":
            raise OSError("cannot")
        return [ctx.reason, ctx.output, ctx.index]


def seen(result: FlowResult) -> Any:
    """What of a result has to be the same, as JSON."""

    def of(step: StepResult) -> Any:
        items = None if step.items is None else [*map(of, step.items)]
        status = [step.step_name, str(step.status), step.error, step.is_caught]
        return [*status, step.output, step.undo_output, items]

    end = [str(result.state), result.success, result.rolled_back, result.error]
    return in_any_order(json.loads(json.dumps([end, [*map(of, result.steps)]])))


def in_any_order(value: Any) -> Any:
    """Return *value* without the order in which texts name what could not be undone: that is of when steps ended."""
    if isinstance(value, str):
        return sorted(re.split("[;:,] ", value))
    if isinstance(value, dict):
        return {key: in_any_order(each) for key, each in value.items()}
    return [*map(in_any_order, value)] if isinstance(value, list) else value


@pytest.fixture(params=SEEDS)
def maker(request: pytest.FixtureRequest) -> Maker:
    return Maker(request.param)


def raised() -> None:
    raise UnknownOutcome("no answer")


@pytest.mark.parametrize("how", ["pause", "drain", "unknown"])
def test_broken_off_anywhere_it_ends_as_if_nothing_had_happened(maker: Maker, how: str) -> None:
    flow, act = maker.flow, maker.act
    expected, moments = seen(flow.run()), act.count
    for number in maker.random.sample(range(1, moments + 1), min(moments, 3)):
        store = open_store("memory:")
        engine = Engine.open(store, flow, max_concurrency=maker.random.choice([1, 16]))
        closing = threading.Thread(target=engine.close, kwargs={"drain": 20})
        does = {"pause": lambda: engine.pause("e"), "drain": closing.start, "unknown": raised}  # noqa: B023
        act.at_moment(number, does[how])
        result = engine.run(flow, execution_id="e")
        act.at_moment(0, None)
        if how == "drain":
            wait_until(lambda: not closing.is_alive())  # noqa: B023
            engine = Engine.open(store, flow)
            result = engine.run(flow, execution_id="e")
        elif result.state is WorkflowState.PAUSED:
            for wait in engine.look("e").waits if how == "unknown" else ():
                engine.resolve(wait.execution_id, wait.step, "retry")
            result = engine.resume("e")
        elif how == "unknown":  # nobody could decide: it was an undo, or at the end
            continue
        assert seen(result) == seen(engine.result("e", timeout=20)) == expected, (number, how)
        engine.close()


@pytest.mark.skipif(not FULL or not hasattr(os, "fork"), reason="takes a minute")
def test_killed_anywhere_it_ends_as_if_nothing_had_happened(maker: Maker, sqlite_url: str) -> None:
    flow, act = maker.flow, maker.act
    expected, moments = seen(flow.run()), act.count
    for number in maker.random.sample(range(1, moments + 1), min(moments, 3)):
        act.at_moment(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
        if not (pid := os.fork()):
            with Engine.open(sqlite_url, flow, durability=maker.random.choice(["flow", "step"])) as engine:
                engine.run(flow, execution_id=f"e{number}")
            os._exit(0)
        os.waitpid(pid, 0)
        act.at_moment(0, None)
        with Engine.open(sqlite_url, flow) as engine:
            assert seen(engine.run(flow, execution_id=f"e{number}")) == expected, number
