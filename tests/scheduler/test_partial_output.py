"""What a step has come to although it failed: an exception of szal's may carry it."""

import pytest

from szal import (
    Engine,
    EngineConfig,
    FlowDef,
    GiveUp,
    InMemoryExecutionStore,
    RetryExhausted,
    StepDef,
    StepStatus,
    SzalError,
)


class SentTooFew(SzalError):
    """An error of a program's own."""


def failing(output, *, kind=GiveUp):
    def handler(_):
        error = kind("3 of 5 are sent")
        error.partial_output = output
        raise error

    return handler


def run(handler, store=None, **fields):
    with Engine(handler, EngineConfig(execution_store=store)) as engine:
        return engine.run(FlowDef("f", steps=[StepDef("send", **fields)]))


@pytest.fixture(params=[False, True], ids=["no store", "store"])
def store(request):
    return InMemoryExecutionStore() if request.param else None


def test_it_is_the_output_of_the_step(store):
    result = run(failing({"sent": 3}), store)
    assert (result["send"].status, result["send"].output) == (StepStatus.FAILED, {"sent": 3})
    assert result.outputs == {}


def test_it_is_recorded():
    store = InMemoryExecutionStore()
    result = run(failing({"sent": (1, 2)}), store)
    assert store.get(result.execution_id).result["send"].output == {"sent": [1, 2]}


def test_it_is_there_when_the_attempts_are_exhausted(store):
    result = run(failing([3], kind=SentTooFew), store, max_retries=1, retry_delay=0)
    assert result["send"].output == [3]
    with pytest.raises(RetryExhausted) as caught:
        result.raise_for_failure()
    assert caught.value.partial_output == [3]


def test_of_what_cannot_be_recorded_nothing_is(caplog):
    result = run(failing({"sent": object()}), InMemoryExecutionStore())
    assert (result["send"].error, result["send"].output) == ("GiveUp: 3 of 5 are sent", None)
    assert "what step send of" in caplog.text
    assert 'came to is left out: OutputNotSerializable: output["sent"]: object' in caplog.text


def test_exceptions_of_others_carry_nothing(store):
    assert run(failing(3, kind=ValueError), store)["send"].output is None
