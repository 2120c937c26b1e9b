"""What is measured: cases, and the targets that szal is held to in each."""

from collections.abc import Callable, Iterator, Mapping
from statistics import median, quantiles
from typing import Protocol, TypeAlias

import attrs

__all__ = ["Case", "Growth", "Ideal", "Measures", "Series", "Target", "Verdict", "Versus", "VersusBest"]


@attrs.define
class Series:
    """The repetitions of one subject at one size, in the order of the rounds; or why there are none."""

    values: list[float] = attrs.field(factory=list)
    error: str | None = None

    @property
    def median(self) -> float:
        """The median of the repetitions."""
        return median(self.values)

    @property
    def best(self) -> float:
        """The least of them."""
        return min(self.values)

    @property
    def spread(self) -> float:
        """Half the range of the repetitions, as a fraction of the median, without the best and the worst of many."""
        ordered = sorted(self.values)
        if len(ordered) >= 5:
            ordered = ordered[1:-1]
        return (ordered[-1] - ordered[0]) / 2 / self.median if self.median else 0.0


Measures: TypeAlias = Mapping[tuple[str, int], Series]
"""What one case gave: by label and size."""


@attrs.frozen
class Verdict:
    """One ratio, and the most that it may be."""

    case: str
    size: int
    subject: str
    against: str
    rounds: tuple[float, ...]
    at_most: float | None

    @property
    def ratio(self) -> float:
        """The median of the ratios round by round: what disturbs a round disturbs both."""
        return median(self.rounds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between which the middle half of the rounds lies: how far to trust the ratio."""
        if len(self.rounds) < 2:
            return self.ratio, self.ratio
        low, _, high = quantiles(self.rounds, n=4, method="inclusive")
        return low, high

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.at_most is None else self.ratio <= self.at_most


class Target(Protocol):
    """A ratio that szal is held to, at every size that was measured."""

    def verdicts(self, case: str, measures: Measures) -> Iterator[Verdict]:
        """Yield what the measures say."""
        ...


def ratios(one: Series, other: Series) -> tuple[float, ...]:
    """Return *one* divided by *other*, round by round."""
    return tuple(mine / theirs for mine, theirs in zip(one.values, other.values, strict=False))


def _sizes(measures: Measures, *labels: str) -> list[int]:
    """Return the sizes at which each of *labels* was measured."""
    sizes = sorted({size for _, size in measures})
    return [size for size in sizes if all(measures.get((label, size), Series()).values for label in labels)]


@attrs.frozen
class Versus:
    """*subject* against another subject of the same case; at_most=None only tells, as do sizes under *least*."""

    against: str
    at_most: float | None = None
    subject: str = "szal"
    least: int = 0

    def verdicts(self, case: str, measures: Measures) -> Iterator[Verdict]:
        """Yield one for each size."""
        for size in _sizes(measures, self.subject, self.against):
            yield self.at(case, size, measures)

    def at(self, case: str, size: int, measures: Measures) -> Verdict:
        """Return the one for *size*."""
        rounds = ratios(measures[self.subject, size], measures[self.against, size])
        return Verdict(case, size, self.subject, self.against, rounds, self.at_most if size >= self.least else None)


@attrs.frozen
class VersusBest:
    """szal against the fastest of several ways to do the same, at each size the one that is fastest there."""

    against: tuple[str, ...]
    at_most: float
    least: int = 0

    def verdicts(self, case: str, measures: Measures) -> Iterator[Verdict]:
        """Yield one for each size."""
        for size in _sizes(measures, "szal"):
            ways = {way: measures[way, size].median for way in self.against if size in _sizes(measures, way)}
            if ways:
                fastest = min(ways, key=ways.__getitem__)
                yield Versus(fastest, self.at_most, least=self.least).at(case, size, measures)


@attrs.frozen
class Growth:
    """*subject* at its greatest size against itself at the size *base*: each per unit, or *whole*."""

    base: int
    at_most: float | None = None
    subject: str = "szal"
    whole: bool = False

    def verdicts(self, case: str, measures: Measures) -> Iterator[Verdict]:
        """Yield one, if both sizes are there."""
        sizes = _sizes(measures, self.subject)
        if self.base in sizes and sizes[-1] > self.base:
            small, large = measures[self.subject, self.base], measures[self.subject, sizes[-1]]
            scale, unit = (1.0, "") if self.whole else (self.base / sizes[-1], ", per unit")
            rounds = tuple(value * scale for value in ratios(large, small))
            yield Verdict(case, sizes[-1], self.subject, f"itself at {self.base}{unit}", rounds, self.at_most)


@attrs.frozen
class Ideal:
    """The best repetition of *subject* against what cannot be beaten, called *name*."""

    measure: Callable[[int], float]
    at_most: float | None = None
    subject: str = "szal"
    name: str = "the ideal"

    def verdicts(self, case: str, measures: Measures) -> Iterator[Verdict]:
        """Yield one for each size."""
        for size in _sizes(measures, self.subject):
            value = measures[self.subject, size].best / self.measure(size)
            yield Verdict(case, size, f"{self.subject} (best)", self.name, (value,), self.at_most)


@attrs.frozen(kw_only=True)
class Case:
    """One thing that every subject does in its own way. `sizes` are how much of it; `quick` the sizes of --quick.

    A subject called "szal" is szal itself. `parts` are the units in one of size: 3 for flows of three steps.
    """

    name: str
    title: str
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    tiny: int = 4
    unit: str = "step"
    parts: int = 1
    whole: bool = False  # a repetition is one unit, whatever its size
    fixed: bool = False  # there is no other size to ask for
    kind: str = "seconds"  # or "bytes"
    peak_of: str | None = None  # the case whose subjects are measured: by the memory they take, not the time
    needs: str | None = None  # what of `worker.Job.given` its subjects use
    targets: tuple[Target, ...] = ()
    subject: str = "szal"  # which of szal's is judged by the peers
    against_peers: float | None = 0.1
    against_threads: float | None = 0.5  # peers that are bare threads
    bound: str | None = None  # the floor that nobody can beat who keeps the same promise

    @property
    def source(self) -> str:
        """The case that its subjects are found under."""
        return self.peak_of or self.name

    def per_unit(self, value: float, size: int) -> float:
        """Return *value*, the measure of a whole repetition, as microseconds (or bytes) for each unit."""
        units = 1 if self.whole else size * self.parts
        return value * (1e6 if self.kind == "seconds" else 1.0) / units

    @property
    def scale(self) -> str:
        """What `per_unit` returns."""
        return f"{'µs' if self.kind == 'seconds' else 'bytes'} per {self.unit}"
