"""Why executions that have not ended do not go on: who runs them, what they wait for, or what keeps them."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Final

import attrs

from szal.cli.advice import Advice
from szal.cli.text import elapsed, one_line
from szal.engine.config import EngineConfig
from szal.engine.engine import Engine
from szal.engine.inspection import holdings, nobody_runs, places_of, store_time
from szal.engine.lineage import is_child_id
from szal.engine.owners import is_alive, is_gone, process_of
from szal.engine.status import is_left_by_a_person
from szal.engine.view import status_of
from szal.engine.which import UNFINISHED
from szal.errors import DecodeError, ExecutionNotFound, HandlerNotFound, SzalError
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores import ExecutionSummary, Store
from szal.stores.ledger import Holding
from szal.stores.queue import InQueue

__all__ = ["Group", "Lives", "Reason", "unfinished"]

_CLOSELY: Final = 500  # of each kind: how many are read as a whole, which takes a millisecond each
_SOME: Final = 20


class Reason(Enum):
    """Why an execution stands where it stands; and whether somebody has to do something about that."""

    RUNS = ("running", False)
    LATE = ("whose process lives, and does not renew the lease", True)
    LEFT = ("that could go on at once, and nobody takes up", True)
    NEEDS_HANDLERS = ("that nobody takes up; what does their steps is in a program", True)
    CANNOT = ("that cannot go on", True)
    DIED = ("whose process died again and again: whoever takes one up next fails it", True)
    DECISION = ("waiting for a decision", True)
    PERSON = ("interrupted by a person, who has to go on with it", False)
    SIGNAL = ("waiting for a signal", False)
    TIME = ("waiting for their time", False)
    QUEUED = ("submitted, that no worker has begun yet", False)
    WAITING = ("waiting, and not looked at closely", False)
    UNREADABLE = ("that cannot be read", True)
    FOREIGN = ("that szal's engine did not run", False)

    @property
    def said(self) -> str:
        """The reason, after a number."""
        return self.value[0]

    @property
    def is_wrong(self) -> bool:
        """Whether somebody has to do something."""
        return self.value[1]


@attrs.define(kw_only=True)
class Group:
    """Those of one reason: how many, some of their ids, what more is known, and what to do."""

    reason: Reason
    count: int = 0
    execution_ids: list[str] = attrs.field(factory=list)
    details: Counter[str] = attrs.field(factory=Counter)
    do: str | None = None

    def add(self, execution_id: str, detail: str, do: str | None) -> None:
        """Count one more."""
        self.count += 1
        self.do = self.do or do
        if len(self.execution_ids) < _SOME:
            self.execution_ids.append(execution_id)
        if detail and (detail in self.details or len(self.details) < _SOME):
            self.details[detail] += 1


@attrs.frozen(kw_only=True)
class Lives:
    """What there is to say of the leases that are held: how many, and when the first of them runs out."""

    held: int
    first_ends: float | None


def unfinished(
    store: Store, engine_of: Callable[[str], Engine], advice_on: Callable[[str], Advice]
) -> tuple[list[Group], Lives]:
    """Return the executions that have not ended, by the reason; one that goes with what it belongs to is not counted.

    *engine_of* returns what would go on with those of a flow, *advice_on* what is typed for them. It only reads, and
    keeps no more than some ids.
    """
    looking = _Looking(store, engine_of, advice_on)
    for page, _ in UNFINISHED.pages(store):
        looking.look_at(page)
    groups = [looking.groups[reason] for reason in Reason if reason in looking.groups]
    return groups, Lives(held=looking.held, first_ends=looking.first_ends)


class _Looking:
    def __init__(self, store: Store, engine_of: Callable[[str], Engine], advice_on: Callable[[str], Advice]) -> None:
        self.groups: dict[Reason, Group] = {}
        self.held = 0
        self.first_ends: float | None = None
        self._store = store
        self._engine_of = engine_of
        self._advice_on = advice_on
        self._free = nobody_runs(store)
        self._read = 0

    def look_at(self, page: Sequence[ExecutionSummary]) -> None:
        """Count each, by its reason."""
        now = store_time(self._store)
        ids = [summary.execution_id for summary in page]
        held, places = holdings(self._store, ids), places_of(self._store, ids)
        for summary in page:
            if summary.parent_execution_id is not None and is_child_id(summary.execution_id):
                continue
            holding, place = held.get(summary.execution_id), places.get(summary.execution_id)
            for reason, detail, do in self._reasons(summary, holding, place, now):
                group = self.groups.setdefault(reason, Group(reason=reason))
                group.add(summary.execution_id, one_line(detail), do)

    def _reasons(
        self, summary: ExecutionSummary, holding: Holding | None, place: InQueue | None, now: float
    ) -> Iterator[tuple[Reason, str, str | None]]:
        """Yield one reason, what more there is to say of it, and what to do."""
        name = summary.execution_id
        if holding is None:
            yield Reason.FOREIGN, "", None
            return
        left = now - holding.expires
        if holding.owner is not None and left < 0 and not is_gone(holding.owner):
            self.held += 1
            self.first_ends = min(-left, self.first_ends or -left)
            yield Reason.RUNS, process_of(holding.owner), None
        elif summary.state is not WorkflowState.PAUSED and holding.owner is not None and is_alive(holding.owner):
            command = "look at its log (cannot renew the leases), and at what it does: py-spy dump --pid PID"
            yield Reason.LATE, f"{process_of(holding.owner)}, for {elapsed(left)}", command
        elif place is not None and summary.state is WorkflowState.CREATED and self._read >= _CLOSELY:
            yield self._queued(summary.flow_name, place, now)
        elif self._read >= _CLOSELY:
            is_due = summary.state is not WorkflowState.PAUSED or name in self._free
            yield (Reason.LEFT if is_due else Reason.WAITING), "", self._recover(summary.flow_name)
        else:
            self._read += 1
            try:
                yield from self._closely(summary, holding, place, now)
            except ExecutionNotFound:  # it was deleted meanwhile
                return
            except DecodeError as error:
                yield Reason.UNREADABLE, str(error), self._advice_on(summary.flow_name).command("show", name)

    def _closely(
        self, summary: ExecutionSummary, holding: Holding, place: InQueue | None, now: float
    ) -> Iterator[tuple[Reason, str, str | None]]:
        name, record = summary.execution_id, self._store.get(summary.execution_id)
        if record is None:
            return
        if is_left_by_a_person(record) and not holding.cancelled:
            flow, advice = status_of(self._store, record).flow, self._advice_on(record.flow_name)
            yield Reason.PERSON, record.flow_name, advice.resume(name, flow)
        elif record.state is WorkflowState.PAUSED and name not in self._free:
            yield from self._waiting(record)
        elif place is not None and record.state is WorkflowState.CREATED:
            yield self._refused_in_queue(record) or self._queued(record.flow_name, place, now)
        else:
            yield self._why_left(record, holding)

    def _queued(self, flow_name: str, place: InQueue, now: float) -> tuple[Reason, str, str | None]:
        if place.not_before is not None and place.not_before.timestamp() > now:
            return Reason.TIME, f"{flow_name}, in the queue {place.queue!r}", None
        command = self._advice_on(flow_name).worker(place.queue)
        return Reason.QUEUED, f"{flow_name}, in the queue {place.queue!r}", f"unless a worker is at it: {command}"

    def _refused_in_queue(self, record: ExecutionRecord) -> tuple[Reason, str, str | None] | None:
        """Return why no worker can begin what was submitted; None: nothing is known that keeps it."""
        standing, advice = status_of(self._store, record), self._advice_on(record.flow_name)
        for each in standing.queued:
            if each.is_never_enough and each.capacity is not None:
                command = advice.command("capacity", each.name, str(each.units))
                return Reason.CANNOT, f"{record.flow_name}: {each.step_name} {each}", command
        if advice.target is None:
            return None
        found = self._why_left(record, None)
        return None if found[0] is Reason.LEFT else found

    def _waiting(self, record: ExecutionRecord) -> Iterator[tuple[Reason, str, str | None]]:
        waits = status_of(self._store, record).waits
        for wait in waits[:1]:
            said = next(self._advice_on(record.flow_name).waits([wait]), "")
            command = said.rpartition(": ")[2]
            if wait.signal is not None:
                yield Reason.SIGNAL, f"{wait.signal} ({record.flow_name})", command
            elif wait.until is not None:
                yield Reason.TIME, record.flow_name, None
            else:
                yield Reason.DECISION, f"{wait.step} ({record.flow_name})", command
        if not waits:
            yield Reason.LEFT, record.flow_name, self._recover(record.flow_name)

    def _why_left(self, record: ExecutionRecord, holding: Holding | None) -> tuple[Reason, str, str | None]:
        """Return why nobody takes up what anybody could."""
        name = record.execution_id
        most = EngineConfig().max_recoveries
        if holding is not None and holding.owner is not None and holding.recoveries >= most:
            return (
                Reason.DIED,
                record.flow_name,
                f"see why (the log of {process_of(holding.owner)}), then: {self._rerun(record)}",
            )
        try:
            self._engine_of(record.flow_name).check(name)
        except HandlerNotFound as error:
            return Reason.NEEDS_HANDLERS, f"{record.flow_name}: {error}", self._recover(record.flow_name)
        except ExecutionNotFound:
            raise
        except SzalError as error:
            first = str(error).partition("\n")[0].removeprefix(f"execution {name}").lstrip(": ")
            return Reason.CANNOT, f"{record.flow_name}: {first}", self._advice_on(record.flow_name).resume(name)
        return Reason.LEFT, record.flow_name, self._recover(record.flow_name)

    def _recover(self, flow_name: str) -> str:
        advice = self._advice_on(flow_name)
        command = advice.command("recover", advice.target or "MODULE:ATTRIBUTE")
        return f"{command} (or, in the program: engine.start_recovery)"

    def _rerun(self, record: ExecutionRecord) -> str:
        advice = self._advice_on(record.flow_name)
        return advice.command("rerun", record.execution_id, *([] if advice.target is None else [advice.target]))
