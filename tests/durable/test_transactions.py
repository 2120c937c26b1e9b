"""Exactly once, with the application's own tables: ``ctx.transaction()``."""

import sqlite3
import threading
from contextlib import closing, suppress

import psycopg
import pytest
from durable.bank import UNTOUCHED, Bank, Moved, once, transfer
from durable.children import killed
from helper_engine import LONG, ForeignStore, bounded, waited
from processes import wait_until
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    ExecutionRecord,
    FlowDef,
    FlowMode,
    LeaseLost,
    SkipStep,
    StepDef,
    TransactionFailed,
    WorkflowState,
    open_store,
)
from szal.model.key import memo_key
from szal.stores.ledger import TakeOver

DRIVERS_ERRORS = (sqlite3.Error, psycopg.Error)


@pytest.fixture
def bank(store_url):
    """The application's tables, in the database of the store."""
    return Bank(store_url)


def flow(*more, mode=FlowMode.SEQUENTIAL, rolls_back=False, **policy):
    steps = [StepDef("pay", retry_delay=0, **policy), *more]
    return FlowDef("transfer", mode, steps=steps, rollback_on_failure=rolls_back)


def take_over(store):
    """Somebody else goes on with the execution."""
    store.ledger.take_over(TakeOver(execution_id="e", owner="somebody else", ttl=30.0, is_gone=lambda owner: True))


class TestItsOutcome:
    @pytest.mark.parametrize("durability", ["none", "flow", "step"])
    def test_is_committed_with_what_the_handler_wrote(self, bank, new_engine, store, durability):
        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
            return {"moved": 7}

        with new_engine(pay, durability=durability) as engine:
            result = engine.run(flow(), execution_id="e")
        assert (result.outputs, bank.moved) == ({"pay": {"moved": 7}}, once())
        [(name, _, text)] = store.ledger.read("e").steps
        assert name == "pay"
        assert '"moved":7' in text

    def test_is_there_with_it_before_anybody_hears_of_the_end(self, bank, new_engine, store):
        """In one commit: what another step finds then, with the least durability there is."""
        seen = []

        def handler(ctx):
            if ctx.step.name == "look":
                seen.extend([name for name, *_ in store.ledger.read("e").steps] + [bank.moved])
                return
            with ctx.transaction() as connection:
                transfer(connection)

        with new_engine(handler, durability="none") as engine:
            assert engine.run(flow(StepDef("look")), execution_id="e").success
        assert seen == ["pay", once()]

    def test_leaving_the_block_commits_nothing(self, bank, new_engine):
        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
            assert bank.moved == UNTOUCHED
            connection.execute("INSERT INTO transfers VALUES ('after the block')")

        with new_engine(pay) as engine:
            assert engine.run(flow()).success
        assert bank.moved == Moved(93, 7, ["after the block", "t"])

    @pytest.mark.parametrize("inline", ["auto", "never", "always"])
    def test_wherever_handlers_are_called(self, bank, new_engine, inline):
        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)

        with new_engine(pay, inline=inline) as engine:
            assert engine.run(flow()).success
        assert bank.moved == once()

    def test_has_the_attempts_that_failed_before(self, bank, new_engine):
        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection, f"attempt {ctx.attempt}")
                if ctx.attempt < 3:
                    raise ConnectionError("on the way")

        with new_engine(pay) as engine:
            result = engine.run(flow(max_retries=2), execution_id="e")
            assert result["pay"].attempts == 3
            assert engine.look("e").steps["pay"].attempts == 3
        assert bank.moved == once("attempt 3")

    def test_items_have_one_each(self, bank, new_engine):
        def pay(ctx):
            with ctx.transaction() as connection:
                connection.execute(f"INSERT INTO transfers VALUES ('{ctx.item}')")
            if ctx.item == "b":
                raise ValueError("not this one")
            return ctx.index

        with new_engine(pay) as engine:
            result = engine.run(flow(foreach="inputs.notes"), {"notes": ["a", "b", "c"]})
        assert [item.output for item in result["pay"].items] == [0, None, 2]
        assert bank.moved.notes == ["a", "c"]

    def test_finally_steps_have_one(self, bank, new_engine):
        def handler(ctx):
            if ctx.step.name == "pay":
                raise ValueError("no")
            with ctx.transaction() as connection:
                transfer(connection, ctx.flow.state)

        with new_engine(handler) as engine:
            engine.run(flow(StepDef("tell", finally_=True)))
        assert bank.moved.notes == ["failed"]


class TestPolls:
    def test_each_has_one(self, bank, new_engine):
        def poll(ctx):
            with ctx.transaction() as connection:
                connection.execute(f"INSERT INTO transfers VALUES ('poll {ctx.poll}')")
            return ctx.poll

        with new_engine(poll) as engine:
            assert engine.run(flow(until="output >= 3", delay=0)).outputs == {"pay": 3}
        assert bank.moved.notes == ["poll 1", "poll 2", "poll 3"]

    def test_one_that_is_committed_is_not_made_again_after_a_crash(self, store_url, bank, new_engine):
        killed(DIES, store_url, "after the commit", "output == 'moved again'")
        assert bank.moved == once()

        def poll(ctx):
            assert (ctx.step.name, ctx.poll) in [("pay", 2), ("then", 1)]
            return "moved again"

        with new_engine(poll) as engine:
            (result,) = engine.recover()
        assert (result.success, bank.moved) == (True, once())


