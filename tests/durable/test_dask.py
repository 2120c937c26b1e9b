"""A worker of a dask cluster, or its scheduler, that is killed (-9) in the middle of an execution."""

import sys
import time
from collections import Counter
from contextlib import contextmanager
from itertools import count, product

import pytest
import remote_handlers as handlers
from counting import Counting
from dask_cluster import connected, own_cluster
from helper_engine import LONG, bounded, statuses
from pairs import FULL

from szal import Engine, EngineConfig, ExecutorBroken, FlowDef, FlowMode, StepDef
from szal.contrib.dask import DaskExecutor, KilledWorker

LARGE = "x" * 100_000
KILL = 3 * LONG  # a worker is begun anew meanwhile


@contextmanager
def doomed_cluster(*arguments, **options):
    with own_cluster(*arguments, **options) as (process, address), connected(address) as client:
        yield process, client


@pytest.fixture(scope="module")
def doomed():
    """A cluster of one worker, which is begun anew each time that it is killed."""
    with doomed_cluster(1) as (_, client):
        yield client


def run(handler, flow, executor, inputs=None, **config):
    with Engine(handler, EngineConfig(executor=executor, **config)) as engine:
        return bounded(engine.run, flow, inputs, timeout=KILL)


class TestAWorkerThatIsKilled:
    """Its process, in the middle of an attempt."""

    @pytest.mark.timeout(120)
    def test_is_one_failed_attempt_which_the_steps_policy_repeats(self, doomed, tmp_path):
        """What it had of earlier steps is gone with it, and sent again."""
        executor, retries = Counting(doomed), []
        retry = {"max_retries": 1, "retry_delay": 0, "retry_on": ["distributed.scheduler.KilledWorker"]}
        steps = [StepDef("a"), StepDef("b", **retry, idempotent=False), StepDef("c")]

        def noted(event):
            if event.event_type == "step_retry":
                retries.append(event.error)

        inputs = {"log": str(tmp_path / "log"), "dies": "b", "times": 1, "text": LARGE}
        result = run(handlers.die, FlowDef("f", steps=steps), executor, inputs, event_sink=noted)
        assert (result.success, result["b"].attempts, result["c"].attempts) == (True, 2, 1)
        assert (tmp_path / "log").read_text().split() == ["a", "b", "b", "c"]
        [told] = retries
        assert told.startswith("KilledWorker: the worker tcp://")
        assert "nobody knows how far it came. dask does not call it again by itself" in told
        assert len(LARGE) * 2 <= executor.kept < len(LARGE) * 2.1

    @pytest.mark.timeout(120)
    def test_is_not_called_again_by_dask_where_the_step_is_not_tried_again(self, doomed, tmp_path):
        inputs = {"log": str(tmp_path / "log"), "dies": "b", "times": 1}
        flow = FlowDef("f", steps=[StepDef("a"), StepDef("b"), StepDef("c")])
        result = run(handlers.die, flow, doomed.get_executor(), inputs)
        assert (str(result.state), statuses(result)["c"]) == ("failed", "skipped")
        assert isinstance(result["b"].exception, KilledWorker)
        assert (tmp_path / "log").read_text().split() == ["a", "b"]


class ReturnsLate(DaskExecutor):
    """Its client hands on the second call and those after it, and returns once it has lost the scheduler."""

    def __init__(self, client):
        super().__init__(client)
        calls, submit = count(), client.submit

        def submitted(*arguments, **options):
            is_first, task = next(calls) == 0, submit(*arguments, **options)
            while not is_first and client.status == "running":
                time.sleep(0.005)
            return task

        client.submit = submitted


