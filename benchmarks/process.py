"""Subjects in processes of their own, each asked for one repetition at a time."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import benchmarks
import szal
from benchmarks import worker
from benchmarks.case import Case
from benchmarks.party import Role

__all__ = ["SubjectFailed", "SubjectProcess"]


class SubjectFailed(Exception):
    """A subject that gave an error, died, or took too long."""


class SubjectProcess:
    """The process of one subject of one case. *limit* seconds are the most that one request may take.

    Between requests it is stopped, with all that it has started: some peers keep servers and pollers busy.
    """

    def __init__(self, case: Case, role: Role, folder: Path, limit: float, given: Mapping[str, str]) -> None:
        self._limit = limit
        self._folder = folder
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        party = role.party
        measure = "time" if case.peak_of is None else "peak"
        what = [party.file, case.source, role.label, measure, str(folder), json.dumps(given), *party.distributions]
        self._process = subprocess.Popen(
            [party.python, "-P", worker.__file__, *what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=folder,
            env=_environment(folder, ours=role.peer is None),
            start_new_session=True,  # some peers start servers: they end with it
        )
        try:
            self.versions: dict[str, str] = self._answer()["versions"]
        except SubjectFailed:
            self.close()
            raise

    def measure(self, size: int, loops: int) -> tuple[float, float]:
        """Have *loops* repetitions done; return the mean measure, and what all took with what is not counted.

        The first time that is after preparing.
        """
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps({"size": size, "loops": loops}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise SubjectFailed(f"ended by itself: {self._last_words()}") from None
        answer = self._answer()
        return float(answer["value"]), float(answer["took"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._signal(signal.SIGKILL)

        timer = threading.Timer(self._limit, stop)
        timer.daemon = True  # a Ctrl-C may come as it starts, and the interpreter is not to wait for it
        try:
            timer.start()
            line = self._process.stdout.readline()
        finally:  # also at Ctrl-C: whose process group is it by then?
            timer.cancel()
        self._signal(signal.SIGSTOP)
        if late.is_set():
            raise SubjectFailed(f"took more than {self._limit:g} s")
        if not line:
            raise SubjectFailed(f"ended by itself: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise SubjectFailed(answer["error"].strip().splitlines()[-1])
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "(nothing on stderr)"

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def close(self) -> None:
        """Let it clean up, then end whatever is left of it."""
        self._signal(signal.SIGCONT)
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(10)
        self._signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _environment(folder: Path, *, ours: bool) -> dict[str, str]:
    """Return the environment: a home of its own for a peer's files, compiled modules for the import times."""
    environment = {**os.environ, "HOME": str(folder), "NO_COLOR": "1"}
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"):
        environment.pop(name, None)
    if ours:
        # The szal that is imported here, and only then the one beside the suite, if that is another.
        places = [Path(module.__file__).parents[1] for module in (szal, benchmarks)]
        environment["PYTHONPATH"] = os.pathsep.join(str(place) for place in places)
    return environment
