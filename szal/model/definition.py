"""A flow as stores keep it: its text, a digest of what it says, and where two of them differ.

Ids are random: the same program makes new ones each time it starts. So definitions are compared by *name* and
content, and what refers to an id (a dependency) is compared by the name it refers to. The order of steps counts
only where they run in it. What is compared is what the codec writes, so a definition that was stored and read
again is the same one.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Final, TypeAlias

import attrs

from szal.errors import EncodeError
from szal.expressions.path import Json
from szal.model.analysis import FlowMode, walk
from szal.model.class_name import may_be_one
from szal.model.flow import FlowDef
from szal.model.json import NO_LIMIT_MS, flow_fields, step_fields
from szal.model.json.text import MAX_DEPTH_OF_A_DOCUMENT, dumps, loads
from szal.model.kept import Kept
from szal.model.state import NamedEnum
from szal.model.step import BackoffStrategy, TriggerMode

__all__ = ["Definition", "changed_steps", "content_id", "differences"]


@attrs.frozen
class Definition:
    """What is recorded of a flow: its JSON, and what `content_id` says of it."""

    text: str = attrs.field(repr=False)
    content_id: str

    @classmethod
    def of(cls, flow: FlowDef) -> "Definition":
        """Return that of *flow*, made once for as long as the flow says the same (`Kept`); raise `EncodeError`."""
        own = (flow.id, flow.name, flow.description, flow.mode, flow.version, flow.timeout, flow.rollback_on_failure)
        fields = (*own, flow.fail_fast, flow.isolation, flow.concurrency_key, *map(cls.of, flow.sub_flows))
        kept: Kept[Definition] | None = flow._definition
        if kept is None or not kept.is_of(flow, fields):
            kept = flow._definition = Kept(flow, fields, cls(*_text_and_content(flow)))
        return kept.made


def _text_and_content(flow: FlowDef) -> tuple[str, str]:
    fields = flow_fields(flow)
    text = dumps(fields, "flow", depth=MAX_DEPTH_OF_A_DOCUMENT)
    nested = any(step.sub_steps for step in flow.steps)
    return text, (content_id(flow) if nested else _digest(_Content.made_of(flow, fields)))


def content_id(flow: FlowDef) -> str:
    """Return a digest (sha256, in hex): two definitions that share it are the same.

    Those for which `differences` finds nothing share it, but for names of exceptions that may be of one class.

    It is the same in every process: ids and the order of keys do not count. Linear in the size of the flow and
    not recursive. Raises `EncodeError` for a config that JSON cannot hold.

    >>> from szal import StepDef
    >>> content_id(FlowDef("ci", steps=[StepDef("build")])) == content_id(FlowDef("ci", steps=[StepDef("build")]))
    True
    """
    return _digest(_Content.of(flow))


def _digest(content: "_Content") -> str:
    import hashlib  # it loads OpenSSL

    order = list(content.steps) if content.is_linear else sorted(content.steps)
    whole = [content.fields, *(content.steps[key] for key in order)]
    return hashlib.sha256(_text(whole).encode()).hexdigest()


def differences(old: FlowDef, new: FlowDef) -> tuple[str, ...]:
    """Return what differs between two definitions, a readable line each: the flow's own fields, then step by step.

    >>> from szal import StepDef
    >>> ci = FlowDef("ci", steps=[StepDef("build", timeout=60), StepDef("lint")])
    >>> for line in differences(ci, FlowDef("ci", version=2, steps=[StepDef("build", timeout=90), StepDef("test")])):
    ...     print(line)
    version 1 -> 2
    step 'build': timeout 60.0 -> 90.0
    step 'lint' was removed
    step 'test' is new
    """
    before, after = _Content.of(old), _Content.of(new)
    for content in (before, after):
        content.fields.pop("sub_flows", None)  # told below
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
    return (*lines, *_changed_sub_flows(old, new))


def _changed_sub_flows(old: FlowDef, new: FlowDef) -> Iterator[str]:
    before, after = ({flow.name: flow for flow in each.sub_flows} for each in (old, new))
    for name, flow in before.items():
        if name in after:
            yield from (f"sub-flow {name!r}: {line}" for line in differences(flow, after[name]))
        else:
            yield f"sub-flow {name!r} was removed"
    yield from (f"sub-flow {name!r} is new" for name in after if name not in before)


_HOW: Final = frozenset(
    {
        *(
            "description",
            "timeout_ms",
            "total_timeout_ms",
            "max_retries",
            "retry_delay_ms",
            "backoff",
            "max_retry_delay_ms",
        ),
        *("retry_jitter", "retry_on", "give_up_on", "rollbackable", "idempotent"),
        *("undo_on_failure", "continue_on_error", "cancel_losers", "priority"),
        *("max_parallel", "max_items", "delay_ms", "until_timeout_ms", "inline", "isolation", "resources", "rate"),
    }
)
"""What a step says of how it is tried and undone: another one is no reason to do again what it did."""


def changed_steps(old: FlowDef, new: FlowDef) -> frozenset[str]:
    """Return the names of the steps of *new* that are not in *old*, or do something else, or come after another step.

    How a step is described, limited, tried again and undone is not what it does.

    >>> from szal import StepDef
    >>> ci = FlowDef("ci", steps=[StepDef("a"), StepDef("b", config={"run": "true"}), StepDef("c")])
    >>> other = FlowDef("ci", steps=[StepDef("a", timeout=9), StepDef("b", config={"run": "false"}), StepDef("c")])
    >>> sorted(changed_steps(ci, other))
    ['b']
    """
    before, after = dict(_work_of(old)), dict(_work_of(new))
    return frozenset(name for name, work in after.items() if before.get(name) != work)


def _work_of(flow: FlowDef) -> Iterator[tuple[str, str]]:
    """Yield each step's name with what it does, and after which others, as text."""
    content = _Content.of(flow)
    previous: str | None = None
    for (name, _), step in content.steps.items():
        work = {key: value for key, value in step.items() if key not in _HOW}
        if isinstance(work.get("config"), dict):
            work["config"] = {key: value for key, value in work["config"].items() if key != "rollback"}
        if content.is_linear:
            work["depends_on"] = [] if previous is None else [previous]
        yield name, _text(work)
        previous = name


