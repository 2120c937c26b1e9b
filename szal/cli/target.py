"""From what a person names on the command line to a flow that can be run.

A target is a file (YAML or JSON, see `szal.load_flow`; ``-`` is standard input), or ``module:attribute``, or the same
with the module's file (``flows/etl.py:etl``), which is looked for in the folder of that, too. Modules,
those of "call" steps too, are looked for beside the flow's file, in the current directory, and then where Python looks.
The attribute is a `szal.Flow`; a `FlowDef`; or a tuple of one and what belongs to it, in any order: a `Handlers`
registry (or a function that does every step), further flows that its sub_flow steps name, and `MigrationRegistry`s that
bring stored definitions of these flows forward. Or it is a function without required parameters that returns one of
these. What goes on with executions, whose definitions are recorded, takes a `Handlers` alone, too. In a project
(`szal.cli.project`), the name of one of its flows is a target.
"""

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from szal.authoring.flow import Flow
from szal.authoring.step import Step
from szal.cli.place import place_of
from szal.cli.project import project
from szal.engine.binding import Binding, bind, check_configs
from szal.engine.config import EngineConfig
from szal.engine.sub_flow_lookup import is_found
from szal.errors import HandlerNotFound, InvalidFlow, SzalError, describe, did_you_mean
from szal.model.catalogue import InMemoryStorage
from szal.model.flow import FlowDef
from szal.model.migration import MigrationRegistry
from szal.model.results import ExecutionRecord
from szal.model.step import StepDef
from szal.scheduler.plan import Plan
from szal.steps.handlers import Handlers, type_done_by
from szal.steps.lookup import NotThere, import_object, look_in
from szal.steps.machine import first_steps, missing_for
from szal.steps.resolving import EveryStep, Handling, migrations_of, resolver_of

__all__ = ["STDIN", "BadTarget", "Target", "attributes_of", "find_target", "is_known", "recorded_target"]

STDIN: Final = "-"
"""What names a flow that is read from standard input."""


@attrs.define
class BadTarget(SzalError):
    """What was named is not there, cannot be imported, or is no flow."""

    target: str
    problem: str

    def __str__(self) -> str:
        return f"{self.target}: {self.problem}"


@attrs.frozen
class Target:
    """A flow, what does its steps, the flows that are part of it, and (by flow name) migrations of any of these."""

    flow: FlowDef
    handler: Handling | Sequence[Handling] = attrs.field(factory=Handlers)
    sub_flows: tuple[FlowDef, ...] = ()
    migrations: Mapping[str, MigrationRegistry] = attrs.field(factory=dict)
    is_read: bool = False
    """Whether the flow was read, and not made by a program."""
    is_any: bool = False
    """Whether it does the steps of whatever flow is recorded: it has none of its own."""

    @classmethod
    def of(cls, flow: Flow) -> "Target":
        """Return a flow of functions as a target."""
        return cls(flow.definition, [flow], migrations=migrations_of(flow))

    @classmethod
    def of_any(cls, handler: Handling | None = None) -> "Target":
        """Return what does the steps of any flow; without *handler*, as far as the project does, or szal itself."""
        if handler is not None:
            return cls(FlowDef("recorded"), handler, is_any=True)
        return cls(FlowDef("recorded"), project().handling, migrations=migrations_of(project().flows), is_any=True)

    @property
    def flows(self) -> tuple[FlowDef, ...]:
        """All of them, the flow itself first."""
        brought = [flow for flow in self.flow.sub_flows if flow not in self.sub_flows]
        return (self.flow, *self.sub_flows, *brought)

    def config(self, **settings: Any) -> EngineConfig:
        """Return the settings of an engine that runs it; what these do not say, the project may."""
        _, *sub_flows = self.flows
        known: dict[str, Any] = {**project().config}
        if sub_flows:
            known["storage"] = InMemoryStorage(tuple(sub_flows))
        known["migrations"] = {**known.get("migrations", {}), **self.migrations}
        return EngineConfig(**{**known, **settings})

    def named(self, flow_name: str) -> FlowDef | None:
        """Return the flow of that name, be it one that is part of it."""
        return next((flow for flow in self.flows if flow.name == flow_name), None)

    def check(self, *, is_new: bool = True, here: bool = False) -> None:
        """Raise `InvalidFlow` or `HandlerNotFound`, for this flow or one that is part of it, where it cannot be run.

        *is_new*: it is to be begun, and not gone on with. *here*: on this machine, which may not have what it names.
        How much there is of what its steps share its engine sees to, which has the store that says so.
        """
        known = self.config().capacities
        for flow in self.flows:
            plan = Plan.of(flow)
            resolver = resolver_of(self.handler)
            if not isinstance(resolver, EveryStep):
                config = self.config(capacities={**_needs(plan), **known})
                binding = bind(flow, plan, resolver, config, rolls_back=self.flow.rollback_on_failure)
                if is_new:
                    check_configs(flow, plan, binding)
                if here:
                    _check_machine(flow, plan, binding)
        names = [flow.name for flow in self.flows]
        steps = (step for flow in self.flows for step in flow.walk() if step.step_type == "sub_flow")
        if unknown := tuple(step.name for step in steps if not is_found(step, names, None)):
            raise HandlerNotFound(unknown, "sub-flow")

    def waits(self) -> Iterator[StepDef]:
        """Yield the steps that wait for a signal, in this flow and those that are part of it."""
        yield from (step for flow in self.flows for step in flow.walk() if step.step_type == "wait")


