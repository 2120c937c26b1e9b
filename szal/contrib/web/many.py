"""What is done with many executions: with those that are selected, or all that pass the filters."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from szal.contrib.web.asked import Asked
from szal.contrib.web.listing import LATEST
from szal.engine.chosen import Action, Chosen, choose, id_of_rerun
from szal.engine.engine import Engine
from szal.engine.side_by_side import each_on_a_thread
from szal.engine.status import interrupted_among
from szal.engine.which import Found
from szal.errors import DecodeError, ExecutionNotFound, SzalError, describe
from szal.logs import SafeLogger
from szal.model.results import ExecutionRecord
from szal.stores.filters import ExecutionSummary
from szal.stores.store import Store

__all__ = ["MOST", "Done", "act_on_many", "chosen_of"]

logger = SafeLogger(logging.getLogger(__name__))

MOST: Final = 1000
"""So many at a time: the oldest."""


def chosen_of(store: Store, action: Action, asked: Asked, ids: Sequence[str]) -> Chosen:
    """Return what *action* can be done with: of *ids*, or, without any, of all that pass the filters."""
    if ids:
        states = tuple(dict.fromkeys((*action.states, "paused")))  # who selects one that waits means it
        which = attrs.evolve(asked.which, flow=None, states=states, labels={}, since=None, until=None)
        return _only(choose(store, action, which, MOST, [_selected(store, action, ids)]), ids)
    if asked.error:
        return choose(store, action, asked.which, MOST, _with_error(store, asked))
    return choose(store, action, asked.which, MOST)


def _selected(store: Store, action: Action, ids: Sequence[str]) -> Found:
    found = []
    for execution_id in dict.fromkeys(ids):
        try:
            record = store.get(execution_id)
        except DecodeError:  # nothing can be done with it
            continue
        if record is not None and record.state.is_live is not (action is Action.RERUN):
            found.append(_summary(record))
    found.sort(key=lambda each: (each.position, each.execution_id), reverse=True)
    return found, interrupted_among(store, found)


def _only(chosen: Chosen, ids: Sequence[str]) -> Chosen:
    """Count as left out what was selected and has gone, or is in a state in which nothing can be done with it."""
    missing = len({*ids}) - len(chosen.execution_ids) - sum(chosen.left_out.values())
    left_out = {**chosen.left_out, **({"in another state": missing} if missing else {})}
    return attrs.evolve(chosen, left_out=left_out)


def _summary(record: ExecutionRecord) -> ExecutionSummary:
    return ExecutionSummary(
        execution_id=record.execution_id,
        flow_name=record.flow_name,
        state=record.state,
        started_at=record.started_at,
        finished_at=record.finished_at,
        parent_execution_id=record.parent_execution_id,
        error=record.error,
    )


def _with_error(store: Store, asked: Asked) -> Iterator[Found]:
    found, interrupted = asked.which.newest(store, LATEST)
    yield [each for each in found if asked.admits_error(each)], interrupted


@attrs.frozen(kw_only=True)
class Done:
    """What has become of many: how many were told, are being taken up, or could not be; and why."""

    count: int
    is_under_way: bool
    problems: Mapping[str, int]


def act_on_many(engine: Engine, action: Action, chosen: Chosen) -> Done:
    """Do it: cancel at once; resume and rerun on threads of this process, `EngineConfig.max_recovering` at a time."""
    if action is Action.CANCEL:
        return _each(chosen.execution_ids, engine.cancel, lambda _: None)
    if action is Action.RESUME:
        ready: list[str] = []
        done = _each(chosen.execution_ids, _checked(engine), ready.append)
        _take_up(engine, ready, engine.resume)
        return attrs.evolve(done, is_under_way=True)
    _take_up(engine, chosen.execution_ids, lambda each: engine.rerun(each, new_id=id_of_rerun(each)))
    return Done(count=len(chosen.execution_ids), is_under_way=True, problems={})


def _checked(engine: Engine) -> Callable[[str], bool]:
    def check(execution_id: str) -> bool:
        engine.check(execution_id)
        return True

    return check


def _each(ids: Sequence[str], do: Callable[[str], bool], on_done: Callable[[str], object]) -> Done:
    problems: Counter[str] = Counter()
    count = 0
    for execution_id in ids:
        try:
            if do(execution_id):
                count += 1
                on_done(execution_id)
            else:
                problems["it has ended meanwhile"] += 1
        except ExecutionNotFound:
            problems["it was deleted meanwhile"] += 1
        except SzalError as error:
            problems[str(error).replace(execution_id, "…")] += 1
    return Done(count=count, is_under_way=False, problems=problems)


def _take_up(engine: Engine, ids: Sequence[str], run: Callable[[str], object]) -> None:
    """Have threads run these executions. What one raises is logged, and the others go on."""

    def work(execution_id: str, _is_wanted: Callable[[], bool]) -> None:
        try:
            run(execution_id)
        except Exception as error:  # noqa: BLE001 - of whatever code a flow's is
            logger.error("execution %s, one of many that the dashboard took up: %s", execution_id, describe(error))

    def all_of_them() -> None:
        each_on_a_thread(
            ids,
            work,
            room=lambda: engine.config.max_recovering,
            on_end=lambda *_: None,
            stop=lambda *_: None,
        )

    if ids:
        threading.Thread(target=all_of_them, name="szal-web-many", daemon=True).start()
