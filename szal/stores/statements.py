"""The statements of an SQL database: which there are, and how those with filters are composed.

The statements themselves stand in files of each database: `sqlite/statements.py`, `postgres/statements.py`, and those
beside them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import attrs

from szal.model.state import WorkflowState
from szal.stores.filters import Position, Retention, Selection
from szal.stores.lease_statements import LeaseStatements
from szal.stores.limit_statements import LimitStatements
from szal.stores.queue_statements import QueueStatements, ScheduleStatements
from szal.stores.statement import Statement
from szal.stores.writes import Release, Remove, Save, SaveStep

__all__ = ["Composed", "Labelled", "Parts", "Statements"]

Composed: TypeAlias = tuple[str, list[object]]
"""SQL, and its parameters."""


class Labelled(Protocol):
    """How those are found that have labels, and pass other tests, *given* their parameters."""

    def number(self, selection: Selection, tests: Sequence[str], given: Sequence[object]) -> Composed:
        """How many there are."""

    def page(self, selection: Selection, tests: Sequence[str], given: Sequence[object]) -> Composed:
        """The newest of them."""


@attrs.frozen(kw_only=True, eq=False)
class Parts:
    """What statements with filters are composed of. A part takes its parameters as the name of its field says.

    What is tested are columns. They are NULL where nobody has filled them in: such a row is passed over.
    """

    page: str
    """What `szal.stores.filters.summary_of` takes, for each execution, but WHERE and ORDER BY."""
    newest_first: str
    oldest_first: str
    limit: str
    branch: str
    """Around each part of a union."""
    newest_of_all: str
    """The order of a union, whose first column is the id and third the start."""
    ids: str
    count: str
    prunable: str
    """The key of the start, the id and the flow's name, for each execution, but WHERE and ORDER BY."""

    flow_name: str
    state: str
    states: str
    """Takes what `many_states` makes of them."""
    since: str
    until: str
    parent: str
    label: str = ""
    """Takes key and value."""
    labelled: Labelled | None = None
    """Where a label is not a test as any other, `label`: what composes the statements of a selection with labels."""
    before: str
    """Takes a position: the key of the start, the same again, the id."""
    after: str
    ended_before: str
    """What finished before it has begun before it: that is in the index. Takes the bound twice."""
    is_filled: str
    many_states: Any
    """A function from the states' names to the parameters of `states`."""


