"""What a project says of its engine, in ``SZAL`` of its settings."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from django import conf, setup
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.autoreload import DJANGO_AUTORELOAD_ENV
from django.utils.module_loading import import_string

from szal.contrib.application import Settings
from szal.contrib.django.database import url_of
from szal.engine.opening import AsItIs
from szal.errors import did_you_mean

if TYPE_CHECKING:
    from szal.engine.opening import StoreLike
    from szal.scheduler.context import StepContext
    from szal.steps.resolving import Handling

__all__ = ["alias_of", "flows_of", "settings_of", "store_of", "store_with"]

_KNOWN: Final = ("FLOWS", "DATABASE", "STORE", "RECOVER_EVERY", "DRAIN", "THREADS", "ENGINE")


def settings_of(store: "StoreLike | None" = None) -> Settings:
    """Return what the project's engine is to be, with *store* in the place of the project's own.

    Raises `ImproperlyConfigured`, and what importing a flow raises.
    """
    given = _given()
    more: dict[str, Any] = {"inline": "never", **given.get("ENGINE", {})}
    settings = (("recover_every", "RECOVER_EVERY"), ("drain", "DRAIN"), ("threads", "THREADS"))
    own = {name: given[key] for name, key in settings if key in given}
    return Settings(
        store=AsItIs(store_of()) if store is None else store,  # `migrate` makes its tables
        flows=flows_of(),
        around=(ConnectionsKeptFresh(),),
        more=more,
        is_reloaded=os.environ.get(DJANGO_AUTORELOAD_ENV) == "true",
        **own,
    )


def alias_of() -> str:
    """Return which database of the project is the store; where that is none of them, which one goes with it."""
    given = _given()
    return DEFAULT_DB_ALIAS if "STORE" in given else str(given.get("DATABASE", DEFAULT_DB_ALIAS))


def store_of() -> str:
    """Return the URL of the store: ``STORE``, or that of the database that ``DATABASE`` names in ``DATABASES``."""
    given = _given()
    return str(given["STORE"]) if "STORE" in given else url_of(alias_of())


def store_with(alias: str) -> str | None:
    """Return the URL of the store whose tables are made together with those of a database; None: it is another's.

    One that is no database of the project is made with the default one; what can be no store has no tables.
    """
    if alias != alias_of():
        return None
    with suppress(ImproperlyConfigured):
        return store_of()
    return None


def flows_of() -> "Sequence[Handling]":
    """Return the flows of the project, imported."""
    found = _given().get("FLOWS", ())
    if isinstance(found, str):
        raise ImproperlyConfigured(f'SZAL["FLOWS"] is a list: ["{found}"]')
    return [import_string(flow) if isinstance(flow, str) else flow for flow in found]


def _given() -> Mapping[str, Any]:
    given: Mapping[str, Any] = getattr(conf.settings, "SZAL", {})
    for name in given:
        if name not in _KNOWN:
            raise ImproperlyConfigured(f"SZAL has no setting {name!r}{did_you_mean(name, _KNOWN)}")
    return given


class ConnectionsKeptFresh:
    """Does what Django does around a request: closes connections of this thread that are too old, or broken.

    Where it is sent to another process, to be entered there, the project is set up as it is loaded.
    """

    @contextmanager
    def __call__(self, _: "StepContext") -> Iterator[None]:
        _close_old_connections()
        try:
            yield
        finally:
            _close_old_connections()

    def __reduce__(self) -> "tuple[Callable[[], ConnectionsKeptFresh], tuple[()]]":
        return _set_up, ()


def _set_up() -> ConnectionsKeptFresh:
    """Have the project's models ready: functions of its applications are imported next."""
    if not apps.ready:
        setup()
    return ConnectionsKeptFresh()


def _close_old_connections() -> None:
    """Close them, but for those in a transaction: a handler may be called within one of its caller's, as in a test."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
