"""What a signal handler raises interrupts a run that is recorded: nothing is lost, nothing undone, and it goes on."""

import json
import os
import signal
import threading

import pytest
from durable.children import SETUP, Child, run_child
from helper_engine import bounded, statuses
from pairs import FULL, beside, pairs
from processes import command_line, run_command_line, wait_until

from szal import Engine, EngineConfig, ExecutionOwned, FlowDef, StepDef, WorkflowState

SCENE = (
    SETUP
    + """
    import faulthandler, functools, json
    faulthandler.dump_traceback_later(40, exit=True)  # a hang ends, and is seen

    class TookTooLong(Exception):
        pass

    def own_ctrl_c(*_):
        told.append("Ctrl-C")
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
    told, calls, undone, events = [], [], [], []
    number, on_signal = WAYS[sys.argv[2]]
    signal.signal(number, on_signal)
    at = sys.argv[3]

    def strike(here):
        global at
        if here == at:  # once
            at = None
            signal.raise_signal(number)

    def work(ctx):
        calls.append(ctx.step.name)
        strike(ctx.step.name)
        return ctx.step.name

    def undo(ctx):
        undone.append(ctx.step.name)

    def listen(event):
        events.append(event.event_type)
        strike(f"{event.event_type} {event.step_name or event.flow_name}")

    def scene_engine(handler=work, **config):
        return new_engine(handler, **{"rollback_handler": undo, "event_sink": listen, **config})

    def raised_by(function, *args, **kwargs):
        try:
            return str(function(*args, **kwargs).state)
        except BaseException as error:
            return type(error).__name__

    def state():
        record = store.get("e")
        return str(record and record.state)

    def other_engine(handler=work, **config):
        '''As another process would have it.'''
        other = store if sys.argv[1] == "memory:" else open_store(sys.argv[1])
        return Engine(handler, EngineConfig(execution_store=other.engine_sink(), rollback_handler=undo, **config))

    def show(**values):
        tell(json.dumps(values))
        sys.stdout.flush()
        os._exit(0)
"""
)

CHAIN = """
    names = sys.argv[4].split(",")
    flow = FlowDef("f", steps=[StepDef(name, rollbackable=True) for name in names], rollback_on_failure=True)
    engine = scene_engine()
    raised = raised_by(engine.run, flow, execution_id="e")
"""

KINDS = ["postgres", "sqlite", "memory"]
PERSON = ["ctrl-c", "own ctrl-c"]
MACHINE = ["exit", "alarm", "own sigint"]
ANY = ["ctrl-c", "exit", "own ctrl-c", "alarm"]
any_way = pytest.mark.parametrize(("how", "kind"), beside(ANY, KINDS))
RAISED = {
    "ctrl-c": "KeyboardInterrupt",
    "own ctrl-c": "KeyboardInterrupt",
    "exit": "SystemExit",
    "alarm": "TookTooLong",
    "own sigint": "TookTooLong",
}
LEFT = {"ctrl-c": "paused", "own ctrl-c": "paused", "exit": "running", "alarm": "running", "own sigint": "running"}


@pytest.fixture
def url(request, kind):
    """Where the store is, for a process that does everything itself; in memory, each has its own."""
    return "memory:" if kind == "memory" else request.getfixturevalue("store_url")


def seen(code, *arguments):
    """Return what the scene shows."""
    return json.loads(run_child(SCENE + code, *arguments).splitlines()[-1])


# -- a person's ----------------------------------------------------------------------------------------

PLACES = ["only step", "first step", "last step"]


def place(where):
    """Return the step in which it comes up, and the names of all."""
    return {"only step": ("a", "a"), "first step": ("a", "a,b"), "last step": ("b", "a,b")}[where]


@pytest.mark.parametrize(("how", "where", "kind"), beside(pairs(PERSON, PLACES), KINDS))
def test_ctrl_c_in_a_handler_pauses_whichever_step_it_is(url, how, where):
    at, names = place(where)
    told = seen(
        CHAIN
        + """
    record = store.get("e")
    show(
        raised=raised, state=state(), error=record.error, undone=undone, last=events[-1], calls=calls,
        steps={step.step_name: str(step.status) for step in record.result.steps},
    )
    """,
        url,
        how,
        at,
        names,
    )
    before = names.split(",")[: names.split(",").index(at)]
    assert (told["raised"], told["state"], told["error"]) == ("KeyboardInterrupt", "paused", "interrupted")
    assert (told["undone"], told["last"]) == ([], "flow_paused")
    assert told["calls"] == [*before, at]
    assert told["steps"] == {name: "completed" if name in before else "pending" for name in names.split(",")}


