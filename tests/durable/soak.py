"""Two workers share out executions, and are killed and replaced at random, until the time is over; then all is calm.

As a script: ``soak.py URL LOG EXECUTIONS SECONDS SEED``. The log has a line of JSON for each thing that happens, in the
order of events, whatever becomes of the processes. The script has no thread, so it may fork.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from szal import (
    Engine,
    EngineConfig,
    ExecutionOwned,
    FlowDef,
    FlowMode,
    InMemoryStorage,
    StepContext,
    StepDef,
    WorkflowEvent,
    WorkflowState,
)
from szal.stores import open_store

WORKERS = 2
DURABILITIES = ("step", "flow")  # of the first worker, and of the second
PATIENCE = 45  # seconds for one worker: more than all of them need


def flows() -> list[FlowDef]:
    """A chain, a diamond, and one with a sub-flow; the names of the steps tell who waits for whom."""
    diamond = FlowDef("diamond", FlowMode.DAG)
    a = diamond.add_step(StepDef("a"))
    sides = [diamond.add_step(StepDef(name, depends_on=[a])) for name in ("b", "c")]
    diamond.add_step(StepDef("d", depends_on=sides))
    inside = StepDef("inside", step_type="sub_flow", config={"flow_name": "inner"})
    return [
        FlowDef("chain", steps=[StepDef("a"), StepDef("b"), StepDef("c")]),
        diamond,
        FlowDef("outer", steps=[StepDef("a"), inside, StepDef("b")]),
    ]


INNER = FlowDef("inner", steps=[StepDef("i"), StepDef("j")])


class Worker:
    """One process that runs and recovers what there is to do, till nothing is left."""

    def __init__(self, url: str, log: str, number: int, pause: float) -> None:
        self._log = log
        self._durability = DURABILITIES[number]
        self._pause = pause
        self._store = open_store(url)
        self._sink = self._store.engine_sink()
        config = EngineConfig(
            execution_store=self._sink,
            durability=self._durability,  # type: ignore[arg-type]
            storage=InMemoryStorage([INNER]),
            max_recoveries=10**6,
            event_sink=self._heard,
        )
        self._engine = Engine(self._act, config)

    def work(self, left: dict[str, FlowDef]) -> None:
        """Take part until all executions that are *left* have ended."""
        while left:
            self._engine.recover()
            for summary in self._store.find(states=[WorkflowState.COMPLETED, WorkflowState.FAILED], limit=None):
                left.pop(summary.execution_id, None)
            for execution_id in list(left)[:10]:
                try:
                    self._engine.run(left[execution_id], execution_id=execution_id)
                except ExecutionOwned:
                    left[execution_id] = left.pop(execution_id)  # the other one has it: to the end of the queue
        self._engine.close()
        self._sink.close()
        self._store.close()

    def _act(self, ctx: StepContext) -> Any:
        step = [ctx.execution_id, ctx.step.name]
        note(self._log, "begin", step=step, durability=self._durability)
        time.sleep(random.uniform(0, 2 * self._pause))
        note(self._log, "end", step=step)
        return ctx.step.name

    def _heard(self, event: WorkflowEvent) -> None:
        if event.event_type == "flow_completed" and event.flow_name != INNER.name:
            note(self._log, "completed", execution=event.execution_id)


FLOWS = flows()


def warm_up(url: str) -> None:
    """Do once what every worker would do anew, imports above all; leave no thread behind."""
    Worker(url, os.devnull, 0, 0.0).work({"warm-up": INNER})
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()


def note(log: str, what: str, **values: Any) -> None:
    """Add a line to the log."""
    file = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, json.dumps({"what": what, "pid": os.getpid(), **values}).encode() + b"\n")
    os.close(file)


def begun(url: str, log: str, number: int, executions: int, pause: float) -> int:
    """Fork a worker, and return its process id."""
    pid = os.fork()
    if pid == 0:
        _work_and_end(url, log, number, executions, pause)
    return pid


def _work_and_end(url: str, log: str, number: int, executions: int, pause: float) -> NoReturn:
    status = 1
    try:
        signal.alarm(PATIENCE)
        random.seed()
        order = random.sample(range(executions), executions)
        Worker(url, log, number, pause).work({f"e{each}": FLOWS[each % len(FLOWS)] for each in order})
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)


class Crew:
    """The workers at work, by number."""

    def __init__(self, log: str, begin: Callable[[int], int]) -> None:
        self._log = Path(log)
        self._begin = begin
        self.kills = 0
        self.pids = {number: begin(number) for number in range(WORKERS)}

    def kill(self, number: int) -> None:
        """Kill a worker and begin another in its place, unless it has come to its end before."""
        note(str(self._log), "kill", victim=self.pids[number])
        os.kill(self.pids[number], signal.SIGKILL)
        if self._end_of(number) == -signal.SIGKILL:
            self.kills += 1
            self.pids[number] = self._begin(number)

    def wait(self) -> None:
        """Wait until every worker has come to its end."""
        for number in list(self.pids):
            self._end_of(number)

    def _end_of(self, number: int) -> int:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pids.pop(number), 0)[1])
        assert code in (0, -signal.SIGKILL), f"worker {number} failed: {code}"
        return code

    def progress(self, size: int, seconds: float) -> None:
        """Wait until the log has grown by *size* bytes, or for so many seconds."""
        goal, end = self._log.stat().st_size + size, time.monotonic() + seconds
        while self._log.stat().st_size < goal and time.monotonic() < end:
            time.sleep(0.002)


def main(arguments: Sequence[str]) -> None:
    """Kill until the time is over, or nothing is left to do; then wait for the end."""
    url, log = arguments[:2]
    executions, seconds = int(arguments[2]), float(arguments[3])
    chance = random.Random(int(arguments[4]))
    # So that the handlers alone would take half of the time; the rest is for the engine, and for doing it again.
    pause = seconds * WORKERS / (executions * 4) / 2
    warm_up(url)
    note(log, "start")
    end = time.monotonic() + seconds
    crew = Crew(log, lambda number: begun(url, log, number, executions, pause))
    while crew.pids and time.monotonic() < end:
        crew.progress(chance.randint(0, 6000), 0.4)
        crew.kill(chance.choice(list(crew.pids)))
    crew.wait()
    print(json.dumps({"kills": crew.kills}))


if __name__ == "__main__":
    logging.basicConfig()
    main(sys.argv[1:])
