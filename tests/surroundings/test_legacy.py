"""docs/legacy.md: what old programs do beside a flow, each in a process of its own."""

import io
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from pairs import FULL
from processes import UNMEASURED

import szal

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "legacy.md"
METHODS = ["fork", "spawn", "forkserver"]
PAIRS = [("fork", "postgres"), ("spawn", "sqlite")]


def run(*command, cwd, text=None):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=UNMEASURED,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def program(text, *arguments, cwd):
    """Return what a program prints on stdout."""
    return run("-c", textwrap.dedent(text), *arguments, cwd=cwd).stdout


@pytest.mark.parametrize(
    ("method", "kind"), [(method, kind) for method in METHODS for kind in ("sqlite", "postgres")] if FULL else PAIRS
)
def test_handlers_use_multiprocessing_and_flows_run_in_its_children(method, kind, request, tmp_path):
    url = "sqlite:///szal.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    printed = run("-W", "ignore", Path(__file__).with_name("children.py"), method, url, cwd=tmp_path).stdout
    assert printed.splitlines() == [
        "{'pool': [1, 4, 9], 'process': 0}",
        "child-inherited 9",
        "child-own 16",
    ]


LOGGING = """
import szal
flow = szal.Flow("night")
@flow.step(timeout=0.01)
def hangs(ctx):
    ctx.sleep(5)
    import time
    time.sleep(0.05)
engine = szal.Engine(flow)
{configure}
engine.run(flow.definition)
"""


def test_what_the_page_says_of_logging_keeps_szals_lines_and_the_defaults_do_not(tmp_path):
    configured = next(
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "dictConfig" in block
    )
    assert "disable_existing_loggers" in configured
    kept = run("-c", LOGGING.format(configure=configured), cwd=tmp_path).stderr
    assert "step hangs of night" in kept
    assert "runs past its time" in kept
    lost = configured.replace('"disable_existing_loggers": False,', "")
    assert lost != configured
    assert "runs past its time" not in run("-c", LOGGING.format(configure=lost), cwd=tmp_path).stderr


FORKS = """
import os, sys, szal
flow = szal.Flow("forks", rollback_on_failure=True)
def forks(by):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if by == "returning":
        return "the child's"
    raise {"raising": ValueError("of the child"), "leaving": SystemExit(7)}[by]
here = flow.step(forks, name="here")
here.rollback(forks)
flow.step(lambda ctx: print("after", flush=True), name="after", needs=here)
flow.step(forks, name="thread", timeout="1m", needs="after")
flow.step(lambda ctx: 1 // 0, name="fails", needs="thread")
for by in ("returning", "raising", "leaving"):
    result = flow.run({"by": by}, store=sys.argv[1], inline="auto")
    print(by, result["here"].output, result["here"].undo_output, result["thread"].output, flush=True)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"] if FULL else ["sqlite"])
def test_a_fork_that_comes_back_from_a_step_ends_there(kind, request, tmp_path):
    """It goes on with no flow, undoes nothing, and does not stay."""
    url = "sqlite:///szal.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    done = run("-W", "ignore", "-c", FORKS, url, cwd=tmp_path)
    assert done.stdout.splitlines() == [
        *("after", "returning 0 0 0"),
        *("after", "raising 1 1 1"),
        *("after", "leaving 7 7 7"),
    ]
    assert done.stderr.count("a fork of this process has failed in step") == 3
    assert done.stderr.count("ValueError: of the child") == 3


AT_EXIT = """
import atexit, sys
def last(name):
    try:
        print(name, engine.run(flow, {"n": 1}, execution_id=name).outputs["both"])
    except BaseException as error:
        print(name, type(error).__name__)
