"""Attempts in child processes, whose engine dies: they end with it, and who goes on ends as if nothing had happened."""

import isolated_handlers as handlers
import pytest
from durable.children import Child
from durable.conftest import DATABASES
from pairs import FULL
from processes import is_running, number_in, wait_until

from szal import Engine, EngineConfig, FlowDef, StepDef, open_store

FLOW = FlowDef("f", isolation="process", steps=[StepDef("first"), StepDef("work"), StepDef("last")])

RUN = """
    import isolated_handlers
    steps = [StepDef("first"), StepDef("work"), StepDef("last")]
    flow = FlowDef("f", isolation="process", steps=steps)
    new_engine(isolated_handlers.interrupted).run(flow, {"path": sys.argv[2]}, execution_id="e")
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", DATABASES if FULL else ["sqlite"])
def test_an_engine_that_is_killed_leaves_nothing_and_who_recovers_ends_as_it_would_have(store_url, tmp_path):
    with Child(RUN, store_url, tmp_path) as child:
        pid = wait_until(lambda: number_in(tmp_path / "begun"), timeout=40.0)
        child.process.kill()
        child.process.wait()
        (tmp_path / "go").touch()
        with (
            open_store(store_url) as store,
            Engine(handlers.interrupted, EngineConfig(execution_store=store, max_concurrency=1)) as engine,
        ):
            (result,) = engine.recover()
            assert not is_running(pid)
            undisturbed = engine.run(FLOW, {"path": str(tmp_path)}, execution_id="other")
    log = (tmp_path / "log").read_text().split()
    assert log == ["finds", "begins", "ends", "begins", "ends", *["finds", "begins", "ends"]]
    assert undisturbed.outputs["work"] == ["finds", "other:work"]
    assert result.outputs == {**undisturbed.outputs, "work": ["finds", "e:work"]}
