"""Several workers, killed at random, while executions are submitted: each of these ends once."""

import json
import os
import random
import signal
import time
from collections import Counter

import pytest
from durable.children import SETUP
from stores.samples import python

from szal import Engine, EngineConfig, FlowDef, StepDef, WorkflowState
from szal.stores import open_store

FULL = bool(os.environ.get("SZAL_TEST_FULL"))
EXECUTIONS = 2000 if FULL else 60
SECONDS = 60.0 if FULL else 2.0  # of killing; then all is calm
WORKERS = 4 if FULL else 3

WORKING = """
    import json
    log = sys.argv[2]

    def act(ctx):
        add(log, json.dumps([ctx.execution_id, ctx.step.name, os.getpid()]))

    def heard(event):
        if event.event_type == "flow_completed":
            add(log, json.dumps([event.execution_id, "ended", os.getpid()]))

    new_engine(act, event_sink=heard, lease_ttl=3.0, max_recoveries=10**6).work(max_executions=4)
"""


def flow():
    return FlowDef("chain", steps=[StepDef("a"), StepDef("b"), StepDef("c")])


@pytest.mark.timeout(400 if FULL else 60)
def test_workers_that_are_killed_at_random_end_each_execution_once(store_url, log):
    chance = random.Random()
    workers = [python(SETUP + WORKING, store_url, log.path) for _ in range(WORKERS)]
    kills = 0
    try:
        with open_store(store_url) as store, Engine([], EngineConfig(execution_store=store)) as shop:
            ids, began = [], time.monotonic()
            while len(ids) < EXECUTIONS or time.monotonic() - began < SECONDS:
                count = min(EXECUTIONS - len(ids), max(1, int(EXECUTIONS / SECONDS / 20)))
                ids += [shop.submit(flow(), priority=chance.randrange(3)) for _ in range(count)]
                if time.monotonic() - began < SECONDS and chance.random() < 0.1:
                    place = chance.randrange(WORKERS)
                    workers[place].send_signal(signal.SIGKILL)
                    workers[place].communicate()
                    workers[place] = python(SETUP + WORKING, store_url, log.path)
                    kills += 1
                time.sleep(0.02)
            for each in ids:
                assert shop.result(each, timeout=120).state is WorkflowState.COMPLETED
            assert store.count(states=[WorkflowState.CREATED, WorkflowState.RUNNING]) == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    notes = [json.loads(line) for line in log.lines]
    steps = Counter((execution_id, step) for execution_id, step, _ in notes)
    assert {execution_id for execution_id, step in steps if step == "c"} == set(ids)
    # A step runs again only where its process was killed in the midst of it, or of its commit.
    again = sum(count - 1 for (_, step), count in steps.items() if step != "ended")
    assert again <= kills * 4 * 3
    ended = Counter(execution_id for execution_id, step, _ in notes if step == "ended")
    assert set(ended.values()) == {1}  # it is told once the record is committed: a kill may come in between
