"""Signals at random moments of a run: it ends, holds nothing, and what it left behind goes on to its end.

SZAL_TEST_FULL=1 has many more of them.
"""

import json

import pytest
from durable.children import SETUP, run_child
from pairs import FULL

RUNS = 600 if FULL else 40
STRUCK = RUNS // 10
"""How many runs at least must have been ended by what struck them: on a busy machine that takes more runs than that."""
MOST = 20.0 if FULL else 12.0  # seconds: after so many no more runs are added
LIMIT = 120.0 if FULL else 18.0  # seconds: on a busy machine the runs alone take long

pytestmark = pytest.mark.timeout(150 if FULL else 20)

FUZZ = (
    SETUP
    + """
    import collections, faulthandler, itertools, json, logging, random

    logging.disable(logging.CRITICAL)
    how, (count, seed, runs, enough), most = sys.argv[2], map(int, sys.argv[3:7]), float(sys.argv[7])
    rng = random.Random(seed)

    class TookTooLong(Exception):
        pass

    def own_ctrl_c(*_):
        noticed.append(1)
        raise KeyboardInterrupt

    def too_long(*_):
        raise TookTooLong

    noticed = []
    number, on_signal, kind = {
        "ctrl-c": (signal.SIGINT, signal.default_int_handler, KeyboardInterrupt),
        "own ctrl-c": (signal.SIGINT, own_ctrl_c, KeyboardInterrupt),
        "alarm": (signal.SIGALRM, too_long, TookTooLong),
    }[how]
    signal.signal(number, on_signal)
    main = threading.main_thread().ident

    a = StepDef("a")
    b = StepDef("b", depends_on=a)
    c = StepDef("c", depends_on=b)
    wide = [StepDef(name, depends_on=c) for name in "def"]
    flow = FlowDef("f", FlowMode.DAG, steps=[a, b, c, *wide, StepDef("g", depends_on=wide)])
    effects = collections.defaultdict(set)

    def handler(ctx):
        for _ in range(2000):
            pass
        effects[ctx.execution_id].add(ctx.step.name)
        return ctx.step.name

    engine = new_engine(handler, cancel_grace=2)
    other = Engine(handler, EngineConfig(execution_store=open_store(sys.argv[1]).engine_sink()))

    begun = time.perf_counter()
    for _ in range(5):
        engine.run(flow)
    span = (time.perf_counter() - begun) / 5

    def press(moments, over):
        for moment in moments:
            time.sleep(moment)
            signal.pthread_kill(main, number)
        over.append(True)

    def wait_for(over):
        while not over:  # a join that a signal interrupts would take the thread for ended
            time.sleep(0.0005)
        time.sleep(0.001)

    def quietly(function):
        '''Until it came through: a signal may still be on its way.'''
        while True:
            try:
                return function()
            except kind:
                pass

    def disturbed(name):
        '''Run it, and strike; return whether it came through, and any exception that is not the signal's.'''
        moments, over = [rng.uniform(0, 1.2 * span / count) for _ in range(count)], []
        presser = threading.Thread(target=press, args=[moments, over], daemon=True)
        came, strange = False, None
        try:
            try:
                presser.start()
                engine.run(flow, execution_id=name)
                came = True
            except kind:
                pass
            except BaseException as error:
                strange = repr(error)
        except kind:
            pass
        quietly(lambda: wait_for(over))
        return came, strange

    def problem(name):
        '''Return what is wrong after a run that was disturbed.'''
        came, strange = disturbed(name)
        if strange:
            return f"raised {strange}"
        sink.flush(3)
        record = store.get(name)
        left = None if record is None else record.state
        if came and left is not WorkflowState.COMPLETED:
            return f"returned, and is {left}"
        if not came:
            struck.append(name)
        paused = [WorkflowState.PAUSED] if kind is KeyboardInterrupt else []
        if left not in (None, WorkflowState.COMPLETED, WorkflowState.RUNNING, *paused):
            return f"left {left}: {record.error}"
        if left is WorkflowState.RUNNING and name not in other.interrupted():
            return "left RUNNING, with its lease"
        try:
            if left is WorkflowState.RUNNING and rng.random() < 0.5:
                other.recover()
            elif left is WorkflowState.PAUSED and rng.random() < 0.5:
                other.resume(name)
            else:
                engine.run(flow, execution_id=name)
        except Exception as error:
            return f"left {left}, and does not go on: {error!r}"
        for each in (sink, other.config.execution_store):
            each.flush(3)
        after = store.get(name).state
        if after is not WorkflowState.COMPLETED:
            return f"left {left}, and ends {after}"
        if effects[name] != set("abcdefg"):
            return f"left {left}, and did only {sorted(effects[name])}"
        return None

    struck, problems, end = [], [], time.monotonic() + most
    for run in itertools.count():
        if run >= runs and (len(struck) > enough or time.monotonic() > end):
            break
        faulthandler.dump_traceback_later(40, exit=True)  # a hang ends, and is seen
        found = problem(f"e{run}")
        faulthandler.cancel_dump_traceback_later()
        if found:
            problems.append(f"{run}: {found}")
        if len(problems) == 5:
            break
    tell(json.dumps([problems, len(struck)]))
    os._exit(0)
"""
)


@pytest.mark.parametrize("count", [1, 2], ids=["one", "two"])
@pytest.mark.parametrize("how", ["ctrl-c", "own ctrl-c", "alarm"])
@pytest.mark.parametrize("seed", range(10) if FULL else [1])
def test_a_run_that_is_struck_at_a_random_moment_ends_and_goes_on(sqlite_url, how, count, seed):
    told = run_child(FUZZ, sqlite_url, how, count, seed, RUNS, STRUCK, MOST, limit=LIMIT)
    problems, struck = json.loads(told.splitlines()[-1])
    assert problems == []
    assert struck > STRUCK
