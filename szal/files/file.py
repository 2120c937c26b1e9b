"""One file: its flow, and those that its steps name, from under "flows" or from files beside it."""

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from szal.errors import LoadError, did_you_mean
from szal.files.document import Place, Problem, Unreadable, Value
from szal.files.fields import Fields
from szal.files.json import read_json
from szal.files.merging import merged
from szal.files.reader import FlowReader
from szal.files.shared import Shared
from szal.files.vocabulary import FLOW, SUB_FLOW
from szal.files.yaml import read_yaml
from szal.model import graph
from szal.model.definition import content_id
from szal.model.flow import FlowDef

__all__ = ["flow_in", "read_file"]

_NAMESPACE: Final = uuid.UUID("5b1f6a3e-8c1d-5e0a-9a54-7f2d6f0f3c11")  # of the ids; never to be changed
_SUFFIXES: Final = (".yaml", ".yml", ".json")
_MAX_FILES: Final = 32  # one naming the other, as deep as an engine lets sub-flows be by default

_Known: TypeAlias = dict[Path, FlowDef | None]
"""What the files of one load have turned out to hold; None: nothing but problems, which have been told."""


def read_file(path: Path, *, is_whole: bool, here: bool) -> FlowDef:
    """Return the flow in the file at *path*, with its sub-flows; raise `LoadError`, and what opening it raises.

    *is_whole*: nothing but the file brings what its steps need. *here*: this machine is to have what they name.
    """
    return flow_in(path.read_bytes(), path, is_json=_is_json(path), is_whole=is_whole, here=here)


def flow_in(content: bytes, path: Path, *, is_json: bool, is_whole: bool, here: bool) -> FlowDef:
    """Return the flow in *content*, which is, or might be, that of the file at *path*: what it names is beside that."""
    return _read(content, path, is_json=is_json, is_whole=is_whole, here=here, way=(path,), known={})


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _read(
    content: bytes, path: Path, *, is_json: bool, is_whole: bool, here: bool, way: Sequence[Path], known: "_Known"
) -> FlowDef:
    problems: list[Problem] = []
    flow = None
    try:
        text = _decode(content)
        root = read_json(text, problems) if is_json else merged(read_yaml(text, problems), problems)
        flow = _File(path, problems, is_whole=is_whole, here=here, way=way, known=known).flow(root)
    except Unreadable as error:
        problems.append(error.problem)
    if problems or flow is None:
        raise LoadError(
            os.fspath(path), tuple(f":{p.place.line}:{p.place.column}: {p.text}" for p in sorted(set(problems)))
        )
    return flow


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(errors="replace").split("\n")
        raise Unreadable(Place(len(before), len(before[-1]) + 1), "the file is not UTF-8") from None


@attrs.define(eq=False)
class _Call:
    """A step of this file that names another flow of it."""

    caller: str
    called: str
    step: Fields


