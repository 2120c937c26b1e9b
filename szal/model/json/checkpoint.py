"""What is kept of one step while its execution is under way, as JSON text and back."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import attrs

from szal.expressions.path import Json
from szal.model.json.reading import ObjectReader
from szal.model.json.step_result import outcome_json, plain_outcome, read_outcome
from szal.model.json.text import dumps, loads_own
from szal.model.json.writing import message_json, name_json, time_json
from szal.model.results import StepResult

__all__ = ["MOST_ATTEMPTS", "AttemptEnd", "Checkpoint", "decode_checkpoint", "encode_checkpoint"]

MOST_ATTEMPTS: Final = 20
"""Of so many attempts of a step it is kept how they ended: of the last ones."""


_PLAIN: Final = {"status", "output", "duration_ms", "attempts", "error", "error_type", "started_at", "outcome", "item"}
"""The keys of most checkpoints: what they tell of is all that happened."""


_WHOLE: Final = (int, type(None))
_TEXT: Final = (str, type(None))


@attrs.frozen
class AttemptEnd:
    """When one attempt of a step, or one to undo it, began and ended, and what it failed with; None: it completed."""

    started_at: datetime
    ended_at: datetime
    error: str | None = None


@attrs.define
class Checkpoint:
    """What is kept of one step while its execution is under way.

    `outcome` is the plan's, None for a step that has only begun; `due` when what it waits for comes (Unix time);
    `undo_error` why undoing it failed. `age` says how many reruns ago it ended; 0: in this execution. `sub_flow` is the
    execution that it stands for, where that belongs to an earlier one; `origin` the earlier one that did it. `is_lent`:
    that one alone undoes it.
    `items` is how many there are of a step that ran once for each element of a list: each has a row of its own, and its
    output is theirs. `item` is a digest of the element, in the row of an item.
    `polls`: how many calls of a step that polls have come to something else than what it polls for; `until_by` when the
    time for all of them is over (Unix time).
    `is_undecided`: its handler does not know whether it was done.
    `attempts` tells of the last attempts, where there was more than one; `traceback` is that of the last failure.
    `undos` tells of the last attempts to undo it, of a single one too: its result says nothing of that.
    """

    result: StepResult
    outcome: int | None = None
    due: float | None = None
    undo_error: str | None = None
    age: int = 0
    sub_flow: str | None = None
    origin: str | None = None
    attempts: Sequence[AttemptEnd] = ()
    traceback: str | None = None
    is_lent: bool = False
    items: int | None = None
    item: str | None = None
    is_undecided: bool = False
    polls: int = 0
    until_by: float | None = None
    undos: Sequence[AttemptEnd] = ()


def encode_checkpoint(
    result: StepResult,
    outcome: int | None = None,
    *,
    due: float | None = None,
    undo_error: str | None = None,
    age: int = 0,
    sub_flow: str | None = None,
    origin: str | None = None,
    attempts: Sequence[AttemptEnd] = (),
    traceback: str | None = None,
    lent: bool = False,
    item: str | None = None,
    item_count: int | None = None,
    undecided: bool = False,
    polls: int = 0,
    until_by: float | None = None,
    undos: Sequence[AttemptEnd] = (),
) -> str:
    """Return a `Checkpoint` as JSON text, and keep that of its result: it is written again with the whole record.

    Neither the step's name nor its id are in it: the one is in the row, the other in the definition. Nor are the
    outputs of items, which have rows of their own.
    """
    text = _how_it_ended(result)
    if outcome is not None:
        text += f',"outcome":{outcome}'
    if item is not None:
        text += f',"item":"{item}"'
    if item_count is not None or result.items is not None:
        text += f',"item_count":{item_count if result.items is None else len(result.items)}'
    if due is not None:
        text += _waiting_json(due, polls, until_by)
    if undo_error is not None:
        text += f',"undo_error":{message_json(undo_error, "undo_error")}'
    if age:
        text += f',"age":{age}'
    if sub_flow is not None:
        text += f',"sub_flow":{name_json(sub_flow, "sub_flow")}'
    if origin is not None:
        text += f',"origin":{name_json(origin, "origin")}'
    if attempts:
        text += _attempts_json("attempts_made", attempts)
    if undos:
        text += _attempts_json("undos_made", undos)
    if traceback is not None:
        text += f',"traceback":{message_json(traceback, "traceback")}'
    text += ',"lent":true' * lent + ',"undecided":true' * undecided
    return f"{{{text}}}"


def _how_it_ended(result: StepResult) -> str:
    if result.items is None:
        result.encoded = outcome_json(result)
        return result.encoded
    return outcome_json(attrs.evolve(result, output=None, items=None))


def _waiting_json(due: float, polls: int, until_by: float | None) -> str:
    text = f',"due":{dumps(due)}' + f',"polls":{polls}' * bool(polls)
    return text if until_by is None else f'{text},"until_by":{dumps(until_by)}'


def _attempts_json(key: str, attempts: Sequence[AttemptEnd]) -> str:
    return f',"{key}":[{",".join(map(_attempt_json, attempts[-MOST_ATTEMPTS:]))}]'


def _attempt_json(attempt: AttemptEnd) -> str:
    text = f'{{"started_at":"{time_json(attempt.started_at, "started_at")}"'
    text += f',"ended_at":"{time_json(attempt.ended_at, "ended_at")}"'
    if attempt.error is not None:
        text += f',"error":{message_json(attempt.error, "error")}'
    return text + "}"


def decode_checkpoint(text: str, step_name: str, step_id: str = "") -> Checkpoint:
    """Return the checkpoint in *text*, of that step; raise `DecodeError` naming the path of what is wrong."""
    values = loads_own(text)
    if type(values) is dict and values.keys() <= _PLAIN:
        result, outcome, item = plain_outcome(values, step_id, step_name), values.get("outcome"), values.get("item")
        if result is not None and type(outcome) in _WHOLE and type(item) in _TEXT:
            rest = f',"outcome":{outcome}}}' if item is None else f',"outcome":{outcome},"item":"{item}"}}'
            if text.endswith(rest):
                result.encoded = text[1 : -len(rest)]  # as it was written, for the record that it is written with again
            return Checkpoint(result, outcome, item=item)
    read = ObjectReader(values, "")
    due, until_by = read.values.get("due"), read.values.get("until_by")
    return Checkpoint(
        read_outcome(read, step_id, step_name),
        read.maybe("outcome", int),
        float(due) if isinstance(due, int | float) else None,
        read.maybe("undo_error", str),
        read.count("age", 0),
        read.maybe("sub_flow", str),
        read.maybe("origin", str),
        read.many("attempts_made", _read_attempt) if "attempts_made" in read.values else (),
        read.maybe("traceback", str),
        read.get("lent", bool, False),
        None if read.values.get("item_count") is None else read.count("item_count"),
        read.maybe("item", str),
        read.get("undecided", bool, False),
        read.count("polls", 0),
        float(until_by) if isinstance(until_by, int | float) else None,
        read.many("undos_made", _read_attempt) if "undos_made" in read.values else (),
    )


def _read_attempt(value: Json, path: str) -> AttemptEnd:
    read = ObjectReader(value, path)
    return AttemptEnd(read.time("started_at"), read.time("ended_at"), read.maybe("error", str))
