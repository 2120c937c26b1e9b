"""A script for cron that resumes itself: killed, or stopped by Ctrl-C or SIGTERM, the next call goes on where it was.

    */10 1-5 * * *  cd /srv/reports && python cron_report.py

Today's report is made once, however often this is called. A step that has ended is not run again, and one that runs
when SIGTERM comes is let to end.
"""

import signal
import sys
from datetime import date
from pathlib import Path

from szal import Engine, EngineConfig, ExecutionOwned, FlowDef, Handlers, StepContext, StepDef, open_store

handlers = Handlers()


@handlers.step("orders")
@handlers.step("payments")
def read(ctx: StepContext) -> int:
    """Return the sum of a file of amounts."""
    amounts = [int(line) for line in Path(f"{ctx.step.name}.txt").read_text().split()]
    with Path("report.log").open("a") as log:
        log.write(f"read {ctx.step.name}\n")
    return sum(amounts)


@handlers.step("write")
def write(ctx: StepContext) -> int:
    open_amount: int = ctx.outputs["orders"] - ctx.outputs["payments"]
    Path(f"report-{ctx.inputs['day']}.txt").write_text(f"still to be paid: {open_amount}\n")
    return open_amount


report = FlowDef("report", steps=[StepDef("orders"), StepDef("payments"), StepDef("write", max_retries=3)])


def main(day: str) -> int:
    with (
        open_store("sqlite:///reports.db") as store,
        store.engine_sink() as sink,
        Engine(handlers, EngineConfig(execution_store=sink, durability="step")) as engine,
    ):
        signal.signal(signal.SIGTERM, lambda *_: engine.close(drain=20))  # what runs ends, and nothing new starts
        try:
            result = engine.run(report, {"day": day}, execution_id=f"report-{day}")
        except ExecutionOwned:
            return 0  # the call before this one is still at it
    print(result.state, result.error or "")
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main(date.today().isoformat() if len(sys.argv) == 1 else sys.argv[1]))  # noqa: DTZ011 (cron's day is local)
