"""Cancellation from another thread: the running step is told, and what has not run is skipped."""

import threading

from szal import CancellationToken, Engine, FlowDef, StepContext, StepDef

started = threading.Event()


def handler(ctx: StepContext) -> str:
    started.set()
    slept = ctx.sleep(60)  # ends early when cancelled
    return "slept well" if slept else "was woken"


token = CancellationToken()


def impatient() -> None:
    started.wait()
    token.cancel()


threading.Thread(target=impatient).start()
with Engine(handler) as engine:
    result = engine.run(FlowDef("night", steps=[StepDef("sleep"), StepDef("breakfast")]), cancel=token)
print(result.state)
for step in result.steps:
    print(step.step_name, step.status, step.output or step.error)
