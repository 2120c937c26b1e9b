"""Executions as Server-Sent Events: what is in them, and servers whose threads are few."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from contrib.sites import Site, environment
from helper_engine import bounded, waited
from pairs import FULL
from processes import wait_until
from stores.postgres_server import PostgresServer
from web import Client, ask, free_port, running, served

from szal import Engine, EngineConfig, ExecutionNotFound, FlowDef, StepDef, open_store, sse_stream
from szal.contrib.streaming import Streams

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
FLOW = FlowDef("f", steps=[StepDef("a"), StepDef("b")])


def parsed(frame: str) -> tuple[str | None, str | None, Any]:
    """Return the event, the id and the data of a frame."""
    fields = dict(line.partition(": ")[::2] for line in frame.splitlines() if line)
    return fields.get("event"), fields.get("id"), json.loads(fields["data"]) if "data" in fields else None


@pytest.fixture
def gate() -> threading.Event:
    """The step b waits for it."""
    return threading.Event()


@pytest.fixture
def engine(gate: threading.Event) -> Iterator[Engine]:
    """An engine in whose flows a step that is called b waits."""

    def handler(ctx: Any) -> str:
        if ctx.step.name == "b":
            waited(gate)
        return "<b>\n"

    with Engine(handler, EngineConfig(execution_store=open_store("memory:"))) as engine:
        yield engine
        gate.set()


class TestStream:
    def test_begins_with_how_it_stands_tells_what_changes_and_ends(self, engine: Engine, gate: threading.Event) -> None:
        engine.start(FLOW, execution_id="e")
        stream = sse_stream(engine, "e", outputs=True)
        retry, frame = bounded(next, stream), bounded(next, stream)
        while parsed(frame)[2]["steps"].get("b", {}).get("status") != "running":
            frame = bounded(next, stream)
        assert (retry, parsed(frame)[0]) == ("retry: 1000\n\n", "status")
        gate.set()
        *_, last, end = bounded(list, stream)
        event, last_id, data = parsed(last)
        assert (event, data["state"], data["steps"]["b"]["output"]) == ("status", "completed", "<b>\n")
        assert "a" not in data["steps"]  # it has not changed since
        assert parsed(end) == ("end", last_id, {"execution_id": "e", "state": "completed"})

    def test_whoever_comes_back_is_told_nothing_twice_by_another_engine_either(self, engine: Engine) -> None:
        engine.run(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
        _, frame, _ = sse_stream(engine, "e")
        other = Engine([], EngineConfig(execution_store=engine.config.execution_store))
        known = parsed(frame)[1]
        assert [parsed(each)[0] for each in sse_stream(other, "e", known)] == [None, "end"]
        assert [parsed(each)[0] for each in sse_stream(other, "e", "another")] == [None, "status", "end"]
        assert sse_stream(other, "e", known).is_known
        assert not sse_stream(other, "e", "another").is_known

    def test_a_comment_comes_where_all_is_quiet(self, engine: Engine) -> None:
        engine.start(FLOW, execution_id="e")
        with sse_stream(engine, "e", keep_alive=0.01) as stream:
            assert any(bounded(next, stream) == ": still here\n\n" for _ in range(20))
        assert [*stream] == []

    def test_it_ends_after_its_time_without_an_end(self, engine: Engine) -> None:
        engine.start(FLOW, execution_id="e")
        frames = bounded(list, sse_stream(engine, "e", timeout=0.05))
        assert {parsed(frame)[0] for frame in frames} <= {None, "status"}

    def test_what_is_removed_ends_and_what_is_not_there_is_not_found(self, engine: Engine) -> None:
        store = engine.config.execution_store
        assert store is not None
        engine.run(FlowDef("f", steps=[StepDef("w", step_type="wait", config={"signal": "go"})]), execution_id="e")
        other = Engine([], EngineConfig(execution_store=store))
        stream = sse_stream(other, "e")
        assert parsed([next(stream), next(stream)][1])[2]["waits"] == [{"step": "w", "signal": "go", "until": None}]
        store.remove("e")
        event, _, data = parsed(bounded(list, stream)[-1])
        assert (event, data) == ("end", {"execution_id": "e", "state": None})
        with pytest.raises(ExecutionNotFound):
            sse_stream(engine, "e")

    def test_a_wrong_call_is_told(self, engine: Engine) -> None:
        with pytest.raises(ValueError, match="keep_alive must be positive"):
            sse_stream(engine, "e", keep_alive=0)


class TestStreams:
    def test_so_many_at_a_time_and_each_counts_until_it_is_closed_or_dropped(self, engine: Engine) -> None:
        engine.start(FLOW, execution_id="e")
        streams = Streams(lambda: 5)

        def status(*, is_threaded: bool = True) -> Any:
            return streams.open(lambda: sse_stream(engine, "e"), None, is_threaded=is_threaded)

        first, second = status(), status()
        assert [first.status, second.status, status().status] == [200, 200, 503]
        assert status().headers["Retry-After"] == "5"
        first.body.close()  # it was never begun
        first.body.close()
        third = status()
        assert (third.status, status().status) == (200, 503)
        next(third.body)
        del third, second
        assert [answer.status for answer in (status(is_threaded=False), status(), status())] == [503, 200, 200]

    def test_what_is_not_there_takes_no_place(self, engine: Engine) -> None:
        streams = Streams(lambda: 2)
        for _ in range(3):
            with pytest.raises(ExecutionNotFound):
                streams.open(lambda: sse_stream(engine, "none"), None, is_threaded=True)
        engine.run(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
        answer = streams.open(lambda: sse_stream(engine, "e"), None, is_threaded=True)
        frames = [*answer.body]
        known = parsed(frames[1])[1]
        for _ in range(2):
            assert streams.open(lambda: sse_stream(engine, "e", known), known, is_threaded=True).status == 204


class Tab:
    """A browser's tab: a connection that has asked for a stream."""

    def __init__(self, address: str, path: str, last: str | None = None) -> None:
        self.client = Client(address)
        more = {"Last-Event-ID": last} if last else {}
        self.client.request("GET", path, headers={"Host": "szal", "X-May": "look", **more})
        self.answer = self.client.getresponse()
        self.is_streamed = self.answer.status == 200

    def frames(self) -> Iterator[str]:
        """Yield what comes, until the server ends it."""
        lines = list[str]()
        while line := self.answer.readline().decode():
            lines.append(line)
            if line == "\n":
                yield "".join(lines)
                lines = []

    def close(self) -> None:
        """Leave, as a tab that is closed does."""
        self.answer.close()
        self.client.close()


