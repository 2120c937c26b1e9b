"""The examples of docs/recipes.md that outlive their processes, as whole files in processes of their own."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import wait_until
from web import ask, served

import szal

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(szal.__file__).parents[1])}


@contextmanager
def reading(fifo: Path, then: str) -> Iterator[None]:
    """Wait until a step reads *fifo*, which keeps it busy within the block; who reads it again finds *then* in it."""
    writer = wait_until(lambda: _opened(fifo), 30)
    try:
        file = fifo.with_suffix(".new")
        file.write_text(then)
        file.replace(fifo)
        yield
    finally:
        os.close(writer)


def _opened(fifo: Path) -> int | None:
    """Return a descriptor to write to *fifo*, if there is a reader."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


class TestWebApp:
    @pytest.fixture
    def inbox(self, tmp_path: Path) -> Path:
        """Where files are imported from; reading today.csv takes until something is written to it."""
        inbox = tmp_path / "inbox"
        inbox.mkdir()
        os.mkfifo(inbox / "today.csv")
        return inbox

    @pytest.fixture
    def address(self, tmp_path: Path, store_url: str, inbox: Path) -> Iterator[str]:
        """Where gunicorn serves the app with two workers, forked from a process that has loaded it."""
        pytest.importorskip("gunicorn")
        settings = {"SZAL_STORE": store_url, "INBOX": str(inbox), "RECOVER_EVERY": "0.1"}
        config = tmp_path / "gunicorn.conf.py"
        config.write_text(TELLING.format(example=str(EXAMPLES / "gunicorn.conf.py"), file=str(tmp_path / "draining")))
        options = ["--workers=2", "--graceful-timeout=5", "--chdir", str(EXAMPLES), "--config", str(config)]
        with served("recovering_app:app", *options, place=tmp_path, environment=ENVIRONMENT | settings) as address:
            yield address

    def test_another_worker_goes_on_with_what_a_killed_one_left(
        self, address: str, inbox: Path, store_url: str
    ) -> None:
        killed = ask(address, "POST", "/imports/today.csv")["worker"]
        with reading(inbox / "today.csv", then="one\ntwo\n"):
            os.kill(killed, signal.SIGKILL)
            shown = wait_until(lambda: is_completed(address), 20)
        assert shown["outputs"]["load"]["lines"] == 2
        assert shown["outputs"]["accept"]["process"] == killed, "a step that has ended is not run again"
        assert shown["outputs"]["load"]["process"] != killed
        with szal.open_store(store_url) as store:  # who shows it may not have committed it yet
            wait_until(lambda: store.get("today.csv").state.is_terminal, 20)
        assert ask(address, "POST", "/imports/today.csv")["import"] == "today.csv"
        assert ask(address, "GET", "/imports/today.csv") == shown

    def test_a_worker_that_is_told_to_end_lets_its_step_end_and_another_goes_on(
        self, address: str, inbox: Path, tmp_path: Path
    ) -> None:
        told = ask(address, "POST", "/imports/today.csv")["worker"]
        with reading(inbox / "today.csv", then="one\ntwo\n"):
            os.kill(told, signal.SIGTERM)
            wait_until((tmp_path / "draining").exists, 20)
        shown = wait_until(lambda: is_completed(address), 20)
        assert shown["outputs"]["load"] == {"process": told, "lines": 0}
        assert shown["outputs"]["announce"]["process"] != told


TELLING = """
import runpy, threading
from pathlib import Path
from szal import EngineClosed

example = runpy.run_path({example!r})

def worker_exit(server, worker):
    def tell():
        from recovering_app import engine
        while True:
            try:
                engine.recover(limit=0)
            except EngineClosed:
                Path({file!r}).touch()
                return

    threading.Thread(target=tell, daemon=True).start()
    example["worker_exit"](server, worker)
"""
"""The example's settings; in a worker that has closed its engine a file is made."""


def is_completed(address: str) -> Any:
    shown = ask(address, "GET", "/imports/today.csv")
    return shown if shown["state"] == "completed" else None


class TestCronScript:
    def call(self, place: Path) -> "subprocess.Popen[str]":
        command = [sys.executable, str(EXAMPLES / "cron_report.py"), "2026-06-10"]
        return subprocess.Popen(command, cwd=place, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)

    def test_killed_in_the_middle_the_next_call_goes_on_and_a_third_does_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "orders.txt").write_text("20\n30\n")
        os.mkfifo(tmp_path / "payments.txt")
        with self.call(tmp_path) as first, reading(tmp_path / "payments.txt", then="15\n"):
            first.kill()
            assert first.wait(20) == -signal.SIGKILL
        for _ in range(2):
            with self.call(tmp_path) as call:
                assert call.communicate(timeout=20)[0].strip() == "completed"
                assert call.returncode == 0
        assert (tmp_path / "report.log").read_text().splitlines() == ["read orders", "read payments"]
        assert (tmp_path / "report-2026-06-10.txt").read_text() == "still to be paid: 35\n"

    def test_told_to_end_it_lets_its_step_end_and_the_next_call_goes_on_after_that(self, tmp_path: Path) -> None:
        (tmp_path / "orders.txt").write_text("20\n30\n")
        os.mkfifo(tmp_path / "payments.txt")
        with self.call(tmp_path) as first:
            with reading(tmp_path / "payments.txt", then="15\n"):
                first.terminate()  # before what it reads ends
            assert first.communicate(timeout=20)[0].strip() == "running the engine was closed"
            assert first.returncode == 1
        with self.call(tmp_path) as call:
            assert call.communicate(timeout=20)[0].strip() == "completed"
        assert (tmp_path / "report.log").read_text().splitlines() == ["read orders", "read payments"]
        assert (tmp_path / "report-2026-06-10.txt").read_text() == "still to be paid: 50\n"


def test_an_approval_needs_no_process_while_it_waits(sqlite_url: str) -> None:
    def approval(*arguments: str) -> str:
        command = [sys.executable, str(EXAMPLES / "approval.py"), *arguments]
        environment = ENVIRONMENT | {"SZAL_STORE": sqlite_url}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=20)
        return done.stdout

    assert approval("ask", "refund-7", "30") == "please approve 30\npaused\n"
    assert approval("approve", "refund-7", "ann") == ""
    assert approval("work") == "paid 30, approved by ann\n"
