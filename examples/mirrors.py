"""A DAG with a condition and an any-trigger: ask two mirrors, go on with the one that answers first."""

import threading

from szal import Engine, FlowDef, FlowMode, Handlers, StepContext, StepDef, TriggerMode

handlers = Handlers()
answered = threading.Event()


@handlers.step("mirror-a")
def mirror_a(ctx: StepContext) -> str:
    raise ConnectionError("mirror-a is down")


@handlers.step("mirror-b")
def mirror_b(ctx: StepContext) -> str:
    return "szal-0.1.0.whl"


@handlers.step("mirror-slow")
def mirror_slow(ctx: StepContext) -> str:
    answered.wait(10)  # it would take for ever; nobody waits for it
    return "szal-0.0.9.whl"


@handlers.step("install")
def install(ctx: StepContext) -> str:
    answered.set()
    return f"installed {next(iter(ctx.outputs.values()))}"


@handlers.step("warn")
def warn(ctx: StepContext) -> str:
    return "some mirror needs looking after"


flow = FlowDef("install", FlowMode.DAG)
mirrors = [flow.add_step(StepDef(name)) for name in ("mirror-a", "mirror-b", "mirror-slow")]
flow.add_step(StepDef("install", depends_on=mirrors, trigger_mode=TriggerMode.ANY))
flow.add_step(
    StepDef(
        "warn",
        depends_on=mirrors,
        trigger_mode=TriggerMode.ALL_DONE,
        condition="steps.mirror-a.status == 'failed' || steps.mirror-b.status == 'failed'",
    )
)

with Engine(handlers) as engine:
    result = engine.run(flow)
for step in result.steps:
    print(f"{step.step_name:12} {step.status!s:10} {step.output or step.error}")