class TestRolledBack:
    @pytest.mark.parametrize("where", ["in it", "after it", "output", "skip"])
    def test_by_a_handler_that_fails(self, bank, new_engine, store, where):
        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
                if where == "in it":
                    raise ValueError("no")
            if where == "after it":
                raise ValueError("no")
            if where == "skip":
                raise SkipStep("nothing to do")
            return {"when": {1, 2}}

        with new_engine(pay) as engine:
            result = engine.run(flow(), execution_id="e")
        errors = {"output": 'OutputNotSerializable: output["when"]: set', "skip": "nothing to do"}
        assert result["pay"].error == errors.get(where, "ValueError: no")
        assert bank.moved == UNTOUCHED
        assert "Completed" not in store.ledger.read("e").steps[0].data

    def test_by_leaving_the_block_with_an_error_though_the_handler_goes_on(self, bank, new_engine):
        def pay(ctx):
            try:
                with ctx.transaction() as connection:
                    transfer(connection)
                    raise KeyError("caught")
            except KeyError:
                return "went on"

        with new_engine(pay) as engine:
            assert engine.run(flow()).outputs == {"pay": "went on"}
        assert bank.moved == UNTOUCHED

    def test_a_second_one_in_an_attempt_is_refused(self, bank, new_engine):
        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
            with ctx.transaction():
                pass

        with new_engine(pay) as engine:
            error = engine.run(flow())["pay"].error
        assert error.startswith("TransactionFailed: ctx.transaction(): it is asked for a second time in this attempt")
        assert bank.moved == UNTOUCHED

    def test_by_a_statement_whose_error_is_caught(self, bank, new_engine):
        """Where a database goes on after an error, as SQLite does, the rest stays."""

        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
                with pytest.raises(DRIVERS_ERRORS):
                    connection.execute("SELECT nonsense")

        with new_engine(pay) as engine:
            error = engine.run(flow())["pay"].error
        if bank.is_sqlite:
            assert (error, bank.moved) == (None, once())
        else:
            assert error.startswith("TransactionFailed: ctx.transaction(): a statement in it failed")
            assert bank.moved == UNTOUCHED

    def test_what_may_fail_has_a_savepoint(self, bank, new_engine):
        failures = []

        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
                try:
                    with connection if bank.is_sqlite else connection.transaction():
                        connection.execute("INSERT INTO transfers VALUES ('not this')")
                        connection.execute("INSERT INTO accounts VALUES ('ann', 1)")
                except (sqlite3.IntegrityError, psycopg.IntegrityError) as error:
                    failures.append(error)
                with connection if bank.is_sqlite else connection.transaction():
                    connection.execute("INSERT INTO transfers VALUES ('this')")

        with new_engine(pay) as engine:
            assert engine.run(flow()).success
        assert len(failures) == 1
        assert bank.moved == Moved(93, 7, ["t", "this"])

    @pytest.mark.parametrize("method", ["commit", "rollback"])
    def test_to_end_it_is_not_the_handlers(self, bank, new_engine, method):
        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
                getattr(connection, method)()

        with new_engine(pay) as engine:
            assert engine.run(flow())["pay"].error_type.endswith("ProgrammingError")
        assert bank.moved == UNTOUCHED

    @pytest.mark.parametrize("statement", ["ROLLBACK", "/* a */ COMMIT", "END", "SAVEPOINT a; COMMIT"])
    def test_a_statement_that_ends_it_is_refused_or_noticed(self, bank, new_engine, statement):
        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
                for each in statement.split("; "):
                    connection.execute(each)

        with new_engine(pay) as engine:
            error = engine.run(flow())["pay"].error
        if bank.is_sqlite:
            assert error.startswith("ProgrammingError: the transaction is szal's to end")
            assert bank.moved == UNTOUCHED
        else:
            assert error.startswith("TransactionFailed: ctx.transaction(): a statement has ended it")

    @pytest.mark.parametrize("statements", ["ROLLBACK; BEGIN", "ROLLBACK AND CHAIN", "COMMIT AND CHAIN"])
    def test_one_that_is_begun_in_its_place_is_noticed(self, bank, new_engine, statements):
        """As it is where the handler goes on although it was refused."""
        refused = []

        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
                for each in statements.split("; "):
                    try:
                        connection.execute(each)
                    except sqlite3.Error as error:
                        refused.append(error)

        with new_engine(pay) as engine:
            result = engine.run(flow())["pay"]
        if bank.is_sqlite:
            assert refused
            assert bank.moved == once()
        else:
            assert result.error.startswith("TransactionFailed: ctx.transaction(): a statement has ended it")

    @pytest.mark.parametrize(
        "trick",
        [
            lambda connection: setattr(connection, "isolation_level", None),
            sqlite3.Connection.commit,
            lambda connection: sqlite3.Connection.__exit__(connection, None, None, None),
            lambda connection: connection.set_authorizer(None),
            lambda connection: sqlite3.Cursor.executescript(connection.cursor(), "SELECT 1"),
        ],
        ids=["isolation_level", "commit", "exit", "authorizer", "script"],
    )
    def test_nothing_commits_it_behind_szals_back(self, bank, new_engine, trick):
        if not bank.is_sqlite:
            pytest.skip("psycopg refuses these")

        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
                trick(connection)

        with new_engine(pay) as engine:
            assert not engine.run(flow()).success
        assert bank.moved == UNTOUCHED

    def test_an_error_after_something_was_refused_is_its_own(self, bank, new_engine):
        if not bank.is_sqlite:
            pytest.skip("SQLite's authorizer")

        def pay(ctx):
            with ctx.transaction() as connection:
                with suppress(sqlite3.Error):
                    connection.execute("COMMIT")
                connection.execute("no statement")

        with new_engine(pay) as engine:
            assert "syntax error" in engine.run(flow())["pay"].error

    def test_by_what_the_database_refuses_at_the_commit(self, bank, new_engine):
        with closing(bank.connect()) as connection:
            connection.execute(
                "CREATE TABLE owners (name TEXT REFERENCES accounts (name) DEFERRABLE INITIALLY DEFERRED)"
            )
            connection.commit()

        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
                if bank.is_sqlite:
                    pytest.skip("foreign keys are checked where a connection says so, before it is in a transaction")
                connection.execute("INSERT INTO owners VALUES ('nobody')")

        with new_engine(pay) as engine:
            result = engine.run(flow())
        if not bank.is_sqlite:
            assert result["pay"].error.startswith("ForeignKeyViolation")
        assert bank.moved == UNTOUCHED

    def test_with_a_lease_that_is_lost_in_the_middle(self, bank, new_engine, store):
        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
                if bank.is_sqlite:  # nobody else can write: it is as if it had been lost before
                    connection.execute("UPDATE szal_leases SET epoch = epoch + 1")
                else:
                    take_over(store)

        with pytest.raises(LeaseLost):
            new_engine(pay).run(flow(), execution_id="e")
        assert bank.moved == UNTOUCHED
        assert not store.ledger.read("e").steps

    def test_with_a_lease_that_was_lost_before_it_is_not_begun(self, bank, new_engine, store):
        seen = []

        def pay(ctx):
            take_over(store)
            try:
                with ctx.transaction():
                    pass
            except BaseException as error:
                seen.append(str(error))
                raise

        with pytest.raises(LeaseLost):
            new_engine(pay).run(flow(), execution_id="e")
        assert seen == ["another process runs this execution now"]


