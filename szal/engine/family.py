"""An execution and its sub-flows under way: they pause together, and are left and let go of together.

So what may stop them depends on what the record of each is at that moment. A stop that *ends* them needs all of them to
be under way (`is_whole`): RUNNING or ROLLING_BACK, driven by the scheduler, each sub_flow step with its sub-flow. Else
what is in memory and what is in the store may be two things, and whoever goes on begins with the store.

    record of each               what the store raises  another exception       an interruption that ends
    under way, not stopped       FAILED_BY_STORE        BROKEN                  CANCELLED
    being begun, or resumed      FAILED_BY_STORE        LOST (*)                LOST
    stopped: being wound up      FAILED_BY_STORE        LOST                    the grace ends
    being undone                 FAILED_BY_STORE        LOST                    the undoing goes on
    being paused, or PAUSED      FAILED_BY_STORE        LOST                    LOST
    being concluded, or ended    FAILED_BY_STORE        LOST                    LOST
    being left (also drained)    FAILED_BY_STORE        LOST                    the grace ends

(*) A sub-flow of which no store has anything is forgotten instead, and its step ends with the others: BROKEN.

What the store raises is what comes of asking it (`leased_store`), whatever its class; `LeaseLost` is LEASE_LOST
instead. Where it takes everything but the outcome of one step, that step has failed, and the run ends: REFUSED. A stop
that *leaves* them, whichever, gives back every lease, due at once: the store may have one as PAUSED, and what that
waited for was not written or is over. Only INTERRUPTED and PAUSED leave them PAUSED for a person. Without leases nobody
could go on, so what is LOST there is recorded as FAILED.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from szal.engine.conclusion import copy_of
from szal.engine.lifecycle import Lifecycle
from szal.engine.so_far import as_it_stands, waiting_here
from szal.engine.under_way import with_steps
from szal.model.results import StepResult
from szal.model.state import StepStatus, Stop, WorkflowState
from szal.scheduler.plan import Node
from szal.scheduler.run import Run

if TYPE_CHECKING:
    from szal.engine.status import ExecutionStatus

__all__ = ["family_of", "has", "is_whole", "leave", "look", "pause_if_idle", "record_failure", "release"]


def family_of(lifecycle: Lifecycle) -> list[Lifecycle]:
    """Return an execution and its sub-flows under way, and theirs."""
    found = [lifecycle]
    for member in found:  # grows while it is read
        found += member.children
    return found


def has(lifecycle: Lifecycle, execution_id: str) -> bool:
    """Whether that is one of them, or is just being begun: from when the store has it. From any thread."""
    if any(member.sub_flows.beginning == execution_id for member in family_of(lifecycle)):
        return True
    return any(member.execution_id == execution_id for member in family_of(lifecycle))  # it may have begun meanwhile


def look(lifecycle: Lifecycle, execution_id: str) -> "ExecutionStatus | None":
    """Return how far one of them has come, be that committed or not; None: it is just being begun, or taken up.

    From any thread.
    """
    from szal.engine.status import ExecutionStatus  # few ask

    for member in family_of(lifecycle):
        if member.execution_id == execution_id and member.knows_its_steps:
            run, final = member.run, member.final
            finals = () if final is None else run.plan.finals
            steps = {step.key: step for step in member.steps_under_way()}
            results = [_told(member, final if final and node.place in finals else run, node) for node in run.plan.nodes]
            return ExecutionStatus(
                record=copy_of(member.record),
                flow=member.spec.flow,
                results=[with_steps(result, steps) for result in results],
                queued=waiting_here(run),
                is_running=member.record.state.is_live,
                is_cancelling=run.stop is Stop.CANCELLED and member.record.state.is_live,
            )
    return None


def _told(member: Lifecycle, run: Run, node: Node) -> StepResult:
    found = member.spec.redaction.result(as_it_stands(run, node))
    if member.shared is not None and found.status is StepStatus.RUNNING:
        found.report = member.shared.of(node.step.name)
    return found


def is_whole(lifecycle: Lifecycle) -> bool:
    """Whether all of it is under way, so that it can be ended in order; see above."""
    return all(member.is_driven for member in family_of(lifecycle))


def pause_if_idle(lifecycle: Lifecycle) -> None:
    """Pause, if all that is left is to wait for something from outside. Raises what the store raises."""
    family = family_of(lifecycle)
    for member in family:
        member.waits.check_signals()
    if not lifecycle.scheduler.is_idle():
        return
    beyond = [member for member in family_of(lifecycle) if member.undecided and not member.run.stoppable]
    for member in beyond:  # whoever decides would come too late
        member.end_undecided()
    if not beyond:
        for member in reversed(family_of(lifecycle)):
            member.pause(_open_questions(member), member.waits.wake(), member.waits.awaited())


def _open_questions(lifecycle: Lifecycle) -> str | None:
    """Return which steps have to be decided on; its sub-flows have been paused before."""
    own = ", ".join(node.key for node in lifecycle.undecided)
    found = [f"needs a decision: {own}"] if own else []
    found += [
        f"sub-flow {child.execution_id} {child.record.error}" for child in lifecycle.children if child.record.error
    ]
    return "; ".join(found) or None


def leave(lifecycle: Lifecycle, stop: Stop) -> None:
    """Give all of it up where it stands, for *stop*: paused for a person, or for anybody to go on with.

    Whoever goes on does so at once, even if the store has it PAUSED: it may have what that waited for no more.
    """
    for member in reversed(family_of(lifecycle)):
        if not stop.is_of_a_person:
            member.recording.release(wake=0.0)
        elif member.record.state is WorkflowState.RUNNING and member.final is None:
            member.record.stop = stop
            member.pause(stop.reason, None, ())
        else:
            member.recording.release(None, ())
    if not stop.breaks:
        lifecycle.recording.flush()


def record_failure(lifecycle: Lifecycle, error: str) -> None:
    """Record that all of it is broken, where nobody could go on with it."""
    for member in reversed(family_of(lifecycle)):
        record = member.record
        record.state, record.error = WorkflowState.FAILED, error
        record.finished_at = datetime.fromtimestamp(lifecycle.scheduler.now(), UTC)
        member.recording.fail(record)


def release(lifecycle: Lifecycle) -> None:
    """Let go of all of it."""
    for member in family_of(lifecycle):
        member.release()
