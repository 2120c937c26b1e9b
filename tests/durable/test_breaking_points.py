"""A store that fails at each single operation of each thing that a run does: all can go on, and comes to its end.

In memory, at one of five, once. SZAL_TEST_FULL=1: at each one, from each one on, and in the databases.
"""

import threading
import time
from collections import Counter
from contextlib import ExitStack, closing, suppress
from itertools import count

import pytest
from durable.failing import Broken, FailingSink
from helper_engine import LONG, Hang, bounded, waited
from injection import Injection
from pairs import FULL
from processes import wait_until

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    InMemoryStorage,
    StepDef,
    SzalError,
    WorkflowState,
)
from szal.engine import family, launching, lifecycle
from szal.errors import StoreError, StoreUnavailable, WriteFailed
from szal.stores.writes import Release, Save

pytestmark = pytest.mark.timeout(300 if FULL else 30)

COMPLETED, CANCELLED, FAILED = WorkflowState.COMPLETED, WorkflowState.CANCELLED, WorkflowState.FAILED
ROLLED_BACK = WorkflowState.ROLLED_BACK
LIVE = [state for state in WorkflowState if state.is_live]
LEASE = 0.2  # seconds
EVERY = 1 if FULL else 5
STRIDE = 1 if FULL else 61
SOON = 5.0  # to bring all to its end, where nothing fails any more


class Faults:
    """Have operation number *at* fail, counted from `begin` on; with *on*, the later ones, too, until `heal`."""

    def __init__(self, at, error, *, after, on):
        self._at = at
        self._error = error
        self._after = after  # it is done, and fails all the same
        self._on = on
        self._lock = threading.Lock()
        self._counts = False
        self.count = 0
        self.failed = ""

    def begin(self):
        self._counts = True

    def heal(self):
        self._counts = False

    def wrap(self, name, function):
        def operation(*args, **kwargs):
            with self._lock:
                counts = self._counts and name != "ledger.renew"  # which comes when it comes
                self.count += counts
                fails = counts and (self.count == self._at or (self._on and self.count > self._at))
            if not fails:
                return function(*args, **kwargs)
            self.failed = self.failed or f"{name} {type(args[0]).__name__ if args else ''}"
            if self._after and name != "write":
                function(*args, **kwargs)
            raise self._error

        return operation


# -- what is run -----------------------------------------------------------------------------------------------


def sub(name, flow_name, **options):
    return StepDef(name, step_type="sub_flow", config={"flow_name": flow_name}, **options)


def waits(name, **config):
    return StepDef(name, step_type="wait", config={"signal": "go", **config})


def chain(*steps, **options):
    made = [StepDef(step) if isinstance(step, str) else step for step in steps]
    return FlowDef("f", steps=made, **options)


ONCE = StepDef("once", idempotent=False)
STORAGE = InMemoryStorage(
    [
        FlowDef("plain", steps=[StepDef("i"), StepDef("undoable", rollbackable=True)]),
        FlowDef("waits", steps=[StepDef("i"), waits("ask"), StepDef("k")]),
        FlowDef("holds", steps=[StepDef("i"), sub("below", "waits")]),
        FlowDef("short", FlowMode.PARALLEL, steps=[sub("below", "waits"), StepDef("heeds")], timeout=0.02),
    ]
)
BESIDE = [StepDef("a"), sub("sub", "holds")]


class Path:
    """A flow, how the run of it that meets trouble begins, and how the execution may end."""

    def __init__(self, flow, *ends, resumes=False, told=True):
        self.flow = flow
        self.ends = ends
        self.resumes = resumes
        self.told = told  # somebody sends the signal