class _File:
    """Reads one file. What is wrong is noted, and read as if it were not there."""

    def __init__(
        self, path: Path, problems: list[Problem], *, is_whole: bool, here: bool, way: Sequence[Path], known: _Known
    ) -> None:
        self._path = path
        self._problems = problems
        self._is_whole = is_whole
        self._here = here
        self._way = way  # the files whose sub-flow this one is, and itself
        self._known = known
        self._name = ""
        self._own: tuple[str, ...] = ()  # the names under "flows"
        self._reading = ""  # the flow whose steps are being read
        self._calls: list[_Call] = []
        self._found: dict[str, FlowDef] = {}  # by name: what the flow brings

    def flow(self, root: Value) -> FlowDef | None:
        """Return the file's flow, unless that is out of the question."""
        top = Fields.of(root, "the flow", self._problems)
        if top is None:
            return None
        self._name = self._reading = top.name() or ""
        top.allow(FLOW)
        bodies = top.inner("flows")
        self._own = tuple(bodies.entries)
        flow_id = uuid.uuid5(_NAMESPACE, self._name)
        shared = Shared.of(top, Shared())
        flow = self._read(top, self._name, flow_id, shared)
        for name, entry in bodies.entries.items():
            body = Fields.of(entry.value, f"flow {name!r}", self._problems)
            if body is None:
                continue
            self._reading = name
            if not name:
                body.problem("a flow under 'flows' needs a name, as its key")
            if "name" in body.entries:
                body.problem(f"{body.label} is called by its key: leave 'name' out", key="name")
            body.allow((*SUB_FLOW, "name"))
            own = Shared.of(body, shared)
            self._bring(self._read(body, name, uuid.uuid5(flow_id, f"flows/{name}"), own), bodies, name)
        self._check_circles()
        return attrs.evolve(flow, sub_flows=self._found.values())

    def _read(self, body: Fields, name: str, flow_id: uuid.UUID, shared: Shared) -> FlowDef:
        base = str(self._way[0].absolute().parent) if self._here else None
        return FlowReader(self._problems, self, shared, is_whole=self._is_whole, base=base).flow(body, name, flow_id)

    def _bring(self, flow: FlowDef, fields: Fields, key: str) -> None:
        """Have the file's flow bring *flow*, unless another one has its name."""
        known = self._found.setdefault(flow.name, flow)
        if flow.name == self._name or (known is not flow and content_id(known) != content_id(flow)):
            problem = f"another flow is called {flow.name!r} too: those that run together have names of their own"
            fields.problem(problem, key=key)

    # -- the flow that a step names --------------------------------------------------------------------

    def find(self, step: Fields, name: str) -> str:
        """Return the name of the flow that *step* calls *name*: of this file, or that of a file beside it."""
        if not name:
            return name
        if "{{" in name:
            if self._is_whole and not self._own:
                problem = "a flow that is named only as it runs has to stand under 'flows', and there are none"
                step.problem(f"'flow' in {step.label}: {problem}", key="flow")
            return name
        if name in self._own or name == self._name:
            self._calls.append(_Call(self._reading, name, step))
            return name
        # Path.is_file raises for some texts that are no path
        files = [file for file in self._files_of(name) if os.path.isfile(file)]  # noqa: PTH113
        if len(files) == 1:
            return self._from_file(step, files[0]) or name
        if files:
            step.problem(
                f"'flow' in {step.label} may be {' or '.join(file.name for file in files)}: say which", key="flow"
            )
        elif name.lower().endswith(_SUFFIXES):
            step.problem(f"'flow' in {step.label}: there is no file {self._path.parent / name}", key="flow")
        elif self._is_whole:
            hint = did_you_mean(name, self._own)
            where = f"neither under 'flows' nor in a file {name}.yaml beside this one"
            step.problem(f"'flow' in {step.label}: there is no flow {name!r}, {where}{hint}", key="flow")
        return name

    def _files_of(self, name: str) -> list[Path]:
        file = self._path.parent / name
        if name.lower().endswith(_SUFFIXES):
            return [file]
        return [file.with_name(file.name + suffix) for suffix in _SUFFIXES] if file.name else []

    def _from_file(self, step: Fields, file: Path) -> str | None:
        """Bring the flow in *file* with its sub-flows, and return its name."""
        key = file.resolve()
        if key in (each.resolve() for each in self._way):
            circle = " -> ".join(each.name for each in (*self._way, file))
            step.problem(f"'flow' in {step.label}: these flows would run each other for ever: {circle}", key="flow")
            return None
        if key not in self._known:
            self._known[key] = self._read_beside(step, file)
        elif self._known[key] is None:
            step.problem(f"'flow' in {step.label} is a file with problems, which are told elsewhere", key="flow")
        flow = self._known[key]
        if flow is None:
            return None
        for each in (flow, *flow.sub_flows):
            self._bring(attrs.evolve(each, sub_flows=()), step, "flow")
        return flow.name

    def _read_beside(self, step: Fields, file: Path) -> FlowDef | None:
        way = [*self._way, file]
        if len(way) > _MAX_FILES:
            step.problem(f"'flow' in {step.label}: files name each other more than {_MAX_FILES} deep", key="flow")
        else:
            try:
                return _read(
                    file.read_bytes(),
                    file,
                    is_json=_is_json(file),
                    is_whole=self._is_whole,
                    here=self._here,
                    way=way,
                    known=self._known,
                )
            except LoadError as error:
                lines = "".join(f"\n  {line}" for line in str(error).splitlines())
                step.problem(f"'flow' in {step.label} is a file with problems:{lines}", key="flow")
            except OSError as error:
                step.problem(f"'flow' in {step.label} cannot be read: {error}", key="flow")
        return None

    def _check_circles(self) -> None:
        """Note flows of this file that would run each other for ever."""
        names = [self._name, *self._own]
        places = {name: place for place, name in enumerate(names)}
        before: list[list[int]] = [[] for _ in names]
        for call in self._calls:
            before[places[call.caller]].append(places[call.called])
        order = graph.topological_order(before)
        if len(order) == len(names):
            return
        circle = [names[place] for place in reversed(graph.find_cycle(before, order))]
        step = next(
            call.step for call in self._calls if (call.caller, call.called) == (circle[0], circle[1 % len(circle)])
        )
        path = " -> ".join([*circle, circle[0]])
        step.problem(f"'flow' in {step.label}: these flows would run each other for ever: {path}", key="flow")
