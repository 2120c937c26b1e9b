"""Which statements there are of leases."""

import attrs

from szal.stores.statement import Statement

__all__ = ["LeaseStatements"]


@attrs.frozen(kw_only=True, eq=False)
class LeaseStatements:
    """What is said of who runs an execution, of what its owner is to do with it, and of who may take it over."""

    add: Statement
    lock: Statement | None
    """Holds the lease of an execution until the end of the transaction. None: a write transaction does.

    Leases are locked before records, and several by their executions' ids: so no two transactions wait for each other.
    """
    take_over: Statement
    renew: Statement
    release: Statement
    held: Statement
    """The epochs of executions, which stay as they are until the end of the transaction; a renewal may go on.

    And whether somebody watches each, who is to be told of what is written.
    """
    tell: Statement | None
    """Takes ids: tells whoever watches these, once it is committed, that they have changed. None: as with `announce`.
    """
    epoch: Statement
    """The epoch of one execution, as it is now."""
    leased: Statement
    """Which executions have a lease, held or not."""
    idle: Statement
    """Which of them have one that nobody holds, nor can take until the end of the transaction."""
    progress: Statement
    holder: Statement
    holdings: Statement
    """Takes ids; what a `Holding` has, in the order of its fields."""
    candidates: Statement
    awake: Statement
    cancel: Statement
    pause: Statement
    wake: Statement
    """In how many seconds the first paused execution goes on by itself, or NULL."""
    under_way: Statement
    """Takes which steps have begun, an execution, and the epoch of its lease; nothing, where that is another one."""
    forget: Statement
    """Returns the definitions that they were of."""
