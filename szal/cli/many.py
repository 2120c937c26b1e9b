"""One command on many executions: whether it is meant, and how it is done, several at a time."""

import functools
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

import attrs
import click

from szal.cli.advice import advice_on, target_for
from szal.cli.console import documents, stderr, write
from szal.cli.execute import leave, leave_at_once
from szal.cli.fate import Already, Done, Fate
from szal.cli.history import reading, sink_on
from szal.cli.interrupt import Interruption
from szal.cli.options import needed
from szal.cli.report import Report, number_of
from szal.cli.standing import PAUSED
from szal.cli.target import BadTarget, Target, find_target
from szal.cli.text import one_line
from szal.cli.which import which_options
from szal.clock import monotonic
from szal.engine.chosen import Action, Chosen, choose
from szal.engine.config import EngineConfig
from szal.engine.engine import Engine
from szal.engine.side_by_side import each_on_a_thread
from szal.engine.view import status_of
from szal.engine.which import Which
from szal.errors import EngineClosed, ExecutionNotFound, ExecutionOwned, LeaseLost, SzalError, describe
from szal.events.bus import WorkflowEvent
from szal.interruption import is_interruption
from szal.model.results import FlowResult
from szal.stores import Sink, Store

__all__ = ["Many", "Plan", "act_on_many", "many_options", "one_or_many", "target_of_many"]

_F = TypeVar("_F", bound=Callable[..., Any])


@attrs.frozen(kw_only=True)
class Many:
    """What the options say of many executions; false where they say nothing: then one is named."""

    which: Which
    limit: int | None
    at_once: int
    is_dry: bool
    is_sure: bool

    def __bool__(self) -> bool:
        return bool(self.which)


@attrs.frozen(kw_only=True)
class Plan:
    """What is to be done with each: `do` returns how it ended, or None where it was only told something.

    `engine` makes what it is done with, and has the events go there; `becomes` is the id that each goes on under.
    """

    action: Action
    becomes: Callable[[str], str]
    engine: Callable[[Sink, Callable[[WorkflowEvent], object]], Engine]
    do: Callable[[Engine, Sink, str], FlowResult | None]
    store: str | None
    target: str | None
    as_json: bool


def many_options(function: _F) -> _F:
    """Give a command the options that choose many executions, as one argument: ``many``."""

    @functools.wraps(function)
    def command(*, which: Which, limit: int | None, at_once: int, is_dry: bool, is_sure: bool, **rest: Any) -> None:
        if not which and (limit is not None or is_dry or is_sure):
            raise click.UsageError(f"--limit, --dry-run and --yes are for many executions: {_SAY_WHICH}")
        many = Many(which=which, limit=limit, at_once=at_once, is_dry=is_dry, is_sure=is_sure)
        function(many=many, **rest)

    for option in reversed(_OPTIONS):
        command = option(command)
    return which_options(command)  # type: ignore[return-value]


_SAY_WHICH: Final = "say which with --flow, --state, --label, --since or --until"
_AT_ONCE: Final = EngineConfig().max_recovering

_OPTIONS = (
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Of many, take the oldest N only."),
    click.option(
        "--at-once",
        type=click.IntRange(min=1),
        default=_AT_ONCE,
        show_default=True,
        metavar="N",
        help="Of many, take so many at a time.",
    ),
    click.option("--dry-run", "is_dry", is_flag=True, help="Only list the executions that are chosen."),
    click.option("-y", "--yes", "is_sure", is_flag=True, help="Do not ask whether many are meant."),
)


def one_or_many(
    many: Many, first: str | None, second: str | None = None, *, takes_target: bool = True
) -> tuple[str | None, str | None]:
    """Return what the words of a command are: the ID of an execution, or None where many are chosen, and the target."""
    if not many:
        if first is None:
            raise click.UsageError(f"which execution? Give its ID; or, for many, {_SAY_WHICH}")
        return first, second
    if second is not None or (first is not None and not takes_target):
        raise click.UsageError("give an ID, or choose many (--flow, --state, …), not both")
    return None, first


def target_of_many(name: str | None) -> Target | None:
    """Return what does the steps of many executions, if that is named."""
    if name is None:
        return None
    try:
        return find_target(name, is_recorded=True)
    except BadTarget as error:
        if ":" in name or "/" in name:
            raise
        raise click.UsageError(
            f"{error}. Where many are chosen (--flow, --state, …), no ID is given, but what does their steps"
        ) from error


def act_on_many(plan: Plan, many: Many) -> NoReturn:
    """Do it with all that *many* says, once a person has said yes, and end the process."""
    if (problem := plan.action.problem_with(many.which)) is not None:
        raise click.UsageError(problem)
    with reading(needed(plan.store)) as opened:
        chosen = choose(opened, plan.action, many.which, many.limit)
        advice = advice_on(plan.store, plan.target or _placeholder(opened, chosen))
        with documents(divert=plan.as_json) as document:
            report = Report(document, chosen, action=plan.action, which=many.which, advice=advice, as_json=plan.as_json)
            report.begin()
            status, left_behind = 0, 0
            if many.is_dry or not chosen.execution_ids:
                report.listed()
            else:
                _ask(plan, many, len(chosen.execution_ids))
                with sink_on(opened) as sink:
                    status, left_behind = _Acting(plan, many, sink, report).run(chosen.execution_ids)
    if left_behind:
        leave(status)
    click.get_current_context().exit(status)


