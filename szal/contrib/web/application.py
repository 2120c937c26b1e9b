"""The dashboard as an application of its own, for any server that speaks WSGI."""

import secrets

from flask import Flask, Response, url_for
from werkzeug.exceptions import HTTPException

from szal.contrib.web.pages import Authorize, blueprint
from szal.contrib.web.rendering import secured
from szal.contrib.web.source import THREADS, Given

__all__ = ["wsgi"]


def wsgi(
    engine_or_store: Given,
    actions: bool = False,
    authorize: Authorize | None = None,
    *,
    secret_key: str | bytes | None = None,
    threads: int = THREADS,
) -> Flask:
    """Return the dashboard as a WSGI application; what is given is as of `blueprint`.

    With *actions* it needs a *secret_key*, the same in each process that serves it: it signs the tokens of forms.
    Mounted below a path by the server (``SCRIPT_NAME``), its links lead there.

    >>> application = wsgi("memory:")
    >>> application.test_client().get("/waiting").status_code
    200
    """
    if actions and not secret_key:
        raise ValueError("actions need a secret_key, the same in each process: secret_key=os.environ['SECRET_KEY']")
    app = Flask(__name__, static_folder=None)
    app.config.update(
        SECRET_KEY=secret_key or secrets.token_bytes(32),
        SESSION_COOKIE_NAME="szal_dashboard",
        SESSION_COOKIE_SAMESITE="Strict",
        WTF_CSRF_TIME_LIMIT=None,  # a page may be open all day; its token is the session's
        MAX_CONTENT_LENGTH=4 * 1024 * 1024,
    )
    app.register_blueprint(blueprint(engine_or_store, actions, authorize, threads=threads))
    app.after_request(secured)

    @app.errorhandler(404)
    def nothing(_: HTTPException) -> Response:
        first = url_for("szal.executions")
        return Response(f"There is no such page. The first one is {first}\n", 404, mimetype="text/plain")

    return app
