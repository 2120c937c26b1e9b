"""Races of executions that outlive a process: two signals, and a loser that a crash comes before."""

from durable.children import killed
from helper_flows import COMPLETED, SKIPPED, outcomes

from szal import FlowDef, FlowMode, StepDef, TriggerMode, WorkflowState

NOT_BEGUN = (SKIPPED, "another won")


def test_the_first_of_two_signals_ends_the_other_wait(store, new_engine):
    waits = [StepDef(name, step_type="wait", config={"signal": name}) for name in ("yes", "no")]
    flow = FlowDef("ask", FlowMode.DAG, steps=waits)
    flow.add_step(StepDef("go on", depends_on=waits, trigger_mode=TriggerMode.ANY, cancel_losers=True))
    engine = new_engine(lambda ctx: dict(ctx.outputs))
    assert engine.run(flow, execution_id="e").state is WorkflowState.PAUSED
    engine.signal("e", "no", "never")
    result = engine.resume("e")
    assert outcomes(result) == {"yes": NOT_BEGUN, "no": (COMPLETED, None), "go on": (COMPLETED, None)}
    assert (result.success, result["go on"].output) == (True, {"no": "never"})
    assert store.get("e").state is WorkflowState.COMPLETED


CODE = """
    a, b = StepDef("fast"), StepDef("slow")
    flow = FlowDef("race", FlowMode.DAG, steps=[b, a])
    flow.add_step(StepDef("first", depends_on=[a, b], trigger_mode=TriggerMode.ANY, cancel_losers=True))
    flow.add_step(StepDef("last", depends_on=[flow.steps[-1]]))
    started = threading.Event()

    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        if ctx.step.name == "slow":
            started.set()
            threading.Event().wait(30)
        if ctx.step.name == "fast":
            started.wait(30)
        if ctx.step.name == "last":
            die()

    new_engine(handler, durability="step").run(flow, execution_id="e")
"""


def test_what_had_lost_before_a_crash_does_not_run_again(store_url, new_engine, log):
    killed(CODE, store_url, log.path)
    assert (sorted(log.lines[:2]), log.lines[2:]) == (["fast", "slow"], ["first", "last"])
    [result] = new_engine(lambda ctx: log.add(f"again {ctx.step.name}")).recover()
    assert log.lines[4:] == ["again last"]
    assert (outcomes(result)["slow"], result.success) == (NOT_BEGUN, True)
