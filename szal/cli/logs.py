"""``szal logs``: what each step of an execution said: its last report, its attempts, the ends of what it printed."""

import json
from collections.abc import Iterator, Sequence

import click

from szal.cli import completion
from szal.cli.console import printed, stdout, write
from szal.cli.help import Command
from szal.cli.history import NoSuchStep, find_by_prefix, reading
from szal.cli.options import needed, not_empty, store_option
from szal.cli.outputs import folded, tails
from szal.cli.rows import name_of
from szal.cli.text import brief, clean_lines, elapsed, moment
from szal.engine.inspection import checkpoints_of
from szal.engine.view import status_of
from szal.expressions.path import Json
from szal.model.json import AttemptEnd, Checkpoint
from szal.model.key import item_key
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.pictures.standing import seconds_of

__all__ = ["logs"]


@click.command(cls=Command, short_help="Show what the steps of an execution said.")
@click.argument("execution_id", metavar="ID", callback=not_empty, shell_complete=completion.ids)
@click.argument("step", metavar="[STEP]", required=False, callback=not_empty)
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object on a line for each step.")
def logs(*, execution_id: str, step: str | None, store: str | None, as_json: bool) -> None:
    """Show what each step of an execution said: what it reported last, its attempts, its undos, what it came to.

    The beginning of its ID is enough. Of a command it is the end of its output; of a step that failed its error, with
    the traceback of the last attempt while that is kept. What a step reported is there while it runs, where its engine
    shares that (--share-progress). With STEP, only that one.
    """
    with reading(needed(store)) as opened:
        record = find_by_prefix(opened, execution_id)
        status = status_of(opened, record)
        kept = checkpoints_of(opened, record.execution_id)
    found = _with_items(status.results)
    chosen = [(name, each) for name, each in found if step in (None, name, each.step_name, each.step_id)]
    if step is not None and not chosen:
        raise NoSuchStep(record.execution_id, step, tuple(each.step_name or each.step_id for each in status.results))
    out, is_first = stdout(), True
    for name, result in chosen:
        if as_json:
            write(out, json.dumps(_as_json(name, result, kept.get(name)), ensure_ascii=False))
        elif step is not None or _has_said(result, kept.get(name)):
            for line in (*([] if is_first else [""]), *_lines(name, result, kept.get(name))):
                write(out, line)
            is_first = False
    printed(out)


def _with_items(results: Sequence[StepResult]) -> Iterator[tuple[str, StepResult]]:
    """Yield each step, and the items of those that ran over a list, by the names that they have in rows."""
    for result in results:
        yield name_of(result), result
        for index, item in enumerate(result.items or ()):
            yield item_key(name_of(result), index), item


def _has_said(result: StepResult, kept: Checkpoint | None) -> bool:
    return result.status is not StepStatus.PENDING or bool(result.attempts or result.report or (kept and kept.attempts))


def _lines(name: str, result: StepResult, kept: Checkpoint | None) -> Iterator[str]:
    tries = f", {result.attempts} attempts" if result.attempts > 1 else ""
    seconds, is_running = seconds_of(result), result.status is StepStatus.RUNNING
    took = "" if seconds is None else f" {'for' if is_running else 'in'} {elapsed(seconds)}"
    yield f"{clean_lines(name)[0]}: {result.status}{took}{tries}"
    if result.report is not None:
        yield f"  {moment(result.report.reported_at)} | {brief(result.report.data)}"
    for number, attempt in enumerate(() if kept is None else kept.attempts, result.attempts - _count(kept) + 1):
        yield _line_of(f"attempt {number}", attempt)
    undos = () if kept is None else kept.undos
    for number, undo in enumerate(undos, 1):
        yield _line_of("undo" if len(undos) == 1 else f"undo {number}", undo)
    if result.error is not None:
        yield from (f"  {line}" for line in clean_lines(result.error))
    if kept is not None and kept.traceback and result.status is StepStatus.FAILED:
        yield from (f"  {line}" for line in clean_lines(kept.traceback.rstrip()))
    printed_by_command = [*tails(result.output)]
    for stream, lines in printed_by_command:
        yield from (f"  {stream}: {line}" for line in lines)
    if not printed_by_command and result.output is not None and result.error is None:
        yield from (f"  {line}" for line in folded(result.output)[0])


def _line_of(what: str, attempt: AttemptEnd) -> str:
    seconds = (attempt.ended_at - attempt.started_at).total_seconds()
    end = "completed" if attempt.error is None else f"failed: {brief(attempt.error)}"
    return f"  {moment(attempt.started_at)} {what} {end} after {elapsed(seconds)}"


def _count(kept: Checkpoint | None) -> int:
    return 0 if kept is None else len(kept.attempts)


def _attempts_json(attempts: Sequence[AttemptEnd]) -> list[Json]:
    return [
        {"started_at": each.started_at.isoformat(), "ended_at": each.ended_at.isoformat(), "error": each.error}
        for each in attempts
    ]


def _as_json(name: str, result: StepResult, kept: Checkpoint | None) -> dict[str, Json]:
    report = result.report
    return {
        "step": name,
        "status": str(result.status),
        "attempts": result.attempts,
        "duration": result.duration,
        "error": result.error,
        "report": None if report is None else {"data": report.data, "at": report.reported_at.isoformat()},
        "tries": _attempts_json(() if kept is None else kept.attempts),
        "undos": _attempts_json(() if kept is None else kept.undos),
        "traceback": None if kept is None else kept.traceback,
        "output": result.output,
    }
