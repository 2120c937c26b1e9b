"""A flow that fails and rolls back waits for nothing any more: its undoing begins at once."""

import threading

import pytest
from durable.children import killed
from helper_engine import bounded, statuses, waited

from szal import (
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    InMemoryStorage,
    StepDef,
    TriggerMode,
    WorkflowState,
    open_store,
)
from szal.engine.lineage import child_id

LONG = 3600.0
SUB = child_id("e", "sub", 1)
ROLLED_BACK, PAUSED = WorkflowState.ROLLED_BACK, WorkflowState.PAUSED


def nap(name="wait", **options):
    return StepDef(name, step_type="sleep", config={"seconds": LONG}, **options)


def ask(name="wait", signal="approve", **options):
    return StepDef(name, step_type="wait", config={"signal": signal, **options.pop("config", {})}, **options)


WAITS = {
    "for a signal": ask,
    "for a signal, with a time limit": lambda **options: ask(config={"timeout": LONG, "default": 1}, **options),
    "for a time": nap,
}
each_wait = pytest.mark.parametrize("wait", list(WAITS.values()), ids=list(WAITS))


def failing(name):
    def handler(ctx):
        if ctx.step.name == name:
            raise ValueError("no")
        return ctx.step.name

    return handler


class Undone(list):
    """The names of the steps that were undone, in order."""

    def __call__(self, ctx):
        self.append(ctx.step.name)


def failing_flow(wait, **options):
    """Return a flow of which one branch waits, and another fails; something follows the wait."""
    done = StepDef("done", rollbackable=True)
    wait = wait(depends_on=[done])
    bad, after = StepDef("bad", depends_on=[done]), StepDef("after", depends_on=[wait])
    return FlowDef("f", FlowMode.DAG, steps=[done, wait, bad, after], **{"rollback_on_failure": True, **options})


@each_wait
@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_a_failure_skips_every_wait_and_what_is_done_is_undone_at_once(new_engine, store, wait, durability):
    undone = Undone()
    engine = new_engine(failing("bad"), rollback_handler=undone, durability=durability)
    result = bounded(engine.run, failing_flow(wait), execution_id="e")
    assert result.state is ROLLED_BACK
    assert statuses(result) == {"done": "rolled_back", "wait": "skipped", "bad": "failed", "after": "skipped"}
    assert (result["wait"].error, result["after"].error) == ("flow failed", "dependency failed")
    assert result.error == "step 'bad' failed: ValueError: no"
    assert undone == ["done"]
    engine.recover()  # which waits for what is still to be written
    assert store.get("e").state is ROLLED_BACK
    assert store.get("e").result["wait"].error == "flow failed"


def test_so_it_is_without_a_store():
    with Engine(failing("bad"), EngineConfig(rollback_handler=Undone())) as engine:
        result = bounded(engine.run, failing_flow(nap))
    assert (result.state, result["wait"].error) == (ROLLED_BACK, "flow failed")


@each_wait
def test_one_that_begins_after_the_failure_is_skipped_too(new_engine, store, wait):
    has_failed = threading.Event()

    class Told:
        def emit(self, event):
            if event.event_type == "step_failed":
                has_failed.set()

    def handler(ctx):
        if ctx.step.name == "bad":
            raise ValueError("no")
        waited(has_failed)

    slow = StepDef("slow", rollbackable=True)
    flow = FlowDef("f", FlowMode.DAG, steps=[slow, StepDef("bad"), wait(depends_on=[slow])], rollback_on_failure=True)
    engine = new_engine(handler, rollback_handler=Undone(), event_sink=Told().emit)
    result = bounded(engine.run, flow)
    assert statuses(result) == {"slow": "rolled_back", "bad": "failed", "wait": "skipped"}
    assert result["wait"].error == "flow failed"