class TestGivenUpOn:
    def test_a_time_out_ends_it_so_that_the_next_attempt_can_do_it(self, bank, new_engine):
        """Whatever its handler is at: it holds what the next one needs."""
        go, late = threading.Event(), []

        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection, f"attempt {ctx.attempt}")
                if ctx.attempt == 1:
                    waited(go)
                    try:
                        connection.execute("INSERT INTO transfers VALUES ('late')")
                    except BaseException as error:
                        late.append(error)
                        raise

        with new_engine(pay) as engine:
            result = engine.run(flow(timeout=2, max_retries=1))
            assert (result["pay"].attempts, result["pay"].status.value) == (2, "Completed")
            go.set()
            wait_until(lambda: late)
        assert bank.moved == once("attempt 2")

    def test_one_that_returns_too_late_commits_nothing(self, bank, new_engine):
        go, ended = threading.Event(), threading.Event()

        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
            waited(go)
            ended.set()

        with new_engine(pay) as engine:
            assert engine.run(flow(timeout=0.2))["pay"].error == "step timeout: pay after 200ms"
            go.set()
            waited(ended)
        wait_until(lambda: bounded(lambda: bank.moved) == UNTOUCHED)
        with closing(bank.connect()) as connection:  # nobody has a lock any more
            connection.execute("UPDATE accounts SET amount = 0")

    def test_a_handler_that_returns_within_the_grace_of_a_cancellation_commits(self, bank, new_engine):
        token = CancellationToken()

        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
                token.cancel()

        with new_engine(pay) as engine:
            result = engine.run(flow(), cancel=token)
        assert (result["pay"].status.value, result.state) == ("Completed", WorkflowState.CANCELLED)
        assert bank.moved == once()

    def test_one_that_is_left_behind_after_the_grace_does_not(self, bank, new_engine):
        token, go = CancellationToken(), threading.Event()

        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
                token.cancel()
                waited(go)

        with new_engine(pay, cancel_grace=0.1) as engine:
            result = bounded(engine.run, flow(), cancel=token)
            assert result["pay"].status.value == "Failed"
            go.set()
        assert bank.moved == UNTOUCHED

    @pytest.mark.parametrize("kind", ["postgres"])
    @pytest.mark.parametrize("hurry", [False, True])
    def test_while_it_is_being_committed_nobody_gives_up_on_it(self, bank, new_engine, hurry):
        seen, mine = [], bank.connect()

        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
            mine.execute("LOCK TABLE szal_steps")
            seen.append(ctx)

        with new_engine(pay, cancel_grace=0) as engine:
            execution = engine.start(flow(timeout=None if hurry else 0.2))
            wait_until(lambda: seen)
            with closing(bank.connect()) as other:
                wait_until(lambda: other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall())
            if hurry:
                execution.cancel()
            wait_until(lambda: seen[0].is_given_up)
            mine.close()
            result = execution.result(LONG)
        assert (result["pay"].status.value, bank.moved) == ("Completed", once())

    @pytest.mark.parametrize("ends", ["another wins", "the flow fails fast"])
    def test_one_of_a_step_that_ends_otherwise_whatever_it_comes_to(self, bank, new_engine, ends):
        """And does so before it returns: who has lost, or whose flow has failed."""
        begun = threading.Event()

        def handler(ctx):
            if ctx.step.name == "pay":
                with ctx.transaction() as connection:
                    transfer(connection)
                    begun.set()
                    while not ctx.cancelled:
                        ctx.sleep(LONG)
            elif ctx.step.name == "beside":
                waited(begun)
                if ends == "the flow fails fast":
                    raise ValueError("no")

        pay, beside = StepDef("pay"), StepDef("beside")
        steps = [pay, beside]
        if ends == "another wins":
            steps.append(StepDef("first", depends_on=steps, trigger_mode="Any", cancel_losers=True))
        with new_engine(handler) as engine:
            dag = FlowDef("f", FlowMode.DAG, steps=steps, fail_fast=ends != "another wins")
            result = bounded(engine.run, dag)
        assert result["pay"].status.value == "Failed"
        assert bank.moved == UNTOUCHED


