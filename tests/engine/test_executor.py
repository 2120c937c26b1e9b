"""Attempts that are made elsewhere: one contract for the executors of the standard library and for child processes."""

import logging
import os
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import attrs
import pytest
import remote_handlers as handlers
from helper_engine import LONG, bounded, errors, statuses
from processes import wait_until
from shared_processes import SharedProcesses

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    ExecutorBroken,
    FailedElsewhere,
    Flow,
    FlowDef,
    FlowMode,
    Handlers,
    InMemoryStorage,
    InvalidFlow,
    NotSendable,
    NotSupportedHere,
    StepDef,
)


@pytest.fixture(scope="module", params=["thread", "process", "dask", "isolated"])
def executor(request):
    if request.param == "thread":
        made = ThreadPoolExecutor(2)
    elif request.param == "process":
        made = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    elif request.param == "dask":
        pytest.importorskip("distributed", reason="szal[dask] is not installed")
        made = request.getfixturevalue("dask_client").get_executor(pure=False)
    else:
        made = SharedProcesses(2)
    with made:
        yield made


@pytest.fixture(autouse=True)
def alone(request, executor):
    """Some wait until two attempts are under way."""
    if type(executor).__name__ == "ClientExecutor":
        request.getfixturevalue("both_of_dask")


EXECUTORS = pytest.mark.parametrize("executor", ["thread", "process", "dask"], indirect=True)
"""For what is not so in child processes: engine/test_isolation.py says what is so there."""


@pytest.fixture
def is_here(executor):
    """Whether a process id is what it should be: this one's for threads, another's for processes."""
    return lambda pid: (pid == os.getpid()) is isinstance(executor, ThreadPoolExecutor)


@pytest.fixture
def place(executor):
    """What the place is called where attempts are made."""
    return "a child process" if isinstance(executor, SharedProcesses) else "the executor"


def on(place):
    return f"{'in' if place == 'a child process' else 'on'} {place}"


def new_engine(handler, executor, **config):
    if isinstance(executor, SharedProcesses):
        return executor.engine(handler, isolation="process", **config)
    return Engine(handler, EngineConfig(executor=executor, **config))


def run(handler, flow, executor, inputs=None, **config):
    with new_engine(handler, executor, **config) as engine:
        return bounded(engine.run, flow, inputs)


def one(handler, executor, inputs=None, engine=None, **step):
    """Return the result of the one step that *handler* does."""
    result = run(handler, FlowDef("f", steps=[StepDef("a", **step)]), executor, inputs, **(engine or {}))
    return result["a"]


class TestWhatCrosses:
    def test_parameters_are_found_here_and_arrive_as_plain_arguments(self, executor, is_here):
        result = run(handlers.basics, handlers.basics, executor, {"n": 3})
        assert result["told"].output == {"double": 6, "unit": "kg", "attempt": 1}
        assert is_here(result["double"].output[1])

    def test_a_function_of_the_context_reads_what_it_reads_here(self, executor):
        made = Handlers(handlers.members)
        made.step("first")(handlers.nothing)
        steps = [StepDef("first"), StepDef("a", config={"url": "{{inputs.n}}"}, timeout=LONG)]
        flow = FlowDef("f", steps=steps)
        found, here = (run(made, flow, each, {"n": 7})["a"].output for each in (executor, None))
        for each in (found, here):
            each.pop("pid")
            assert each.pop("key").startswith(each.pop("execution_id"))
        assert found == here

    def test_items_have_their_own(self, executor):
        result = run(handlers.item, FlowDef("f", steps=[StepDef("a", foreach="inputs.n")]), executor, {"n": ["x", "y"]})
        assert [output[:2] for output in result["a"].output] == [[0, "x"], [1, "y"]]
        assert len({output[2] for output in result["a"].output}) == 2

    def test_the_config_that_nobody_reads_may_be_broken(self, executor):
        assert one(handlers.nothing, executor, config={"x": "{{inputs.no}}"}).output == "a"
        result = one(handlers.config, executor, config={"x": "{{inputs.no}}"}, max_retries=1, retry_delay=0)
        assert result.error.startswith("nothing at inputs.no")
        assert result.attempts == 1

    def test_the_function_that_a_config_names_is_imported_there(self, executor, is_here):
        config = {"call": "remote_handlers:by_name", "args": {"a": 1, "b": "{{inputs.n}}"}}
        result = one(Handlers(), executor, {"n": 2}, step_type="python", config=config)
        assert result.output[:3] == [1, 2, "a"]
        assert is_here(result.output[3])

    def test_steps_of_sub_flows_go_there_too(self, executor, is_here):
        storage = InMemoryStorage()
        storage.insert(FlowDef("inner", steps=[StepDef("b")]))
        step = StepDef("a", step_type="sub_flow", config={"flow_name": "inner"})
        result = run(handlers.where, FlowDef("f", steps=[step]), executor, storage=storage)
        assert is_here(result["a"].output["b"][0])

    def test_whether_the_work_is_there_is_asked_there(self, executor):
        for there, status in ((True, "skipped"), (False, "completed")):
            result = one(handlers.nothing, executor, {"there": there}, done_when=handlers.is_there)
            assert str(result.status) == status


