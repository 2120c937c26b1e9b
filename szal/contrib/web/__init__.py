"""A dashboard of executions, with the extra ``szal[web]``: see docs/observe.md."""

from szal.extra import optional

with optional("flask", "flask_wtf", extra="web", feature="the dashboard"):
    import flask  # noqa: F401 (what is below needs both)
    import flask_wtf  # noqa: F401

from szal.contrib.web.application import wsgi
from szal.contrib.web.pages import Authorize, blueprint
from szal.contrib.web.source import Given

__all__ = ["Authorize", "Given", "blueprint", "wsgi"]