class TestMemos:
    def test_of_it_are_committed_with_it(self, bank, new_engine, store):
        def pay(ctx):
            ctx.once("before", lambda: "kept")
            with ctx.transaction() as connection:
                transfer(connection)
                assert ctx.once("in it", lambda: {"a": 1}) == {"a": 1}
                assert ctx.once("in it", lambda: "another") == {"a": 1}
                assert [name for name, *_ in store.ledger.read("e").memos] == [memo_key("pay", "before")]

        with new_engine(pay) as engine:
            assert engine.run(flow(), execution_id="e").success
        assert {name for name, *_ in store.ledger.read("e").memos} == {
            memo_key("pay", key) for key in ("before", "in it")
        }

    def test_of_it_are_rolled_back_with_it(self, bank, new_engine, store):
        def pay(ctx):
            with ctx.transaction() as connection:
                found = ctx.once("x", lambda: ctx.attempt)
                transfer(connection, f"attempt {found}")
                if ctx.attempt == 1:
                    raise ValueError("no")
            return found

        with new_engine(pay) as engine:
            assert engine.run(flow(max_retries=1), execution_id="e").outputs == {"pay": 2}
        assert bank.moved == once("attempt 2")
        assert [text for _, _, text in store.ledger.read("e").memos] == ["2"]


class TestUndoing:
    def test_an_undo_is_committed_with_what_it_did(self, bank, new_engine, store):
        tries = []

        def undo(ctx):
            with ctx.transaction() as connection:
                tries.append(ctx.attempt)
                transfer(connection, f"undo {ctx.attempt}")
                if ctx.attempt == 1:
                    raise ConnectionError("on the way")

        def fails(ctx):
            if ctx.step.name == "boom":
                raise ValueError("no")

        paid = flow(StepDef("boom"), rolls_back=True, rollbackable=True, max_retries=1)
        with new_engine(fails, rollback_handler=undo) as engine:
            result = engine.run(paid, execution_id="e")
        assert (result.state, tries) == (WorkflowState.ROLLED_BACK, [1, 2])
        assert bank.moved == once("undo 2")
        assert "RolledBack" in store.ledger.read("e").steps[0].data

    def test_what_an_earlier_execution_did_is_known_there_to_be_undone(self, bank, new_engine, store):
        def undo(ctx):
            with ctx.transaction() as connection:
                transfer(connection)

        def fails_again(ctx):
            if ctx.execution_id != "e" and ctx.step.name == "then":
                raise ValueError("no")

        paid = flow(StepDef("then"), rolls_back=True, rollbackable=True)
        with new_engine(fails_again, rollback_handler=undo) as engine:
            assert engine.run(paid, execution_id="e").success
            again = engine.rerun("e", from_step="then")
            assert again.state is WorkflowState.ROLLED_BACK
        assert "RolledBack" in store.ledger.read("e").steps[0].data
        assert bank.moved == once()

    def test_the_half_of_an_undoing_has_none(self, bank, new_engine):
        from szal import InMemoryStorage

        storage = InMemoryStorage()
        storage.insert(FlowDef("child", steps=[StepDef("a")]))
        sub = StepDef("sub", step_type="sub_flow", config={"flow_name": "child"}, rollbackable=True)
        parent = FlowDef("parent", steps=[sub, StepDef("boom")], rollback_on_failure=True)

        def undo(ctx):
            with ctx.transaction():
                pass

        def fails(ctx):
            if ctx.step.name == "boom":
                raise ValueError("no")

        with new_engine(fails, rollback_handler=undo, storage=storage) as engine:
            assert "NotSupportedHere: ctx.transaction()" in engine.run(parent).error


class TestManyAtOnce:
    @pytest.fixture
    def small(self, store_url, monkeypatch):
        """The URL of the database, seen through a pool of three connections."""
        if not store_url.startswith("sqlite:"):
            from szal.stores.postgres.store import PostgresExecutionStore

            store = PostgresExecutionStore.connect(store_url, max_size=3)
        else:
            store = open_store(store_url)
        with store:
            yield store

    def test_sixteen_with_a_small_pool_and_leases_that_are_kept(self, bank, small, renewals):
        inside, most, lock = [], [], threading.Lock()

        def pay(ctx):
            with ctx.transaction() as connection:
                with lock:
                    inside.append(ctx.index)
                    most.append(len(inside))
                transfer(connection, f"{ctx.index:02}")
                if ctx.index in (0, 7):
                    renewals.await_another("e")
                with lock:
                    inside.remove(ctx.index)

        steps = [StepDef("pay", foreach="inputs.all")]
        sink = small.engine_sink()
        with Engine(pay, EngineConfig(execution_store=sink, lease_ttl=3.0, max_concurrency=16)) as engine:
            if bank.is_sqlite:
                renewals.await_another = lambda execution_id: None  # its own transaction keeps others from writing
            result = bounded(engine.run, FlowDef("f", steps=steps), {"all": [*range(16)]}, execution_id="e")
        sink.close()
        assert result.success, result.error
        assert bank.moved == Moved(100 - 16 * 7, 16 * 7, [f"{index:02}" for index in range(16)])
        assert max(most) == 1

    def test_other_steps_are_recorded_meanwhile_or_wait(self, bank, new_engine):
        begun, go = threading.Event(), threading.Event()

        def handler(ctx):
            if ctx.step.name == "pay":
                with ctx.transaction() as connection:
                    transfer(connection)
                    begun.set()
                    waited(go)
            elif ctx.step.name == "beside":
                waited(begun)
            elif ctx.step.name == "next":
                pass
            if ctx.step.name == ("beside" if bank.is_sqlite else "next"):
                go.set()

        beside = StepDef("beside")
        steps = [StepDef("pay"), beside, StepDef("next", depends_on=[beside])]
        with new_engine(handler, durability="step") as engine:
            result = bounded(engine.run, FlowDef("f", FlowMode.DAG, steps=steps))
        assert result.success
        assert bank.moved == once()


