"""Which of the executions that pass the filters can be rerun, resumed or cancelled, and why the others are left out."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

import attrs

from szal.engine.lineage import is_child_id
from szal.engine.which import UNFINISHED, Found, Which, shown_state
from szal.model.state import WorkflowState
from szal.stores.filters import ExecutionSummary
from szal.stores.store import Store

__all__ = ["Action", "Chosen", "choose", "id_of_rerun"]

_RERUN: Final = re.compile(r"(.*)-rerun-([1-9][0-9]{0,8})", re.DOTALL)


def id_of_rerun(execution_id: str) -> str:
    """Return the id of the rerun of an execution that is one of many: the same for whoever reruns it.

    So two who rerun the same do not run it twice, and who does so again does not either.

    >>> id_of_rerun("order-42"), id_of_rerun("order-42-rerun-1")
    ('order-42-rerun-1', 'order-42-rerun-2')
    """
    earlier = _RERUN.fullmatch(execution_id)
    first, number = (execution_id, 0) if earlier is None else (earlier[1], int(earlier[2]))
    return f"{first}-rerun-{number + 1}"


class Action(Enum):
    """What is done with many executions. The value is the command, and what it has done."""

    RERUN = ("rerun", "rerun")
    RESUME = ("resume", "resumed")
    CANCEL = ("cancel", "asked to cancel")

    @property
    def verb(self) -> str:
        """The command."""
        return self.value[0]

    @property
    def done(self) -> str:
        """What it has done with an execution."""
        return self.value[1]

    def problem_with(self, which: Which) -> str | None:
        """Say what is wrong with states in which it does nothing; None: it is for all of them."""
        ended = [state for state in which.states if state not in _LIVE]
        wrong = [state for state in which.states if state in _LIVE] if self is Action.RERUN else ended
        if not wrong:
            return None
        said = " and ".join(wrong)
        return {
            Action.RERUN: f"what is {said} has not ended: it goes on with szal resume",
            Action.RESUME: f"what is {said} has ended: it runs again with szal rerun",
            Action.CANCEL: f"what is {said} has ended: there is nothing to cancel",
        }[self]

    @property
    def states(self) -> tuple[str, ...]:
        """The states that it is for where no other are named."""
        return _FAILED if self is Action.RERUN else _LIVE


_LIVE: Final = UNFINISHED.states
_FAILED: Final = (str(WorkflowState.FAILED), str(WorkflowState.ROLLED_BACK))


@attrs.frozen(kw_only=True)
class Chosen:
    """Executions, the oldest first; how many are in each state; and how many were left out, by the reason."""

    execution_ids: tuple[str, ...]
    states: Mapping[str, int]
    left_out: Mapping[str, int]


_SUB_FLOW: Final = "sub-flows, which go with what they belong to"
_RUN_AGAIN: Final = "run again already"
_RUNNING: Final = "being run"
_WAITING: Final = "waiting for a signal, a time or a decision (named with --state paused, they are resumed too)"


def choose(
    store: Store, action: Action, which: Which, limit: int | None, pages: Iterable[Found] | None = None
) -> Chosen:
    """Return what *action* is to be done with: at most *limit* executions, the oldest of what passes the filters.

    Of *pages*, where they are given, instead of all that passes.

    Only ids are kept, so that it is no matter how many there are.
    """
    found: dict[str, ExecutionSummary] = {}
    shown: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    asked = attrs.evolve(which, states=which.states or action.states)
    for found_here, can_go_on in asked.pages(store) if pages is None else pages:
        for summary in found_here:
            reason = _reason(action, which, summary, can_go_on)
            if reason is None:
                name = summary.execution_id
                found[name] = attrs.evolve(summary, labels={}, error=None)
                shown[name] = shown_state(summary.state, is_interrupted=name in can_go_on)
            else:
                left_out[reason] += 1
    if action is Action.RERUN:
        for execution_id in [each for each in found if _is_run_again(store, each)]:
            del found[execution_id]
            left_out[_RUN_AGAIN] += 1
    chosen = [*reversed(found.values())][:limit]
    states = Counter(shown[summary.execution_id] for summary in chosen)
    return Chosen(
        execution_ids=tuple(summary.execution_id for summary in chosen),
        states=states,
        left_out=left_out,
    )


def _reason(action: Action, which: Which, summary: ExecutionSummary, can_go_on: frozenset[str]) -> str | None:
    """Return why an execution is left out; None: it is not."""
    if summary.parent_execution_id is not None and is_child_id(summary.execution_id):
        return _SUB_FLOW
    if action is not Action.RESUME or summary.execution_id in can_go_on:
        return None
    if summary.state is not WorkflowState.PAUSED:
        return _RUNNING
    return None if str(WorkflowState.PAUSED) in which.states else _WAITING


def _is_run_again(store: Store, execution_id: str) -> bool:
    return any(not is_child_id(each.execution_id) for each in store.find(parent=execution_id))