_Fields: TypeAlias = dict[str, Json]


@attrs.define(eq=False)
class _Content:
    """What a definition says, as JSON, without ids. A valid flow has each step name once: the number is 0."""

    fields: _Fields
    steps: dict[tuple[str, int], _Fields]  # by name and number among its namesakes; in the order of `walk`
    is_linear: bool

    @classmethod
    def of(cls, flow: FlowDef) -> "_Content":
        """Take *flow* apart; raise `EncodeError` naming what JSON cannot hold."""
        fields = flow_fields(attrs.evolve(flow, steps=[]))
        fields["steps"] = [step_fields(attrs.evolve(step, sub_steps=())) for step, _ in walk(flow.steps)]
        return cls.made_of(flow, loads(dumps(fields, "flow", depth=MAX_DEPTH_OF_A_DOCUMENT)))

    @classmethod
    def made_of(cls, flow: FlowDef, fields: _Fields) -> "_Content":
        """Take apart the *fields* of *flow*, with its steps one after another; they are changed."""
        steps: list[_Fields] = fields.pop("steps")
        walked = list(walk(flow.steps))
        names = {step.id: step.name for step, _ in walked}
        for step, (_, parent) in zip(steps, walked, strict=True):
            _settle(step)
            step["depends_on"] = _sorted(names.get(id_, {"unknown id": id_}) for id_ in step["depends_on"])
            if parent >= 0:
                step["parent"] = walked[parent][0].name
            if step.get("config") is not None:
                step["config"] = loads(dumps(step["config"], f"{step['name']}.config"))  # keys become strings
        _settle(fields)
        if flow.sub_flows:
            fields["sub_flows"] = {sub_flow.name: content_id(sub_flow) for sub_flow in flow.sub_flows}
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
    for limit in ("timeout_ms", "total_timeout_ms", "max_retry_delay_ms", "until_timeout_ms"):
        if fields.get(limit) in (None, NO_LIMIT_MS):
            fields.pop(limit, None)
    if "retry_jitter" in fields:
        fields["retry_jitter"] = float(fields["retry_jitter"])
    for kinds in _EXCEPTIONS:
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
_EXCEPTIONS = ("retry_on", "give_up_on")
_MISSING = object()
_WIDTH = 60


def _changes(old: _Fields, new: _Fields) -> Iterator[str]:
    """Yield a line for each field that differs: inside of config and inputs, for each value."""
    for key in _keys(old, new):
        before, after = old.get(key, _MISSING), new.get(key, _MISSING)
        if key in ("config", "inputs"):
            yield from _value_changes(key, before, after)
        elif key in _EXCEPTIONS and _may_be_one(before, after):
            continue
        elif _is_other(before, after):
            was, now = _shown(key, before), _shown(key, after)
            yield f"{key.removesuffix('_ms')} {_change(was, now)}"


def _may_be_one(old: object, new: object) -> bool:
    """Whether two lists may name the same exceptions and exit statuses: a script has other names than a module."""
    if not isinstance(old, list) or not isinstance(new, list):
        return False
    return all(any(_is_alike(name, other) for other in new) for name in old) and all(
        any(_is_alike(name, other) for other in old) for name in new
    )


def _is_alike(name: str | int, other: str | int) -> bool:
    return name == other or (isinstance(name, str) and isinstance(other, str) and may_be_one(name, other))


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
