"""What SQLite is asked of executions that have labels. It does not know how long its tables are, so it is told the way.

The table of labels has those with a label in the order of their starts, so the newest come first at no cost. Where
there are several ways, up to a thousand executions are counted in each, and the shortest is taken.
"""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

from collections.abc import Sequence

from szal.stores.filters import Selection
from szal.stores.heads import COLUMNS
from szal.stores.statements import Composed

__all__ = ["Labelled"]

_MANY = 1000
_BY_LABEL = "szal_labels CROSS JOIN szal_executions USING (execution_id, started)"
_HAS_LABEL = """
    EXISTS (
        SELECT 1 FROM szal_labels AS l WHERE l.key = ? AND l.value = ?
        AND l.started = szal_executions.started AND l.execution_id = szal_executions.execution_id
    )
"""
_FEW = f"(SELECT count(*) FROM (SELECT 1 FROM szal_labels WHERE key = ? AND value = ? LIMIT {_MANY}))"
_NEWEST_FIRST = "ORDER BY started DESC, execution_id DESC"
_SORTED = "ORDER BY +started DESC, +execution_id DESC"  # no index of starts is to be gone through for that
_STATE = COLUMNS[0]


class Labelled:
    """Composes statements of what has labels, and passes *tests* with their parameters, `given`: those of columns."""

    def __init__(self, page: str) -> None:
        self._page = page

    def number(self, selection: Selection, tests: Sequence[str], given: Sequence[object]) -> Composed:
        """How many there are."""
        where, parameters = _by_label(selection, tests, given)
        return _text(f"SELECT count(*) FROM {_BY_LABEL} WHERE {where}"), parameters

    def page(self, selection: Selection, tests: Sequence[str], given: Sequence[object]) -> Composed:
        """The newest of them: through those with a label, or those of the flow or the states, if these are fewer."""
        where, parameters = _by_label(selection, tests, given)
        by_label = f"{self._page} {_BY_LABEL} WHERE {where} {_NEWEST_FIRST}"
        if selection.limit is None:
            return _text(by_label), parameters
        if selection.flow_name is None and selection.states is None:
            return _text(f"{by_label} LIMIT ?"), [*parameters, selection.limit]
        fewer, counted = _are_fewer(selection)
        others = " AND ".join([*tests, *[_HAS_LABEL] * len(selection.labels)])
        by_column = f"{self._page} szal_executions WHERE {others} {_SORTED}"
        statement = f"""
            SELECT * FROM ({by_label} LIMIT CASE WHEN {fewer} THEN 0 ELSE ? END)
            UNION ALL SELECT * FROM ({by_column} LIMIT CASE WHEN {fewer} THEN ? ELSE 0 END)
        """
        way = [*counted, selection.limit]
        return _text(statement), [*parameters, *way, *given, *_texts(selection), *way]


def _by_label(selection: Selection, tests: Sequence[str], given: Sequence[object]) -> Composed:
    """The tests of what is found by a label: of several by that which the fewest have."""
    labels = [*selection.labels.items()]
    if len(labels) == 1:
        return " AND ".join(["key = ? AND value = ?", *tests]), [*labels[0], *given]
    ways = " UNION ALL ".join([f"SELECT ? AS key, ? AS value, {_FEW} AS few"] * len(labels))
    rarest = f"(key, value) = (SELECT key, value FROM ({ways}) ORDER BY few LIMIT 1)"
    counted = [text for label in labels for text in (*label, *label)]
    where = " AND ".join([rarest, *tests, *[_HAS_LABEL] * len(labels)])
    return where, [*counted, *given, *_texts(selection)]


def _are_fewer(selection: Selection) -> Composed:
    """Whether those of the flow and the states are fewer than those with the rarest label, where they are few."""
    labels = " UNION ALL ".join([f"SELECT {_FEW} AS few"] * len(selection.labels))
    tests, parameters = [], []
    if selection.flow_name is not None:
        tests.append("flow_name = ?")
        parameters.append(selection.flow_name)
    if selection.states is not None:
        tests.append(f"{_STATE} IN ({', '.join('?' * len(selection.states))})")
        parameters += [state.value for state in selection.states]
    those = f"SELECT 1 FROM szal_executions WHERE {' AND '.join(tests)} LIMIT {_MANY}"
    return f"(SELECT count(*) FROM ({those})) < (SELECT min(few) FROM ({labels}))", [*parameters, *_texts(selection)]


def _texts(selection: Selection) -> list[object]:
    return [text for label in selection.labels.items() for text in label]


def _text(statement: str) -> str:
    return " ".join(statement.split())
