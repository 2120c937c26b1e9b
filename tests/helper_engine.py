"""What the tests of the engine share: a call that cannot hang, a foreign store, an interpreter of their own."""

import copy
import os
import queue
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import szal

LONG = 40.0  # a bound for what takes milliseconds where nothing is broken


class Hang(AssertionError):
    """A call did not come back."""


def bounded(function, *args, timeout=LONG, **kwargs):
    """Return or raise what the call does, made on a daemon thread; Hang if it does not come back."""
    outcome = queue.SimpleQueue()

    def work():
        try:
            outcome.put((function(*args, **kwargs), None))
        except BaseException as error:
            outcome.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        value, error = outcome.get(timeout=timeout)
    except queue.Empty:
        raise Hang(f"{function!r} hangs") from None
    if error is not None:
        raise error
    return value


def waited(event):
    """Wait for a threading.Event in a handler; fail rather than hang."""
    if not event.wait(LONG):
        raise TimeoutError("the event of the test never came")


class ForeignStore:
    """The four methods that any store has, and `saves`: a copy of every record as it was saved."""

    def __init__(self):
        self.saves = []
        self.records = {}

    def save(self, record):
        snapshot = copy.copy(record)
        self.saves.append(snapshot)
        self.records[record.execution_id] = snapshot

    def get(self, execution_id):
        return self.records.get(execution_id)

    def list(self, flow_name=None):
        return [key for key, record in self.records.items() if flow_name in (None, record.flow_name)]

    def remove(self, execution_id):
        return self.records.pop(execution_id, None)

    def states(self, execution_id=None):
        """Return the states in the order in which they were saved."""
        return [str(record.state) for record in self.saves if execution_id in (None, record.execution_id)]


def until_cancelled(begun):
    """Return a handler that sets *begun*, and sleeps until it is cancelled."""

    def handler(ctx):
        begun.set()
        while ctx.sleep(LONG):
            pass
        return ctx.cancelled

    return handler


def statuses(result):
    """Return name -> status of a FlowResult, as text."""
    return {step.step_name: str(step.status) for step in result.steps}


def errors(result):
    """Return name -> error of the steps that have one."""
    return {step.step_name: step.error for step in result.steps if step.error is not None}


def run_new_python(tmp_path, code, timeout=50.0):
    """Run *code* as `stores.samples.run_python` does, in an interpreter that has not imported szal yet."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    path = os.pathsep.join([str(Path(szal.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
