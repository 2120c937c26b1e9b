"""A limit for all attempts of a step together, beside that of each."""

from pathlib import Path
from typing import Any

import pytest

from szal import Engine, FlowDef, InvalidFlow, RetryAfter, StepContext, StepDef, StepTimeout
from szal.files.loader import load_flow
from szal.model.json import decode_flow, encode_flow

IN_ALL = "all attempts together"


def run(handler: Any, **options: Any) -> Any:
    with Engine(handler) as engine:
        return engine.run(FlowDef("demo", steps=[StepDef("fetch", **options)]))["fetch"]


def test_an_attempt_ends_when_the_limit_of_all_has_come() -> None:
    result = run(lambda ctx: ctx.sleep(5), total_timeout=0.05, timeout=10, max_retries=5, retry_delay=0)
    assert (result.error, result.attempts) == (f"step timeout: fetch after 50ms, {IN_ALL}", 1)
    assert result.error_type == StepTimeout.__name__


def test_a_later_attempt_has_what_is_left() -> None:
    left: list[float] = []

    def handler(ctx: StepContext) -> None:
        left.append(ctx.remaining() or 0.0)
        if ctx.attempt == 1:
            ctx.sleep(0.02)
            raise OSError("no")
        ctx.sleep(60)

    result = run(handler, total_timeout=1, max_retries=5, retry_delay=0)
    assert (result.error, result.attempts) == (f"step timeout: fetch after 1000ms, {IN_ALL}", 2)
    assert left[1] < left[0] - 0.015
    assert result.duration < 30


def test_no_attempt_follows_that_could_not_begin_in_time() -> None:
    def handler(ctx: StepContext) -> None:
        raise OSError("no route to host")

    result = run(handler, total_timeout=5, max_retries=5, retry_delay=60)
    assert result.error == f"step timeout: fetch after 5000ms, {IN_ALL}: OSError: no route to host"
    assert (result.attempts, result.error_type) == (1, StepTimeout.__name__)


def test_what_a_handler_asks_for_is_no_exception() -> None:
    def handler(ctx: StepContext) -> None:
        raise RetryAfter(60)

    assert IN_ALL in (run(handler, total_timeout=5, max_retries=1).error or "")


def test_the_limit_of_each_holds_beside_it() -> None:
    result = run(lambda ctx: ctx.sleep(5), total_timeout=60, timeout=0.02, max_retries=1, retry_delay=0)
    assert result.error == "retry exhausted: fetch after 2 attempts: step timeout: fetch after 20ms"


def test_a_step_in_time_knows_nothing_of_it() -> None:
    assert run(lambda ctx: ctx.attempt, total_timeout=60, max_retries=1).output == 1


def test_the_engines_own_steps_have_none() -> None:
    with pytest.raises(InvalidFlow, match="total_timeout of a step of type 'sleep'"):
        FlowDef("demo", steps=[StepDef("nap", step_type="sleep", config={"seconds": 1}, total_timeout=1)]).validate()


def test_files_and_records_say_it(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("name: f\nsteps:\n  - name: a\n    run: 'true'\n    total_timeout: 2m\n")
    flow = load_flow(path)
    assert flow.steps[0].total_timeout == 120
    assert decode_flow(encode_flow(flow)).steps[0].total_timeout == 120
    assert "total_timeout" not in encode_flow(FlowDef("f", steps=[StepDef("a")]))
