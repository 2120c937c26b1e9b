"""A subject's own process: it prepares one and does one repetition each time it is told to.

Only the standard library is used here, and in a peer's file nothing but that peer: this script runs in the
virtualenvs of peers. It reads requests from stdin and writes answers to stdout, a JSON object a line.
"""

import contextlib
import gc
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

Repetition: TypeAlias = Callable[[], object]
"""Does the work once. Where it returns a float, that is the measure; otherwise the time that the call took is."""


class Job:
    """What a subject is asked for: how much (`size`), and a `folder` of its own for files.

    `given` is what the suite lends: the address of a PostgreSQL server as "postgres", a file as "trace"; as "folder"
    and "database" (an address, too) what all subjects share.
    """

    def __init__(self, size: int, folder: Path, given: Mapping[str, str]) -> None:
        self.size = size
        self.folder = folder
        self.given = given
        self._files = 0

    def new_file(self, suffix: str = ".db") -> Path:
        """Return the path of a file that is not there yet."""
        self._files += 1
        return self.folder / f"{self.size}-{self._files}{suffix}"

    def tails(self, what: str, call: Callable[[], object]) -> "Iterator[Repetition]":
        """Yield a repetition in which `size` threads do *call*, 32 times each, and 512 times in all at least.

        Its measure, in seconds, is what half of the calls ("p50") or 99 of 100 ("p99") took at most, or the time that
        all took together, for each call ("each").
        """
        times = max(32, 512 // self.size)

        def calls(_: int) -> list[float]:
            took = []
            for _ in range(times):
                began = time.perf_counter()
                call()
                took.append(time.perf_counter() - began)
            return took

        def repetition() -> float:
            began = time.perf_counter()
            took = sorted(seconds for each in pool.map(calls, range(self.size)) for seconds in each)
            all_together = time.perf_counter() - began
            return all_together / len(took) if what == "each" else took[len(took) * int(what[1:]) // 100]

        with ThreadPoolExecutor(self.size) as pool:
            yield repetition

    @staticmethod
    def seconds_of(statement: str) -> float:
        """Run *statement* in a new interpreter, and return how long the statement took."""
        code = f"import time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        return float(done.stdout.split()[-1])


Subject: TypeAlias = Callable[[Job], Iterator[Repetition]]
"""Prepares, yields the repetition, cleans up: a generator function that yields once."""


class Prepared:
    """A subject that is ready for one size."""

    def __init__(self, subject: Subject, job: Job) -> None:
        self._manager = contextlib.contextmanager(subject)(job)
        self._repetition = self._manager.__enter__()

    def peak(self) -> float:
        """Do a repetition and return the most bytes that Python's objects took meanwhile, beyond those before it."""
        gc.collect()
        tracemalloc.start()
        try:
            self._repetition()
            return float(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()

    def measure(self, loops: int = 1) -> float:
        """Do *loops* repetitions and return the mean measure."""
        repetition = self._repetition
        gc.collect()
        total = 0.0
        for _ in range(loops):
            began = time.perf_counter()
            own = repetition()
            ended = time.perf_counter()
            total += own if isinstance(own, float) else ended - began
        return total / loops

    def close(self) -> None:
        """Clean up."""
        self._manager.__exit__(None, None, None)


def load(path: str) -> ModuleType:
    """Return the module in the file at *path*, which is not looked up as part of any package."""
    spec = importlib.util.spec_from_file_location("benchmark_subject", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # what decorators of peers look up by name
    spec.loader.exec_module(module)
    return module


def versions(distributions: list[str]) -> dict[str, str]:
    """Return the versions of those that are installed here."""
    found = {"python": sys.version.split()[0]}
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def serve(
    subject: Subject,
    measure: str,
    prepare: Callable[[int], Job],
    requests: Iterator[str],
    answer: Callable[[dict[str, Any]], None],
) -> None:
    """Answer requests until there are no more; *prepare* makes the job of a size, *measure* is "time" or "peak"."""
    prepared: dict[int, Prepared] = {}
    for line in requests:
        request = json.loads(line)
        size = request["size"]
        try:
            if size not in prepared:
                prepared[size] = Prepared(subject, prepare(size))
            began = time.perf_counter()
            one = prepared[size]
            value = one.peak() if measure == "peak" else one.measure(request["loops"])
            answer({"value": value, "took": time.perf_counter() - began})
        except Exception:  # noqa: BLE001 (whatever a peer raises is the answer)
            answer({"error": traceback.format_exc()})
    for one in prepared.values():
        one.close()


def main() -> None:
    """Serve one subject: FILE CASE LABEL MEASURE FOLDER GIVEN DISTRIBUTION…"""
    path, case, label, measure, folder, given, *distributions = sys.argv[1:]
    lent = json.loads(given)
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a peer prints is not an answer

    def answer(reply: dict[str, Any]) -> None:
        replies.write(json.dumps(reply) + "\n")

    try:
        subject = load(path).CASES[case][label]
    except Exception:  # noqa: BLE001
        answer({"error": traceback.format_exc()})
        return
    answer({"versions": versions(distributions)})
    serve(subject, measure, lambda size: Job(size, Path(folder), lent), iter(sys.stdin.readline, ""), answer)


if __name__ == "__main__":
    main()
