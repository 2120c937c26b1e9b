"""What pytest is given: fixtures, and nothing of szal for whoever does not ask for them."""

import importlib.metadata
import subprocess
import sys
from textwrap import dedent

from processes import UNMEASURED

FILES = {
    "conftest.py": """
        import sys
        assert "szal_pytest" in sys.modules
        assert not [name for name in sys.modules if name.split(".")[0] == "szal"]
    """,
    "test_order.py": """
        import pytest
        import szal

        order, made = szal.Flow("order"), []

        @order.step(max_retries=1, retry_delay=3600)
        def charge(ctx, amount): raise AssertionError

        @pytest.mark.parametrize("number", [1, 2])
        def test_order(szal_engine, szal_store, number):
            assert szal_store.list() == []
            failing = szal_engine(order, fakes={"charge": OSError("down")})
            other = szal_engine(order, fakes={"charge": "c1"})
            made.extend([failing, other])
            execution = failing.start(order, {"amount": 7}, execution_id="order-7")
            other.clock.advance(3600)
            assert execution.result(0)["charge"].attempts == 2
            assert other.look("order-7").state == szal.WorkflowState.FAILED
            assert szal_store.list() == ["order-7"]

        def test_they_are_closed():
            for engine in made:
                with pytest.raises(szal.EngineClosed):
                    engine.run(order, {"amount": 7})
    """,
    "own/conftest.py": """
        import pytest

        @pytest.fixture
        def szal_store(tmp_path):
            from szal import open_store
            with open_store(f"sqlite:///{tmp_path}/szal.db") as store:
                yield store
    """,
    "own/test_own.py": """
        import szal

        def test_a_store_of_ones_own_takes_its_place(szal_engine):
            flow = szal.FlowDef("f", steps=[szal.StepDef("a")])
            engine = szal_engine(flow, fakes={"a": 1})
            assert engine.run(flow, execution_id="e1").success
            assert type(engine.config.execution_store).__name__ == "SqliteExecutionStore"
    """,
}


def test_fixtures_make_engines_that_are_closed_with_the_test(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(dedent(text))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "szal_pytest", "-p", "no:cacheprovider", "."]
    env = {**UNMEASURED, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1][:8]) == (0, "4 passed"), done.stdout + done.stderr


def test_they_are_there_wherever_szal_is_installed():
    """After a change of setup.cfg: python -m pip install -e . again."""
    found = [each.value for each in importlib.metadata.entry_points(group="pytest11") if each.name == "szal"]
    assert found == ["szal_pytest"]
