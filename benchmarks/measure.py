"""Measuring one case: all its subjects, round by round, so that what disturbs one disturbs all."""

import contextlib
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import attrs

from benchmarks.case import Case, Series, Verdict, Versus
from benchmarks.party import Role
from benchmarks.process import SubjectFailed, SubjectProcess

__all__ = ["Found", "Plan", "measure"]

_SHORTEST = 0.1  # seconds: what is shorter is done several times for one repetition
_LONGEST = 0.5  # seconds for these several, with what is not counted: new databases, mostly
_MOST_LOOPS = 1000


@attrs.frozen(kw_only=True)
class Plan:
    """How to measure: the sizes of a case, how many repetitions after the warm-up, seconds that one may take.

    `hurry`: the rounds of a case end after about so many seconds, but not before two are done. Who takes more than a
    tenth of that for a repetition does one; and who would take more than that is not asked for that size.
    """

    sizes: tuple[int, ...]
    repetitions: int
    limit: float
    hurry: float = math.inf
    scratch: Path | None
    lend: Callable[[Case], AbstractContextManager[Mapping[str, str]]]  # gives a subject what `worker.Job` calls given


@attrs.define
class Found:
    """What a case gave."""

    case: Case
    measures: dict[tuple[str, int], Series] = attrs.field(factory=dict)
    roles: dict[str, Role] = attrs.field(factory=dict)
    versions: dict[str, dict[str, str]] = attrs.field(factory=dict)  # by label
    verdicts: list[Verdict] = attrs.field(factory=list)

    def has(self, label: str, size: int) -> bool:
        """Whether that was measured, and did not fail."""
        return bool(self.measures.get((label, size), Series()).values)


@attrs.define
class _Runner:
    """One subject at one size."""

    label: str
    size: int
    process: SubjectProcess
    series: Series
    is_ours: bool = True
    loops: int = 1
    takes: float = 0.0  # seconds, as far as the warm-up can tell: without what is done once

    def warm_up(self, seconds: bool) -> None:
        measured = self._measure()
        if measured is None:
            return
        value, took = (max(figure, 1e-9) for figure in measured)
        self.takes = value if seconds else took
        if seconds:
            self.loops = max(1, min(_MOST_LOOPS, math.ceil(_SHORTEST / value), int(_LONGEST / took)))

    def may_take(self, size: int) -> float:
        """Return how many seconds *size* may take: some peers' steps cost more, the more there are."""
        return self.takes * (size / self.size) ** (1 if self.is_ours else 2)

    def repeat(self) -> None:
        measured = self._measure()
        if measured is not None:
            self.series.values.append(measured[0])

    def _measure(self) -> tuple[float, float] | None:
        if self.series.error is not None:
            return None
        try:
            return self.process.measure(self.size, self.loops)
        except SubjectFailed as failed:
            self.series.values.clear()
            self.series.error = str(failed)
            return None


def measure(case: Case, roles: Sequence[Role], plan: Plan, tell: Callable[[str], None]) -> Found:
    """Measure *case* with all *roles*, and judge it by its targets."""
    found = Found(case, roles={role.label: role for role in roles})
    with contextlib.ExitStack() as stack:
        runners: list[_Runner] = []
        for runner in _start(case, roles, plan, found, stack):
            smaller = [each for each in runners if each.label == runner.label]
            if not case.whole and any(each.may_take(runner.size) > plan.hurry for each in smaller):
                del found.measures[runner.label, runner.size]
                continue
            tell(f"{case.name} {runner.size}: warm-up of {runner.label}")
            runner.warm_up(case.kind == "seconds")
            runners.append(runner)
        began = time.monotonic()
        for number in range(plan.repetitions):
            if number > 1 and time.monotonic() - began > plan.hurry:
                break
            tell(f"{case.name}: round {number + 1} of {plan.repetitions}")
            turn = number % len(runners) if runners else 0  # nobody always comes after the same one
            for runner in runners[turn:] + runners[:turn]:
                if number == 0 or runner.takes < plan.hurry / 10:
                    runner.repeat()
    for target in case.targets:
        found.verdicts += target.verdicts(case.name, found.measures)
    found.verdicts += _against_peers(found)
    return found


def _start(case: Case, roles: Sequence[Role], plan: Plan, found: Found, stack: contextlib.ExitStack) -> list[_Runner]:
    runners = []
    for role in roles:
        folder = Path(tempfile.mkdtemp(prefix="szal-bench-", dir=plan.scratch))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        sizes = [size for size in plan.sizes if size <= role.party.largest(case.source)]
        given = stack.enter_context(plan.lend(case))
        try:
            process = stack.enter_context(SubjectProcess(case, role, folder, plan.limit, given))
        except SubjectFailed as failed:
            found.measures |= {(role.label, size): Series(error=str(failed)) for size in sizes}
            continue
        found.versions[role.label] = process.versions
        for size in sizes:
            series = found.measures[role.label, size] = Series()
            runners.append(_Runner(role.label, size, process, series, is_ours=role.peer is None))
    return sorted(runners, key=lambda runner: runner.size)


def _against_peers(found: Found) -> list[Verdict]:
    """Judge szal by the fastest peer of each kind at each size.

    Where nobody can be faster than a floor, that is told against the same peer: it says how near the target can be.
    Where it cannot be half as near, the peer is not the target: the case has one for that floor.
    """
    case, verdicts = found.case, []
    kinds = {"engine": case.against_peers, "threads": case.against_threads, "less": None}
    for size in sorted({size for label, size in found.measures if label == case.subject}):
        floor = found.measures[case.bound, size].median if case.bound and found.has(case.bound, size) else 0.0
        for kind, wanted in kinds.items():
            rivals = [label for label, role in found.roles.items() if role.rival == kind]
            medians = {label: found.measures[label, size].median for label in rivals if found.has(label, size)}
            if not medians:
                continue
            fastest = min(medians, key=medians.__getitem__)
            at_most = None if wanted is None or floor > wanted / 2 * medians[fastest] else wanted
            for subject, most in ((case.subject, at_most), (case.bound, None)):
                if subject is not None and found.has(subject, size):
                    verdicts.append(Versus(fastest, most, subject).at(case.name, size, found.measures))
    return verdicts
