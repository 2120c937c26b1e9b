"""Pages as HTML. The templates are szal's own, with an environment of their own: whatever an application has set for
its own, here everything is escaped."""

import re
from functools import cache
from hashlib import blake2b
from typing import Final, cast

import jinja2
from flask import Response, current_app, request, url_for
from flask_wtf.csrf import generate_csrf

from szal.contrib.web import shown

__all__ = ["POLICY", "page", "secured", "token_field"]

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("szal.contrib.web")
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.globals.update({name: getattr(shown, name) for name in shown.__all__})
    return made


_HIDDEN: Final = re.compile(rb'<input type="hidden"[^>]*>')
"""Tokens and ids of forms, which are new each time: they are no change."""


def page(template: str, status: int = 200, **values: object) -> Response:
    """Return a page, or 304 to who has it as it is. What no text can hold is replaced."""
    text = _environment().get_template(template).render(url_for=url_for, csrf_field=_csrf_field, **values)
    body = text.encode(errors="replace")
    answer = Response(body, status, content_type="text/html; charset=utf-8")
    if status != 200:
        return answer
    answer.set_etag(blake2b(_HIDDEN.sub(b"", body), digest_size=12).hexdigest(), weak=True)
    return cast("Response", answer.make_conditional(request))


def _csrf_field() -> tuple[str, str]:
    """Return the name and the value of the field that each form has."""
    return token_field(), generate_csrf()


def token_field() -> str:
    """Return the name of the field that holds the token of a form."""
    return str(current_app.config.get("WTF_CSRF_FIELD_NAME", "csrf_token"))


def secured(response: Response) -> Response:
    """Return an answer with the headers that each has."""
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    if not response.headers.get("Cache-Control"):
        response.headers["Cache-Control"] = "no-store"
    return response
