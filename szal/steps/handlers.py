"""Which function does which step."""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from szal.errors import GiveUp, ShellNotSupported
from szal.expressions.path import Json
from szal.function import check_handler, does_nothing_yet
from szal.model.config import undo_of
from szal.model.step import ENGINE_TYPES, StepDef
from szal.scheduler.context import Handler, StepContext
from szal.steps.up_to_date import IsDone, Unless

__all__ = [
    "Handlers",
    "call_named",
    "call_python",
    "do_shell",
    "named_call",
    "type_done_by",
    "undo_as_configured",
]

_F = TypeVar("_F", bound=Handler)


class Handlers:
    """A registry: a step is done by what is registered for its name, else for its type, else by the default.

    It brings the types "shell" (`szal.steps.shell.run_shell`) and "python" (`call_python`). Fill it before the
    engine runs. With `strict`, an engine refuses to begin a flow while it has handlers for steps, or types of steps,
    that are neither in that flow, its sub-flows nor in `EngineConfig.storage` (`UnusedHandlers`).

    >>> handlers = Handlers()
    >>> @handlers.step("build")
    ... def build(ctx):
    ...     return {"wheel": "szal-1.whl"}
    >>> @handlers.rollback("build")
    ... def unbuild(ctx):
    ...     print("removing", ctx.output["wheel"])
    >>> handlers.resolve(StepDef("build")) is build
    True
    """

    def __init__(self, default: Handler | None = None, *, strict: bool = False) -> None:
        if default is not None:
            check_handler(default, "the default handler")
        self.strict = strict
        self._default = default
        self._steps: dict[str, Handler] = {}
        self._types: dict[str, Handler] = {"shell": do_shell, "python": call_python}
        self._done: dict[str, IsDone] = {}
        self._rollbacks: dict[str, Handler] = {}
        self._type_rollbacks: dict[str, Handler] = {}

    def step(self, name: str) -> Callable[[_F], _F]:
        """Return a decorator that registers a function for the step called *name*."""
        return _register(self._steps, name, "step")

    def step_type(self, name: str) -> Callable[[_F], _F]:
        """Return a decorator that registers a function for all steps of the type *name*.

        Raises ValueError for a type that is the engine's own ("sub_flow", "wait", "sleep").
        """
        given: object = name
        if isinstance(given, str) and given in ENGINE_TYPES:
            raise ValueError(f"step type {name!r} is the engine's own")
        return _register(self._types, name, "step_type")

    def done_when(self, name: str) -> Callable[[_F], _F]:
        """Return a decorator that registers a function of ``ctx`` which says whether the work of step *name* is there.

        It is asked before the first attempt, on its thread; where it is true the step is skipped, "up to date". It
        counts where `StepDef.done_when` says nothing.

        >>> handlers = Handlers(lambda ctx: print("downloading"))
        >>> @handlers.done_when("download")
        ... def is_there(ctx):
        ...     return True
        >>> from szal import Engine, FlowDef
        >>> with Engine(handlers) as engine:
        ...     engine.run(FlowDef("f", steps=[StepDef("download")]))["download"].error
        'up to date'
        """
        return _register(self._done, name, "done_when")

    def rollback(self, name: str) -> Callable[[_F], _F]:
        """Return a decorator that registers a function that undoes the step called *name*."""
        return _register(self._rollbacks, name, "rollback")

    def type_rollback(self, name: str) -> Callable[[_F], _F]:
        """Return a decorator that registers a function that undoes steps of the type *name*."""
        return _register(self._type_rollbacks, name, "type_rollback")

    def resolve(self, step: StepDef) -> Handler | None:
        """Return what does *step*, or None."""
        return self._steps.get(step.name, self._types.get(step.step_type or "", self._default))

    def resolve_all(self, steps: Sequence[StepDef], flow_name: str = "") -> list[Handler | None]:  # noqa: ARG002
        """Return what does each of *steps*, or None; raise `ShellNotSupported` for commands that cannot run here."""
        found = [self.resolve(step) for step in steps]
        if do_shell in found:
            _check_shell(step.name for step, handler in zip(steps, found, strict=True) if handler is do_shell)
        return found

    def resolve_rollback(self, step: StepDef, flow_name: str = "") -> Handler | None:  # noqa: ARG002
        """Return what undoes *step*, or None: its ``config["rollback"]`` comes last."""
        found = self._rollbacks.get(step.name, self._type_rollbacks.get(step.step_type or ""))
        if found is None and isinstance(step.config, Mapping) and "rollback" in step.config:
            if undo_of(step.config)[0] == "shell":
                _check_shell([step.name])
            return undo_as_configured
        return found

    def all_done_when(self, flow_name: str = "") -> Mapping[str, IsDone]:  # noqa: ARG002
        """Return what says of steps, by name, whether their work is there."""
        return self._done

    def inputs_of(self, flow_name: str) -> None:
        """Return None: handlers of ``ctx`` tell nothing of the inputs that they take."""

    def step_types(self, flow_name: str = "") -> Collection[str]:  # noqa: ARG002
        """Return the types of steps that it does."""
        return self._types.keys()

    def registered_for(self) -> Iterator[tuple[str, str]]:
        """Yield what it has handlers for that it did not bring: each name, and whether that is a step or a type."""
        brought = ("shell", "python")
        yield from (("step", name) for name in {**self._steps, **self._rollbacks, **self._done})
        yield from (("step type", name) for name in {**self._types, **self._type_rollbacks} if name not in brought)


