"""Where commands run: recorded when an execution begins, and the same for whoever goes on with it, from wherever."""

import logging
import os
import sys
from pathlib import Path

import attrs
import pytest

from szal import (
    EncodeError,
    Engine,
    EngineConfig,
    FlowDef,
    Handlers,
    InMemoryStorage,
    StepDef,
    WorkflowState,
    WorkingDirectoryGone,
    load_flow,
)
from szal.steps.shell import run_shell


def command(name, run, **config):
    return StepDef(name, step_type="shell", config={"run": run, **config})


def wait(name="wait"):
    return StepDef(name, step_type="wait", config={"signal": "go"})


def waiting_flow(run="pwd"):
    return FlowDef("clean", steps=[command("first", "true"), wait(), command("last", run)])


@pytest.fixture
def one(tmp_path):
    """A project."""
    return project(tmp_path / "one")


@pytest.fixture
def other(tmp_path):
    """Another project."""
    return project(tmp_path / "other")


def project(path):
    (path / "dist").mkdir(parents=True)
    return path


@pytest.fixture
def engine_in(monkeypatch, new_engine):
    """``engine_in(directory, **config)``: change to a directory, and make an engine as another process there would."""

    def make(directory, **config):
        monkeypatch.chdir(directory)
        return new_engine(Handlers(), **config)

    return make


@pytest.fixture
def paused(engine_in, one):
    """The id of an execution of the first project, which waits before its last command."""

    def pause(flow):
        result = engine_in(one).run(flow)
        assert result.state is WorkflowState.PAUSED
        return result.execution_id

    return pause


class TestGoingOnInAnotherProject:
    def test_resume_runs_commands_where_they_ran_first(self, paused, engine_in, one, other):
        name = paused(waiting_flow("rm -r dist; pwd"))
        engine = engine_in(other)
        engine.signal(name, "go")
        assert engine.resume(name)["last"].output["stdout"].strip() == str(one)
        assert ((one / "dist").exists(), (other / "dist").exists()) == (False, True)

    def test_recover_does_too(self, paused, engine_in, one, other):
        name = paused(waiting_flow("rm -r dist"))
        engine = engine_in(other)
        engine.signal(name, "go")
        assert [result.success for result in engine.recover()] == [True]
        assert ((one / "dist").exists(), (other / "dist").exists()) == (False, True)

    def test_run_with_its_id_does_too(self, paused, engine_in, one, other):
        flow = waiting_flow()
        name = paused(flow)
        engine = engine_in(other)
        engine.signal(name, "go")
        assert engine.run(flow, execution_id=name)["last"].output["stdout"].strip() == str(one)

    def test_a_rerun_does_too_and_so_does_the_rerun_of_that(self, engine_in, one, other, tmp_path):
        flow = FlowDef("f", steps=[command("first", "true"), command("last", "pwd")])
        name = engine_in(one).run(flow).execution_id
        again = engine_in(other).rerun(name, "last")
        assert again["last"].output["stdout"].strip() == str(one)
        third = engine_in(tmp_path).rerun(again.execution_id, "last")
        assert third["last"].output["stdout"].strip() == str(one)

    def test_what_undoes_a_command_does_too(self, paused, engine_in, one, other):
        made = {"run": "touch made", "rollback": {"run": "pwd > undone"}}
        make = StepDef("make", step_type="shell", config=made, rollbackable=True)
        steps = [make, wait(), command("x", "false")]
        name = paused(FlowDef("f", steps=steps, rollback_on_failure=True))
        engine = engine_in(other)
        engine.signal(name, "go")
        assert engine.resume(name).rolled_back
        assert (one / "undone").read_text().strip() == str(one)

    def test_a_directory_of_a_steps_own_is_relative_to_that(self, paused, engine_in, one, other):
        name = paused(FlowDef("f", steps=[wait(), command("last", "pwd", cwd="dist")]))
        engine = engine_in(other)
        engine.signal(name, "go")
        assert engine.resume(name)["last"].output["stdout"].strip() == str(one / "dist")

    def test_sub_flows_run_where_what_they_belong_to_does(self, engine_in, one, other):
        inner = FlowDef("inner", steps=[wait(), command("last", "pwd")])
        outer = FlowDef(
            "outer", steps=[wait("first"), StepDef("sub", step_type="sub_flow", config={"flow_name": "inner"})]
        )
        storage = InMemoryStorage([inner])
        name = engine_in(one, storage=storage).run(outer).execution_id
        engine = engine_in(other, storage=storage)
        engine.signal(name, "go")
        engine.resume(name)  # here the sub-flow begins
        (child,) = engine.config.execution_store.list("inner")
        engine.signal(child, "go")
        result = engine_in(other, storage=storage).resume(name)
        assert result["sub"].output["last"]["stdout"].strip() == str(one)

    def test_a_handler_of_ones_own_is_told_where_that_is(self, engine_in, one, other, new_engine):
        told = []
        handlers = Handlers()
        handlers.step_type("noting")(lambda ctx: told.append(ctx.cwd))
        handlers.step_type("mine")(lambda ctx: run_shell(ctx, {"run": "pwd"})["stdout"])
        flow = FlowDef(
            "f", steps=[command("c", "true"), StepDef("n", step_type="noting"), StepDef("m", step_type="mine")]
        )
        os.chdir(one)
        assert new_engine(handlers).run(flow)["m"].output.strip() == str(one)
        assert told == [str(one)]


