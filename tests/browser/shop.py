"""The flows of the tests in a browser, run by them or by the server."""

import time
from pathlib import Path

import attrs

import szal

order = szal.Flow("order")


@order.step
def check(number: int) -> dict[str, int]:
    """Give something to look at."""
    return {"number": number}


order.add_step(szal.StepDef("approved", step_type="wait", config={"signal": "answer"}), needs=check)


@order.step
def pay(check: dict[str, int], approved: dict[str, object]) -> str:
    """Fail, where nobody is named."""
    return f"paid for {check['number']}, approved by {approved['by']}"


transfer = szal.Flow("transfer")


@transfer.step(idempotent=False)
def move(ctx: szal.StepContext) -> None:
    """Leave it open whether anything was moved."""
    raise szal.UnknownOutcome("the bank has hung up")


slow = szal.Flow("slow")


@slow.step
def first(gate: str) -> str:
    """Wait until somebody opens the gate."""
    while not Path(gate).exists():
        time.sleep(0.01)
    return "through"


@slow.step
def second(first: str) -> str:
    """Come after that."""
    return f"{first} and done"


FLOWS = (order, transfer, slow)


@attrs.frozen
class Gate:
    """A file that a step waits for."""

    path: Path

    def open(self) -> None:
        """Let the step go on."""
        self.path.touch()

    @classmethod
    def opened(cls, folder: Path) -> Path:
        """Return one that is open."""
        gate = cls(folder / "open")
        gate.open()
        return gate.path
