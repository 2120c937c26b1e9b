"""Definitions across versions: bringing an old one forward, and telling whether, and where, two of them differ.

Ids are random: the same program makes new ones each time it starts. So definitions are compared by *name* and
content, and what refers to an id (a dependency) is compared by the name it refers to. The order of steps counts
only where they run in it. What is compared is what the codec writes, so a definition that was stored and read
again is the same one.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import TypeAlias, overload

import attrs

from szal.analysis import FlowMode, walk
from szal.codec import NO_LIMIT_MS, encode_flow
from szal.errors import EncodeError, MigrationFailed, describe
from szal.flow import FlowDef
from szal.jsontext import dumps, loads
from szal.state import NamedEnum
from szal.step import BackoffStrategy, Json, StepDef, TriggerMode

__all__ = ["Migration", "MigrationRegistry", "content_id", "differences"]

Migration: TypeAlias = Callable[[FlowDef], FlowDef]
"""Takes a definition of one version and returns it as another; owns its argument, which is a copy."""


# -- bringing a definition forward -------------------------------------------------------------------


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
    return attrs.evolve(flow, steps=reversed(copies[-1]), inputs=_copied(dict(flow.inputs), "inputs"))


def _copied(value: Json, path: str) -> Json:
    return loads(dumps(value, path))  # never endless, where copy.deepcopy would be recursive


# -- comparing definitions ---------------------------------------------------------------------------


def content_id(flow: FlowDef) -> str:
    """Return a digest (sha256, in hex) that two definitions share exactly if `differences` finds none.

    It is the same in every process: ids and the order of keys do not count. Linear in the size of the flow and
    not recursive. Raises `EncodeError` for a config that JSON cannot hold.

    >>> content_id(FlowDef("ci", steps=[StepDef("build")])) == content_id(FlowDef("ci", steps=[StepDef("build")]))
    True
    """
    content = _Content.of(flow)
    order = list(content.steps) if content.is_linear else sorted(content.steps)
    whole = [content.fields, *(content.steps[key] for key in order)]
    return hashlib.sha256(_text(whole).encode()).hexdigest()


def differences(old: FlowDef, new: FlowDef) -> tuple[str, ...]:
    """Return what differs between two definitions, a readable line each: the flow's own fields, then step by step.

    >>> ci = FlowDef("ci", steps=[StepDef("build", timeout=60), StepDef("lint")])
    >>> for line in differences(ci, FlowDef("ci", version=2, steps=[StepDef("build", timeout=90), StepDef("test")])):
    ...     print(line)
    version 1 -> 2
    step 'build': timeout 60.0 -> 90.0
    step 'lint' was removed
    step 'test' is new
    """
    before, after = _Content.of(old), _Content.of(new)
    lines = list(_changes(before.fields, after.fields))
    for key, step in before.steps.items():
        if key in after.steps:
            if _is_other(step, after.steps[key]):
                lines += (f"step {key[0]!r}: {change}" for change in _changes(step, after.steps[key]))
        else:
            lines.append(f"step {key[0]!r} was removed")
    lines += (f"step {name!r} is new" for name, number in after.steps if (name, number) not in before.steps)
    if before.is_linear and after.is_linear:
        was = [key for key in before.steps if key in after.steps]
        now = [key for key in after.steps if key in before.steps]
        moved = next(((a, b) for (a, _), (b, _) in zip(was, now, strict=True) if a != b), None)
        if moved:
            lines.append(f"order of steps: {moved[1]!r} now comes before {moved[0]!r}")
    return tuple(lines)


_Fields: TypeAlias = dict[str, Json]


@attrs.define(eq=False)
class _Content:
    """What a definition says, as JSON, without ids. A valid flow has each step name once: the number is 0."""

    fields: _Fields
    steps: dict[tuple[str, int], _Fields]  # by name and number among its namesakes; in the order of `walk`
    is_linear: bool

    @classmethod
    def of(cls, flow: FlowDef) -> "_Content":
        walked = list(walk(flow.steps))
        flat = [attrs.evolve(step, sub_steps=()) if step.sub_steps else step for step, _ in walked]
        fields: _Fields = loads(encode_flow(attrs.evolve(flow, steps=flat)))
        steps: list[_Fields] = fields.pop("steps")
        names = {step.id: step.name for step in flat}
        for step, (_, parent) in zip(steps, walked, strict=True):
            _settle(step)
            step["depends_on"] = _sorted(names.get(id_, {"unknown id": id_}) for id_ in step["depends_on"])
            if parent >= 0:
                step["parent"] = walked[parent][0].name
        _settle(fields)
        if not flow.mode.is_linear:
            steps = _by_content(steps)
        seen: Counter[str] = Counter()
        keyed: dict[tuple[str, int], _Fields] = {}
        for step in steps:
            keyed[step["name"], seen[step["name"]]] = step
            seen[step["name"]] += 1
        return cls(fields, keyed, flow.mode.is_linear)


def _by_content(steps: list[_Fields]) -> list[_Fields]:
    """Return steps whose order does not count as they are, but namesakes, if there are any, in a fixed order."""
    if len({step["name"] for step in steps}) == len(steps):
        return steps
    return sorted(steps, key=_text)


def _settle(fields: _Fields) -> None:
    """Take out the id, and give what can be written in several ways one way."""
    del fields["id"]
    for limit in ("timeout_ms", "max_retry_delay_ms"):
        if fields.get(limit) in (None, NO_LIMIT_MS):
            fields.pop(limit, None)
    if "retry_jitter" in fields:
        fields["retry_jitter"] = float(fields["retry_jitter"])
    for kinds in ("retry_on", "give_up_on"):
        if kinds in fields:
            fields[kinds] = _sorted(fields[kinds])


def _sorted(values: Iterable[Json]) -> list[Json]:
    """Return each value once, in an order that is always the same."""
    kept = list(values)
    if len(kept) < 2:
        return kept
    by_text = {_text(value): value for value in kept}
    return [by_text[text] for text in sorted(by_text)]


_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def _text(value: Json) -> str:
    """Return a JSON value as text that is equal exactly for equal values: 1, 1.0 and true are three of them."""
    try:
        return _encode(value)
    except RecursionError:
        raise EncodeError("flow", "nested too deeply") from None


# -- differences, as text ----------------------------------------------------------------------------

_ENUMS: Mapping[str, type[NamedEnum]] = {"mode": FlowMode, "backoff": BackoffStrategy, "trigger_mode": TriggerMode}
_MISSING = object()
_WIDTH = 60


def _changes(old: _Fields, new: _Fields) -> Iterator[str]:
    """Yield a line for each field that differs: inside of config and inputs, for each value."""
    for key in _keys(old, new):
        before, after = old.get(key, _MISSING), new.get(key, _MISSING)
        if key in ("config", "inputs"):
            yield from _value_changes(key, before, after)
        elif _is_other(before, after):
            was, now = _shown(key, before), _shown(key, after)
            yield f"{key.removesuffix('_ms')} {_change(was, now)}"


def _value_changes(path: str, old: object, new: object) -> Iterator[str]:
    """Yield a line for each place where two JSON values differ. Not recursive."""
    stack = [(path, old, new)]
    while stack:
        path, old, new = stack.pop()
        if isinstance(old, dict) and isinstance(new, dict):
            inner = [(_member(path, key), old.get(key, _MISSING), new.get(key, _MISSING)) for key in _keys(old, new)]
            stack += reversed(inner)
        elif isinstance(old, list) and isinstance(new, list):
            pairs = enumerate(zip_longest(old, new, fillvalue=_MISSING))
            stack += reversed([(f"{path}[{index}]", was, now) for index, (was, now) in pairs])
        elif _is_other(old, new):
            yield f"{path} {_change(_value(old), _value(new))}"


def _keys(old: _Fields, new: _Fields) -> list[str]:
    return list(old | new)


def _member(path: str, key: str) -> str:
    return f"{path}.{key}" if key.isidentifier() else f"{path}[{key!r}]"


def _is_other(old: object, new: object) -> bool:
    if old is _MISSING or new is _MISSING:
        return old is not new
    return _text(old) != _text(new)


def _shown(key: str, value: Json) -> str:
    if value is _MISSING:
        return "none"
    if key in _ENUMS:
        return str(_ENUMS[key](value))
    if key.endswith("_ms"):
        return repr(value / 1000)
    return _value(value)


def _value(value: Json) -> str:
    if value is _MISSING:
        return "none"
    return repr(value) if isinstance(value, str) else _text(value)


def _change(old: str, new: str) -> str:
    """Return ``old -> new``; of long texts only the part around the first character that differs."""
    same = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, same - _WIDTH // 3) if max(len(old), len(new)) > _WIDTH else 0
    return f"{_excerpt(old, start)} -> {_excerpt(new, start)}"


def _excerpt(text: str, start: int) -> str:
    end = start + _WIDTH
    return f"{'...' if start else ''}{text[start:end]}{'...' if end < len(text) else ''}"
