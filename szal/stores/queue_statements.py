"""Which statements there are of the queue, and of schedules."""

import attrs

from szal.stores.statement import Statement

__all__ = ["QueueStatements", "ScheduleStatements"]


@attrs.frozen(kw_only=True, eq=False)
class QueueStatements:
    """What is said of what was submitted."""

    enqueue: Statement
    announce: Statement | None
    """Tells whoever listens, once it is committed, that something was queued. None: they find out otherwise."""
    due: Statement
    """In how many seconds the next one of these queues may be taken: a negative number, or NULL.

    And whether there is anything to sweep, or to ripen.
    """
    sweep: Statement
    """Takes from these queues what has begun, and is reserved no more."""
    ripen: Statement
    """Lets what was not to be taken before some time be taken, where that has come. Others' rows are passed over."""
    claim: Statement
    """Takes queues, what not to take, twice how many, and seconds; what others take is passed over."""
    dequeue: Statement
    unclaim: Statement
    places: Statement
    """What an `InQueue` has, behind the execution, in the order of its fields."""


@attrs.frozen(kw_only=True, eq=False)
class ScheduleStatements:
    """What is said of schedules."""

    put: Statement
    """Does nothing where there is one of that name that says the same."""
    remove: Statement
    all: Statement
    advance: Statement
    """Returns a row where it is still as it was."""
