"""What an attempt sees of the steps before its own: their results, their outputs, and what texts may name of them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import attrs

from szal.errors import OutputMasked
from szal.expressions.copies import own_copy
from szal.expressions.path import Json
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.scheduler.run_info import RunInfo

__all__ = ["Ancestors", "Known", "Outcomes", "Outputs", "Results"]


@attrs.define(eq=False, repr=False)
class Ancestors:
    """The steps before the one at *place*, of which *settled_before* had settled when it started.

    Whatever settles later is not seen, so what a step sees does not change under its hands. What is being undone sees
    *itself* among them: that is its own result, or that of the item of the step that is being undone, at *index*. From
    any thread of a handler. The outputs are copies, but for who does not change them: *is_copied*.
    """

    _run: RunInfo
    _place: int
    _settled_before: int
    _itself: StepResult | None = None
    _index: int | None = None
    _is_copied: bool = True
    _outputs: dict[str, Json] = attrs.field(factory=dict, init=False)  # copies of its own, of what it has looked at
    _places: frozenset[int] | None = attrs.field(default=None, init=False)  # of all, once all of them were asked for

    def all(self) -> Iterator[StepResult]:
        """Yield their results, in the flow's own order."""
        run = self._run
        places = run.plan.all_before(self._place)
        if not run.plan.linear:
            self._places = frozenset(places)
        return (result for place in places if (result := self._ended(place)) is not None)

    def find(self, name: str) -> StepResult | None:
        """Return the result of the one called *name*, if it had ended."""
        plan = self._run.plan
        place = plan.places.get(name)
        if place is None:
            return None
        if place == self._place:
            return self._itself
        known = self._places
        is_before = plan.is_before(place, self._place) if known is None else place in known
        return self._ended(place) if is_before else None

    def _ended(self, place: int) -> StepResult | None:
        run = self._run
        if run.plan.starts_early and run.settled_as[place] >= self._settled_before:
            return None
        return run.results[place]

    def output(self, name: str) -> Json:
        """Return the output of the one called *name*, as this attempt may have changed it; raise KeyError.

        Raises `OutputMasked` for one that was recorded masked, by another process.
        """
        result = self.find(name)
        if result is None or result.status is not StepStatus.COMPLETED:
            raise KeyError(name)
        self._check(result)
        value = result.output
        own = self._outputs
        if not self._is_copied:
            own[name] = value
            return value
        if not isinstance(value, list | dict):
            return value
        return own[name] if name in own else own.setdefault(name, own_copy(value))

    def looked_at(self) -> Iterator[Json]:
        """Yield the outputs that were looked at."""
        return iter(self._outputs.values())

    def copy(self, name: str) -> StepResult:
        """Return a copy of the result of the one called *name*; raise KeyError, and `OutputMasked` as `output` does.

        Of one that did not complete, what was recorded masked is left out.
        """
        result = self.find(name)
        if result is None:
            raise KeyError(name)
        if result.status is StepStatus.COMPLETED:
            self._check(result)
        output = None if result.is_masked else own_copy(result.output)
        return attrs.evolve(result, output=output, encoded_output=None)

    def _check(self, result: StepResult) -> None:
        """Raise `OutputMasked` for what another process has recorded, and does not say what the step came to."""
        if result.is_masked:
            raise OutputMasked(result.step_name, self._run.execution_id)

    def outcome(self, name: str) -> Json:
        """Return how the one called *name* has ended, as texts see it; raise KeyError."""
        result = self.find(name)
        if result is None:
            raise KeyError(name)
        place = self._run.plan.places[name]
        of_item = result is self._itself and self._index is not None
        return self._run.seen.outcome((place, self._index) if of_item else place, result)


class Known(Protocol):
    """Where an attempt finds the results of the steps before its own."""

    def all(self) -> Iterable[StepResult]: ...
    def output(self, name: str) -> Json: ...
    def copy(self, name: str) -> StepResult: ...


class Outputs(Mapping[str, Json]):
    """The outputs that a step may see; a look-up finds its step without copying any other."""

    __slots__ = ("_ancestors",)

    def __init__(self, ancestors: Known) -> None:
        self._ancestors = ancestors

    def __getitem__(self, name: str) -> Json:
        return self._ancestors.output(name)

    def __iter__(self) -> Iterator[str]:
        return (result.step_name for result in self._ancestors.all() if result.status is StepStatus.COMPLETED)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


class Results(Mapping[str, StepResult]):
    """The results that a step may see. Each look-up makes a copy: what a handler does to it, nobody else sees."""

    __slots__ = ("_ancestors",)

    def __init__(self, ancestors: Known) -> None:
        self._ancestors = ancestors

    def __getitem__(self, name: str) -> StepResult:
        return self._ancestors.copy(name)

    def __iter__(self) -> Iterator[str]:
        return (result.step_name for result in self._ancestors.all())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


class Outcomes(Mapping[str, Json]):
    """What templates see under ``steps``: every ancestor that has ended."""

    __slots__ = ("_ancestors",)

    def __init__(self, ancestors: Ancestors) -> None:
        self._ancestors = ancestors

    def __getitem__(self, name: str) -> Json:
        return self._ancestors.outcome(name)

    def __iter__(self) -> Iterator[str]:
        return (result.step_name for result in self._ancestors.all())

    def __len__(self) -> int:
        return sum(1 for _ in self)
