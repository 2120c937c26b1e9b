"""Every benchmark of szal and every floor still runs; what they measure is not looked at."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def _package() -> ModuleType:
    """Import `benchmarks` from the checkout, without putting the szal beside it on sys.path."""
    spec = importlib.util.spec_from_file_location("benchmarks", ROOT / "benchmarks" / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_package()
from benchmarks import command, page, svg  # noqa: E402
from benchmarks.case import Case, Growth, Ideal, Series, Versus  # noqa: E402
from benchmarks.catalogue import CASES  # noqa: E402
from benchmarks.measure import Found  # noqa: E402
from benchmarks.party import FLOORS, OURS, PEERS, Role, roles  # noqa: E402
from benchmarks.report import Report  # noqa: E402
from benchmarks.worker import Job, Prepared  # noqa: E402

SUBJECTS = [
    pytest.param(case, role, id=f"{case.name}: {role.label}")
    for case in CASES
    for role in roles(case.name, [*OURS, *FLOORS])
]


@pytest.mark.parametrize(("case", "role"), SUBJECTS)
def test_every_subject_of_szal_and_every_floor_runs(case: Case, role: Role, tmp_path: Path) -> None:
    prepared = Prepared(role.party.cases[case.name][role.label], Job(case.tiny, tmp_path))
    try:
        assert prepared.measure() > 0
    finally:
        prepared.close()
    assert not list(tmp_path.iterdir())


def test_every_case_is_one_that_szal_takes_part_in() -> None:
    ours = {name for party in OURS for name in party.cases}
    assert ours == {case.name for case in CASES}


def test_every_target_names_subjects_that_there_are() -> None:
    for case in CASES:
        labels = {role.label for role in roles(case.name, [*OURS, *FLOORS])}
        assert {target.against for target in case.targets if isinstance(target, Versus)} <= labels


def test_floors_and_peers_are_in_cases_that_there_are() -> None:
    names = {case.name for case in CASES}
    assert names >= {name for party in [*FLOORS, *PEERS] for name in party.cases}


def test_the_command_measures_in_processes_and_writes_its_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "figures.json"
    drawn = tmp_path / "page.html"
    arguments = ["--only", "^condition$", "--sizes", "2,20", "--repetitions", "2", "--peers", "none"]
    arguments += ["--scratch", str(tmp_path), "--json", str(written), "--html", str(drawn)]
    assert command.main(arguments) == 0
    figures = json.loads(written.read_text())["cases"][0]["figures"]
    assert {(figure["subject"], figure["size"], len(figure["values"])) for figure in figures} == {
        (label, size, 2) for label in ("szal", "Python function") for size in (2, 20)
    }
    assert "<polyline" in drawn.read_text()
    assert "Python function" in capsys.readouterr().out


def _found(**values: list[float]) -> Found:
    case = Case(name="c", title="a case", sizes=(10,), quick=(10,))
    return Found(case, {(label, 10): Series(list(series)) for label, series in values.items()})


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    found = _found(szal=[2.0, 40.0, 3.0], floor=[1.0, 20.0, 1.0])
    (verdict,) = Versus("floor", 2.5).verdicts("c", found.measures)
    assert (verdict.ratio, verdict.met) == (2.0, True)


def test_a_target_holds_from_its_least_size_on() -> None:
    found = _found(szal=[2.0], floor=[1.0])
    (verdict,) = Versus("floor", 1.5, least=11).verdicts("c", found.measures)
    assert (verdict.ratio, verdict.met) == (2.0, None)


def test_growth_compares_units_of_the_greatest_and_the_base_size() -> None:
    measures = {("szal", 10): Series([1.0]), ("szal", 100): Series([20.0])}
    (verdict,) = Growth(10, 1.25).verdicts("c", measures)
    assert (verdict.ratio, verdict.met) == (2.0, False)


def test_the_best_repetition_is_held_against_the_ideal() -> None:
    found = _found(szal=[3.0, 2.0])
    (verdict,) = Ideal(lambda size: size / 10, 2.0).verdicts("c", found.measures)
    assert (verdict.ratio, verdict.met) == (2.0, True)


def test_what_failed_or_is_missing_is_on_the_page() -> None:
    found = _found(szal=[1.0], other=[])
    found.measures["other", 10].error = "it <broke>"
    found.roles = {label: Role(label, OURS[0]) for label in ("szal", "other")}
    report = Report(machine={"cores": "2"}, command=["x"], cases=[found], missing={"peer": "no wheel"})
    text = page.of(report)
    assert "it &lt;broke&gt;" in text
    assert "no wheel" in text


@pytest.mark.parametrize("value", [1e-3, 1.0, 1000.0])
def test_bars_have_a_length_whatever_the_values(value: float) -> None:
    assert 'width="0.0"' not in svg.bars("t", {"one": value, "two": value}, "µs")
