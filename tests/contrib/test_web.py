"""The dashboard: what each page shows, what it does when told to, what it refuses. tests/browser looks at it."""

import html
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, abort, redirect
from processes import wait_until

import szal
from szal import Engine, ExecutionRecord, FlowDef, FlowResult, StepDef, StepResult, WorkflowState, open_store
from szal.clock import utc_now
from szal.contrib.flask import Szal
from szal.contrib.web import blueprint, wsgi
from szal.contrib.web.rendering import POLICY
from szal.contrib.web.server import protect
from szal.model.state import StepStatus

HOSTILE = "<script>alert(1)</script>\"'&</title><img src=x onerror=alert(2)>\u202e\x1b[31m"


class Shop:
    """A dashboard with actions, and what it shows: in memory."""

    def __init__(self) -> None:
        self.store = open_store("memory:")
        self.fails = True
        flow = szal.Flow("order")

        @flow.step
        def check(number: int) -> dict[str, int]:
            return {"number": number}

        flow.add_step(StepDef("approved", step_type="wait", config={"signal": "answer"}), needs=check)

        @flow.step(needs=approved_of(flow))
        def pay(check: Any, approved: Any) -> str:
            if self.fails:
                raise ConnectionError("the bank does not answer")
            return f"paid for {check['number']}, approved by {approved['by']}"

        once = szal.Flow("transfer")

        @once.step(idempotent=False)
        def move(ctx: szal.StepContext) -> None:
            raise szal.UnknownOutcome("the bank has hung up")

        each = szal.Flow("pack")

        @each.step(foreach=[1, 2, 3])
        def box(item: int) -> int:
            return 6 // (item - 2)

        self.flow, self.once, self.each = flow, once, each
        self.engine = Engine.open(self.store, flow, once, each)
        self.app = wsgi(self.engine, actions=True, secret_key="k")
        self.client = self.app.test_client()

    def order(self, name: str = "order-1", *, answered: bool = True) -> None:
        """Run an order, which fails where the bank does not answer; one that is not answered waits."""
        if answered:
            self.engine.run(self.flow, {"number": 7}, execution_id=name, labels={"team": "a"})
            self.engine.signal(name, "answer", {"by": "ann"})
            self.engine.resume(name)
        else:
            self.engine.run(self.flow, {"number": 7}, execution_id=name, labels={"team": "b"})

    def text(self, path: str, status: int = 200) -> str:
        """Return what a page says, without its tags."""
        answer = self.client.get(path)
        assert answer.status_code == status, answer.text
        return text_of(answer.text)

    def post(self, path: str, page: str, **fields: Any) -> Any:
        """Send a form as *page* has it, with its token."""
        token = re.search(r'name="csrf_token" value="([^"]+)"', self.client.get(page).text)
        assert token, page
        return self.client.post(path, data={"csrf_token": html.unescape(token[1]), **fields})


def approved_of(flow: szal.Flow) -> Any:
    """Return the step of a flow that was added last."""
    return flow.definition.steps[-1]


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    with made.engine:
        yield made


def saved(name: str, minutes: float, flow: str = "nightly", **fields: Any) -> ExecutionRecord:
    """Return a record of an execution that began so many minutes ago, and took a second."""
    began = utc_now() - timedelta(minutes=minutes)
    state = fields.pop("state", WorkflowState.COMPLETED)
    ended = None if state.is_live else began + timedelta(seconds=1)
    return ExecutionRecord(name, flow, state, None, began, ended, **fields)