@pytest.mark.parametrize(("how", "where", "again", "kind"), beside(pairs(PERSON, PLACES, ["run", "resume"]), KINDS))
def test_what_a_person_interrupted_goes_on_with(url, how, where, again):
    at, names = place(where)
    told = seen(
        CHAIN
        + """
    again = sys.argv[5]
    after = raised_by(engine.resume, "e") if again == "resume" else raised_by(engine.run, flow, execution_id="e")
    show(raised=raised, after=after, state=state(), error=store.get("e").error, calls=calls, undone=undone)
    """,
        url,
        how,
        at,
        names,
        again,
    )
    assert told["raised"] == "KeyboardInterrupt"
    assert (told["after"], told["state"], told["error"]) == ("completed", "completed", None)
    assert told["undone"] == []
    assert sorted(told["calls"]) == sorted([*names.split(","), at])  # the one that was interrupted, twice


@pytest.mark.parametrize(("how", "kind"), beside(PERSON, KINDS))
def test_recovery_leaves_alone_what_a_person_interrupted(url, how):
    told = seen(
        CHAIN
        + """
    other = other_engine()
    found = [engine.interrupted(), other.interrupted(), len(engine.recover()), len(other.recover())]
    show(found=found, state=state(), calls=calls)
    """,
        url,
        how,
        "b",
        "a,b,c",
    )
    assert told == {"found": [[], [], 0, 0], "state": "paused", "calls": ["a", "b"]}


@pytest.mark.parametrize(
    ("how", "then", "rolls_back", "kind"), beside(pairs(PERSON, ["resume", "recover"], ["", "rolls back"]), KINDS)
)
def test_cancelling_what_a_person_interrupted_undoes_it(url, how, then, rolls_back):
    told = seen(
        """
    then, rolls_back = sys.argv[4:]
    steps = [StepDef(name, rollbackable=True) for name in "abc"]
    flow = FlowDef("f", steps=steps, rollback_on_failure=bool(rolls_back))
    engine = scene_engine()
    raised = raised_by(engine.run, flow, execution_id="e")
    paused, undone_before = state(), list(undone)
    asked = engine.cancel("e")
    engine.resume("e") if then == "resume" else engine.recover()
    show(paused=paused, undone_before=undone_before, asked=asked, state=state(), calls=calls, undone=undone)
    """,
        url,
        how,
        "c",
        then,
        rolls_back,
    )
    assert (told["paused"], told["undone_before"], told["asked"]) == ("paused", [], True)
    assert told["state"] == ("rolled_back" if rolls_back else "cancelled")
    assert told["calls"] == ["a", "b", "c"]
    assert told["undone"] == (["b", "a"] if rolls_back else [])


@any_way
def test_what_goes_on_can_be_interrupted_again(url, how):
    told = seen(
        CHAIN
        + """
    left = [state()]
    at = "c"
    again = raised_by(engine.resume, "e")
    left.append(state())
    show(raised=[raised, again], left=left, end=raised_by(engine.resume, "e"), calls=calls, undone=undone)
    """,
        url,
        how,
        "b",
        "a,b,c",
    )
    assert (told["raised"], told["left"]) == ([RAISED[how]] * 2, [LEFT[how]] * 2)
    assert (told["end"], told["undone"]) == ("completed", [])
    assert told["calls"] == ["a", "b", "b", "c", "c"]


# -- a machine's --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "where", "kind"), beside(list(zip(MACHINE, PLACES, strict=True)), KINDS))
def test_any_other_exception_of_a_signal_handler_gives_the_execution_back_as_it_is(url, how, where):
    """Nor does it count as a crash: an engine that forgives none goes on."""
    at, names = place(where)
    told = seen(
        CHAIN
        + """
    left = state()
    other = other_engine(max_recoveries=0)
    found = other.interrupted()
    recovered = [(result.execution_id, str(result.state), result.error) for result in other.recover()]
    show(raised=raised, left=left, found=found, recovered=recovered, state=state(), calls=calls, undone=undone)
    """,
        url,
        how,
        at,
        names,
    )
    assert (told["raised"], told["left"], told["undone"]) == (RAISED[how], "running", [])
    assert told["found"] == ["e"]
    assert told["recovered"] == [["e", "completed", None]]
    assert told["state"] == "completed"
    assert sorted(told["calls"]) == sorted([*names.split(","), at])


