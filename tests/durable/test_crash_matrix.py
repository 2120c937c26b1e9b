"""Processes that die at every write and every call of a handler, and what is recovered after that.

A fault point stands before and after each of them: some 90 in a run of the flow "modes" (105 where each step is waited
for, "step"), some 30 in one of "undoing" (40), some 60 in one of "by a person". They differ by a few from run to run,
as writes that come together share a transaction. A process dies at every thirteenth of them, and at a fourth of these
another dies in the recovery. Where the tests are run on several versions of Python, as they are before a change is
taken in, each takes others. SZAL_TEST_FULL=1: at every one, once and twice. And at fewer, on PostgreSQL that does not
stay as it is meanwhile (durable/unsteady.py): it crashes and is restarted, fails over to a standby, is behind
PgBouncer.

The lives are led by a script, which forks a child for each death: durable/crashes.py.
"""

import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from durable.conftest import DATABASES, fast_directory
from durable.unsteady import KINDS, Unsteady
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import run_script, zygote
from stores.postgres_server import OwnServer, PostgresServer
from zygote import Process

from szal.stores import open_store

FULL = bool(os.environ.get("SZAL_TEST_FULL"))
EVERY = 1 if FULL else 13
AGAIN = 1 if FULL else 4
FEWER = {"undoing a family": 2 * EVERY, "items": 5, "undoing items": 5, "failing fast": 5}
"""Every how manieth is taken of flows that have more of them, or fewer."""

# The fault points that a flow must have: before and after each kind of write, and each call of a handler for a step
# or for undoing it; of calls that always raise, there is none after. How many writes there are differs.
PASSED = {
    "modes": "create, take_over, apply, send, act first, act ask, act flaky, act once, act l1, act l2, act l3, act t, "
    "act t1, act t2, act u, act b1, act b2, act b3, act p1, act p2, act then, "
    "act l4, act clean, act tell, act quick, act won",
    "by a person": "create, take_over, apply, request_pause, act first, act halt, act late, act last",
    "undoing": "create, apply, act a, act b, act c, act d, act plain, undo boom, undo d, undo b, undo a, "
    "act tell, act clean",
    "undoing a family": "create, take_over, apply, act a, act m1, act i1, act i2, act b, act p1, "
    "undo b, undo i1, undo i2, undo m1, undo a, act m2, act z1, act z2",
    "items": "create, apply, act listed, act each[0], act each[1], act each[2], act each[3], act all of it, "
    "act some[0], act some[2]",
    "undoing items": "create, apply, act each[0], act each[1], act each[2], act some[0], act some[2], "
    "undo each[0], undo each[1], undo each[2], undo some[0], undo some[2]",
    "failing fast": "create, apply, act some[0], act tell, undo some[0]",
}
RAISING = {
    "modes": "act broken, act caught",
    "by a person": "act hasty, act pay",
    "undoing": "act boom, undo c",
    "undoing a family": "act boom",
    "items": "act some[1]",
    "undoing items": "act some[1]",
    "failing fast": "act some[1]",
}

SCRIPT = Path(__file__).with_name("crashes.py")


class Matrices:
    """The script, at work on one database: begun once, as its warming up takes as long as many lives."""

    def __init__(self, url: str, log: Path) -> None:
        self._arguments = [url, str(log)]
        self._script: Process | None = None

    def try_points(
        self, flow: str, durability: str, trouble: Callable[[], None] = lambda: None, **options: object
    ) -> dict[str, Any]:
        """Die at fault points of *flow*; return how many there are, of what, and how many were died at.

        With ``calls=True`` *trouble* is called at random moments of the lives, but not of the first: that one tells how
        all must end.
        """
        request = {"flow": flow, "durability": durability, "seed": random.randrange(10**6), **options}
        script = self._script = self._script or Process(zygote(), run_script(SCRIPT), self._arguments)
        try:
            script.stdin.write(f"{json.dumps(request)}\n")
            script.stdin.flush()
            while (line := script.stdout.readline()) == "now\n":
                trouble()
            assert line, f"{request}: {script.communicate()[1]}"
        except BaseException:
            self.close()  # what it says next, if anything, is no answer to the next request
            raise
        answer: dict[str, Any] = json.loads(line)
        assert "error" not in answer, f"{request}: {answer['error']}"
        return answer

    def close(self) -> None:
        if self._script is not None:
            self._script.kill()
            self._script.communicate()
            self._script = None


