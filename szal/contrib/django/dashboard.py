"""The dashboard in a Django project, with the extra ``szal[web]``: see docs/django.md."""

from collections.abc import Callable
from functools import cache
from http.cookies import SimpleCookie
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import django.conf
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.urls import re_path
from django.views.decorators.csrf import csrf_exempt

from szal.contrib.application import EXTENSION
from szal.contrib.django import application as project
from szal.contrib.django import engine

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["Authorize", "dashboard", "is_staff"]

Authorize = Callable[[HttpRequest, str, str | None], bool]
"""Whether a request may do this ("look", "resume", …) with an execution, or, with None, with what a page shows."""

_REQUEST: Final = "szal.django.request"


def is_staff(request: HttpRequest, _action: str, _execution_id: str | None) -> bool:
    """Whether somebody has signed in who is staff, as for Django's own admin."""
    user: Any = getattr(request, "user", None)
    return bool(user is not None and user.is_active and user.is_staff)


def dashboard(actions: bool = False, authorize: Authorize = is_staff) -> list[Any]:
    """Return the dashboard's pages, to be included: ``path("szal/", include(dashboard()))``.

    They show what the project's engine records. Only staff gets to see them, unless *authorize* says otherwise; whoever
    has not signed in is led to ``LOGIN_URL``. With *actions* executions can be told something, and taken up in the
    process that serves the page. Raises `MissingExtra` without ``szal[web]``, at the first request.
    """

    @cache
    def application() -> "Flask":
        return _application(actions, authorize)

    def view(request: HttpRequest, path: str) -> HttpResponseBase:
        if not (_is_signed_in(request) or authorize(request, "look", None)):
            query = urlencode({"next": request.get_full_path()}, safe="/")
            return HttpResponseRedirect(f"{resolve_url(django.conf.settings.LOGIN_URL)}?{query}")
        return _answer(application(), request, path)

    # Its forms have tokens of their own. It looks at what is committed, and what it tells is committed.
    shown: Any = csrf_exempt(transaction.non_atomic_requests(view))
    return [re_path(r"^(?P<path>[\s\S]*)\Z", shown)]


def _is_signed_in(request: HttpRequest) -> bool:
    return bool(getattr(getattr(request, "user", None), "is_authenticated", False))


def _application(actions: bool, authorize: Authorize) -> "Flask":
    import flask

    from szal.contrib.web import wsgi

    def may(action: str, execution_id: str | None) -> bool:
        return authorize(flask.request.environ[_REQUEST], action, execution_id)

    made = wsgi(engine, actions, may, secret_key=django.conf.settings.SECRET_KEY)
    made.extensions[EXTENSION] = project()  # what it streams, and what the project's own views do, count together
    made.config["SESSION_COOKIE_SECURE"] = django.conf.settings.SESSION_COOKIE_SECURE
    return made


def _answer(application: "Flask", request: HttpRequest, path: str) -> HttpResponseBase:
    """Return what *application* answers, mounted where *path* begins."""
    from werkzeug import Response

    mount = request.path.removesuffix(path).rstrip("/")
    environ = {
        **getattr(request, "environ", request.META),
        "SCRIPT_NAME": mount.encode().decode("latin-1"),
        "PATH_INFO": f"/{path}".encode().decode("latin-1"),
        "wsgi.input": BytesIO(request.body),
        "CONTENT_LENGTH": str(len(request.body)),
        _REQUEST: request,
    }
    found = Response.from_app(application, environ)
    answer: HttpResponseBase
    if found.mimetype == "text/event-stream":
        answer = StreamingHttpResponse(found.response, status=found.status_code)  # Django closes it
    else:
        with found:
            answer = HttpResponse(found.get_data(), status=found.status_code)
    for name, value in found.headers.items():
        if name.lower() == "set-cookie":
            answer.cookies.update(SimpleCookie(value))
        elif name.lower() != "content-length":
            answer[name] = value
    return answer
