"""Processes that die at every write and every call of a handler, and what is recovered after that.

A fault point stands before and after each of them: some 90 in a run of the flow "modes" (105 where each step is waited
for, "step"), some 30 in one of "undoing" (40). They differ by a few from run to run, as writes that come together share
a transaction. A process dies at every third of them, and at a third of these another dies in the recovery. Where
the tests are run on three successive versions of Python, as they are before a change is taken in, each takes another
third. SZAL_TEST_FULL=1: at every one, once and twice.

The lives are led by a script, which forks a child for each death: durable/crashes.py.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import UNMEASURED

FULL = bool(os.environ.get("SZAL_TEST_FULL"))
EVERY = 1 if FULL else 3
AGAIN = 1 if FULL else 3
FEWEST = {"modes": 50, "undoing": 20, "undoing a family": 40}  # there are more, whatever shares a transaction

SCRIPT = Path(__file__).with_name("crashes.py")


class Matrices:
    """The script, at work on one database."""

    def __init__(self, url: str, log: Path) -> None:
        self._script = subprocess.Popen(
            [sys.executable, str(SCRIPT), url, str(log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=UNMEASURED,  # else there would be a file for each of the hundreds that die
        )

    def try_points(self, flow: str, durability: str, **options: object) -> dict[str, float]:
        """Die at fault points of *flow*; return how many there are, and how many were died at."""
        request = {"flow": flow, "durability": durability, "seed": random.randrange(10**6), **options}
        self._script.stdin.write(f"{json.dumps(request)}\n")  # type: ignore[union-attr]
        self._script.stdin.flush()  # type: ignore[union-attr]
        line = self._script.stdout.readline()  # type: ignore[union-attr]
        assert line, f"{request}: {self._script.communicate()[1]}"
        answer = json.loads(line)
        assert "error" not in answer, f"{request}: {answer['error']}"
        return answer

    def close(self) -> None:
        self._script.kill()
        self._script.communicate()


@pytest.fixture
def matrices(store_url: str, fast_path: Path) -> Iterator[Matrices]:
    """The script, for a database of each kind."""
    found = Matrices(store_url, fast_path / "log")
    yield found
    found.close()


@pytest.mark.timeout(600 if FULL else 120)
@pytest.mark.parametrize("durability", ["none", "flow", "step"])
@pytest.mark.parametrize("flow", ["modes", "undoing", "undoing a family"])
def test_after_dying_anywhere_recover_ends_as_if_nothing_had_happened(
    matrices: Matrices, durability: str, flow: str
) -> None:
    every = EVERY * (1 if FULL or flow != "undoing a family" else 3)
    minor = sys.version_info.minor
    options = {"every": every, "first": 1 + minor % every, "again": AGAIN, "again_first": minor % AGAIN}
    done = matrices.try_points(flow, durability, **options)
    assert done["points"] > FEWEST[flow]
    deaths = done["points"] / every * (1 + 1 / AGAIN)
    assert done["once"] + done["twice"] > deaths / 2  # threads race: the last few points are not there in every run


def test_after_a_real_sigkill_and_another(matrices: Matrices) -> None:
    for durability in ("none", "flow", "step"):
        options = {"spared": False, "by_signal": True}
        done = matrices.try_points("modes", durability, every=50, again=1, **options)
        assert done["once"] + done["twice"] >= 1


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), durability=st.sampled_from(["none", "flow", "step"]))
def test_random_flows_killed_at_random_points(matrices: Matrices, seed: int, durability: str) -> None:
    matrices.try_points("random", durability, seed=seed, every=10, again=1)
