"""The command ``doctor``: whether a store works, and why what is unfinished in it does not go on."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from enum import Enum
from typing import Final

import attrs
import click
from rich.text import Text

from szal.cli.advice import Advice, advice_on
from szal.cli.console import console_for, diverted_stdout, stdout, write
from szal.cli.help import Command
from szal.cli.history import BadStore, check_exists
from szal.cli.left import Group, Lives, Reason, unfinished
from szal.cli.options import json_option, needed, store_option
from szal.cli.remedy import remedy_for
from szal.cli.style import look_of
from szal.cli.target import Target, find_target
from szal.cli.text import elapsed, one_line
from szal.clock import monotonic, wall
from szal.engine.config import EngineConfig
from szal.engine.engine import Engine
from szal.engine.inspection import check_writable, store_time
from szal.errors import NotMigrated, StoreError
from szal.expressions.path import Json
from szal.steps.handlers import Handlers
from szal.stores import Store, connect_store
from szal.stores.url import without_password

__all__ = ["doctor"]

_FAR: Final = 5.0  # seconds between two clocks that are worth a word
_SOME: Final = 5
_OVERDUE: Final = 60.0  # seconds


class Grade(Enum):
    """How a finding is meant; the value is how it looks."""

    GOOD = "completed"
    NOTE = "paused"
    WRONG = "failed"


@attrs.frozen(kw_only=True)
class Finding:
    """Something that was found: `what` it is about, what to do, and which executions it is about."""

    what: str
    grade: Grade
    text: str
    do: str | None = None
    count: int | None = None
    execution_ids: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


@click.command(cls=Command, short_help="Say whether a store works, and why work in it does not go on.")
@click.argument("targets", metavar="[FILE|MODULE:ATTRIBUTE]...", nargs=-1)
@store_option
@json_option
def doctor(*, targets: tuple[str, ...], store: str | None, as_json: bool) -> None:
    """Say whether a store can be reached and written, and why what is unfinished in it does not go on.

    With FILE or MODULE:ATTRIBUTE it also looks whether these could go on with their executions. Of each thing that is
    wrong it says what to do. Nothing is changed: what it writes to try it is taken back, and no table is made.

    What a process has queued and not written only that process knows: Engine.healthy tells there. The leases here tell
    which processes have shown a sign of life.

    Exit status: 0 all is well, 1 something is wrong, 2 the store's URL is.
    """
    url = needed(store)
    with diverted_stdout():
        known = [(name, find_target(name)) for name in targets]
    found: list[Finding] = []
    for finding in _findings(url, known, advice_on(store)):
        found.append(finding)
        if not as_json:
            _print(finding)
    is_wrong = any(finding.grade is Grade.WRONG for finding in found)
    if as_json:
        told = {"ok": not is_wrong, "store": without_password(url), "findings": [_as_json(each) for each in found]}
        write(stdout(), json.dumps(told, ensure_ascii=False))
    click.get_current_context().exit(1 if is_wrong else 0)


def _findings(url: str, targets: Sequence[tuple[str, Target]], advice: Advice) -> Iterator[Finding]:
    """Yield what is found, one thing after another, for as long as there is sense in looking further."""
    try:
        check_exists(url)
    except BadStore as error:
        do = "name the file that there is, or have one made: szal run does"
        yield Finding(what="reach", grade=Grade.WRONG, text=str(error), do=do)
        return
    try:
        store = connect_store(url)
    except ValueError as error:
        raise BadStore(str(error)) from error
    with store:
        for finding in _of_the_store(url, store):
            yield finding
            if finding.grade is Grade.WRONG and finding.what != "write":
                return
        yield from _of_executions(store, targets, advice)


# -- the store ------------------------------------------------------------------------------------------


def _of_the_store(url: str, store: Store) -> Iterator[Finding]:
    began = monotonic()
    try:
        its_time = store_time(store)
    except NotMigrated as error:
        yield Finding(what="reach", grade=Grade.GOOD, text=f"{store.name} is reached")
        text = str(error).removeprefix(f"{store.name}: ").removesuffix(": call store.migrate() once")
        yield Finding(what="schema", grade=Grade.WRONG, text=one_line(text), do=remedy_for(url, error))
        return
    except StoreError as error:
        yield Finding(what="reach", grade=Grade.WRONG, text=one_line(str(error)), do=remedy_for(url, error))
        return
    yield Finding(what="reach", grade=Grade.GOOD, text=f"{store.name} answers in {elapsed(monotonic() - began)}")
    yield Finding(what="schema", grade=Grade.GOOD, text="its tables are those of this version of szal")
    began = monotonic()
    try:
        check_writable(store)
    except StoreError as error:
        text = f"it cannot be written to: {one_line(str(error)).removeprefix(f'{store.name}: ')}"
        yield Finding(what="write", grade=Grade.WRONG, text=text, do=remedy_for(url, error))
    else:
        text = f"it can be written to, in {elapsed(monotonic() - began)}"
        yield Finding(what="write", grade=Grade.GOOD, text=text)
    apart = its_time - wall()
    if abs(apart) > _FAR:
        text = f"its clock is {elapsed(abs(apart))} {'ahead of' if apart > 0 else 'behind'} the one here"
        do = "set the clocks by NTP: leases and waits go by the database's"
        yield Finding(what="clock", grade=Grade.NOTE, text=text, do=do)


# -- what is unfinished ---------------------------------------------------------------------------------


def _of_executions(store: Store, targets: Sequence[tuple[str, Target]], advice: Advice) -> Iterator[Finding]:
    with ExitStack() as engines:
        bare = engines.enter_context(Engine(Handlers(), EngineConfig(execution_store=store)))
        does: dict[str, Engine] = {}
        named: dict[str, str] = {}
        for name, target in targets:
            engine = engines.enter_context(Engine(target.handler, target.config(execution_store=store)))
            does.update(dict.fromkeys((flow.name for flow in target.flows), engine))
            named.update(dict.fromkeys((flow.name for flow in target.flows), name))

        def advice_for(flow: str) -> Advice:
            return attrs.evolve(advice, target=named.get(flow))

        yield from _of_schedules(store, bare, advice)
        try:
            groups, lives = unfinished(store, lambda flow: does.get(flow, bare), advice_for)
        except StoreError as error:
            yield Finding(what="executions", grade=Grade.WRONG, text=one_line(str(error)))
            return
    yield _of_leases(lives)
    if not groups:
        yield Finding(what="executions", grade=Grade.GOOD, text="no execution is unfinished", count=0)
    yield from map(_of_group, groups)


def _of_schedules(store: Store, engine: Engine, advice: Advice) -> Iterator[Finding]:
    """Yield that schedules are overdue: whoever works begins what is due within a second or two.

    One with overlap="queue" may wait for its last execution.
    """
    try:
        now = store_time(store)
        due = [(now - each.next_at.timestamp(), each) for each in engine.schedules() if each.next_at is not None]
    except StoreError as error:
        yield Finding(what="schedules", grade=Grade.WRONG, text=one_line(str(error)))
        return
    late = {each.name: seconds for seconds, each in due if seconds > _OVERDUE and each.overlap != "queue"}
    if late:
        worker = advice.worker("default")
        yield Finding(
            what="schedules",
            grade=Grade.WRONG,
            text=f"{len(late)} schedule{'s' * (len(late) != 1)} overdue: no worker begins what is due",
            do=f"{worker} (or, in the program: engine.work); of one that is at work see the log",
            count=len(late),
            details=tuple(f"{one_line(name)}, for {elapsed(seconds)}" for name, seconds in late.items()),
        )


def _of_leases(lives: Lives) -> Finding:
    if lives.first_ends is None:
        text = "no process holds a lease"
    else:
        text = f"{lives.held} leases are held; the first runs out in {elapsed(lives.first_ends)}, unless renewed"
    return Finding(what="heartbeat", grade=Grade.GOOD, text=text, count=lives.held)


def _of_group(group: Group) -> Finding:
    reason = group.reason
    grade = Grade.WRONG if reason.is_wrong else Grade.GOOD if reason is Reason.RUNS else Grade.NOTE
    return Finding(
        what=reason.name.lower(),
        grade=grade,
        text=f"{group.count} execution{'s' * (group.count != 1)} {reason.said}",
        do=group.do,
        count=group.count,
        execution_ids=tuple(group.execution_ids),
        details=tuple(f"{detail} ({count})" for detail, count in group.details.most_common()),
    )


# -- what is said ---------------------------------------------------------------------------------------


def _print(finding: Finding) -> None:
    console = console_for(stdout())
    sign, colour = look_of(console, finding.grade.value)
    lines = [Text.assemble((f"{sign} ", colour), finding.text)]
    lines += [Text(f"    {detail}") for detail in finding.details[:_SOME]]
    if finding.execution_ids and finding.grade is not Grade.GOOD:
        some = ", ".join(map(one_line, finding.execution_ids[:_SOME]))
        more = f", … and {(finding.count or 0) - _SOME} more" if (finding.count or 0) > _SOME else ""
        lines.append(Text(f"    {some}{more}", style="dim"))
    if finding.do is not None:
        lines.append(Text(f"    what to do: {finding.do}", style="dim"))
    for line in lines:
        console.print(line, soft_wrap=True)


def _as_json(finding: Finding) -> dict[str, Json]:
    told: dict[str, Json] = attrs.asdict(finding)
    return {**told, "grade": finding.grade.name.lower()}
