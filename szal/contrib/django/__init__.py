"""szal in a Django project, with the extra ``szal[django]``: see docs/django.md."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from szal.contrib.application import ApplicationEngine, without_context
from szal.engine.engine import Engine
from szal.errors import ExecutionOwned
from szal.extra import optional
from szal.model.step import new_id

with optional("django", extra="django", feature="szal.contrib.django"):
    import django.apps
    from django.core.exceptions import ImproperlyConfigured
    from django.db.transaction import atomic, get_connection, on_commit

if TYPE_CHECKING:
    from datetime import datetime

    from django.http import HttpRequest, StreamingHttpResponse

    from szal.contrib.django.apps import SzalConfig
    from szal.expressions.path import Json
    from szal.model.flow import Defined, FlowDef
    from szal.scheduler.context import StepContext

__all__ = ["application", "close", "engine", "start", "stream", "submit", "transaction"]


def engine() -> Engine:
    """Return the project's engine, which is opened in this process at its first use. Raises what that does.

    It knows the flows of ``SZAL["FLOWS"]``, and records in the project's database.
    """
    return application().get()


def start(
    flow: "FlowDef | Defined",
    inputs: "Mapping[str, Json] | None" = None,
    *,
    execution_id: str | None = None,
    labels: Mapping[str, str] | None = None,
    signal: "tuple[str, Json] | None" = None,
    using: str | None = None,
) -> str:
    """Start *flow* once the transaction is committed that is open on the database *using*; at once, where none is.

    Returns the execution's id. Raises what is wrong with the call now, before anything is committed. If the transaction
    is rolled back, nothing starts. If somebody runs the execution of that id once it is committed, that is all right;
    without a transaction, `ExecutionOwned` is raised. Otherwise it is `Engine.start`, without the context variables of
    whoever calls: what steps need of a request are inputs.
    """
    execution_id = new_id() if execution_id is None else execution_id
    found = engine()
    found.check_start(flow, inputs, execution_id=execution_id, labels=labels)
    begin = partial(found.start, flow, inputs, execution_id=execution_id, labels=labels, signal=signal)
    if get_connection(using).in_atomic_block:
        on_commit(partial(_start_unless_it_runs, begin), using=using)
    else:
        without_context(begin)
    return execution_id


def _start_unless_it_runs(begin: Callable[[], object]) -> None:
    try:
        without_context(begin)
    except ExecutionOwned:
        return  # the request is answered for: what it wanted is under way


def submit(
    flow: "FlowDef | Defined",
    inputs: "Mapping[str, Json] | None" = None,
    *,
    execution_id: str | None = None,
    labels: "Mapping[str, str] | None" = None,
    queue: str = "default",
    priority: int = 0,
    not_before: "datetime | None" = None,
    using: str | None = None,
) -> str:
    """Record an execution for a worker, in the transaction that is open on the project's database; return its id.

    It is committed with what the request has written there, or not at all: a worker (``manage.py szal_worker``) begins
    what is committed. Without a transaction it is committed at once. The database, or *using*, has to be the store's.
    Otherwise it is `Engine.submit`, and raises what that does: ValueError or TypeError, too, where that is another one.
    """
    from szal.contrib.django.settings import alias_of

    given: Mapping[str, Any] = {"execution_id": execution_id, "labels": labels, "queue": queue, "priority": priority}
    found = engine()
    record = partial(found.submit, flow, inputs, not_before=not_before, **given)
    alias = alias_of() if using is None else using
    if application().is_replaced:  # by a test's, which records in memory
        execution_id = new_id() if execution_id is None else execution_id
        found.check_start(flow, inputs, execution_id=execution_id, labels=labels)
        on_commit(partial(record, execution_id=execution_id), using=alias)
        return execution_id
    connection = get_connection(alias)
    with nullcontext() if connection.in_atomic_block else atomic(using=alias):
        connection.ensure_connection()
        return record(connection=connection.connection)


def stream(request: "HttpRequest", execution_id: str, *, keep_alive: float = 15.0) -> "StreamingHttpResponse":
    """Return the answer of a view: how an execution gets on, as Server-Sent Events (`sse_stream`, with outputs).

    It holds a thread of the server, for 25 seconds at most, then the browser comes back. Where half of the threads
    stream (``SZAL["THREADS"]``), there is one only, or the server is none of WSGI's, it is 503 with Retry-After: the
    page polls then. Raises `ExecutionNotFound`.
    """
    from django.http import StreamingHttpResponse

    last, is_threaded = request.headers.get("Last-Event-ID"), bool(request.META.get("wsgi.multithread"))
    answer = application().stream(execution_id, last, is_threaded=is_threaded, keep_alive=keep_alive)
    return StreamingHttpResponse(answer.body, status=answer.status, headers=answer.headers)


@contextmanager
def transaction(ctx: "StepContext", using: str | None = None, *, output: object = ...) -> Iterator[Any]:
    """Return a block, one in each attempt, whose writes through Django are committed with the step's outcome.

    It is an `atomic` block of the project's database (or of *using*, which has to be the store's), the outermost one:
    as it is left, both are committed, or, by an exception, neither. So it comes last in the step. Later steps find
    *output*, a value or what a function returns as the block is left; without it, what the handler returns, which a
    crash between the commit and that loses.

    Gives Django's connection. Raises what `StepContext.transaction` does, and RuntimeError within another transaction.
    """
    from szal.contrib.django.settings import alias_of

    alias = alias_of() if using is None else using
    connection = get_connection(alias)
    connection.ensure_connection()
    is_within = connection.in_atomic_block  # of a test's; any other is refused by atomic
    block = None if is_within else ctx.transaction(connection=connection.connection, output=output)
    with (
        atomic(using=alias, durable=True),  # which may have SQLite's write lock from here on
        block or ctx.transaction(connection=connection.connection, output=output),
    ):
        yield connection


def close(drain: float | None = None) -> None:
    """Close the project's engine in this process, as `Engine.close` does; its next use opens another.

    A process that ends does so by itself. Tests call it before their database is dropped.
    """
    application().close(drain)


def application() -> ApplicationEngine:
    """Return what has the project's engine. Raises `ImproperlyConfigured`."""
    try:
        config = django.apps.apps.get_app_config("szal")
    except LookupError:
        raise ImproperlyConfigured('add "szal.contrib.django" to INSTALLED_APPS') from None
    return cast("SzalConfig", config).application