def _needs(plan: Plan) -> dict[str, int]:
    """Return how much one step of *plan* needs at most of what steps share."""
    needs: dict[str, int] = {}
    for step in plan.sharers:
        needs.update({name: max(units, needs.get(name, 0)) for name, units in step.resources.items()})
    return needs


def _check_machine(flow: FlowDef, plan: Plan, binding: Binding) -> None:
    base = None if flow.file is None else str(Path(flow.file).parent)
    first = first_steps(flow)
    problems = [
        f"step {step.name!r}: {fault}"
        for step, handler in zip(plan.steps, binding.forward, strict=True)
        if (step_type := type_done_by(handler)) is not None
        for fault in missing_for(step_type, step.config, base, may_be_made=step.id not in first)
    ]
    if problems:
        raise InvalidFlow(flow.name, tuple(problems))


def recorded_target(record: ExecutionRecord, flow: FlowDef) -> Target:
    """Return what an execution goes on with where no target is named: its recorded *flow*, done as far as it can be.

    That is as far as the project does it, or szal itself.
    """
    if record.file is not None:
        look_in(Path(record.file).parent, Path.cwd())
    else:
        look_in(Path.cwd())
    return _recorded(flow)


def _recorded(flow: FlowDef) -> Target:
    return Target(flow, project().handling, migrations=migrations_of(project().flows))


def is_known(flow: FlowDef) -> bool:
    """Whether all steps of a recorded *flow* are done without a target."""
    try:
        _recorded(flow).check()
    except HandlerNotFound:
        return False
    return True


def find_target(name: str, *, here: bool = False, is_recorded: bool = False) -> Target:
    """Return what *name* stands for; raise `BadTarget`, or `LoadError` for a file that is no flow.

    *here*: a file is to name nothing that is not on this machine. *is_recorded*: the flow is, so that it may stand for
    handlers alone.
    """
    if name == STDIN:
        return Target(_read_stdin(here=here), is_read=True)
    module, colon, attribute = name.partition(":")
    path = Path(name)
    if path.is_dir():
        raise BadTarget(name, "this is a directory: name a flow's file in it")
    if not colon and not path.exists() and (flow := project().flow(name)) is not None:
        return Target.of(flow)
    if path.exists() or not colon:
        return Target(_read(name, path, here=here), is_read=True)
    if module.endswith(".py") and Path(module).is_file():
        look_in(Path(module).parent, Path.cwd())
        module = Path(module).stem
    if not attribute or not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        raise BadTarget(name, "there is no such file, and it is not of the form module:attribute")
    return _target(name, _look_up(name, module, attribute), is_recorded=is_recorded)


