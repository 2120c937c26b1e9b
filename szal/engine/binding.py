"""What does and undoes each step of a plan, and whether it can."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import attrs

from szal.engine.config import EngineConfig
from szal.engine.placing import check_sent
from szal.errors import GiveUp, HandlerNotFound, InvalidFlow
from szal.expressions.path import Json
from szal.model.bounds import ANYTHING
from szal.model.config import faults_in, undo_of
from szal.model.fields import problems_of_inline, problems_of_names
from szal.model.flow import FlowDef
from szal.model.step import ENGINE_TYPES, StepDef
from szal.scheduler.context import Handler, StepContext
from szal.scheduler.plan import Plan
from szal.steps.handlers import call_python, do_shell, type_done_by, undo_as_configured
from szal.steps.resolving import Resolver, why_not_done
from szal.steps.up_to_date import Unless, has_files, is_up_to_date

__all__ = ["Binding", "bind", "check_configs", "is_undoable", "unbound", "undo_handler"]


@attrs.frozen(eq=False, repr=False)
class Binding:
    """The handlers of a plan's steps and their undos, by place. None: the engine does it, or nothing has to."""

    forward: Sequence[Handler | None]
    undo: Sequence[Handler | None]


def bind(flow: FlowDef, plan: Plan, resolver: Resolver, config: EngineConfig, *, rolls_back: bool = False) -> Binding:
    """Return what does and undoes each step; raise `HandlerNotFound` naming the steps that nothing does.

    *rolls_back*: what it is a sub-flow of does. Raises `InvalidFlow` for steps that the engine's settings do not
    allow.
    """
    steps = plan.steps
    if config.inline == "always" or plan.sharers:
        _check_settings(flow, plan, config)
    forward = resolver.resolve_all(steps, flow.name)
    if None in forward:
        unknown = (place for place, handler in enumerate(forward) if handler is None and place not in plan.engine_steps)
        undone = [steps[place] for place in unknown]
        if undone:
            hints = tuple(why_not_done(undone, resolver, flow.name))
            raise HandlerNotFound(tuple(step.name for step in undone), hints=hints)
    named = resolver.all_done_when(flow.name)
    by_name = [plan.places[name] for name in named if name in plan.places]
    for place in {*plan.may_be_done, *by_name} if by_name else plan.may_be_done:
        step = steps[place]
        is_done = step.done_when or named.get(step.name) or (is_up_to_date if has_files(step.config) else None)
        if is_done is not None and (handler := forward[place]) is not None:
            forward[place] = Unless(is_done, handler)
    for place in plan.engine_steps:
        forward[place] = None
    if config.execution_store is not None:
        from szal.stores.ledger import bounds_of

        bounds = bounds_of(config.execution_store)
        for place, step in enumerate(steps) if bounds is not ANYTHING else ():
            if (problem := bounds.problem_of_key(step.name)) is not None:
                forward[place] = partial(_refused, problem)
    if not (flow.rollback_on_failure or rolls_back):
        check_sent(flow, plan, config, forward)
        return Binding(forward, ())
    undo = [undo_handler(step, flow.name, resolver, config) for step in steps]
    without = (step for step, handler in zip(steps, undo, strict=True) if is_undoable(step) and handler is None)
    missing = [step.name for step in without if step.step_type != "sub_flow"]  # whose own rollback undoes it
    if missing:
        raise HandlerNotFound(tuple(missing), "rollback handler")
    check_sent(flow, plan, config, forward, undo)
    return Binding(forward, undo)


def unbound(plan: Plan) -> Binding:
    """Return what does each step of a flow whose handlers are somewhere else: szal's own are the same everywhere."""
    own: dict[str | None, Handler] = {"shell": do_shell, "python": call_python}
    forward = [own.get(step.step_type, _done_elsewhere) for step in plan.steps]
    return Binding([None if place in plan.engine_steps else each for place, each in enumerate(forward)], ())


def _done_elsewhere(ctx: StepContext) -> Json:
    raise AssertionError(f"step {ctx.step.name} is done by another process")


