"""An execution and its sub-flows under way: they pause together, and are left and let go of together."""

from datetime import UTC, datetime

from szal.engine.lifecycle import Lifecycle
from szal.model.state import Stop, WorkflowState

__all__ = ["family_of", "leave", "pause_if_idle", "record_failure", "release"]


def family_of(lifecycle: Lifecycle) -> list[Lifecycle]:
    """Return an execution and its sub-flows under way, and theirs."""
    found = [lifecycle]
    for member in found:  # grows while it is read
        found += member.children
    return found


def pause_if_idle(lifecycle: Lifecycle) -> None:
    """Pause, if all that is left is to wait for something from outside. Raises what the store raises."""
    family = family_of(lifecycle)
    for member in family:
        member.waits.check_signals()
    if lifecycle.scheduler.is_idle():
        for member in reversed(family_of(lifecycle)):
            member.pause(_open_questions(member), member.waits.wake(), member.waits.awaited())


def _open_questions(lifecycle: Lifecycle) -> str | None:
    """Return which steps have to be decided on; its sub-flows have been paused before."""
    own = ", ".join(node.step.name for node in lifecycle.undecided)
    found = [f"needs a decision: {own}"] if own else []
    found += [
        f"sub-flow {child.execution_id} {child.record.error}" for child in lifecycle.children if child.record.error
    ]
    return "; ".join(found) or None


def leave(lifecycle: Lifecycle, stop: Stop) -> None:
    """Give all of it up where it stands, for *stop*: paused for a person, or for anybody to go on with."""
    for member in reversed(family_of(lifecycle)):
        if stop is Stop.INTERRUPTED and member.record.state is WorkflowState.RUNNING:
            member.record.stop = stop
            member.pause(stop.reason, None, ())
        else:
            member.recording.release()
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
