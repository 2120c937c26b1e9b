"""``ctx.transaction(connection=…)`` in a test whose store is in memory: the step is done if what it wrote stands."""

import sqlite3
from contextlib import closing

import psycopg
import pytest
from helper_engine import bounded

from szal import Flow
from szal.testing import crash_after, run_flow


@pytest.fixture(params=["sqlite", "postgres"])
def connection(request, tmp_path):
    """A connection of the application's, in the midst of the one transaction of a test."""
    if request.param == "postgres":
        found = psycopg.connect(request.getfixturevalue("postgres_url"))
    else:
        found = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
        found.execute("BEGIN")
    with closing(found) as connection:
        connection.execute("CREATE TABLE notes (note TEXT)")
        yield connection
        assert notes(connection) is not None, "the transaction can still be used"
        connection.rollback()


def notes(connection):
    return [note for (note,) in connection.execute("SELECT note FROM notes").fetchall()]


def writing(connection, *, fails_at=()):
    """A flow whose step writes in a savepoint, and fails in some attempts after it has; and what it has made."""
    flow, made = Flow("write"), []

    @flow.step(max_retries=3, retry_delay=60)
    def note(ctx):
        connection.execute("SAVEPOINT here")
        try:
            with ctx.transaction(connection=connection, output=lambda: f"noted in attempt {ctx.attempt}"):
                connection.execute("INSERT INTO notes VALUES ('moved')")
                made.append(ctx.once("key", lambda: ctx.attempt))
            if ctx.attempt in fails_at:
                raise ConnectionError("just after it")
        except BaseException:
            connection.execute("ROLLBACK TO here")
            raise
        finally:
            connection.execute("RELEASE here")

    return flow, made


def test_it_is_done_where_that_stands(connection):
    flow, _ = writing(connection)
    result = bounded_here(flow)
    assert result["note"].output == "noted in attempt 1"
    assert notes(connection) == ["moved"]


def test_it_is_done_again_where_it_was_rolled_back(connection):
    flow, made = writing(connection, fails_at=(1, 2))
    result = bounded_here(flow)
    assert (result["note"].output, result.total_duration) == ("noted in attempt 3", 120)
    assert notes(connection) == ["moved"]
    assert made == [1, 2, 3], "what was found out in it is rolled back, too"


@pytest.mark.parametrize("recorded", [True, False])
def test_a_crash_leaves_both_or_neither(connection, recorded):
    flow, made = writing(connection)
    result = bounded_here(flow, crash=crash_after("note", recorded=recorded))
    assert result["note"].output == "noted in attempt 1"
    assert notes(connection) == ["moved"]
    assert len(made) == (1 if recorded else 2)


def test_what_is_no_connection_is_told_of():
    flow = Flow("f")

    @flow.step
    def a(ctx):
        with ctx.transaction(connection=42):
            pass

    assert "takes a connection of psycopg's or sqlite3's, not int" in run_flow(flow)["a"].error


def test_one_of_the_stores_own_needs_a_database():
    flow = Flow("f")

    @flow.step
    def a(ctx):
        with ctx.transaction():
            pass

    assert "the test's store is in memory" in bounded(run_flow, flow)["a"].error


def bounded_here(flow, **options):
    """Run it on this thread, whose connection it is."""
    return run_flow(flow, inline="always", **options)
