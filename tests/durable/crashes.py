"""Runs flows in processes that die at a chosen place, and says what is wrong after that.

As a script (``crashes.py URL LOG DURABILITY FLOW MODE SEED``) it forks a child for each fault point, and prints how
many there were. It has no thread of its own, so forking it is safe.
"""

import json
import logging
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from szal import Engine, EngineConfig, FlowDef, FlowMode, InMemoryStorage, StepContext, StepDef
from szal.codec import decode_checkpoint
from szal.stores import open_store
from szal.stores.sink import Sink

DIED = 77
PATIENCE = 30  # seconds for one child, which takes a fraction of one


class Faults:
    """Counts the places at which a process may die, and dies at one of them. For any thread."""

    def __init__(self, at: int | None, *, by_signal: bool = False) -> None:
        self.count = 0
        self._at = at
        self._by_signal = by_signal
        self._lock = threading.Lock()

    def point(self) -> None:
        """Stand at a place where the process may die."""
        with self._lock:
            self.count += 1
            if self.count != self._at:
                return
            if self._by_signal:
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(DIED)


class FaultyStore:
    """Another store, with a fault point before and after each of its writes."""

    WRITES = ("apply", "begin", "take_over", "renew", "send")

    def __init__(self, store: Any, faults: Faults) -> None:
        self._store = store
        self._faults = faults
        self.ledger = self

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._between_faults(found) if name in self.WRITES else found

    def _between_faults(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def writing(*arguments: Any, **options: Any) -> Any:
            self._faults.point()
            done = write(*arguments, **options)
            self._faults.point()
            return done

        return writing


# -- what is run ------------------------------------------------------------------------------------


class Scenario:
    """A flow, the flows that it begins, and how its handlers behave."""

    def __init__(
        self,
        flow: FlowDef,
        others: tuple[FlowDef, ...] = (),
        *,
        act: Callable[[StepContext, Engine], Any] = lambda ctx, engine: ctx.step.name,
        undo: Callable[[StepContext], Any] = lambda ctx: None,
    ) -> None:
        self.flow = flow
        self.flows = {each.name: each for each in (flow, *others)}
        self.storage = InMemoryStorage(others)
        self.act = act
        self.undo = undo

    def needs(self, flow_name: str) -> Mapping[str, list[str]]:
        """Return, by step, what must have ended before it begins."""
        flow = self.flows[flow_name]
        names = {step.id: step.name for step in flow.walk()}
        order = [step.name for step in flow.walk()]
        if flow.mode is FlowMode.SEQUENTIAL:
            return {name: order[:place][-1:] for place, name in enumerate(order)}
        return {step.name: [names[need] for need in step.depends_on] for step in flow.walk()}


def modes() -> Scenario:
    """Every mode, retries, conditions, a sub-flow of each kind, a wait, a failing branch."""
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
    line = step("line", once, step_type="sub_flow", config={"flow_name": "line"})
    step("tree", answer, step_type="sub_flow", config={"flow_name": "tree"})
    step("bundle", line, step_type="sub_flow", config={"flow_name": "bundle"})
    step("nap", ask, step_type="sleep", config={"seconds": 0.01})
    steps = [StepDef("l1"), StepDef("l2", max_retries=1, retry_delay=0.0), StepDef("l3")]
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
        ),
        act=_act_in_modes,
    )


def _act_in_modes(ctx: StepContext, engine: Engine) -> Any:
    name = ctx.step.name
    if name == "ask":
        engine.signal(ctx.execution_id, "approve", {"by": "ask"}, signal_id="the only one")
    if (name, ctx.attempt) in {("flaky", 1), ("flaky", 2), ("l2", 1)} or name == "broken":
        raise ValueError(f"{name} fails")
    return name if name != "once" else {"seen": dict(ctx.outputs)}


def undoing() -> Scenario:
    """A flow that fails late and is undone, one step of it only at the second try, one not at all."""
    flow = FlowDef("undone", FlowMode.DAG, rollback_on_failure=True)
    a = flow.add_step(StepDef("a", rollbackable=True))
    b = flow.add_step(StepDef("b", rollbackable=True, depends_on=[a], max_retries=1, retry_delay=0.0))
    c = flow.add_step(StepDef("c", rollbackable=True, depends_on=[a]))
    d = flow.add_step(StepDef("d", rollbackable=True, depends_on=[b, c]))
    flow.add_step(StepDef("plain", depends_on=[c]))
    flow.add_step(StepDef("boom", depends_on=[d]))
    return Scenario(flow, act=_act_in_undoing, undo=_undo)


def _act_in_undoing(ctx: StepContext, engine: Engine) -> Any:
    if ctx.step.name == "boom":
        raise ValueError("boom")
    return ctx.step.name


def _undo(ctx: StepContext) -> None:
    assert ctx.output == ctx.step.name
    if (ctx.step.name, ctx.attempt) == ("b", 1) or ctx.step.name == "c":
        raise ValueError(f"{ctx.step.name} stays")


