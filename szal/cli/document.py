"""Executions as JSON, for programs: what the record holds, and what only the store knows."""

import json
from collections.abc import Sequence

from szal.engine.status import Wait
from szal.expressions.path import Json
from szal.model.json import encode_record
from szal.model.results import ExecutionRecord
from szal.stores import ExecutionSummary
from szal.stores.limits import WaitingStep
from szal.stores.queue import InQueue

__all__ = ["record_json", "summaries_json"]


def record_json(
    record: ExecutionRecord,
    waits: Sequence[Wait] = (),
    *,
    is_interrupted: bool = False,
    differences: Sequence[str] = (),
    queued: Sequence[WaitingStep] = (),
    queued_behind: str | None = None,
    in_queue: InQueue | None = None,
) -> str:
    """Return the record; of one that could go on also ``interrupted`` and ``waits``, where there is something to say.

    A wait without a signal and a time is for a decision. *differences* are from what it is a rerun of; *queued* are
    steps that wait for what they share, *queued_behind* is what has its concurrency key, *in_queue* is where it stands
    that has not begun.
    """
    text = encode_record(record)
    more: dict[str, Json] = {}
    if is_interrupted:
        more["interrupted"] = True
    if waits:
        more["waits"] = [_wait_json(wait) for wait in waits]
    if queued_behind is not None:
        more["queued_behind"] = queued_behind
    if in_queue is not None:
        more["in_queue"] = in_queue.as_json()
    if queued:
        more["queued"] = [each.as_json() for each in queued]
    if differences:
        more["differences"] = list(differences)
    return text if not more else json.dumps({**json.loads(text), **more}, ensure_ascii=False, separators=(",", ":"))


def _wait_json(wait: Wait) -> dict[str, Json]:
    return {
        "execution_id": wait.execution_id,
        "step": wait.step,
        "signal": wait.signal,
        "until": wait.until and wait.until.isoformat(),
    }


def summaries_json(found: Sequence[ExecutionSummary], interrupted: frozenset[str]) -> str:
    """Return an array of summaries, with the keys and values of records, and whether each is *interrupted*."""
    return json.dumps([_summary_json(summary, summary.execution_id in interrupted) for summary in found], indent=2)


def _summary_json(summary: ExecutionSummary, is_interrupted: bool) -> dict[str, Json]:
    return {
        "execution_id": summary.execution_id,
        "flow_name": summary.flow_name,
        "state": summary.state and summary.state.value,
        "started_at": summary.started_at and summary.started_at.isoformat(),
        "finished_at": summary.finished_at and summary.finished_at.isoformat(),
        "parent_execution_id": summary.parent_execution_id,
        "labels": dict(summary.labels),
        "error": summary.error,
        "interrupted": is_interrupted,
    }
