"""Two processes, one database, many executions: the processes are killed at random and replaced for some time."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from durable.soak import DURABILITIES, FLOWS
from processes import UNMEASURED

from szal import WorkflowState
from szal.stores import open_store

pytestmark = pytest.mark.slow

FULL = bool(os.environ.get("SZAL_TEST_FULL"))
EXECUTIONS = 200 if FULL else 80
SECONDS = 30 if FULL else 3  # of killing; then all is calm, and what is left is done
SCRIPT = Path(__file__).with_name("soak.py")

NEEDS = {"b": "a", "c": "a", "inside": "a", "j": "i", "d": "bc"}
"""What must have ended before a step begins, in any of the flows: at least that."""


class Soak:
    """The script, at work on one database."""

    def __init__(self, url: str, log: Path) -> None:
        self._url = url
        self._log = log
        self._seed = str(random.randrange(10**6))
        command = [sys.executable, str(SCRIPT), url, str(log), str(EXECUTIONS), str(SECONDS), self._seed]
        self._script = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=UNMEASURED, start_new_session=True
        )

    def close(self) -> None:
        """End it and its workers, if they have not ended."""
        with suppress(ProcessLookupError):
            os.killpg(self._script.pid, signal.SIGKILL)
        self._script.communicate()

    def judge(self) -> None:
        """Wait for its end, and look at what it has left."""
        out, err = self._script.communicate()
        assert self._script.returncode == 0, f"seed {self._seed}: {err}"
        notes = [json.loads(line) for line in self._log.read_text().splitlines()]
        kills = json.loads(out)["kills"]
        assert kills >= SECONDS
        _all_are_finished(self._url)
        _none_was_finished_twice(notes, kills)
        _no_two_lives_ran_one_step(notes)
        _nothing_that_was_recorded_ran_again(notes)


@pytest.mark.timeout(120)
def test_workers_killed_at_random_finish_all_executions_and_none_twice(
    sqlite_url: str, postgres_url: str, fast_path: Path
) -> None:
    open_store(postgres_url).close()
    with (
        closing(Soak(sqlite_url, fast_path / "sqlite")) as sqlite,
        closing(Soak(postgres_url, fast_path / "postgres")) as postgres,
    ):
        sqlite.judge()
        postgres.judge()


def _all_are_finished(url: str) -> None:
    with open_store(url) as store:
        assert store.count(states=[WorkflowState.RUNNING, WorkflowState.PAUSED, WorkflowState.ROLLING_BACK]) == 0
        for number in range(EXECUTIONS):
            record = store.get(f"e{number}")
            assert record is not None
            assert record.state is WorkflowState.COMPLETED
            flow = FLOWS[number % len(FLOWS)]
            outputs = {step.name: step.name for step in flow.walk()}
            assert record.result.outputs == outputs | ({"inside": {"i": "i", "j": "j"}} if "inside" in outputs else {})


def _none_was_finished_twice(notes: list[dict[str, Any]], kills: int) -> None:
    completed = Counter(note["execution"] for note in notes if note["what"] == "completed")
    assert set(completed.values()) == {1}
    assert len(completed) >= EXECUTIONS - kills  # of who is killed between the commit and the event, it is not heard


def _no_two_lives_ran_one_step(notes: list[dict[str, Any]]) -> None:
    killed: set[int] = set()
    last: dict[tuple[str, str], int] = {}
    for note in notes:
        if note["what"] == "kill":
            killed.add(note["victim"])
        elif note["what"] == "begin":
            step = tuple(note["step"])
            assert step not in last or last[step] in killed, f"{note} was begun by one that lives"
            last[step] = note["pid"]


def _nothing_that_was_recorded_ran_again(notes: list[dict[str, Any]]) -> None:
    """With "step", whatever a step needed was recorded when it began."""
    recorded: set[tuple[str, str]] = set()
    for note in notes:
        if note["what"] == "begin":
            execution, step = note["step"]
            assert (execution, step) not in recorded, f"{note} was recorded"
            if note["durability"] == DURABILITIES[0]:
                recorded.update((execution, need) for need in NEEDS.get(step, ""))
