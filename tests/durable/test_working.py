"""Executions that one process submits and another one runs."""

import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from durable.children import Child, killed
from helper_engine import bounded
from processes import wait_until

from szal import (
    CancellationToken,
    DefinitionMismatch,
    Engine,
    EngineConfig,
    ExecutionNotFound,
    FlowDef,
    Handlers,
    InvalidInputs,
    StepDef,
    WorkflowState,
    open_store,
)
from szal.errors import EngineClosed, StoreUnavailable

CREATED, COMPLETED = WorkflowState.CREATED, WorkflowState.COMPLETED


def flow(name="mail", **fields):
    return FlowDef(name, steps=[StepDef("send")], **fields)


@pytest.fixture
def shop(new_engine):
    """An engine that runs nothing."""
    return new_engine(Handlers())


def later(seconds):
    return datetime.now(UTC) + timedelta(seconds=seconds)


class TestSubmitting:
    def test_records_an_execution_that_nobody_runs(self, shop, store):
        execution_id = shop.submit(flow(), {"to": "Ada"}, labels={"team": "a"})
        status = shop.look(execution_id)
        assert (status.state, status.is_running, status.is_interrupted) == (CREATED, False, False)
        assert (status.inputs, status.labels) == ({"to": "Ada"}, {"team": "a"})
        assert str(status.in_queue) == "in the queue 'default'"
        assert shop.interrupted() == []
        assert store.get(execution_id).state is CREATED

    def test_the_same_id_again_does_nothing_and_another_flow_is_refused(self, new_engine, shop):
        assert shop.submit(flow(), execution_id="e") == shop.submit(flow(), {"late": 1}, execution_id="e") == "e"
        with pytest.raises(DefinitionMismatch):
            shop.submit(flow(description="another"), execution_id="e")
        engine = new_engine()
        assert engine.work(until_idle=True) == 1
        assert engine.look("e").inputs == {}
        assert shop.submit(flow(), execution_id="e") == "e"
        assert engine.work(until_idle=True) == 0

    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            ({"queue": ""}, "the name of a queue is empty"),
            ({"priority": 0.5}, "priority is not a whole number"),
            ({"priority": 2**40}, "priority is not between"),
            ({"not_before": datetime(2026, 1, 1)}, "not_before must be an aware datetime"),  # noqa: DTZ001
            ({"execution_id": ""}, "execution_id is empty"),
        ],
    )
    def test_what_is_wrong_is_refused(self, shop, given, problem):
        with pytest.raises(ValueError, match=problem):
            shop.submit(flow(), **given)

    def test_inputs_are_checked_before_anything_is_recorded(self, shop, store):
        declared = flow(inputs={"to": {"type": "string", "required": True}})
        with pytest.raises(InvalidInputs):
            shop.submit(declared, execution_id="e")
        with pytest.raises(ExecutionNotFound):
            shop.look("e")

    def test_needs_a_store(self):
        with Engine(Handlers()) as engine, pytest.raises(Exception, match="store"):
            engine.submit(flow())


