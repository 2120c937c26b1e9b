"""What a signal handler raises, and what only looks like it, where no szal store records the run."""

import pytest
from stores.samples import run_python

SCENE = """
import faulthandler, os, signal, sys, threading, time
from szal import *
faulthandler.dump_traceback_later(40, exit=True)  # a hang ends, and is seen

class TookTooLong(Exception):
    pass

def own_ctrl_c(*_):
    raise KeyboardInterrupt

def leave(*_):
    sys.exit(1)

def too_long(*_):
    raise TookTooLong

WAYS = {
    "ctrl-c": (signal.SIGINT, signal.default_int_handler),
    "own ctrl-c": (signal.SIGINT, own_ctrl_c),
    "exit": (signal.SIGTERM, leave),
    "alarm": (signal.SIGALRM, too_long),
    "own sigint": (signal.SIGINT, too_long),
}

class Store(dict):
    saves = 0
    def save(self, record):
        self.saves += 1
        self[record.execution_id] = record
        strike(f"save {self.saves}")
    def list(self, flow_name=None): return [*self]
    def remove(self, key): return self.pop(key, None)

store, calls, undone = Store(), [], []
at = None

def use(how, place):
    global number, at
    number, at = WAYS[how][0], place
    signal.signal(*WAYS[how])

def strike(here):
    global at
    if here == at:  # once
        at = None
        signal.raise_signal(number)

def work(ctx):
    calls.append(ctx.step.name)
    strike(ctx.step.name)
    return ctx.step.name

def listen(event):
    strike(f"{event.event_type} {event.step_name}")

def new_engine(handler=work, store=store, **config):
    return Engine(handler, EngineConfig(
        execution_store=store, rollback_handler=lambda ctx: undone.append(ctx.step.name), event_sink=listen, **config
    ))

def raised_by(function, *args, **kwargs):
    try:
        return str(function(*args, **kwargs).state)
    except BaseException as error:
        return type(error).__name__

def tell(*words):
    print(*words, flush=True)
    os._exit(0)
"""

RAISED = {
    "ctrl-c": "KeyboardInterrupt",
    "own ctrl-c": "KeyboardInterrupt",
    "exit": "SystemExit",
    "alarm": "TookTooLong",
    "own sigint": "TookTooLong",
}