def test_however_often_it_does_not_count_as_a_crash(url):
    told = seen(
        """
    def interrupted(ctx):
        calls.append(ctx.step.name)
        if len(calls) < 5:
            signal.raise_signal(number)

    flow = FlowDef("f", steps=[StepDef("a")])
    raised = [raised_by(scene_engine(interrupted, max_recoveries=1).run, flow, execution_id="e") for _ in range(5)]
    show(raised=raised, state=state())
    """,
        url,
        "exit",
        "",
    )
    assert told == {"raised": ["SystemExit"] * 4 + ["completed"], "state": "completed"}


@pytest.mark.parametrize(
    ("how", "where", "kind"), beside(pairs(ANY, ["handler", "workers"]), ["postgres", "sqlite", "sqlite"])
)
def test_another_process_goes_on_while_the_interrupted_one_lives(store_url, new_engine, store, how, where):
    code = """
    together = threading.Barrier(3)

    def meet(ctx):
        together.wait(30)
        ctx.sleep(50)
        ctx.check()

    def press():
        together.wait(30)
        os.kill(os.getpid(), number)

    if sys.argv[4] == "handler":
        raised = raised_by(scene_engine().run, FlowDef("f", steps=[StepDef("a"), StepDef("b")]), execution_id="e")
    else:
        threading.Thread(target=press, daemon=True).start()
        flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")])
        raised = raised_by(scene_engine(meet).run, flow, execution_id="e")
    tell(raised)
    listen()
    """.replace("listen()", "sys.stdin.readline()")
    with Child(SCENE + code, store_url, how, "b", where) as child:
        assert child.hear() == RAISED[how]
        assert str(store.get("e").state) == LEFT[how]
        engine = new_engine(max_recoveries=0)
        if LEFT[how] == "running":
            [result] = bounded(engine.recover, timeout=30)
        else:
            result = bounded(engine.resume, "e", timeout=30)
        assert result.state is WorkflowState.COMPLETED
        assert statuses(result) == {"a": "completed", "b": "completed"}


# -- what is on other threads ----------------------------------------------------------------------------

WORKERS = """
    together = threading.Barrier(3)
    lock, at_work, most, heard = threading.Lock(), {}, {}, []
    behave = sys.argv[3]
    first = True
    deaf = threading.Event()

    def handler(ctx):
        name = ctx.step.name
        calls.append(name)
        with lock:
            at_work[name] = at_work.get(name, 0) + 1
            most[name] = max(most.get(name, 0), at_work[name])
        try:
            if not first:
                return "anew"
            together.wait(30)
            if behave == "deaf" and name == "a":
                deaf.wait(20)
                return "late"
            if not ctx.sleep(40):
                heard.append(name)
            if behave == "breaks off":
                ctx.check()
            return "in time"
        finally:
            with lock:
                at_work[name] -= 1

    def press():
        together.wait(30)
        os.kill(os.getpid(), number)

    threading.Thread(target=press, daemon=True).start()
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")], rollback_on_failure=True)
    engine = scene_engine(handler, cancel_grace=0.2 if behave == "deaf" else 1000)
    raised = raised_by(engine.run, flow, execution_id="e")
    left, still = state(), sum(at_work.values())
    first = False
"""


@pytest.mark.parametrize(("how", "behave", "kind"), beside(pairs(ANY, ["ends", "breaks off"]), KINDS))
def test_handlers_on_other_threads_are_told_and_waited_for_and_what_broke_off_runs_again(url, how, behave):
    told = seen(
        WORKERS
        + """
    after = engine.run(flow, execution_id="e")
    show(
        raised=raised, left=left, still=still, heard=sorted(heard), most=most, undone=undone,
        after=str(after.state), outputs=after.outputs, calls=len(calls),
    )
    """,
        url,
        how,
        behave,
    )
    assert (told["raised"], told["left"]) == (RAISED[how], LEFT[how])
    assert (told["heard"], told["still"]) == (["a", "b"], 0)
    assert (told["most"], told["undone"]) == ({"a": 1, "b": 1}, [])
    output, calls = ("in time", 2) if behave == "ends" else ("anew", 4)
    assert (told["after"], told["outputs"]) == ("completed", {"a": output, "b": output})
    assert told["calls"] == calls


