"""The finally steps of an execution: a run of their own, when its steps and their undoing are over.

It has the results of the first run, and nothing of what stopped that: no token, no deadline, and no stop of its own.
"""

from collections.abc import Callable
from functools import partial

from szal.model.results import FlowEnd
from szal.scheduler.context import StepContext
from szal.scheduler.run import Run
from szal.scheduler.run_info import RunInfo

__all__ = ["final_run"]


def final_run(forward: Run, end: FlowEnd, on_done: Callable[[Run], None]) -> Run:
    """Return the run of the finally steps of *forward*, which is over: as *end* says, which they are told."""
    before = forward.info
    info = RunInfo(
        flow_name=before.flow_name,
        execution_id=before.execution_id,
        inputs=before.inputs,
        plan=forward.plan,
        results=forward.results,
        settled_as=before.settled_as,
        cwd=before.cwd,
        progress=before.progress,
        end=end,
        settled=before.settled,
        orphan_grace=before.orphan_grace,
        is_recorded=before.is_recorded,
        lease=before.lease,
        redaction=before.redaction,
        memos=before.memos,
        log=before.log,
        clock=before.clock,
        kept=before.kept,
    )
    return Run(
        plan=forward.plan,
        handlers=forward.handlers,
        results=forward.results,
        info=info,
        new_context=partial(StepContext, info),
        on_done=on_done,
        watch=forward.watch,
        launch=forward.launch,
        log=forward.log,
        commit_first=forward.commit_first,
        encode=forward.encode,
        inline=forward.inline and not forward.relievable,  # it can be given up on, too
        inline_as=forward.inline_as,
        stoppable=False,
        is_final=True,
    )
