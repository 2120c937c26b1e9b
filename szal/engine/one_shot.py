"""A flow run by an engine made for it: what a script needs."""

from collections.abc import Mapping, Sequence
from typing import Literal

from szal.engine.config import Durability
from szal.engine.engine import Engine
from szal.engine.opening import StoreLike, check_settings, config_of
from szal.expressions.path import Json
from szal.model.flow import Defined, FlowDef
from szal.model.results import FlowResult
from szal.scheduler.cancel import CancellationToken
from szal.steps.handlers import Handlers
from szal.steps.resolving import Authored, Handling

__all__ = ["run"]


def run(
    flow: FlowDef | Defined,
    inputs: Mapping[str, Json] | None = None,
    *,
    handler: Handling | Sequence[Handling] | None = None,
    store: "StoreLike | None" = None,
    execution_id: str | None = None,
    durability: Durability = "flow",
    labels: Mapping[str, str] | None = None,
    cancel: CancellationToken | None = None,
    retry_failed: bool = False,
    if_running: Literal["raise", "wait"] = "raise",
    **config: object,
) -> FlowResult:
    """Run *flow* with an engine made for it, recorded in `store`: a URL, a path, a store or its sink, as `Engine.open`.

    Without a store nothing is recorded. `handler` is as for `Engine`; a `szal.Flow` brings its own. Without one the
    flow's steps must be of the types that `Handlers` brings. `config` are settings of `EngineConfig`, and
    `execution_id`, `labels`, `cancel`, `retry_failed` and `if_running` as for `Engine.run`.

    >>> run(FlowDef("hello"), handler=lambda ctx: "world").success
    True
    >>> run(FlowDef("hello"), store=42)
    Traceback (most recent call last):
    TypeError: store must be a URL, a path, a store or its sink, not int
    """
    does: Handling | Sequence[Handling] = flow if isinstance(flow, Authored) else Handlers()
    if handler is not None:
        does = handler
    settings = {"durability": durability, **config}
    check_settings(settings, inputs_of=flow)
    if store is None:
        engine = Engine(does, config_of(None, settings))
    else:
        engine = Engine.open(store, *(does if isinstance(does, list | tuple) else (does,)), **settings)
    with engine:
        return engine.run(
            flow,
            inputs,
            execution_id=execution_id,
            cancel=cancel,
            labels=labels,
            retry_failed=retry_failed,
            if_running=if_running,
        )