@any_way
def test_one_that_does_not_end_is_left_behind_after_the_grace_and_what_it_says_later_is_not_recorded(url, how):
    told = seen(
        WORKERS
        + """
    abandoned = engine.abandoned
    deaf.set()
    after = engine.run(flow, execution_id="e")
    show(raised=raised, left=left, abandoned=abandoned, after=str(after.state), outputs=after.outputs)
    """,
        url,
        how,
        "deaf",
    )
    assert (told["raised"], told["left"], told["abandoned"]) == (RAISED[how], LEFT[how], 1)
    assert (told["after"], told["outputs"]) == ("completed", {"a": "anew", "b": "in time"})


@any_way
def test_a_run_on_a_thread_of_its_own_is_not_disturbed_by_what_the_main_thread_is_told(url, how):
    told = seen(
        """
    begun, release = threading.Event(), threading.Event()

    def handler(ctx):
        begun.set()
        release.wait(30)
        return ctx.cancelled

    execution = scene_engine(handler).start(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
    begun.wait(30)
    try:
        signal.raise_signal(number)
    except BaseException as error:
        raised = type(error).__name__
    release.set()
    show(raised=raised, outputs=execution.result(30).outputs)
    """,
        url,
        how,
        "",
    )
    assert told == {"raised": RAISED[how], "outputs": {"a": False}}


# -- wherever it comes up ---------------------------------------------------------------------------------

EVERYWHERE = """
    def handler(ctx):
        calls.append(ctx.step.name)
        ctx.report("here")
        if ctx.step.name == "flaky" and calls.count("flaky") == 1:
            raise ValueError("again")
        return ctx.step.name

    class Storage(InMemoryStorage):
        def get_by_name(self, name):
            strike("storage")
            return super().get_by_name(name)

    steps = [
        StepDef("a", rollbackable=True),
        StepDef("flaky", max_retries=1, retry_delay=0),
        StepDef("skipped", condition="false"),
        StepDef("sub", step_type="sub_flow", config={"flow_name": "child"}),
        StepDef("last"),
    ]
    flow = FlowDef("f", steps=steps, rollback_on_failure=True)
    engine = scene_engine(
        handler,
        storage=Storage([FlowDef("child", steps=[StepDef("in child")])]),
        progress_sink=lambda progress: strike(f"progress {progress.step_name}"),
        step_type_metrics=lambda kind, status, duration: strike(f"metrics {kind}"),
    )
    raised = raised_by(engine.run, flow, execution_id="e")
    struck, left = at is None, state()
    after = raised_by(engine.run, flow, execution_id="e")
    show(raised=raised, struck=struck, left=left, after=after, calls=sorted(set(calls)), undone=undone)
"""


EVERYWHERE_AT = [
    "flow_started f",
    "step_started a",
    "step_completed a",
    "step_retry flaky",
    "step_skipped skipped",
    "step_started sub",
    "flow_started child",
    "step_completed in child",
    "flow_completed child",
    "step_completed sub",
    "step_started last",
    "progress a",
    "progress in child",
    "metrics default",
    "metrics sub_flow",
    "storage",
]
ONE_OF_EACH_KIND = ["step_started a", "step_completed a", "progress a", "metrics default", "storage"]
STRUCK = beside(EVERYWHERE_AT, ["ctrl-c", "exit"])
STRUCK += beside(EVERYWHERE_AT if FULL else ONE_OF_EACH_KIND, ["own ctrl-c", "alarm"])


@pytest.mark.parametrize(("at", "how"), STRUCK)
def test_it_interrupts_the_run_and_propagates(how, at):
    told = seen(EVERYWHERE, "memory:", how, at)
    assert told["struck"]
    assert told["raised"] == RAISED[how]
    assert told["left"] in (LEFT[how], *(["None"] if at == "storage" else []))  # it may be asked before anything begins
    assert (told["after"], told["undone"]) == ("completed", [])
    assert told["calls"] == ["a", "flaky", "in child", "last"]