class TestTheListOfExecutions:
    @pytest.fixture
    def listed(self, shop: Shop) -> Shop:
        for number in range(120):
            state = WorkflowState.FAILED if number % 10 == 0 else WorkflowState.COMPLETED
            error = f"step 'load' failed: KeyError: {number}" if number % 10 == 0 else None
            flow, labels = ("nightly", "hourly")[number % 2], {"team": "ab"[number % 3 == 0]}
            shop.store.save(saved(f"e{number:03}", number, flow, state=state, error=error, labels=labels))
        return shop

    def ids(self, shop: Shop, path: str) -> list[str]:
        return re.findall(r'href="/executions/([^"]+)"', shop.client.get(path).text)

    def test_pages_follow_each_other_and_miss_none(self, listed: Shop) -> None:
        found, path = list[str](), "/"
        while path:
            found += self.ids(listed, path)
            more = re.search(r'rel="next" href="([^"]+)"', listed.client.get(path).text)
            path = f"/{html.unescape(more[1])}" if more else ""
        assert found == [f"e{number:03}" for number in range(120)]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("?flow=hourly", range(1, 120, 2)),
            ("?state=failed", range(0, 120, 10)),
            ("?state=failed&state=completed&flow=nightly&label=team%3Db", range(0, 120, 6)),
            ("?since=10m", range(10)),
            ("?until=1h50m", range(110, 120)),
            ("?error=keyerror: 5", [50]),
            ("?flow=none", []),
        ],
    )
    def test_filters(self, listed: Shop, query: str, expected: Any) -> None:
        assert self.ids(listed, f"/{query}") == [f"e{number:03}" for number in [*expected][:50]]

    def test_states_are_counted_within_the_other_filters(self, listed: Shop) -> None:
        counts = {state: int(count) for state, count in re.findall(r"(\w+) <b>(\d+)</b>", listed.client.get("/").text)}
        assert counts == {"completed": 108, "failed": 12}
        page = listed.client.get("/?flow=hourly&state=completed").text
        assert dict(re.findall(r"(\w+) <b>(\d+)</b>", page)) == {"completed": "60"}

    def test_what_is_no_state_time_or_label_is_told_and_filters_nothing(self, listed: Shop) -> None:
        said = listed.text("/?since=soon&label=team&state=done")
        assert "state: 'done' is none of created, running," in said
        assert "'soon' is no time" in said
        assert "'team' is no label" in said

    def test_plots_say_in_words_what_they_show(self, listed: Shop) -> None:
        page = listed.client.get("/").text
        assert 'aria-label="Executions a minute over time: 120 in all, 12 failed"' in page
        assert 'aria-label="Durations over time: 50 % 1.0s, 95 % 1.0s"' in page

    def test_an_empty_store(self, shop: Shop) -> None:
        assert "There is no execution yet." in shop.text("/")
        assert "Nothing waits for anybody." in shop.text("/waiting")


