"""A web application that runs a flow in each request, as `test_gunicorn` serves it."""

import os
from collections.abc import Callable
from typing import Any

import szal

store = szal.open_store(os.environ["SZAL_TEST_STORE"])
sink = store.engine_sink()
engine = szal.Engine(lambda ctx: ctx.inputs["who"], szal.EngineConfig(execution_store=sink))
flow = szal.FlowDef("hello", szal.FlowMode.PARALLEL, steps=[szal.StepDef("one"), szal.StepDef("two")])

# With --preload this is the master process: the workers are forked from one that has used everything.
engine.run(flow, {"who": "master"}, execution_id="preloaded")
sink.save(szal.ExecutionRecord("queued", "hello"))


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Run the flow under the id that is asked for; who gets an answer has a record."""
    result = engine.run(flow, {"who": os.getpid()}, execution_id=environ["QUERY_STRING"])
    start_response("200 OK" if result.success else "500 Internal Server Error", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
