"""Clusters of dask for the tests: one of two processes that all share, and others that are there to be killed.

As a script it is a cluster: it prints the address of its scheduler, and ends when it gets a lock on the file that is
named, or, where none is named, when its standard input is closed.
"""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import szal

if TYPE_CHECKING:
    import distributed

HERE = Path(__file__).parent
QUIET = 60  # no level of logging is as high
CONFIG = {
    # Else a worker that is not there again after a second is given up, as it may be on a loaded machine.
    "distributed.deploy.lost-worker-timeout": "1h",
    # Nor is one that is not heard of for long, as it is not given the processor.
    "distributed.comm.timeouts.tcp": "600s",
    "distributed.comm.timeouts.connect": "120s",
    "distributed.scheduler.worker-ttl": None,
    # What watches over the cluster takes as much time, all the while, as the tests that use it.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.profile.enabled": False,
    "distributed.worker.profile.interval": "10s",
    "distributed.worker.profile.cycle": "100s",
    "distributed.worker.memory.monitor-interval": "10s",
    "distributed.scheduler.work-stealing-interval": "1s",
    "distributed.scheduler.active-memory-manager.start": False,
}


def begin(*arguments: object) -> "tuple[subprocess.Popen[str], str]":
    """Begin a cluster; return its process, and where its scheduler is."""
    found = [Path(szal.__file__).parents[1], HERE, HERE.parent / "examples", os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(map(str, found))
    environ = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    process = subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**environ, "PYTHONPATH": path},
        start_new_session=True,
        text=True,
    )
    address = process.stdout.readline().strip()
    assert address, "the cluster did not begin"
    return process, address


def end(process: "subprocess.Popen[str]") -> None:
    """End a cluster at once, with its workers: they are of its process group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@contextmanager
def connected(address: str) -> "Iterator[distributed.Client]":
    """Yield a client of the cluster whose scheduler is there."""
    from szal.contrib.dask import DaskExecutor

    executor = DaskExecutor.connect(address, timeout=30)
    try:
        yield executor.client
    finally:
        executor.client.close()


@contextmanager
def own_cluster(workers: int = 1, *, processes: bool = True) -> Iterator["tuple[subprocess.Popen[str], str]"]:
    """Begin a cluster that may be killed; without *processes* its worker is a thread of the scheduler's process."""
    process, address = begin(workers, int(processes))
    try:
        yield process, address
    finally:
        end(process)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Be the only one who has that file."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def shared_cluster(folder: Path) -> Iterator[str]:
    """Yield where the cluster is that all have who name this folder: begun by the first, it ends after the last."""
    told, users = folder / "dask-address", folder / "dask-users"
    with users.open("a") as mine:
        with (folder / "dask-start").open("a") as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            fcntl.flock(mine, fcntl.LOCK_SH)
            if not told.exists():
                process, address = begin(2, 1, users, told)
                told.write_text(address)
                process.stdin.close()
                process.stdout.close()
                process.returncode = 0  # nobody waits for it: others may need it longer
        yield told.read_text()


def await_last(users: str, told: str) -> None:
    with Path(users).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        Path(told).unlink()


def main(workers: str, processes: str, *files: str) -> None:
    import dask.config
    from distributed import LocalCluster

    dask.config.set(CONFIG)  # its processes get that too
    out: IO[str] = sys.stdout
    with LocalCluster(
        n_workers=int(workers),
        threads_per_worker=1,
        processes=bool(int(processes)),
        protocol="tcp://",
        dashboard_address=None,
        silence_logs=QUIET,
    ) as cluster:
        print(cluster.scheduler_address, file=out, flush=True)
        if files:
            await_last(*files)
        else:
            sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
