"""A clock that is set back by an hour, or ahead, in one process, changes nothing: all goes by the database's.

Of such a process `szal.clock.wall` is off. SQLite asks the system, as all processes on a file share one machine; to
have that machine's clock set is not what is tested here.
"""

import pytest
from durable.children import SETUP, Child
from helper_engine import bounded
from processes import wait_until
from stores.samples import python

from szal import ExecutionOwned, ExecutionRecord, FlowDef, StepDef, WorkflowState
from szal.model.definition import content_id
from szal.model.json import decode_checkpoint, encode_flow
from szal.stores.ledger import NewExecution

BACK, AHEAD = -3600, 3600
CLOCK = """
    from szal import clock

    off = 0
    real_wall, real_wall_ns = clock.wall, clock.wall_ns
    clock.wall = lambda: real_wall() + off
    clock.wall_ns = lambda: real_wall_ns() + off * 10**9
"""


class WrongClock(Child):
    """A process whose clock is wrong by so many seconds; it may set `off` anew."""

    def __init__(self, off: int, code: str, *arguments: object) -> None:
        self.process = python(f"{CLOCK}\n    off = {off}\n{SETUP}{code}", *arguments)


RUNNING = """
    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        if ctx.step.name == "b" and len(sys.argv) > 3:
            global off
            off = int(sys.argv[3])
            tell("begun")
            listen()
        return ctx.step.name

    flow = FlowDef("chain", steps=[StepDef("a"), StepDef("b"), StepDef("c")])
"""


def chain():
    return FlowDef("chain", steps=[StepDef("a"), StepDef("b"), StepDef("c")])


def owned_elsewhere(store, execution_id, ttl):
    """Have a process of another machine, of which nothing is known but its lease, own an execution."""
    flow, record = chain(), ExecutionRecord(execution_id, "chain", WorkflowState.RUNNING)
    assert store.ledger.create(
        NewExecution(
            record=record, content_id=content_id(flow), flow=encode_flow(flow), owner="elsewhere/boot/1/2/x", ttl=ttl
        )
    )


def due_of(store, step, execution_id="e"):
    """Return when the wait that is recorded for *step* ends."""
    [due] = [
        decode_checkpoint(data, name).due for name, _, data in store.ledger.read(execution_id).steps if name == step
    ]
    return due


# -- leases -------------------------------------------------------------------------------------------


def test_who_sets_its_clock_while_it_runs_keeps_its_lease(store_url, new_engine, store, log):
    code = f"{RUNNING}    tell(new_engine(handler, lease_ttl=2).run(flow, execution_id='e').state)"
    with WrongClock(0, code, store_url, log.path, BACK) as child:
        assert child.hear() == "begun"
        began = store.ledger.clock()
        wait_until(lambda: store.ledger.clock() > began + 2.5)  # longer than the lease would last by itself
        engine = new_engine(lambda ctx: log.add("taken over"))
        with pytest.raises(ExecutionOwned):
            engine.resume("e")
        assert engine.recover() == []
        child.say()
        assert child.hear() == "completed"
        child.end()
    assert log.lines == ["a", "b", "c"]


def test_who_sets_its_clock_and_is_killed_is_recovered_by_one_whose_clock_is_wrong_too(store_url, log):
    code = f"{RUNNING}    new_engine(handler, durability='step').run(flow, execution_id='e')"
    with WrongClock(0, code, store_url, log.path, AHEAD) as child:
        assert child.hear() == "begun"
    code = f"{RUNNING}    [result] = new_engine(handler).recover(); tell(result.state)"
    with WrongClock(BACK, code, store_url, log.path) as child:
        assert child.hear() == "completed"
        child.end()
    assert log.lines == ["a", "b", "b", "c"]


def test_whether_a_lease_has_expired_does_not_depend_on_who_looks(store_url, store, log):
    owned_elsewhere(store, "held", ttl=1000)
    owned_elsewhere(store, "expired", ttl=0.0)
    code = f"""{RUNNING}
    engine = new_engine(handler)
    try:
        engine.resume("held")
    except ExecutionOwned:
        off = {BACK}
        tell("owned", *[result.execution_id for result in engine.recover()])
    """
    with WrongClock(AHEAD, code, store_url, log.path) as child:
        assert child.hear() == "owned expired"
        child.end()
    assert log.lines == ["a", "b", "c"]


# -- waiting ------------------------------------------------------------------------------------------


def test_a_sleep_begun_by_one_whose_clock_is_behind_ends_when_it_should(store_url, new_engine, store):
    code = """
    flow = FlowDef("nap", steps=[StepDef("nap", step_type="sleep", config={"seconds": 0.5}), StepDef("last")])
    execution = new_engine().start(flow, execution_id="e")
    while not store.ledger.read("e").steps:
        time.sleep(0.002)
    die()
    """
    before = store.ledger.clock()
    with WrongClock(BACK, code, store_url) as child:
        child.process.wait(30)
    due = due_of(store, "nap")
    assert before + 0.5 <= due <= store.ledger.clock() + 0.5
    ended = []
    assert bounded(new_engine(lambda ctx: ended.append(store.ledger.clock())).resume, "e").success
    assert due - 0.001 <= ended[0] < due + 30  # SQLite's clock goes by milliseconds


def test_a_wait_begun_by_one_whose_clock_is_behind_ends_when_it_should(store_url, new_engine, store):
    code = """
    config = {"signal": "approve", "timeout": 1.5, "default": "nobody"}
    flow = FlowDef("ask", steps=[StepDef("ask", step_type="wait", config=config), StepDef("last")])
    tell(new_engine().run(flow, execution_id="e").state)
    """
    before = store.ledger.clock()
    with WrongClock(BACK, code, store_url) as child:
        assert child.hear() == "paused"
        child.end()
    due = due_of(store, "ask")
    assert before + 1.5 <= due <= store.ledger.clock() + 1.5
    [result] = wait_until(new_engine().recover)
    assert store.ledger.clock() >= due
    assert result.outputs["ask"] == "nobody"


def test_whether_a_wait_is_over_does_not_depend_on_who_looks(store_url, new_engine, store):
    for execution_id, timeout in (("long", 1000), ("short", 1.5)):
        config = {"signal": "approve", "timeout": timeout, "default": "nobody"}
        flow = FlowDef("ask", steps=[StepDef("ask", step_type="wait", config=config)])
        assert new_engine().run(flow, execution_id=execution_id).state is WorkflowState.PAUSED
    wait_until(lambda: store.ledger.clock() > due_of(store, "ask", "short"))
    due = due_of(store, "ask", "long")
    code = f"""
    engine = new_engine()
    tell(*[(result.execution_id, result.outputs["ask"]) for result in engine.recover()])
    off = {AHEAD}
    tell(len(engine.recover()), engine.resume("long").state)
    """
    with WrongClock(BACK, code, store_url) as child:
        assert child.hear() == "('short', 'nobody')"
        assert child.hear() == "0 paused"
        child.end()
    assert due_of(store, "ask", "long") == due


def test_signals_are_delivered_in_the_order_sent_whatever_the_clock_of_their_sender(store_url, new_engine):
    engine = new_engine()
    steps = [StepDef(name, step_type="wait", config={"signal": "approve"}) for name in ("one", "two", "three")]
    engine.run(FlowDef("three", steps=steps), execution_id="e")
    engine.signal("e", "approve", 1)
    with WrongClock(BACK, "    tell(new_engine().signal('e', 'approve', 2))", store_url) as child:
        child.end()
    engine.signal("e", "approve", 3)
    assert engine.resume("e").outputs == {"one": 1, "two": 2, "three": 3}
