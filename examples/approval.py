"""A refund that waits for somebody's approval: for days, in no process at all.

python examples/approval.py ask refund-7 30        paused
python examples/approval.py approve refund-7 ann   somebody says yes, on another day
python examples/approval.py work                   paid 30, approved by ann
"""

import os
import sys

from szal import Engine, EngineConfig, FlowDef, Handlers, StepContext, StepDef, open_store

handlers = Handlers()


@handlers.step("request")
def request(ctx: StepContext) -> int:
    print(f"please approve {ctx.inputs['amount']}")  # a mail, in earnest
    return int(ctx.inputs["amount"])


@handlers.step("pay")
def pay(ctx: StepContext) -> str:
    return f"paid {ctx.outputs['request']}, approved by {ctx.outputs['approved']['by']}"


WEEK = 7 * 86400.0
refund = FlowDef(
    "refund",
    steps=[
        StepDef("request"),
        StepDef("approved", step_type="wait", config={"signal": "approve", "timeout": WEEK}),
        StepDef("pay", idempotent=False),  # never twice: after a crash in it, somebody has to look
    ],
)


def main(*arguments: str) -> None:
    with (
        open_store(os.environ.get("SZAL_STORE", "sqlite:///refunds.db")) as store,
        store.engine_sink() as sink,
        Engine(handlers, EngineConfig(execution_store=sink)) as engine,
    ):
        match arguments:
            case ["ask", name, amount]:
                print(engine.run(refund, {"amount": int(amount)}, execution_id=name).state)
            case ["approve", name, who]:
                engine.signal(name, "approve", {"by": who}, signal_id="approval")  # twice is as good as once
            case ["work"]:  # from cron, or all the time with engine.start_recovery
                for result in engine.recover("refund"):
                    print(result["pay"].output)
            case _:
                sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