@pytest.mark.parametrize(("how", "at"), beside(ANY, ["step_completed last", "flow_completed f"]))
def test_where_all_has_run_it_propagates_too_and_the_execution_completes(how, at):
    told = seen(EVERYWHERE, "memory:", how, at)
    assert (told["struck"], told["raised"], told["after"]) == (True, RAISED[how], "completed")
    assert told["undone"] == []


@pytest.mark.parametrize(
    ("shape", "at"),
    beside(["function", "lambda", "method", "callable object", "partial", "one that calls"], ["a", "step_completed a"]),
)
def test_a_signal_handler_is_known_whatever_it_is(at, shape):
    told = seen(
        """
    class Limit:
        def method(self, *_):
            raise TookTooLong

        __call__ = method

    def call(*_):
        too_long()

    shapes = {
        "function": too_long,
        "lambda": lambda *_: 1 // 0,
        "method": Limit().method,
        "callable object": Limit(),
        "partial": functools.partial(too_long, "limit"),
        "one that calls": call,
    }
    signal.signal(number, shapes[sys.argv[4]])
    raised = raised_by(scene_engine().run, FlowDef("f", steps=[StepDef("a"), StepDef("b")]), execution_id="e")
    show(raised=raised, state=state())
    """,
        "memory:",
        "alarm",
        at,
        shape,
    )
    expected = "ZeroDivisionError" if shape == "lambda" else "TookTooLong"
    assert told == {"raised": expected, "state": "running"}


def test_what_a_handler_does_on_its_way_out_does_not_hide_it(url):
    told = seen(
        """
    def handler(ctx):
        try:
            work(ctx)
        except Exception as error:
            calls.append("tidied up")
            raise

    raised = raised_by(scene_engine(handler).run, FlowDef("f", steps=[StepDef("a"), StepDef("b")]), execution_id="e")
    show(raised=raised, state=state(), calls=calls)
    """,
        url,
        "alarm",
        "a",
    )
    assert told == {"raised": "TookTooLong", "state": "running", "calls": ["a", "tidied up"]}


# -- what it comes up beside ------------------------------------------------------------------------------


@any_way
def test_an_interrupted_step_that_must_not_run_twice_needs_a_decision(url, how):
    told = seen(
        """
    flow = FlowDef("f", steps=[StepDef("pay", idempotent=False), StepDef("after")])
    engine = scene_engine()
    raised = raised_by(engine.run, flow, execution_id="e")
    left = state()
    after = raised_by(engine.run, flow, execution_id="e")
    error = store.get("e").error
    engine.resolve("e", "pay", "completed", "paid")
    show(raised=raised, left=left, after=after, error=error, end=raised_by(engine.resume, "e"), calls=calls)
    """,
        url,
        how,
        "pay",
    )
    assert (told["raised"], told["left"], told["after"]) == (RAISED[how], LEFT[how], "paused")
    assert "needs a decision" in told["error"]
    assert (told["end"], told["calls"]) == ("completed", ["pay", "after"])


@any_way
def test_what_is_interrupted_while_it_waits_for_a_retry_goes_on(url, how):
    told = seen(
        """
    def handler(ctx):
        calls.append(ctx.step.name)
        if len(calls) == 1:
            raise ValueError("again")

    def listen(event):
        if event.event_type == "step_retry":
            threading.Timer(0.1, os.kill, [os.getpid(), number]).start()

    flow = FlowDef("f", steps=[StepDef("a", max_retries=1, retry_delay=5)])
    engine = scene_engine(handler, event_sink=listen)
    raised, left = raised_by(engine.run, flow, execution_id="e"), state()
    other = other_engine(handler)
    other.resume("e") if left == "paused" else other.recover()
    show(raised=raised, left=left, after=state(), calls=calls)
    """,
        url,
        how,
        "",
    )
    assert told == {"raised": RAISED[how], "left": LEFT[how], "after": "completed", "calls": ["a", "a"]}


