"""Executions in SQL: how they come to be recorded, with their leases, and what goes with them."""

from collections.abc import Sequence
from operator import attrgetter

from szal.stores.database import Row, Rows, Transaction
from szal.stores.statements import Statements
from szal.stores.writes import NewExecution, Release, Save

__all__ = ["epochs_of", "forget", "record"]


def record(transaction: Transaction, said: Statements, new: Sequence[NewExecution], *, is_claim: bool) -> set[str]:
    """Record executions, with their leases; return the ids of those of which there was none, or that replace it.

    And, but of claims, of those that have the same lease: they were recorded by this very write, before.
    """
    begun = {row[0] for row in transaction.rows_for(said.begin, [each.row() for each in new])}
    made = [each for each in new if each.execution_id in begun]
    others = [each for each in new if each.execution_id not in begun]
    if others and not is_claim:
        epochs = epochs_of(transaction.rows_of(said.leases.held, [each.execution_id for each in others]))
        before = [each for each in others if epochs.get(each.execution_id) == each.first_epoch]
        begun |= {each.execution_id for each in before}
        ends = sorted((end for each in before for end in each.ends), key=attrgetter("execution_id"))
        for kind in (Save, Release):
            transaction.many(said.writes[kind], [end.row() for end in ends if type(end) is kind])
    replacing = [each for each in others if each.replace and each.execution_id not in begun]
    if replacing:
        _replace(transaction, said, replacing)
        made += replacing
        begun |= {each.execution_id for each in replacing}
    if made:
        _lease(transaction, said, made)
    return begun


def _replace(transaction: Transaction, said: Statements, new: Sequence[NewExecution]) -> None:
    """Record executions in the place of what there is under their ids."""
    ids = [(each.execution_id,) for each in new]
    if said.leases.lock is not None:
        for row in ids:
            transaction.rows(said.leases.lock, row)
    again = [(each.execution_id,) for each in new if each.begins_again]
    transaction.many(said.forget_delivered, again)
    transaction.many(said.remove, ids)
    forget(transaction, said, ids, keep_signals=again)
    transaction.rows_for(said.begin, [each.row() for each in new])


def _lease(transaction: Transaction, said: Statements, new: Sequence[NewExecution]) -> None:
    """Write the leases, definitions and steps of executions that are recorded."""
    rows = {each.execution_id: each.lease_row() for each in new}
    epochs: dict[str, int] = dict(transaction.rows_for(said.leases.add, [*rows.values()]))
    # There was one of that id, and who removed it knows nothing of these tables, as szal-rs.
    left = [(each.execution_id,) for each in new if epochs[each.execution_id] != each.first_epoch]
    if left:
        forget(transaction, said, left)
        transaction.rows_for(said.leases.add, [rows[execution_id] for (execution_id,) in left])
    for content_id, flow in sorted({each.content_id: each.flow for each in new}.items()):
        while not transaction.rows(said.add_flow, (content_id, flow, content_id)) and said.leases.lock is not None:
            pass  # somebody has deleted it while it was waited for
    steps = [(each.execution_id, *step, None) for each in new for step in each.steps]
    if steps:
        transaction.many(said.save_step, steps)


def epochs_of(held: Rows) -> dict[str, int]:
    """Return the epochs in rows of `leases.held`, by execution."""
    return {row[0]: row[1] for row in held}


def forget(
    transaction: Transaction, said: Statements, rows: Sequence[Row], *, keep_signals: Sequence[Row] = ()
) -> None:
    """Delete what there is of executions beside their records, given as rows of their ids.

    With the last execution of a definition that goes too. Of *keep_signals* the signals stay.
    """
    transaction.many(said.forget_steps, rows)
    transaction.rows_of(said.queue.dequeue, [row[0] for row in rows])
    transaction.many(said.forget_reports, rows)
    transaction.many(said.forget_signals, [row for row in rows if row not in keep_signals])
    flows = sorted({row[0] for row in transaction.rows_of(said.leases.forget, [row[0] for row in rows])})
    if said.hold_flows is not None and flows:
        flows = [row[0] for row in transaction.rows_of(said.hold_flows, flows)]
    transaction.rows_of(said.limits.forget_keys, [row[0] for row in rows])
    transaction.many(said.forget_flows, [(content_id,) for content_id in flows])
