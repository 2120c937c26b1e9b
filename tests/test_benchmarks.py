"""Every benchmark of szal and every floor still runs; what they measure is not looked at."""

import contextlib
import importlib.util
import json
import math
import os
import pty
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import psycopg
import pytest
from pairs import FULL
from stores.postgres_server import PostgresServer

from szal.stores.postgres.statements import STATEMENTS

pytestmark = pytest.mark.slow

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
from benchmarks import command, dashboard, docs, fleet, order, page, plots, processors, statements, svg  # noqa: E402
from benchmarks.case import Case, Growth, Ideal, Series, Versus, VersusBest  # noqa: E402
from benchmarks.catalogue import CASES, trace_case  # noqa: E402
from benchmarks.measure import Found, Plan, measure  # noqa: E402
from benchmarks.party import FLOORS, OURS, PEERS, Party, Peer, Role, roles  # noqa: E402
from benchmarks.progress import Progress  # noqa: E402
from benchmarks.report import Report  # noqa: E402
from benchmarks.trace import BadTrace, Trace, read_trace  # noqa: E402
from benchmarks.worker import Job, Prepared  # noqa: E402

MONTAGE = Path(__file__).parent / "traces" / "montage-small.json"
EVERY_CASE = [*CASES, trace_case(read_trace(MONTAGE))]
SLOW_TO_BEGIN = pytest.mark.skipif(not FULL, reason="a cluster takes long to begin, and to end")
SUBJECTS = [
    pytest.param(case, role, id=f"{case.name}: {role.label}", marks=[SLOW_TO_BEGIN] if "dask" in role.label else [])
    for case in EVERY_CASE
    for role in roles(case.source, [*OURS, *FLOORS])
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that subjects share."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def shared_database(server: PostgresServer) -> Iterator[str]:
    """The URL of a database that subjects share."""
    name = f"szal_shared_{secrets.token_hex(6)}"
    server.execute(f"CREATE DATABASE {name}")
    yield re.sub(r"(://[^/?]*)(/[^?]*)?", rf"\1/{name}", server.url, count=1)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def given(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], dict[str, str]]:
    """What a case is lent."""

    def lend(case: Case) -> dict[str, str]:
        if case.needs == "postgres":
            return {"postgres": request.getfixturevalue("server").url}
        if case.needs in ("folder", "database"):
            name = "shared" if case.needs == "folder" else "shared_database"
            return {case.needs: str(request.getfixturevalue(name))}
        if case.needs == "trace":
            file = tmp_path_factory.mktemp("trace") / "trace.json"
            file.write_text(read_trace(MONTAGE).scaled(0.001).as_json())
            return {"trace": str(file)}
        return {}

    return lend


@pytest.mark.parametrize(("case", "role"), SUBJECTS)
def test_every_subject_of_szal_and_every_floor_runs(
    case: Case, role: Role, tmp_path: Path, given: Callable[[Case], dict[str, str]]
) -> None:
    prepared = Prepared(role.party.cases[case.source][role.label], Job(case.tiny, tmp_path, given(case)))
    try:
        assert (prepared.measure() if case.peak_of is None else prepared.peak()) > 0
    finally:
        prepared.close()
    assert not list(tmp_path.iterdir())


def test_every_case_is_one_that_szal_takes_part_in() -> None:
    ours = {name for party in OURS for name in party.cases}
    assert ours == {case.source for case in EVERY_CASE}


def test_every_target_names_subjects_that_there_are() -> None:
    for case in EVERY_CASE:
        labels = {role.label for role in roles(case.source, [*OURS, *FLOORS])}
        labels |= {label for peer in PEERS if peer.near for label in peer.cases.get(case.source, {})}
        named = {target.subject for target in case.targets if not isinstance(target, VersusBest)}
        for target in case.targets:
            if isinstance(target, Versus):
                named.add(target.against)
            elif isinstance(target, VersusBest):
                named.update(target.against)
        assert named <= labels


def test_floors_and_peers_are_in_cases_that_there_are() -> None:
    names = {case.name for case in EVERY_CASE}
    assert names >= {name for party in [*FLOORS, *PEERS] for name in party.cases}