atexit.register(last, "before szal")
import szal
atexit.register(last, "after the import")
flow = szal.Flow("last")
@flow.step
def a(n): return n
@flow.step
def b(n): return n
@flow.step
def both(a, b): return a + b
engine = szal.Engine.open(sys.argv[1], flow)
atexit.register(last, "after the engine")
print("main", engine.run(flow, {"n": 5}).outputs["both"])
"""


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"] if FULL else ["sqlite"])
def test_a_flow_may_run_at_exit_where_that_was_registered_after_szal(kind, request, tmp_path):
    url = {"memory": "memory:", "sqlite": "sqlite:///szal.db"}.get(kind) or request.getfixturevalue("postgres_url")
    told = ["main 10", "after the engine 2", "after the import 2", "before szal StoreClosed"]
    assert program(AT_EXIT, url, cwd=tmp_path).splitlines() == told


TYPED = """
import szal
f = szal.Flow("f")
@f.step
def load(n):
    return n

@f.step
def double(load):
    return 2 * load

print(f.run({"n": 4}, store="sqlite:///szal.db", execution_id="x"))
engine = szal.Engine.open("sqlite:///szal.db", f)
result = engine.start(f, {"n": 5}, execution_id="y").follow()
result.outputs
@f.step
def more(double):
    return double + 1

f.run({"n": 4}, store="sqlite:///szal.db", execution_id="x")
f.run({"n": 4}, store="sqlite:///szal.db", execution_id="z").outputs
"""


def test_flows_are_written_run_and_followed_in_a_repl(tmp_path):
    done = run("-i", "-q", cwd=tmp_path, text=TYPED)
    shown = re.sub(r"\d+\.\d\ds", "0.00s", re.sub(r"^(>>> |\.\.\. )+", "", done.stdout, flags=re.M)).splitlines()
    assert shown == [
        "flow 'f' completed (execution x)",
        "  load    completed  0.00s",
        "  double  completed  0.00s",
        "load: completed",
        "double: completed",
        "flow 'f' completed (execution y)",
        "{'load': 5, 'double': 10}",
        "{'load': 4, 'double': 8, 'more': 9}",
    ]
    assert "DefinitionMismatch: execution x was started with a different definition: step 'more' is new" in done.stderr


def test_ctrl_c_ends_the_following_and_not_the_run(monkeypatch, capsys):
    class Interrupted(io.StringIO):
        def write(self, text):
            raise KeyboardInterrupt  # as it would come up there

    begun, may_end = threading.Event(), threading.Event()

    def handler(ctx):
        begun.set()
        may_end.wait(20)
        return 42

    with szal.Engine(handler) as engine:
        execution = engine.start(szal.FlowDef("night", steps=[szal.StepDef("load")]), execution_id="e1")
        begun.wait(20)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", Interrupted())
            with pytest.raises(KeyboardInterrupt):
                execution.follow()
        assert not execution.done
        may_end.set()
        assert execution.follow().outputs == {"load": 42}
    assert capsys.readouterr().out.splitlines()[-1] == "flow 'night' completed (execution e1)"


CELL = """
import threading, szal
go_on, flow = threading.Event(), szal.Flow("night")
@flow.step
def load():
    go_on.wait(30)
@flow.step
def report(load):
    return "<b>"
engine = szal.Engine(flow)
execution = engine.start(flow, execution_id="e1")
threading.Timer(0.3, go_on.set).start()
execution.follow()
"""


def test_a_notebook_shows_how_a_run_gets_on_and_what_it_came_to(tmp_path):
    manager = pytest.importorskip("jupyter_client.manager", reason="there is no jupyter_client here")
    pytest.importorskip("ipykernel", reason="there is no ipykernel here")
    kernel, client = manager.start_new_kernel(kernel_name="python3", cwd=str(tmp_path), env=UNMEASURED)
    try:
        shown = []
        reply = client.execute_interactive(CELL, output_hook=shown.append, timeout=30)
        assert reply["content"]["status"] == "ok", shown
        pages = [
            (each["msg_type"], each["content"]["data"]["text/html"]) for each in shown if "data" in each["content"]
        ]
        kinds = [kind for kind, _ in pages]
        assert kinds[0] == "display_data"
        assert set(kinds[1:-1]) == {"update_display_data"}
        assert kinds[-1] == "execute_result"
        assert "<td>load</td><td>running</td>" in pages[0][1]
        assert "<td>load</td><td>completed</td>" in pages[-2][1]
        assert pages[-1][1].startswith("<p>flow &#x27;night&#x27; completed (execution e1)</p><table>")
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