def _placeholder(store: Store, chosen: Chosen) -> str | None:
    """Return what stands for a target that the first of them needs to go on, if it needs one."""
    record = store.get(chosen.execution_ids[0]) if chosen.execution_ids else None
    flow = None if record is None else status_of(store, record).flow
    return None if flow is None else target_for(flow)


def _ask(plan: Plan, many: Many, count: int) -> None:
    """Ask whether that is meant; raise `click.UsageError` where there is nobody to ask."""
    if many.is_sure:
        return
    verb = plan.action.verb
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(
            f"{number_of(count)} to {verb}: say --yes if that is meant, or look first with --dry-run"
        )
    if not click.confirm(f"{verb} {number_of(count)}?", err=True):
        write(stderr(), "Nothing was done.")
        click.get_current_context().exit(1)


class _Acting:
    """Does it, several at a time; a first signal begins no other, and stops what is under way, which can go on."""

    def __init__(self, plan: Plan, many: Many, sink: Sink, report: Report) -> None:
        self._plan = plan
        self._at_once = many.at_once
        self._sink = sink
        self._report = report
        self._engine = plan.engine(sink, self._on_event)
        self._ran: set[str] = set()  # what runs here, and not elsewhere
        self._is_stopped = False
        self._statuses: set[int] = set()

    def run(self, execution_ids: tuple[str, ...]) -> tuple[int, int]:
        """Return the exit status, and how many handlers were left behind."""
        interruption = Interruption(
            say=lambda came, count: write(stderr(), f"{came.name}: {_SAID[min(count, 2)]}"),
            cancel=self._stop,
            end_grace=self._engine.end_grace,
            get_out=leave_at_once,
        )
        with interruption, self._engine:
            each_on_a_thread(
                execution_ids,
                self._work,
                room=lambda: 0 if self._is_stopped else self._at_once,
                on_end=self._tell,
                stop=lambda _ids, _error: self._stop(),
                is_waited_for=True,  # `leave` ends without those that hang
            )
            interruption.is_over = True
            self._report.end(is_stopped=self._is_stopped)
        return interruption.status or self._status(), self._engine.abandoned

    def _status(self) -> int:
        return next((status for status in (1, PAUSED) if status in self._statuses), 0)

    def _on_event(self, event: WorkflowEvent) -> None:
        if event.execution_id is not None:
            self._ran.add(event.execution_id)

    def _stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            self._engine.release()

    def _tell(self, _place: int, execution_id: str, done: Done | None) -> None:
        done = done or Done(fate=Fate.STOPPED, seconds=0.0)
        self._statuses.add(done.fate.status)
        self._report.tell(execution_id, done)

    def _work(self, execution_id: str, _is_wanted: Callable[[], bool]) -> Done:
        began = monotonic()

        def done(fate: Fate, detail: str = "", became: str | None = None) -> Done:
            return Done(fate=fate, seconds=monotonic() - began, detail=one_line(detail), became=became)

        try:
            result = self._plan.do(self._engine, self._sink, execution_id)
        except (ExecutionOwned, LeaseLost):
            return done(Fate.TAKEN)
        except ExecutionNotFound:
            return done(Fate.ALREADY, "it was deleted meanwhile")
        except Already as already:
            return done(Fate.ALREADY, str(already))
        except EngineClosed:
            became = self._plan.becomes(execution_id)
            return done(Fate.STOPPED, became=None if self._sink.get(became) is None else became)
        except SzalError as error:
            return done(Fate.CANNOT, _without_id(str(error), execution_id))
        except (Exception, SystemExit) as error:  # of whatever code a flow's is: the others go on
            if is_interruption(error):
                raise
            return done(Fate.CANNOT, describe(error))
        if result is None:
            return done(Fate.ASKED)
        if result.execution_id not in self._ran:
            return done(Fate.ALREADY, f"another process has run it: {result.state}")
        self._ran.discard(result.execution_id)
        fate = Fate.of(result.state)
        said = "" if result.error == fate.value else result.error or ""
        return done(fate, said, result.execution_id)


def _without_id(text: str, execution_id: str) -> str:
    """Return the first line of a problem, which is counted with those that others have."""
    first, _, more = text.partition("\n")
    said = first.removeprefix(f"execution {one_line(execution_id)}").removeprefix(f"execution {execution_id}")
    return said.lstrip(": ") + (" …" if more else "")


_SAID: Final = {
    1: "no other is begun, and what runs is stopped; once more to stop waiting",
    2: "killing commands, and waiting for nothing else; once more to leave at once",
}
