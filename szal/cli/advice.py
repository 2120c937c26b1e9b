"""The commands that people are told to type next. They work as they are printed."""

import shlex
from collections.abc import Iterator, Sequence

import attrs
import click
from click.core import ParameterSource

from szal.cli.standing import Wait
from szal.cli.target import Target
from szal.cli.text import moment, one_line
from szal.cli.which import Which
from szal.errors import HandlerNotFound
from szal.model.flow import FlowDef
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores.url import without_password

__all__ = ["Advice", "advice_on", "target_for"]


@attrs.frozen
class Advice:
    """What belongs into each command, beside the execution's id.

    `store`: the URL, unless SZAL_STORE says it; `target`: what does the steps, if that was named.
    """

    store: str | None = None
    target: str | None = None

    def resume(self, execution_id: str, flow: FlowDef | None = None) -> str:
        """Return the command that goes on with an execution. MODULE:ATTRIBUTE stands where that is to be filled in."""
        target = self.target
        if target is None and flow is not None:
            target = target_for(flow)
        return self._command("resume", execution_id, target)

    def instead(self, execution_id: str) -> str:
        """Return what can be done with an execution that another definition was named for than it began with."""
        again, on = self._command("rerun", execution_id, self.target), self._command("resume", execution_id)
        lines = [
            f"to keep what completed, and run the rest as it says now: {again}",
            f"to go on as it was recorded, or see how it ended: {on}",
        ]
        return "\n".join([*lines, "to run all of it as it says now: szal run, without --id or with another one"])

    def undo(self, execution_id: str, flow: FlowDef | None = None) -> str:
        """Return the commands that end an execution which nobody runs, and undo it where its flow says so."""
        return f"{self._command('cancel', execution_id)} && {self.resume(execution_id, flow)}"

    def after_interruption(self, record: ExecutionRecord, flow: FlowDef | None) -> Iterator[str]:
        """Yield how an interrupted execution goes on, and how it is undone instead."""
        name = record.execution_id
        if record.state is WorkflowState.ROLLING_BACK:
            yield f"interrupted while it was undone; to go on with that: {self.resume(name, flow)}"
            return
        left = "" if record.state is WorkflowState.PAUSED else ", and left to whoever recovers"
        yield f"interrupted{left}; to go on: {self.resume(name, flow)}"
        word = "undo" if flow is None or flow.rollback_on_failure else "cancel"
        yield f"to {word} it: {self.undo(name, flow)}"

    def on_many(self, name: str, which: Which) -> str:
        """Return the command that does it with all that *which* says."""
        return self._command(name, self.target, options=which.words())

    def command(self, name: str, *arguments: str) -> str:
        """Return any other command."""
        return self._command(name, *arguments)

    def waits(self, waits: Sequence[Wait]) -> Iterator[str]:
        """Yield what each wait is for, and the command that sends it."""
        for wait in waits:
            step = one_line(wait.step)
            until = "" if wait.until is None else f" until {moment(wait.until)}"
            if wait.signal is not None:
                command = self._command("signal", wait.execution_id, wait.signal)
                yield f"waits for the signal {one_line(wait.signal)} (step {step}){until}: {command}"
            elif until:
                yield f"waits for its time (step {step}){until}"
            else:
                command = self._command("resolve", wait.execution_id, wait.step, choice="completed|failed|retry")
                yield (
                    f"waits for a decision: step {step} had begun when its process ended, and may have been done or"
                    f" not: {command}"
                )

    def _command(self, name: str, *arguments: str | None, choice: str | None = None, options: str = "") -> str:
        given = [one_line(each) for each in arguments if each is not None]
        words = [*map(shlex.quote, given), *([] if choice is None else [choice])]
        store = [options] if options else []
        store += [] if self.store is None else ["--store", shlex.quote(without_password(self.store))]
        if any(word.startswith("-") for word in given):
            return " ".join(["szal", name, *store, "--", *words])
        return " ".join(["szal", name, *words, *store])


def advice_on(store: str | None, target: str | None = None) -> Advice:
    """Return what fits the command that is being executed."""
    source = click.get_current_context().get_parameter_source("store")
    return Advice(None if source is ParameterSource.ENVIRONMENT else store, target)


def target_for(flow: FlowDef) -> str | None:
    """Return what stands for the target that is to be filled in; None where szal does all steps of *flow* itself."""
    try:
        Target(flow).check()
    except HandlerNotFound:
        return "MODULE:ATTRIBUTE"
    return None