class TestWorking:
    def test_runs_what_was_submitted(self, shop, new_engine):
        ids = [shop.submit(flow(), {"number": number}) for number in range(5)]
        engine = new_engine(lambda ctx: ctx.inputs["number"])
        assert engine.work(until_idle=True) == 5
        assert [shop.result(each).outputs["send"] for each in ids] == [0, 1, 2, 3, 4]
        assert engine.work(until_idle=True) == 0

    def test_the_highest_priority_first_and_then_the_oldest(self, shop, new_engine):
        for name, priority in (("a", 0), ("b", 7), ("c", 0), ("d", 7)):
            shop.submit(flow(), execution_id=name, priority=priority)
        ran = []
        assert new_engine(lambda ctx: ran.append(ctx.execution_id)).work(max_executions=1, until_idle=True) == 4
        assert ran == ["b", "d", "a", "c"]

    def test_only_from_its_queues(self, shop, new_engine):
        shop.submit(flow(), execution_id="slow", queue="slow")
        engine = new_engine()
        assert engine.work(until_idle=True) == 0
        assert engine.work("slow", until_idle=True) == 1

    def test_nothing_before_its_time(self, shop, new_engine):
        shop.submit(flow(), execution_id="later", not_before=later(3600))
        shop.submit(flow(), execution_id="past", not_before=later(-5))
        shop.submit(flow(), execution_id="long past", not_before=datetime(1, 1, 1, tzinfo=UTC))
        engine = new_engine()
        assert engine.work(until_idle=True) == 2
        assert shop.look("later").state is CREATED

    def test_what_has_no_handler_here_is_left_to_others(self, shop, new_engine):
        shop.submit(flow("other"), execution_id="other")
        shop.submit(flow("mine"), execution_id="mine")
        mine = Handlers()
        mine.step("send")(lambda ctx: "mine")
        only = new_engine(Handlers())
        assert only.work(until_idle=True) == 0
        assert new_engine(mine).work(until_idle=True) == 2

    def test_a_database_that_is_away_when_others_are_to_have_something_is_told_later_and_is_logged_once(
        self, shop, new_engine, caplog, monkeypatch
    ):
        monkeypatch.setattr("szal.engine.worker._RECOVER_EVERY", 0.05)
        engine = new_engine(Handlers())
        kind = type(engine._admission.recovery().ledger.queue)
        give_back, calls = kind.give_back, []

        def away(queue, execution_ids):
            calls.append([*execution_ids])
            if calls in ([[], ["e"]], [[], ["e"], ["e"]]):
                raise StoreUnavailable("shop", "connection refused")
            give_back(queue, execution_ids)

        monkeypatch.setattr(kind, "give_back", away)
        shop.submit(flow(), execution_id="e")
        assert engine.work(until_idle=True) == 0
        assert calls[:4] == [[], ["e"], ["e"], ["e"]]
        assert [record.getMessage() for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == [
            "cannot look for executions; trying again every 0.05s: shop: connection refused",
            "looking for executions again",
        ]
        assert new_engine().work(until_idle=True) == 1

    def test_what_was_claimed_as_the_engine_closes_others_have_at_once(self, shop, new_engine, monkeypatch):
        engine = new_engine(lease_ttl=3600)

        def closed(*_, **__):
            raise EngineClosed

        monkeypatch.setattr(engine, "_resume", closed)
        shop.submit(flow())
        assert engine.work(until_idle=True) == 0
        assert new_engine().work(until_idle=True) == 1

    def test_what_fails_by_a_database_that_is_away_is_tried_again_soon(self, shop, new_engine, monkeypatch, caplog):
        engine, stop = new_engine(lease_ttl=3600), CancellationToken()
        resume, calls = engine._resume, []

        def away(execution_id, **given):
            calls.append(execution_id)
            if len(calls) == 1:
                raise StoreUnavailable("shop", "connection refused")
            return resume(execution_id, **given)

        monkeypatch.setattr(engine, "_resume", away)
        shop.submit(flow(), execution_id="e")
        thread = threading.Thread(target=lambda: engine.work(stop=stop))
        thread.start()
        assert shop.result("e", timeout=30).success  # not after a minute
        stop.cancel()
        thread.join(20)
        assert "cannot run execution e just now: shop: connection refused" in caplog.text

    def test_begins_what_comes_while_it_is_idle(self, shop, new_engine):
        begun, stop = threading.Event(), CancellationToken()
        engine = new_engine(lambda ctx: begun.set())
        thread = threading.Thread(target=lambda: counts.append(engine.work(stop=stop)))
        counts: list[int] = []
        thread.start()
        shop.submit(flow(), execution_id="e")
        assert begun.wait(20)
        assert shop.result("e", timeout=20).success
        stop.cancel()
        thread.join(20)
        assert counts == [1]

    def test_so_many_at_a_time(self, shop, new_engine):
        for _ in range(4):
            shop.submit(flow())
        meeting = threading.Barrier(2)
        assert new_engine(lambda ctx: meeting.wait(20) and None).work(max_executions=2, until_idle=True) == 4

    def test_closing_the_engine_ends_it(self, new_engine):
        engine = new_engine()
        thread = threading.Thread(target=engine.work)
        thread.start()
        wait_until(lambda: engine._background)
        engine.close()
        thread.join(20)
        assert not thread.is_alive()

    def test_an_engine_that_is_closed_with_its_own_store_warns_of_nothing(self, store_url, caplog):
        with Engine.open(store_url, lambda ctx: engine.close(drain=0.0)) as engine:
            engine.submit(flow(), execution_id="e")
            assert bounded(engine.work) == 1
        assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == []

    def test_a_failed_flow_has_been_run(self, shop, new_engine):
        def fail(ctx):
            raise ValueError("no")

        shop.submit(flow(), execution_id="e")
        assert new_engine(fail).work(until_idle=True) == 1
        assert shop.look("e").state is WorkflowState.FAILED

    def test_one_that_is_cancelled_before_it_began_runs_no_step(self, shop, new_engine):
        shop.submit(flow(), execution_id="e")
        shop.submit(flow(), execution_id="late", not_before=later(3600))
        assert shop.cancel("e")
        assert shop.cancel("late")
        ran = []
        assert new_engine(lambda ctx: ran.append(1)).work(until_idle=True) == 2
        assert ran == []
        assert shop.look("e").state is shop.look("late").state is WorkflowState.CANCELLED

    def test_run_with_its_id_begins_it_too(self, shop, new_engine):
        shop.submit(flow(), {"a": 1}, execution_id="e")
        engine = new_engine()
        assert engine.run(flow(), execution_id="e").success
        assert engine.work(until_idle=True) == 0

    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            ({"queues": ()}, "queues is empty"),
            ({"max_executions": 0}, "must be at least 1"),
            ({"queues": [""]}, "empty"),
        ],
    )
    def test_what_is_wrong_is_refused(self, new_engine, given, problem):
        engine = new_engine()
        with pytest.raises(ValueError, match=problem):
            engine.work(**given, until_idle=True)
        if "queues" in given:
            with pytest.raises(ValueError, match=problem):
                engine.next_due(**given)


