"""What a shell completes: flows and their inputs and steps, the executions of a store, and what these wait for.

Nothing that goes wrong is told: a person is typing.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import click
from click.shell_completion import CompletionItem

from szal.cli.console import diverted_stdout
from szal.cli.history import find_by_prefix, reading
from szal.cli.standing import signals_of
from szal.cli.target import attributes_of, find_target
from szal.cli.text import one_line
from szal.engine.view import status_of
from szal.engine.which import INTERRUPTED
from szal.model.flow import FlowDef
from szal.model.state import WorkflowState
from szal.scheduler.plan import Plan
from szal.stores import ExecutionSummary

__all__ = ["flows", "ids", "inputs", "live_ids", "recorded_steps", "signals", "states", "steps", "targets"]

_MANY: Final = 1000  # of the newest executions
_Found: TypeAlias = "Iterable[str | CompletionItem]"
_Completes: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completer(find: Callable[[Mapping[str, Any]], _Found]) -> _Completes:
    """Return what click asks; *find* says what there is, by what has been typed before.

    What has a line break is left out, or a control character: a shell reads one candidate from each line.
    """

    def complete(ctx: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        found: list[CompletionItem] = []
        with contextlib.suppress(Exception, SystemExit), diverted_stdout():
            items = (each if isinstance(each, CompletionItem) else CompletionItem(each) for each in find(_typed(ctx)))
            found += [each for each in items if each.value.startswith(begun) and each.value.isprintable()]
        return found

    return complete


def _typed(ctx: click.Context) -> Mapping[str, Any]:
    """Return what has been typed, by parameter. Where an option has no value yet, click leaves arguments unnamed."""
    typed, rest = dict(ctx.params), [*ctx.args]
    for param in ctx.command.params:
        if isinstance(param, click.Argument) and rest and not typed.get(param.name or ""):
            typed[param.name or ""] = rest.pop(0)
    return typed


def _executions(typed: Mapping[str, Any]) -> list[ExecutionSummary]:
    with reading(typed["store"]) as store:
        return store.find(limit=_MANY)


def _ids(typed: Mapping[str, Any]) -> Iterator[CompletionItem]:
    for each in _executions(typed):
        yield CompletionItem(each.execution_id, help=one_line(f"{each.flow_name} {each.state or ''}"))


def _live_ids(typed: Mapping[str, Any]) -> Iterator[CompletionItem]:
    for each in _executions(typed):
        if each.state is not None and each.state.is_live:
            yield CompletionItem(each.execution_id, help=one_line(f"{each.flow_name} {each.state}"))


def _flows(typed: Mapping[str, Any]) -> _Found:
    return dict.fromkeys(each.flow_name for each in _executions(typed))


def _named(typed: Mapping[str, Any]) -> FlowDef:
    """Return the flow that was named, as a target."""
    return find_target(typed["target"]).flow


def _recorded(typed: Mapping[str, Any]) -> FlowDef | None:
    """Return the flow of the execution that was named."""
    with reading(typed["store"]) as store:
        return status_of(store, find_by_prefix(store, typed["execution_id"])).flow


def _steps(flow: FlowDef | None) -> _Found:
    return [] if flow is None else [step.name for step in flow.walk()]


ids = _completer(_ids)
live_ids = _completer(_live_ids)
flows = _completer(_flows)
steps = _completer(lambda typed: _steps(_named(typed)))
recorded_steps = _completer(lambda typed: _steps(_recorded(typed)))
signals = _completer(lambda typed: sorted(signals_of(_recorded(typed) or FlowDef("none")) or ()))
inputs = _completer(lambda typed: [f"{name}=" for name in Plan.of(_named(typed)).inputs.by_name])
states = _completer(lambda _: [*map(str, WorkflowState), INTERRUPTED])


def targets(_ctx: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return files, which the shell looks for, or where a module is named, the flows in it."""
    module, colon, name = begun.partition(":")
    if not colon:
        return [CompletionItem(begun, type="file")]
    found: list[CompletionItem] = []
    with contextlib.suppress(Exception, SystemExit), diverted_stdout():
        found += [CompletionItem(f"{module}:{each}") for each in attributes_of(module) if each.startswith(name)]
    return found