def _check_shell(steps: Iterable[str]) -> None:
    from szal.steps.process import missing_here

    if missing := missing_here():
        raise ShellNotSupported(tuple(steps), missing=missing)


def _register(table: dict[str, Handler], name: str, decorator: str) -> Callable[[_F], _F]:
    given: object = name
    if not isinstance(given, str):
        called = getattr(given, "__name__", "…")
        raise TypeError(f"the name is missing: write @handlers.{decorator}({called!r})")

    def register(function: _F) -> _F:
        check_handler(function, f"the handler of {decorator} {name!r}")
        if name in table:
            raise ValueError(f"{name!r} is registered already: {table[name]!r}")
        table[name] = function
        return function

    return register


def undo_as_configured(ctx: StepContext) -> Json:
    """Do what ``config["rollback"]`` says: ``{"run": command}`` or ``{"call": "module:function", "args": …}``."""
    step_type, config = undo_of(ctx.step.config)
    return call_python(ctx, config) if step_type == "python" else do_shell(ctx, config)


def type_done_by(handler: Handler | None) -> str | None:
    """Return the type that szal brings *handler* for, if it is one of these."""
    if isinstance(handler, Unless):
        handler = handler.handler
    return "shell" if handler is do_shell else "python" if handler is call_python else None


def call_python(ctx: StepContext, config: Mapping[str, Json] | None = None) -> Json:
    """Call ``config["call"]`` ("pkg.mod:function"), and return what it returns.

    ``config["args"]`` is an object of keyword arguments or an array of positional ones. A parameter called
    ``ctx`` that is not among them is given the step's context. The module is imported on the step's thread.
    Raises `GiveUp` where there is no such function, or *config* could not work otherwise, and what the module and the
    function raise.
    """
    name, positional, named = named_call(ctx, ctx.step.config if config is None else config)
    return call_named(ctx.step.name, name, ctx, positional, named)


def named_call(ctx: StepContext, config: Mapping[str, Json]) -> tuple[str, list[Json], dict[str, Json]]:
    """Return which function *config* names, and with what it is called. Raises `GiveUp` where that cannot work."""
    from szal.steps.machine import check_action

    check_action(ctx, "python", config)
    arguments = ctx.render(config.get("args") or {})
    check_action(ctx, "python", {**config, "args": arguments}, rendered=True)
    return (config["call"], arguments, {}) if isinstance(arguments, list) else (config["call"], [], dict(arguments))


def call_named(step: str, name: str, ctx: object, positional: Sequence[Json], named: Mapping[str, Json]) -> Json:
    """Import the function called *name*, and call it; where it takes a ``ctx`` that is not among *named*, with that."""
    function = _function(step, name)
    if "ctx" not in named and _takes_ctx(function):
        named = {**named, "ctx": ctx}
    return function(*positional, **named)


def _function(step: str, name: str) -> Callable[..., Json]:
    from szal.steps.lookup import NotThere, import_object

    try:
        function = import_object(name)
    except (NotThere, ImportError) as error:  # it is not there, or what it needs is not
        raise GiveUp(f"step {step!r}: config.call {name!r}: {error}") from error
    if not callable(function):
        raise GiveUp(f"step {step!r}: config.call {name!r} is no function, but of type {type(function).__name__}")
    if (problem := does_nothing_yet(function)) is not None:
        raise GiveUp(f"step {step!r}: config.call {name!r} {problem}")
    return function  # type: ignore[no-any-return]


def do_shell(ctx: StepContext, config: Mapping[str, Json] | None = None) -> Json:
    """Run a command, with `szal.steps.shell.run_shell`: loaded by the first, since many programs have none."""
    from szal.steps.shell import run_shell

    return run_shell(ctx, config)


def _takes_ctx(function: Callable[..., Json]) -> bool:
    try:
        return "ctx" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return False
