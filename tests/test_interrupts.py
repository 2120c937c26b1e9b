"""The signal handlers of the program are in place again after a run, whatever they raise, and whenever."""

import signal
from itertools import count

import pytest
from injection import Injection, untraced

from szal import Engine, FlowDef, StepDef, interrupts

HANDLED = [signal.SIGINT, signal.SIGUSR1, signal.SIGTERM]  # one before and one behind the one that comes


class TookTooLong(Exception):
    """What the program's handler raises."""


def raise_it(number, frame):
    raise TookTooLong


@pytest.fixture
def installed():
    """The handlers of the program."""
    before = {number: signal.getsignal(number) for number in HANDLED}
    for number in HANDLED:
        signal.signal(number, raise_it)
    yield dict.fromkeys(HANDLED, raise_it)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", HANDLED)
def test_at_any_instruction_of_putting_them_aside_and_back(installed, number):
    flow, ran = FlowDef("f", steps=[StepDef("a")]), 0
    with Engine(lambda ctx: 1) as engine, untraced():
        for moment in count():
            injection = Injection(moment, [interrupts], lambda: signal.raise_signal(number), opcodes=True)
            raised = False
            with injection:
                try:
                    ran += engine.run(flow).success
                except TookTooLong:
                    raised = True
            assert {each: signal.getsignal(each) for each in HANDLED} == installed, injection.line
            assert raised is injection.happened, injection.line
            if not injection.happened:
                break
    assert (moment > 100, ran) == (True, 1)
