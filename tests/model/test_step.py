"""Step definitions, and the arithmetic of backoff."""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from szal import BackoffStrategy, FlowDef, FlowMode, InvalidFlow, StepDef, TriggerMode
from szal.model.state import NamedEnum

FINITE = st.floats(min_value=0, max_value=1e308)


def test_defaults_are_those_of_the_design() -> None:
    step = StepDef("build")
    assert attrs.asdict(step, filter=lambda field, _: field.name != "id") == {
        "name": "build",
        "description": "",
        "timeout": None,
        "total_timeout": None,
        "max_retries": 0,
        "retry_delay": 1.0,
        "backoff": BackoffStrategy.FIXED,
        "max_retry_delay": None,
        "retry_jitter": 0.0,
        "retry_on": (),
        "give_up_on": (),
        "rollbackable": False,
        "priority": 0,
        "undo_on_failure": False,
        "continue_on_error": False,
        "cancel_losers": False,
        "finally_": False,
        "step_type": None,
        "config": None,
        "condition": None,
        "depends_on": (),
        "trigger_mode": TriggerMode.ALL,
        "sub_steps": (),
        "idempotent": True,
        "inline": None,
        "isolation": None,
        "resources": {},
        "rate": {},
        "foreach": None,
        "max_parallel": None,
        "max_items": 100_000,
        "until": None,
        "delay": 1.0,
        "until_timeout": None,
        "done_when": None,
    }


def test_a_step_is_frozen_and_changed_with_evolve() -> None:
    step = StepDef("build")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        step.name = "other"  # type: ignore[misc]
    changed = attrs.evolve(step, timeout=5.0)
    assert (changed.timeout, changed.id, changed.name) == (5.0, step.id, "build")


@pytest.mark.parametrize(
    "spelled", [str, lambda member: member.value, lambda member: member], ids=["str", "JSON", "member"]
)
def test_members_of_enums_are_given_by_name_too(spelled: Callable[[NamedEnum], Any]) -> None:
    for backoff in BackoffStrategy:
        assert StepDef("a", backoff=spelled(backoff)).backoff is backoff
    for trigger in TriggerMode:
        assert StepDef("a", trigger_mode=spelled(trigger)).trigger_mode is trigger
    for mode in FlowMode:
        flow = FlowDef("f", spelled(mode))
        assert flow.mode is mode
        flow.mode = spelled(FlowMode.DAG)
        assert flow.mode is FlowMode.DAG
    assert attrs.evolve(StepDef("a"), backoff="linear").backoff is BackoffStrategy.LINEAR


def test_everything_but_the_name_is_a_keyword() -> None:
    with pytest.raises(TypeError):
        StepDef("build", "id")  # type: ignore[misc]


def test_ids_are_fresh_uuids() -> None:
    first, second = StepDef("a"), StepDef("a")
    assert first.id != second.id
    assert len(first.id) == 36


def test_depends_on_takes_steps_or_ids_and_stores_ids() -> None:
    build = StepDef("build")
    assert StepDef("test", depends_on=[build, "some-id"]).depends_on == (build.id, "some-id")
    assert StepDef("test", depends_on=build).depends_on == (build.id,)
    assert StepDef("test", depends_on="some-id").depends_on == ("some-id",)


def test_exception_classes_may_be_given_alone() -> None:
    step = StepDef("fetch", retry_on=OSError, give_up_on="http.client.NotConnected")
    assert (step.retry_on, step.give_up_on) == ((OSError,), ("http.client.NotConnected",))


def test_a_step_with_a_config_can_be_hashed() -> None:
    assert hash(StepDef("a", id="1", config={"list": [1]})) == hash(StepDef("a", id="1", config={"list": [2]}))


@given(base=FINITE, attempt=st.integers(1, 10**9))
def test_fixed_backoff_never_changes(base: float, attempt: int) -> None:
    assert BackoffStrategy.FIXED.delay(base, attempt) == base


@given(base=st.floats(0, 1e6), attempt=st.integers(1, 60))
def test_linear_and_exponential_backoff_follow_their_formulas(base: float, attempt: int) -> None:
    assert BackoffStrategy.LINEAR.delay(base, attempt) == pytest.approx(base * attempt)
    assert BackoffStrategy.EXPONENTIAL.delay(base, attempt) == pytest.approx(base * 2 ** (attempt - 1))


@given(
    strategy=st.sampled_from(list(BackoffStrategy)),
    base=FINITE,
    attempt=st.integers(1, 10**40),
    maximum=st.none() | st.floats(0, 1e9),
)
def test_backoff_never_overflows_and_keeps_to_its_maximum(
    strategy: BackoffStrategy, base: float, attempt: int, maximum: float | None
) -> None:
    delay = strategy.delay(base, attempt, maximum)
    assert math.isfinite(delay)
    assert delay >= 0
    assert maximum is None or delay <= maximum


@pytest.mark.parametrize("minute", [60, 60.0, timedelta(minutes=1), "1m", "60s"])
def test_durations_are_seconds_a_timedelta_or_a_text(minute: object) -> None:
    step = StepDef("build", timeout=minute, retry_delay=minute, max_retry_delay=minute)
    assert (step.timeout, step.retry_delay, step.max_retry_delay) == (60.0, 60.0, 60.0)
    assert FlowDef("ci", timeout=minute).timeout == 60.0


def test_a_text_that_is_no_duration_is_told_by_validate() -> None:
    flow = FlowDef("ci", steps=[StepDef("build", timeout="soon", retry_delay="1 parsec")])
    with pytest.raises(InvalidFlow, match=r"timeout .*'soon'") as caught:
        flow.validate()
    assert len(caught.value.problems) == 2
