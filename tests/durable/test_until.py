"""Polls, over crashes and pauses: which one it is, when the next one comes, and how long all of them may take."""

import threading

import pytest
from durable.children import killed
from helper_engine import waited
from processes import wait_until

from szal import FlowDef, StepDef, StepStatus, WorkflowState

DYING = """
    log, durability, kind = sys.argv[2:]

    def act(ctx):
        if ctx.step.name == "other":
            while True:
                [row] = [data for name, _, data in store.ledger.read("e").steps if name == "start"] or [""]
                if '"polls":1' in row:
                    die()
                time.sleep(0.01)
        add(log, f"{ctx.index} {ctx.attempt} {ctx.poll} {ctx.remaining()}")
        if ctx.poll == 3:
            die()
        return {"poll": ctx.poll, "item": ctx.item}

    polling = {"until": "output.poll == 5", "delay": 0.001, "until_timeout": 3600}
    if kind == "items":
        flow = FlowDef("f", steps=[StepDef("start", foreach=["a", "b"], max_parallel=1, **polling)])
    elif kind == "between":
        flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("start", **{**polling, "delay": 1800}), StepDef("other")])
    else:
        flow = FlowDef("f", steps=[StepDef("start", **polling)])
    new_engine(act, durability=durability).run(flow, execution_id="e")
"""


class Polls:
    """A handler that notes its calls: index, attempt, poll, and how many seconds were left."""

    def __init__(self):
        self.calls = []

    def __call__(self, ctx):
        if ctx.step.name == "other":
            return None
        self.calls.append((ctx.index, ctx.attempt, ctx.poll, ctx.remaining()))
        return {"poll": ctx.poll, "item": ctx.item}

    @property
    def numbers(self):
        return [call[:3] for call in self.calls]


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_after_a_crash_it_goes_on_with_the_poll_that_was_cut_short(store_url, new_engine, log, durability):
    killed(DYING, store_url, log.path, durability, "one")
    polls = Polls()
    [result] = new_engine(polls).recover()
    assert result["start"].output == {"poll": 5, "item": None}
    assert polls.numbers == [(None, 1, 3), (None, 1, 4), (None, 1, 5)]
    left_before = [float(line.split()[-1]) for line in log.lines]
    assert max(left for *_, left in polls.calls) < min(left_before)  # the time for all of them has gone on


def test_so_do_the_items_of_a_list(store_url, new_engine, log):
    killed(DYING, store_url, log.path, "flow", "items")
    polls = Polls()
    [result] = new_engine(polls).recover()
    assert result["start"].output == [{"poll": 5, "item": "a"}, {"poll": 5, "item": "b"}]
    assert polls.numbers == [(0, 1, 3), (0, 1, 4), (0, 1, 5), *((1, 1, poll) for poll in range(1, 6))]


def test_what_is_between_two_polls_is_not_called_before_its_time(store_url, new_engine, log):
    killed(DYING, store_url, log.path, "flow", "between")
    polls = Polls()
    engine = new_engine(polls)
    thread = threading.Thread(target=engine.recover)
    thread.start()
    wait_until(lambda: engine.look("e").steps["other"].status is StepStatus.COMPLETED)
    assert polls.calls == []
    engine.cancel("e")
    result = engine.result("e", timeout=20)
    thread.join(20)
    assert result.state is WorkflowState.CANCELLED
    assert result["start"].error == "Cancelled: cancelled between two polls"
    assert result["start"].output == {"poll": 1, "item": None}


def test_a_pause_comes_between_two_polls(new_engine):
    begun, polls = threading.Event(), []

    def handler(ctx):
        polls.append(ctx.poll)
        begun.set()
        return ctx.poll

    flow = FlowDef("f", steps=[StepDef("start", until="output == 1000000", delay=0.001)])
    engine = new_engine(handler)
    execution = engine.start(flow, execution_id="e")
    waited(begun)
    assert engine.pause("e")
    paused = execution.result(20)
    assert paused.state is WorkflowState.PAUSED
    last = polls[-1]
    status = new_engine().look("e")
    seen, [wait] = status.steps["start"], status.waits
    assert (wait.step, wait.signal) == ("start", None)
    assert wait.until is not None
    assert (seen.status, seen.attempts, seen.output) == (StepStatus.PENDING, 1, last)
    polls.clear()
    again = new_engine(handler)
    execution = again.start(flow, execution_id="e")
    wait_until(lambda: polls)
    assert polls[0] == last + 1
    execution.cancel()
    execution.result(20)


def test_whose_time_is_over_when_somebody_goes_on_is_not_called_again(new_engine):
    polls = []

    def handler(ctx):
        polls.append(ctx.poll)
        engine.pause("e")
        return {"poll": ctx.poll}

    flow = FlowDef("f", steps=[StepDef("start", until="output.poll == 9", delay=0.001, until_timeout=2)])
    engine = new_engine(handler)
    paused = engine.run(flow, execution_id="e")
    assert paused.state is WorkflowState.PAUSED
    over = paused.total_duration + 2
    threading.Event().wait(over)
    result = new_engine(handler).resume("e")["start"]
    assert (result.error, result.output) == ("step timeout: start after 2000ms and 1 poll", {"poll": 1})
    assert polls == [1]


def test_when_the_next_item_polls_is_told_of_what_is_paused(new_engine):
    def handler(ctx):
        engine.pause("e")
        return ctx.item

    flow = FlowDef("f", steps=[StepDef("each", foreach=["a", "b"], until="output == 'c'", delay=3600)])
    engine = new_engine(handler)
    assert engine.run(flow, execution_id="e").state is WorkflowState.PAUSED
    [wait] = new_engine().look("e").waits
    assert (wait.step, wait.signal) == ("each", None)
    assert wait.until is not None
