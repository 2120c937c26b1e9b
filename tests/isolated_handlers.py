"""What the tests of child processes have done there: functions that are found by import."""

import logging
import os
import signal
import stat
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import szal

LONG = 50.0
IMPORTED_BY = os.getpid()


def note(ctx, name, text=""):
    """Have the test see that it has come so far."""
    path = Path(ctx.inputs["path"], name)
    path.with_suffix(".part").write_text(f"{text or os.getpid()}\n")
    path.with_suffix(".part").rename(path)


def where(ctx):
    return os.getpid()


def surroundings(ctx):
    """Return what this process has of the one that has started it, and say something."""
    print(f"this is {os.getpid()}", flush=True)
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "folder": str(Path.cwd()),
        "later": os.environ.get("SZAL_TEST_LATER"),
        "home": os.environ.get("HOME"),
        "imported_by": IMPORTED_BY,
    }


def told_where(ctx):
    """Have the test know which process this is, and of which server."""
    note(ctx, "server", f"{os.getppid()}")
    note(ctx, "begun")
    time.sleep(LONG)


def gives_back(ctx):
    return ctx.inputs["data"]


def session(ctx):
    return [os.getpid(), os.getsid(0)]


def sleeps(ctx):
    """Sleep, and clean up whatever comes."""
    try:
        note(ctx, "begun")
        time.sleep(LONG)
    finally:
        note(ctx, "cleaned")


def takes_no_notice(ctx):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(ctx, "begun")
    time.sleep(LONG)


def looks(ctx):
    """Run until it is told to end, and end by itself."""
    assert not ctx.cancelled
    note(ctx, "begun")
    while ctx.sleep(LONG):
        pass
    note(ctx, "told", f"{ctx.cancelled}")


def promises(ctx):
    with ctx.ends_within(LONG):
        note(ctx, "begun")
        while not ctx.cancelled:
            time.sleep(0.002)
        time.sleep(0.3)  # longer than the grace
        note(ctx, "given back")


def dies(ctx):
    """Say something, then die: as the name of the step says."""
    for number in range(50):
        ctx.report(number)
        ctx.log.warning("line %d", number)
    if ctx.step.name == "exits":
        os._exit(3)
    if ctx.step.name == "ends":
        os._exit(0)
    os.kill(os.getpid(), getattr(signal, ctx.step.name))


def waits(ctx):
    """Run until there is a file; on the way it may be killed."""
    if ctx.attempt == 1:
        note(ctx, "begun")
        until = time.monotonic() + LONG
        while not Path(ctx.inputs["path"], "go").exists():
            assert time.monotonic() < until
            time.sleep(0.002)
    return ctx.attempt


def forks(ctx):
    """Die, and leave a process in another session that keeps all files open."""
    if ctx.attempt == 1:
        if os.fork() == 0:
            os.setsid()
            note(ctx, "left")
            time.sleep(LONG)
        os.kill(os.getpid(), signal.SIGKILL)
    return ctx.attempt


def closes(ctx):
    """Close all files but three, as old programs do before they begin, and open others in their places."""
    if ctx.attempt == 1:
        os.closerange(3, 300)
        for _ in range(297 if ctx.step.name == "opens" else 0):
            os.open(os.devnull, os.O_RDWR)
    return ctx.attempt


def writes(ctx):
    """Write to whatever there is, as a library does that has got a number wrong."""
    if ctx.attempt == 1:
        for number in range(3, 300):
            with suppress(OSError):
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    os.write(number, b"hello\n" if ctx.step.name == "short" else b"szal" + b"?" * 100)
        time.sleep(LONG)
    return ctx.attempt


def files(ctx):
    """Return the numbers of the files that a program has which this process starts, carelessly."""
    listed = subprocess.run(["ls", "/proc/self/fd"], close_fds=False, capture_output=True, text=True, check=True)
    return [int(number) for number in listed.stdout.split()]


def comes_back_twice(ctx):
    """Fork, and have the fork return, fail or end, after it has said something; say how that ended."""
    pid = os.fork()
    if pid == 0:
        ctx.report("of the fork")
        ctx.log.error("of the fork")
        if ctx.step.name == "asks":
            ctx.once("key", str)
        return "of the fork"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def pages(ctx):
    """Find out three things once, however often it runs."""
    found = [ctx.once(f"page {number}", _fetch, ctx, number) for number in range(3)]
    if ctx.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return found


def _fetch(ctx, number):
    ctx.report(number)
    return {"page": number}


def pages_by_threads(ctx):
    """Find out things once, on many threads."""
    made = []

    def fetch(number):
        made.append(number)
        return number

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda n: ctx.once(f"page {n % 4}", fetch, n % 4), range(32)))
    return [found == [n % 4 for n in range(32)], sorted(made)]


def broken_page(ctx):
    def fails():
        raise KeyError("no such page")

    try:
        ctx.once("page", fails)
    except KeyError as error:
        return [str(error), ctx.once("page", str, "found"), ctx.once("page", fails)]


def odd_keys(ctx):
    told = []
    for key in ctx.step.config["keys"]:
        try:
            ctx.once(key, str)
        except (TypeError, ValueError) as error:
            told.append(str(error))
    return told


def logs(ctx):
    logging.getLogger("library").error("from a library: %s", ctx.step.name, extra={"lock": threading.Lock()})
    try:
        raise ValueError("no")
    except ValueError:
        ctx.log.exception("it failed")
    ctx.log.debug("nobody asked for that")
    logging.getLogger("library").debug("nor for that")


def transaction(ctx):
    with ctx.transaction():
        pass


def time_left(ctx):
    return [ctx.cancelled, 0 < ctx.remaining() <= LONG, ctx.sleep(0.0), ctx.check()]


def interrupted(ctx):
    """In the step "work": find out something once, then wait for a file, and write down how far it came."""
    if ctx.step.name != "work":
        return ctx.step.name
    found = ctx.once("found", _write, ctx, "finds")
    _write(ctx, "begins")
    try:
        note(ctx, "begun")
        while not Path(ctx.inputs["path"], "go").exists():
            time.sleep(0.002)
    finally:
        _write(ctx, "ends")
    return [found, ctx.idempotency_key]


def _write(ctx, line):
    with Path(ctx.inputs["path"], "log").open("a") as file:
        file.write(f"{line}\n")
    return line


flow = szal.Flow("isolated", isolation="process")


@flow.step
def inner():
    return os.getpid()


@flow.step(isolation="thread")
def at_home():
    return os.getpid()