class TestWhatStaysHere:
    def test_commands(self, executor):
        result = one(Handlers(), executor, step_type="shell", config={"run": "echo $PPID"})
        assert int(result.output["stdout"]) == os.getpid()

    def test_steps_that_are_done_on_the_thread_of_the_run(self, executor):
        def closure(ctx):
            return threading.get_ident()

        with new_engine(closure, executor) as engine:
            flow = FlowDef("f", steps=[StepDef("a", inline="always")])
            assert engine.run(flow)["a"].output == threading.get_ident()

    def test_nothing_else_is_done_by_the_thread_of_the_run_or_a_worker(self, executor):
        pid, thread = one(handlers.where, executor).output
        assert pid != os.getpid() or thread.startswith("ThreadPoolExecutor")

    def test_retries_and_their_count(self, executor):
        result = one(handlers.second_attempt, executor, max_retries=1, retry_delay=0)
        assert (result.output, result.attempts) == (2, 2)

    def test_polls(self, executor):
        assert one(handlers.poll, executor, until="output == 3", delay=0.0).output == 3

    def test_events_come_in_their_order(self, executor):
        seen = []
        one(handlers.nothing, executor, engine={"event_sink": lambda event: seen.append(event.event_type)})
        assert [str(each) for each in seen] == ["flow_started", "step_started", "step_completed", "flow_completed"]

    def test_undoing_and_its_order(self, executor, is_here, tmp_path):
        made = Handlers(handlers.step_or_fail)
        for name in "ab":
            made.rollback(name)(handlers.undo)
        steps = [StepDef("a", rollbackable=True), StepDef("b", rollbackable=True), StepDef("fail")]
        flow = FlowDef("f", rollback_on_failure=True, steps=steps)
        result = run(made, flow, executor, {"log": str(tmp_path / "log")})
        assert str(result.state) == "rolled_back"
        *texts, _ = zip(*(line.rsplit(" ", 1) for line in (tmp_path / "log").read_text().splitlines()), strict=True)
        why = "step 'fail' failed: ValueError: no"
        assert texts == [(f"undo b b {why}", f"undo a a {why}")]
        assert is_here(int((tmp_path / "log").read_text().split()[-1]))

    def test_finally_steps_know_the_end(self, executor):
        flow = FlowDef("f", steps=[StepDef("a"), StepDef("end", finally_=True)])
        assert run(handlers.at_the_end, flow, executor)["end"].output == "failed: step 'a' failed: ValueError: no"


