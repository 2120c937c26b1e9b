"""The rows of a timeline: for each step its attempts, what it waited for, and its undos, as spans of time."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

import attrs

from szal.engine.status import ExecutionStatus
from szal.legible import elapsed
from szal.model.json import AttemptEnd, Checkpoint
from szal.model.key import item_key
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.model.step import WAIT_TYPES
from szal.pictures.scale import Span
from szal.pictures.standing import Seen, Standing, standings_of

__all__ = ["Row", "Segment", "rows_of"]

_MOST_LANES: Final = 8


@attrs.frozen
class Segment:
    """From `start` to `end`, in seconds since the beginning, a step was as `kind` says: a word of `SIGNS`.

    Or it was "waiting": for another attempt, a signal, a time.
    """

    start: float
    end: float
    kind: str
    title: str
    is_undo: bool = False
    """Whether it was being undone, or waited for that."""

    @property
    def span(self) -> Span:
        """From when to when."""
        return self.start, self.end


@attrs.frozen
class Row:
    """What there is to be drawn of a step; in `lanes` the items of one that is done for each of a list."""

    standing: Standing
    segments: Sequence[Segment]
    lanes: Sequence[Sequence[Segment]] = ()

    @property
    def spans(self) -> Iterator[Segment]:
        """All that is drawn of it."""
        yield from self.segments
        for lane in self.lanes:
            yield from lane

    @property
    def starts_at(self) -> float:
        """When it began; never: at infinity."""
        return min((each.start for each in self.segments), default=float("inf"))


def rows_of(seen: Seen, checkpoints: Mapping[str, Checkpoint], now: datetime | None) -> tuple[list[Row], float]:
    """Return the rows, in the order in which the steps began, and how many seconds all took; so far, *now*."""
    standings = list(standings_of(seen).values())
    began = [each.result.started_at for each in standings if each.result.started_at is not None]
    ends = [now] if now is not None else []
    types: Mapping[str, str | None] = {}
    if isinstance(seen, ExecutionStatus):
        began.append(seen.started_at)
        ends = [seen.finished_at] if seen.finished_at is not None else ends
        types = {} if seen.flow is None else {step.name: step.step_type for step in seen.flow.walk()}
    if not began:
        return [Row(each, ()) for each in standings], 0.0
    start = min(began)
    so_far = max([(end - start).total_seconds() for end in ends], default=0.0)
    rows = []
    for each in standings:
        name = each.result.step_name
        segments = _Segments(start, so_far, is_wait=types.get(name) in WAIT_TYPES)
        of_step = segments.of(each.result, each.word, checkpoints.get(name))
        rows.append(Row(each, of_step, _lanes(segments, each.result, checkpoints)))
    rows.sort(key=lambda row: row.starts_at)  # what began together, or not at all, stays in the flow's order
    return rows, max([so_far, *(segment.end for row in rows for segment in row.spans)])


@attrs.frozen
class _Segments:
    """Makes segments of results."""

    begin: datetime
    so_far: float
    is_wait: bool

    def of(self, result: StepResult, word: str, checkpoint: Checkpoint | None) -> list[Segment]:
        """Return the attempts of a step, the waits between them, and its undos; one segment, where no more is known."""
        if checkpoint is None:
            return self._forward(result, word)
        if checkpoint.undos and word == "rolled_back":  # what it was before that
            word = "completed" if result.error is None else "failed"
        return [*self._forward(result, word, checkpoint.attempts), *self._undos(checkpoint.undos)]

    def _undos(self, undos: Sequence[AttemptEnd]) -> Iterator[Segment]:
        last: AttemptEnd | None = None
        for number, undo in enumerate(undos, 1):
            start, ended = self._at(undo.started_at), self._at(undo.ended_at)
            if last is not None and last.error is not None and (before := self._at(last.ended_at)) < start:
                yield Segment(before, start, "waiting", f"waited {elapsed(start - before)} to undo it again", True)
            what = "undo" if len(undos) == 1 else f"undo {number}"
            outcome, kind = ("undone", "rolled_back") if undo.error is None else (f"failed: {undo.error}", "failed")
            yield Segment(start, ended, kind, f"{what}, {elapsed(ended - start)}: {outcome}", True)
            last = undo

    def _forward(self, result: StepResult, word: str, attempts: Sequence[AttemptEnd] = ()) -> list[Segment]:
        if result.started_at is None:
            return []
        first = self._at(result.started_at)
        end = first + result.duration
        if not attempts:
            is_open = word in ("running", "retrying", "paused", "undecided")
            end = max(end, self.so_far) if is_open else end
            kind = "waiting" if self.is_wait or word == "paused" else word
            return [Segment(first, end, kind, f"{_AS.get(kind, word)} for {elapsed(end - first)}")]
        found: list[Segment] = []
        last = first
        for number, attempt in enumerate(attempts, max(result.attempts - len(attempts), 0) + 1):
            start, ended = self._at(attempt.started_at), self._at(attempt.ended_at)
            if start > last:
                found.append(Segment(last, start, "waiting", f"waited {elapsed(start - last)} for attempt {number}"))
            outcome = f"failed: {attempt.error}" if attempt.error is not None else "completed"
            kind = "failed" if attempt.error is not None else word
            found.append(Segment(start, ended, kind, f"attempt {number}, {elapsed(ended - start)}: {outcome}"))
            last = ended
        if word in ("retrying", "running") and self.so_far > last:
            found.append(Segment(last, self.so_far, "waiting", "waits for another attempt"))
        return found

    def _at(self, moment: datetime) -> float:
        return (moment - self.begin).total_seconds()


_AS: Final[Mapping[str, str]] = {"waiting": "waited", "completed": "ran", "failed": "failed, after it ran"}


def _lanes(segments: _Segments, result: StepResult, checkpoints: Mapping[str, Checkpoint]) -> list[list[Segment]]:
    """Return the items, those that ran at the same time in several lanes; all that find no room share the last one."""
    known = [(item, index) for index, item in enumerate(result.items or ()) if item.started_at is not None]
    found = [
        attrs.evolve(segment, title=f"[{index}] {segment.title}{_error(item)}")
        for item, index in known
        for segment in segments.of(item, str(item.status), checkpoints.get(item_key(result.step_name, index)))
    ]
    found.sort(key=lambda segment: segment.start)
    lanes: list[list[Segment]] = []
    for segment in found:
        lane = next((lane for lane in lanes if lane[-1].end <= segment.start), None)
        if lane is None and len(lanes) < _MOST_LANES:
            lanes.append([segment])
        else:
            (lanes[-1] if lane is None else lane).append(segment)
    return lanes


def _error(item: StepResult) -> str:
    return f": {item.error}" if item.error and item.status is StepStatus.FAILED else ""
