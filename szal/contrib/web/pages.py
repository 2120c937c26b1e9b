"""The pages, and what is behind each address."""

import hashlib
import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Final, TypeAlias

import attrs
from flask import Blueprint, Response, abort, current_app, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import validate_csrf
from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.routing import PathConverter
from wtforms import ValidationError

from szal.clock import utc_now
from szal.contrib.application import EXTENSION, ApplicationEngine
from szal.contrib.streaming import LONGEST, Streams
from szal.contrib.web import shown
from szal.contrib.web.actions import Act, Refused, perform
from szal.contrib.web.asked import Asked
from szal.contrib.web.detail import Detail
from szal.contrib.web.flows import FlowPage
from szal.contrib.web.listing import Listing
from szal.contrib.web.many import MOST, act_on_many, chosen_of
from szal.contrib.web.picture import MOST as MOST_DRAWN
from szal.contrib.web.picture import graph_of
from szal.contrib.web.plot import durations_plot, rates_plot
from szal.contrib.web.rendering import page, secured, token_field
from szal.contrib.web.source import THREADS, Given, source_of, store_of
from szal.contrib.web.waiting import Waiting
from szal.engine.chosen import Action
from szal.engine.engine import Engine
from szal.engine.stream import EventStream, Signs
from szal.errors import ExecutionNotFound, ExecutionOwned, StoreError, SzalError
from szal.model.flow import FlowDef
from szal.model.json import flow_fields
from szal.model.step import new_id
from szal.pictures.style import STYLE

__all__ = ["Authorize", "blueprint"]

Authorize: TypeAlias = Callable[[str, str | None], bool]
"""Whether whoever asks may do this ("look", "resume", "rerun", "cancel", "signal", "resolve") with an execution, or,
with None, with what a page shows. It may answer by itself, too: `flask.abort(flask.redirect("/login"))`."""

_ASSETS: Final = {
    "szal.css": "text/css; charset=utf-8",
    "pictures.css": "text/css; charset=utf-8",
    "szal.js": "text/javascript; charset=utf-8",
    "szal.svg": "image/svg+xml",
}
_A_YEAR: Final = 31_536_000
_KEEP_ALIVE: Final = 0.5
"""Seconds of quiet after which a server sees whether a page is still there: people go on, and it has few threads."""


def blueprint(
    engine_or_store: Given,
    actions: bool = False,
    authorize: Authorize | None = None,
    *,
    name: str = "szal",
    threads: int = THREADS,
) -> Blueprint:
    """Return the dashboard as a blueprint of Flask.

    *engine_or_store*: an engine; a function that returns one, called with each request (``lambda: flows.engine``); or
    a store, its URL, or the path of an SQLite file, for which an engine without flows is opened. With *actions*,
    executions can be told something, and taken up in this process: forms have a token, for which the application needs
    a ``SECRET_KEY``. *authorize* is called before anything else, and what it returns false for is answered with 403.
    Without it whoever reaches the pages sees what steps return, so the application has to see to that.

    *threads*: how many requests each process serves at a time. Half of them may stream to pages that follow what runs;
    others ask every second. An application with a `szal.contrib.flask.Szal` says so there, as ``SZAL_THREADS``, for all
    that it streams.

    >>> from flask import Flask
    >>> import szal
    >>> app = Flask("shop")
    >>> app.register_blueprint(blueprint("memory:"), url_prefix="/szal")
    >>> app.test_client().get("/szal/").status_code
    200
    """
    made = Blueprint(name, __name__)
    source = source_of(engine_or_store, threads)
    _Pages(source.engine, source.streams, bool(actions), authorize).register(made)
    return made


class _Text(PathConverter):
    """Ids and names may have slashes in them, several, and in front; and ends of lines."""

    regex = r"(?s:.+?)"
    part_isolating = False


