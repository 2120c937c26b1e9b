"""Every example runs as it is, and shows what it says it shows."""

import ast
import runpy
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from processes import UNMEASURED

from szal import StepStatus

EXAMPLES = Path(__file__).parent.parent / "examples"
CLEAN = {key: value for key, value in UNMEASURED.items() if key != "COLUMNS"}


def output_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert output_of("ten_lines.py", capsys).splitlines() == [
        "build completed app-7.whl",
        "test completed tested app-7.whl",
        "lint completed app-7.whl has no complaints",
        "publish completed app-7.whl is in prod",
    ]


def test_etl_loads_each_order_once_and_takes_a_bad_day_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    etl = runpy.run_path(str(EXAMPLES / "etl.py"))["etl"]
    for _ in range(2):
        result = etl.run({"day": "2026-11-26"}, store="sqlite:///etl.db")
        assert result["report"].output == "2026-11-26: 8 orders, 584.94 EUR"
    assert [len(item.output) for item in result["clean"].items] == [3, 3, 2]
    with closing(sqlite3.connect("warehouse.db")) as warehouse:
        assert warehouse.execute("SELECT count(*), sum(euros) FROM orders").fetchone() == (8, 584.94)
    assert etl.run({"day": "2026-11-25"})["load"].status is StepStatus.ROLLED_BACK


def test_etl_is_at_most_45_lines_of_code() -> None:
    text = (EXAMPLES / "etl.py").read_text()
    docstring = range(1, ast.parse(text).body[0].end_lineno + 1)  # type: ignore[operator]
    code = [line for number, line in enumerate(text.splitlines(), 1) if line.strip() and number not in docstring]
    assert len(code) <= 45


def test_thumbnails_are_made_of_the_photos_that_ship(tmp_path: Path) -> None:
    result = runpy.run_path(str(EXAMPLES / "thumbnails.py"))["thumbnails"].run({"to": str(tmp_path)})
    assert result["shrink"].output == ["dawn.ppm", "dusk.ppm", "noon.ppm"]
    assert (tmp_path / "noon.ppm").read_bytes().startswith(b"P6 8 6 255\n")


def test_the_crawl_reads_the_pages_that_ship() -> None:
    result = runpy.run_path(str(EXAMPLES / "crawl.py"))["crawl"].run()
    assert result["summary"].output == "8 items, from anchor to hammer"


def test_mirrors_installs_from_the_first_that_answers(capsys: pytest.CaptureFixture[str]) -> None:
    shown = output_of("mirrors.py", capsys)
    assert "installed szal-0.1.0.whl" in shown
    assert "ConnectionError: mirror-a is down" in shown
    assert "some mirror needs looking after" in shown


def test_retry_and_rollback_leaves_the_account_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    shown = output_of("retry_and_rollback.py", capsys)
    assert shown.count("step_retry") == 2
    assert shown.index("step_rollback      pay") < shown.index("step_rollback      reserve")
    assert shown.endswith("rolled_back - step 'ship' failed: GiveUp: no such address\n{'paid': 0, 'reserved': 0}\n")


def test_cancel_from_another_thread(capsys: pytest.CaptureFixture[str]) -> None:
    assert output_of("cancel_from_another_thread.py", capsys).splitlines() == [
        "cancelled",
        "sleep completed was woken",
        "breakfast skipped cancelled",
    ]


def test_flask_app_answers_at_once_and_shows_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SZAL_STORE", f"sqlite:///{tmp_path}/app.db")
    module = runpy.run_path(str(EXAMPLES / "flask_app.py"))
    client = module["app"].test_client()
    assert client.get("/executions/none").status_code == 404
    answer = client.post("/reports/7")
    assert answer.status_code == 202
    deadline = time.monotonic() + 20
    shown = {"state": "running"}
    while shown["state"] == "running" and time.monotonic() < deadline:
        shown = client.get(f"/executions/{answer.json['execution']}").json
    assert shown["state"] == "completed"
    assert shown["steps"] == dict.fromkeys(("invoices", "payments", "complaints", "mail"), "completed")
    module["sink"].close()
    module["store"].close()


def test_the_demo_releases_szal_and_takes_a_release_back() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py")], capture_output=True, text=True, env=CLEAN, timeout=55
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "published: szal-" in done.stdout
    assert "published after the rollback: nothing" in done.stdout
    assert "nobody is listening" in done.stdout