@any_way
def test_a_sub_flow_is_interrupted_with_what_it_belongs_to_and_goes_on_with_it(url, how):
    told = seen(
        """
    ids = {}

    def handler(ctx):
        ids[ctx.execution_id] = ctx.flow_name
        return work(ctx)

    child = FlowDef("child", steps=[StepDef("one"), StepDef("two"), StepDef("three")])
    flow = FlowDef("f", steps=[StepDef("sub", step_type="sub_flow", config={"flow_name": "child"}), StepDef("last")])
    engine = scene_engine(handler, storage=InMemoryStorage([child]))
    raised = raised_by(engine.run, flow, execution_id="e")
    [its_id] = ids
    left = [state(), str(store.get(its_id).state)]
    after = raised_by(engine.run, flow, execution_id="e")
    show(raised=raised, left=left, after=after, its=str(store.get(its_id).state), calls=calls, ids=len(ids))
    """,
        url,
        how,
        "two",
    )
    assert (told["raised"], told["left"]) == (RAISED[how], [LEFT[how]] * 2)
    assert (told["after"], told["its"]) == ("completed", "completed")
    assert told["calls"] == ["one", "two", "two", "three", "last"]
    assert told["ids"] == 2


@pytest.mark.parametrize(("how", "at", "kind"), beside(pairs(ANY, ["undo b", "step_rollback c"]), KINDS))
def test_an_undo_that_is_interrupted_is_gone_on_with(url, how, at):
    told = seen(
        """
    def handler(ctx):
        if ctx.step.name == "fails":
            raise ValueError("no")
        return ctx.step.name

    def undo(ctx):
        strike(f"undo {ctx.step.name}")
        undone.append(ctx.step.name)

    steps = [StepDef(name, rollbackable=True) for name in "abc"]
    flow = FlowDef("f", steps=[*steps, StepDef("fails")], rollback_on_failure=True)
    engine = scene_engine(handler, rollback_handler=undo)
    raised = raised_by(engine.run, flow, execution_id="e")
    struck = at is None
    after = raised_by(engine.resume, "e")
    show(raised=raised, struck=struck, after=after, state=state(), undone=undone)
    """,
        url,
        how,
        at,
    )
    assert (told["struck"], told["raised"]) == (True, RAISED[how])
    assert (told["after"], told["state"]) == ("rolled_back", "rolled_back")
    assert told["undone"] == ["c", "b", "a"]


# -- a second one -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "kind"),
    beside(["step_started a", "step_completed a", "step_completed b", "step_completed in child"], KINDS),
)
def test_a_sink_that_hangs_can_be_got_out_of_and_the_execution_goes_on(url, at):
    told = seen(
        """
    hangs = sys.argv[3]
    inside = threading.Event()

    def listen(event):
        global hangs
        if f"{event.event_type} {event.step_name}" == hangs:
            hangs = None
            inside.set()
            threading.Event().wait(30)

    def press():
        inside.wait(30)
        while not over.wait(0.1):
            os.kill(os.getpid(), signal.SIGINT)
            told.append(1)

    over = threading.Event()
    presser = threading.Thread(target=press, daemon=True)
    presser.start()
    names = ["a", "b"]
    steps = [StepDef("a"), StepDef("b")]
    if "child" in hangs:
        steps = [StepDef("sub", step_type="sub_flow", config={"flow_name": "child"})]
    storage = InMemoryStorage([FlowDef("child", steps=[StepDef("in child")])])
    engine = scene_engine(event_sink=listen, storage=storage)
    flow = FlowDef("f", steps=steps)
    try:
        engine.run(flow, execution_id="e")
    except KeyboardInterrupt:
        raised = "KeyboardInterrupt"
        over.set()
    presser.join()
    show(raised=raised, few=len(told) < 8, left=state(), after=raised_by(engine.run, flow, execution_id="e"))
    """,
        url,
        "ctrl-c",
        at,
    )
    assert told.pop("left") in ("paused", "completed")
    assert told == {"raised": "KeyboardInterrupt", "few": True, "after": "completed"}


def test_a_second_ctrl_c_ends_the_grace_and_the_execution_is_paused_all_the_same(url):
    told = seen(
        """
    begun, release = threading.Barrier(3), threading.Event()
    heard = threading.Event()

    def handler(ctx):
        begun.wait(30)
        if ctx.step.name == "listens":
            ctx.sleep(40)
            heard.set()  # the first has been taken note of
        else:
            release.wait(20)

    def press():
        begun.wait(30)
        os.kill(os.getpid(), signal.SIGINT)
        heard.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    engine = scene_engine(handler, cancel_grace=1000)
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("listens"), StepDef("deaf")])
    raised = raised_by(engine.run, flow, execution_id="e")
    show(raised=raised, left=state(), error=store.get("e").error, abandoned=engine.abandoned)
    """,
        url,
        "ctrl-c",
        "",
    )
    assert told == {"raised": "KeyboardInterrupt", "left": "paused", "error": "interrupted", "abandoned": 1}