DYING = """
    def act(ctx):
        add(sys.argv[2], ctx.execution_id)
        die()

    new_engine(act, lease_ttl=float(sys.argv[3])).work(until_idle=True)
"""


def test_what_a_worker_was_at_when_it_died_is_gone_on_with_before_anything_that_is_queued(
    store_url, new_engine, shop, log
):
    shop.submit(flow(), execution_id="e")
    killed(DYING, store_url, log.path, 3600)
    assert log.lines == ["e"]
    shop.submit(flow(), execution_id="urgent", priority=9)
    ran = []
    assert new_engine(lambda ctx: ran.append(ctx.execution_id)).work(max_executions=1, until_idle=True) == 2
    assert ran == ["e", "urgent"]
    assert shop.look("e").state is COMPLETED


CLAIMING = """
    from szal.stores.queue import Claim
    print(store.ledger.queue.claim(Claim(queues=["default"], most=1, ttl=0.2)))
    die()
"""


def test_what_it_had_claimed_and_not_begun_comes_back(store_url, new_engine, shop):
    shop.submit(flow(), execution_id="e")
    killed(CLAIMING, store_url)
    engine = new_engine()
    assert bounded(lambda: wait_until(lambda: engine.work(until_idle=True))) == 1
    assert shop.look("e").state is COMPLETED


WORKING = """
    def act(ctx):
        add(sys.argv[2], ctx.execution_id)

    tell("ready")
    stop = CancellationToken()
    threading.Thread(target=lambda: (listen(), stop.cancel())).start()
    tell(new_engine(act).work(stop=stop))
"""


def test_several_processes_share_what_there_is(store_url, shop, log):
    with Child(WORKING, store_url, log.path) as one, Child(WORKING, store_url, log.path) as two:
        assert (one.hear(), two.hear()) == ("ready", "ready")
        ids = [shop.submit(flow()) for _ in range(30)]
        for each in ids:
            assert shop.result(each, timeout=30).success
        one.say("stop")
        two.say("stop")
        assert int(one.hear()) + int(two.hear()) == 30
    assert sorted(log.lines) == sorted(ids)


