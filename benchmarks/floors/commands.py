"""A command whose output goes to a file."""

import subprocess
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject


def to_file(job: "Job") -> "Iterator[Repetition]":
    """As a shell's ``>`` does it: nobody reads along."""

    def repetition() -> None:
        with tempfile.TemporaryFile() as file:
            subprocess.run(["sh", "-e", "-c", f"seq {job.size}"], stdin=subprocess.DEVNULL, stdout=file, check=True)

    yield repetition


CASES: "dict[str, dict[str, Subject]]" = {"lines": {"the command, to a file": to_file}}