# -- on_interrupt ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "rolls_back", "kind"), beside(pairs(ANY, ["", "rolls back"]), KINDS))
def test_where_the_engine_is_told_to_an_interruption_is_a_cancellation(url, how, rolls_back):
    end = "rolled_back" if rolls_back else "cancelled"
    told = seen(
        """
    steps = [StepDef(name, rollbackable=True) for name in "abc"]
    flow = FlowDef("f", steps=steps, rollback_on_failure=bool(sys.argv[4]))
    engine = scene_engine(on_interrupt="cancel")
    raised = raised_by(engine.run, flow, execution_id="e")
    show(raised=raised, state=state(), after=raised_by(engine.run, flow, execution_id="e"), undone=undone, calls=calls)
    """,
        url,
        how,
        "c",
        rolls_back,
    )
    assert (told["raised"], told["state"], told["after"]) == (RAISED[how], end, end)
    assert told["undone"] == (["b", "a"] if rolls_back else [])
    assert told["calls"] == ["a", "b", "c"]


def test_on_interrupt_is_pause_unless_it_is_said_otherwise():
    assert EngineConfig().on_interrupt == "pause"
    assert EngineConfig(on_interrupt="cancel").on_interrupt == "cancel"
    with pytest.raises(ValueError, match="on_interrupt"):
        EngineConfig(on_interrupt="stop")


# -- on the command line -----------------------------------------------------------------------------------

FLOWS = """
from pathlib import Path
from szal import FlowDef, Handlers, StepDef

def work(ctx):
    with open("calls", "a") as file:
        file.write(ctx.step.name + "\\n")
    if ctx.step.name == "nap" and not Path("rested").exists():
        Path("ready").touch()
        ctx.sleep(60)
        ctx.check()

handlers = Handlers(work)
@handlers.rollback("first")
def undo(ctx):
    Path("undone").touch()

steps = [StepDef("first", rollbackable=True), StepDef("nap"), StepDef("last")]
flow = FlowDef("f", steps=steps, rollback_on_failure=True), handlers
"""