def random_dag(seed: int) -> Scenario:
    """A DAG of some ten steps, whose steps fail, are flaky, conditional and rollbackable at random."""
    chance = random.Random(seed)
    flow = FlowDef("random", FlowMode.DAG, rollback_on_failure=chance.random() < 0.5)
    steps: list[StepDef] = []
    kinds: dict[str, str] = {}
    for number in range(chance.randint(1, 10)):
        needs = chance.sample(steps, min(len(steps), chance.randrange(3)))
        kinds[f"s{number}"] = chance.choices(["ok", "flaky", "broken"], [8, 2, 1])[0]
        condition = f"steps.{needs[0].name}.status == 'completed'" if needs and chance.random() < 0.3 else None
        options = {"condition": condition, "rollbackable": chance.random() < 0.6, "max_retries": 1, "retry_delay": 0.0}
        steps.append(flow.add_step(StepDef(f"s{number}", depends_on=needs, **options)))

    def act(ctx: StepContext, engine: Engine) -> Any:
        if kinds[ctx.step.name] == "broken" or (kinds[ctx.step.name] == "flaky" and ctx.attempt == 1):
            raise ValueError(ctx.step.name)
        return ctx.step.name

    return Scenario(flow, act=act)


SCENARIOS: dict[str, Callable[[], Scenario]] = {"modes": modes, "undoing": undoing}


# -- one life of a process ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """Where, what and how."""

    url: str
    log: str
    durability: str
    scenario: Scenario


class Life:
    """One process that runs the scenario, or goes on with it, and keeps a log of what it does."""

    def __init__(self, setting: Setting, log: str, faults: Faults) -> None:
        self.scenario = scenario = setting.scenario
        self.faults = faults
        self._log = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        self._store = open_store(setting.url)
        self._sink = Sink(FaultyStore(self._store, faults))  # type: ignore[arg-type]
        config = EngineConfig(
            execution_store=self._sink,
            durability=setting.durability,  # type: ignore[arg-type]
            storage=scenario.storage,
            rollback_handler=self._undo,
            max_recoveries=10,
        )
        self._engine = Engine(self._act, config)

    def live(self, execution_id: str) -> None:
        """Run or recover the execution, to its end."""
        known = self._store.get(execution_id) is not None
        self._note("life", known=known, before=self._recorded(execution_id))
        if known:
            self._engine.recover()
            self._sink.flush()
            assert not self._store.get(execution_id).state.is_live, "it was not recovered"  # type: ignore[union-attr]
        result = self._engine.run(self.scenario.flow, {"n": 1}, execution_id=execution_id)
        self._note("returned", state=str(result.state))
        self._engine.close()
        self._sink.close()
        self._note("end", records=self._records(execution_id))
        self._store.close()

    def _note(self, what: str, **values: Any) -> None:
        os.write(self._log, json.dumps({"what": what, **values}).encode() + b"\n")

    def _act(self, ctx: StepContext) -> Any:
        self.faults.point()
        self._note("act", flow=ctx.flow_name, step=ctx.step.name, attempt=ctx.attempt, key=ctx.idempotency_key)
        output = self.scenario.act(ctx, self._engine)
        self.faults.point()
        return output

    def _undo(self, ctx: StepContext) -> None:
        self.faults.point()
        self._note("undo", flow=ctx.flow_name, step=ctx.step.name, attempt=ctx.attempt, key=ctx.idempotency_key)
        self.scenario.undo(ctx)
        self.faults.point()

    def _tree(self, execution_id: str) -> list[str]:
        found = [self._store.get(each) for each in self._store.list()]
        return [
            record.execution_id
            for record in found
            if record is not None and execution_id in (record.execution_id, record.parent_execution_id)
        ]

    def _recorded(self, execution_id: str) -> dict[str, dict[str, str]]:
        """Return what the database has: by flow and step, the status that the step has settled with."""
        found: dict[str, dict[str, str]] = {}
        for each in self._tree(execution_id):
            known = self._store.ledger.look(each)  # type: ignore[attr-defined]
            rows = {name: decode_checkpoint(data) for name, _, data in known.steps}
            found[known.record.flow_name] = {
                name: "undo failed" if row.undo_error else str(row.result.status)
                for name, row in rows.items()
                if row.outcome is not None
            }
        return found

    def _records(self, execution_id: str) -> list[Any]:
        """Return the final records, without the times and the ids, which differ from run to run."""
        found = []
        for each in self._tree(execution_id):
            record = self._store.get(each)
            assert record is not None
            assert record.result is not None, record
            assert record.finished_at is not None
            result = record.result
            steps = [[s.step_name, str(s.status), s.output, s.attempts, s.error, s.error_type] for s in result.steps]
            ends = [str(record.state), record.error, result.success, result.rolled_back, result.error]
            found.append([record.flow_name, dict(record.inputs), ends, steps])
        return sorted(found, key=lambda record: record[0])

    def forget(self, execution_id: str) -> None:
        """Remove the execution, and what it began."""
        for each in self._tree(execution_id):
            self._store.remove(each)