@pytest.mark.parametrize("kind", ["sqlite"])
class TestTheWriteLockOfSqlite:
    """A handler that has it keeps everybody else from writing: so it has it for a limited time."""

    def test_is_given_up_when_half_of_the_leases_time_is_over(self, bank, new_engine, store):
        others = threading.Event()

        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
                threading.Thread(target=lambda: store.save(ExecutionRecord("other", "f")) or others.set()).start()
                waited(others)
                connection.execute("INSERT INTO transfers VALUES ('late')")

        with new_engine(pay, lease_ttl=0.6) as engine:
            error = engine.run(flow())["pay"].error
        assert error.startswith("TransactionFailed: ctx.transaction(): it was open for more than 0.3 s")
        assert bank.moved == UNTOUCHED

    def test_also_where_the_handler_does_not_notice(self, bank, new_engine, store):
        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
            store.ledger.check_writable()  # waits for the lock

        def elsewhere(ctx):
            thread = threading.Thread(target=pay, args=[ctx])
            thread.start()
            thread.join(LONG)
            store.save(ExecutionRecord("other", "f"))

        with new_engine(elsewhere, lease_ttl=0.6) as engine:
            error = engine.run(flow())["pay"].error
        assert error.startswith("TransactionFailed: ctx.transaction(): it was open for more than 0.3 s")
        assert bank.moved == UNTOUCHED

    def test_nobody_waits_for_himself(self, bank, store_url):
        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
                store.save(ExecutionRecord("other", "f"))

        with open_store(store_url) as store, Engine(pay, EngineConfig(execution_store=store)) as engine:
            error = bounded(engine.run, flow())["pay"].error
        assert error.startswith("StoreUnavailable:")
        assert "would wait for itself" in error
        assert bank.moved == UNTOUCHED

    def test_a_script_is_refused_as_python_commits_before_it(self, bank, new_engine):
        def pay(ctx):
            with ctx.transaction() as connection:
                transfer(connection)
                connection.executescript("SELECT 1;")

        with new_engine(pay) as engine:
            assert "executescript commits what is open" in engine.run(flow())["pay"].error
        assert bank.moved == UNTOUCHED

    @pytest.mark.parametrize("store_of", ["bare", "sink"])
    def test_what_ends_beside_it_waits_for_as_long_as_that(self, bank, store_url, store_of, caplog):
        begun, ended = threading.Event(), threading.Event()

        def handler(ctx):
            if ctx.step.name == "beside":
                waited(begun)
                return
            with ctx.transaction() as connection:
                transfer(connection)
                begun.set()
                ended.wait(0.3)  # nobody sets it

        steps = [StepDef("pay"), StepDef("beside")]
        with open_store(store_url) as store, store.engine_sink() as sink:
            config = EngineConfig(execution_store=store if store_of == "bare" else sink)
            with Engine(handler, config) as engine:
                assert bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=steps)).success
        assert bank.moved == once()
        assert "locked" not in caplog.text


class TestNotHere:
    def test_where_there_is_no_thread_to_be_had(self, bank, new_engine, refuse):
        def pay(ctx):
            refuse(*["szal-transaction"] if ctx.attempt == 1 else [])
            with ctx.transaction() as connection:
                transfer(connection, f"attempt {ctx.attempt}")

        with new_engine(pay) as engine:
            assert engine.run(flow(max_retries=1))["pay"].attempts == 2
        assert bank.moved == once("attempt 2")

    def test_without_a_store(self):
        with Engine(lambda ctx: ctx.transaction().__enter__()) as engine:
            error = engine.run(flow())["pay"].error
        assert error.startswith("NotSupportedHere: ctx.transaction() is not supported here: nothing is recorded here")

    def test_with_four_methods(self):
        config = EngineConfig(execution_store=ForeignStore())
        with Engine(lambda ctx: ctx.transaction().__enter__(), config) as engine:
            assert engine.run(flow())["pay"].error.startswith("NotSupportedHere: ctx.transaction()")

    @pytest.mark.parametrize("url", ["memory:", "sqlite:///:memory:"])
    def test_in_memory(self, url):
        def pay(ctx):
            with ctx.transaction():
                pass

        with Engine.open(url, pay) as engine:
            assert engine.run(flow())["pay"].error.startswith("NotSupportedHere: ctx.transaction()")


