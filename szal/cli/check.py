"""The command ``check``: which executions that have not ended could not go on with this code."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

import attrs
import click
from rich.text import Text

from szal.cli.advice import advice_on
from szal.cli.console import console_for, diverted_stdout, stderr, stdout, write
from szal.cli.differences import Differs
from szal.cli.help import Command
from szal.cli.history import reading
from szal.cli.options import json_option, needed, store_option
from szal.cli.target import Target, find_target
from szal.cli.text import one_line
from szal.engine.engine import Engine
from szal.engine.inspection import differences_from
from szal.engine.lineage import is_child_id
from szal.engine.which import UNFINISHED
from szal.errors import (
    DefinitionMismatch,
    ExecutionNotFound,
    HandlerNotFound,
    MigrationFailed,
    StoreError,
    SzalError,
)
from szal.expressions.path import Json
from szal.model.flow import FlowDef
from szal.model.results import ExecutionRecord
from szal.stores import ExecutionSummary, Store

__all__ = ["check"]

_SOME: Final = 10


@attrs.frozen(kw_only=True)
class Blocked:
    """An execution that cannot go on, why, and what can be done about it."""

    execution_id: str
    flow_name: str
    state: str
    kind: str
    why: str
    do: str


@attrs.define(kw_only=True)
class Findings:
    """What was found. `others`: how many there are of each flow that was not looked at, `foreign`: not of szal's."""

    checked: int = 0
    blocked: list[Blocked] = attrs.field(factory=list)
    others: Counter[str] = attrs.field(factory=Counter)
    foreign: int = 0


@click.command(cls=Command, short_help="Before a release: say which executions could not go on with it.")
@click.argument("targets", metavar="FILE|MODULE:ATTRIBUTE...", nargs=-1, required=True)
@store_option
@json_option
def check(*, targets: tuple[str, ...], store: str | None, as_json: bool) -> None:
    """Say which executions that have not ended could not go on with this code. It only reads.

    Steps or handlers may be gone, a definition may have no migration, a sub-flow may be missing. This is what resume
    and recover would refuse, for whatever runs now, waits or was interrupted, of the flows that are named. Give all
    flows of a release, and run it with the new code before the old one ends. Working directories are not looked for.

    Exit status: 0 all can go on, 1 some cannot, 2 the new code itself is wrong.
    """
    with diverted_stdout():
        known = {flow.name: (name, target) for name in targets for target in [_checked(name)] for flow in target.flows}
    with reading(needed(store)) as opened, ExitStack() as engines:
        checking = _Checking(opened, known, engines)
        for page, _ in UNFINISHED.pages(opened):
            checking.look_at(page)
    found = checking.found
    if as_json:
        write(stdout(), json.dumps(_as_json(found), ensure_ascii=False))
    else:
        _print(found, targets)
    click.get_current_context().exit(1 if found.blocked else 0)


def _checked(name: str) -> Target:
    target = find_target(name)
    target.check()
    return target


class _Checking:
    """Looks at executions, with an engine for each target that would go on with them."""

    def __init__(self, store: Store, known: Mapping[str, tuple[str, Target]], engines: ExitStack) -> None:
        self.found = Findings()
        self._store = store
        self._known = known
        self._engines: dict[str, Engine] = {}
        for name, target in known.values():
            if name not in self._engines:
                engine = Engine(target.handler, target.config(execution_store=store))
                self._engines[name] = engines.enter_context(engine)

    def look_at(self, page: Sequence[ExecutionSummary]) -> None:
        """Take note of what could not go on, of those that do not go with what they belong to."""
        for summary in page:
            if summary.parent_execution_id is not None and is_child_id(summary.execution_id):
                continue
            if summary.flow_name not in self._known:
                self.found.others[summary.flow_name] += 1
                continue
            self._look_at(summary)

    def _look_at(self, summary: ExecutionSummary) -> None:
        name, target = self._known[summary.flow_name]
        execution_id = summary.execution_id
        try:
            self._engines[name].check(execution_id, elsewhere=True)
            self._check_definition(execution_id, name, target)
        except ExecutionNotFound:  # it was deleted meanwhile
            return
        except StoreError as error:
            if type(error) is not StoreError:
                raise
            self.found.foreign += 1  # it has no definition: no code of szal's goes on with it
            return
        except SzalError as error:
            blocked = Blocked(
                execution_id=execution_id,
                flow_name=summary.flow_name,
                state=str(summary.state),
                kind=type(error).__name__,
                why=_why(error),
                do=_what_to_do(error),
            )
            self.found.blocked.append(blocked)
        self.found.checked += 1

    def _check_definition(self, execution_id: str, name: str, target: Target) -> None:
        """Raise what is wrong with going on as it was recorded, where the code says something else."""
        record = self._store.get(execution_id)
        flow = None if record is None else target.named(record.flow_name)
        if record is None or flow is None or not record.state.is_live:
            return
        if target.is_read:
            found = differences_from(self._store, execution_id, flow, target.config())
            if found:
                raise Differs(execution_id, name, found, advice_on(None, name))
        _check_version(record, flow, target)


