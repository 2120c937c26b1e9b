"""Which part of a flow ``run`` is to run, and which execution has what comes before it."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
import click

from szal.cli import completion
from szal.cli.history import check_exists, find_record
from szal.cli.inputs import inputs_known
from szal.cli.options import needed, not_empty
from szal.cli.text import one_line
from szal.engine.engine import Engine
from szal.engine.inspection import differences_from
from szal.engine.part import Part
from szal.errors import SzalError
from szal.expressions.path import Json
from szal.model.flow import FlowDef
from szal.model.results import FlowResult
from szal.scheduler.cancel import CancellationToken
from szal.stores import ExecutionStore

__all__ = ["CannotRunPart", "Chosen", "Selection", "part_options"]

_F = TypeVar("_F", bound=Callable[..., Any])


@attrs.define
class CannotRunPart(SzalError):
    """A part of a flow that cannot be run as it was asked for."""

    problem: str

    def __str__(self) -> str:
        return self.problem


@attrs.frozen(kw_only=True)
class Selection:
    """What the options say, as one argument."""

    from_step: str | None = None
    only: str | None = None
    reuse: str | None = None

    def check(self, store: str | None) -> None:
        """Raise `click.UsageError` for options that do not go together, and `BadStore`."""
        if self.from_step is not None and self.only is not None:
            raise click.UsageError("--from and --only do not go together: --from runs what comes after the step, too")
        if self.reuse is None:
            return
        if self.from_step is None and self.only is None:
            raise click.UsageError(
                "--reuse goes with --from STEP or --only STEP (to run all that failed in ID again: szal rerun ID FILE)"
            )
        check_exists(needed(store))

    def of(self, flow: FlowDef, store: ExecutionStore | None) -> "Chosen":
        """Return what is to be run of *flow*; raise `CannotRunPart`, and `NotFound` for an execution."""
        try:
            part = self._part(flow)
        except ValueError as error:
            raise CannotRunPart(one_line(str(error))) from error
        if part is None:
            return Chosen(flow)
        if self.reuse is None:
            if part.needs:
                before = ", ".join(map(one_line, part.needs))
                raise CannotRunPart(
                    f"step {one_line(part.step)} comes after {before}: say which execution has completed that"
                    " (--reuse ID, with --store URL), or begin further up (--from STEP)"
                )
            return Chosen(part.flow, part)
        assert store is not None, "it was checked"
        record = find_record(store, self.reuse)
        return Chosen(part.flow, part, record.execution_id, inputs_known(record))

    def _part(self, flow: FlowDef) -> Part | None:
        if self.from_step is not None:
            return Part.from_step(flow, self.from_step)
        return None if self.only is None else Part.only(flow, self.only)


@attrs.frozen
class Chosen:
    """What is to be run: a flow, a part of one, or with `reuse` one that takes what it needs from that execution."""

    flow: FlowDef
    part: Part | None = None
    reuse: str | None = None
    earlier: Mapping[str, Json] | None = None
    """The inputs of that execution, which it takes where no others are given."""

    def run(
        self,
        engine: Engine,
        name: str,
        inputs: Mapping[str, Json],
        labels: Mapping[str, str],
        token: CancellationToken,
        *,
        retry_failed: bool = False,
    ) -> FlowResult:
        """Run it as the execution *name*."""
        try:
            if self.part is None or self.reuse is None:
                return engine.run(
                    self.flow, inputs, execution_id=name, cancel=token, labels=labels, retry_failed=retry_failed
                )
            return engine.rerun(self.reuse, inputs=inputs, flow=self.part, new_id=name, labels=labels, cancel=token)
        except SzalError:
            raise
        except ValueError as error:  # the execution is of another flow, or the store cannot hold this id
            raise CannotRunPart(one_line(str(error))) from error

    def differences(self, whole: FlowDef, store: ExecutionStore | None, engine_config: Any) -> tuple[str, ...]:
        """Return how the flow that it is a part of differs from what the execution was that it takes things from."""
        if self.reuse is None:
            return ()
        try:
            return differences_from(store, self.reuse, whole, engine_config)
        except ValueError as error:
            raise CannotRunPart(one_line(str(error))) from error


def part_options(function: _F) -> _F:
    """Give a command the options that choose a part of a flow, and ``--dry-run``."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS = (
    click.option(
        "--from",
        "from_step",
        metavar="STEP",
        callback=not_empty,
        shell_complete=completion.steps,
        help="Run this step, and all that comes after it; no other.",
    ),
    click.option(
        "--only", metavar="STEP", callback=not_empty, shell_complete=completion.steps, help="Run this step alone."
    ),
    click.option(
        "--reuse",
        metavar="ID",
        callback=not_empty,
        shell_complete=completion.ids,
        help="The execution that has completed what comes before the step: its outcomes are taken from there, and its"
        " inputs and labels, where no others are given.",
    ),
    click.option(
        "--dry-run",
        is_flag=True,
        help="Say what would run, in which order, with conditions and configs as far as inputs decide them. Nothing is"
        " run, recorded or made.",
    ),
)
