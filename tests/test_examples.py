"""Every example runs as it is, and shows what it says it shows."""

import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import UNMEASURED

EXAMPLES = Path(__file__).parent.parent / "examples"
CLEAN = {key: value for key, value in UNMEASURED.items() if key != "COLUMNS"}


def output_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert output_of("ten_lines.py", capsys).splitlines() == [
        "build completed build done",
        "test completed test done",
        "lint completed lint done",
        "publish completed publish done",
    ]


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
