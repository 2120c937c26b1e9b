"""szal in a Flask application, with the extra ``szal[flask]``: see docs/flask.md."""

import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from szal.contrib.application import EXTENSION, ApplicationEngine, Settings, without_context
from szal.engine.engine import Engine
from szal.engine.opening import config_of
from szal.extra import optional

with optional("flask", extra="flask", feature="szal.contrib.flask"):
    from flask import Flask, Response, current_app, request

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from szal.engine.execution import Execution
    from szal.expressions.path import Json
    from szal.model.flow import Defined, FlowDef
    from szal.scheduler.context import StepContext
    from szal.steps.resolving import Handling
    from szal.stores.sink.sink import Sink

__all__ = ["Szal"]

_SETTINGS: Final = (
    ("recover_every", "SZAL_RECOVER_EVERY"),
    ("drain", "SZAL_DRAIN"),
    ("threads", "SZAL_THREADS"),
)
_RELOADED: Final = "WERKZEUG_RUN_MAIN"
"""The variable that says of a process that it begins again whenever a file changes."""


class Szal:
    """The engine of a Flask application, and what it runs: *flows*, with *config* as the settings of `EngineConfig`.

    Around each attempt and each undo is the context of the application: `current_app` and a `g` of its own, and what is
    registered with `teardown_appcontext` is called after it. There is no request.

    In the application's config: ``SZAL_STORE``, a URL or the path of an SQLite file, has to be there.
    ``SZAL_RECOVER_EVERY`` (10): how often each process looks for executions that nobody runs, in seconds; None: never.
    ``SZAL_DRAIN`` (20): how many seconds a process that ends waits for the steps that it runs; what they leave, another
    process goes on with. ``SZAL_THREADS`` (4): how many requests each process serves at a time; half of them may
    stream.

    >>> import szal
    >>> from flask import Flask, current_app
    >>> greet = szal.Flow("greet")
    >>> @greet.step
    ... def hello(name):
    ...     return f"hello {name}, from {current_app.name}"
    >>> flows = Szal(greet)
    >>> app = Flask("shop")
    >>> app.config["SZAL_STORE"] = "memory:"
    >>> flows.init_app(app)
    >>> @app.post("/greetings/<name>")
    ... def start(name):
    ...     return flows.start(greet, {"name": name}).execution_id
    >>> execution_id = app.test_client().post("/greetings/Ada").text
    >>> with app.app_context():
    ...     flows.engine.result(execution_id, timeout=10).outputs
    {'hello': 'hello Ada, from shop'}
    >>> flows.close(app)
    """

    def __init__(self, *flows: "Handling", app: Flask | None = None, **config: object) -> None:
        config_of(None, config)  # what is wrong with it is told here, and not at the first request
        self._flows = flows
        self._config = config
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Bind it to an application. Nothing is opened: that happens with the first request, in each process."""
        if EXTENSION in app.extensions:
            raise RuntimeError(f"{app.name} has an engine: give all flows to one Szal")
        bound = app.extensions[EXTENSION] = ApplicationEngine(partial(self._settings_of, app))

        def serve() -> None:
            if not app.testing:
                bound.serve()

        app.before_request(serve)

    def serve(self, app: Flask) -> None:
        """Have this process go on with what others have left, from now on, as its first request does.

        On a thread: it returns at once. For a process that may have no request for long.
        """
        _bound_to(app).serve()

    @property
    def engine(self) -> Engine:
        """The engine of the current application, opened in this process at its first use. Raises what that does."""
        return _bound_to(current_app).get()

    @property
    def store(self) -> "Sink":
        """Where it records, as the engine has it: to `find` and `count` executions. Raises what `engine` does."""
        return cast("Sink", self.engine.config.execution_store)

    def start(
        self,
        flow: "FlowDef | Defined",
        inputs: "Mapping[str, Json] | None" = None,
        *,
        execution_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        signal: "tuple[str, Json] | None" = None,
    ) -> "Execution":
        """Do what `Engine.start` does, without the request: no step sees anything of it, the first as little as others.

        What steps need of it are inputs.
        """
        start = partial(self.engine.start, flow, inputs, execution_id=execution_id, labels=labels, signal=signal)
        return without_context(start)

    def stream(self, execution_id: str, *, keep_alive: float = 15.0) -> Response:
        """Return the answer of a view: how an execution gets on, as Server-Sent Events (`sse_stream`, with outputs).

        It holds a thread of the server, for 25 seconds at most, then the browser comes back. Where half of the threads
        stream (``SZAL_THREADS``), or there is one only, it is 503 with Retry-After: the page polls then. Raises
        `ExecutionNotFound`.
        """
        last, is_threaded = request.headers.get("Last-Event-ID"), bool(request.environ.get("wsgi.multithread"))
        bound = _bound_to(current_app)
        answer = bound.stream(execution_id, last, is_threaded=is_threaded, keep_alive=keep_alive)
        return Response(answer.body, answer.status, {**answer.headers})

    def close(self, app: Flask, drain: float | None = None) -> None:
        """Close the application's engine in this process, as `Engine.close` does; its next use opens another.

        A process that ends does so by itself. Tests that make applications call it for each.
        """
        _bound_to(app).close(drain)

    def _settings_of(self, app: Flask) -> Settings:
        store = app.config.get("SZAL_STORE")
        if store is None:
            raise RuntimeError('the application has no store: set app.config["SZAL_STORE"] = "sqlite:////var/szal.db"')
        given: dict[str, Any] = {name: app.config[key] for name, key in _SETTINGS if key in app.config}
        is_reloaded = os.environ.get(_RELOADED) == "true"
        around = (_Context(app),)
        return Settings(
            store=store, flows=self._flows, around=around, more=self._config, is_reloaded=is_reloaded, **given
        )


def _bound_to(app: Flask) -> ApplicationEngine:
    try:
        return cast("ApplicationEngine", app.extensions[EXTENSION])
    except KeyError:
        raise RuntimeError(f"{app.name} has no engine: call Szal(…).init_app(app)") from None


@attrs.frozen(eq=False, slots=False)  # with slots, attrs 23.2 has no cached properties
class _Context:
    """Enters the context of an application. A pickle of it says where that is found by import."""

    app: Flask

    def __call__(self, _: "StepContext") -> "AbstractContextManager[Any]":
        return self.app.app_context()

    def __reduce__(self) -> "tuple[Callable[[str, str], _Context], tuple[str, str]]":
        return _context_in, self._place

    @cached_property
    def _place(self) -> tuple[str, str]:
        """The module that has the application, its own before others that import it, and its name there."""
        for module in (self.app.import_name, *sys.modules.copy()):
            for name, value in getattr(sys.modules.get(module), "__dict__", {}).copy().items():
                if value is self.app:
                    return module, name
        raise LookupError(
            f"the application {self.app.name} is not found by import: "
            "have a module say app = create_app() at its top level, and serve that"
        )


def _context_in(module: str, name: str) -> _Context:
    return _Context(getattr(import_module(module), name))
