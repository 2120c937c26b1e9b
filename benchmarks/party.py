"""Who takes part: szal, the floors, the peers; each a file of subjects and the Python that runs it."""

import re
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    from benchmarks.worker import Subject

__all__ = ["FLOORS", "OURS", "PEERS", "Party", "Peer", "Role"]


@attrs.frozen(kw_only=True)
class Party:
    """A file of subjects. `python` runs it; `distributions` are those whose versions are told."""

    module: str
    distributions: tuple[str, ...] = ()
    python: str = sys.executable

    @property
    def file(self) -> str:
        """Where its subjects are."""
        path = import_module(self.module).__file__
        assert path is not None
        return path

    @property
    def cases(self) -> "dict[str, dict[str, Subject]]":
        """Its subjects, by case and label."""
        cases: dict[str, dict[str, Subject]] = import_module(self.module).CASES
        return cases

    def largest(self, case: str) -> int:
        """Return the greatest size of *case* that it is asked for: peers may take minutes where others take none."""
        largest: dict[str, int] = getattr(import_module(self.module), "LARGEST", {})
        return largest.get(case, sys.maxsize)


@attrs.frozen(kw_only=True)
class Peer:
    """Another engine: what to install into a virtualenv of its own, and the file of its subjects.

    `bare_threads`: its labels that call functions in memory, keep no states and times of steps, and are judged apart.
    `less`: those that keep less than szal promises in the same case; the ratio is told, and not judged. `near`: it is
    judged by targets of the cases that name it, and not as others are. `python`: the oldest that it runs on.
    """

    name: str
    requirements: tuple[str, ...]
    python: tuple[int, int] = (3, 11)
    near: bool = False
    bare_threads: tuple[str, ...] = ()
    less: tuple[str, ...] = ()

    @property
    def distributions(self) -> tuple[str, ...]:
        """What it is called on PyPI, without bounds."""
        return tuple(re.split(r"[\[<>=~! ]", requirement)[0] for requirement in self.requirements)

    def party(self, python: str) -> Party:
        """Return it as run by *python*."""
        return Party(module=self.module, distributions=self.distributions, python=python)

    @property
    def module(self) -> str:
        """The file of its subjects imports nothing but the peer, and that only when it is run."""
        return f"benchmarks.peers.{self.name}"

    @property
    def cases(self) -> "dict[str, dict[str, Subject]]":
        """Its subjects, by case and label."""
        return self.party(sys.executable).cases


OURS = tuple(
    Party(module=f"benchmarks.szal_cases.{name}", distributions=("szal", "attrs", "tenacity", "sqlite-utils"))
    for name in ("running", "defining", "durable", "stores", "growing", "commands", "replay", "executors", "queues")
)
FLOORS = tuple(
    Party(module=f"benchmarks.floors.{name}", distributions=("psycopg",))
    for name in ("running", "texts", "tables", "commands", "replay", "executors", "queues")
)
PEERS = (
    Peer(name="taskflow", requirements=("taskflow", "sqlalchemy", "alembic", "sqlalchemy-utils")),
    Peer(name="luigi", requirements=("luigi",)),
    Peer(
        name="langgraph",
        requirements=(
            "langgraph",
            "langgraph-checkpoint-sqlite",
            "langgraph-checkpoint-postgres",
            "psycopg[binary]",
        ),
        # One checkpoint at the end: no step is recorded, and a crash loses them all.
        less=('langgraph, SqliteSaver, "exit"', 'langgraph, PostgresSaver, "exit"'),
    ),
    Peer(name="dask", requirements=("dask",), bare_threads=("dask threads",)),
    Peer(name="distributed", requirements=("distributed",)),
    Peer(name="prefect", requirements=("prefect", "fastapi<0.140")),  # 3.8.8 does not start with the newest
    Peer(name="dbos", requirements=("dbos",)),
    # Whoever takes a task deletes it: a crash loses those that run.
    Peer(name="huey", requirements=("huey",), bare_threads=("huey, in memory",), less=("huey, at most once",)),
    Peer(name="procrastinate", requirements=("procrastinate", "psycopg[binary,pool]")),
    Peer(name="dura", requirements=("dura",), python=(3, 13), near=True),
    Peer(name="sayiir", requirements=("sayiir",), bare_threads=("sayiir, in memory",)),
    Peer(name="kairo", requirements=("kairo-sdk[embedded]", "psycopg[binary,pool]"), python=(3, 12)),
)


@attrs.frozen
class Role:
    """One subject of one case: a row of its table."""

    label: str
    party: Party
    peer: Peer | None = None

    @property
    def is_floor(self) -> bool:
        """Whether this is neither szal, whole or in part, nor a peer."""
        return self.peer is None and not self.label.startswith("szal")

    @property
    def rival(self) -> Literal["engine", "threads", "less"] | None:
        """What a peer is to be judged as; None for szal, the floors, and a peer that targets name."""
        if self.peer is None or self.peer.near:
            return None
        if self.label in self.peer.less:
            return "less"
        return "threads" if self.label in self.peer.bare_threads else "engine"


def roles(case: str, parties: Sequence[Party]) -> Iterator[Role]:
    """Yield the subjects that *parties* have under the name *case*."""
    for party in parties:
        for label in party.cases.get(case, {}):
            yield Role(label, party)
