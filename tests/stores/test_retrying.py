"""Calls that go to tenacity once they have failed."""

import pytest
from tenacity import Retrying, stop_after_attempt

from szal.stores import retrying


class Flaky:
    """Fails as often as it is told to."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.calls = 0

    def __call__(self, value: int) -> int:
        self.calls += 1
        if self.calls <= self.left:
            raise ValueError(f"failure {self.calls}")
        return value


def of(attempts: int) -> Retrying:
    return Retrying(stop=stop_after_attempt(attempts), reraise=True)


def test_a_success_asks_for_no_strategies() -> None:
    assert retrying.call(pytest.fail, Flaky(0), 7) == 7


def test_the_first_failure_counts_as_an_attempt() -> None:
    assert retrying.call(lambda spent: of(3), patient := Flaky(2), 7) == 7
    assert patient.calls == 3
    with pytest.raises(ValueError, match="failure 2"):
        retrying.call(lambda spent: of(2), hasty := Flaky(2), 7)
    assert hasty.calls == 2


def test_the_time_of_the_first_attempt_counts() -> None:
    spent: list[float] = []

    def strategies(seconds: float) -> Retrying:
        spent.append(seconds)
        return of(1)

    with pytest.raises(ValueError, match="failure 1"):
        retrying.call(strategies, Flaky(1), 7)
    assert spent[0] > 0