class TestOneExecution:
    def test_steps_errors_inputs_and_labels(self, shop: Shop) -> None:
        shop.order()
        said = shop.text("/executions/order-1")
        for part in ("✗ failed order-1", "ConnectionError: the bank does not answer", "number 7", "team=a"):
            assert part in said
        assert '{"number": 7}' in said  # the output of the first step
        assert "Traceback" in said
        assert "in pay" in said

    def test_steps_with_the_same_error_are_told_of_together(self) -> None:
        steps = [StepDef(f"s{number:02}") for number in range(60)]

        def handler(ctx: szal.StepContext) -> None:
            number = int(ctx.step.name[1:])
            if number < 15:
                raise OSError("the disk is full")
            if number >= 30:
                raise KeyError(number)

        with Engine.open("memory:", handler) as engine:
            engine.run(FlowDef("f", szal.FlowMode.PARALLEL, steps=steps), execution_id="e")
            page = wsgi(engine).test_client().get("/executions/e").text
        said = text_of(page[page.index('id="failures"') : page.index('<div id="graph"')])
        assert "failed s00 OSError: the disk is full Traceback" in said
        assert "The same in 14 other steps: s01 , s02 ," in said
        assert "s10 , … all that failed" in said
        assert said.endswith("and 11 other errors: all that failed")

    def test_what_a_step_reported_stands_at_the_step(self) -> None:
        gate, is_told = threading.Event(), threading.Event()

        def handler(ctx: szal.StepContext) -> None:
            ctx.report({"done": 3, "of": 10})
            is_told.set()
            assert gate.wait(30)

        with Engine.open("memory:", handler, share_progress=True) as engine:
            run = engine.start(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
            assert is_told.wait(30)
            said = text_of(wsgi(engine).test_client().get("/executions/e").text)
            gate.set()
            assert run.result(30).success
        assert re.search(r'▶ running a .*\d \{"done": 3, "of": 10\}', said)

    def test_what_is_submitted_has_not_started(self, shop: Shop) -> None:
        shop.engine.submit(shop.each, execution_id="s", labels={"team": "a b"})
        said = shop.text("/executions/s")
        assert "○ created s Submitted 20" in said
        assert "Start Cancel" in said
        assert 'href="/?label=team%3Da+b"' in shop.client.get("/executions/s").text
        assert 'name="label" value="team=a b"' in shop.client.get("/?label=team%3Da+b").text

    def test_items_that_failed_come_before_the_others(self, shop: Shop) -> None:
        shop.engine.run(shop.each, execution_id="p")
        said = shop.text("/executions/p")
        assert "3 items: ✓ 2 completed ✗ 1 failed what did not complete 1 ✗ failed" in said
        assert "completed 0 ✓ completed" in said

    def test_parents_and_reruns_lead_to_each_other(self, shop: Shop) -> None:
        shop.order()
        shop.engine.rerun("order-1", new_id="order-1b")
        assert "Reruns ✗ failed order-1b" in shop.text("/executions/order-1")
        assert "Rerun of order-1" in shop.text("/executions/order-1b")

    def test_sub_flows_stand_at_their_steps(self) -> None:
        part = FlowDef("part", steps=[StepDef("inner")])
        whole = FlowDef("whole", steps=[StepDef("call", step_type="sub_flow", config={"flow_name": "part"})])
        catalogue = szal.InMemoryStorage((part,))
        with Engine.open("memory:", lambda ctx: 1, storage=catalogue) as engine:
            engine.run(whole, execution_id="w")
            client = wsgi(engine).test_client()
            page = client.get("/executions/w").text
            child = re.search(r'href="/executions/([0-9a-f-]{36})"', page)
            assert child
            assert "Sub-flow of w" in text_of(client.get(f"/executions/{child[1]}").text)

    def test_attempts_and_the_waits_between_them_are_drawn(self) -> None:
        left = [ValueError("one"), ValueError("two")]

        def handler(_: Any) -> str:
            if left:
                raise left.pop()
            return "done"

        with Engine.open("memory:", handler) as engine:
            step = StepDef("try", max_retries=2, retry_delay=0.001)
            engine.run(FlowDef("trying", steps=[step]), execution_id="t")
            page = wsgi(engine).test_client().get("/executions/t").text
        bars = re.search(r'<svg class="bars".*?</svg>', page, re.DOTALL)
        assert bars
        classes = re.findall(r'<rect class="([^"]+)"', bars[0])
        assert classes == ["b s-failed", "b-waiting", "b s-failed", "b-waiting", "b s-completed"]
        assert "3 attempts" in page

    def test_when_a_step_and_its_items_were_undone_is_drawn_and_told(self) -> None:
        flow = szal.Flow("undone", rollback_on_failure=True)

        @flow.step(foreach=[1, 2])
        def each(item: int) -> int:
            return item

        @each.rollback
        def take_back(item: int) -> None: ...

        @flow.step(needs=each, max_retries=1, retry_delay=0.001)
        def one() -> None: ...

        @one.rollback
        def undo(ctx: szal.StepContext) -> None:
            if ctx.attempt == 1:
                raise OSError(HOSTILE)

        @flow.step(needs=one)
        def boom() -> None:
            raise ValueError("no")

        with Engine.open("memory:", flow) as engine:
            engine.run(flow, execution_id="u")
            page = wsgi(engine).test_client().get("/executions/u").text
        bars = re.findall(r'<svg class="bars".*?</svg>', page, re.DOTALL)
        classes = [re.findall(r'<rect class="([^"]+)"', each) for each in bars]
        assert classes[0].count("b undo s-rolled_back") == 2
        assert classes[1] == ["b s-completed", "b undo s-failed", "b-waiting", "b undo s-rolled_back"]
        assert "2 attempts to undo it" in page
        assert HOSTILE not in page

    def test_of_many_steps_it_shows_some_and_those_in_a_state(self) -> None:
        steps = [StepDef(f"s{number}") for number in range(450)]
        flow = FlowDef("many", szal.FlowMode.PARALLEL, steps=steps)

        def handler(ctx: szal.StepContext) -> int:
            return 1 // (ctx.step.name not in ("s7", "s449"))

        with Engine.open("memory:", handler) as engine:
            engine.run(flow, execution_id="m")
            client = wsgi(engine).test_client()

            def names(query: str) -> list[str]:
                return re.findall(r'<th scope="row"><bdi>(\w+)</bdi>', client.get(f"/executions/m{query}").text)

            assert names("") == [f"s{number}" for number in range(100)]
            assert names("?first=400") == [f"s{number}" for number in range(400, 450)]
            assert names("?steps=failed") == ["s7", "s449"]

    def test_long_outputs_are_folded_and_can_be_had_whole(self) -> None:
        with Engine.open("memory:", lambda ctx: "x" * 30_000 + "end") as engine:
            engine.run(FlowDef("long", steps=[StepDef("say")]), execution_id="l")
            client = wsgi(engine).test_client()
            page = client.get("/executions/l").text
            assert "xend" not in page
            assert '<details id="o-0">' in page
            answer = client.get("/outputs/l?step=say")
            assert answer.text.endswith("xend")
            assert answer.content_type == "text/plain; charset=utf-8"
            assert client.get("/outputs/l?step=nothing").status_code == 404

    def test_what_is_not_there(self, shop: Shop) -> None:
        assert "There is no such execution" in shop.text("/executions/none", 404)
        assert "There is no execution of this flow" in shop.text("/flows/none", 404)
        assert shop.client.get("/none").status_code == 404

    def test_what_szal_rs_has_recorded(self, shop: Shop) -> None:
        steps = [StepResult(f"{number:032x}", "", StepStatus.COMPLETED, {"rows": number}) for number in range(2)]
        result = FlowResult("import", steps, 1.5)
        shop.store.save(ExecutionRecord("rs", "import", WorkflowState.COMPLETED, result))
        said = shop.text("/executions/rs")
        assert f"{0:032x}" in said
        assert '{"rows": 1}' in said
        assert "Slowest steps" not in shop.text("/flows/import")

    @pytest.mark.parametrize(
        "path",
        ["/?flow=%00&label=a%00=b&error=%00", "/?after=2026%00~x", "/?after=x", "/?since=9999999d"],
    )
    def test_what_no_page_has_as_a_link_is_answered_too(self, shop: Shop, path: str) -> None:
        assert shop.client.get(path).status_code == 200

    @pytest.mark.parametrize("path", ["/executions/%00", "/flows/%00", "/flows/%ED%A0%80", "/outputs/%00", "/graphs/x"])
    def test_what_no_store_can_hold_is_not_there(self, shop: Shop, path: str) -> None:
        assert shop.client.get(path).status_code == 404

    @pytest.mark.parametrize(
        "name", ["a/b", "nightly@2026-11-26T02:00:00+00:00", "a//b/resume", "ö 100%?#", "/data/x.csv", "//a", "a\nb"]
    )
    def test_any_id_has_a_page(self, shop: Shop, name: str) -> None:
        shop.store.save(saved(name, 1))
        (path,) = set(re.findall(r'href="(/executions/[^"]+)"', shop.client.get("/").text))
        assert " ".join(name.split()) in shop.text(html.unescape(path))


class TestAFlow:
    def test_its_definitions_and_how_they_differ(self) -> None:
        with Engine.open("memory:", lambda ctx: 1) as engine:
            engine.run(FlowDef("f", steps=[StepDef("a"), StepDef("old")]), execution_id="e1")
            later = FlowDef(
                "f", version=2, steps=[StepDef("a"), StepDef("ask", step_type="wait", config={"signal": "x"})]
            )
            engine.run(later, execution_id="e2")
            said = text_of(wsgi(engine).test_client().get("/flows/f").text)
        assert re.search(r"Version 2 .* 1 in flight.*version 1 -> 2.*step 'old' was removed.*step 'ask' is new", said)
        assert re.search(r"Version 1 \w+ 1 of the newest executions, none in flight", said)

    def test_how_often_it_succeeds_and_what_takes_long(self, shop: Shop) -> None:
        for number, fails in enumerate((True, False, False, False)):
            shop.fails = fails
            shop.order(f"o{number}")
        said = shop.text("/flows/order")
        assert "Succeeded 75.0 %" in said
        assert "Slowest steps" in said
        assert re.search(r"pay \d+ms \d+ms 4 1", said)


class TestWhatWaits:
    def test_the_oldest_comes_first_and_what_waits_for_nobody_is_left_out(self, shop: Shop) -> None:
        shop.order("order-1", answered=False)
        shop.order("order-2", answered=False)
        shop.engine.run(shop.once, execution_id="t")
        with Engine.open(shop.store, lambda ctx: engine.pause("sleepy")) as engine:
            engine.run(FlowDef("sleepy", steps=[StepDef("a"), StepDef("b")]), execution_id="sleepy")
        said = shop.text("/waiting")
        places = [said.index(name) for name in ("order-1", "order-2", "step move may have been done or not")]
        assert places == sorted(places)
        assert "sleepy" not in said

    def test_what_waits_for_what_others_have_says_so(self) -> None:
        gate = threading.Event()

        def handler(ctx: szal.StepContext) -> None:
            assert gate.wait(30)

        keyed = FlowDef("keyed", steps=[StepDef("a")], concurrency_key="customer-7")
        flow = FlowDef("f", steps=[StepDef("a", resources={"api": 1})])
        store = open_store("memory:")
        store.set_capacity("api", 1)
        with Engine.open(store, handler) as engine:
            runs = [engine.start(flow, execution_id=name) for name in ("e1", "e2")]
            runs.append(engine.start(keyed, execution_id="k1"))
            engine.submit(keyed, execution_id="k2")
            wait_until(lambda: store.ledger.limits.uses()[0].waiting)
            waiting = "e1" if engine.look("e1").queued else "e2"
            client = wsgi(engine).test_client()
            said = text_of(client.get(f"/executions/{waiting}").text)
            assert re.search(r"Waits ‖ step a waits for 'api' \(1 of 1 in use\) , since 20", said)
            assert "in the queue 'default' , until a worker of that queue begins it" in text_of(
                client.get("/executions/k2").text
            )
            assert "queued behind k1 , which has the key customer-7" in text_of(client.get("/executions/k2").text)
            assert "Steps that wait api 1 1 1" in text_of(client.get("/waiting").text)
            gate.set()
            assert all(run.result(30).success for run in runs)
            assert "Waits" not in text_of(client.get(f"/executions/{waiting}").text)

    def test_a_wait_of_a_sub_flow_is_told_once(self) -> None:
        part = FlowDef("part", steps=[StepDef("ask", step_type="wait", config={"signal": "go"})])
        whole = FlowDef("whole", steps=[StepDef("call", step_type="sub_flow", config={"flow_name": "part"})])
        with Engine.open("memory:", lambda ctx: 1, storage=szal.InMemoryStorage((part,))) as engine:
            engine.run(whole, execution_id="w")
            assert text_of(wsgi(engine).test_client().get("/waiting").text).count("waits for the signal go") == 1

    def test_an_answer_from_the_inbox(self, shop: Shop) -> None:
        shop.fails = False
        shop.order(answered=False)
        fields = {"name": "answer", "value": '{"by": "bob"}', "signal_id": "s1", "back": "waiting"}
        for _ in range(2):  # sent twice, it is one
            answer = shop.post("/executions/order-1/signal", "/executions/order-1", **fields)
            assert (answer.status_code, answer.location) == (303, "/waiting?done=signal&told=order-1")
        said = shop.text(answer.location)
        assert "Sent: order-1 goes on once somebody recovers it" in said
        assert "Nothing waits for anybody" in said
        assert shop.engine.resume("order-1")["pay"].output == "paid for 7, approved by bob"


def stream_of(shop: Shop, name: str, *, is_threaded: bool = True, **headers: str) -> Any:
    """Ask for a page's events, of a server that serves several requests at a time, or one."""
    return shop.client.get(
        f"/events/{name}", headers=headers, environ_overrides={"wsgi.multithread": is_threaded}, buffered=False
    )


class TestLivePages:
    """How they hear of changes; tests/browser has a browser that does."""

    def test_a_page_of_what_has_not_ended_names_its_events(self, shop: Shop) -> None:
        shop.order(answered=False)
        assert 'data-live="1" data-events="/events/order-1"' in shop.client.get("/executions/order-1").text
        shop.order("order-2")
        assert "data-events" not in shop.client.get("/executions/order-2").text

    def test_events_say_that_something_has_changed_and_not_what(self, shop: Shop) -> None:
        shop.order(answered=False)
        answer = stream_of(shop, "order-1")
        assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
        assert answer.headers["Content-Security-Policy"] == POLICY
        frames = (frame.decode() for frame in answer.response)
        told = (frame for frame in frames if "event:" in frame)
        assert next(told).endswith('data: {"state":"paused"}\n\n')
        shop.engine.signal("order-1", "answer", {"by": "ann"})
        shop.engine.resume("order-1")
        *_, last, end = told
        assert last.endswith('data: {"state":"failed"}\n\n')
        assert end.startswith("event: end\n")
        known = re.search("id: (.+)", end)
        assert known
        assert stream_of(shop, "order-1", **{"Last-Event-ID": known[1]}).status_code == 204

    def test_half_of_the_threads_stream_with_those_of_the_application(self, shop: Shop) -> None:
        shop.order(answered=False)
        first, second, third = (stream_of(shop, "order-1") for _ in range(3))
        assert [first.status_code, second.status_code, third.status_code] == [200, 200, 503]
        assert third.headers["Retry-After"] == "5"
        first.close()
        assert stream_of(shop, "order-1", is_threaded=False).status_code == 503
        again = stream_of(shop, "order-1")
        assert again.status_code == 200
        for answer in (second, again):
            answer.close()

    def test_what_an_application_streams_itself_counts_too(self) -> None:
        flow = szal.Flow("ask")
        flow.add_step(StepDef("wait", step_type="wait", config={"signal": "go"}))
        app = Flask("mine")
        app.config.update(SZAL_STORE="memory:", SZAL_THREADS=2, TESTING=True)
        flows = Szal(flow, app=app)
        app.register_blueprint(blueprint(lambda: flows.engine))
        app.add_url_rule("/mine", view_func=lambda: flows.stream("e"))
        with app.app_context():
            flows.engine.run(flow, execution_id="e")
        threaded = {"wsgi.multithread": True}
        mine, pages = (app.test_client().get(path, environ_overrides=threaded) for path in ("/mine", "/events/e"))
        assert (mine.status_code, pages.status_code) == (200, 503)
        mine.close()
        flows.close(app)

    def test_of_what_is_not_there_or_not_to_be_seen_there_are_none(self, shop: Shop) -> None:
        assert stream_of(shop, "none").status_code == 404
        shop.order(answered=False)
        app = wsgi(shop.engine, authorize=lambda action, _: False)
        assert app.test_client().get("/events/order-1").status_code == 403

    def test_a_number_of_threads_that_is_none_is_refused(self, shop: Shop) -> None:
        with pytest.raises(ValueError, match="threads must be at least 1"):
            wsgi(shop.engine, threads=0)

    @pytest.mark.parametrize("path", ["/", "/waiting", "/executions/order-1"])
    def test_who_has_a_page_as_it_is_is_told_just_that(self, shop: Shop, path: str) -> None:
        shop.order(answered=False)
        tag = shop.client.get(path).headers["ETag"]
        again = shop.client.get(path, headers={"If-None-Match": tag})
        assert (again.status_code, again.data) == (304, b"")  # though tokens and ids of forms are others
        shop.engine.signal("order-1", "answer", {"by": "ann"})
        shop.engine.resume("order-1")
        assert shop.client.get(path, headers={"If-None-Match": tag}).status_code == 200


class TestActions:
    def test_cancel(self, shop: Shop) -> None:
        shop.order(answered=False)
        answer = shop.post("/executions/order-1/cancel", "/executions/order-1")
        assert answer.location == "/executions/order-1?done=cancel"
        assert "Asked to cancel" in shop.text("/executions/order-1")
        shop.engine.resume("order-1")
        assert shop.engine.look("order-1").state is WorkflowState.CANCELLED
        assert "it has ended" in text_of(shop.post("/executions/order-1/cancel", "/executions/order-1").text)

    def test_resume(self, shop: Shop) -> None:
        shop.fails = False
        shop.order(answered=False)
        shop.engine.signal("order-1", "answer", {"by": "ann"})
        assert shop.post("/executions/order-1/resume", "/executions/order-1").status_code == 303
        assert shop.engine.result("order-1", timeout=20).success
        assert shop.post("/executions/order-1/resume", "/executions/order-1").status_code == 409

    def test_rerun_from_a_step_with_other_inputs_sent_twice_is_one(self, shop: Shop) -> None:
        shop.order()
        fields = {"from_step": "check", "inputs": '{"number": 8}', "new_id": "order-1b"}
        for _ in range(2):
            answer = shop.post("/executions/order-1/rerun", "/executions/order-1", **fields)
            assert answer.location == "/executions/order-1b?done=rerun"
        wait_until(lambda: shop.engine.look("order-1b").state is WorkflowState.PAUSED, 20)
        assert shop.engine.look("order-1b").steps["check"].output == {"number": 8}
        assert shop.store.count(parent="order-1") == 1

    def test_resolve(self, shop: Shop) -> None:
        shop.engine.run(shop.once, execution_id="t")
        fields = {"step": "move", "decision": "completed", "output": '{"paid": true}', "back": "t"}
        assert shop.post("/executions/t/resolve", "/executions/t", **fields).location == "/executions/t?done=resolve"
        assert shop.engine.resume("t").outputs == {"move": {"paid": True}}

    @pytest.mark.parametrize(
        ("act", "fields", "told"),
        [
            ("signal", {"name": "answer", "value": "{yes}"}, "that is no JSON"),
            ("signal", {"name": " "}, "Its name is missing"),
            ("resolve", {"step": "check", "decision": "maybe"}, "The decision is missing"),
            ("resolve", {"step": "check", "decision": "failed"}, "nothing is to be decided on step 'check'"),
            ("rerun", {"inputs": "[1]"}, "inputs are an object"),
            ("rerun", {"from_step": "none"}, "none"),
        ],
    )
    def test_what_cannot_be_done_is_told(self, shop: Shop, act: str, fields: Any, told: str) -> None:
        shop.order(answered=False)
        answer = shop.post(f"/executions/order-1/{act}", "/executions/order-1", **fields)
        assert answer.status_code == 409, answer.text
        assert told in text_of(answer.text)
        assert 'href="/executions/order-1">Back to the execution' in answer.text

    def test_of_a_store_alone_what_has_no_handlers_here_is_not_taken_up(self, shop: Shop) -> None:
        shop.order(answered=False)
        client = wsgi(shop.store, actions=True, secret_key="k").test_client()
        token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/executions/order-1").text)
        assert token
        answer = client.post("/executions/order-1/resume", data={"csrf_token": token[1]})
        assert answer.status_code == 409
        assert "no handler for steps: check, approved, pay" in text_of(answer.text)


class TestManyAtOnce:
    @pytest.fixture
    def failed(self, shop: Shop) -> Shop:
        for number in range(3):
            shop.order(f"o{number}")
        shop.order("waits", answered=False)
        shop.fails = False
        return shop

    def test_it_says_how_many_before_it_does_anything(self, failed: Shop) -> None:
        assert "Rerun 3 executions? ✗ 3 failed" in failed.text("/many/rerun")
        assert "Rerun 2 executions?" in failed.text("/many/rerun?id=o0&id=o2")
        assert "Left out: 1 in another state" in failed.text("/many/rerun?id=o0&id=waits")
        assert "Cancel 1 execution? ‖ 1 paused" in failed.text("/many/cancel")
        assert "There is nothing to resume. " in failed.text("/many/resume")
        assert "Resume 1 execution?" in failed.text("/many/resume?id=waits")
        assert "Rerun 3 executions?" in failed.text("/many/rerun?error=bank")
        assert "There is nothing to rerun" in failed.text("/many/rerun?error=disk")
        assert failed.store.count() == 4

    def test_what_was_chosen_is_run_again_once(self, failed: Shop) -> None:
        page = "/many/rerun?label=team%3Da"
        answer = failed.post("/many/rerun", page, label="team=a")
        assert "3 executions being run again" in text_of(answer.text)
        wait_until(lambda: failed.store.count(states=WorkflowState.COMPLETED) == 3, 20)
        assert "3 run again already" in failed.text(page)

    def test_what_was_selected_is_cancelled(self, failed: Shop) -> None:
        answer = failed.post("/many/cancel", "/many/cancel?id=waits", id=["waits"])
        assert "1 execution asked to cancel" in text_of(answer.text)
        assert failed.engine.look("waits").is_cancelling

    def test_what_waits_is_resumed_where_it_was_selected(self, failed: Shop) -> None:
        failed.engine.signal("waits", "answer", {"by": "ann"})
        failed.post("/many/resume", "/many/resume?id=waits", id=["waits"])
        assert failed.engine.result("waits", timeout=20).success

    def test_what_ended_cannot_be_cancelled(self, failed: Shop) -> None:
        assert "there is nothing to cancel" in failed.text("/many/cancel?state=failed", 409)

    def test_a_filter_that_means_nothing_chooses_nothing(self, failed: Shop) -> None:
        assert "state: 'done' is none of created," in failed.text("/many/rerun?state=done", 409)


class TestSafety:
    def pages(self, client: Any) -> Iterator[Any]:
        paths = ("/", "/?error=a", "/waiting", "/executions/x", "/flows/x", "/many/rerun", "/assets/szal.css", "/none")
        yield from map(client.get, paths)

    def test_each_page_has_the_policy_and_no_script_or_style_of_its_own(self, shop: Shop) -> None:
        shop.order("x")
        for answer in self.pages(shop.client):
            assert answer.headers["Content-Security-Policy"] == POLICY
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            if answer.content_type.startswith("text/html"):
                assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", answer.text)
                assert re.findall(r"<script(.*?)</script>", answer.text, re.DOTALL)[1:] == []

    def test_what_is_hostile_is_text(self) -> None:
        flow = FlowDef(HOSTILE, steps=[StepDef(HOSTILE), StepDef("ask", step_type="wait", config={"signal": HOSTILE})])
        outputs = iter([HOSTILE + "{{7*7}}", ValueError(HOSTILE + "{{7*7}}")])

        def handler(ctx: szal.StepContext) -> str:
            found = next(outputs)
            if isinstance(found, ValueError):
                raise found
            return found

        with Engine.open("memory:", handler) as engine:
            for name in ("a", "b"):
                engine.run(flow, {HOSTILE: HOSTILE}, execution_id=HOSTILE + name, labels={HOSTILE: HOSTILE})
            client = wsgi(engine, actions=True, secret_key="k").test_client()
            filters = f"?flow={HOSTILE}&label={HOSTILE}&error={HOSTILE}&since={HOSTILE}"
            pages = ["/", f"/{filters}", "/waiting", "/many/cancel"]
            first = client.get("/").text
            pages += [html.unescape(path) for path in re.findall(r'href="(/(?:executions|flows)/[^"]+)"', first)]
            assert len(pages) >= 8
            for path in pages:
                page = client.get(path).text
                assert "<script>" not in page, path
                assert "<img" not in page, path
                assert "\u202e" not in re.sub(r'(value|href|title)="[^"]*"', "", page), path

    def test_actions_are_off_unless_they_are_turned_on(self, shop: Shop) -> None:
        shop.order(answered=False)
        client = wsgi(shop.engine).test_client()
        assert '<form method="post"' not in client.get("/executions/order-1").text
        for path in ("/executions/order-1/cancel", "/many/cancel"):
            answer = client.post(path, data={"id": "order-1"})
            assert answer.status_code == 403
        assert client.get("/many/cancel").status_code == 403
        assert not shop.engine.look("order-1").is_cancelling

    def test_an_action_without_its_token_does_nothing(self, shop: Shop) -> None:
        shop.order(answered=False)
        for data in ({}, {"csrf_token": "made-up"}):
            assert shop.client.post("/executions/order-1/cancel", data=data).status_code == 400
            assert shop.client.post("/many/cancel", data={"id": "order-1", **data}).status_code == 400
        assert not shop.engine.look("order-1").is_cancelling
        assert shop.client.get("/executions/order-1/cancel").status_code == 404  # which is the id of another

    def test_actions_need_a_key(self, shop: Shop) -> None:
        with pytest.raises(ValueError, match="actions need a secret_key"):
            wsgi(shop.engine, actions=True)

    def test_the_application_decides_who_may_do_what(self, shop: Shop) -> None:
        shop.order(answered=False)
        asked: list[tuple[str, str | None]] = []

        def authorize(action: str, execution_id: str | None) -> bool:
            asked.append((action, execution_id))
            if execution_id == "secret":
                abort(redirect("/login"))
            return action in ("look", "signal")

        app = wsgi(shop.engine, actions=True, secret_key="k", authorize=authorize)
        client = app.test_client()
        token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/executions/order-1").text)
        assert token
        assert client.post("/executions/order-1/cancel", data={"csrf_token": token[1]}).status_code == 403
        sent = client.post("/executions/order-1/signal", data={"csrf_token": token[1], "name": "answer"})
        assert sent.status_code == 303
        assert client.get("/executions/secret").location == "/login"
        assert client.get("/many/cancel").status_code == 403
        assert asked[:3] == [("look", "order-1"), ("cancel", "order-1"), ("signal", "order-1")]

    def test_a_store_that_is_away_is_told(self, tmp_path: Path) -> None:
        answer = wsgi(f"sqlite:///{tmp_path}/none/szal.db").test_client().get("/")
        assert answer.status_code == 503
        assert "The store cannot be reached" in answer.text


class TestWithAToken:
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": "Basic !"}, 401),
            ({"Authorization": "Digest x"}, 401),
            ({"Authorization": "Bearer let-me-in"}, 200),
            ({"Authorization": "Basic YW5uOmxldC1tZS1pbg=="}, 200),
        ],
    )
    def test_it_is_asked_for_everywhere(self, shop: Shop, headers: Any, status: int) -> None:
        app = wsgi(shop.engine)
        protect(app, "let-me-in")
        for path in ("/", "/waiting", "/assets/szal.js"):
            assert app.test_client().get(path, headers=headers).status_code == status

    def test_without_one_only_names_of_this_machine_are_answered(self, shop: Shop) -> None:
        app = wsgi(shop.engine)
        protect(app, None)
        hosts = {"localhost:8787": 200, "127.0.0.1": 200, "127.0.0.2:1": 200, "[::1]": 200, "[::1]:80": 200}
        hosts |= {"evil.example": 400, "10.0.0.1": 400, "": 400}
        assert {host: app.test_client().get("/", headers={"Host": host}).status_code for host in hosts} == hosts