def test_a_wait_that_its_trigger_or_its_condition_skips_says_so(new_engine, store):
    bad = StepDef("bad")
    always = {"depends_on": [bad], "trigger_mode": TriggerMode.ALL_DONE}
    steps = [bad, ask("blocked", depends_on=[bad]), ask("unmet", condition="inputs.x", **always)]
    result = bounded(new_engine(failing("bad")).run, FlowDef("f", FlowMode.DAG, steps=steps, rollback_on_failure=True))
    assert (result["blocked"].error, result["unmet"].error) == ("dependency failed", "condition not met")


def test_a_wait_that_runs_whatever_was_before_it_is_skipped_and_what_cleans_up_after_it_runs(new_engine, store):
    bad = StepDef("bad")
    wait = ask(depends_on=[bad], trigger_mode=TriggerMode.ALL_DONE)
    clean_up = StepDef("clean up", depends_on=[wait], trigger_mode=TriggerMode.ALL_DONE)
    flow = FlowDef("f", FlowMode.DAG, steps=[bad, wait, clean_up], rollback_on_failure=True)
    result = bounded(new_engine(failing("bad")).run, flow)
    assert statuses(result) == {"bad": "failed", "wait": "skipped", "clean up": "completed"}


def test_one_between_two_attempts_has_failed(new_engine, store):
    wait = ask(config={"timeout": 0}, max_retries=3, retry_delay=LONG)
    retried = threading.Event()

    def note(event):
        if event.event_type == "step_retry":
            retried.set()

    def handler(ctx):
        waited(retried)
        raise ValueError("no")

    engine = new_engine(handler, event_sink=note)
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[wait, StepDef("bad")], rollback_on_failure=True)
    result = bounded(engine.run, flow)
    assert result.state is ROLLED_BACK
    assert result["wait"].error == "step timeout: wait after 0ms"


def test_without_a_rollback_independent_branches_go_on_waiting(new_engine, store):
    engine = new_engine(failing("bad"))
    result = bounded(engine.run, failing_flow(ask, rollback_on_failure=False), execution_id="e")
    assert result.state is PAUSED
    engine.signal("e", "approve", "yes")
    result = bounded(engine.resume, "e")
    assert statuses(result) == {"done": "completed", "wait": "completed", "bad": "failed", "after": "completed"}


def test_a_failure_that_comes_when_it_goes_on_after_a_pause_skips_what_else_it_waits_for(new_engine, store):
    undone = Undone()
    first = ask("first", signal="go")
    flow = FlowDef(
        "f",
        FlowMode.DAG,
        steps=[StepDef("done", rollbackable=True), first, StepDef("bad", depends_on=[first]), ask()],
        rollback_on_failure=True,
    )
    engine = new_engine(failing("bad"), rollback_handler=undone)
    assert bounded(engine.run, flow, execution_id="e").state is PAUSED
    engine.signal("e", "go")
    result = bounded(engine.resume, "e")
    assert (result.state, undone) == (ROLLED_BACK, ["done"])
    assert result["wait"].error == "flow failed"


UNDECIDED = """
    flow = FlowDef("f", FlowMode.PARALLEL, rollback_on_failure=True, steps=[
        StepDef("once", idempotent=False),
        StepDef("wait", step_type="wait", config={"signal": "approve"}),
    ])
    new_engine(lambda ctx: die()).run(flow, execution_id="e")
"""


def test_a_step_that_is_resolved_as_failed_skips_them_too(new_engine, store_url):
    killed(UNDECIDED, store_url)
    engine = new_engine()
    [paused] = engine.recover()
    assert paused.error == "needs a decision: once"
    engine.resolve("e", "once", "failed")
    result = bounded(engine.resume, "e")
    assert (result.state, result["wait"].error) == (ROLLED_BACK, "flow failed")


