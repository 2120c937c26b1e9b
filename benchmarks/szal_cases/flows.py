"""The flows that are run, with and without a store."""

import time

from szal import FlowDef, FlowMode, StepContext, StepDef

__all__ = ["RETRIES", "WORKERS", "chain_of", "doze", "independent", "layers_of"]

WORKERS = 16
SLEEP = 0.010
RETRIES = {"max_retries": 3, "retry_delay": 0.5, "retry_on": (OSError,), "retry_jitter": 0.1}


def doze(_: StepContext) -> None:
    """Do the work of a step of `sleeps`."""
    time.sleep(SLEEP)


def chain_of(size: int, **options: object) -> FlowDef:
    """Return a sequential flow."""
    return FlowDef("chain", steps=[StepDef(f"step {place}", **options) for place in range(size)])  # type: ignore[arg-type]


def independent(size: int) -> FlowDef:
    """Return a flow whose steps may all run at once."""
    return FlowDef("fan-out", FlowMode.PARALLEL, steps=[StepDef(f"step {place}") for place in range(size)])


def items_of(size: int) -> FlowDef:
    """Return a flow of one step that runs over a list."""
    return FlowDef("items", FlowMode.PARALLEL, steps=[StepDef("each", foreach=list(range(size)))])


def layers_of(size: int, dependencies: int) -> FlowDef:
    """Return a DAG of layers of 50 steps."""
    flow = FlowDef("layers", FlowMode.DAG)
    width = max(1, min(50, size // 2))
    above: list[StepDef] = []
    for start in range(0, size, width):
        layer = []
        for place in range(start, min(start + width, size)):
            chosen = [above[(place + more) % len(above)] for more in range(min(dependencies, len(above)))]
            layer.append(flow.add_step(StepDef(f"step {place}", depends_on=chosen)))
        above = layer
    return flow