def check_configs(flow: FlowDef, plan: Plan, binding: Binding) -> None:
    """Raise `InvalidFlow` for what is wrong with a flow that is to be begun, though one that has begun goes on with it.

    That is configs with which what szal itself does cannot work, names of exceptions that there are not, and `flaws`.
    """
    forward, steps = binding.forward, plan.steps
    # Each step of each run comes by here: no call is made for those of the program's own.
    own = [place for place, by in enumerate(forward) if by is None or by is do_shell or by is call_python]
    named = plan.names_exceptions
    if not (own or named or plan.flaws or plan.may_be_done or binding.undo):
        return
    problems = [*plan.flaws]
    problems += [f"step {step.name!r}: {problem}" for step in named for problem in problems_of_names(step)]
    own += [place for place in plan.may_be_done if isinstance(forward[place], Unless) and type_done_by(forward[place])]
    for step, step_type in ((steps[place], type_done_by(forward[place]) or steps[place].step_type) for place in own):
        problems += [f"step {step.name!r}: {fault}" for fault in faults_in(str(step_type), step.config)]
    undone = [step for step, by in zip(steps, binding.undo, strict=False) if by is undo_as_configured]
    if not binding.undo:  # as nothing is undone: what is wrong there is told all the same
        configs = ((steps[place], steps[place].config) for place in own)
        undone = [step for step, config in configs if isinstance(config, Mapping) and "rollback" in config]
    for step in undone:
        problems += [f"step {step.name!r}: config.rollback: {fault}" for fault in faults_in(*undo_of(step.config))]
    if problems:
        raise InvalidFlow(flow.name, tuple(problems))


def _check_settings(flow: FlowDef, plan: Plan, config: EngineConfig) -> None:
    """Raise `InvalidFlow` for steps that the engine's settings do not allow: they could never run, or end in time."""
    problems = [
        f"step {step.name!r}: {problem}; give it inline='auto'"
        for step in plan.steps
        if step.inline is None and step.step_type not in ENGINE_TYPES and not config.clock.stands_still
        for problem in problems_of_inline(step, config.inline, " of the engine")
    ]
    if flow.isolation == "process" and config.inline == "always" and not config.clock.stands_still:
        problems.append("the flow's isolation='process' and inline='always' of the engine: give that inline='auto'")
    for step in plan.sharers:
        short = {name: n for name, n in step.resources.items() if n > config.capacities.get(name, 1)}
        there_is = {**dict.fromkeys(short, 1), **_capacities(config, short), **config.capacities}
        problems += [
            f"step {step.name!r}: it needs {n} of {name!r}, and there is {there_is[name]}:"
            f" EngineConfig(capacities={{{name!r}: {n}}}), or store.set_capacity({name!r}, {n}) (szal capacity)"
            for name, n in short.items()
            if n > there_is[name]
        ]
    if problems:
        raise InvalidFlow(flow.name, tuple(problems))


def _capacities(config: EngineConfig, names: Collection[str]) -> dict[str, int]:
    """Return how much all engines of the store have of these together, where it says so."""
    if not names or config.execution_store is None:
        return {}
    from szal.stores.ledger import ledger_of

    ledger = ledger_of(config.execution_store)
    found = {} if ledger is None else ledger.limits.capacities()
    return {name: found[name] for name in names if name in found}


def _refused(problem: str, ctx: StepContext) -> Json:  # noqa: ARG001 (a handler is given it)
    """Fail in the place of a step whose outcome the store could not hold."""
    raise GiveUp(f"the name of this step {problem}")


def undo_handler(step: StepDef, flow_name: str, resolver: Resolver, config: EngineConfig) -> Handler | None:
    """Return what undoes *step*: what is registered for it, or for a rollbackable one the engine's; else None."""
    own = resolver.resolve_rollback(step, flow_name)
    return config.rollback_handler if own is None and is_undoable(step) else own


def is_undoable(step: StepDef) -> bool:
    """Whether *step* says that something undoes it."""
    return step.rollbackable or step.undo_on_failure