CRASH = """
    import szal.scheduler.stopping as stopping
    from szal.engine.launching import Launcher

    def handler(ctx):
        if ctx.step.name == "bad":
            raise ValueError("no")

    end = stopping.end_waits
    {at}
    child = FlowDef("child", FlowMode.DAG, steps=[StepDef("inner", rollbackable=True)])
    child.add_step(StepDef("ask", step_type="wait", config={{"signal": "go"}}, depends_on=[child.steps[0]]))
    sub = StepDef("sub", step_type="sub_flow", config={{"flow_name": "child"}})
    what = {{"wait": {{"signal": "approve"}}, "sleep": {{"seconds": 3600}}}}["{kind}"]
    flow = FlowDef("f", FlowMode.DAG, rollback_on_failure=True, steps=[
        StepDef("done", rollbackable=True),
        StepDef("wait", step_type="{kind}", config=what),
        sub,
    ])
    flow.add_step(StepDef("bad", depends_on=[flow.steps[0]]))
    flow.add_step(StepDef("after", depends_on=[sub]))
    storage = InMemoryStorage([child])
    new_engine(handler, durability="{durability}", storage=storage, rollback_handler=print).run(flow, execution_id="e")
"""


MOMENTS = {
    "before any wait has ended": "stopping.end_waits = lambda c, run: die()",
    "after those of the flow": "stopping.end_waits = lambda c, run: (end(c, run), die())",
    "after the sub-flow": "Launcher._ended = lambda *_: die()",
}


@pytest.mark.parametrize("at", MOMENTS.values(), ids=MOMENTS)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize("waits", ["wait", "sleep"])
@pytest.mark.parametrize("durability", ["flow", "step"])
def test_a_run_that_is_killed_then_and_recovered_waits_for_nothing_either(new_engine, store_url, at, waits, durability):
    killed(CRASH.format(at=at, kind=waits, durability=durability), store_url)
    undone = Undone()
    engine = new_engine(failing("bad"), rollback_handler=undone, storage=InMemoryStorage([FlowDef("child")]))
    [result] = bounded(engine.recover)
    assert result.state is ROLLED_BACK
    assert result["wait"].error == "flow failed"
    assert statuses(result) == {
        "done": "rolled_back",
        "wait": "skipped",
        "sub": "skipped",
        "bad": "failed",
        "after": "skipped",
    }
    assert sorted(undone) == (
        ["done"] if "_ended" in at else ["done", "inner"]
    )  # each once, in one process or the other
    with open_store(store_url) as store:
        assert statuses(store.get(SUB).result) == {"inner": "rolled_back", "ask": "skipped"}
    assert bounded(engine.resume, "e").state is ROLLED_BACK