DIES = """
    from contextlib import suppress
    from durable.bank import transfer
    from szal.stores.sqlite import handlers_connection
    import psycopg
    place = sys.argv[2]
    def pause(here):
        if str(here) == place:
            os.kill(os.getpid(), signal.SIGKILL)
    def around(end):
        def ends(self, how, *arguments):
            if how in ("COMMIT", None):
                pause("before the commit")
            ended = end(self, how, *arguments)
            if how in ("COMMIT", None):
                pause("after the commit")
            return ended
        return ends
    for kind, name in ((handlers_connection.HandlersConnection, "end"), (psycopg.Transaction, "__exit__")):
        setattr(kind, name, around(getattr(kind, name)))
    def handler(ctx):
        if ctx.step.name == "boom":
            raise ValueError("no")
        with ctx.transaction() as connection:
            transfer(connection, "t", pause)
        pause("the end")
        return "moved"
    if place == "undo":
        place, done = "after the commit", StepDef("done", rollbackable=True)
        undone = FlowDef("undone", steps=[done, StepDef("boom")], rollback_on_failure=True)
        by_step = lambda ctx: None if ctx.step.name == "done" else handler(ctx)
        new_engine(by_step, rollback_handler=handler).run(undone, execution_id="e")
    polls = {"until": sys.argv[3], "delay": 0} if len(sys.argv) > 3 else {}
    steps = [StepDef("pay", **polls), StepDef("then")]
    result = new_engine(handler).run(FlowDef("transfer", steps=steps), execution_id="e")
"""


ANYWHERE = [0, 1, 2, 3, "the end", "before the commit", "after the commit"]


@pytest.mark.parametrize("place", ANYWHERE)
def test_killed_anywhere_the_money_is_moved_exactly_once(store_url, bank, new_engine, place):
    killed(DIES, store_url, place)
    is_done = place == "after the commit"
    assert bank.moved == (once() if is_done else UNTOUCHED)

    def handler(ctx):
        if ctx.step.name == "then":
            return ctx.outputs["pay"]
        with ctx.transaction() as connection:
            transfer(connection, "t")
        return "moved again"

    with new_engine(handler) as engine:
        (result,) = engine.recover()
    assert result.outputs == dict.fromkeys(("pay", "then"), "moved" if is_done else "moved again")
    assert bank.moved == once()


def test_killed_after_the_commit_of_an_undo_it_is_not_undone_again(store_url, bank, new_engine):
    killed(DIES, store_url, "undo")
    assert bank.moved == once()

    def fails(ctx):
        raise AssertionError("it was undone")

    with new_engine(rollback_handler=fails) as engine:
        (result,) = engine.recover()
    assert (result.state, bank.moved) == (WorkflowState.ROLLED_BACK, once())


# -- through a connection of the application's own ------------------------------------------------------