@attrs.frozen
class _Pages:
    """The pages of one dashboard."""

    engine: Callable[[], Engine]
    streams: Streams
    actions: bool
    authorize: Authorize | None

    def register(self, made: Blueprint) -> None:
        """Have them answered for."""
        made.add_url_rule("/", "executions", self.executions)
        made.record(lambda state: state.app.url_map.converters.update(szal_text=_Text))
        as_it_is = {"merge_slashes": False}
        made.add_url_rule("/executions/<szal_text:execution_id>", "execution", self.execution, **as_it_is)
        made.add_url_rule("/events/<szal_text:execution_id>", "events", self.events, **as_it_is)
        made.add_url_rule("/outputs/<szal_text:execution_id>", "output", self.output, **as_it_is)
        made.add_url_rule("/graphs/<szal_text:execution_id>", "graph", self.graph, **as_it_is)
        made.add_url_rule("/flows/<szal_text:flow_name>", "flow", self.flow, **as_it_is)
        made.add_url_rule("/waiting", "waiting", self.waiting)
        acts = ",".join(act.value for act in Act)
        rule = f"/executions/<szal_text:execution_id>/<any({acts}):act>"
        made.add_url_rule(rule, "act", self.act, methods=["POST"], **as_it_is)
        made.add_url_rule("/many/<any(rerun,resume,cancel):action>", "many", self.many, methods=["GET", "POST"])
        names = ",".join(f'"{name}"' for name in _ASSETS)
        made.add_url_rule(f"/assets/<any({names}):file>", "asset", self.asset)
        made.after_request(secured)
        for code in default_exceptions:  # each, as the application may have pages of its own for them
            made.register_error_handler(code, self.failed)
        made.register_error_handler(SzalError, self.failed)

    # -- looking ---------------------------------------------------------------------------------------

    def executions(self) -> ResponseReturnValue:
        """List them."""
        self._check("look", None)
        asked = Asked.of(request.args)
        listing = Listing.of(store_of(self.engine()), asked)
        plots = () if listing.rates is None else (rates_plot(listing.rates), durations_plot(listing.rates))
        return self._page("executions.html", listing=listing, asked=asked, plots=plots, states=shown.SIGNS)

    def execution(self, execution_id: str) -> ResponseReturnValue:
        """Show one."""
        self._check("look", execution_id)
        first, state = request.args.get("first", 0, type=int), request.args.get("steps", "")
        detail = Detail.of(self.engine(), execution_id, first=max(0, first), state=state)
        return self._page(
            "execution.html",
            detail=detail,
            graph=graph_of(detail.status.flow, detail.status, link=_place_of(detail)),
            most_drawn=MOST_DRAWN,
            asked_state=state,
            fresh_id=new_id,
            done=request.args.get("done", ""),
        )

    def events(self, execution_id: str) -> ResponseReturnValue:
        """Tell a page whenever it has to look again, as Server-Sent Events, until the execution has ended."""
        self._check("look", execution_id)
        engine, last = self.engine(), request.headers.get("Last-Event-ID")

        def make() -> EventStream:
            return EventStream(engine.watch(execution_id, LONGEST), execution_id, last, _KEEP_ALIVE, Signs())

        bound = current_app.extensions.get(EXTENSION)
        streams = bound.streams if isinstance(bound, ApplicationEngine) else self.streams
        answer = streams.open(make, last, is_threaded=bool(request.environ.get("wsgi.multithread")))
        return Response(answer.body, answer.status, {**answer.headers})

    def graph(self, execution_id: str) -> ResponseReturnValue:
        """Show the graph of one that has many steps."""
        self._check("look", execution_id)
        status = self.engine().look(execution_id)
        return self._page("graph.html", found=status, graph=graph_of(status.flow, status, most=MOST_DRAWN))

    def output(self, execution_id: str) -> ResponseReturnValue:
        """Give a step's output, as it is: a text, or JSON."""
        self._check("look", execution_id)
        steps = self.engine().look(execution_id).steps
        name = request.args.get("step", "")
        if name not in steps:
            abort(404, "There is no such step in this execution.")
        output = steps[name].output
        text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False, indent=2)
        return Response(text.encode(errors="replace"), content_type="text/plain; charset=utf-8")

    def flow(self, flow_name: str) -> ResponseReturnValue:
        """Show a flow."""
        self._check("look", None)
        found = None if "\0" in flow_name else FlowPage.of(store_of(self.engine()), flow_name)
        if found is None:
            abort(404, "There is no execution of this flow.")
        texts = [_text_of(version.flow) for version in found.versions]
        plots = (rates_plot(found.rates), durations_plot(found.rates))
        graph = graph_of(found.versions[0].flow) if found.versions else None
        return self._page("flow.html", flow=found, texts=texts, plots=plots, graph=graph)

    def waiting(self) -> ResponseReturnValue:
        """Show what waits for somebody."""
        self._check("look", None)
        found = Waiting.of(store_of(self.engine()), Asked.of(request.args).after)
        done, told = request.args.get("done", ""), request.args.get("told", "")
        return self._page("waiting.html", waiting=found, fresh_id=new_id, done=done, told=told)

    def asset(self, file: str) -> ResponseReturnValue:
        """Give a file that comes with szal."""
        answer = Response(_content_of(file), content_type=_ASSETS[file])
        answer.headers["Cache-Control"] = f"public, max-age={_A_YEAR}, immutable"  # its address changes with it
        return answer

    # -- acting ----------------------------------------------------------------------------------------

    def act(self, execution_id: str, act: str) -> ResponseReturnValue:
        """Do something with one execution, and show it then, or the page where the form was."""
        self._check_act(act, execution_id)
        after = perform(self.engine(), Act(act), execution_id, request.form)
        if request.form.get("back") == "waiting":
            return redirect(url_for(".waiting", done=act, told=execution_id), 303)
        shown_then = request.form.get("back") or after
        return redirect(url_for(".execution", execution_id=shown_then, done=act), 303)

    def many(self, action: str) -> ResponseReturnValue:
        """Say how many it is about, and do it once that is confirmed."""
        wanted = Action[action.upper()]
        given = request.form if request.method == "POST" else request.args
        if request.method == "POST":
            self._check_act(action, None)
        else:
            self._check(action, None)
            self._check_on()
        asked, ids = Asked.of(given), [each for each in given.getlist("id") if "\0" not in each]
        problem = None if ids else wanted.problem_with(asked.which)
        if problem is not None or asked.problems:
            raise Refused(problem or "; ".join(asked.problems))
        if request.method != "POST" and not ids and not asked.typed["until"]:  # what begins from now on is not meant
            now = utc_now().isoformat(timespec="microseconds")
            asked = Asked.of(_With(given, until=now))
        chosen = chosen_of(store_of(self.engine()), wanted, asked, ids)
        done = act_on_many(self.engine(), wanted, chosen) if request.method == "POST" else None
        return self._page("many.html", action=wanted, asked=asked, ids=ids, chosen=chosen, done=done, most=MOST)

    # -- what all have in common -----------------------------------------------------------------------

    def _check(self, what: str, execution_id: str | None) -> None:
        if "\0" in (execution_id or ""):  # which no store can hold
            abort(404, "There is no such execution.")
        if self.authorize is not None and not self.authorize(what, execution_id):
            abort(403, "You may not do that here.")

    def _check_on(self) -> None:
        if not self.actions:
            abort(403, "Actions are off here: this dashboard only looks.")

    def _check_act(self, what: str, execution_id: str | None) -> None:
        self._check_on()
        self._check(what, execution_id)
        try:
            validate_csrf(request.form.get(token_field()))
        except ValidationError as error:
            abort(400, f"{error} Go back, load the page again, and send the form from there.")

    def _page(self, template: str, status: int = 200, **values: object) -> Response:
        name = store_of(self.engine()).name if status == 200 else ""
        return page(template, status, actions=self.actions, asset=_address, store=name, **values)

    def failed(self, error: Exception) -> ResponseReturnValue:
        """Say what went wrong."""
        status, told = _told(error)
        if isinstance(error, HTTPException) and error.response is not None:
            return error.response  # of `authorize`: a redirect, say
        acts = request.method == "POST" and status == 409
        acted_on = (request.view_args or {}).get("execution_id", "") if acts else ""
        return self._page("error.html", status, code=status, told=told, acted_on=acted_on)


