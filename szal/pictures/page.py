"""An execution as one page of HTML that needs nothing else: no script, no network."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from szal.engine.status import ExecutionStatus
from szal.engine.which import shown_state
from szal.expressions.path import Json
from szal.legible import elapsed
from szal.model.json import AttemptEnd, Checkpoint
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.pictures.graph import graph_svg
from szal.pictures.label import line
from szal.pictures.markup import said, tag
from szal.pictures.standing import Standing, standings_of
from szal.pictures.style import PAGE_STYLE, STYLE, badge, word_of
from szal.pictures.timeline import timeline_svg

__all__ = ["execution_html"]

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_LONGEST: Final = 100_000  # characters of an output
_FEW: Final = 12  # lines of it that are not folded
_MOST_ITEMS: Final = 50


def execution_html(
    status: ExecutionStatus,
    checkpoints: Mapping[str, Checkpoint] | None = None,
    *,
    next_commands: Sequence[str] = (),
    now: datetime | None = None,
) -> str:
    """Return a page with all that is known of an execution: what went wrong, graph, timeline, steps with outputs.

    *checkpoints* and *now* are those of `timeline_svg`; *next_commands* are shown as they are. Raises `MissingExtra`
    without ``szal[graph]``.
    """
    checkpoints = checkpoints or {}
    standings = [*standings_of(status).values()]
    places = {each.result.step_name: place for place, each in enumerate(standings)}

    def link(step: str) -> str:
        return f"#step-{places[step]}"

    body = [*_head(status, next_commands), *_failures(standings, checkpoints)]
    if status.flow is not None:
        drawn = graph_svg(status.flow, status, styled=False, link=link)
        body += [
            tag("h2", "Graph"),
            tag("div", drawn, class_="scroll", tabindex="0", role="region", aria_label="Graph"),
        ]
    if standings:
        body += [tag("h2", "Timeline"), timeline_svg(status, checkpoints, styled=False, link=link, now=now)]
    if status.inputs:
        body += [tag("h2", "Inputs"), _pre(_json(dict(status.inputs)))]
    body += [tag("h2", "Steps")] if standings else []
    body += [_step(place, each, checkpoints.get(each.result.step_name)) for place, each in enumerate(standings)]
    state = shown_state(status.state, is_interrupted=status.is_interrupted)
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", said(f"{line(status.flow_name)} {state}")),
        tag("style", STYLE + PAGE_STYLE),
    ]
    page = tag("html", "\n", tag("head", *head), "\n", tag("body", "\n".join(body)), "\n", lang="en")
    return f"<!doctype html>\n{page}\n"


def _head(status: ExecutionStatus, next_commands: Sequence[str]) -> Iterator[str]:
    state = shown_state(status.state, is_interrupted=status.is_interrupted)
    word, ended = word_of(state), status.finished_at
    took = "" if ended is None else f" in {elapsed((ended - status.started_at).total_seconds())}"
    how = tag("span", badge(word), said(state + took), class_=f"state szal-{word}")
    yield tag("h1", said(line(status.flow_name)), " ", how)
    facts = {
        "execution": said(status.execution_id),
        "started": _time(status.started_at),
        "ended": "" if ended is None else _time(ended),
        "parent": said(status.record.parent_execution_id or ""),
        "labels": said(", ".join(f"{key}={value}" for key, value in status.labels.items())),
        "error": said(status.error or ""),
    }
    yield tag("dl", *(tag("dt", name) + tag("dd", value) for name, value in facts.items() if value))
    if next_commands:
        yield _pre("\n".join(next_commands))


def _failures(standings: Sequence[Standing], checkpoints: Mapping[str, Checkpoint]) -> Iterator[str]:
    failed = [each.result for each in standings if each.result.has_failed]
    if failed:
        yield tag("h2", "What failed")
    for result in failed:
        checkpoint = checkpoints.get(result.step_name)
        yield tag("h3", said(line(result.step_name or result.step_id)))
        yield _pre(result.error or "", kind="error")
        if checkpoint is not None and checkpoint.traceback:
            yield tag("details", tag("summary", "Traceback"), _pre(checkpoint.traceback))


def _step(place: int, standing: Standing, checkpoint: Checkpoint | None) -> str:
    result = standing.result
    parts = [*_ran(result, checkpoint)]
    if result.error is not None:
        parts.append(_pre(result.error, kind="error" if result.has_failed else ""))
    if checkpoint is not None and checkpoint.undos:
        parts += [tag("h4", "Undoing it"), _attempts(checkpoint.undos, 1, "undone")]
    if checkpoint is not None and checkpoint.undo_error:
        parts += [tag("h4", "Undoing it failed"), _pre(checkpoint.undo_error, kind="error")]
    if result.output is not None:
        parts += [tag("h4", "Output, masked" if result.is_masked else "Output"), *_output(result.output)]
    if result.undo_output is not None:
        parts += [tag("h4", "What its undo returned"), *_output(result.undo_output)]
    parts += _items(result)
    head = [badge(standing.word), tag("b", said(line(result.step_name or result.step_id))), " ", said(standing.told)]
    identity = f"step-{place}"
    if not parts:
        return tag("div", *head, id=identity, class_=f"step szal-{standing.word}")
    return tag("details", tag("summary", *head), *parts, id=identity, class_=f"step szal-{standing.word}")


def _ran(result: StepResult, checkpoint: Checkpoint | None) -> Iterator[str]:
    if checkpoint is None or not checkpoint.attempts:
        if result.started_at is not None:
            took = f", took {elapsed(result.duration)}" if result.status is not StepStatus.RUNNING else ""
            yield tag("p", "began ", _time(result.started_at), said(took))
        return
    first = max(result.attempts - len(checkpoint.attempts), 0) + 1
    yield _attempts(checkpoint.attempts, first, "completed")


def _attempts(attempts: Sequence[AttemptEnd], first: int, success: str) -> str:
    """Return a table of attempts, numbered from *first* on."""
    rows = [tag("tr", *(tag("th", title) for title in ("attempt", "began", "took", "came to")))]
    for number, attempt in enumerate(attempts, first):
        took = elapsed((attempt.ended_at - attempt.started_at).total_seconds())
        cells = (str(number), _time(attempt.started_at), took, said(attempt.error or success))
        rows.append(tag("tr", *(tag("td", cell) for cell in cells)))
    return tag("div", tag("table", *rows), class_="scroll")


def _items(result: StepResult) -> Iterator[str]:
    """Yield the items of a step over a list: those that did not complete first, and not all of very many."""
    if not result.items:
        return
    ordered = sorted(enumerate(result.items), key=lambda each: each[1].status is StepStatus.COMPLETED)
    rows = [tag("tr", *(tag("th", title) for title in ("item", "state", "took", "")))]
    for index, item in ordered[:_MOST_ITEMS]:
        came_to = item.error if item.error is not None else _brief(item.output)
        cells = (
            str(index),
            said(str(item.status)),
            elapsed(item.duration) if item.attempts and item.status.has_ended else "",
            said(came_to),
        )
        rows.append(tag("tr", *(tag("td", cell) for cell in cells)))
    left = len(ordered) - _MOST_ITEMS
    yield tag("h4", f"{len(ordered)} items")
    yield tag("div", tag("table", *rows), class_="scroll")
    if left > 0:
        yield tag("p", f"… and {left} more")


def _output(output: Json) -> Iterator[str]:
    """Yield an output: of a command what it printed, of a text its lines, of all else its JSON."""
    if isinstance(output, dict) and "exit_code" in output and isinstance(output.get("stdout"), str):
        yield tag("p", said(f"exit code {output['exit_code']}"))
        for stream in ("stdout", "stderr"):
            if isinstance(text := output.get(stream), str) and text:
                yield tag("p", stream)
                yield _folded(text)
        return
    yield _folded(output if isinstance(output, str) else _json(output))


def _folded(text: str) -> str:
    """Return a text, folded where it is long."""
    count = text.count("\n") + 1
    if count <= _FEW and len(text) <= 2000:
        return _pre(text)
    return tag("details", tag("summary", f"{count} lines, {len(text)} characters"), _pre(text))


def _pre(text: str, kind: str = "") -> str:
    left = len(text) - _LONGEST
    shown = text if left <= 0 else f"{text[:_LONGEST]}\n… {left} more characters"
    return tag("pre", said(shown), class_=kind or None, dir="auto")


def _json(value: Json) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _brief(value: Json) -> str:
    text = line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 200 else f"{text[:200]}…"


def _time(moment: datetime) -> str:
    in_utc = moment.astimezone(UTC)
    return tag("time", f"{in_utc:%Y-%m-%d %H:%M:%S} UTC", datetime=in_utc.isoformat())