class TestTheApplicationsOwn:
    @pytest.fixture
    def mine(self, bank):
        """A connection of the application's."""
        with closing(sqlite3.connect(bank.place, check_same_thread=False) if bank.is_sqlite else bank.connect()) as own:
            yield own

    def test_commits_the_outcome_with_its_own_data(self, bank, new_engine, store, mine):
        seen = []

        def pay(ctx):
            with ctx.transaction(connection=mine) as connection:
                assert connection is mine
                transfer(mine)
            seen.append([*store.ledger.read("e").steps])
            mine.commit()
            seen.extend(name for name, *_ in store.ledger.read("e").steps)
            return {"moved": 7}

        with new_engine(pay) as engine:
            result = engine.run(flow(), execution_id="e")
            assert engine.look("e").steps["pay"].output == {"moved": 7}
        assert (result.outputs, bank.moved) == ({"pay": {"moved": 7}}, once())
        assert seen == [[], "pay"]

    def test_rolled_back_and_raised_is_a_failed_attempt(self, bank, new_engine, store, mine):
        def pay(ctx):
            try:
                with ctx.transaction(connection=mine):
                    transfer(mine, f"attempt {ctx.attempt}")
                if ctx.attempt == 1:
                    raise ValueError("no")
                mine.commit()
            except ValueError:
                mine.rollback()
                raise

        with new_engine(pay) as engine:
            assert engine.run(flow(max_retries=1), execution_id="e")["pay"].attempts == 2
        assert bank.moved == once("attempt 2")

    def test_rolled_back_and_returned_is_none_either(self, bank, new_engine, mine):
        def pay(ctx):
            with ctx.transaction(connection=mine):
                transfer(mine)
            mine.rollback()

        with new_engine(pay) as engine:
            error = engine.run(flow())["pay"].error
        assert error.startswith("TransactionFailed: ctx.transaction(): its owner has rolled it back")
        assert bank.moved == UNTOUCHED

    def test_what_is_raised_after_the_commit_comes_too_late(self, bank, new_engine, mine, caplog):
        def pay(ctx):
            with ctx.transaction(connection=mine, output=lambda: {"id": 1}):
                transfer(mine)
            mine.commit()
            raise ValueError("too late")

        with new_engine(pay) as engine:
            result = engine.run(flow(max_retries=3))
        assert (result.outputs, result["pay"].attempts, bank.moved) == ({"pay": {"id": 1}}, 1, once())
        assert "step pay is done, and committed; then its handler raised ValueError: too late" in caplog.text

    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_still_open_as_the_handler_ends_leaves_the_execution_to_what_becomes_of_it(
        self, bank, new_engine, store, mine, end
    ):
        def pay(ctx):
            with ctx.transaction(connection=mine):
                transfer(mine)
                mine.execute("SELECT 1").fetchall()

        with pytest.raises(TransactionFailed, match="is still open as its handler has ended"):
            bounded(new_engine(pay).run, flow(StepDef("then")), execution_id="e")
        getattr(mine, end)()
        assert store.get("e").state is WorkflowState.RUNNING

        def again(ctx):
            return "again"

        with new_engine(again) as engine:
            (result,) = wait_until(engine.recover)  # the lease is given back once the owner's lock on the file is gone
        assert result.outputs == {"pay": None if end == "commit" else "again", "then": "again"}
        assert bank.moved == (once() if end == "commit" else UNTOUCHED)

    def test_a_lease_that_is_lost_is_not_written_under(self, bank, new_engine, store, mine):
        def pay(ctx):
            take_over(store)
            with ctx.transaction(connection=mine):
                transfer(mine)

        with pytest.raises(LeaseLost):
            new_engine(pay).run(flow(), execution_id="e")
        mine.rollback()
        assert not store.ledger.read("e").steps

    def test_memos_in_the_block_go_with_it(self, bank, new_engine, store, mine):
        def pay(ctx):
            with ctx.transaction(connection=mine):
                found = ctx.once("x", lambda: ctx.attempt)
                transfer(mine, f"attempt {found}")
            if ctx.attempt == 1:
                mine.rollback()
                raise ValueError("no")
            mine.commit()
            return found

        with new_engine(pay) as engine:
            assert engine.run(flow(max_retries=1), execution_id="e").outputs == {"pay": 2}
        assert [text for _, _, text in store.ledger.read("e").memos] == ["2"]

    def test_a_time_out_before_the_block_is_left_refuses_it(self, bank, new_engine, mine):
        go, ended = threading.Event(), []

        def pay(ctx):
            try:
                with ctx.transaction(connection=mine):
                    transfer(mine)
                    waited(go)
            except BaseException as error:
                mine.rollback()
                ended.append(str(error))
                raise

        with new_engine(pay) as engine:
            execution = engine.start(flow(timeout=0.2))
            wait_until(lambda: engine.abandoned)
            go.set()
            assert execution.result(LONG)["pay"].error == "step timeout: pay after 200ms"
        wait_until(lambda: ended)
        assert ended == ["nobody waits for this attempt any more"]
        assert bank.moved == UNTOUCHED

    def test_a_time_out_after_the_block_waits_for_its_owner(self, bank, new_engine, mine):
        def pay(ctx):
            with ctx.transaction(connection=mine):
                transfer(mine)
            while ctx.remaining():
                ctx.sleep(1)
            mine.commit()
            return 7

        with new_engine(pay) as engine:
            assert engine.run(flow(timeout=1.5)).outputs == {"pay": 7}
        assert bank.moved == once()

    def test_another_database_is_refused(self, bank, new_engine, request):
        if bank.is_sqlite:
            elsewhere = sqlite3.connect(":memory:", check_same_thread=False)
        else:
            server = request.getfixturevalue("server")
            server.execute("CREATE DATABASE elsewhere")
            elsewhere = psycopg.connect(server.url.replace("/postgres?", "/elsewhere?"))

        def pay(ctx):
            with ctx.transaction(connection=elsewhere):
                pass

        with new_engine(pay) as engine, closing(elsewhere):
            error = engine.run(flow())["pay"].error
        if not bank.is_sqlite:
            server.execute("DROP DATABASE elsewhere")
        assert error.startswith("ValueError: the connection does not lead to")

    def test_a_copy_of_the_stores_file_is_another_database(self, bank, new_engine, tmp_path):
        if not bank.is_sqlite:
            pytest.skip("a copy of a file")
        copy = sqlite3.connect(tmp_path / "copy.db", check_same_thread=False)

        def pay(ctx):
            with closing(sqlite3.connect(bank.place)) as own:
                own.backup(copy)  # the execution is in it
            with ctx.transaction(connection=copy):
                transfer(copy)
            copy.commit()

        with new_engine(pay) as engine, closing(copy):
            assert engine.run(flow())["pay"].error.startswith("ValueError: the connection does not lead to")
            assert not copy.execute("SELECT * FROM transfers").fetchall()

    @pytest.mark.parametrize("wrong", [object(), "postgresql://localhost/app", "another driver's"])
    def test_what_is_no_connection_of_the_stores_driver_is_refused(self, bank, new_engine, wrong):
        others = sqlite3.connect(":memory:")

        def pay(ctx):
            others_or_wrong = wrong if bank.is_sqlite or wrong != "another driver's" else others
            with ctx.transaction(connection=others_or_wrong):
                pass

        with closing(others), new_engine(pay) as engine:
            assert engine.run(flow())["pay"].error.startswith("TypeError: connection= takes a ")

    def test_the_block_is_no_connection(self, bank, new_engine):
        def pay(ctx):
            ctx.transaction().execute("DELETE FROM accounts")

        with new_engine(pay) as engine:
            error = engine.run(flow())["pay"].error
        assert error.startswith("AttributeError: there is no 'execute' here: ctx.transaction() is a block: write with ")

    def test_where_a_librarys_connection_is_given_it_is_told_what_to_give(self, bank, new_engine):
        def pay(ctx):
            with Session(create_engine("sqlite://")) as session, ctx.transaction(connection=session):
                pass

        with new_engine(pay) as engine:
            error = engine.run(flow())["pay"].error
        assert error.endswith(
            "not a sqlalchemy.orm.session.Session: "
            "give the driver's own, as session.connection().connection.driver_connection"
        )

    @pytest.mark.parametrize("changes_more", [False, True])
    def test_committed_within_the_block_is_told(self, bank, new_engine, mine, changes_more):
        def pay(ctx):
            try:
                with ctx.transaction(connection=mine):
                    transfer(mine)
                    mine.commit()
                    if changes_more and not bank.is_sqlite:
                        mine.execute("INSERT INTO transfers VALUES ('more')")
            finally:
                mine.rollback()

        with new_engine(pay) as engine:
            error = bounded(engine.run, flow())["pay"].error
        assert error.startswith(
            "TransactionFailed: ctx.transaction(): it was committed, or rolled back, within the block"
        )

    def test_a_connection_in_no_transaction_is_refused(self, bank, new_engine, mine):
        if bank.is_sqlite:
            mine.isolation_level = None
        else:
            mine.autocommit = True

        def pay(ctx):
            with ctx.transaction(connection=mine):
                transfer(mine)

        with new_engine(pay) as engine:
            assert engine.run(flow())["pay"].error.startswith("ValueError: no transaction is open on the connection")
        assert bank.moved == UNTOUCHED

    def test_a_transaction_that_was_begun_by_hand_will_do(self, bank, new_engine, mine):
        """As Django's atomic() has it: no transaction begins by itself, and one is open."""

        def pay(ctx):
            with ctx.transaction(connection=mine):
                transfer(mine)
            mine.execute("COMMIT")

        if bank.is_sqlite:
            mine.isolation_level = None
        else:
            mine.autocommit = True
        mine.execute("BEGIN")
        with new_engine(pay) as engine:
            assert engine.run(flow()).success
        assert bank.moved == once()

    def test_asked_for_before_its_first_change_it_may_have_the_write_lock(self, bank, new_engine, mine):
        def pay(ctx):
            block = ctx.transaction(connection=mine)  # waits for what is queued
            mine.execute("BEGIN IMMEDIATE" if bank.is_sqlite else "BEGIN")
            transfer(mine)
            with block:
                pass
            mine.execute("COMMIT")

        if bank.is_sqlite:
            mine.isolation_level = None
        else:
            mine.autocommit = True
        with new_engine(pay) as engine:
            assert engine.run(flow()).success
        assert bank.moved == once()

    @pytest.mark.parametrize("kind", ["sqlite"])
    def test_asked_for_after_its_first_change_it_keeps_the_writer_out(self, bank, new_engine, mine):
        def handler(ctx):
            if ctx.step.name == "before":
                transfer(mine)
                return
            try:
                with ctx.transaction(connection=mine):
                    pass
            finally:
                mine.rollback()

        steps = [StepDef("before"), StepDef("pay")]
        with new_engine(handler, lease_ttl=0.4) as engine:
            error = bounded(engine.run, FlowDef("f", steps=steps))["pay"].error
        assert "call ctx.transaction(connection=…) before its first change" in error
        assert bank.moved == UNTOUCHED

    def test_a_poll_has_none(self, bank, new_engine, mine):
        def pay(ctx):
            with ctx.transaction(connection=mine):
                pass

        with new_engine(pay) as engine:
            error = engine.run(flow(until="output == 1", delay=0))["pay"].error
        assert error.startswith("NotSupportedHere: ctx.transaction(connection=…) is not supported here: the step polls")


