"""The commands that people are told to type next. They work as they are printed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs
import click
from click.core import ParameterSource
from rich.text import Text

from szal.cli.project import project
from szal.cli.target import is_known
from szal.cli.text import moment, one_line, shell_word
from szal.cli.which import words_of
from szal.engine.status import ExecutionStatus, Wait
from szal.engine.which import Which
from szal.model.flow import FlowDef
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores.url import without_password

__all__ = ["Advice", "advice_on", "command_line", "is_from_variable", "target_for"]

_FROM_VARIABLE: Final = '"$SZAL_STORE"'
_TO_BE_FILLED_IN: Final = "MODULE:ATTRIBUTE"


@attrs.frozen
class Advice:
    """What belongs into each command, beside the execution's id.

    `store`: the URL, which is written without its password; None: the command needs none. `is_variable`: SZAL_STORE
    says it, and so does the command. `target`: what does the steps, if that was named.
    """

    store: str | None = None
    target: str | None = None
    is_variable: bool = False

    def resume(self, execution_id: str, flow: FlowDef | None = None) -> str:
        """Return the command that goes on with an execution. MODULE:ATTRIBUTE stands where that is to be filled in."""
        return self._command("resume", execution_id, self._target(flow))

    def instead(self, execution_id: str) -> str:
        """Return what can be done with an execution that another definition was named for than it began with."""
        again, on = self._command("rerun", execution_id, self.target), self._command("resume", execution_id)
        lines = [
            f"to keep what completed, and run the rest as it says now: {again}",
            f"to go on as it was recorded, or see how it ended: {on}",
        ]
        return "\n".join(
            [*lines, f"to run all of it as it says now: {project().program} run, without --id or with another one"]
        )

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
        return self._command(name, self.target, options=words_of(which))

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
                yield f"waits for a decision: step {step} may have been done or not: {command}"

    def where_queued(self, standing: ExecutionStatus) -> Iterator[str]:
        """Yield what lets an execution begin that was submitted, and the steps that need more than there is."""
        needs = {each.name: each.units for each in standing.queued if each.is_never_enough}
        for name, units in needs.items():
            yield f"to have so much in all engines together: {self.command('capacity', name, str(units))}"
        if standing.in_queue is not None and standing.queued_behind is None:
            file = standing.record.file
            yield f"to begin it, unless a worker does: {self.worker(standing.in_queue.queue, file)}"

    def worker(self, queue: str, file: str | None = None) -> str:
        """Return the command that works on a queue; *file* has the flow, if that is known."""
        options = [] if queue == "default" else ["--queue", queue]
        return self._command("worker", self.target or file or _TO_BE_FILLED_IN, options=options)

    def after_failure(self, record: ExecutionRecord, flow: FlowDef | None) -> Iterator[str]:
        """Yield how what failed, or was stopped, is run again."""
        if flow is None:  # szal's engine did not run it
            return
        what = "what failed" if record.state is WorkflowState.FAILED else "it"
        target = self._target(flow)
        yield f"to run {what} again: {self._command('rerun', record.execution_id, target)}"
        if target is None and record.file is not None and Path(record.file).exists():
            yield f"as its file says now: {self._command('rerun', record.execution_id, record.file)}"

    def _target(self, flow: FlowDef | None) -> str | None:
        """Return what does the steps of *flow*, where a command has to name it."""
        return target_for(flow) if self.target is None and flow is not None else self.target

    def output(self, execution_id: str, step: str) -> str:
        """Return the command that prints all that a step returned."""
        return self._command("show", execution_id, options=["--output", step])

    def _command(
        self, name: str, *arguments: str | None, options: Sequence[str] = (), choice: str | None = None
    ) -> str:
        given = [each for each in arguments if each is not None]
        words = [*map(shell_word, given), *([] if choice is None else [choice])]
        more = [*map(shell_word, options), *self._store()]
        if any(word.startswith("-") for word in given):
            return " ".join([project().program, name, *more, "--", *words])
        return " ".join([project().program, name, *words, *more])

    def _store(self) -> list[str]:
        if self.store is None:
            return []
        return ["--store", _FROM_VARIABLE if self.is_variable else shell_word(without_password(self.store))]


def advice_on(store: str | None, target: str | None = None) -> Advice:
    """Return what fits the command that is being executed."""
    is_projects = _source_of_store() is ParameterSource.DEFAULT
    return Advice(None if is_projects else store, target, is_from_variable())


def is_from_variable() -> bool:
    """Whether SZAL_STORE says which store the command that is being executed uses."""
    return _source_of_store() is ParameterSource.ENVIRONMENT


def _source_of_store() -> ParameterSource | None:
    return click.get_current_context().get_parameter_source("store")


def target_for(flow: FlowDef) -> str | None:
    """Return what stands for the target that is to be filled in; None where all steps of *flow* are done without."""
    return None if is_known(flow) else _TO_BE_FILLED_IN


def command_line(text: str) -> Text:
    """Return a line that has a command in it: not wrapped, as what is copied from a terminal would be broken."""
    return Text(text, style="bold", no_wrap=True, overflow="ignore")