def told(code, **names):
    """Return what the scene tells, run with *names* defined."""
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    done = run_python(SCENE + given + code, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


CTRL_C = ["ctrl-c", "own ctrl-c"]
ANY = ["exit", "alarm", "own sigint", *CTRL_C]


class TestWithoutASzalStoreNobodyCouldGoOn:
    @pytest.mark.parametrize("how", ANY)
    def test_so_the_run_is_cancelled_and_undone_and_it_propagates(self, how):
        code = """
use(how, "c")
steps = [StepDef(name, rollbackable=True) for name in "abcd"]
raised = raised_by(new_engine().run, FlowDef("f", steps=steps, rollback_on_failure=True), execution_id="e")
tell(raised, store["e"].state, store["e"].error, *undone, "|", *calls)
"""
        assert told(code, how=how) == f"{RAISED[how]} rolled_back cancelled b a | a b c"

    @pytest.mark.parametrize("steps", ["a", "ab"], ids=["only step", "last step"])
    @pytest.mark.parametrize("how", CTRL_C)
    def test_in_the_last_step_too(self, how, steps):
        code = """
use(how, steps[-1])
flow = FlowDef("f", steps=[StepDef(name) for name in steps])
tell(raised_by(new_engine().run, flow, execution_id="e"), store["e"].state, store["e"].error)
"""
        assert told(code, how=how, steps=steps) == "KeyboardInterrupt cancelled cancelled"

    @pytest.mark.parametrize("how", ANY)
    @pytest.mark.parametrize("at", ["step_started b", "step_completed a"])
    def test_where_it_comes_up_in_a_sink(self, how, at):
        code = """
use(how, at)
steps = [StepDef(name, rollbackable=True) for name in "abc"]
raised = raised_by(new_engine().run, FlowDef("f", steps=steps, rollback_on_failure=True), execution_id="e")
tell(raised, store["e"].state, *undone[-1:])
"""
        assert told(code, how=how, at=at) == f"{RAISED[how]} rolled_back a"

    @pytest.mark.parametrize("how", ANY)
    def test_where_it_comes_up_in_the_store(self, how):
        code = """
use(how, "save 1")
flow = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
engine = new_engine()
raised = raised_by(engine.run, flow, execution_id="e")
tell(raised, store["e"].state, raised_by(engine.run, flow, execution_id="e"))
"""
        assert told(code, how=how) == f"{RAISED[how]} cancelled cancelled"

    @pytest.mark.parametrize("how", ANY)
    @pytest.mark.parametrize("recorded", [True, False], ids=["foreign store", "no store"])
    def test_handlers_on_other_threads_are_told_and_waited_for(self, how, recorded):
        code = """
use(how, None)
together = threading.Barrier(3)
heard, ended = [], []
def handler(ctx):
    together.wait(30)
    if not ctx.sleep(40):
        heard.append(ctx.step.name)
    ended.append(ctx.step.name)

def press():
    together.wait(30)
    os.kill(os.getpid(), number)

threading.Thread(target=press, daemon=True).start()
flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")])
engine = new_engine(handler, store if recorded else None, cancel_grace=1000)
raised = raised_by(engine.run, flow, execution_id="e")
tell(raised, *sorted(heard), "|", *sorted(ended), store["e"].state if recorded else "")
"""
        expected = f"{RAISED[how]} a b | a b {'cancelled' if recorded else ''}"
        assert told(code, how=how, recorded=recorded) == expected.strip()


class TestAHandlersOwnException:
    """It is its step's failure, whatever the program has installed for signals."""

    @pytest.mark.parametrize("mode", ["SEQUENTIAL", "PARALLEL"], ids=["inline", "on a worker"])
    @pytest.mark.parametrize(
        "what", ["sys.exit(3)", "raise TookTooLong", "raise SystemExit", "raise BaseException('odd')"]
    )
    def test_fails_its_step(self, mode, what):
        code = f"""
for way in ("ctrl-c", "exit", "alarm"):
    use(way, None)
def handler(ctx):
    {what}
flow = FlowDef("f", FlowMode.{mode}, steps=[StepDef("a"), StepDef("b")])
result = new_engine(handler).run(flow)
tell(result.state, result["a"].status, result["a"].error_type)
"""
        kind = {"sys.exit(3)": "SystemExit"}.get(what, what.removeprefix("raise ").removesuffix("('odd')"))
        assert told(code) == f"failed failed {kind}"

    def test_is_that_of_a_handler_that_limits_its_own_time_and_has_put_the_old_signal_handler_back(self):
        code = """
def limited(function, seconds):
    def on_alarm(*_):
        raise TookTooLong
    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return function()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

def handler(ctx):
    calls.append(ctx.step.name)
    if ctx.step.name == "b" and ctx.attempt == 1:
        limited(lambda: time.sleep(5), 0.05)

result = new_engine(handler).run(FlowDef("f", steps=[StepDef("a"), StepDef("b", max_retries=1, retry_delay=0)]))
tell(result.state, *calls, result["b"].attempts)
"""
        assert told(code) == "completed a b b 2"

    def test_is_not_that_of_one_that_has_not(self):
        code = """
use("alarm", None)
def handler(ctx):
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    time.sleep(5)
flow = FlowDef("f", steps=[StepDef("a", max_retries=1, retry_delay=0), StepDef("b")])
tell(raised_by(new_engine(handler).run, flow, execution_id="e"), store["e"].state)
"""
        assert told(code) == "TookTooLong cancelled"


class TestASecondCtrlC:
    @pytest.mark.parametrize(
        "at",
        [
            "step_started a",
            "step_completed a",
            "step_completed b",
            "step_completed in child",
            "flow_completed child",
            "flow_completed f",
        ],
    )
    def test_gets_out_of_a_sink_that_hangs(self, at):
        code = """
pressed, inside, over = [], threading.Event(), threading.Event()
def listen(event):
    global at
    if f"{event.event_type} {event.step_name or event.flow_name}" == at:
        at = None
        inside.set()
        threading.Event().wait(30)

def press():
    inside.wait(30)
    while not over.wait(0.1):
        pressed.append(1)
        os.kill(os.getpid(), signal.SIGINT)

presser = threading.Thread(target=press, daemon=True)
presser.start()
child = FlowDef("child", steps=[StepDef("in child")])
steps = [StepDef("a"), StepDef("b")]
if "child" in at:
    steps = [StepDef("sub", step_type="sub_flow", config={"flow_name": "child"})]
engine = new_engine(storage=InMemoryStorage([child]))
flow = FlowDef("f", steps=steps)
try:
    engine.run(flow, execution_id="e")
except KeyboardInterrupt:
    over.set()
presser.join()
tell(len(pressed) < 8, store["e"].state)
"""
        assert told(code, at=at).split()[0] == "True"

    def test_gets_out_of_a_store_that_hangs(self):
        code = """
inside, over, pressed = threading.Event(), threading.Event(), []
class Hanging(Store):
    def save(self, record):
        super().save(record)
        if self.saves == 2:
            inside.set()
            threading.Event().wait(30)

def press():
    inside.wait(30)
    while not over.wait(0.1):
        pressed.append(1)
        os.kill(os.getpid(), signal.SIGINT)

at = None
presser = threading.Thread(target=press, daemon=True)
presser.start()
try:
    new_engine(store=Hanging()).run(FlowDef("f", steps=[StepDef("a"), StepDef("b")]), execution_id="e")
except KeyboardInterrupt:
    over.set()
presser.join()
tell(len(pressed) < 8)
"""
        assert told(code) == "True"