class Striking:
    """A sink that presses Ctrl-C, once, when an execution has just been recorded."""

    def __init__(self, sink):
        self._sink = sink
        self.is_armed = False

    def __getattr__(self, name):
        return getattr(self._sink, name)

    @property
    def ledger(self):
        ledger, striking = self._sink.ledger, self

        class Ledger:
            def __getattr__(self, name):
                return getattr(ledger, name)

            def create(self, new):
                epoch = ledger.create(new)
                if striking.is_armed:
                    striking.is_armed = False
                    signal.raise_signal(signal.SIGINT)
                return epoch

        return Ledger()


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "memory"])
def test_a_start_that_is_interrupted_when_its_run_is_recorded_leaves_that_paused(store, kind):
    ran = []
    with store.engine_sink() as sink:
        striking = Striking(sink)
        with Engine(lambda ctx: ran.append(ctx.step.name), EngineConfig(execution_store=striking)) as engine:
            striking.is_armed = True
            with pytest.raises(KeyboardInterrupt):
                engine.start(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
            wait_until(lambda: store.get("e").state is WorkflowState.PAUSED)
            wait_until(lambda: bounded(_resumed, engine, "e"))
            assert ran == ["a"]


def _resumed(engine, execution_id):
    """Whether it could be resumed: the thread of its interrupted run may not have come to its end."""
    try:
        return engine.resume(execution_id).success
    except ExecutionOwned:
        return False


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
def test_a_recover_that_is_interrupted_gives_back_what_it_recovers_and_no_other_run(store, kind):
    began, go_on = threading.Semaphore(0), threading.Event()

    def handler(ctx):
        began.release()
        if ctx.execution_id == "e" and not go_on.is_set():
            ctx.sleep(20)
            ctx.check()
        go_on.wait(20)

    wait = StepDef("wait", step_type="wait", config={"signal": "go"})
    with store.engine_sink() as sink, Engine(handler, EngineConfig(execution_store=sink)) as engine:
        assert engine.run(FlowDef("f", steps=[wait, StepDef("a")]), execution_id="e").state is WorkflowState.PAUSED
        other = engine.start(FlowDef("g", steps=[StepDef("b")]), execution_id="o")
        assert began.acquire(timeout=20)
        engine.signal("e", "go")

        def press():
            assert began.acquire(timeout=20)
            os.kill(os.getpid(), signal.SIGINT)

        presser = threading.Thread(target=press)
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            engine.recover()
        presser.join()
        sink.flush()
        assert (store.get("e").state, other.done) == (WorkflowState.RUNNING, False)
        go_on.set()
        assert other.result(30).success
        assert [result.state for result in engine.recover()] == [WorkflowState.COMPLETED]


@pytest.mark.parametrize("when", ["before it starts", "after it has started"])
def test_a_recover_that_is_interrupted_as_it_starts_a_thread_leaves_none_untold(when, store, monkeypatch):
    def handler(ctx):
        ctx.sleep(20 if ctx.execution_id in struck else 0)
        ctx.check()

    def start(thread):
        strike = thread.name.startswith("szal-run-") and not struck
        if strike:
            struck.append(thread.name.removeprefix("szal-run-"))
        if strike and when == "before it starts":
            signal.raise_signal(signal.SIGINT)
        original(thread)
        if strike:
            signal.raise_signal(signal.SIGINT)

    struck, original = [], threading.Thread.start
    flow = FlowDef("f", steps=[StepDef("wait", step_type="wait", config={"signal": "go"}), StepDef("a")])
    with store.engine_sink() as sink, Engine(handler, EngineConfig(execution_store=sink)) as engine:
        for execution_id in ("e1", "e2"):
            engine.run(flow, execution_id=execution_id)
            engine.signal(execution_id, "go")
        monkeypatch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            engine.recover()
        assert set(engine.interrupted()) == {"e1", "e2"}
        struck[0] = ""
        assert [result.success for result in engine.recover()] == [True, True]


class TestOnTheCommandLine:
    @pytest.fixture
    def here(self, tmp_path, monkeypatch):
        (tmp_path / "mine.py").write_text(FLOWS)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def interrupt(self, here, url, number):
        """Run the flow, send the process a signal, and return its status and what it says."""
        process = command_line("run", "mine:flow", "--id", "e", "--store", url)
        try:
            wait_until((here / "ready").exists, timeout=20)
            process.send_signal(number)
            said = "".join(process.communicate(timeout=30))
        finally:
            process.kill()
        (here / "rested").touch()
        return process.returncode, said

    def szal(self, *arguments):
        return run_command_line(*arguments, timeout=30).returncode

    def test_ctrl_c_pauses_and_says_how_to_go_on_and_how_to_undo(self, here, store_url, store):
        status, said = self.interrupt(here, store_url, signal.SIGINT)
        record = store.get("e")
        assert status == 130
        assert (record.state, record.error) == (WorkflowState.PAUSED, "interrupted")
        assert "szal resume e" in said
        assert "szal cancel e" in said
        assert not (here / "undone").exists()
        assert self.szal("resume", "e", "mine:flow", "--store", store_url) == 0
        assert store.get("e").state is WorkflowState.COMPLETED
        assert (here / "calls").read_text().split() == ["first", "nap", "nap", "last"]

    def test_what_it_says_undoes_it(self, here, store_url, store):
        self.interrupt(here, store_url, signal.SIGINT)
        assert store.get("e").state is WorkflowState.PAUSED
        assert self.szal("cancel", "e", "--store", store_url) == 0
        self.szal("resume", "e", "mine:flow", "--store", store_url)
        assert store.get("e").state is WorkflowState.ROLLED_BACK
        assert (here / "undone").exists()

    def test_sigterm_gives_it_back_and_whoever_recovers_goes_on(self, here, store_url, store):
        status, _ = self.interrupt(here, store_url, signal.SIGTERM)
        assert (status, store.get("e").state) == (143, WorkflowState.RUNNING)
        assert not (here / "undone").exists()
        assert self.szal("recover", "mine:flow", "--store", store_url) == 0
        assert store.get("e").state is WorkflowState.COMPLETED
        assert (here / "calls").read_text().split() == ["first", "nap", "nap", "last"]

    def test_without_a_store_it_is_cancelled_and_undone(self, here):
        process = command_line("run", "mine:flow")
        try:
            wait_until((here / "ready").exists, timeout=20)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == 130
        assert (here / "undone").exists()
