"""Processes that die at every write and every call of a handler, and what is recovered after that.

Each matrix runs in a script of its own, which forks a child for every life: durable/crashes.py.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from szal.stores import open_store

# Not measured for coverage, which would write a file for each of the hundreds of children that die here.
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
SCRIPT = Path(__file__).with_name("crashes.py")


def matrix(url: str, log: Path, durability: str, *, flow: str, mode: str, seed: int = 0) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), url, str(log), durability, flow, mode, str(seed)],
        capture_output=True,
        text=True,
        env=CLEAN,
        timeout=55,
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    return json.loads(done.stdout)


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
@pytest.mark.parametrize("flow", ["modes", "undoing"])
def test_after_dying_anywhere_recover_ends_as_if_nothing_had_happened(
    sqlite_url: str, fast_path: Path, durability: str, flow: str
) -> None:
    done = matrix(sqlite_url, fast_path / "log", durability, flow=flow, mode="every")
    assert done["points"] > 20
    assert done["tried"] > done["points"] * 0.7  # threads race: the last few are not there in every run


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
@pytest.mark.parametrize("flow", ["modes", "undoing"])
def test_after_dying_again_during_the_recovery(sqlite_url: str, fast_path: Path, durability: str, flow: str) -> None:
    done = matrix(sqlite_url, fast_path / "log", durability, flow=flow, mode="twice", seed=random.randrange(10**6))
    assert done["tried"] > 3


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_after_a_real_sigkill_and_another(store_url: str, fast_path: Path, durability: str) -> None:
    done = matrix(store_url, fast_path / "log", durability, flow="modes", mode="signal", seed=random.randrange(10**6))
    assert done["points"] > 20


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), durability=st.sampled_from(["none", "flow", "step"]))
def test_random_flows_killed_at_random_points(sqlite_url: str, fast_path: Path, seed: int, durability: str) -> None:
    with open_store(sqlite_url) as store:  # what a failed example left behind
        for each in store.list():
            store.remove(each)
    matrix(sqlite_url, fast_path / f"log-{seed}-{durability}", durability, flow="random", mode="twice", seed=seed)