class TestASchedulerThatIsKilled:
    @pytest.mark.timeout(120)
    @pytest.mark.parametrize(
        ("kind", "executor"), [("sqlite", ReturnsLate), ("postgres", DaskExecutor)], ids=["as-it-is-given", "later"]
    )
    def test_leaves_the_execution_as_a_crash_does_and_another_cluster_goes_on(
        self, new_engine, store, executor, dask_client, tmp_path
    ):
        """Of a step that may not be done twice, nobody knows whether it was: somebody has to say so."""
        log = tmp_path / "log"
        first = StepDef("first")
        look = StepDef("look", depends_on=[first])
        pay = StepDef("pay", depends_on=[first], idempotent=False, max_retries=3, retry_delay=0)
        steps = [first, look, pay, StepDef("last", depends_on=[look, pay])]
        flow = FlowDef("f", FlowMode.DAG, steps=steps)
        with doomed_cluster(2, processes=False) as (process, client):
            inputs = {"log": str(log), "died": str(tmp_path / "died"), "pid": process.pid}
            engine = new_engine(handlers.dies_together, executor=executor(client), cancel_grace=LONG)
            with pytest.raises(
                ExecutorBroken, match=r"the executor was lost in the middle of step (look|pay): the dask scheduler"
            ):
                bounded(engine.run, flow, inputs, execution_id="x", timeout=KILL)
        record = store.get("x")
        assert (str(record.state), record.error) == ("running", None)
        engine = new_engine(handlers.dies_together, executor=DaskExecutor(dask_client))
        paused = bounded(engine.resume, "x", timeout=KILL)
        assert (str(paused.state), statuses(paused)["look"]) == ("paused", "completed")
        engine.resolve("x", "pay", "completed", "paid")
        result = bounded(engine.resume, "x", timeout=KILL)
        assert result.outputs == {"first": "first", "look": "look", "pay": "paid", "last": "last"}
        assert sorted(log.read_text().split()) == ["first", "last", "look", "look", "pay"]


NAMES = ["a", "b", "c", "each[0]", "each[1]", "each[2]", "last"]
PLACES = [f"{when} {name}" for name in NAMES for when in ("before", "after")]


def matrix_flow():
    retry = {"max_retries": 1, "retry_delay": 0}
    a = StepDef("a", **retry)
    b, c = (StepDef(name, depends_on=[a], **retry) for name in "bc")
    items = StepDef("each", depends_on=[b], foreach=["x", "y", "z"], **retry)
    last = StepDef("last", depends_on=[items, c], **retry)
    return FlowDef("f", FlowMode.DAG, steps=[a, b, c, items, last])


ROWS = [*product(PLACES, ["sqlite", "postgres"])]
"""Each version of Python takes another one."""
ENDS = {
    "a": ["a", []],
    "b": ["b", ["a"]],
    "c": ["c", ["a"]],
    "each": [[f"each[{number}]", ["a", "b"]] for number in range(3)],
    "last": ["last", ["a", "b", "c", "each"]],
}


class Retries(list):
    """The steps that were tried again, by name."""

    def __call__(self, event):
        if event.event_type == "step_retry":
            self.append(event.step_name)


def check(result, log, place, retries):
    """All ends as if nothing had happened. No effect is there twice without an attempt that is told of."""
    assert result.outputs == ENDS
    lines, (when, _, name) = log.read_text().split(), place.partition(" ")
    assert set(lines) == set(NAMES)
    assert lines.count(name) == (2 if when == "after" else 1)
    again = Counter(line.partition("[")[0] for line in lines) - Counter(each.partition("[")[0] for each in NAMES)
    assert again <= Counter(retries)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("place", "kind"), ROWS if FULL else [ROWS[sys.version_info.minor % len(ROWS)]])
def test_wherever_a_worker_dies_it_ends_as_if_nothing_had_happened(doomed, new_engine, tmp_path, place):
    inputs = {"log": str(tmp_path / "log"), "died": str(tmp_path / "died"), "place": place}
    engine = new_engine(handlers.dies_somewhere, executor=DaskExecutor(doomed), event_sink=(retries := Retries()))
    result = bounded(engine.run, matrix_flow(), inputs, execution_id="x", timeout=KILL)
    check(result, tmp_path / "log", place, retries)
    assert (tmp_path / "died").exists()


@pytest.mark.timeout(120)
@pytest.mark.skipif(not FULL, reason="a cluster is begun for each place: takes two minutes")
@pytest.mark.parametrize(("place", "kind"), ROWS)
def test_wherever_the_scheduler_dies_another_cluster_goes_on(new_engine, dask_client, tmp_path, place):
    with doomed_cluster(1) as (process, client):
        paths = {"log": str(tmp_path / "log"), "died": str(tmp_path / "died"), "pid": process.pid}
        engine = new_engine(handlers.dies_somewhere, executor=DaskExecutor(client), cancel_grace=LONG)
        with pytest.raises(ExecutorBroken):
            bounded(engine.run, matrix_flow(), {**paths, "place": place}, execution_id="x", timeout=KILL)
    engine = new_engine(handlers.dies_somewhere, executor=DaskExecutor(dask_client))
    result = bounded(engine.resume, "x", timeout=KILL)
    check(
        result, tmp_path / "log", place, ["a", "b", "c", "each", "each", "each", "last"]
    )  # what was under way is done again