GUNICORN = ["--worker-class=gthread", "--threads=4", "--graceful-timeout=5"]
SITES = {
    "flask": ("flask_site:app", 2, ["--workers=2", "--chdir", str(HERE)], {}),
    "django": ("django_site.wsgi", 1, ["--workers=1"], {"DJANGO_SETTINGS_MODULE": "django_site.settings"}),
}


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Site, int]]:
    """A server of so many processes, with four threads each."""
    app, processes, options, more = SITES[request.param]
    url = f"sqlite:///{tmp_path}/app.db"
    variables = environment(tmp_path, SZAL_STORE=url, DATABASE=url, **more)
    with served(app, *GUNICORN, *options, place=tmp_path, environment=variables) as address:
        yield Site(address, tmp_path), processes


def streamed(stack: ExitStack, site: Site, name: str, count: int) -> list[Tab]:
    """Open so many tabs, and return those that are streamed to; the others are told to poll."""
    tabs = [stack.enter_context(closing(Tab(site.address, f"/stream/{name}"))) for _ in range(count)]
    for tab in tabs:
        assert tab.answer.status in (200, 503)
        assert tab.is_streamed or tab.answer.headers["Retry-After"] == "5"
    return [tab for tab in tabs if tab.is_streamed]


def test_twenty_tabs_leave_a_server_of_four_threads_answering_and_each_process_sees_the_run(
    site: tuple[Site, int],
) -> None:
    twenty_tabs(*site)
    with once_noticed(site[0], "a", path="/szal/events/a") as tab:  # the dashboard's pages are told likewise
        *_, last, end = tab.frames()
    assert (parsed(last)[2], parsed(end)[0]) == ({"state": "completed"}, "end")
    with once_noticed(site[0], "a", parsed(end)[1], path="/szal/events/a") as tab:
        assert (tab.answer.status, tab.answer.read()) == (204, b"")


def twenty_tabs(site: Site, processes: int) -> None:
    """Open and close them."""
    site.begin("a")
    with ExitStack() as stack:
        open_tabs = streamed(stack, site, "a", 20)
        assert 2 <= len(open_tabs) <= 2 * processes
        while len(open_tabs) < 2 * processes:  # the others are full
            open_tabs += streamed(stack, site, "a", 4)
        assert len({tab.answer.headers["X-Process"] for tab in open_tabs}) == processes
        for _ in range(4 * processes):  # half of the threads of each process are left
            assert ask(site.address, "GET", "/status/a")["state"] == "running"
        site.go_on("a")
        for tab in open_tabs:  # whichever process it is
            assert any(parsed(frame)[2]["state"] == "paused" for frame in tab.frames() if "data:" in frame)
    with once_noticed(site, "a"):  # that the tabs are closed
        ask(site.address, "POST", "/walks/a/answer?later", "yes")
        site.await_state("a", "completed")
    with once_noticed(site, "a") as tab:
        *_, last, end = tab.frames()
    assert (parsed(last)[2]["state"], parsed(end)[0]) == ("completed", "end")
    with once_noticed(site, "a", parsed(end)[1]) as tab:
        assert tab.answer.status == 204


def once_noticed(site: Site, name: str, last: str | None = None, path: str | None = None) -> "closing[Tab]":
    """Return a tab that has a place: a server has to notice that others were closed."""

    def opened() -> Tab | None:
        time.sleep(0.1)  # asked again and again, it has no time for that
        tab = Tab(site.address, path or f"/stream/{name}", last)
        if tab.answer.status != 503:
            return tab
        tab.close()
        return None

    return closing(wait_until(opened, 30))


@pytest.mark.skipif(not FULL, reason="with SZAL_TEST_FULL=1")
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_so_it_is_on_waitress(server: PostgresServer, tmp_path: Path, kind: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    with server.temporary_schema() as schema:
        url = server.url_of(schema) if kind == "postgres" else f"sqlite:///{tmp_path}/szal.db"
        command = [sys.executable, "-m", "waitress", "--threads=4", f"--listen={address}", "flask_site:app"]
        variables = environment(tmp_path, SZAL_STORE=url)
        with running(command, place=tmp_path, environment=variables, address=address):
            twenty_tabs(Site(address, tmp_path), 1)