class TestSubmittingWithDataOfOnesOwn:
    """The order and its flow are committed together, or neither is."""

    @pytest.fixture
    def mine(self, store_url):
        connection = connected(store_url)
        connection.execute("CREATE TABLE orders (name TEXT)")
        connection.commit()
        with closing(connection):
            yield connection

    def test_whatever_it_makes_of_rows(self, mine, shop):
        if isinstance(mine, sqlite3.Connection):
            mine.row_factory = lambda cursor, row: dict(
                zip([name for name, *_ in cursor.description], row, strict=True)
            )
            mine.text_factory = bytes
        else:
            mine.row_factory = psycopg.rows.dict_row
        execution_id = shop.submit(flow(), connection=mine)
        mine.commit()
        assert shop.look(execution_id).state is WorkflowState.CREATED

    def test_a_commit_commits_both(self, mine, shop, new_engine):
        mine.execute("INSERT INTO orders VALUES ('a book')")
        execution_id = shop.submit(flow(), connection=mine)
        with pytest.raises(ExecutionNotFound):
            shop.look(execution_id)
        mine.commit()
        assert shop.look(execution_id).state is CREATED
        assert new_engine().work(until_idle=True) == 1
        assert shop.look(execution_id).state is COMPLETED
        assert mine.execute("SELECT name FROM orders").fetchall() == [("a book",)]

    def test_said_twice_in_it_it_is_there_once(self, mine, shop, new_engine):
        assert shop.submit(flow(), execution_id="e", connection=mine) == "e"
        assert shop.submit(flow(), execution_id="e", connection=mine) == "e"
        mine.commit()
        assert shop.submit(flow(), execution_id="e", connection=mine) == "e"
        mine.commit()
        assert new_engine().work(until_idle=True) == 1

    def test_a_rollback_takes_both_back(self, mine, shop, new_engine):
        mine.execute("INSERT INTO orders VALUES ('a book')")
        execution_id = shop.submit(flow(), execution_id="e", connection=mine)
        mine.rollback()
        with pytest.raises(ExecutionNotFound):
            shop.look(execution_id)
        assert new_engine().work(until_idle=True) == 0
        assert shop.submit(flow(), execution_id="e") == "e"

    def test_a_worker_begins_it_when_it_is_committed(self, mine, shop, new_engine):
        stop = CancellationToken()
        engine = new_engine()
        thread = threading.Thread(target=lambda: engine.work(stop=stop))
        thread.start()
        mine.execute("INSERT INTO orders VALUES ('a book')")
        execution_id = shop.submit(flow(), connection=mine)
        mine.commit()
        assert shop.result(execution_id, timeout=20).success
        stop.cancel()
        thread.join(20)

    def test_what_does_not_lead_to_the_stores_database_is_refused(self, kind, mine, shop, tmp_path, server):
        other = sqlite3.connect(tmp_path / "other.db") if kind == "sqlite" else elsewhere(server)
        with closing(other), pytest.raises(ValueError, match="does not lead to"):
            shop.submit(flow(), execution_id="e", connection=other)
        with pytest.raises(TypeError, match="connection= takes a "):
            shop.submit(flow(), execution_id="e", connection=object())
        with pytest.raises(ExecutionNotFound):
            shop.look("e")


def connected(url):
    return psycopg.connect(url) if url.startswith("postgresql") else sqlite3.connect(url.removeprefix("sqlite:///"))


def elsewhere(server):
    """A connection to another database of that server."""
    return psycopg.connect(server.url, dbname="template1")


def test_in_memory_there_is_no_connection():
    with (
        open_store("memory:") as store,
        Engine([], EngineConfig(execution_store=store)) as engine,
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(TypeError, match="nothing leads to one in memory"),
    ):
        engine.submit(flow(), connection=connection)