DIES_WITH_ITS_OWN = """
    from contextlib import closing
    from durable.bank import Bank, transfer
    place = sys.argv[2]
    def pause(here):
        if str(here) == place:
            os.kill(os.getpid(), signal.SIGKILL)
    bank = Bank(sys.argv[1], make=False)
    def handler(ctx):
        with closing(bank.connect()) as mine:
            with ctx.transaction(connection=mine, output={"moved": 7}):
                transfer(mine, "t", pause)
            pause("before the commit")
            mine.commit()
            pause("after the commit")
        return {"moved": 7}
    result = new_engine(handler).run(FlowDef("transfer", steps=[StepDef("pay"), StepDef("then")]), execution_id="e")
"""


@pytest.mark.parametrize("place", [3, "before the commit", "after the commit"])
def test_killed_around_its_owners_commit_the_money_is_moved_exactly_once(store_url, bank, new_engine, place):
    killed(DIES_WITH_ITS_OWN, store_url, place)
    is_done = place == "after the commit"
    assert bank.moved == (once() if is_done else UNTOUCHED)

    def handler(ctx):
        if ctx.step.name == "then":
            return ctx.outputs["pay"]
        with closing(bank.connect()) as mine:
            with ctx.transaction(connection=mine):
                transfer(mine)
            mine.commit()
        return "moved again"

    with new_engine(handler) as engine:
        (result,) = engine.recover()
    assert result.outputs == dict.fromkeys(("pay", "then"), {"moved": 7} if is_done else "moved again")
    assert bank.moved == once()


class TestSqlAlchemy:
    """As docs/transactions.md has it."""

    @pytest.fixture
    def database(self, bank, store_url):
        url = make_url(store_url if bank.is_sqlite else "postgresql+psycopg://" + store_url.partition("://")[2])
        engine = create_engine(url)
        yield engine
        engine.dispose()

    def run(self, database, new_engine, *, fails):
        def pay(ctx):
            with Session(database) as session, session.begin():
                driver = session.connection().connection.driver_connection
                with ctx.transaction(connection=driver, output=lambda: {"notes": session.scalar(text(COUNT))}):
                    session.execute(text(f"INSERT INTO transfers VALUES ('attempt {ctx.attempt}')"))
                if ctx.attempt == 1 and fails:
                    raise ValueError("no")

        with new_engine(pay) as engine:
            return engine.run(flow(max_retries=1))

    def test_a_session_commits_the_outcome_with_its_objects(self, bank, database, new_engine):
        result = self.run(database, new_engine, fails=False)
        assert (result.outputs, bank.moved.notes) == ({"pay": {"notes": 1}}, ["attempt 1"])

    def test_a_session_that_rolls_back_is_a_failed_attempt(self, bank, database, new_engine):
        result = self.run(database, new_engine, fails=True)
        assert (result["pay"].attempts, bank.moved.notes) == (2, ["attempt 2"])


COUNT = "SELECT count(*) FROM transfers"
