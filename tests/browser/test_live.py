"""Pages that follow what runs in another process: by events, and by asking where there are none."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from browser.page import Browser
from browser.shop import Gate, slow
from web import Client, send

from szal import Engine
from szal.contrib.web import pages, wsgi
from szal.contrib.web.server import THREADS
from szal.engine.execution import Execution

TOLD_ONLY = """
const later = setTimeout;
window.setTimeout = (then, milliseconds) => milliseconds < 1000 ? later(then, milliseconds) : 0;
"""
"""Whatever waits for a second or longer waits for ever: a page hears of changes by events, or not at all."""

SOURCES = """
window.sources = [];
window.hidden = []; // how they stood, each time that the page was hidden
document.addEventListener("visibilitychange", () => {
  if (document.hidden) setTimeout(() => hidden.push(sources.map((each) => each.readyState)), 0);
});
window.EventSource = class extends EventSource {
  constructor(address) {
    super(address);
    sources.push(this);
  }
};
"""


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """What the first step waits for."""
    return Gate(tmp_path / "gate")


@pytest.fixture
def run(engine: Engine, gate: Gate) -> Iterator[Execution]:
    """An execution, which runs in this process; the server only sees it."""
    execution = engine.start(slow, {"gate": str(gate.path)}, execution_id=f"live-{uuid.uuid4().hex[:8]}")
    yield execution
    gate.open()
    execution.wait(30)


def address_of(run: Execution) -> str:
    return f"/executions/{run.execution_id}"


def finish(run: Execution, gate: Gate) -> None:
    gate.open()
    assert run.result(timeout=30).success


def states(browser: Browser) -> list[int]:
    """Return how the streams of the page stand: 0 that is to come, 1 open, 2 closed."""
    found: list[int] = browser.driver.execute_script("return sources.map((each) => each.readyState)")
    return found


def until_it_has_ended(browser: Browser) -> None:
    browser.until("✓completed", "through and done")
    browser.wait(lambda: not browser.all("main[data-live]:not([data-live=''])"))


def test_a_run_elsewhere_is_followed_from_its_start_to_its_end_by_events_alone(
    browser: Browser, run: Execution, gate: Gate
) -> None:
    with browser.with_script(TOLD_ONLY + SOURCES):
        browser.go(address_of(run))
        browser.wait(lambda: states(browser) == [1])
        browser.driver.execute_script("window.isTheSame = true")
        finish(run, gate)
        until_it_has_ended(browser)
        assert browser.driver.execute_script("return isTheSame")
        assert states(browser) == [2]


def test_a_tab_that_is_hidden_lets_go_of_its_stream_and_takes_it_up_again(
    browser: Browser, run: Execution, gate: Gate
) -> None:
    with browser.with_script(TOLD_ONLY + SOURCES):
        browser.go(address_of(run))
        here = browser.driver.current_window_handle
        browser.wait(lambda: states(browser) == [1])
        with browser.tabs(["/waiting"]):
            finish(run, gate)
            browser.show(here)
            until_it_has_ended(browser)
            assert browser.driver.execute_script("return hidden[0]") == [2]


HELD_BACK = """
window.EventSource = class extends EventTarget {
  readyState = 1;
  constructor() {
    super();
    setTimeout(() => this.dispatchEvent(new Event("open")), 0);
  }
  close() {}
};
"""
"""As it is behind a proxy that keeps what comes, but for the head."""


@pytest.mark.parametrize("script", ["delete window.EventSource", HELD_BACK], ids=["none", "held back"])
def test_without_events_the_page_asks(browser: Browser, run: Execution, gate: Gate, script: str) -> None:
    with browser.with_script(script):
        browser.go(address_of(run))
        browser.until("▶running", "first")
        finish(run, gate)
        until_it_has_ended(browser)


def test_where_as_many_are_streamed_to_as_may_be_the_page_asks(
    browser: Browser, address: str, run: Execution, gate: Gate
) -> None:
    with ExitStack() as stack:
        count = sum(streamed(stack, address, run) for _ in range(20))
        assert count <= THREADS // 2
        with browser.with_script(SOURCES):
            browser.go(address_of(run))
            browser.wait(lambda: states(browser) == [2])
            finish(run, gate)
            until_it_has_ended(browser)


def streamed(stack: ExitStack, address: str, run: Execution) -> bool:
    """Ask for a stream, and keep it; return whether it is one."""
    client = stack.enter_context(closing(Client(address.removeprefix("http://"))))
    client.request("GET", f"/events/{run.execution_id}", headers={"Host": "localhost"})
    answer = stack.enter_context(closing(client.getresponse()))
    assert answer.status in (200, 503)
    return answer.status == 200


def test_twenty_tabs_leave_the_server_answering_and_all_see_the_end(
    browser: Browser, address: str, run: Execution, gate: Gate
) -> None:
    with browser.tabs([address_of(run)] * 20) as tabs:
        for path in ("/", "/waiting", "/flows/slow"):
            assert send(address.removeprefix("http://"), "GET", path, Host="localhost").status == 200
        finish(run, gate)
        for tab in tabs:
            browser.show(tab)
            until_it_has_ended(browser)


def test_a_stream_that_is_cut_is_taken_up_where_it_was(
    browser: Browser, engine: Engine, run: Execution, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a server of this process, each of whose streams lasts a moment."""
    from waitress.server import create_server

    monkeypatch.setattr(pages, "LONGEST", 0.2)
    app = wsgi(lambda: engine)
    known = list[str | None]()
    app.before_request(lambda: known.append(last_of()))
    connections: dict[int, Any] = {}
    server = create_server(app, map=connections, host="127.0.0.1", port=0, threads=8)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        with browser.with_script(SOURCES):
            browser.driver.get(f"http://127.0.0.1:{server.effective_port}{address_of(run)}")
            browser.wait(lambda: len([each for each in known if each]) >= 2, "a browser that comes back")
            assert len(states(browser)) == 1
            finish(run, gate)
            until_it_has_ended(browser)
    finally:
        for each in [*connections.values()]:
            each.close()
        thread.join(20)


def last_of() -> str | None:
    """Return what the browser has, of a request that it makes again by itself."""
    from flask import request

    return request.headers.get("Last-Event-ID")
