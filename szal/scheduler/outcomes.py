"""How nodes of a plan end, what an edge makes of that, and the marks that it leaves: tables, for speed."""

import enum
from typing import Final

__all__ = ["MARKS", "OPENS", "EdgeKind", "Mark", "Outcome"]


class Outcome(enum.IntEnum):
    """How a node ended, as its successors see it."""

    COMPLETED = 0
    PASSED = 1  # skipped by its own condition or handler: not a failure, blocks nothing
    FAILED = 2
    BLOCKED = 3  # skipped because of a failure before it
    UNMET = 4  # skipped because of a skip before it
    OVERTAKEN = 5  # a wait, or a sub-flow that waits, is skipped as its flow, or what that belongs to, has failed
    CAUGHT = 6  # failed, and what follows runs as if it had completed


class EdgeKind(enum.IntEnum):
    """What the source of an edge is to its target."""

    DEPENDENCY = 0
    EITHER = 1  # a dependency of an ANY step
    PRIOR = 2  # the step before it, in sequential and hierarchical mode
    PARENT = 3
    AFTER = 4  # nothing but order
    FAILING = 5  # a dependency of a ONE_FAILED step
    FIRST = 6  # a dependency of a ONE_DONE step


class Mark:
    """What edges leave at a gate: bits, plain integers for speed."""

    MET: Final = 1  # a dependency has ended as an ANY or a ONE_FAILED step waits for
    SKIPPED: Final = 2
    FAILED: Final = 4
    UNMET: Final = 8
    PRIOR_FAILED: Final = 16
    PARENT_FAILED: Final = 32
    PARENT_PASSED: Final = 64
    PARENT_BLOCKED: Final = 128


_M = Mark
MARKS: Final[tuple[tuple[int, ...], ...]] = (
    # by Outcome: COMPLETED, PASSED, FAILED, BLOCKED, UNMET, OVERTAKEN, CAUGHT
    (0, _M.SKIPPED, _M.FAILED, _M.FAILED, _M.UNMET, _M.FAILED, 0),  # DEPENDENCY
    (_M.MET, _M.SKIPPED, _M.FAILED, _M.FAILED, _M.UNMET, _M.FAILED, _M.MET),  # EITHER
    (0, 0, _M.PRIOR_FAILED, _M.PRIOR_FAILED, _M.PRIOR_FAILED, _M.PRIOR_FAILED, 0),  # PRIOR
    (0, _M.PARENT_PASSED, _M.PARENT_FAILED, _M.PARENT_BLOCKED, _M.PARENT_BLOCKED, _M.PARENT_BLOCKED, 0),  # PARENT
    (0, 0, 0, 0, 0, 0, 0),  # AFTER
    (0, 0, _M.MET, 0, 0, 0, 0),  # FAILING
    (0, 0, 0, 0, 0, 0, 0),  # FIRST
)
"""What an outcome at the source of an edge of each kind leaves at its gate."""

OPENS: Final[tuple[tuple[bool, ...], ...]] = tuple(
    tuple(outcome in early for outcome in Outcome)
    for early in (
        (),  # DEPENDENCY
        (Outcome.COMPLETED, Outcome.CAUGHT),  # EITHER
        (),  # PRIOR
        (),  # PARENT
        (),  # AFTER
        (Outcome.FAILED,),  # FAILING
        tuple(Outcome),  # FIRST
    )
)
"""Whether it opens the gate, by kind and outcome, though other edges are still to come."""