def _check_version(record: ExecutionRecord, flow: FlowDef, target: Target) -> None:
    """Raise `MigrationFailed` where the code has another version, and nothing leads there."""
    registry = target.migrations.get(flow.name)
    latest = (None if registry is None else registry.latest_version) or record.flow_version
    if latest != flow.version:
        began = f"it began with version {record.flow_version}"
        leads = "no migration is registered" if registry is None else f"the migrations lead to version {latest}"
        raise MigrationFailed(flow.name, f"{began}, this code has version {flow.version}, and {leads}")


def _why(error: SzalError) -> str:
    """Return it without the execution's id: many have the same."""
    if isinstance(error, DefinitionMismatch | Differs):
        what = "its migrated definition differs" if isinstance(error, DefinitionMismatch) else f"{error.target} differs"
        return one_line(f"{what}: {'; '.join(error.differences)}")
    if isinstance(error, MigrationFailed):
        return one_line(error.problem)
    return one_line(str(error))


def _what_to_do(error: SzalError) -> str:
    first = "or have them end first, with the code that began them"
    if isinstance(error, HandlerNotFound) and error.kind == "sub-flow":
        return f"name that flow with the others, as it was, {first}"
    if isinstance(error, HandlerNotFound):
        return f"keep what does that step until they have ended, under the same name, {first}"
    if isinstance(error, DefinitionMismatch):
        return f"keep, in the migrated definition, the steps that have begun, {first}"
    if isinstance(error, MigrationFailed):
        return f"register a migration (MigrationRegistry) from that version, {first}"
    if isinstance(error, Differs):
        return "go on as they were recorded (szal resume ID), or run the rest as the file says (szal rerun ID FILE)"
    return f"see docs/troubleshooting.md, {type(error).__name__}"


# -- what is said ---------------------------------------------------------------------------------------


def _print(found: Findings, targets: Sequence[str]) -> None:
    console = console_for(stdout())
    named = ", ".join(map(one_line, targets))
    for group in _groups(found.blocked):
        first, ids = group[0], [one_line(each.execution_id) for each in group]
        more = f", … and {len(ids) - _SOME} more" if len(ids) > _SOME else ""
        console.print(
            Text.assemble((one_line(first.flow_name), "bold"), ": ", (first.why, "red"), f" ({len(ids)})"),
            Text(f"  {', '.join(ids[:_SOME])}{more}"),
            Text(f"  what to do: {first.do}", style="dim"),
            sep="\n",
            soft_wrap=True,
        )
    if found.blocked:
        summary = f"{len(found.blocked)} of {found.checked} unfinished executions cannot go on with {named}"
    elif not found.checked:
        summary = f"there is no unfinished execution of {named}"
    else:
        summary = f"all of {found.checked} unfinished executions can go on with {named}"
    console.print(Text(summary), soft_wrap=True)
    err = stderr()
    if found.others:
        some = ", ".join(f"{one_line(flow)} ({count})" for flow, count in found.others.most_common(_SOME))
        write(err, f"not looked at: {found.others.total()} of other flows: {some}")
    if found.foreign:
        write(err, f"not looked at: {found.foreign} that szal's engine did not run")


def _groups(blocked: Sequence[Blocked]) -> Iterator[list[Blocked]]:
    """Yield those together that are of one flow, and cannot go on for one reason."""
    groups: dict[tuple[str, str], list[Blocked]] = {}
    for each in blocked:
        groups.setdefault((each.flow_name, each.why), []).append(each)
    yield from groups.values()


def _as_json(found: Findings) -> dict[str, Json]:
    return {
        "ok": not found.blocked,
        "checked": found.checked,
        "blocked": [attrs.asdict(each) for each in found.blocked],
        "other_flows": dict(found.others),
        "foreign": found.foreign,
    }
