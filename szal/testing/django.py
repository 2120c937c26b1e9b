"""The engine of a Django project in a test: in the test's own transaction, as nothing is done by another thread."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from szal.contrib.django import application
from szal.contrib.django.settings import settings_of
from szal.steps.resolving import Authored
from szal.testing.under_test import EngineUnderTest, engine

__all__ = ["project_engine"]


@contextmanager
def project_engine(**options: Any) -> Iterator[EngineUnderTest]:
    """Return a context manager, which has the project's engine be one for tests: `szal.testing.engine`, with *options*.

    It has the flows of ``SZAL["FLOWS"]``, and records in memory. What `szal.contrib.django.start` starts, or
    `submit` submits, runs at once, on the thread and the database connections of whoever calls it: in a `TestCase`, in
    its transaction, which is taken back when the test ends. Both wait for the commit there:
    ``self.captureOnCommitCallbacks(execute=True)``.
    """
    settings = settings_of("memory:")
    flows = [flow for flow in settings.flows if isinstance(flow, Authored)]
    given: dict[str, Any] = {**settings.config, "inline": "always", "eager": True, "handler": settings.flows, **options}
    with engine(*flows, **given) as made, application().replaced(made):
        yield made
