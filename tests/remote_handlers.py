"""What the tests of executors have done elsewhere: functions that are found by import."""

import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from szal import Flow, GiveUp, SkipStep

LONG = 20.0

basics = Flow("basics")


@basics.step
def double(n):
    return [2 * n, os.getpid()]


@basics.step
def told(ctx, double, *, unit="kg"):
    return {"double": double[0], "unit": unit, "attempt": ctx.attempt}


def where(ctx):
    return [os.getpid(), threading.current_thread().name]


def members(ctx):
    return {
        "step": ctx.step.name,
        "flow_name": ctx.flow_name,
        "execution_id": ctx.execution_id,
        "inputs": ctx.inputs,
        "outputs": dict(ctx.outputs),
        "first": str(ctx.steps["first"].status),
        "config": ctx.config,
        "attempt": ctx.attempt,
        "poll": ctx.poll,
        "key": ctx.idempotency_key,
        "has_time": 0 < ctx.remaining() <= LONG,
        "pid": os.getpid(),
    }


def config(ctx):
    return ctx.config


def item(ctx):
    return [ctx.index, ctx.item, ctx.idempotency_key]


def second_attempt(ctx):
    if ctx.attempt == 1:
        raise ConnectionError("not yet")
    return ctx.attempt


def poll(ctx):
    return ctx.poll


def fail(ctx):
    raise ValueError(ctx.inputs.get("why", "no"))


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def fail_unpicklable(ctx):
    raise Unpicklable("it", "cannot travel")


def give_up(ctx):
    raise GiveUp("no licence")


def skip(ctx):
    raise SkipStep("nothing to do")


def leave(ctx):
    raise SystemExit(3)


def asks(ctx):
    what = ctx.step.config["what"]
    if what == "cancelled":
        return ctx.cancelled
    return getattr(ctx, what)(*ctx.step.config["args"])


def lock(ctx):
    return threading.Lock()


def append(path, line):
    with Path(path).open("a") as file:
        file.write(line + "\n")


def undo(ctx):
    append(ctx.inputs["log"], f"undo {ctx.step.name} {ctx.output} {ctx.reason} {os.getpid()}")


def step_or_fail(ctx):
    if ctx.step.name == "fail":
        raise ValueError("no")
    return ctx.step.name


def at_the_end(ctx):
    if ctx.step.finally_:
        return f"{ctx.flow.state}: {ctx.flow.error}"
    raise ValueError("no")


def is_there(ctx):
    return ctx.inputs["there"]


def by_name(a, b, ctx):
    return [a, b, ctx.step.name, os.getpid()]


AROUND = []


@contextmanager
def around(ctx):
    AROUND.append(ctx.step.name)
    yield
    AROUND.pop()


@contextmanager
def broken_around(ctx):
    raise OSError("no session")
    yield


def within(ctx):
    return [*AROUND, os.getpid()]


def await_file(ctx):
    """Say that it has begun, then wait for a file."""
    append(ctx.inputs["begun"], ctx.step.name)
    until = time.monotonic() + LONG
    while not Path(ctx.inputs["go"]).exists():
        if time.monotonic() > until:
            raise TimeoutError("the file of the test never came")
        time.sleep(0.002)
    return ctx.step.name


def nothing(ctx):
    return ctx.step.name


def log_secret(ctx):
    ctx.log.warning("the key is %s", ctx.inputs["key"])
    raise ValueError(f"refused: {ctx.inputs['key']}")


def die_once(ctx):
    """End the process, where the file is not there."""
    go = Path(ctx.inputs["go"])
    if ctx.step.name == "dies" and not go.exists():
        os._exit(1)
    return ctx.step.name
