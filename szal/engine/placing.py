"""Where the handlers of a run are called: on threads of the engine's, on its executor, in child processes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from szal.engine.config import EngineConfig
from szal.errors import InvalidFlow
from szal.model.flow import FlowDef
from szal.model.step import StepDef
from szal.scheduler.context import Handler
from szal.scheduler.plan import Plan
from szal.steps.around import within

if TYPE_CHECKING:
    from szal.steps.processes import Processes
    from szal.steps.sending import Place, Words

__all__ = ["Processing", "check_sent", "is_elsewhere", "placed"]

Processing: TypeAlias = "Callable[[], Processes]"
"""Returns an engine's child processes: what is needed for them is loaded then."""


def is_elsewhere(flow: FlowDef, plan: Plan, config: EngineConfig) -> bool:
    """Whether handlers of *flow* are called elsewhere than on threads of the engine's."""
    if config.executor is not None:
        return True
    isolates = plan.isolates or (flow.isolation or config.isolation) == "process"
    return isolates and not config.clock.stands_still  # time that a test skips passes in no other process


def placed(
    flow: FlowDef, plan: Plan, handlers: Sequence[Handler | None], config: EngineConfig, processes: Processing
) -> Sequence[Handler | None]:
    """Return what does each step of *plan*, within what the engine has around it, in its place."""
    if not handlers or not is_elsewhere(flow, plan, config):
        return within(config.around, handlers)
    from szal.steps.in_process import InProcess
    from szal.steps.on_executor import OnExecutor
    from szal.steps.sending import IN_PROCESS, ON_EXECUTOR, sent

    words = _words(flow, plan.steps, handlers, config)
    places: dict[Words | None, Place | None] = {None: None}
    if config.executor is not None:
        places[ON_EXECUTOR] = OnExecutor(config.executor)
    if IN_PROCESS in words:
        places[IN_PROCESS] = InProcess(processes(), config.cancel_grace)
    return sent([places[each] for each in words], config.around, handlers)


def check_sent(flow: FlowDef, plan: Plan, config: EngineConfig, *handlers: Sequence[Handler | None]) -> None:
    """Raise `InvalidFlow` for what cannot be sent where it is to be called, and where there is no such place."""
    if not is_elsewhere(flow, plan, config):
        return
    from szal.steps.preparing import check_not_preparing
    from szal.steps.process import missing_here
    from szal.steps.sending import IN_PROCESS, problems_of_around, problems_of_sending

    problems: list[str] = []
    for each in filter(None, handlers):
        words = _words(flow, plan.steps, each, config)
        problems += problems_of_sending(words, each, plan.steps)
        if IN_PROCESS in words:
            check_not_preparing()
            problems += [f"isolation='process' needs a POSIX system: {missing_here()}"] * bool(missing_here())
            problems += problems_of_around(config.around, "in a child process")
    if problems:
        raise InvalidFlow(flow.name, tuple(dict.fromkeys(problems)))


def _words(
    flow: FlowDef, steps: Sequence[StepDef], handlers: Sequence[Handler | None], config: EngineConfig
) -> "list[Words | None]":
    """Return where each handler is called, None: here. A step's own isolation goes before its flow's, the engine's."""
    from szal.steps.sending import IN_PROCESS, ON_EXECUTOR, is_sent

    elsewhere = None if config.executor is None else ON_EXECUTOR
    default = flow.isolation or config.isolation
    may_isolate = not config.clock.stands_still
    return [
        None
        if handler is None or not is_sent(handler, step, config.inline)
        else IN_PROCESS
        if may_isolate and (step.isolation or default) == "process"
        else elsewhere
        for step, handler in zip(steps, handlers, strict=True)
    ]
