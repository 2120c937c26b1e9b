"""Traces of workflows in WfCommons' JSON format (https://wfcommons.org/format), from 1.0 to 1.6."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import attrs

__all__ = ["BadTrace", "Task", "Trace", "read_trace"]


class BadTrace(Exception):
    """A file that is no trace, and where in it."""


@attrs.frozen
class Task:
    """One task: how long it took, and what it waited for, by place in the trace."""

    name: str
    seconds: float
    after: tuple[int, ...]


@attrs.frozen
class Trace:
    """A graph of tasks."""

    name: str
    tasks: tuple[Task, ...]

    @property
    def work(self) -> float:
        """The seconds of all tasks together."""
        return sum(task.seconds for task in self.tasks)

    @property
    def critical_path(self) -> float:
        """The seconds of the longest path: no number of workers beats it."""
        ends = [0.0] * len(self.tasks)
        for place in _order(self.tasks):
            task = self.tasks[place]
            ends[place] = task.seconds + max((ends[before] for before in task.after), default=0.0)
        return max(ends)

    def bound(self, workers: int) -> float:
        """Return the least makespan that so many *workers* can have."""
        return max(self.critical_path, self.work / workers)

    def scaled(self, factor: float) -> "Trace":
        """Return the same graph with times *factor* times as long."""
        return attrs.evolve(self, tasks=tuple(attrs.evolve(task, seconds=task.seconds * factor) for task in self.tasks))

    def as_json(self) -> str:
        """Return what the subjects read: ``{"name": …, "tasks": [[name, seconds, [place, …]], …]}``."""
        return json.dumps({"name": self.name, "tasks": [attrs.astuple(task) for task in self.tasks]})


def read_trace(path: Path) -> Trace:
    """Return the trace in *path*; raise `BadTrace` naming the task that is wrong."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadTrace(f"{path}: {error}") from error
    try:
        return _trace(document)
    except BadTrace as error:
        raise BadTrace(f"{path}: {error}") from None


def _trace(document: Any) -> Trace:
    workflow = _get(document, "workflow", dict, "the file")
    # 1.5 tells what was specified from what was run; before, a task had both; the first versions call them jobs.
    specified = workflow.get("specification", workflow)
    described = _get(specified, "tasks" if "tasks" in specified else "jobs", list, "workflow")
    runtimes = _runtimes(workflow)
    ids = [_id(task, place) for place, task in enumerate(described)]
    if not ids:
        raise BadTrace("there are no tasks")
    places = _places(described, ids)
    tasks = tuple(
        Task(name, _seconds(task, name, runtimes), _links(task, "parents", name, places))
        for name, task in zip(ids, described, strict=True)
    )
    trace = Trace(str(document.get("name", "trace")), _with_children(tasks, described, places))
    _order(trace.tasks)
    if trace.work <= 0:
        raise BadTrace("no task took any time")
    return trace


def _get(holder: Any, key: str, kind: type, where: str) -> Any:
    value = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(value, kind):
        raise BadTrace(f"{where} has no {key!r} ({kind.__name__})")
    return value


def _id(task: Any, place: int) -> str:
    """Return what *task* is called: names are not unique where there are ids."""
    value = (task.get("id") or task.get("name")) if isinstance(task, dict) else None
    if not isinstance(value, str):
        raise BadTrace(f"task {place} has neither an id nor a name")
    return value


def _places(described: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> dict[str, int]:
    """Return the place of each task by what others may call it: its id, or its name where no other has that."""
    places = {name: place for place, name in enumerate(ids)}
    if len(places) < len(ids):
        raise BadTrace(f"task {Counter(ids).most_common(1)[0][0]!r} is there twice")
    names = [str(task.get("name", name)) for name, task in zip(ids, described, strict=True)]
    times = Counter(names)
    return {name: place for place, name in enumerate(names) if times[name] == 1} | places


def _runtimes(workflow: Mapping[str, Any]) -> dict[str, Any]:
    execution = workflow.get("execution")
    if not isinstance(execution, dict):
        return {}
    return {_id(task, place): task for place, task in enumerate(_get(execution, "tasks", list, "workflow.execution"))}


def _seconds(task: Mapping[str, Any], name: str, runtimes: Mapping[str, Any]) -> float:
    for source in (runtimes.get(name, {}), task):
        for key in ("runtimeInSeconds", "runtime"):
            value = source.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
                return float(value)
            if value is not None:
                raise BadTrace(f"task {name!r}: {key} is {value!r}")
    raise BadTrace(f"task {name!r} has no runtimeInSeconds")


def _links(task: Mapping[str, Any], key: str, name: str, places: Mapping[str, int]) -> tuple[int, ...]:
    found = task.get(key, [])
    if not isinstance(found, list):
        raise BadTrace(f"task {name!r}: {key} is no list")
    for link in found:
        if not isinstance(link, str) or link not in places:
            raise BadTrace(f"task {name!r}: {key} has {link!r}, which is no task")
    return tuple(dict.fromkeys(places[link] for link in found))


def _with_children(
    tasks: Sequence[Task], described: Sequence[Mapping[str, Any]], places: Mapping[str, int]
) -> tuple[Task, ...]:
    """Return *tasks* that also wait for those that name them as children: some traces say one, some both."""
    after = [list(task.after) for task in tasks]
    for place, task in enumerate(described):
        for child in _links(task, "children", tasks[place].name, places):
            if place not in after[child]:
                after[child].append(place)
    return tuple(attrs.evolve(task, after=tuple(before)) for task, before in zip(tasks, after, strict=True))


def _order(tasks: Sequence[Task]) -> list[int]:
    """Return the places of *tasks*, each after those that it waits for."""
    try:
        return list(TopologicalSorter({place: task.after for place, task in enumerate(tasks)}).static_order())
    except CycleError as error:
        path = " -> ".join(tasks[place].name for place in reversed(error.args[1]))
        raise BadTrace(f"tasks wait for each other: {path}") from None