def in_child(setting: Setting, execution_id: str, log: str, faults: Faults) -> int | None:
    """Have a child live; return how many fault points it passed, None if it died at one."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _live_and_die(lambda: Life(setting, log, faults).live(execution_id), faults, writer)
    os.close(writer)
    said = b"".join(iter(lambda: os.read(reader, 65536), b""))
    os.close(reader)
    status = os.waitpid(pid, 0)[1]
    if os.waitstatus_to_exitcode(status) in (DIED, -signal.SIGKILL):
        return None
    assert status == 0, f"{os.waitstatus_to_exitcode(status)}: {said.decode()}"
    return int(said)


def _live_and_die(live: Callable[[], None], faults: Faults, writer: int) -> NoReturn:
    status = 1
    try:
        signal.alarm(PATIENCE)
        live()
        os.write(writer, b"%d" % faults.count)
        status = 0
    except BaseException:
        os.write(writer, traceback.format_exc().encode())
    os._exit(status)


# -- what must hold -----------------------------------------------------------------------------------


class Verdict:
    """Reads the log of an execution's lives, and raises AssertionError for what must not be."""

    def __init__(self, scenario: Scenario, durability: str, expected: Any) -> None:
        self.scenario = scenario
        self.durability = durability
        self.expected = expected

    def judge(self, notes: list[dict[str, Any]]) -> None:
        """Look at all lives; the last one came to its end."""
        lives: list[list[dict[str, Any]]] = []
        for note in notes:
            if note["what"] == "life":
                lives.append([])
            lives[-1].append(note)
        for life, after in zip(lives, [*lives[1:], None], strict=True):
            self._calls(life)
            if after is not None:
                self._losses(life, after[0])
        keys: dict[tuple[str, str, str], set[str]] = {}
        for note in notes:
            if note["what"] in ("act", "undo"):
                keys.setdefault((note["what"], note["flow"], note["step"]), set()).add(note["key"])
        assert all(len(each) == 1 for each in keys.values()), keys
        assert len({key for each in keys.values() for key in each}) == len(keys), "two steps share a key"
        assert lives[-1][-1]["records"] == self.expected

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
                    assert set(needs) <= steps.keys(), f"{name} of {flow} is recorded, of {needs} only {steps}"
        kinds = {note["what"] for note in life}
        if self.durability != "none" and "undo" in kinds:
            top = recorded[self.scenario.flow.name]
            assert top.keys() == {step.name for step in self.scenario.flow.walk()}, "undone before it was committed"
        if self.durability != "none" and "returned" in kinds:
            assert next_begins["known"]
            assert {"act", "undo"}.isdisjoint(kinds) or len(recorded) == len(self.scenario.flows)
        if self.durability == "step":
            for note in life:
                if note["what"] == "act":
                    needs = self.scenario.needs(note["flow"])[note["step"]]
                    assert set(needs) <= recorded[note["flow"]].keys(), f"{note['step']} began before {needs} was safe"


class Matrix:
    """Kills a scenario at one fault point after another."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._number = 0
        points, notes = self._lives([None])
        self.points = points
        self.verdict = Verdict(setting.scenario, setting.durability, notes[-1]["records"])
        self.verdict.judge(notes)

    def try_point(self, *points: int, by_signal: bool = False) -> bool:
        """Die at the first point, in the next life at the second; then live on. False if none was ever reached."""
        try:
            reached, notes = self._lives([*points, None], by_signal=by_signal)
            self.verdict.judge(notes)
        except AssertionError as error:
            error.add_note(f"after dying at {points}; the log is {self._setting.log}.{self._number}")
            raise
        return reached is None

    def _lives(self, points: list[int | None], *, by_signal: bool = False) -> tuple[int | None, list[dict[str, Any]]]:
        self._number += 1
        execution_id, log = f"execution-{self._number}", f"{self._setting.log}.{self._number}"
        first: int | None = None
        for turn, at in enumerate(points):
            faults = Faults(at, by_signal=by_signal)
            passed = in_child(self._setting, execution_id, log, faults)
            if turn == 0:
                first = passed
            if passed is not None:
                break
        with open(log) as file:  # noqa: PTH123 (a plain script)
            notes = [json.loads(line) for line in file]
        with open_store(self._setting.url) as store:
            for each in store.list():
                store.remove(each)
        return first, notes


def main(arguments: Sequence[str]) -> None:
    """Run a matrix, and print how many points it tried."""
    url, log, durability, name, mode, seed = arguments
    logging.disable()  # of undos that fail, as they are meant to
    chance = random.Random(int(seed))
    scenario = random_dag(int(seed)) if name == "random" else SCENARIOS[name]()
    matrix = Matrix(Setting(url, log, durability, scenario))
    points = matrix.points or 0
    tried = 0
    began = time.monotonic()
    if mode == "every":
        for at in range(1, points + 1):
            tried += matrix.try_point(at)
    elif mode == "twice":
        for at in chance.sample(range(1, points + 1), min(8, points)):
            tried += matrix.try_point(at, chance.randint(1, points - at + 10))
    else:
        for at in chance.sample(range(1, points + 1), min(3, points)):
            tried += matrix.try_point(at, chance.randint(1, points), by_signal=True)
    print(json.dumps({"points": points, "tried": tried, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main(sys.argv[1:])
