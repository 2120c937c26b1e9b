"""How an execution goes on that a person names: with what does its steps, and by which definition."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import attrs
from rich.console import Console

from szal.cli.advice import advice_on
from szal.cli.announcement import Announcement, announce
from szal.cli.differences import Differs, tell_differences
from szal.cli.execute import Job, Outcome, Settings, execute
from szal.cli.inputs import inputs_given, inputs_known, inputs_shown, secrets_given
from szal.cli.live import view_of
from szal.cli.standing import age_of
from szal.cli.target import Target, recorded_target
from szal.cli.text import one_line
from szal.engine.engine import Engine
from szal.engine.inspection import differences_from
from szal.engine.status import ExecutionStatus
from szal.engine.view import status_of
from szal.errors import HandlerNotFound, SzalError
from szal.expressions.path import Json
from szal.model.flow import FlowDef
from szal.model.results import ExecutionRecord, FlowResult
from szal.scheduler.cancel import CancellationToken
from szal.scheduler.plan import Plan

__all__ = ["CannotGoOn", "Continuing", "GoOn", "Prepared", "Wanted"]


@attrs.define
class CannotGoOn(SzalError):
    """An execution that is there, but cannot be continued in this way."""

    execution_id: str
    problem: str

    def __str__(self) -> str:
        return f"execution {one_line(self.execution_id)}: {self.problem}"


@attrs.frozen
class Wanted:
    """What an execution is to be, where that is not what it was: the flow that was named for it, other inputs."""

    flow: FlowDef | None = None
    inputs: Mapping[str, Json] = attrs.field(factory=dict)


GoOn: TypeAlias = Callable[[Engine, str, CancellationToken, Wanted], FlowResult]
"""What takes up an execution, by its id, as what is wanted."""


@attrs.frozen(kw_only=True)
class Prepared:
    """An execution that can go on. `recorded`: what it began with; `differences`: how what is wanted differs."""

    target: Target
    wanted: Wanted
    recorded: FlowDef
    standing: ExecutionStatus
    differences: tuple[str, ...]


@attrs.frozen
class Continuing:
    """How executions are taken up: by *do*, as themselves, or *again*, as new ones with the inputs that are typed.

    *secrets* are inputs of one that goes on, as they are typed: they were not recorded.
    """

    settings: Settings
    console: Console
    store: Any
    do: GoOn
    again: Mapping[str, str] | None = None
    secrets: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def is_new(self) -> bool:
        """Whether what is taken up is run as a new execution."""
        return self.again is not None

    def take_up(self, record: ExecutionRecord, target: Target | None, named: str | None) -> Outcome:
        """Go on with an execution on this thread; raises `CannotGoOn`, and what the engine raises.

        *named* is how a person named *target*.
        """
        name = record.execution_id
        found = self.prepare(record, target, named)
        follows = "it runs as that says now" if self.is_new else "it goes on as it was recorded"
        tell_differences(self.console, named or found.recorded.name, name, found.differences, follows)
        shown = found.wanted.flow if self.is_new and found.wanted.flow is not None else found.recorded
        about = None
        if self.is_new:
            about = _told_again(record, shown, found.wanted, self.settings.cwd)
        elif record.state.is_live:
            about = Announcement.of_status(found.standing, self.settings.cwd)
        announce(about, self.console, self.settings)
        view = view_of(shown, self.console, standing=None if self.is_new else found.standing, age=age_of(record))
        job = Job(
            target=found.target,
            do=lambda engine, token: self.do(engine, name, token, found.wanted),
            execution_id=None if self.is_new else name,
        )
        try:
            outcome = execute(job, self.settings, self.store, view)
        except HandlerNotFound as error:
            raise self.without_handlers(name, error, target) from error
        return attrs.evolve(outcome, differences=found.differences)

    def prepare(self, record: ExecutionRecord, target: Target | None, named: str | None) -> Prepared:
        """Return how an execution goes on; raises `CannotGoOn`, `Differs`, and what the engine raises."""
        name = record.execution_id
        standing = status_of(self.store, record)
        if standing.flow is None:
            raise CannotGoOn(name, "its definition is not recorded: szal's engine did not run it")
        wanted = self._wanted(record, standing.flow, target)
        try:
            does = self._target_for(record, standing.flow, target)
        except HandlerNotFound as error:
            raise self.without_handlers(name, error, target) from error
        differences = () if target is None else self._differences(record, wanted.flow, target, named)
        return Prepared(
            target=does,
            wanted=wanted,
            recorded=standing.flow,
            standing=standing,
            differences=differences,
        )

    def without_handlers(self, name: str, error: HandlerNotFound, target: Target | None) -> CannotGoOn:
        """Return what to raise for an execution some step of which nothing does."""
        more = "" if target is not None else ": name the flow's file, or the MODULE:ATTRIBUTE that has them"
        return CannotGoOn(name, f"{error}{more}")

    def _wanted(self, record: ExecutionRecord, recorded: FlowDef, target: Target | None) -> Wanted:
        """Return what it is to be: the flow that *target* has of this name, and the inputs that are typed."""
        flow = None if target is None or target.is_any else target.named(record.flow_name)
        if not self.is_new:
            return Wanted(flow, secrets_given(recorded, self.secrets))
        if not (self.again or record.secret_inputs):
            return Wanted(flow)
        registry = None if target is None else target.migrations.get(recorded.name)
        now = recorded if registry is None else registry.migrate_latest(recorded)
        return Wanted(flow, inputs_given(now if flow is None else flow, self.again or {}, inputs_known(record)))

    def _differences(
        self, record: ExecutionRecord, flow: FlowDef | None, target: Target, named: str | None
    ) -> tuple[str, ...]:
        """Return how *flow* differs from what the execution began with; raise `Differs` where that cannot be.

        What a program makes has the handlers of that program, and goes on as it was recorded.
        """
        if flow is None or (not self.is_new and not record.state.is_live and not target.is_read):
            return ()
        name = record.execution_id
        found = differences_from(self.store, name, flow, target.config())
        if found and not self.is_new and target.is_read:
            raise Differs(name, named or flow.name, found, advice_on(self.settings.store, named))
        return found

    def _target_for(self, record: ExecutionRecord, flow: FlowDef, target: Target | None) -> Target:
        """Return what does the steps, if any is to be done: never a flow's handlers for another flow's steps."""
        if target is None:
            found = recorded_target(record, flow)
            if self.is_new or record.state.is_live:
                found.check(is_new=self.is_new)
            return found
        if target.is_any:
            return attrs.evolve(target, flow=flow)
        if target.named(record.flow_name) is None:
            problem = f"it is of the flow {one_line(record.flow_name)}, not of {one_line(target.flow.name)}"
            raise CannotGoOn(record.execution_id, problem)
        return target


def _told_again(record: ExecutionRecord, flow: FlowDef, wanted: Wanted, directory: str | None) -> Announcement:
    """Return what is told of a rerun."""
    return Announcement(
        flow=flow,
        execution_id=None,
        inputs=inputs_shown(flow, {**Plan.of(flow).inputs.defaults, **record.inputs, **wanted.inputs}),
        given={**record.inputs, **wanted.inputs},
        labels=record.labels,
        directory=directory or record.cwd,
        note=f"again, keeping what completed in execution {one_line(record.execution_id)}",
    )
