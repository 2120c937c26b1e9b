"""A flow run by an engine made for it: what a script needs."""

from collections.abc import Mapping, Sequence

from szal.engine.config import EngineConfig
from szal.engine.engine import Engine
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
    store: str | None = None,
    labels: Mapping[str, str] | None = None,
    cancel: CancellationToken | None = None,
) -> FlowResult:
    """Run *flow* with an engine made for it, recorded in the store at the URL `store` ("sqlite:///szal.db").

    `handler` is as for `Engine`; a `szal.Flow` brings its own. Without one the flow's steps must be of the types that
    `Handlers` brings.

    >>> run(FlowDef("hello"), handler=lambda ctx: "world").success
    True
    """
    from szal.stores import open_store  # the databases' libraries are slow to import, and optional here

    resolver: Handling | Sequence[Handling] = handler or (flow if isinstance(flow, Authored) else Handlers())
    if store is None:
        with Engine(resolver) as engine:
            return engine.run(flow, inputs, labels=labels, cancel=cancel)
    with (
        open_store(store) as opened,
        opened.engine_sink() as sink,
        Engine(resolver, EngineConfig(execution_store=sink)) as engine,
    ):
        return engine.run(flow, inputs, labels=labels, cancel=cancel)