class _With:
    """A query in which one value is another."""

    def __init__(self, query: object, **other: str) -> None:
        self._query = query
        self._other = other

    def get(self, key: str, default: str) -> str:
        """Return the first value."""
        found: str = self._other[key] if key in self._other else self._query.get(key, default)  # type: ignore[attr-defined]
        return found

    def getlist(self, key: str) -> list[str]:
        """Return all values."""
        found: list[str] = self._query.getlist(key)  # type: ignore[attr-defined]
        return found


def _told(error: Exception) -> tuple[int, str]:
    if isinstance(error, HTTPException):
        return error.code or 500, error.description or ""
    if isinstance(error, ExecutionNotFound):
        return 404, "There is no such execution (any more)."
    if isinstance(error, ExecutionOwned):
        return 409, "Somebody is running this execution already."
    if isinstance(error, StoreError):
        return 503, str(error)
    return 409, str(error)


def _text_of(flow: FlowDef) -> str:
    """Return a definition as JSON, if it is not so long that nobody would read it."""
    if len(flow.steps) > MOST_DRAWN:
        return f"{len(flow.steps)} steps are too many to be shown here"
    return json.dumps(flow_fields(flow), ensure_ascii=False, indent=2)


def _place_of(detail: Detail) -> Callable[[str], str]:
    """Return what says where on this page a step is."""
    places = {line.name: f"#step-{line.place}" for line in detail.lines}
    return lambda name: places.get(name, "#h-steps")


@cache
def _content_of(file: str) -> bytes:
    if file == "pictures.css":
        return STYLE.encode()
    return files(__package__).joinpath("static", file).read_bytes()


@cache
def _version_of(file: str) -> str:
    return hashlib.sha256(_content_of(file)).hexdigest()[:12]


def _address(file: str) -> str:
    """Return the address of a file that comes with szal, which is another one where the file is another."""
    return url_for(".asset", file=file, v=_version_of(file))
