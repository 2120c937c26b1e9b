"""Every example runs as it is, and shows what it says it shows."""

import ast
import re
import runpy
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from pairs import FULL
from processes import UNMEASURED, wait_until
from web import ask, free_port, running, send

from szal import StepStatus

pytestmark = pytest.mark.slow

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


def test_words_are_counted_on_a_dask_cluster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dask_address: str
) -> None:
    pytest.importorskip("distributed", reason="szal[dask] is not installed")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(sys, "argv", ["words_on_dask.py", dask_address])
    assert output_of("words_on_dask.py", capsys).splitlines() == [
        "counted elsewhere: True",
        "{'the': 4, 'fox': 3, 'dog': 3}",
    ]


@pytest.mark.skipif(not FULL, reason="begins a cluster: takes 5 s")
def test_so_they_are_on_a_cluster_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "words_on_dask.py")]
    done = subprocess.run(command, cwd=tmp_path, env=CLEAN, capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines()[-1] == "{'the': 4, 'fox': 3, 'dog': 3}", done.stderr


def test_workers_deliver_what_a_shop_has_submitted(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "orders_fleet.py")]
    done = subprocess.run(command, cwd=tmp_path, env=CLEAN, capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines() == [
        "sent: Emma for Ann",
        "sent: Ulysses for Bob",
        "sent: Dracula for Cyr",
    ], done.stderr


def test_etl_is_at_most_45_lines_of_code() -> None:
    text = (EXAMPLES / "etl.py").read_text()
    docstring = range(1, ast.parse(text).body[0].end_lineno + 1)  # type: ignore[operator]
    code = [line for number, line in enumerate(text.splitlines(), 1) if line.strip() and number not in docstring]
    assert len(code) <= 45


KILLED = """
import os, runpy, sys
sys.path.insert(0, {folder!r})
import shop
send = shop.send
def once_more(invoice, key):
    send(invoice, key)
    if invoice["customer"] == "cyr" and not os.path.exists("killed"):
        open("killed", "w").close()
        os._exit(9)  # it is sent, and nobody has noted that
shop.send = once_more
sys.argv = [{name!r}, "2026-11-26"]
runpy.run_path({folder!r} + "/" + {name!r}, run_name="__main__")
"""


@pytest.mark.parametrize("name", ["before.py", "after.py"])
def test_the_legacy_job_and_the_flow_go_on_after_a_kill_and_send_each_invoice_once(name: str, tmp_path: Path) -> None:
    code = KILLED.format(folder=str(EXAMPLES / "legacy"), name=name)
    command = [sys.executable, "-c", code]
    killed = subprocess.run(command, cwd=tmp_path, env=CLEAN, capture_output=True, text=True, timeout=60)
    assert killed.returncode == 9, killed.stderr
    for _ in range(2):  # the second one has nothing left to do
        done = subprocess.run(command, cwd=tmp_path, env=CLEAN, capture_output=True, text=True, timeout=60)
        assert done.stdout == "2026-11-26: 4 invoices, 455 EUR\n", done.stderr
    sent = [line.split()[1:] for line in (tmp_path / "outbox.txt").read_text().splitlines()]
    assert sent == [["ada", "120"], ["borg", "80"], ["cyr", "45"], ["dee", "210"]]


def test_primes_are_counted_in_child_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert output_of("primes.py", capsys) == "9592 primes below 100000\n"


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


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class TestFlaskApp:
    """Refunds that wait for an approval, served as the example says."""

    @pytest.fixture
    def address(self, tmp_path: Path) -> Iterator[str]:
        environment = CLEAN | {"SZAL_STORE": f"sqlite:///{tmp_path}/app.db", "PAUSE": "0"}
        app, host = str(EXAMPLES / "flask_app.py"), f"unix://{tmp_path}/http"
        command = [sys.executable, "-m", "flask", "--app", app, "run", "--host", host]
        with running(command, place=tmp_path, environment=environment) as address:
            yield address

    def post(self, address: str, path: str, **form: str) -> str:
        """Send a form, and return where that leads."""
        answer = send(address, "POST", path, urlencode(form), **FORM)
        assert answer.status == 303
        return answer.headers["Location"]

    def await_state(self, address: str, place: str, state: str) -> Any:
        def found() -> Any:
            shown = ask(address, "GET", place, Accept="application/json")
            return shown if shown["state"] == state else None

        return wait_until(found, 20)

    def test_a_refund_is_in_the_inbox_until_somebody_answers(self, address: str) -> None:
        assert "Ask for a refund" in send(address, "GET", "/").text
        assert send(address, "GET", "/refunds/none").status == 404
        assert "Nothing waits" in send(address, "GET", "/inbox").text
        assert "There is no execution yet" in send(address, "GET", "/szal/").text
        for _ in range(2):  # twice is as good as once
            place = self.post(address, "/refunds", order="lamp")
        waiting = wait_until(lambda: ask(address, "GET", "/inbox", Accept="application/json"), 20)
        assert waiting == [{"id": "refund-lamp", "step": "approved"}]
        assert "1 of 4 steps" in send(address, "GET", place).text
        assert "refund-lamp</a>: 40.0 EUR" in send(address, "GET", "/inbox").text
        assert self.post(address, "/inbox/refund-lamp", yes="1", by="ann") == place
        steps = self.await_state(address, place, "completed")["steps"]
        assert steps["mail"]["output"] == "mail about lamp: paid 40.00, approved by ann"

        place = self.post(address, "/refunds", order="desk")
        self.await_state(address, place, "paused")
        self.post(address, "/inbox/refund-desk", yes="", by="bob")
        steps = self.await_state(address, place, "completed")["steps"]
        assert steps["pay"]["status"] == "skipped"
        assert steps["mail"]["output"] == "mail about desk: there is no refund"


def test_the_django_shop_goes_on_with_an_order_whose_worker_was_killed_and_nobody_pays_twice(tmp_path: Path) -> None:
    """The server and the workers are begun with the commands that the example names."""
    manage, port = str(EXAMPLES / "django_shop" / "manage.py"), free_port()
    environment = CLEAN | {"SHOP": str(tmp_path / "shop.sqlite3"), "PORT": str(port), "PAUSE": "60"}
    work: dict[str, Any] = {"args": [sys.executable, manage, "szal_worker"], "cwd": tmp_path}
    with running([sys.executable, manage], place=tmp_path, environment=environment, address=f"127.0.0.1:{port}") as at:
        page = send(at, "GET", "/")
        token, cookie = re.findall(r'value="(\w+)"', page.text)[0], page.headers["Set-Cookie"].split(";")[0]
        form = {"article": "lamp", "euros": "7", "csrfmiddlewaretoken": token}
        assert send(at, "POST", "/orders", urlencode(form), Cookie=cookie, **FORM).status == 302
        shown = ask(at, "GET", "/orders/1")
        assert (shown["flow"], [*shown["steps"]]) == ("created", ["check", "pay", "ship"])
        assert "lamp, 7.00 EUR: new" in send(at, "GET", "/").text
        assert 'href="/szal/executions/order-1"' in send(at, "GET", "/szal/").text
        with subprocess.Popen(**work, env=environment, stdout=subprocess.DEVNULL) as worker:
            try:
                wait_until(lambda: ask(at, "GET", "/orders/1")["flow"] == "running", 40)
            finally:
                worker.kill()
    work["args"] += ["--until-idle"]
    done = subprocess.run(**work, env=environment | {"PAUSE": "0"}, capture_output=True, text=True)
    assert (done.returncode, "order-1 completed" in done.stdout) == (0, True), done.stdout + done.stderr
    with closing(sqlite3.connect(tmp_path / "shop.sqlite3")) as database:
        assert database.execute("SELECT article, state FROM shop_order").fetchall() == [("lamp", "shipped")]
        assert database.execute("SELECT euros FROM shop_payment").fetchall() == [(7,)]


@pytest.mark.timeout(120)
def test_the_demo_releases_szal_and_takes_a_release_back() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py")], capture_output=True, text=True, env=CLEAN, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "published: szal-" in done.stdout
    assert "published after the rollback: nothing" in done.stdout
    assert "nobody is listening" in done.stdout