class TestASubFlow:
    """One that waits, of a flow that fails."""

    def run(self, make, *, child=None, rolls_back=True, **options):
        """Run a flow with a sub-flow that waits, which fails once that has begun to; return it and what is undone."""
        inner = StepDef("inner", rollbackable=True)
        wait = ask(depends_on=[inner])
        child = child or FlowDef("child", FlowMode.DAG, steps=[inner, wait, StepDef("behind", depends_on=[wait])])
        begun, undone = threading.Event(), Undone()

        def note(event):
            if event.step_name == "wait" and event.event_type == "step_started":
                begun.set()

        def handler(ctx):
            if ctx.step.name == "bad":
                waited(begun)
                raise ValueError("no")

        sub = StepDef("sub", step_type="sub_flow", config={"flow_name": "child"}, **options)
        flow = FlowDef("f", FlowMode.DAG, steps=[sub, StepDef("bad")], rollback_on_failure=rolls_back)
        flow.add_step(StepDef("after", depends_on=[sub]))
        engine = make(handler, rollback_handler=undone, event_sink=note, storage=InMemoryStorage([child]))
        return engine, bounded(engine.run, flow, execution_id="e"), undone

    def test_waits_for_nothing_any_more_and_is_undone(self, new_engine, store):
        _, result, undone = self.run(new_engine)
        assert (result.state, undone) == (ROLLED_BACK, ["inner"])
        assert statuses(result) == {"sub": "skipped", "bad": "failed", "after": "skipped"}
        assert (result["sub"].error, result.error) == ("flow failed", "step 'bad' failed: ValueError: no")
        assert result["after"].error == "dependency failed"
        child = store.get(SUB).result
        assert statuses(child) == {"inner": "rolled_back", "wait": "skipped", "behind": "skipped"}
        assert (child["wait"].error, child.error) == ("flow failed", "flow failed")

    def test_is_not_tried_again(self, new_engine, store):
        _, result, _ = self.run(new_engine, max_retries=5, retry_delay=0)
        assert result["sub"].attempts == 1

    def test_goes_on_waiting_where_nothing_is_undone(self, new_engine, store):
        engine, result, undone = self.run(new_engine, rolls_back=False)
        assert (result.state, undone) == (PAUSED, [])
        engine.signal(SUB, "approve")
        result = bounded(engine.resume, "e")
        assert statuses(result) == {"sub": "completed", "bad": "failed", "after": "completed"}

    def test_so_does_one_inside_of_it(self, new_engine, store):
        below = FlowDef("below", FlowMode.PARALLEL, steps=[StepDef("inner", rollbackable=True), ask()])
        sub = StepDef("lower", step_type="sub_flow", config={"flow_name": "below"})
        storage = InMemoryStorage([FlowDef("child", steps=[sub]), below])
        begun = threading.Event()

        def handler(ctx):
            if ctx.step.name == "bad":
                waited(begun)
                raise ValueError("no")

        def note(event):
            if event.step_name == "wait" and event.event_type == "step_started":
                begun.set()

        upper = StepDef("sub", step_type="sub_flow", config={"flow_name": "child"})
        flow = FlowDef("f", FlowMode.PARALLEL, steps=[upper, StepDef("bad")], rollback_on_failure=True)
        undone = Undone()
        engine = new_engine(handler, rollback_handler=undone, event_sink=note, storage=storage)
        assert bounded(engine.run, flow).state is ROLLED_BACK
        assert undone == ["inner"]

    def test_whose_own_failure_is_undone_ends_its_own_waits_only(self, new_engine, store):
        child = FlowDef(
            "child", FlowMode.PARALLEL, steps=[StepDef("worse"), ask("inner wait")], rollback_on_failure=True
        )
        sub = StepDef("sub", step_type="sub_flow", config={"flow_name": "child"})
        flow = FlowDef("f", FlowMode.PARALLEL, steps=[sub, ask()])
        engine = new_engine(failing("worse"), storage=InMemoryStorage([child]))
        result = bounded(engine.run, flow, execution_id="e")
        assert result.state is PAUSED
        assert statuses(result) == {"sub": "failed", "wait": "pending"}
        assert store.get(SUB).result["inner wait"].error == "flow failed"

    def test_that_fails_of_a_flow_that_is_undone_ends_the_waits_of_both(self, new_engine, store):
        child = FlowDef("child", FlowMode.PARALLEL, steps=[StepDef("worse"), ask("inner wait")])
        sub = StepDef("sub", step_type="sub_flow", config={"flow_name": "child"})
        flow = FlowDef("f", FlowMode.PARALLEL, steps=[sub, ask()], rollback_on_failure=True)
        result = bounded(new_engine(failing("worse"), storage=InMemoryStorage([child])).run, flow, execution_id="e")
        assert (result.state, result["wait"].error) == (ROLLED_BACK, "flow failed")
        assert store.get(SUB).result["inner wait"].error == "flow failed"

    def test_whose_failure_is_tried_again_is_so(self, new_engine, store):
        """It has failed, and what it belongs to has not."""
        child = FlowDef("child", FlowMode.PARALLEL, steps=[StepDef("worse"), nap()], rollback_on_failure=True)
        sub = StepDef("sub", step_type="sub_flow", config={"flow_name": "child"}, max_retries=1, retry_delay=0)
        engine = new_engine(failing("worse"), storage=InMemoryStorage([child]))
        assert bounded(engine.run, FlowDef("f", steps=[sub]))["sub"].attempts == 2