@pytest.fixture(scope="module", params=DATABASES)
def matrices(request: pytest.FixtureRequest) -> Iterator[Matrices]:
    """The script, for a database of each kind."""
    with fast_directory() as path:
        if request.param == "sqlite":
            url = f"sqlite:///{path}/szal.db"
        else:
            server: PostgresServer = request.getfixturevalue("server")
            url = server.url_of(schema := server.new_schema())
        open_store(url).close()
        found = Matrices(url, path / "log")
        yield found
        found.close()
        if request.param == "postgres":
            server.drop_schema(schema)


@pytest.mark.timeout(600 if FULL else 120)
@pytest.mark.parametrize("durability", ["none", "flow", "step"])
@pytest.mark.parametrize("flow", PASSED)
def test_after_dying_anywhere_recover_ends_as_if_nothing_had_happened(
    matrices: Matrices, durability: str, flow: str
) -> None:
    every = 1 if FULL else FEWER.get(flow, EVERY)
    minor = sys.version_info.minor
    options = {"every": every, "first": 1 + minor % every, "again": AGAIN, "again_first": minor % AGAIN}
    done = matrices.try_points(flow, durability, **options)
    assert set(done["places"]) == _places(flow)
    deaths = done["points"] / every * (1 + 1 / AGAIN)
    assert done["once"] + done["twice"] > deaths / 2 - 1  # threads race: the last points are not there in every run


def _places(flow: str) -> set[str]:
    passed, raising = PASSED[flow].split(", "), RAISING[flow].split(", ")
    return {f"before {each}" for each in passed + raising} | {f"after {each}" for each in passed}


def test_after_a_real_sigkill_and_another(matrices: Matrices) -> None:
    """Each life a process with the store that an application opens; each version of Python takes a durability."""
    durabilities = ("none", "flow", "step")
    for durability in durabilities if FULL else [durabilities[sys.version_info.minor % 3]]:
        options = {"spared": False, "by_signal": True}
        done = matrices.try_points("modes", durability, every=50, again=1, **options)
        assert done["once"] + done["twice"] >= 1


@settings(max_examples=12 if FULL else 3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), durability=st.sampled_from(["none", "flow", "step"]))
def test_random_flows_killed_at_random_points(matrices: Matrices, seed: int, durability: str) -> None:
    matrices.try_points("random", durability, seed=seed, every=10, again=1)


@pytest.fixture(scope="module", params=KINDS)
def unsteady(request: pytest.FixtureRequest, server: PostgresServer) -> Iterator[Unsteady]:
    """PostgreSQL in each kind of trouble."""
    if not isinstance(server, OwnServer):
        pytest.skip("trouble is made for a server of our own only")
    yield from KINDS[request.param](server)


@pytest.mark.timeout(140)
@pytest.mark.skipif(not FULL, reason="takes some five minutes")
@pytest.mark.parametrize("durability", ["none", "flow", "step"])
@pytest.mark.parametrize("flow", PASSED)
def test_after_dying_while_there_is_trouble_with_the_server_it_is_the_same(
    unsteady: Unsteady, fast_path: Path, durability: str, flow: str
) -> None:
    """Each life that dies, and most of the others, call for trouble, which comes as they go on."""
    matrices = Matrices(unsteady.url, fast_path / "log")
    before = unsteady.count
    try:
        options = {"every": unsteady.every, "again": 2, "spared": False, "calls": True}
        done = matrices.try_points(flow, durability, unsteady.happen, **options)
    finally:
        matrices.close()
    assert set(done["places"]) == _places(flow)
    deaths = done["once"] + done["twice"]
    assert deaths > 0
    if unsteady.troubles:
        assert unsteady.count - before >= deaths
        assert done["troubled"] > 0 or flow != "modes"  # the others are short: not every one has a write under way