class TestADirectoryThatIsGone:
    @pytest.fixture
    def gone(self, paused, one, other, engine_in):
        """The id of an execution whose directory is called otherwise by now; what it waited for has come."""
        name = paused(waiting_flow())
        one.rename(one.with_name("moved"))
        engine_in(other).signal(name, "go")
        return name

    @pytest.mark.parametrize("take_up", ["resume", "rerun", "run"])
    def test_is_told_by_name_and_nothing_happens(self, engine_in, gone, one, store, take_up):
        before = store.get(gone)
        engine = engine_in(one.parent)
        do = {
            "resume": lambda: engine.resume(gone),
            "rerun": lambda: engine.rerun(gone),
            "run": lambda: engine.run(waiting_flow(), execution_id=gone),
        }
        with pytest.raises(
            WorkingDirectoryGone, match=f"execution {gone}: its commands ran in {one}, which is not there"
        ):
            do[take_up]()
        assert store.get(gone) == before
        assert store.ledger.holder(gone) is None
        assert len(store.list()) == 1

    def test_recover_tells_of_it_and_goes_on_with_the_others(self, engine_in, gone, other, store, caplog):
        second = engine_in(other).run(waiting_flow()).execution_id
        engine = engine_in(other)
        engine.signal(second, "go")
        with caplog.at_level(logging.ERROR):
            assert [result.execution_id for result in engine.recover()] == [second]
        assert f"cannot recover execution {gone}: its commands ran in" in caplog.text
        assert store.get(gone).state is WorkflowState.PAUSED

    def test_goes_on_where_the_engine_says_that_it_is_now_and_stays_there(self, engine_in, gone, other, one, store):
        moved = one.with_name("moved")
        result = engine_in(other, cwd=moved).resume(gone)
        assert result["last"].output["stdout"].strip() == str(moved)
        assert store.get(gone).cwd == str(moved)

    def test_hinders_nothing_that_runs_no_command(self, engine_in, new_engine, one, other):
        name = engine_in(one, cwd=one).run(FlowDef("f", steps=[wait()])).execution_id
        one.rename(one.with_name("moved"))
        engine = engine_in(other)
        engine.signal(name, "go")
        assert engine.resume(name).success

    def test_of_what_has_ended_the_result_is_returned(self, engine_in, one, other):
        name = engine_in(one).run(FlowDef("f", steps=[command("a", "true")])).execution_id
        one.rename(one.with_name("moved"))
        assert engine_in(other).resume(name).success

    def test_the_process_s_own_is_told_before_anything_is_recorded(self, engine_in, one, store):
        engine = engine_in(one)
        (one / "dist").rmdir()
        one.rmdir()
        with pytest.raises(WorkingDirectoryGone, match="the working directory of this process is not there"):
            engine.run(waiting_flow())
        assert store.list() == []


class TestWhatIsRecorded:
    def test_the_working_directory_when_it_began(self, paused, store, one):
        assert store.get(paused(waiting_flow())).cwd == str(one)

    def test_nothing_where_no_command_can_run(self, engine_in, one, store):
        flow = FlowDef("f", steps=[wait()])
        assert store.get(engine_in(one).run(flow).execution_id).cwd is None

    def test_the_directory_that_the_engine_says(self, engine_in, one, other, store):
        result = engine_in(one, cwd=os.path.relpath(other, one)).run(waiting_flow())
        assert store.get(result.execution_id).cwd == str(other)

    def test_the_file_and_its_folder(self, engine_in, one, other, store):
        (one / "f.yaml").write_text("name: f\nsteps:\n  - name: a\n    run: pwd\n")
        result = engine_in(other).run(load_flow(one / "f.yaml"))
        record = store.get(result.execution_id)
        assert (record.cwd, record.file) == (str(one), str(one / "f.yaml"))
        assert result["a"].output["stdout"].strip() == str(one)


def test_what_has_no_directory_recorded_runs_in_that_of_the_process(paused, engine_in, other, store):
    name = paused(waiting_flow())
    store.save(attrs.evolve(store.get(name), cwd=None))
    engine = engine_in(other)
    engine.signal(name, "go")
    assert engine.resume(name)["last"].output["stdout"].strip() == str(other)


def test_without_a_store_a_files_commands_run_in_its_folder(one, other, monkeypatch):
    (one / "f.yaml").write_text("name: f\nsteps:\n  - name: a\n    run: pwd\n")
    monkeypatch.chdir(other)
    with Engine(Handlers()) as engine:
        assert engine.run(load_flow(Path("../one/f.yaml")))["a"].output["stdout"].strip() == str(one)


def test_a_directory_that_is_not_there_is_refused_when_an_engine_is_told_of_it(tmp_path):
    with pytest.raises(ValueError, match=f"cwd: there is no directory {tmp_path}/none"):
        EngineConfig(cwd=tmp_path / "none")


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such names")
def test_one_whose_name_is_no_text_is_refused_before_anything_runs(engine_in, tmp_path, store):
    path = Path(os.fsdecode(bytes(tmp_path) + b"/pr\xff"))
    path.mkdir()
    with pytest.raises(EncodeError, match=r"^cwd: holds a lone surrogate"):
        engine_in(path).run(FlowDef("f", steps=[command("a", "touch done")]))
    assert ([*path.iterdir()], [*store.list()]) == ([], [])