def test_peers_that_are_judged_apart_are_there() -> None:
    for peer in PEERS:
        labels = {label for subjects in peer.cases.values() for label in subjects}
        assert labels.issuperset((*peer.bare_threads, *peer.less))


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


def test_a_trace_is_replayed_and_a_bad_one_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--trace", str(MONTAGE), "--makespan", "0.01", "--repetitions", "1", "--peers", "none"]
    assert command.main([*arguments, "--scratch", str(tmp_path)]) == 0
    assert "the critical path" in capsys.readouterr().out
    assert command.main(["--trace", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err


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


def test_the_fastest_of_several_ways_is_the_floor() -> None:
    found = _found(szal=[4.0], slow=[4.0], fast=[1.0])
    (verdict,) = VersusBest(("slow", "fast", "absent"), 2.0).verdicts("c", found.measures)
    assert (verdict.against, verdict.ratio, verdict.met) == ("fast", 4.0, False)


def test_growth_compares_units_of_the_greatest_and_the_base_size() -> None:
    measures = {("szal", 10): Series([1.0]), ("szal", 100): Series([20.0])}
    (verdict,) = Growth(10, 1.25).verdicts("c", measures)
    assert (verdict.ratio, verdict.met) == (2.0, False)


def test_growth_may_be_of_what_should_not_grow() -> None:
    measures = {("szal", 10): Series([1.0]), ("szal", 100): Series([2.0])}
    (verdict,) = Growth(10, 1.25, whole=True).verdicts("c", measures)
    assert (verdict.ratio, verdict.against, verdict.met) == (2.0, "itself at 10", False)


def test_the_best_repetition_is_held_against_the_ideal() -> None:
    found = _found(szal=[3.0, 2.0])
    (verdict,) = Ideal(lambda size: size / 10, 2.0).verdicts("c", found.measures)
    assert (verdict.ratio, verdict.met) == (2.0, True)


SUBJECTS_FILE = """
import subprocess, sys, time

def steady(seconds, job):
    yield lambda: seconds

def fails(job):
    yield lambda: 1 / 0

def hangs(job):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (job.folder.parent / "child").write_text(str(child.pid))
    yield lambda: time.sleep(600)

def idle(job):
    yield lambda: None

def sleeps(job):
    yield lambda: time.sleep(0.05)

CASES = {"c": {
    "szal": lambda job: steady(2.0, job),
    "floor": lambda job: steady(1.0, job),
    "engine": lambda job: steady(4.0, job),
    "slower": lambda job: steady(5.0, job),
    "threads": lambda job: steady(0.5, job),
    "less": lambda job: steady(0.1, job),
    "fails": fails,
    "hangs": hangs,
    "sleeps": sleeps,
    "idle": idle,
}}
"""


def _measured(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *labels: str,
    bound: str | None = "floor",
    sizes: tuple[int, ...] = (10,),
    hurry: float = math.inf,
    subject: str = "szal",
) -> Found:
    """Measure subjects of the file above; all but the first two are peers'."""
    (tmp_path / "made_up_subjects.py").write_text(SUBJECTS_FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    case = Case(name="c", title="t", sizes=sizes, quick=sizes, bound=bound, subject=subject)
    party = Party(module="made_up_subjects")
    peer = Peer(name="peer", requirements=(), bare_threads=("threads",), less=("less",))
    taking_part = [Role(label, party, None if label in ("szal", "floor") else peer) for label in labels]
    nothing = contextlib.nullcontext({})
    plan = Plan(sizes=sizes, repetitions=2, limit=2.0, hurry=hurry, scratch=tmp_path, lend=lambda _: nothing)
    return measure(case, taking_part, plan, lambda _: None)


def test_szal_is_judged_by_the_fastest_peer_of_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _measured(tmp_path, monkeypatch, "szal", "engine", "slower", "threads", "less", bound=None)
    assert [(verdict.subject, verdict.against, verdict.ratio, verdict.at_most) for verdict in found.verdicts] == [
        ("szal", "engine", 0.5, 0.1),
        ("szal", "threads", 4.0, 0.5),
        ("szal", "less", 20.0, None),
    ]


def test_a_case_may_have_another_subject_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _measured(tmp_path, monkeypatch, "szal", "floor", "engine", bound=None, subject="floor")
    assert [(verdict.subject, verdict.against, verdict.ratio) for verdict in found.verdicts] == [
        ("floor", "engine", 0.25)
    ]


def test_where_a_floor_is_not_far_below_a_peer_the_peer_is_told_and_no_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _measured(tmp_path, monkeypatch, "szal", "floor", "engine", "threads")
    assert [(verdict.subject, verdict.against, verdict.ratio, verdict.at_most) for verdict in found.verdicts] == [
        ("szal", "engine", 0.5, None),
        ("floor", "engine", 0.25, None),
        ("szal", "threads", 4.0, None),
        ("floor", "threads", 2.0, None),
    ]


def test_who_is_slow_does_one_repetition_in_a_hurry_and_none_of_what_would_take_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _measured(tmp_path, monkeypatch, "idle", "sleeps", sizes=(10, 100), hurry=0.4)
    assert {key: len(series.values) for key, series in found.measures.items()} == {
        ("idle", 10): 2,
        ("idle", 100): 2,
        ("sleeps", 10): 1,
    }


def test_who_fails_or_hangs_is_told_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _measured(tmp_path, monkeypatch, "szal", "fails", "hangs")
    report = Report(machine={}, command="x", cases=[found])
    assert [text for _, text in report.failures()] == [
        "c, fails at 10: ZeroDivisionError: division by zero",
        "c, hangs at 10: took more than 2 s",
    ]
    assert report.broken() == []
    assert {file.name for file in tmp_path.iterdir()} <= {"made_up_subjects.py", "child", "__pycache__"}
    child = int((tmp_path / "child").read_text())
    for _ in range(100):  # whoever adopts it has to notice that it is dead
        if not _is_alive(child):
            break
        time.sleep(0.05)
    assert not _is_alive(child)


def test_ctrl_c_ends_all_and_tells_what_there_is(tmp_path: Path) -> None:
    arguments = ["--only", "^(import|sleeps)$", "--sizes", "1600", "--repetitions", "1", "--peers", "none"]
    reader, writer = pty.openpty()  # a terminal, so that it tells what it is doing
    suite = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *arguments, "--scratch", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=writer,
        text=True,
    )
    os.close(writer)
    try:
        told = b""
        while b"sleeps 1600: warm-up" not in told:  # a repetition begins, which takes a second
            told += os.read(reader, 4096)
        suite.send_signal(signal.SIGINT)
        out, _ = suite.communicate(timeout=60)
        told += os.read(reader, 4096)
    finally:
        suite.kill()
        suite.communicate()
        os.close(reader)
    assert b"interrupted: what there is follows" in told
    assert "cores: " in out
    assert not list(tmp_path.iterdir())


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # nobody may have waited for it yet


def test_a_floor_that_fails_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.worker.__file__", str(tmp_path / "none.py"))
    arguments = ["--only", "^condition$", "--sizes", "2", "--repetitions", "1", "--peers", "none"]
    assert command.main([*arguments, "--scratch", str(tmp_path), "--check"]) == 1
    assert "failed: condition, Python function at 2: ended by itself" in capsys.readouterr().out


def test_what_failed_or_is_missing_is_on_the_page() -> None:
    found = _found(szal=[1.0], other=[])
    found.measures["other", 10].error = "it <broke>"
    found.roles = {label: Role(label, OURS[0]) for label in ("szal", "other")}
    report = Report(machine={"cores": "2"}, command="x", cases=[found], missing={"peer": "no wheel"})
    text = page.of(report)
    assert "it &lt;broke&gt;" in text
    assert "no wheel" in text


@pytest.mark.parametrize("value", [1e-3, 1.0, 1000.0])
def test_bars_have_a_length_whatever_the_values(value: float) -> None:
    assert 'width="0.0"' not in svg.bars("t", {"one": value, "two": value}, "µs")


def test_makespans_are_drawn_beside_the_ideal() -> None:
    found = _found(szal=[3.0], other=[2.0])
    found.case = Case(name="c", title="t", sizes=(10,), quick=(10,), targets=(Ideal(lambda _: 1.0, name="best"),))
    assert "best: 1,000" in (plots.plot(found) or "")


def test_results_are_put_into_their_part_of_a_page(tmp_path: Path) -> None:
    found = _found(szal=[3.0], other=[2.0], third=[1.0])
    found.roles = {label: Role(label, OURS[0]) for label in ("szal", "other", "third")}
    written = tmp_path / "results.md"
    written.write_text("before\n<!-- floors -->\nold\n<!-- end of floors -->\nafter\n")
    summary = Report(machine={"cores": "2"}, command="run me", cases=[found])
    for _ in range(2):
        docs.put_into(written, "floors", summary)
    text = written.read_text()
    assert text.startswith("before\n<!-- floors -->")
    assert text.endswith("<!-- end of floors -->\nafter\n")
    assert "old" not in text
    assert text.count("$ run me") == 1
    assert "![c: a case](results/floors-c.svg)" in text
    assert "<svg" in (tmp_path / "results" / "floors-c.svg").read_text()
    with pytest.raises(docs.NoSuchPart, match="peers"):
        docs.put_into(written, "peers", summary)


def test_figures_alone_are_put_into_a_page_about_something_else(tmp_path: Path) -> None:
    found = _found(szal=[3.0])
    found.roles = {"szal": Role("szal", OURS[0])}
    written = tmp_path / "page.md"
    written.write_text("before\n<!-- growing -->\nold\n<!-- end of growing -->\nafter\n")
    for _ in range(2):
        docs.put_figures_into(written, "growing", Report(machine={"cores": "2"}, command="run me", cases=[found]))
    text = written.read_text()
    assert (text.count("c: a case"), text.count("$ run me"), text.count("cores: 2")) == (1, 1, 1)
    assert "old" not in text
    assert [file.name for file in tmp_path.iterdir()] == ["page.md"]


def test_one_table_and_one_picture_sum_it_up(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "flows-sqlite")
    found = Found(case)
    us = {"szal": 100.0, "driver, a transaction each": 50.0, "dura": 400.0, "dbos": 300.0, "huey": None}
    near = {peer.name: peer for peer in PEERS}
    for label, each in us.items():
        found.roles[label] = Role(label, OURS[0], near.get(label))
        found.measures[label, 100] = Series([each * 100 / 1e6] if each else [], None if each else "it broke")
    written = tmp_path / "page.md"
    written.write_text("<!-- summary --><!-- end of summary -->\n")
    docs.put_summary_into(written, "summary", Report(machine={"cores": "2"}, command="run me", cases=[found]))
    text = written.read_text()
    assert "| a flow of 3 steps, in SQLite | 50 | **100** | 10,000 | 300 | 3 times (dbos) |" in text
    drawn = (tmp_path / "page" / "summary.svg").read_text()
    assert [part in drawn for part in ("the floor: 20,000", "szal: 10,000", "dbos: 3,333")] == [True] * 3


def test_progress_tells_how_long_the_rest_may_take() -> None:
    moments = iter([0.0, 60.0])
    progress = Progress([1, 2, 3], lambda: next(moments))
    progress.next()
    assert str(progress) == "1 of 3"
    progress.next()
    assert str(progress) == "2 of 3, some 5 min left"


# -- traces -------------------------------------------------------------------------------------------


def _trace(tmp_path: Path, workflow: object) -> Trace:
    file = tmp_path / "trace.json"
    file.write_text(json.dumps({"name": "a trace", "workflow": workflow}))
    return read_trace(file)


def test_a_trace_says_what_bounds_its_makespan() -> None:
    trace = read_trace(MONTAGE)
    assert len(trace.tasks) == 18
    longest = 13.276 + 0.548 + 0.882 + 1.734 + 0.341 + 0.412 + 2.846 + 0.974
    assert trace.critical_path == pytest.approx(longest)
    assert trace.bound(1) == trace.work == pytest.approx(61.378)
    assert trace.scaled(0.5).critical_path == pytest.approx(longest / 2)


@pytest.mark.parametrize(
    "workflow",
    [
        {"tasks": [{"name": "a", "runtimeInSeconds": 1}, {"name": "b", "runtimeInSeconds": 2, "parents": ["a"]}]},
        {"jobs": [{"name": "a", "runtime": 1, "children": ["b"]}, {"name": "b", "runtime": 2}]},
        {"tasks": [{"name": "a", "id": "1", "runtime": 1}, {"name": "b", "id": "2", "runtime": 2, "parents": ["a"]}]},
    ],
    ids=["1.4", "1.2", "1.3, parents by name"],
)
def test_older_traces_are_read(tmp_path: Path, workflow: object) -> None:
    first, second = _trace(tmp_path, workflow).tasks
    assert (first.seconds, second.seconds, first.after, second.after) == (1.0, 2.0, (), (0,))


@pytest.mark.parametrize(
    ("tasks", "problem"),
    [
        ([{"name": "a"}], "task 'a' has no runtimeInSeconds"),
        ([{"name": "a", "runtimeInSeconds": "1"}], "task 'a': runtimeInSeconds is '1'"),
        ([{"name": "a", "runtime": -1}], "task 'a': runtime is -1"),
        ([{"name": "a", "runtime": 1, "parents": ["b"]}], "task 'a': parents has 'b', which is no task"),
        ([{"name": "a", "runtime": 1, "parents": "b"}], "task 'a': parents is no list"),
        ([{"name": "a", "runtime": 1}, {"name": "a", "runtime": 1}], "task 'a' is there twice"),
        ([{"runtime": 1}], "task 0 has neither an id nor a name"),
        ([{"name": "a", "runtime": 0}], "no task took any time"),
        ([], "there are no tasks"),
        (
            [{"name": "a", "runtime": 1, "parents": ["b"]}, {"name": "b", "runtime": 1, "parents": ["a"]}],
            "tasks wait for each other: a -> b -> a|tasks wait for each other: b -> a -> b",
        ),
    ],
)
def test_a_bad_trace_is_refused_by_the_task(tmp_path: Path, tasks: object, problem: str) -> None:
    with pytest.raises(BadTrace, match=problem):
        _trace(tmp_path, {"tasks": tasks})


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match="workflow"):
        _trace(tmp_path, [])


def test_the_order_of_a_graph_is_told_before_and_after_it_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    order.main(["--makespan", "0.05"])
    title, first, last = capsys.readouterr().out.splitlines()
    assert title == "24 short tasks before a chain of 8, on 4 workers: 0.05 s at least"
    assert re.fullmatch(r"  as its steps come: +\d+\.\d\d x the bound", first)
    assert re.fullmatch(r"  the longest way left first: +\d+\.\d\d x the bound", last)


def test_the_order_of_a_trace_can_be_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    order.main([str(MONTAGE), "--workers", "3", "--makespan", "0.05"])
    assert capsys.readouterr().out.startswith("montage-small, on 3 workers: 0.05 s at least")


def test_the_pages_of_the_dashboard_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert dashboard.main(["--executions", "10", "--steps", "20", "--times", "1", "--databases", "sqlite"]) == 0
    out = capsys.readouterr().out
    assert "| page | sqlite: 10 | ratio |" in out
    assert re.search(r"\| one of many steps \| \d+ ms \| [\d.]+ \|", out)


def test_a_fleet_is_measured_and_told_in_a_page(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SZAL_TEST_POSTGRES", server.url)
    (tmp_path / "page.md").write_text("before\n\n<!-- fleet -->\n\nold\n\n<!-- end of fleet -->\n")
    arguments = ["--workers", "1", "--flows", "3", "--into", f"{tmp_path / 'page.md'}#fleet"]
    assert fleet.main(arguments) == 0
    text = (tmp_path / "page.md").read_text()
    assert re.search(r"\n\| 1 \| [\d,]+ \| [\d,]+ \| 1.00 \|", text), text
    assert "old" not in text
    assert "times one" in capsys.readouterr().out


def test_processors_are_told_of_processes_of_this_machine(server: PostgresServer) -> None:
    taken = processors.seconds_of([os.getpid()])
    assert taken is None or taken > 0
    assert processors.seconds_of([]) is None
    with psycopg.connect(server.url) as connection:
        assert os.getpid() not in processors.server_of(connection)


def test_a_statement_is_told_by_its_name_however_the_server_writes_it() -> None:
    said = STATEMENTS.queue.claim.with_schema("bench_1_0.").replace("%s", "$1")
    assert statements.name_of(re.sub("= 0", "= $9", said)) == "`queue.claim`"
    assert (
        statements.name_of("SELECT something | else FROM bench_1_0.nowhere") == "`SELECT something / else FROM nowhere`"
    )
