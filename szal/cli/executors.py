"""``--executor``: where the attempts of a run are made, as a person names it."""

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Final

import attrs
import click

__all__ = ["Elsewhere", "executor_option", "opened_executor"]

_LOCAL: Final = re.compile(r"(threads|processes)(?::([1-9][0-9]{0,5}))?", re.ASCII)
_DASK: Final = re.compile(r"dask://([^\s/:@?#\[\]]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?/?", re.ASCII)
_PORT: Final = 8786
"""Of a dask scheduler that says nothing else."""
_FORMS: Final = "threads, processes (as threads:8, processes:8), or dask://host:port"


@attrs.frozen
class Elsewhere:
    """An executor, and how many attempts it makes at a time."""

    executor: Executor
    workers: int


def _checked(_ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    if text is None or _LOCAL.fullmatch(text):
        return text
    found = _DASK.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is none of {_FORMS}", param=param)
    if found[2] is not None and not 0 < int(found[2]) < 1 << 16:
        raise click.BadParameter(f"{text!r}: there is no port {found[2]}", param=param)
    return text


executor_option = click.option(
    "--executor",
    metavar="WHERE",
    callback=_checked,
    help=f"Where functions are called: {_FORMS}. They are found by import there; commands run here. A number is one of"
    " workers, else there is one for each core.",
)


@contextlib.contextmanager
def opened_executor(text: str | None) -> Iterator[Elsewhere | None]:
    """Yield the executor of that name, which has passed the option's check.

    On leaving, it is told to end, and not waited for. Raises `MissingExtra`, and OSError where there is no scheduler.
    """
    if text is None:
        yield None
        return
    found = _local(text) or _cluster(text)
    try:
        yield found
    finally:
        found.executor.shutdown(wait=False, cancel_futures=True)


def _local(text: str) -> Elsewhere | None:
    match = _LOCAL.fullmatch(text)
    if match is None:
        return None
    workers = int(match[2]) if match[2] else _cores()
    if match[1] == "threads":
        from concurrent.futures import ThreadPoolExecutor

        return Elsewhere(ThreadPoolExecutor(workers), workers)
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    return Elsewhere(ProcessPoolExecutor(workers, get_context("spawn"), _begin_worker), workers)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin_worker() -> None:
    """Leave Ctrl-C to the command line, and end with it: it may have to leave at once, when nobody tells its workers.

    What a process of the pool begins with.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="szal-parent", daemon=True).start()


def _end_with_parent() -> None:
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _cluster(text: str) -> Elsewhere:
    match = _DASK.fullmatch(text)
    assert match is not None
    from szal.contrib.dask import DaskExecutor

    executor = DaskExecutor.connect(f"tcp://{match[1]}:{match[2] or _PORT}")
    return Elsewhere(executor, executor.workers)
