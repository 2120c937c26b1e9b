"""Retry and rollback: a flaky payment is tried again; when shipping fails for good, what was done is undone."""

from szal import BackoffStrategy, Engine, EngineConfig, FlowDef, GiveUp, Handlers, StepContext, StepDef

handlers = Handlers()
account = {"paid": 0, "reserved": 0}


@handlers.step("reserve")
def reserve(ctx: StepContext) -> dict[str, int]:
    account["reserved"] += ctx.inputs["items"]
    return {"items": ctx.inputs["items"]}


@handlers.rollback("reserve")
def release(ctx: StepContext) -> None:
    account["reserved"] -= ctx.output["items"]


@handlers.step("pay")
def pay(ctx: StepContext) -> dict[str, int | str]:
    if ctx.attempt < 3:
        raise ConnectionError("the bank does not answer")
    account["paid"] += 100
    return {"amount": 100, "key": ctx.idempotency_key}


@handlers.rollback("pay")
def refund(ctx: StepContext) -> None:
    account["paid"] -= ctx.output["amount"]


@handlers.step("ship")
def ship(ctx: StepContext) -> None:
    raise GiveUp("no such address")


flow = FlowDef(
    "order",
    rollback_on_failure=True,
    steps=[
        StepDef("reserve", rollbackable=True),
        StepDef(
            "pay",
            rollbackable=True,
            max_retries=3,
            retry_delay=0.01,
            backoff=BackoffStrategy.EXPONENTIAL,
            retry_on=[ConnectionError],
        ),
        StepDef("ship", max_retries=5),
    ],
)

config = EngineConfig(event_sink=lambda event: print(f"{event.event_type:18} {event.step_name or event.flow_name}"))
with Engine(handlers, config) as engine:
    result = engine.run(flow, {"items": 2})
print(result.state, "-", result.error)
print(account)
