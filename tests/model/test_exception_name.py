"""Names of exceptions: those that there are, and those that there cannot be."""

import socket  # noqa: F401 (a module that is loaded)
import sys

import pytest
from model.problems import problems_of

from szal import Engine, FlowDef, InvalidFlow, StepDef
from szal.model.exception_name import problem_of_exception_name


class Busy(Exception):
    """One of a program's own."""

    class Very(Exception):
        """One inside of it."""


class TestThereIs:
    @pytest.mark.parametrize(
        "name",
        [
            "ValueError",
            "builtins.ValueError",
            "IOError",
            "SystemExit",
            "StepTimeout",
            "ShellFailed",
            "szal.StepTimeout",
            "szal.errors:StepTimeout",
            "socket.timeout",
            "json.JSONDecodeError",
            f"{__name__}.Busy",
            f"{__name__}:Busy.Very",
            "Busy",
            "JSONDecodeError",
            "__main__.Busy",
            "jobs.made.<locals>.Busy",
        ],
    )
    def test_an_exception_of_that_name(self, name):
        assert problem_of_exception_name(name) is None

    @pytest.mark.parametrize("name", ["jobs.nightly.Busy", "concurrent.futures.process.BrokenProcessPool"])
    def test_perhaps_one_in_a_module_that_is_not_loaded(self, name, monkeypatch):
        monkeypatch.delitem(sys.modules, "concurrent.futures.process", raising=False)
        assert problem_of_exception_name(name) is None
        assert "concurrent.futures.process" not in sys.modules


class TestThereIsNot:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("ValueEror", "ValueError"),
            ("valueerror", "ValueError"),
            ("StepTimedOut", "StepTimeout"),
            ("szal.StepTimout", "szal.StepTimeout"),
            ("socket.timeot", "socket.timeout"),
            ("builtins.OSErro", "builtins.OSError"),
        ],
    )
    def test_the_nearest_is_told(self, name, meant):
        assert problem_of_exception_name(name) == f"there is no exception {name!r}; did you mean {meant!r}?"

    def test_for_one_of_a_program_it_is_told_how_it_is_named(self):
        assert problem_of_exception_name("QuotaReached") == (
            "there is no exception 'QuotaReached': write its module too, as in 'package.module.Error'"
        )

    @pytest.mark.parametrize("name", ["", ".", "a..b", "json.dumps", "socket.x.y", f"{__name__}.Busy.Not"])
    def test_what_is_no_exception(self, name):
        assert problem_of_exception_name(name).startswith(f"there is no exception {name!r}")


class TestAFlow:
    @pytest.mark.parametrize("field", ["retry_on", "give_up_on"])
    def test_is_refused_for_one_that_there_is_not(self, field):
        flow = FlowDef("f", steps=[StepDef("a", max_retries=1, **{field: ["OSError", "ValueEror"]})])
        problem = f"step 'a': {field}: there is no exception 'ValueEror'; did you mean 'ValueError'?"
        assert problems_of(flow) == problem
        ran = []
        with pytest.raises(InvalidFlow, match="did you mean 'ValueError'"), Engine(ran.append) as engine:
            engine.run(flow)
        assert ran == []

    def test_that_is_recorded_goes_on(self):
        assert FlowDef("f", steps=[StepDef("a", max_retries=1, retry_on="ValueEror")]).analyse()


@pytest.mark.parametrize("status", [0, -1, 256, 10**30, True])
def test_what_is_no_exit_status_of_a_command_that_failed_is_refused(status):
    assert "retry_on: " in problems_of(FlowDef("f", steps=[StepDef("a", max_retries=1, retry_on=status)]))
