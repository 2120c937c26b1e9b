"""A dashboard of executions, with the extra ``szal[web]``: see docs/observe.md."""

try:
    import flask as _flask
    import flask_wtf as _flask_wtf
except ModuleNotFoundError as error:
    if error.name not in ("flask", "flask_wtf"):
        raise
    raise ModuleNotFoundError(
        'szal.contrib.web needs Flask and Flask-WTF: pip install "szal[web]"', name=error.name
    ) from None

from szal.contrib.web.application import wsgi
from szal.contrib.web.pages import Authorize, blueprint
from szal.contrib.web.source import Given

__all__ = ["Authorize", "Given", "blueprint", "wsgi"]

del _flask, _flask_wtf