class TestFailures:
    def test_an_exception_comes_back_as_it_was_with_its_traceback_there(self, executor):
        result = one(handlers.fail, executor)
        assert result.error == "ValueError: no"
        assert type(result.exception) is ValueError
        note = result.exception.__notes__[0]
        assert note.startswith(("On the executor:", "In a child process:"))
        assert 'remote_handlers.py", line' in note

    def test_retry_on_knows_its_class(self, executor):
        assert one(handlers.second_attempt, executor, max_retries=1, retry_delay=0, retry_on=OSError).attempts == 2
        assert one(handlers.second_attempt, executor, max_retries=1, retry_delay=0, retry_on=KeyError).attempts == 1

    def test_one_that_cannot_be_pickled_is_described(self, executor):
        result = one(handlers.fail_unpicklable, executor)
        assert result.error == "Unpicklable: it cannot travel"
        assert type(result.exception) is FailedElsewhere

    def test_what_tells_the_engine_something_tells_it(self, executor):
        assert one(handlers.give_up, executor, max_retries=2, retry_delay=0).attempts == 1
        result = one(handlers.skip, executor)
        assert (str(result.status), result.error) == ("skipped", "nothing to do")

    def test_leaving_ends_no_worker(self, executor):
        assert one(handlers.leave, executor).error == "SystemExit: 3"
        assert one(handlers.nothing, executor).output == "a"

    @EXECUTORS
    @pytest.mark.parametrize(
        ("what", "args", "named"),
        [
            ("once", ["k", "f"], "ctx.once('k', …)"),
            ("report", [1], "ctx.report()"),
            ("transaction", [], "ctx.transaction()"),
            ("cancelled", [], "ctx.cancelled"),
            ("check", [], "ctx.check()"),
            ("sleep", [1], "ctx.sleep()"),
            ("ends_within", [1], "ctx.ends_within()"),
            ("render", ["x"], "ctx.render()"),
        ],
    )
    def test_what_cannot_be_there_says_so_when_it_is_called(self, executor, what, args, named):
        result = one(handlers.asks, executor, config={"what": what, "args": args})
        assert type(result.exception) is NotSupportedHere
        assert f"{named} is not supported here: an executor calls this handler" in result.error


class TestWhatCannotCross:
    def test_a_closure_is_refused_before_anything_runs(self, executor, place):
        ran = []

        def closure(ctx):
            ran.append(ctx)

        made = Handlers(handlers.nothing)
        made.step("b")(closure)
        flow = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
        with pytest.raises(InvalidFlow, match=rf"step 'b': .*<locals>\.closure cannot be sent to {place}"):
            run(made, flow, executor)
        assert ran == []

    def test_so_are_a_lambda_that_says_whether_the_work_is_there_and_an_undo(self, executor):
        with pytest.raises(InvalidFlow, match=r"step 'a': .*<lambda> cannot be sent"):
            one(handlers.nothing, executor, done_when=lambda ctx: True)
        step = StepDef("a", rollbackable=True)
        flow = FlowDef("f", rollback_on_failure=True, steps=[step])
        with pytest.raises(InvalidFlow, match=r"step 'a': .*<lambda> cannot be sent"):
            run(handlers.nothing, flow, executor, rollback_handler=lambda ctx: None)

    def test_a_function_of_a_flow_within_a_function_too(self, executor):
        flow = Flow("f")

        @flow.step
        def inner(n=1):
            return n

        with pytest.raises(InvalidFlow, match=r"step 'inner': .*inner cannot be sent"):
            run(flow, flow, executor)

    def test_an_input_fails_the_step_that_asks_for_it_once(self, executor, place):
        result = one(handlers.nothing, executor, {"n": 1, "lock": threading.Lock()}, max_retries=3, retry_delay=0)
        assert result.error.startswith(f"a cannot be done {on(place)}: input 'lock': TypeError: cannot pickle")
        assert (type(result.exception), result.attempts) == (NotSendable, 1)

    def test_so_does_an_argument(self, executor, place):
        result = run(handlers.basics, handlers.basics, executor, {"n": 1, "unit": threading.Lock()})
        assert result["told"].error.startswith(f"told cannot be done {on(place)}: its argument 'unit': TypeError")
        assert str(result["double"].status) == "completed"

    def test_so_does_an_output_that_cannot_come_back(self, executor, place):
        result = one(handlers.lock, executor, max_retries=3, retry_delay=0)
        assert result.error.startswith(f"a cannot be done {on(place)}: its output cannot be sent back: TypeError")
        assert result.attempts == 1

    def test_what_is_no_executor_is_refused(self):
        with pytest.raises(TypeError, match=r"executor must be a concurrent\.futures\.Executor, not the class Thread"):
            EngineConfig(executor=ThreadPoolExecutor)
        with pytest.raises(TypeError, match=r"executor must be .*, not str"):
            EngineConfig(executor="dask://localhost:8786")


