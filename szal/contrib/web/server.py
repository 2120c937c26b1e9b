"""The dashboard served by itself, for those without an application: by waitress."""

import base64
import binascii
import hmac
import ipaddress
import logging
import re
from collections.abc import Callable, Mapping
from typing import Final

from flask import Flask, Response, request
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ThreadedTaskDispatcher

from szal.contrib.web.application import wsgi

__all__ = ["THREADS", "is_loopback", "protect", "serve", "wsgi"]

THREADS: Final = 8
"""Half of them stream at most: four. A browser makes six connections to a server, so it can load pages meanwhile."""
_PORT: Final = re.compile(r":[0-9]*$")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("")
    (True, True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def protect(app: Flask, token: str | None) -> None:
    """Have *app* ask for a token; without one, have it answer only for names of this machine.

    The token is the password of HTTP's basic authentication, with any user, or follows ``Authorization: Bearer``: it is
    in no URL, and in no log. Without one, a page of somebody else's, whose name leads here, reaches nothing.
    """
    if token is None:
        app.before_request(_refuse_others)
        return
    expected = token.encode()

    def ask() -> Response | None:
        if hmac.compare_digest(_given(request.headers.get("Authorization", "")), expected):
            return None
        headers = {"WWW-Authenticate": 'Basic realm="szal", charset="UTF-8"'}
        return Response("The token, please: as the password, with any user.\n", 401, headers)

    app.before_request(ask)


def _refuse_others() -> Response | None:
    if is_loopback(_PORT.sub("", request.headers.get("Host", "")).strip("[]")):
        return None
    return Response("That is no name of this machine.\n", 400, mimetype="text/plain")


def _given(authorization: str) -> bytes:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode()
    if scheme.lower() != "basic":
        return b""
    try:
        _, _, password = base64.b64decode(value.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return b""
    return password


class _Threads(ThreadedTaskDispatcher):  # type: ignore[misc] # it says no types
    """What answers requests. When it is to end it waits for no page that is streamed to: that is gone then."""

    def __init__(self, connections: Mapping[int, object]) -> None:
        super().__init__()
        self._connections = connections

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """End them, on the thread that has served until now."""
        for each in [*self._connections.values()]:
            if isinstance(each, HTTPChannel):
                each.handle_close()  # which a stream notices when it next has something to say
        return bool(super().shutdown(cancel_pending, timeout))


def serve(app: Flask, host: str, port: int, on_begin: Callable[[str], object]) -> None:
    """Serve it until the process is interrupted; *on_begin* is told the address. Raises OSError for a port in use."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # that a request waits for a thread is no news
    connections: dict[int, object] = {}
    threads = _Threads(connections)
    threads.set_thread_count(THREADS)
    server = create_server(app, map=connections, _dispatcher=threads, host=host, port=port, ident="szal")
    try:
        shown = f"[{host}]" if ":" in host else host
        on_begin(f"http://{shown}:{server.effective_port}/")
        server.run()  # returns when it is interrupted
    finally:
        wasyncore.close_all(connections, ignore_all=True)