class TestInAnApplication:
    def test_as_a_blueprint_below_a_path(self, shop: Shop) -> None:
        shop.order()
        app = Flask("mine")
        app.jinja_env.autoescape = False  # of the application's own templates: it is no matter here
        app.register_blueprint(blueprint(lambda: shop.engine), url_prefix="/admin/szal")
        page = app.test_client().get("/admin/szal/executions/order-1").text
        assert 'href="/admin/szal/flows/order"' in page
        for asset in re.findall(r'(?:href|src)="(/admin/szal/assets/[^"]+)"', page):
            answer = app.test_client().get(asset)
            assert answer.status_code == 200
            assert "immutable" in answer.headers["Cache-Control"]

    def test_what_has_no_store_is_refused(self) -> None:
        with pytest.raises(TypeError, match="pages need an engine with one of szal's stores"):
            wsgi(Engine(lambda ctx: 1))
        with pytest.raises(TypeError, match="a URL, a path, a store or its sink"):
            wsgi(object())  # type: ignore[arg-type]

    def test_a_store_by_its_url_is_opened_at_the_first_request(self, tmp_path: Path) -> None:
        app = wsgi(f"sqlite:///{tmp_path}/szal.db")
        assert not [*tmp_path.iterdir()]
        assert app.test_client().get("/").status_code == 200
        assert (tmp_path / "szal.db").exists()
