"""How much there is of what steps share in all engines of a store: the protocol of each store's limits.

A step asks before it begins, under the lease of its execution, and has what it was granted for as long as somebody
holds that lease, or until it gives it back. So what a process had that died is free once its leases have run out, or
somebody else has taken its executions over.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import attrs

from szal.expressions.path import Json
from szal.model.fields import problem_of_name, problem_of_shares
from szal.model.moment import as_datetime
from szal.stores.listening import Listener
from szal.stores.writes import Lease

__all__ = ["Limits", "Request", "ResourceUse", "WaitingStep", "check_capacity", "names_of"]


@attrs.frozen(kw_only=True)
class Request:
    """So much of each that one attempt of a step *needs*, all at once, by name."""

    permit_id: str
    lease: Lease
    step_name: str
    needs: Mapping[str, int]
    priority: int = 0
    asked: float = attrs.field(default=0.0, converter=float)
    """When the step asked (Unix time, by the database's clock). The higher priority goes first, and then the oldest."""

    def rows(self) -> list[tuple[object, ...]]:
        """Return the parameters of the statement that asks: one row for each name, and what its lease has to be."""
        execution_id, epoch = self.lease
        more = self.priority, self.asked, execution_id, epoch
        return [(self.permit_id, name, self.step_name, units, *more) for name, units in self.needs.items()]


@attrs.frozen
class ResourceUse:
    """How much there is of a resource in all engines of a store, and how much is used.

    >>> ResourceUse("api", capacity=5, used=5, waiting=2).used
    5
    """

    name: str
    capacity: int
    used: int = 0
    waiting: int = 0
    """How many steps stand in line for it. An engine has as many there as could have it at a time; more wait in it."""


@attrs.frozen
class WaitingStep:
    """What a step of an execution waits for: so many *units* of what it shares with others."""

    step_name: str
    name: str
    units: int
    capacity: int | None
    """How much there is of it; None: nobody says so any more."""
    used: int
    since: datetime | None = attrs.field(default=None, converter=as_datetime)
    """When it asked for that."""
    rate: str | None = None
    """How often steps of its engine may begin that name it: then it is a time that the step waits for."""
    in_engine: bool = False
    """Whether its engine has so much of it, and not all engines of the store together: nobody else knows of that."""

    def __str__(self) -> str:
        """Return it in words.

        >>> print(WaitingStep("call", "api", 1, capacity=5, used=5))
        waits for 'api' (5 of 5 in use)
        >>> print(WaitingStep("call", "gpu", 1, capacity=1, used=1, in_engine=True))
        waits for 'gpu' (1 of 1 in use in its engine)
        >>> print(WaitingStep("call", "provider", 1, None, 0, rate="10/s"))
        waits for its turn of 'provider' (10/s)
        >>> print(WaitingStep("call", "api", 7, capacity=5, used=0))
        waits for 'api' (it needs 7, and there is 5)
        >>> print(WaitingStep("call", "gpu", 2, capacity=None, used=0, in_engine=True))
        waits for an engine that has 2 of 'gpu'
        """
        if self.rate is not None:
            return f"waits for its turn of {self.name!r} ({self.rate})"
        if self.capacity is None:
            whose = f"an engine that has {self.units} of " if self.in_engine else ""
            return f"waits for {whose}{self.name!r}"
        where = " in its engine" if self.in_engine else ""
        if self.units > self.capacity:
            return f"waits for {self.name!r} (it needs {self.units}, and there is {self.capacity}{where})"
        needs = "" if self.units == 1 else f"{self.units} of "
        return f"waits for {needs}{self.name!r} ({self.used} of {self.capacity} in use{where})"

    @property
    def is_never_enough(self) -> bool:
        """Whether it waits until there is more of it, and not until others have given some back."""
        return self.rate is None and (self.in_engine if self.capacity is None else self.units > self.capacity)

    def as_json(self) -> dict[str, Json]:
        """Return it as a JSON object."""
        return {**attrs.asdict(self), "since": None if self.since is None else self.since.isoformat()}


class Limits(Protocol):
    """A store's limits. All methods may be called from any thread; they block while the store works."""

    def set_capacity(self, name: str, capacity: int | None) -> None:
        """Have so much of a resource in all engines together; None: each has what it says itself."""

    def capacities(self) -> dict[str, int]:
        """Return how much there is of each that `set_capacity` has set."""

    def uses(self) -> list[ResourceUse]:
        """Return the same, and how much of it is used, in the order of the names."""

    def claim(self, requests: Sequence[Request], over: Collection[str] = ()) -> set[str]:
        """Give back what the requests *over* have, and return which of *requests* are granted, in one transaction.

        Each is granted once nothing of what it needs is wanted by one that comes before it, whoever asked: so none is
        overtaken by those that need less. One that needs more than there is waits until there is, and holds up nobody.
        To be asked again, with what was not granted: then that is as before. What has its lease no more is dropped.
        """

    def has_turn(self, requests: Sequence[Request]) -> bool:
        """Whether one of *requests*, which have been asked, would be granted now. Writes nothing."""

    def waiting(self, execution_id: str) -> list[WaitingStep]:
        """Return what the steps of an execution wait for."""

    def take_turns(self, intervals: Mapping[str, float]) -> float:
        """Take the next free point in time of each name, and return in how many seconds all of these have come.

        Points follow one another at the *intervals*, in seconds, of those who take them.
        """

    def key_holder(self, key: str) -> str | None:
        """Return which execution has a concurrency key: one that has begun and has not ended; None: nobody has it."""

    def listen(self) -> Listener:
        """Return what hears, from now on, of what is given back."""


def check_capacity(name: str, capacity: int | None) -> None:
    """Raise ValueError for what is no name of a resource, or nothing that there can be of one."""
    if (problem := problem_of_name(name)) is not None:
        raise ValueError(f"the name of a resource {problem}")
    if capacity is not None and (problem := problem_of_shares({name: capacity})) is not None:
        raise ValueError(f"the capacity {problem}")


def names_of(requests: Sequence[Request]) -> list[str]:
    """Return the resources that *requests* need, in order."""
    return sorted({name for request in requests for name in request.needs})
