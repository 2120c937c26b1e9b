"""Child processes that are forks of a server: begun fast, and in all else as those that are started afresh."""

import os
import signal
from functools import partial

import isolated_handlers as handlers
import pytest
from durable.children import Child
from forking import in_child
from helper_engine import bounded as bounded_by
from processes import is_running, number_in, wait_until
from shared_processes import SharedProcesses

from szal import Engine, EngineConfig, FlowDef, FlowMode, ProcessDied, StepDef
from szal.steps.forks import Forks

LONG = 50.0
bounded = partial(bounded_by, timeout=LONG)
ONE = FlowDef("f", steps=[StepDef("a")])

RUN = """
    import isolated_handlers
    flow = FlowDef("f", isolation="process", steps=[StepDef("a")])
    engine = Engine(isolated_handlers.told_where, EngineConfig(process_start="forkserver"))
    engine.run(flow, {"path": sys.argv[2]})
"""


@pytest.fixture(scope="module")
def forks():
    """Up to two processes, whose server all tests here share."""
    with SharedProcesses(2, start=Forks(["isolated_handlers"])) as made:
        yield made


@pytest.fixture
def one(forks, tmp_path):
    """``one(handler, **step)`` returns the result of the one step that *handler* does, in a fork."""

    def run(handler, settings=None, **step):
        with forks.engine(handler, isolation="process", **(settings or {})) as engine:
            flow = FlowDef("f", steps=[StepDef("a", **step)])
            return bounded(engine.run, flow, {"path": str(tmp_path)})["a"]

    return run


@pytest.fixture
def server(forks, one):
    """The server, which may be killed, of a process that is idle."""
    forks.close()
    found = one(handlers.surroundings).output["parent"]
    assert found == one(handlers.surroundings).output["imported_by"]
    yield found
    forks.close()  # of what it has forked nobody else can tell how that ends


class TestAFork:
    def test_leads_a_session_and_has_the_environment_the_folder_and_the_output_of_its_start(
        self, forks, one, tmp_path, monkeypatch, capfd
    ):
        forks.close()
        before = one(handlers.surroundings).output
        forks.close()
        monkeypatch.setenv("SZAL_TEST_LATER", "later")
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.chdir(tmp_path)
        found = one(handlers.surroundings).output
        assert found["pid"] == found["session"] != before["pid"]
        assert found["folder"] == str(tmp_path)
        assert (found["later"], found["home"], before["later"]) == ("later", None, None)
        assert capfd.readouterr().out.splitlines()[-1] == f"this is {found['pid']}"

    def test_is_one_of_a_server_that_has_imported_what_it_was_told_to(self, one, forks):
        first = one(handlers.surroundings).output
        os.kill(first["pid"], signal.SIGKILL)
        second = one(handlers.surroundings).output
        assert first["pid"] != second["pid"]
        for each in (first, second):  # by now it may be another one: the first has ended with the last of its children
            assert each["pid"] != each["parent"] == each["imported_by"]

    @pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "exits", "ends"])
    def test_tells_how_it_has_ended(self, forks, name):
        exited = {"exits": "ended with exit status 3", "ends": "ended with exit status 0"}
        with forks.engine(handlers.dies, isolation="process") as engine:
            result = bounded(engine.run, FlowDef("f", steps=[StepDef(name)]))
        assert result[name].error == f"{name}: its process {exited.get(name, f'was killed by {name}')}"

    def test_is_ended_when_its_time_is_over_with_its_finally_clauses(self, one, tmp_path):
        assert one(handlers.where).error is None  # so a process is there
        for timeout in (0.2, 1.0, 5.0, 25.0):  # how long it takes to begin, nobody knows
            result = one(handlers.sleeps, timeout=timeout)
            assert result.error == f"step timeout: a after {1000 * timeout:.0f}ms"
            if (pid := number_in(tmp_path / "begun")) is not None:
                break
        assert number_in(tmp_path / "cleaned") == pid
        assert not is_running(pid)