PATHS = {
    "completing": Path(chain("a", ONCE, "c"), COMPLETED),
    "completing with a sub-flow": Path(chain("a", sub("sub", "plain"), "c"), COMPLETED),
    "sleeping": Path(
        chain("a", StepDef("nap", step_type="sleep", config={"seconds": 0.001}), waits("ask", timeout=0.0, default=1)),
        COMPLETED,
    ),
    "pausing": Path(chain("a", waits("ask"), "c"), COMPLETED),
    "pausing for a time": Path(chain("a", waits("ask", timeout=0.03, default=1), "c"), COMPLETED, told=False),
    "pausing with sub-flows": Path(chain("a", sub("sub", "holds"), "c"), COMPLETED),
    "resuming": Path(chain("a", waits("ask"), "c"), COMPLETED, resumes=True),
    "resuming for a time": Path(
        chain("a", waits("ask", timeout=0.03, default=1), "c"), COMPLETED, resumes=True, told=False
    ),
    "resuming with sub-flows": Path(chain("a", sub("sub", "holds"), "c"), COMPLETED, resumes=True),
    "draining": Path(chain("a", "closes", "c"), COMPLETED),
    "draining with sub-flows": Path(FlowDef("f", FlowMode.PARALLEL, steps=[*BESIDE, StepDef("closes")]), COMPLETED),
    # What is asked for by a token is lost where that it was could not be recorded: then it goes on.
    "cancelling": Path(chain("a", "cancels", "c"), CANCELLED, COMPLETED),
    "cancelling with sub-flows": Path(
        FlowDef("f", FlowMode.PARALLEL, steps=[*BESIDE, StepDef("cancels")]), CANCELLED, COMPLETED
    ),
    "timing out with sub-flows": Path(
        FlowDef("f", FlowMode.PARALLEL, steps=[*BESIDE, StepDef("heeds")], timeout=0.02), FAILED, COMPLETED
    ),
    "a sub-flow's timing out": Path(chain("a", sub("sub", "short"), "c"), FAILED, COMPLETED),
    "rolling back": Path(
        chain(StepDef("a", rollbackable=True), sub("sub", "plain"), "fails", rollback_on_failure=True), ROLLED_BACK
    ),
    "cancelling and rolling back": Path(
        chain(StepDef("a", rollbackable=True), sub("sub", "plain"), "cancels", "c", rollback_on_failure=True),
        ROLLED_BACK,
        COMPLETED,
    ),
}


class Scene:
    """One run of a path in an engine whose store may fail, and another engine that brings all to its end."""

    def __init__(self, path, name, open_one, faults):
        self.path = path
        self.name = name
        self.faults = faults
        self.calls = Counter()
        self.token = CancellationToken()
        self.asked = threading.Event()  # once the sub-flow of the sub-flow waits
        self._opened = open_one(), open_one()
        self.store = self._opened[1]
        self._made = [opened.engine_sink() for opened in self._opened]
        config = {
            "storage": STORAGE,
            "rollback_handler": lambda ctx: None,
            "lease_ttl": LEASE,
            "cancel_grace": 5.0,
            "event_sink": self.hear,
        }
        stores = FailingSink(self._made[0], faults), self._made[1]
        self.engine, self.other = (Engine(self, EngineConfig(execution_store=each, **config)) for each in stores)

    def close(self):
        for each in (self.engine, self.other, *self._made):
            with suppress(WriteFailed):
                bounded(each.close)
        if self._opened[0] is not self._opened[1]:
            for opened in self._opened:
                opened.close()

    def __call__(self, ctx):
        name = ctx.step.name
        self.calls[name] += 1
        if name == "fails":
            raise ValueError("it fails")
        if name in ("cancels", "closes", "heeds") and BESIDE[1] in self.path.flow.steps:
            for _ in range(400):
                if self.asked.is_set() or not ctx.sleep(0.0005):
                    break
        if name == "cancels":
            self.token.cancel()
        elif name == "closes":
            self.engine.close(drain=0)
        elif name == "heeds":
            ctx.sleep(0.05)
        return name

    def hear(self, event):
        if (event.step_name, event.event_type) == ("ask", "step_started"):
            self.asked.set()

    def play(self):
        """Run it, while the store fails; return what the call raised, if anything."""
        path, engine = self.path, self.engine
        if path.resumes:
            engine.run(path.flow, execution_id=self.name)
            self.tell()
        self.faults.begin()
        try:
            if path.resumes:
                engine.resume(self.name)
            else:
                engine.run(path.flow, execution_id=self.name, cancel=self.token)
        except (SzalError, Broken) as error:
            return error
        finally:
            self.faults.heal()
        return None

    def tell(self):
        """Send the signal to all that is not over, where somebody does."""
        for execution_id in self.live() if self.path.told else ():
            bounded(self.other.signal, execution_id, "go")

    def live(self):
        return [summary.execution_id for summary in self.store.find(states=LIVE, limit=None)]

    def finish(self, told):
        """Bring all to its end by `recover` alone, which leaves alone what waits for a person."""
        if self.store.get(self.name) is None:
            bounded(self.other.run, self.path.flow, execution_id=self.name)
        end = time.monotonic() + SOON
        while live := self.live():
            states = {each: (str(self.store.get(each).state), self.store.ledger.holder(each)) for each in live}
            assert time.monotonic() < end, f"{told}: nobody goes on with {states}"
            self.tell()
            bounded(self.other.recover)
            for execution_id in live:
                with suppress(ValueError, SzalError):  # nothing is to be decided, or it is being run
                    bounded(self.other.resolve, execution_id, "once", "completed", "once")
            threading.Event().wait(0.001)
        return self.store.get(self.name)


