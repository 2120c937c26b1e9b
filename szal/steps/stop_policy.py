"""How a command is told to end: with which signal, and how long it has until it is killed."""

import math
import os
import signal
from collections.abc import Mapping
from typing import Final

import attrs

from szal.expressions.path import Json
from szal.number import problem_of

__all__ = ["GRACE_OF_PARENT", "StopPolicy", "share_of_parents_grace"]

GRACE_OF_PARENT: Final = "SZAL_STOP_GRACE"
"""The variable that tells a command how many seconds it has between the stop signal and SIGKILL."""

_COMMANDS_SHARE: Final = 0.5
"""Of its parent's grace, what the commands of a szal have that runs in a step itself. The rest is for its record."""


@attrs.frozen
class StopPolicy:
    """A stop signal, by its name without "SIG", and the seconds between that and SIGKILL.

    >>> StopPolicy.of({"signal": "INT"})
    StopPolicy(signal='INT', grace=2.0)
    """

    signal: str = "TERM"
    grace: float = 2.0

    @classmethod
    def of(cls, config: Mapping[str, Json] | None) -> "StopPolicy":
        """Return what ``config["stop"]`` says, and where it says nothing, what is so for every command."""
        given = {key: value for key, value in (config or {}).items() if value is not None}
        return cls(**given)

    @property
    def number(self) -> int:
        """The number of the signal on this system."""
        return signal.Signals[f"SIG{self.signal}"].value

    def within_parents_grace(self) -> "StopPolicy":
        """Return the same, but with a grace that is over before the process which waits for this one is killed."""
        return attrs.evolve(self, grace=min(self.grace, share_of_parents_grace(_COMMANDS_SHARE)))


def share_of_parents_grace(share: float) -> float:
    """Return so much of the seconds that this process has to end, if it is itself a command of szal; else infinity."""
    try:
        seconds = float(os.environ.get(GRACE_OF_PARENT, ""))
    except ValueError:
        return math.inf
    return math.inf if problem_of(seconds) is not None or seconds < 0 else share * seconds