class TestTheServer:
    def test_may_be_ended_what_it_has_forked_goes_on_and_the_next_has_another(self, forks, server, tmp_path):
        steps = [StepDef("a", isolation="process"), StepDef("b", isolation="process")]
        with forks.engine(handlers.waits) as engine:
            execution = engine.start(FlowDef("f", FlowMode.SEQUENTIAL, steps=steps), {"path": str(tmp_path)})
            wait_until(lambda: number_in(tmp_path / "begun"), timeout=LONG)
            os.kill(server, signal.SIGTERM)
            wait_until(lambda: not is_running(server), timeout=LONG)
            other = bounded(Engine.run, forks.engine(handlers.surroundings, isolation="process"), ONE)["a"].output
            (tmp_path / "go").touch()
            assert execution.result(LONG).outputs == {"a": 1, "b": 1}
        assert other["parent"] not in (server, 1)

    def test_that_is_gone_leaves_a_fork_that_dies_a_failed_attempt(self, forks, server, tmp_path):
        with forks.engine(handlers.waits, isolation="process") as engine:
            execution = engine.start(ONE, {"path": str(tmp_path)})
            pid = wait_until(lambda: number_in(tmp_path / "begun"), timeout=LONG)
            os.kill(server, signal.SIGKILL)
            wait_until(lambda: not is_running(server), timeout=LONG)
            os.kill(pid, signal.SIGKILL)
            assert execution.result(LONG)["a"].error == "a: its process has ended, nobody knows how"

    def test_ends_with_the_engine_and_a_fork_of_that_has_its_own(self):
        settings = EngineConfig(isolation="process", process_start="forkserver", max_concurrency=1)
        with Engine(handlers.surroundings, settings) as engine:
            found = bounded(engine.run, ONE)["a"].output

            def uses_its_own():
                assert engine.run(ONE)["a"].output["parent"] != found["parent"]
                engine.close(drain=LONG)
                assert is_running(found["pid"])

            in_child(uses_its_own, within=int(LONG))
            assert bounded(engine.run, ONE)["a"].output["pid"] == found["pid"]
        assert not any(map(is_running, (found["pid"], found["parent"])))

    def test_ends_with_the_last_that_was_idle_for_long_enough(self):
        settings = EngineConfig(isolation="process", process_start="forkserver", idle_timeout=0.05)
        with Engine(handlers.surroundings, settings) as engine:
            found = bounded(engine.run, ONE)["a"].output
            wait_until(lambda: not any(map(is_running, (found["pid"], found["parent"]))), timeout=LONG)

    @pytest.mark.parametrize(
        ("code", "told"),
        [
            (
                "raise LookupError('not here')",
                "RuntimeError: process_preload: 'preloaded' cannot be imported: LookupError: not here",
            ),
            (
                "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
                "RuntimeError: process_preload: 'preloaded' has 1 threads started, which no fork has",
            ),
        ],
    )
    def test_that_cannot_have_what_it_is_told_to_import_says_why(self, tmp_path, monkeypatch, code, told):
        (tmp_path / "preloaded.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        settings = EngineConfig(isolation="process", process_start="forkserver", process_preload=["preloaded"])
        with Engine(handlers.where, settings) as engine:
            result = bounded(engine.run, ONE)["a"]
        assert type(result.exception) is ProcessDied
        assert result.error == f"a: its process ended with exit status 1 before it could begin: {told}"

    def test_leaves_nothing_where_the_engine_is_killed(self, tmp_path):
        with Child(RUN, f"sqlite:///{tmp_path / 'x.db'}", tmp_path) as child:
            pid = wait_until(lambda: number_in(tmp_path / "begun"), timeout=LONG)
            server = number_in(tmp_path / "server")
            child.process.kill()
            child.process.wait()
            wait_until(lambda: not any(map(is_running, (pid, server))), timeout=LONG)


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "error", "told"),
        [
            ({"process_start": "fork"}, ValueError, "process_start is one of spawn, forkserver, not 'fork'"),
            ({"process_preload": ["numpy"]}, ValueError, "process_preload: numpy: only process_start='forkserver' has"),
            ({"process_preload": "numpy"}, TypeError, "process_preload must be a sequence of names of modules, not"),
            (
                {"process_start": "forkserver", "process_preload": ["os.path", "my-module"]},
                ValueError,
                "process_preload: 'my-module' is no name of a module",
            ),
        ],
    )
    def test_that_make_no_sense_are_refused(self, settings, error, told):
        with pytest.raises(error, match=told):
            EngineConfig(**settings)

    def test_for_which_the_system_lacks_something_are_refused(self, monkeypatch):
        monkeypatch.delattr(os, "fork")
        with pytest.raises(ValueError, match=r"process_start 'forkserver' needs os\.fork, which this system does not"):
            EngineConfig(process_start="forkserver")
