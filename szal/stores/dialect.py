"""The statements of a store: those that SQL databases share, composed of the words in which they differ."""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import attrs

from szal.model.state import WorkflowState
from szal.stores.query import Position, Query, Retention

__all__ = ["Dialect"]

Statement: TypeAlias = tuple[str, list[object]]
"""SQL, and its parameters."""


@attrs.frozen(kw_only=True, eq=False)
class Dialect:
    """The words of one database. Statements take their parameters by position, as `mark`.

    The methods return statements with their parameters. The expressions over `data` must be those of the indexes,
    to the letter, and NULL where data is not JSON.
    """

    mark: str
    writes: Mapping[type[Any], str]
    """The statement that carries out each kind of operation, with that kind's `row` as parameters."""
    get: str
    take: str
    """`get`, for a row that is about to be deleted in the same transaction."""
    started: str
    """The key of the start: what `szal.stores.query.position_key` makes of it."""
    finished: str
    """The same of the end, or of the start where there is no end."""
    state: str
    now: str
    """The database's clock, as Unix time."""
    prefix: str
    """What stands before the name of a table: its schema and a dot, or nothing."""
    share: str
    """What makes a SELECT keep others from changing its rows until the end of the transaction."""
    lock: str
    """What makes a SELECT of an execution `e` hold its row until the end of the transaction."""
    head: str
    """A JSON array of the values at `szal.stores.query.HEAD`, as text."""
    label: str
    """Whether the label of the first parameter has the value of the second."""
    table: str = "szal_executions"
    key: str = "execution_id"
    """The id as it is ordered: by code points, as Python does."""
    locked: str = ""
    """What makes a SELECT lock its rows, where a write transaction alone does not keep others from writing."""

    def flows(self) -> Statement:
        """The names of all flows."""
        return f"SELECT DISTINCT flow_name FROM {self.table}", []

    def ids(self, flow_name: str | None) -> Statement:
        """All ids, or those of one flow, the oldest first."""
        where, parameters = self._where(Query(flow_name=flow_name))
        return f"SELECT execution_id FROM {self.table}{where} ORDER BY {self.started}, {self.key}", parameters

    def number(self, query: Query) -> Statement:
        """How many executions pass the filters."""
        where, parameters = self._where(query)
        return f"SELECT count(*) FROM {self.table}{where}", parameters

    def position(self, execution_id: str) -> Statement:
        """The key of one execution's start."""
        return f"SELECT {self.started} FROM {self.table} WHERE execution_id = {self.mark}", [execution_id]

    def heads(self, execution_ids: Collection[str]) -> Statement:
        """The heads of such of these executions as are records."""
        tests = f"execution_id IN ({', '.join([self.mark] * len(execution_ids))}) AND {self.started} IS NOT NULL"
        return f"SELECT execution_id, {self.head} FROM {self.table} WHERE {tests}", [*execution_ids]

    def page(self, query: Query) -> Statement:
        """What `summary_of` takes, for each execution that passes the filters, the newest first.

        The indexes that begin with a flow or a state have the state before the start. So the newest of each state are
        taken in the order of its index, and only these few are sorted; a flow without a state has all eight.
        """
        states = query.states
        if states is None and query.flow_name is not None:
            states = tuple(WorkflowState)
        if states is None or len(states) == 1 or query.limit is None:
            return self._branch(query)
        branches = [self._branch(attrs.evolve(query, states=state)) for state in states]
        union = " UNION ALL ".join(f"SELECT * FROM ({statement}) AS branch" for statement, _ in branches)
        parameters = [value for _, values in branches for value in values]
        return f"{union} ORDER BY 3 DESC, 1 DESC LIMIT {self.mark}", [*parameters, query.limit]

    def prunable(
        self, flow_name: str, state: WorkflowState, retention: Retention, done: Position, end: Position | None
    ) -> Statement:
        """Key and id of the first executions after *done* and before *end* that may go."""
        tests = [f"flow_name = {self.mark}", f"{self.state} = {self.mark}", *self._beyond(">")]
        parameters: list[object] = [flow_name, state.value, done[0], *done]
        if end is not None:
            tests += self._beyond("<")
            parameters += [end[0], *end]
        if retention.cutoff is not None:  # what finished before it has begun before it: that is in the index
            tests += [f"{self.started} < {self.mark}", f"{self.finished} < {self.mark}"]
            parameters += [retention.cutoff, retention.cutoff]
        return (
            f"SELECT {self.started}, execution_id FROM {self.table} WHERE {' AND '.join(tests)}"
            f" ORDER BY {self.started}, {self.key} LIMIT {self.mark}{self.locked}"
        ), [*parameters, retention.batch]

    def _branch(self, query: Query) -> Statement:
        where, parameters = self._where(query, records=True)
        statement = (
            f"SELECT {self.key}, flow_name, {self.started}, {self.head} FROM {self.table}{where}"
            f" ORDER BY {self.started} DESC, {self.key} DESC"
        )
        if query.limit is None:
            return statement, parameters
        return f"{statement} LIMIT {self.mark}", [*parameters, query.limit]

    def _where(self, query: Query, records: bool = False) -> Statement:
        """The WHERE clause; with *records*, it passes over rows without a start: they are no records."""
        tests: list[str] = []
        parameters: list[object] = []
        if query.flow_name is not None:
            tests.append(f"flow_name = {self.mark}")
            parameters.append(query.flow_name)
        if query.states is not None:
            marks = ", ".join([self.mark] * len(query.states))
            tests.append(f"{self.state} IN ({marks or 'NULL'})")  # PostgreSQL has no empty list
            parameters += [state.value for state in query.states]
        for sign, bound in ((">=", query.since), ("<", query.until)):
            if bound is not None:
                tests.append(f"{self.started} {sign} {self.mark}")
                parameters.append(bound)
        for label in query.labels.items():
            tests.append(self.label)
            parameters += label
        if query.after is not None:
            tests += self._beyond("<")
            parameters += [query.after[0], *query.after]
        elif records:
            tests.append(f"{self.started} IS NOT NULL")
        return (f" WHERE {' AND '.join(tests)}" if tests else ""), parameters

    def _beyond(self, sign: str) -> list[str]:
        """The tests for a position before ("<") or after (">") a given one, whose key they take twice.

        As a row value that were one test, but SQLite would not look for it in an index of expressions.
        """
        return [
            f"{self.started} {sign}= {self.mark}",
            f"({self.started} {sign} {self.mark} OR {self.key} {sign} {self.mark})",
        ]
