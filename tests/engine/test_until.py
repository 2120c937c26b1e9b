"""Steps that poll. Nothing of this is there yet."""

import pytest

from szal import Engine, FlowDef, StepDef


@pytest.mark.xfail(
    strict=True, reason="issue 17: until= with delay= on a step, with a deadline, holding no thread", raises=TypeError
)
def test_a_step_is_called_until_a_condition_over_its_output_holds():
    polls = []

    def handler(ctx):
        polls.append((ctx.attempt, ctx.poll))
        return {"state": "ready" if len(polls) == 3 else "starting"}

    step = StepDef("start", until="output.state == 'ready'", delay=0.01, until_timeout=20)  # type: ignore[call-arg]
    with Engine(handler) as engine:
        assert engine.run(FlowDef("f", steps=[step]))["start"].output == {"state": "ready"}
    assert polls == [(1, 1), (1, 2), (1, 3)]
