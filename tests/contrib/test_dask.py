"""Executors of dask: one attempt is one call, whatever dies, and what attempts have in common is sent once.

What any executor does is in engine/test_executor.py, which dask passes too.
"""

import gc
import threading
import traceback

import attrs
import pytest
import remote_handlers as handlers
from counting import Counting
from helper_engine import LONG, bounded
from processes import wait_until

from szal import Engine, EngineConfig, ExecutorBroken, FlowDef, RetryAfter, StepDef
from szal.contrib.dask import DaskExecutor

LARGE = "x" * 100_000


@pytest.fixture
def executor(dask_client):
    return DaskExecutor(dask_client)


def run(handler, flow, executor, inputs=None, **config):
    with Engine(handler, EngineConfig(executor=executor, **config)) as engine:
        return bounded(engine.run, flow, inputs)


class TestWhatAnEngineIsGiven:
    def test_the_executor_of_a_client_is_adapted(self, dask_client):
        made = EngineConfig(executor=dask_client.get_executor(pure=False, workers=["there"])).executor
        assert type(made) is DaskExecutor
        assert made.client is dask_client

    def test_retries_of_dasks_own_are_refused(self, dask_client):
        with pytest.raises(TypeError, match="DaskExecutor takes no retries; a step has max_retries instead"):
            EngineConfig(executor=dask_client.get_executor(retries=3))

    def test_it_is_an_executor_as_any(self, dask_client):
        with DaskExecutor(dask_client) as executor:
            assert [*executor.map(abs, [-1, 2])] == [1, 2]
            assert executor.submit(int, "11", base=2).result(LONG) == 3
            with pytest.raises(ValueError, match="invalid literal"):
                executor.submit(int, "x").result(LONG)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(abs, -1)


class TestExceptions:
    """Dask has tblib say how exceptions are copied and pickled, in each process that imports it."""

    def test_one_that_is_raised_many_times_means_the_same_each_time(self):
        error = RetryAfter(0)

        def telling(ctx):
            raise error

        for _ in range(2):
            with Engine(telling) as engine:
                result = engine.run(FlowDef("f", steps=[StepDef("a", max_retries=1, retry_delay=0)]))
            assert result["a"].attempts == 2

    def test_a_failure_is_shown_without_a_secret_of_its_cause(self):
        def failing(ctx):
            raise ValueError("hunter22")

        flow = FlowDef("f", inputs={"key": {"type": "string", "secret": True}}, steps=[StepDef("a", max_retries=1)])
        flow.steps[0] = attrs.evolve(flow.steps[0], retry_delay=0)
        with Engine(failing) as engine:
            result = engine.run(flow, {"key": "hunter22"})
        assert result["a"].error == "retry exhausted: a after 2 attempts: ValueError: ***"
        assert "hunter22" not in "".join(traceback.format_exception(result["a"].exception))


class TestWhatAttemptsHaveInCommon:
    def test_ten_items_that_need_a_large_output_have_it_sent_once(self, dask_client):
        executor = Counting(dask_client)
        result = run(handlers.large, handlers.large, executor, {"text": LARGE, "places": list(range(10))})
        assert result["part"].output == ["x" * place for place in range(10)]
        assert executor.kept < len(LARGE) * 3.1  # the input, and the output, which is twice as long
        assert executor.sent < 20_000

    def test_so_has_a_function_of_the_context(self, dask_client):
        executor = Counting(dask_client)
        steps = [StepDef("a"), StepDef("b", foreach="inputs.places")]
        result = run(handlers.length, FlowDef("f", steps=steps), executor, {"text": LARGE, "places": [1, 2, 3]})
        assert result["b"].output == [[1, 200_000], [2, 200_000], [3, 200_000]]
        assert executor.kept < len(LARGE) * 4
        assert executor.sent < 20_000

    def test_each_has_its_own_copy(self, executor):
        result = run(handlers.changing, handlers.changing, executor, {"n": 20_000})
        assert result["change"].output == [20_001] * 4
        assert result["after"].output == 20_000

    def test_what_cannot_be_pickled_is_named_as_ever(self, executor):
        result = run(handlers.nothing, FlowDef("f", steps=[StepDef("a")]), executor, {"locks": [threading.Lock()]})
        assert result["a"].error.startswith("a cannot be done on the executor: input 'locks': TypeError: cannot pickle")


class TestCallsAreMadeOnce:
    def test_one_that_was_called_off_never_begins(self, both_of_dask, tmp_path):
        executor = DaskExecutor(both_of_dask)
        begun, go = tmp_path / "begun", tmp_path / "go"
        waiting = [executor.submit(handlers.tell_and_wait, str(begun), str(go)) for _ in range(2)]
        wait_until(lambda: all(future.running() for future in waiting), LONG)
        late = executor.submit(handlers.append, str(tmp_path / "late"), "begun")
        assert not late.running()
        assert late.cancel()
        assert late.cancelled()
        assert not waiting[0].cancel()
        go.touch()
        assert [future.result(LONG) for future in waiting] == [None, None]
        assert executor.submit(abs, -1).result(LONG) == 1
        assert not (tmp_path / "late").exists()

    def test_one_that_a_worker_comes_to_while_it_is_called_off_was_called_off(self, both_of_dask, tmp_path):
        """It is no worker's failure, though a worker is the first to hear of it."""
        executor, begun, go = DaskExecutor(both_of_dask), tmp_path / "begun", tmp_path / "go"
        busy = [executor.submit(handlers.tell_and_wait, str(begun), str(go)) for _ in range(2)]
        wait_until(lambda: all(future.running() for future in busy), LONG)
        late = executor.submit(abs, -1)
        assert executor.call_off(late)
        go.touch()
        wait_until(late.done, LONG)
        assert late.cancelled()
        assert late.cancel()

    def test_nothing_is_left_of_calls_that_are_over(self, dask_client, executor):
        future = executor.submit(abs, -1)
        assert future.result(LONG) == 1
        key = future.key
        del future
        wait_until(lambda: key not in dask_client.run_on_scheduler(claims_left), LONG)


def claims_left(dask_scheduler):
    gc.collect()
    return [task.key for task in dask_scheduler.plugins["szal-claims"]._claimed]


class TestASchedulerThatIsGone:
    def test_a_client_that_is_closed_in_the_middle_ends_the_run(self, dask_address, tmp_path):
        client = DaskExecutor.connect(dask_address, timeout=30).client
        inputs = {"begun": str(tmp_path / "begun"), "go": str(tmp_path / "go")}
        with Engine(handlers.await_file, EngineConfig(executor=DaskExecutor(client))) as engine:
            execution = engine.start(FlowDef("f", steps=[StepDef("a", max_retries=5, retry_delay=0)]), inputs)
            wait_until((tmp_path / "begun").exists, LONG)
            client.close()
            with pytest.raises(ExecutorBroken, match="the executor was lost in the middle of step a: the dask"):
                execution.result(LONG)
            (tmp_path / "go").touch()
            with pytest.raises(ExecutorBroken, match="took step a no more: BrokenExecutor: the dask scheduler of a"):
                bounded(engine.run, FlowDef("g", steps=[StepDef("a")]), inputs)