ERRORS = [StoreUnavailable("the test's store", "away"), Broken("broken")]
WAYS = [(error, after) for error in ERRORS for after in (False, True)]


@pytest.mark.parametrize("on", [False, True] if FULL else [False], ids=["once", "from there on"] if FULL else ["once"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"] if FULL else ["memory"])
def test_a_store_that_fails_anywhere_leaves_what_goes_on_to_its_end(open_one, path, on):
    for at in count(1 + len(path) % EVERY, EVERY):
        for error, after in WAYS if FULL else WAYS[(at + len(path)) % 4 :][:1]:
            faults = Faults(at, error, after=after, on=on)
            with closing(Scene(PATHS[path], f"e{at}-{error}-{after}", open_one, faults)) as scene:
                raised = bounded(scene.play)
                told = f"operation {at}{', done,' if after else ''} {faults.failed}: {raised!r}"
                record = scene.finish(told)
            assert record.state in PATHS[path].ends, told
            assert scene.calls["once"] <= 1, told
            if not faults.failed:
                assert record.state is PATHS[path].ends[0], told
                return


# -- an exception in the midst of the engine's own work --------------------------------------------------------


class Slip(Exception):
    """A fault in the engine itself."""


MAY_FAIL_A_STEP = ("launch", "_child")
"""What comes up there before anything is recorded is the step's failure."""


def slip():
    raise Slip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["memory"])
def test_an_exception_anywhere_in_the_engines_own_work_ends_all_of_it_or_leaves_all_of_it(open_one, path):
    """At some of the lines of what takes executions from one state to the next; SZAL_TEST_FULL=1: at all of them."""
    for moment in count(len(path) % STRIDE, STRIDE):
        injection = Injection(moment, [family, launching, lifecycle], slip, opcodes=False, without=MAY_FAIL_A_STEP)

        def play(injection=injection):
            with injection:
                return scene.play()

        with closing(Scene(PATHS[path], f"e{moment}", open_one, Faults(0, None, after=False, on=False))) as scene:
            try:
                raised = bounded(play, timeout=SOON)
            except Hang as problem:
                problem.add_note(f"line {moment} {injection.line.strip()}")
                raise
            except Slip as error:
                raised = error
            told = f"line {moment} {injection.line.strip()}: {raised!r}"
            record = scene.finish(told)
        assert record.state in (FAILED, ROLLED_BACK, *PATHS[path].ends), told
        if not injection.happened:
            return


# -- what it found, cut down -----------------------------------------------------------------------------------


class Refusing(FailingSink):
    """A sink that refuses the first write that it is to refuse, once `error` is set."""

    def __init__(self, target, is_refused):
        super().__init__(target, self)
        self.is_refused = is_refused
        self.error = None

    def wrap(self, _, function):
        return function

    def write(self, write):
        error = self.error
        if error is not None and self.is_refused(write):
            self.error = None
            raise error
        super().write(write)


def saves(state):
    return lambda write: isinstance(write, Save) and write.state is state


def releases(write):
    return isinstance(write, Release)


@pytest.fixture
def refusing(open_one):
    """Make engines whose stores refuse one write."""
    with ExitStack() as stack:

        def make(is_refused, handler=lambda ctx: ctx.step.name):
            sink = Refusing(stack.enter_context(open_one().engine_sink()), is_refused)
            return sink, stack.enter_context(Engine(handler, EngineConfig(execution_store=sink, storage=STORAGE)))

        yield make


@pytest.mark.parametrize("error", ERRORS, ids=["own", "other"])
@pytest.mark.parametrize("is_refused", [saves(WorkflowState.PAUSED), releases], ids=["the record", "what it waits for"])
@pytest.mark.parametrize("flow_name", ["waits", "holds"])
def test_a_pause_that_cannot_be_recorded_leaves_what_goes_on_by_itself(refusing, flow_name, is_refused, error):
    sink, engine = refusing(is_refused)
    sink.error = error
    flow = STORAGE.get_by_name(flow_name)
    with pytest.raises(StoreError, match=r"away|broken"):
        bounded(engine.run, flow, execution_id="e")
    assert "e" in engine.interrupted()
    [result] = bounded(engine.recover)
    assert result.state is WorkflowState.PAUSED
    assert engine.interrupted() == []


@pytest.mark.parametrize("error", ERRORS, ids=["own", "other"])
def test_one_that_goes_on_as_its_time_has_come_does_so_again_where_that_cannot_be_recorded(refusing, error):
    sink, engine = refusing(saves(WorkflowState.RUNNING))
    flow = chain("a", waits("ask", timeout=0.02, default="nobody"))
    assert bounded(engine.run, flow, execution_id="e").state is WorkflowState.PAUSED
    sink.error = error
    wait_until(engine.interrupted)
    with pytest.raises(StoreError, match=r"away|broken"):
        bounded(engine.resume, "e")
    [result] = bounded(engine.recover)
    assert result.outputs == {"a": "a", "ask": "nobody"}


@pytest.mark.parametrize("how", ["told before", "stopped before"])
def test_what_is_stopped_as_it_goes_on_ends_with_its_sub_flows_at_every_depth(new_engine, store, how):
    """By a token that is cancelled, or since that it is to be cancelled is recorded of the outermost alone."""
    engine, token = new_engine(storage=STORAGE), CancellationToken()
    flow = chain("a", sub("sub", "holds"), "c")
    assert bounded(engine.run, flow, execution_id="e").state is WorkflowState.PAUSED
    if how == "told before":
        token.cancel()
    else:
        engine.cancel("e")
    assert bounded(engine.resume, "e", cancel=token).state is CANCELLED
    states = [store.get(execution_id).state for execution_id in store.list()]
    assert states == [CANCELLED] * 3


def test_a_time_out_that_cannot_be_recorded_waits_for_no_handler_that_has_ended(open_one):
    """Where the end of an attempt is what tells that the time is over."""
    ended = threading.Event()

    def handler(ctx):
        while ctx.remaining() > 0:
            pass
        ended.set()

    def listen(event):  # holds up the coordinating thread until then
        if event.event_type == "step_started":
            waited(ended)

    with open_one().engine_sink() as inner:
        sink = Refusing(inner, saves(WorkflowState.RUNNING))
        config = EngineConfig(execution_store=sink, event_sink=listen, cancel_grace=LONG)
        with Engine(handler, config) as engine:
            sink.error = ERRORS[0]
            flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")], timeout=0.02)
            with pytest.raises(StoreError, match="away"):
                bounded(engine.run, flow, execution_id="e", timeout=LONG / 4)
