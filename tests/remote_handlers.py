"""What the tests of executors have done elsewhere: functions that are found by import."""

import os
import signal
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
        self.lock = threading.Lock()  # with dask's help all else can


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


large = Flow("large")


@large.step
def doubled(text):
    return text * 2


@large.step(foreach="inputs.places")
def part(doubled, item):
    return doubled[:item]


def length(ctx):
    if ctx.step.name == "a":
        return ctx.inputs["text"] * 2
    return [ctx.item, len(ctx.outputs["a"])]


changing = Flow("changing")


@changing.step
def numbers(n):
    return list(range(n))


@changing.step(foreach=[1, 2, 3, 4])
def change(numbers, item):
    numbers.append(item)
    return len(numbers)


@changing.step(needs=change)
def after(numbers):
    return len(numbers)


def tell_and_wait(begun, go):
    append(begun, "begun")
    until = time.monotonic() + LONG
    while not Path(go).exists():
        if time.monotonic() > until:
            raise TimeoutError("the file of the test never came")
        time.sleep(0.002)


def die(ctx):
    """Say that it was called; of the step that *dies*, kill the process, so often."""
    log, name = ctx.inputs["log"], ctx.step.name
    append(log, name)
    if name == ctx.inputs["dies"] and Path(log).read_text().split().count(name) <= ctx.inputs["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def dies_somewhere(ctx):
    """Write a line as its effect, and kill a process before or after that, at one place, once."""
    name = ctx.step.name if ctx.index is None else f"{ctx.step.name}[{ctx.index}]"
    for when in ("before", "after"):
        died = Path(ctx.inputs["died"])
        if ctx.inputs["place"] == f"{when} {name}" and not died.exists():
            died.touch()
            os.kill(ctx.inputs.get("pid") or os.getpid(), signal.SIGKILL)
            time.sleep(LONG)  # until that is noticed
        if when == "before":
            append(ctx.inputs["log"], name)
    return [name, sorted(ctx.outputs)]


def dies_together(ctx):
    """Kill a process, once, when another step has begun as well."""
    name = ctx.step.name
    append(ctx.inputs["log"], name)
    died = Path(ctx.inputs["died"])
    if died.exists() or name == "first":
        return name
    if name == "pay":
        until = time.monotonic() + LONG
        while Path(ctx.inputs["log"]).read_text().split().count("look") == 0 and time.monotonic() < until:
            time.sleep(0.002)
        died.touch()
        os.kill(ctx.inputs["pid"], signal.SIGKILL)
    time.sleep(LONG)
    return name


doomed = Flow("doomed")


@doomed.step
def begun():
    return os.getpid()


@doomed.step
def kills(begun, pid, died):
    if not Path(died).exists():
        Path(died).touch()
        os.kill(pid, signal.SIGKILL)
        time.sleep(LONG)
    return "done"
