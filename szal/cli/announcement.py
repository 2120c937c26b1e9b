"""What is about to be run, told before it is: which flow, with which inputs, and where it is recorded."""

from collections.abc import Mapping
from pathlib import Path

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from szal.cli.advice import is_from_variable
from szal.cli.execute import Settings
from szal.cli.history import keeps
from szal.cli.rows import DIM
from szal.cli.text import one_line, pairs
from szal.engine.status import ExecutionStatus
from szal.expressions.path import Json
from szal.model.flow import FlowDef
from szal.stores.url import without_password

__all__ = ["Announcement", "announce"]

_LONGEST = 60  # characters of an input


@attrs.frozen(kw_only=True)
class Announcement:
    """What is told of a run. *inputs* are what the flow will see, *given* those of them that are no defaults.

    *note* says how it begins where that is not at the beginning.
    """

    flow: FlowDef
    execution_id: str | None
    inputs: Mapping[str, Json]
    given: Mapping[str, object]
    labels: Mapping[str, str] = attrs.field(factory=dict)
    directory: str | None = None
    note: str | None = None

    @classmethod
    def of_status(cls, found: ExecutionStatus, directory: str | None) -> "Announcement | None":
        """Return what is told of an execution that goes on."""
        if found.flow is None:
            return None
        ended = sum(step.status.has_ended for step in found.results)
        return cls(
            flow=found.flow,
            execution_id=found.record.execution_id,
            inputs=found.record.inputs,
            given=found.record.inputs,
            labels=found.record.labels,
            directory=directory or found.record.cwd,
            note=f"goes on: {ended} step{'s' * (ended != 1)} had ended",
        )

    def facts(self, store: str | None) -> Mapping[str, str | None]:
        """Return what is told, by its name."""
        return {
            "run": self._what(),
            "inputs": self._inputs(),
            "labels": pairs(self.labels),
            "directory": self._directory(),
            "execution": self._where(store),
        }

    def _what(self) -> str:
        flow = self.flow
        count = sum(1 for _ in flow.walk())
        facts = [str(flow.mode), f"{count} step{'s' * (count != 1)}"]
        facts += ["rolls back if it fails"] if flow.rollback_on_failure else []
        return f"{one_line(flow.name)} ({', '.join(facts)})" + (f", {self.note}" if self.note else "")

    def _inputs(self) -> str:
        found = []
        for name, value in self.inputs.items():
            shown = pairs({name: value})
            shown = shown if len(shown) <= len(name) + _LONGEST else f"{shown[: len(name) + _LONGEST]}…"
            found.append(shown if name in self.given else f"{shown} (default)")
        return "  ".join(found)

    def _directory(self) -> str | None:
        """Return where commands run, where there are any, and that is not where a person is."""
        found = self.directory or (None if self.flow.file is None else str(Path(self.flow.file).parent))
        if found is None or all(step.step_type != "shell" for step in self.flow.walk()):
            return None
        return None if Path(found).resolve() == Path.cwd() else one_line(found)

    def _where(self, store: str | None) -> str:
        name = "a new one, " if self.execution_id is None else f"{one_line(self.execution_id)}, "
        if store is None or not keeps(store):
            return f"{name}not recorded ({'no --store' if store is None else 'this store is in memory'})"
        variable = " (SZAL_STORE)" if is_from_variable() else ""
        return f"{name}recorded in {one_line(without_password(store))}{variable}"


def announce(about: Announcement | None, console: Console, settings: Settings) -> None:
    """Print what is known, unless a program reads what is printed."""
    if about is None or settings.recorded:
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style=DIM)
    table.add_column(overflow="fold")
    for name, value in about.facts(settings.store).items():
        if value:
            table.add_row(name, Text(value))
    console.print(table)
