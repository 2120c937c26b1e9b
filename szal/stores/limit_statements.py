"""Which statements there are of what is shared in all engines of a database."""

import attrs

from szal.stores.statement import Statement

__all__ = ["LimitStatements"]


@attrs.frozen(kw_only=True, eq=False)
class LimitStatements:
    """What is said of capacities, of who uses them, and of rates."""

    set_capacity: Statement
    remove_capacity: Statement
    capacities: Statement
    uses: Statement
    """What a `ResourceUse` has, in the order of its fields."""
    lock: Statement | None
    """Holds resources until the end of the transaction, first, and alone. None: a write transaction does."""
    ask: Statement
    """Takes rows of requests, unless they are there, or their lease is held no more."""
    give_back: Statement
    sweep: Statement
    """Deletes, of these resources, what was asked for under leases that nobody holds any more."""
    turn: Statement
    """Takes resources and permits; returns those of these that are granted, or would be."""
    grant: Statement
    """Takes the same; grants these."""
    held: Statement
    """Which of these permits are granted."""
    waiting: Statement
    """What a `WaitingStep` has, in the order of its first fields, for one execution; the last is when it asked."""
    take_turns: Statement
    take_key: Statement
    """Takes keys, each with an execution: returns the one that has it, which is that one where nobody has had it.

    Which that is stays so until the end of the transaction.
    """
    free_key: Statement
    """Gives a key to an execution, if the one that has it has ended, or its lease has run out: returns a row then."""
    key_holder: Statement
    """Which execution has a key, and has not ended."""
    forget_keys: Statement
    """Of executions that are deleted."""
    announce: Statement | None
    """Tells whoever listens, once it is committed, that something was given back. None: they look again and again."""
