"""The examples, killed in the middle at every place where they touch the world, and gone on with."""

import json
import runpy
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from durable.children import killed

import szal
from szal import Engine, StepStatus, WorkflowState

EXAMPLES = Path(__file__).parents[2] / "examples"
DIES_AT = """
    import json, runpy

    _, url, example, inputs, place, left = sys.argv
    flow = runpy.run_path(example + ".py")[example.rpartition("/")[2]]
    left = int(left)

    def die_at_the_place(event, arguments):
        global left
        if event in ("open", "sqlite3.connect", "urllib.Request") and place in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(die_at_the_place)
    flow.run(json.loads(inputs), store=url, execution_id="e", durability="step")
"""


def example(name: str) -> szal.Flow:
    flow: szal.Flow = runpy.run_path(str(EXAMPLES / f"{name}.py"))[name]
    return flow


def dies(url: str, name: str, inputs: dict[str, Any], place: str, at: int) -> None:
    """Have a process run an example that dies where it opens what has *place* in its name, the *at*-th time."""
    killed(DIES_AT, url, EXAMPLES / name, json.dumps(inputs), place, at)


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


@pytest.mark.parametrize(("place", "at"), [("eu.csv", 1), ("us.csv", 1), ("warehouse.db", 1)])
def test_the_etl_loads_each_order_once(store_url: str, tmp_path: Path, place: str, at: int) -> None:
    inputs = {"day": "2026-11-26", "warehouse": str(tmp_path / "warehouse.db")}
    dies(store_url, "etl", inputs, place, at)
    result = example("etl").run(inputs, store=store_url, execution_id="e")
    assert result["report"].output == "2026-11-26: 8 orders, 584.94 EUR"
    assert rows(tmp_path / "warehouse.db", "SELECT count(*), sum(euros) FROM orders") == [(8, 584.94)]


SHOP = "SELECT what FROM done ORDER BY what"


@pytest.fixture
def order(tmp_path: Path) -> dict[str, Any]:
    return {"order": 7, "article": "lamp", "euros": 30, "shop": str(tmp_path / "shop.db")}


def test_the_saga_ships_what_is_approved(store_url: str, order: dict[str, Any], tmp_path: Path) -> None:
    dies(store_url, "saga", order, "shop.db", 1)
    dies(store_url, "saga", order, "shop.db", 2)
    saga = example("saga")
    with Engine.open(store_url, saga) as engine:
        assert engine.run(saga, order, execution_id="e").state is WorkflowState.PAUSED
        engine.signal("e", "approve", True)
    dies(store_url, "saga", order, "shop.db", 1)
    result = saga.run(order, store=store_url, execution_id="e")
    assert result["ship"].output == "the lamp is on its way to 1 Main Street"
    assert rows(tmp_path / "shop.db", SHOP) == [("paid",), ("reserved",), ("shipped",)]


@pytest.mark.parametrize(
    "refusal",
    [(False, "1 Main Street", "nobody wants it to be shipped"), (True, "nowhere", "no such address")],
)
def test_the_saga_takes_back_what_is_not_shipped(
    store_url: str, order: dict[str, Any], tmp_path: Path, refusal: tuple[bool, str, str]
) -> None:
    answer, address, error = refusal
    saga, order = example("saga"), {**order, "address": address}
    with Engine.open(store_url, saga) as engine:
        engine.run(saga, order, execution_id="e")
        engine.signal("e", "approve", answer)
    dies(store_url, "saga", order, "shop.db", 1)  # before the refund
    dies(store_url, "saga", order, "shop.db", 2)  # and before the release
    result = saga.run(order, store=store_url, execution_id="e")
    assert result.state is WorkflowState.ROLLED_BACK
    assert result["ship"].error == f"GiveUp: {error}"
    assert rows(tmp_path / "shop.db", SHOP) == []


def picture(shade: int, width: int = 8, height: int = 4) -> bytes:
    return f"P6 {width} {height} 255\n".encode() + bytes([shade] * width * height * 3)


@pytest.mark.parametrize("at", [1, 9])
def test_the_thumbnailer_makes_those_that_are_missing(store_url: str, tmp_path: Path, at: int) -> None:
    for shade in range(12):
        (tmp_path / f"{shade:02}.ppm").write_bytes(picture(shade))
    small = tmp_path / "small"
    inputs = {"folder": str(tmp_path), "to": str(small)}
    dies(store_url, "thumbnails", inputs, ".part", at)
    thumbnails = example("thumbnails")
    with Engine.open(store_url, thumbnails) as engine:
        shown = engine.look("e").steps["shrink"].items or []
        done = [item.output for item in shown if item is not None and item.status is StepStatus.COMPLETED]
        before = {name: (small / name).stat().st_ino for name in done}
        result = engine.run(thumbnails, inputs, execution_id="e")
    assert result.success
    assert {name: (small / name).stat().st_ino for name in done} == before
    assert [(small / f"{shade:02}.ppm").read_bytes() for shade in range(12)] == [picture(n, 2, 1) for n in range(12)]
    assert (small / "index.html").read_text().count("<img") == 12


class Api(ThreadingHTTPServer):
    """Pages of three items, of which each is counted when it is asked for; the first request for *missing* fails."""

    def __init__(self, pages: int, missing: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.pages, self.missing, self.asked = pages, missing, Counter[int]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/1.json"


class _Answer(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        page = int(self.path.strip("/").partition(".")[0])
        self.server.asked[page] += 1
        if page == self.server.missing and self.server.asked[page] == 1:
            self.send_error(503)
            return
        body: dict[str, Any] = {"items": [f"{page}.{n}" for n in range(3)]}
        if page < self.server.pages:
            body["next"] = f"{page + 1}.json"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(5, missing=4) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_crawl_fetches_each_page_once(store_url: str, api: Api) -> None:
    dies(store_url, "crawl", {"url": api.url}, "2.json", 1)
    dies(store_url, "crawl", {"url": api.url}, "3.json", 1)
    result = example("crawl").run({"url": api.url}, store=store_url, execution_id="e")
    assert result["summary"].output == "15 items, from 1.0 to 5.2"
    assert result["items"].attempts == 2
    assert api.asked == {1: 1, 2: 1, 3: 1, 4: 2, 5: 1}
