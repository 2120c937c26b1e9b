"""Definitions across versions: bringing an old one forward."""

from collections.abc import Callable
from typing import TypeAlias, overload

import attrs

from szal.errors import MigrationFailed, describe
from szal.expressions.path import Json
from szal.model.analysis import walk
from szal.model.flow import FlowDef
from szal.model.json.text import dumps, loads
from szal.model.step import StepDef

__all__ = ["Migration", "MigrationRegistry"]

Migration: TypeAlias = Callable[[FlowDef], FlowDef]
"""Takes a definition of one version and returns it as another; owns its argument, which is a copy."""


@attrs.define
class MigrationRegistry:
    """How the definition of one flow went from version to version: at most one step forward from each.

    The path from a version is therefore never a choice, and nothing but the registered steps is ever run.
    A step may leave versions out (1 -> 3), and then no version between can be reached through it. With a
    *flow_name*, definitions of any other flow are refused. Register everything before engines use it.

    >>> pipeline = MigrationRegistry("pipeline")
    >>> @pipeline.register(1, 2)
    ... def deploy_became_release(flow):
    ...     flow.steps = [attrs.evolve(step, name="release") if step.name == "deploy" else step for step in flow.steps]
    ...     return flow
    >>> old = FlowDef("pipeline", steps=[StepDef("build"), StepDef("deploy")])
    >>> new = pipeline.migrate_latest(old)
    >>> new.version, [step.name for step in new.steps]
    (2, ['build', 'release'])
    """

    flow_name: str | None = None
    _steps: dict[int, tuple[int, Migration]] = attrs.field(factory=dict, init=False, repr=False)  # by version before

    @property
    def latest_version(self) -> int | None:
        """The newest version that a step leads to; None while nothing is registered."""
        return max((to for to, _ in self._steps.values()), default=None)

    @overload
    def register(self, from_version: int, to_version: int, function: Migration) -> Migration: ...

    @overload
    def register(self, from_version: int, to_version: int) -> Callable[[Migration], Migration]: ...

    def register(
        self, from_version: int, to_version: int, function: Migration | None = None
    ) -> Migration | Callable[[Migration], Migration]:
        """Add the step between two versions; without *function*, return a decorator that adds one.

        The function gets a copy, which it may change and return; it need not set the version, and must keep
        the name. It should be pure: the same definition may be migrated many times, in several processes.

        >>> MigrationRegistry().register(3, 2, lambda flow: flow)
        Traceback (most recent call last):
        szal.errors.MigrationFailed: cannot register 3 -> 2: a migration leads to a greater version
        """
        if function is None:
            return lambda decorated: self.register(from_version, to_version, decorated)
        problem = self._complaint(from_version, to_version)
        if problem:
            what = f"{from_version!r} -> {to_version!r}"
            raise MigrationFailed(self.flow_name or "", f"cannot register {what}: {problem}")
        self._steps[from_version] = (to_version, function)
        return function

    def _complaint(self, from_version: object, to_version: object) -> str | None:
        for version in (from_version, to_version):
            if type(version) is not int or version < 0:
                return f"a version is an integer from 0 up, not {version!r}"
        assert isinstance(from_version, int)
        assert isinstance(to_version, int)
        if to_version <= from_version:
            return "a migration leads to a greater version"
        if from_version in self._steps:
            return f"{from_version} -> {self._steps[from_version][0]} is registered already"
        return None

    def migrate_latest(self, flow: FlowDef) -> FlowDef:
        """Return *flow* in the newest version known, or as it is where nothing is registered.

        Raises `MigrationFailed` as `migrate_to` does: also for a definition that is newer than all of this.
        """
        latest = self.latest_version
        return self.migrate_to(flow, flow.version if latest is None else latest)

    def migrate_to(self, flow: FlowDef, version: int) -> FlowDef:
        """Return *flow* as of *version*, leaving the one given as it is; it is itself returned if it is that already.

        The flow keeps its id. Raises `MigrationFailed` naming the versions where no registered path leads there
        (before anything is run), and from whatever a migration function raises. Does not validate the result.

        >>> MigrationRegistry().migrate_to(FlowDef("ci", version=2), 3)
        Traceback (most recent call last):
        szal.errors.MigrationFailed: flow 'ci': no migration from version 2 is registered, on the way from 2 to 3
        """
        if self.flow_name is not None and flow.name != self.flow_name:
            raise MigrationFailed(flow.name, f"these migrations are of flow {self.flow_name!r}")
        for before, after, function in self._path(flow, version):
            flow = _migrated(flow, before, after, function)
        return flow

    def _path(self, flow: FlowDef, version: int) -> list[tuple[int, int, Migration]]:
        here, way = flow.version, f"on the way from {flow.version} to {version}"
        if here > version:
            raise MigrationFailed(flow.name, f"version {here} cannot be taken back to {version}: there is no downgrade")
        path: list[tuple[int, int, Migration]] = []
        while here < version:
            if here not in self._steps:
                raise MigrationFailed(flow.name, f"no migration from version {here} is registered, {way}")
            after, function = self._steps[here]
            if after > version:
                raise MigrationFailed(flow.name, f"migration {here} -> {after} goes past version {version}, {way}")
            path.append((here, after, function))
            here = after
        return path


def _migrated(flow: FlowDef, before: int, after: int, function: Migration) -> FlowDef:
    what = f"migration {before} -> {after}"
    given = _copy(flow)
    try:
        made: object = function(given)
    except Exception as error:
        raise MigrationFailed(flow.name, f"{what} failed: {describe(error)}") from error
    if not isinstance(made, FlowDef):
        raise MigrationFailed(flow.name, f"{what} returned {type(made).__name__}, not a FlowDef")
    if made.name != flow.name:
        raise MigrationFailed(flow.name, f"{what} changed the flow's name to {made.name!r}")
    if made.version not in (before, after):
        raise MigrationFailed(flow.name, f"{what} returned version {made.version}")
    return attrs.evolve(made, id=flow.id, version=after)


def _copy(flow: FlowDef) -> FlowDef:
    """Return a copy that shares nothing that can be changed. Not recursive in the sub-steps."""
    walked = list(walk(flow.steps))
    copies: list[list[StepDef]] = [[] for _ in range(len(walked) + 1)]  # by place of the parent, -1 the last; backwards
    for place in reversed(range(len(walked))):
        step, parent = walked[place]
        if step.config is not None or step.sub_steps:
            config = _copied(step.config, f"step {step.name!r}: config")
            step = attrs.evolve(step, config=config, sub_steps=reversed(copies[place]))
        copies[parent].append(step)
    inputs = _copied(dict(flow.inputs), "inputs")
    return attrs.evolve(flow, steps=reversed(copies[-1]), inputs=inputs, sub_flows=map(_copy, flow.sub_flows))


def _copied(value: Json, path: str) -> Json:
    return loads(dumps(value, path))  # never endless, where copy.deepcopy would be recursive