class TestAround:
    def test_it_is_entered_there(self, executor, is_here):
        *names, pid = one(handlers.within, executor, engine={"around": [handlers.around]}).output
        assert names == ["a"]
        assert is_here(pid)
        assert handlers.AROUND == []

    def test_what_it_raises_fails_the_attempt_as_here(self, executor):
        result = one(handlers.nothing, executor, engine={"around": [handlers.broken_around]})
        assert result.error == "around[0] (broken_around), entering: OSError: no session"

    def test_a_closure_is_refused(self, executor):
        with pytest.raises(ValueError, match=r"around\[0\] is entered (in|where) .*, and cannot be sent there"):
            new_engine(handlers.nothing, executor, around=[lambda ctx: None])


class Files:
    """What a handler on an executor tells, and is told, by files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inputs = {"begun": str(path / "begun"), "go": str(path / "go")}

    def begun(self) -> list[str]:
        path = self.path / "begun"
        return path.read_text().split() if path.exists() else []

    def let_go(self) -> None:
        (self.path / "go").touch()


@pytest.fixture
def files(tmp_path):
    made = Files(tmp_path)
    yield made
    made.let_go()  # no worker of the pool is left with it


@EXECUTORS
class TestTime:
    def test_a_time_out_leaves_behind_what_the_executor_does_and_says_so(self, executor, files, caplog):
        with Engine(handlers.await_file, EngineConfig(executor=executor)) as engine:
            flow = FlowDef("f", steps=[StepDef("a", timeout=0.05)])
            result = bounded(engine.run, flow, files.inputs)
            assert engine.abandoned == 1
        assert result["a"].error == "step timeout: a after 50ms"
        assert "what the executor does for it is left behind" in caplog.text

    def test_what_is_left_behind_keeps_what_it_shares_until_it_ends(self, executor, files):
        shares = {"resources": {"db": 1}, "continue_on_error": True}
        flow = FlowDef("f", steps=[StepDef("a", timeout=0.05, **shares), StepDef("b", **shares)])
        with Engine(handlers.await_file, EngineConfig(executor=executor)) as engine:
            execution = engine.start(flow, files.inputs)
            wait_until(lambda: engine.abandoned)
            assert executor.submit(abs, -1).result(LONG) == 1  # it would take another one by now
            assert files.begun() in ([], ["a"])
            files.let_go()
            assert statuses(execution.result(LONG)) == {"a": "failed", "b": "completed"}

    def test_the_limit_counts_from_when_a_worker_has_it(self, executor, files, monkeypatch):
        """It has waited for longer than that behind others. (A pool of two processes has five before that.)"""
        made = Handlers(handlers.await_file)
        submit, submitted = executor.submit, []

        def counted(*args, **kwargs):
            future = submit(*args, **kwargs)
            submitted.append(future)
            return future

        others = 8 if isinstance(executor, ProcessPoolExecutor) else 0  # that queues some ahead: they must come first
        monkeypatch.setattr(executor, "submit", counted if others else submit)
        made.step("gate")(
            lambda ctx: wait_until(lambda: len(files.begun()) == 2 and len(submitted) >= others, timeout=LONG)
        )
        late = StepDef("late", timeout=1.0, max_retries=20, retry_delay=0)  # with a worker that may be too little
        late = attrs.evolve(late, depends_on=[(gate := StepDef("gate", inline="always")).id])
        flow = FlowDef("f", FlowMode.DAG, steps=[*(StepDef(name) for name in "abcdefgh"), gate, late])
        seen = []

        def noted(event):
            if event.step_name == "late":
                seen.append(str(event.event_type))

        with Engine(made, EngineConfig(executor=executor, event_sink=noted)) as engine:
            execution = engine.start(flow, files.inputs)
            wait_until(lambda: seen, timeout=LONG)
            time.sleep(1.05)  # it is about time that passes
            assert seen == ["step_started"]
            files.let_go()
            assert statuses(execution.result(LONG))["late"] == "completed"

    def test_one_that_has_not_begun_is_called_off_by_a_cancellation(self, executor, files):
        """Two have begun; what a pool has queued for its processes, three more, cannot be called off."""
        flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef(name) for name in "abcdefgh"])
        token, seen = CancellationToken(), []

        def noted(event):
            seen.append(str(event.event_type))

        config = EngineConfig(executor=executor, cancel_grace=LONG, event_sink=noted)
        with Engine(handlers.await_file, config) as engine:
            execution = engine.start(flow, files.inputs, cancel=token)
            wait_until(lambda: len(files.begun()) == 2 and seen.count("step_started") == 8, timeout=LONG)
            token.cancel()
            wait_until(lambda: seen.count("step_failed") >= 2, timeout=LONG)
            files.let_go()
            result = execution.result(LONG)
        assert str(result.state) == "cancelled"
        assert list(statuses(result).values()).count("completed") in range(2, 7)
        assert set(errors(result).values()) == {"Cancelled: cancelled"}

    def test_one_that_runs_is_left_behind_after_the_grace(self, executor, files):
        token = CancellationToken()
        with Engine(handlers.await_file, EngineConfig(executor=executor, cancel_grace=0.02)) as engine:
            execution = engine.start(FlowDef("f", steps=[StepDef("a")]), files.inputs, cancel=token)
            wait_until(files.begun)
            token.cancel()
            result = execution.result(LONG)
            assert engine.abandoned == 1
        assert "still running 0.02s after the cancellation" in result["a"].error


class TestSecrets:
    def test_are_masked_in_what_is_logged_and_raised(self, caplog):
        flow = FlowDef("f", inputs={"key": {"type": "string", "secret": True}}, steps=[StepDef("a")])
        with ThreadPoolExecutor(1) as executor, caplog.at_level(logging.WARNING):
            result = run(handlers.log_secret, flow, executor, {"key": "hunter22"})
        assert result["a"].error == "ValueError: refused: ***"
        assert "the key is ***" in caplog.text
        assert "hunter22" not in caplog.text


class TestAnExecutorThatTakesNothingMore:
    def test_ends_the_run_which_raises(self):
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        with pytest.raises(ExecutorBroken, match="the executor took step a no more: RuntimeError: cannot schedule"):
            one(handlers.nothing, executor)

    def test_many_at_a_time_are_told_of_once(self):
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef(f"s{n}") for n in range(200)])
        with pytest.raises(ExecutorBroken):
            run(handlers.nothing, flow, executor, max_concurrency=150)

    def test_what_it_drops_as_it_is_shut_down_has_not_begun(self):
        class Drops(Executor):
            def submit(self, function, /, *args, **kwargs):
                future = Future()
                future.cancel()
                return future

        with pytest.raises(ExecutorBroken, match="it was shut down"):
            one(handlers.nothing, Drops())