@attrs.frozen(kw_only=True, eq=False)
class Statements:
    """All that a store says to one database. Times are the database's own, as Unix time."""

    # -- records
    save: Statement
    remove: Statement
    get: Statement
    take: Statement
    """`get`, for a row that is about to be deleted in the same transaction."""
    exists: Statement
    begin: Statement
    position: Statement
    oldest_kept: Statement
    """Takes a number: of each flow with so many executions, its name, and the start and id of the last of the newest.
    """
    ended: Statement
    """Of executions: the id, the state and the end. They stay as they are; what others hold is passed over."""
    live: Statement
    """The ids of executions that have not ended."""
    parents: Statement
    """Of such executions as have a parent: the id, and the parent."""
    # -- steps and definitions
    save_step: Statement
    save_held_step: Statement
    """Takes a step, an execution and an epoch: writes that step in no transaction but its own, if that lease is held.

    Of one step it costs a third less than any other way.
    """
    steps: Statement
    steps_since: Statement
    step: Statement
    """Place and text of one step."""
    undone: Statement
    add_flow: Statement
    """Where `lock` is not None it returns a row, and holds that of the definition, unless somebody has just deleted it.
    """
    flow: Statement
    # -- executions as a whole
    look: Statement
    version: Statement
    """Takes the id of an execution, five times; what a `Version` has."""
    records: Statement
    is_there: Statement
    """Whether a connection of somebody else's leads to these tables."""
    # -- signals
    send: Statement
    signals: Statement
    # -- what steps report
    report: Statement
    """Takes what a `Report` has; nothing, where a later owner's step has reported."""
    unreport: Statement
    """Takes an execution, and a step: forgets what that has reported."""
    reports: Statement
    # -- what is left of executions that are deleted
    forget_steps: Statement
    forget_signals: Statement
    forget_reports: Statement
    forget_delivered: Statement
    """Deletes the signals that steps have taken: of an execution that begins again, before its steps go."""
    hold_flows: Statement | None
    """Holds, of definitions, those that nothing is of, until the end of the transaction. None: as with a lease."""
    forget_flows: Statement
    """Deletes a definition, if nothing is of it."""
    now: Statement
    leases: LeaseStatements
    queue: QueueStatements
    schedules: ScheduleStatements
    limits: LimitStatements
    parts: Parts

    writes: Mapping[type[Any], Statement] = attrs.field(init=False)
    """The batch that carries out each kind of write, with that kind's rows."""

    @writes.default
    def _writes(self) -> Mapping[type[Any], Statement]:
        return {Save: self.save, Remove: self.remove, SaveStep: self.save_step, Release: self.leases.release}

    def whole(self) -> Mapping[str, Statement]:
        """Return those that are not composed, by name: those of a group as "queue.claim"."""
        return dict(_named(self))

    # -- composed --------------------------------------------------------------------------------------

    def ids(self, flow_name: str | None) -> Composed:
        """All ids, or those of one flow, the oldest first."""
        where, parameters = self._where(Selection(flow_name=flow_name), None)
        return self.parts.ids + where + self.parts.oldest_first, parameters

    def number(self, selection: Selection) -> Composed:
        """How many executions pass the filters."""
        if selection.labels and self.parts.labelled is not None:
            return self.parts.labelled.number(selection, *self._tests(selection, _names(selection)))
        where, parameters = self._where(selection, _names(selection))
        return self.parts.count + where, parameters

    def page(self, selection: Selection) -> Composed:
        """What `summary_of` takes, for each execution that passes the filters, the newest first.

        The indexes that begin with a flow or a state have the state before the start. So the newest of each state are
        taken in the order of its index, and only these few are sorted; a flow without a state has all eight, and none.
        Those with one parent are few.
        """
        if selection.labels and self.parts.labelled is not None:
            return self.parts.labelled.page(selection, *self._tests(selection, _names(selection)))
        states = _names(selection)
        if states is None and selection.flow_name is not None and selection.parent is None:
            states = [*(state.value for state in WorkflowState), ""]
        if states is None or len(states) == 1 or selection.limit is None or selection.parent is not None:
            return self._branch(selection, _names(selection))
        branches = [self._branch(selection, [state]) for state in states]
        union = " UNION ALL ".join(self.parts.branch.format(statement) for statement, _ in branches)
        parameters = [value for _, values in branches for value in values]
        return union + self.parts.newest_of_all + self.parts.limit, [*parameters, selection.limit]

    def prunable(self, state: WorkflowState, retention: Retention, done: Position) -> Composed:
        """Key, id and flow of the first executions after *done* that may go, where enough newer ones stay."""
        parts = self.parts
        tests, parameters = [parts.state, parts.after], [state.value, done[0], *done]
        if retention.cutoff is not None:
            tests.append(parts.ended_before)
            parameters += [retention.cutoff, retention.cutoff]
        text = f"{parts.prunable} WHERE {' AND '.join(tests)}{parts.oldest_first}{parts.limit}"
        return text, [*parameters, retention.batch]

    def _branch(self, selection: Selection, states: list[str] | None) -> Composed:
        where, parameters = self._where(selection, states)
        statement = self.parts.page + where + self.parts.newest_first
        if selection.limit is None:
            return statement, parameters
        return statement + self.parts.limit, [*parameters, selection.limit]

    def _where(self, selection: Selection, states: list[str] | None) -> Composed:
        """The WHERE clause, for *states*."""
        tests, parameters = self._tests(selection, states)
        return f" WHERE {' AND '.join(tests)}", parameters

    def _tests(self, selection: Selection, states: list[str] | None) -> tuple[list[str], list[object]]:
        parts = self.parts
        tests: list[str] = []
        parameters: list[object] = []
        if selection.flow_name is not None:
            tests.append(parts.flow_name)
            parameters.append(selection.flow_name)
        if states is not None:
            tests.append(parts.state if len(states) == 1 else parts.states)
            parameters += states if len(states) == 1 else parts.many_states(states)
        for test, bound in ((parts.since, selection.since), (parts.until, selection.until)):
            if bound is not None:
                tests.append(test)
                parameters.append(bound)
        if selection.parent is not None:
            tests.append(parts.parent)
            parameters.append(selection.parent)
        for label in selection.labels.items() if parts.labelled is None else ():
            tests.append(parts.label)
            parameters += label
        if selection.after is not None:
            tests.append(parts.before)
            parameters += [selection.after[0], *selection.after]
        else:
            tests.append(parts.is_filled)
        return tests, parameters


def _named(group: Any, before: str = "") -> Iterator[tuple[str, Statement]]:
    for name, each in attrs.asdict(group, recurse=False).items():
        if isinstance(each, Statement):
            yield before + name, each
        elif isinstance(each, LeaseStatements | QueueStatements | ScheduleStatements | LimitStatements):
            yield from _named(each, f"{name}.")


def _names(selection: Selection) -> list[str] | None:
    return None if selection.states is None else [state.value for state in selection.states]