def _read(name: str, path: Path, *, here: bool) -> FlowDef:
    from szal.files.loader import load_flow  # which needs PyYAML

    if path.suffix == ".py":
        raise BadTarget(name, f"this is Python: name the flow in it, as in {path.stem}:flow")
    if not path.exists():
        known = project().names
        hint = f", and no flow of this project{did_you_mean(name, known)}" if known else ""
        raise BadTarget(name, f"there is no such file{hint} (a flow in Python is named module:attribute)")
    look_in(path.parent, Path.cwd())
    return load_flow(path, is_whole=True, here=here)


def _read_stdin(*, here: bool) -> FlowDef:
    from szal.files.file import flow_in  # which needs PyYAML

    content = sys.stdin.buffer.read()
    if not content.strip():
        raise BadTarget(STDIN, "standard input is empty: write a flow to it, as YAML or JSON")
    look_in(Path.cwd())
    is_json = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{"
    return flow_in(content, Path("<stdin>"), is_json=is_json, is_whole=True, here=here)


def _look_up(name: str, module: str, attribute: str) -> Any:
    look_in(Path.cwd())
    with _foreign(name, f"cannot import {module}"):
        try:
            return import_object(f"{module}:{attribute}")
        except NotThere as error:
            raise BadTarget(name, str(error)) from None


def attributes_of(module: str) -> list[str]:
    """Return the attributes of a module that are flows, alone or with what belongs to them."""
    look_in(Path.cwd())
    found = vars(importlib.import_module(module)).items()
    return [name for name, value in found if any(isinstance(part, FlowDef | Flow) for part in _parts(value))]


def _parts(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)


def _target(name: str, found: Any, *, is_recorded: bool) -> Target:
    if isinstance(found, Step):
        raise BadTarget(name, f"this is the step {found.name!r} of the flow {found.flow.name!r}: name the flow")
    if callable(found) and not isinstance(found, type | Handlers):
        with _foreign(name, "the function failed"):
            found = found()
    parts = _parts(found)
    if is_recorded and len(parts) == 1 and isinstance(found, Handlers):
        return Target.of_any(found)
    written = [part for part in parts if isinstance(part, Flow)]
    flows = [part.definition if isinstance(part, Flow) else part for part in parts if isinstance(part, FlowDef | Flow)]
    migrations = [part for part in parts if isinstance(part, MigrationRegistry)]
    others = [part for part in parts if not isinstance(part, FlowDef | Flow | MigrationRegistry)]
    strange = [part for part in others if not (isinstance(part, Handlers) or (callable(part) and not written))]
    if not flows or strange or len(others) > 1:
        wanted = "a Flow, a FlowDef, or a tuple of one, its Handlers (or a function), its sub-flows and its migrations"
        raise BadTarget(name, f"this is {_kind(found)}, not {wanted}, nor a function that returns one of these")
    by_flow = {registry.flow_name or flows[0].name: registry for registry in migrations}
    if len(by_flow) < len(migrations):
        raise BadTarget(name, "this has more than one MigrationRegistry for one flow: give them the flows' names")
    handler = [*written, *others] if written else others[0] if others else Handlers()
    return Target(flows[0], handler, tuple(flows[1:]), {**migrations_of(written), **by_flow})


def _kind(found: Any) -> str:
    if isinstance(found, tuple):
        return f"a tuple of {', '.join(type(part).__name__ for part in found) or 'nothing'}"
    return "None" if found is None else f"of type {type(found).__name__}"


@contextmanager
def _foreign(name: str, doing: str) -> Iterator[None]:
    """Turn whatever somebody else's code raises into a `BadTarget` that says where."""
    try:
        yield
    except SzalError:
        raise
    except (Exception, SystemExit) as error:
        raise BadTarget(name, f"{doing}: {describe(error)}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """Return where in the user's own files it came from."""
    place = None if isinstance(error, SyntaxError) else place_of(error)  # whose text says so
    return "" if place is None else f" ({place})"
