"""``isolation="process"``: attempts in child processes, which are really ended; their death is one failed attempt."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import isolated_handlers as handlers
import pytest
from forking import in_child
from helper_engine import bounded as bounded_by
from processes import is_running, number_in, wait_until
from remote_handlers import log_secret
from shared_processes import SharedProcesses

import szal
from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    Flow,
    FlowDef,
    FlowMode,
    Handlers,
    InvalidFlow,
    NotSupportedHere,
    ProcessDied,
    StepDef,
)
from szal.testing import run_flow

LONG = 50.0
"""A bound for some processes to start, one after another."""

bounded = partial(bounded_by, timeout=LONG)


@pytest.fixture(scope="module")
def processes():
    """Up to three of them, shared by all tests here."""
    with SharedProcesses(3) as made:
        yield made


@pytest.fixture
def new_engine(processes):
    """``new_engine(handler, **config)`` returns an engine, in whose flows steps are isolated."""
    return lambda handler, **config: processes.engine(handler, isolation="process", **config)


@pytest.fixture
def one(new_engine, tmp_path):
    """``one(handler, settings={}, **step)`` returns the result of the one step that *handler* does."""

    def run(handler, settings=None, **step):
        with new_engine(handler, **(settings or {})) as engine:
            flow = FlowDef("f", steps=[StepDef(step.pop("name", "a"), **step)])
            return bounded(engine.run, flow, {"path": str(tmp_path)}).steps[0]

    return run


class TestWhichSteps:
    def test_the_steps_word_goes_before_the_flows_and_that_before_the_engines(self, processes):
        with processes.engine(handlers.flow) as engine:
            result = engine.run(handlers.flow)
            assert (result["inner"].output == os.getpid(), result["at_home"].output) == (False, os.getpid())
        steps = [StepDef("says nothing"), StepDef("says", isolation="process")]
        with processes.engine(handlers.where) as engine:
            found = [pid != os.getpid() for pid in engine.run(FlowDef("f", steps=steps)).outputs.values()]
            assert found == [False, True]
        with processes.engine(handlers.where, isolation="process") as engine:
            flow = FlowDef("f", isolation="thread", steps=steps)
            assert [pid != os.getpid() for pid in engine.run(flow).outputs.values()] == [False, True]

    def test_beside_an_executor_such_a_step_has_a_process(self, processes):
        with ThreadPoolExecutor(1) as executor, processes.engine(handlers.where, executor=executor) as engine:
            steps = [StepDef("a"), StepDef("b", isolation="process")]
            found = engine.run(FlowDef("f", steps=steps)).outputs
        assert (found["a"] == os.getpid(), found["b"] == os.getpid()) == (True, False)

    def test_steps_on_the_thread_of_the_run_stay_there_whatever_the_engine_says(self, new_engine):
        with new_engine(lambda ctx: threading.get_ident()) as engine:
            flow = FlowDef("f", steps=[StepDef("a", inline="always")])
            assert engine.run(flow)["a"].output == threading.get_ident()

    def test_a_clock_that_a_test_moves_has_all_of_it_made_here(self):
        flow = Flow("f", isolation="process")

        @flow.step(timeout=60, isolation="process")
        def slow():
            return os.getpid()

        assert run_flow(flow)["slow"].output == os.getpid()

    @pytest.mark.parametrize(
        ("step", "problem"),
        [
            ({"step_type": "wait", "config": {"signal": "s"}}, "isolation of a step of type 'wait': it is for steps"),
            ({"step_type": "sleep", "config": {"seconds": 1}}, "isolation of a step of type 'sleep': it is for steps"),
            ({"step_type": "sub_flow", "config": {"flow_name": "g"}}, "isolation of a step of type 'sub_flow': it is"),
            ({"step_type": "shell", "config": {"run": "true"}}, "'shell': a command is a process already"),
            ({"inline": "always"}, "isolation='process' and inline='always': it is called in a child process, or on"),
        ],
    )
    def test_where_it_makes_no_sense_it_is_refused(self, step, problem):
        with pytest.raises(InvalidFlow, match=problem):
            FlowDef("f", steps=[StepDef("a", isolation="process", **step)]).validate()

    def test_so_is_an_engine_that_calls_handlers_elsewhere(self, processes):
        with pytest.raises(ValueError, match="isolation='process' and inline='always': a handler is called in one"):
            EngineConfig(isolation="process", inline="always")
        with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="isolation='process' and an executor"):
            EngineConfig(isolation="process", executor=executor)
        with pytest.raises(ValueError, match="isolation is none of thread, process"):
            EngineConfig(isolation="fork")
        with processes.engine(handlers.where, inline="always") as engine:
            with pytest.raises(InvalidFlow, match="step 'a': isolation='process' and inline='always' of the engine"):
                engine.run(FlowDef("f", steps=[StepDef("a", isolation="process")]))
            with pytest.raises(InvalidFlow, match="the flow's isolation='process' and inline='always' of the engine"):
                engine.run(FlowDef("f", isolation="process", steps=[StepDef("a")]))

    def test_so_is_what_cannot_be_sent_around_them(self, processes):
        engine = processes.engine(handlers.where, around=[lambda ctx: None])
        with engine, pytest.raises(InvalidFlow, match=r"around\[0\] is entered in a child process, and cannot be sent"):
            engine.run(FlowDef("f", steps=[StepDef("a", isolation="process")]))


class TestTheEnd:
    def timed_out(self, one, path, handler, **settings):
        """Have a step done whose time is over when its handler has begun; return in which process."""
        for timeout in (0.2, 1.0, 5.0, 25.0):  # how long that takes, nobody knows
            result = one(handler, settings, timeout=timeout)
            assert result.error == f"step timeout: a after {1000 * timeout:.0f}ms"
            if (pid := number_in(path / "begun")) is not None:
                return pid
        raise AssertionError("it has never begun in time")

    def test_of_its_time_ends_it_where_it_is_and_its_finally_clauses_run(self, one, tmp_path):
        pid = self.timed_out(one, tmp_path, handlers.sleeps)
        assert number_in(tmp_path / "cleaned") == pid
        assert not is_running(pid)

    def test_comes_after_the_grace_for_one_that_takes_no_notice(self, one, tmp_path):
        assert not is_running(self.timed_out(one, tmp_path, handlers.takes_no_notice, cancel_grace=0.05))

    @pytest.mark.parametrize(("handler", "left"), [(handlers.looks, "told"), (handlers.promises, "given back")])
    def test_is_left_to_a_handler_that_looks_and_it_has_as_long_as_it_promised(
        self, new_engine, tmp_path, handler, left
    ):
        token = CancellationToken()
        grace = 0.05 if left == "given back" else LONG
        with new_engine(handler, cancel_grace=grace) as engine:
            flow = FlowDef("f", steps=[StepDef("a")])
            execution = engine.start(flow, {"path": str(tmp_path)}, cancel=token)
            pid = wait_until(lambda: number_in(tmp_path / "begun"), timeout=LONG)
            token.cancel()
            result = execution.result(LONG)
            assert engine.abandoned == 0
        assert (str(result.state), result["a"].error) == ("cancelled", "Cancelled: cancelled")
        assert (tmp_path / left).exists()
        assert not is_running(pid)

    def test_is_not_a_terminals_ctrl_c(self, one):
        pid, its_session = one(handlers.session).output
        assert pid == its_session != os.getsid(0)


class TestDeath:
    NAMES = ("SIGKILL", "SIGSEGV", "exits", "ends")
    HOW = ("was killed by SIGKILL", "was killed by SIGSEGV", "ended with exit status 3", "ended with exit status 0")

    def test_is_one_failed_attempt_that_says_how_and_loses_nothing_that_was_said(self, new_engine, tmp_path, caplog):
        """And what runs beside it, in another process, goes on."""
        reported = []
        made = Handlers(handlers.dies)
        made.step("goes on")(handlers.waits)
        steps = [StepDef(name) for name in ("goes on", *self.NAMES)]

        def noted(event):
            failed.append(event) if event.event_type == "step_failed" else None
            if len(failed) == len(self.NAMES):
                (tmp_path / "go").touch()

        failed = []
        config = {"progress_sink": reported.append, "event_sink": noted, "max_concurrency": 2}
        with new_engine(made, **config) as engine:
            result = bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=steps), {"path": str(tmp_path)})
        for name, how in zip(self.NAMES, self.HOW, strict=True):
            assert result[name].error == f"{name}: its process {how}"
            assert type(result[name].exception) is ProcessDied
            assert [each.data for each in reported if each.step_name == name] == [*range(50)]
            lines = [each.message for each in caplog.records if f"[f/{name}]" in each.message]
            assert lines == [f"[f/{name}] line {number}" for number in range(50)]
        assert result["goes on"].output == 1

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_from_outside_is_tried_again_as_the_step_says(self, new_engine, tmp_path, number):
        errors = []

        def noted(event):
            errors.append(event.error) if event.event_type == "step_retry" else None

        with new_engine(handlers.waits, event_sink=noted) as engine:
            flow = FlowDef("f", steps=[StepDef("a", max_retries=1, retry_delay=0, retry_on=ProcessDied)])
            execution = engine.start(flow, {"path": str(tmp_path)})
            os.kill(wait_until(lambda: number_in(tmp_path / "begun"), timeout=LONG), number)
            assert execution.result(LONG)["a"].output == 2
        assert errors == [f"a: its process was killed by {number.name}"]

    def test_of_one_that_is_idle_is_nobodys_failure(self, new_engine, one):
        pid = one(handlers.where).output
        os.kill(pid, signal.SIGKILL)
        result = one(handlers.where)
        assert (result.attempts, result.output == pid) == (1, False)

    def test_is_seen_where_something_that_it_forked_keeps_its_files_open(self, one, tmp_path):
        result = one(handlers.forks, max_retries=1, retry_delay=0)
        os.kill(wait_until(lambda: number_in(tmp_path / "left"), timeout=LONG), signal.SIGKILL)
        assert result.output == 2

    @pytest.mark.parametrize("name", ["closes", "opens"])
    def test_is_what_a_handler_comes_to_that_has_closed_the_way_back(self, new_engine, name):
        errors = []

        def noted(event):
            errors.append(event.error) if event.event_type == "step_retry" else None

        with new_engine(handlers.closes, event_sink=noted) as engine:
            flow = FlowDef("f", steps=[StepDef(name, max_retries=1, retry_delay=0, timeout=LONG)])
            assert bounded(engine.run, flow)[name].output == 2
        assert errors == [f"{name}: its process ended with exit status 1"]

    @pytest.mark.parametrize(
        ("name", "told"),
        [("short", r"b'hello\n' came"), ("like a message", "b'szal????")],
    )
    def test_is_what_one_comes_to_that_writes_into_the_way_back(self, new_engine, name, told):
        errors = []

        def noted(event):
            errors.append(event.error) if event.event_type == "step_retry" else None

        with new_engine(handlers.writes, event_sink=noted) as engine:
            flow = FlowDef("f", steps=[StepDef(name, max_retries=1, retry_delay=0)])
            assert bounded(engine.run, flow)[name].output == 2
        how = "its process was killed by SIGKILL, as it wrote into the file that leads to the engine"
        [error] = errors
        assert error.startswith(f"{name}: {how}: {told}")

    def test_of_its_own_fork_is_all_that_a_fork_comes_to(self, new_engine, caplog):
        """What is said there, and what it returns, goes nowhere."""
        reported = []
        with new_engine(handlers.comes_back_twice, progress_sink=reported.append) as engine:
            flow = FlowDef("f", steps=[StepDef("returns"), StepDef("asks")])
            assert bounded(engine.run, flow).outputs == {"returns": 0, "asks": 1}
        assert reported == []
        assert "of the fork" not in caplog.text

    def test_what_a_handler_starts_has_none_of_its_files(self, one):
        assert one(handlers.files).output == [0, 1, 2, 3]  # the last is of the folder that is listed


class TestWhatCrosses:
    def test_what_was_found_out_once_outlives_a_process(self, one):
        reported = []
        result = one(handlers.pages, {"progress_sink": reported.append}, max_retries=1, retry_delay=0)
        assert result.output == [{"page": 0}, {"page": 1}, {"page": 2}]
        assert [each.data for each in reported] == [0, 1, 2]

    def test_by_many_threads_too(self, one):
        assert one(handlers.pages_by_threads).output == [True, [0, 1, 2, 3]]

    def test_what_fails_is_not_kept(self, one):
        assert one(handlers.broken_page).output == ["'no such page'", "found", "found"]

    def test_a_key_that_is_none_is_refused_as_here(self, one):
        result = one(handlers.odd_keys, config={"keys": ["", 7, ["k"]]})
        assert [error.partition(", not ")[0] for error in result.output] == [
            "the key of ctx.once must be a text that is not empty"
        ] * 3

    def test_lines_are_logged_here_as_far_as_anybody_asks_for_them(self, one, caplog):
        assert one(handlers.logs).error is None
        library, step = (record for record in caplog.records if record.name in ("library", "szal.step"))
        assert (library.getMessage(), library.process != os.getpid()) == ("from a library: a", True)
        assert step.getMessage() == "[f/a] it failed"
        assert "ValueError: no" in step.exc_text
        assert step.step == "a"

    def test_secrets_are_masked_in_what_is_logged_and_raised(self, new_engine, caplog):
        flow = FlowDef("f", inputs={"key": {"type": "string", "secret": True}}, steps=[StepDef("a")])
        with new_engine(log_secret) as engine:
            assert bounded(engine.run, flow, {"key": "hunter22"})["a"].error == "ValueError: refused: ***"
        assert "the key is ***" in caplog.text
        assert "hunter22" not in caplog.text

    def test_so_does_more_than_fits_into_a_pipe(self, new_engine):
        data = "x" * 5_000_000
        with new_engine(handlers.gives_back) as engine:
            flow = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
            assert bounded(engine.run, flow, {"data": data}).outputs == {"a": data, "b": data}

    def test_a_context_knows_the_time_and_whether_it_is_to_end(self, one):
        assert one(handlers.time_left, timeout=LONG).output == [False, True, True, None]

    def test_a_transaction_does_not(self, one):
        result = one(handlers.transaction)
        assert type(result.exception) is NotSupportedHere
        assert "its connection would be in the engine's process; give the step isolation='thread'" in result.error


class TestProcesses:
    def test_are_started_as_needed_used_again_and_ended_with_the_engine(self):
        flow = FlowDef("f", steps=[StepDef("a", foreach=[*range(30)])])
        with Engine(handlers.where, EngineConfig(isolation="process", max_concurrency=2)) as engine:
            first = bounded(engine.run, FlowDef("one", steps=[StepDef("a")]))["a"].output
            pids = {first, *bounded(engine.run, flow)["a"].output}
            assert len(pids) <= 2
            in_child(lambda: self._uses_its_own(engine, pids))
            assert bounded(engine.run, FlowDef("again", steps=[StepDef("a")]))["a"].output in pids
        assert not any(map(is_running, pids))

    def _uses_its_own(self, engine, pids):
        """In a fork: it has processes of its own, and leaves those of its parent alone."""
        assert engine.run(FlowDef("forked", steps=[StepDef("a")]))["a"].output not in pids
        engine.close(drain=LONG)
        assert all(map(is_running, pids))

    def test_end_when_they_were_idle_for_long_enough(self):
        with Engine(handlers.where, EngineConfig(isolation="process", idle_timeout=0.05)) as engine:
            pid = bounded(engine.run, FlowDef("f", steps=[StepDef("a")]))["a"].output
            wait_until(lambda: not is_running(pid), timeout=LONG)


def test_a_script_that_runs_flows_when_it_is_imported_is_told_what_to_do(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import os, szal
            flow = szal.Flow("f", isolation="process")
            @flow.step
            def work():
                return os.getpid()
            print(flow.run()["work"].error)
        """)
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(szal.__file__).parents[1])}
    done = subprocess.run([sys.executable, script], env=environ, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("work: its process ended with exit status 1 before it could begin: ")
    assert "under if __name__ == '__main__'" in done.stdout
