"""Refunds that somebody has to approve: a Flask application with an inbox, and a page that shows how far each is.

pip install "szal[flask,web]"
flask --app examples/flask_app.py run        then open http://localhost:5000 in a browser

What waits for an answer is in no process: stop the server, start it again, and give the answer then. In earnest it is
served by several processes, forked from one that has loaded it:

gunicorn --preload --workers 2 --threads 4 --chdir examples flask_app:app
"""

import os
from contextlib import suppress

from flask import Flask, redirect, render_template_string, request
from flask.typing import ResponseReturnValue

import szal
from szal.contrib.flask import Szal
from szal.contrib.web import blueprint

refund = szal.Flow("refund")


@refund.step(max_retries=3)
def check(ctx: szal.StepContext, order: str) -> float:
    """Look up what was paid: slowly, so that there is something to be seen."""
    ctx.sleep(float(os.environ.get("PAUSE", "2")))
    return 10.0 * len(order)


WEEK = 7 * 86400.0
refund.add_step(szal.StepDef("approved", step_type="wait", config={"signal": "answer", "timeout": WEEK}), needs=check)


@refund.step(condition="steps.approved.output.yes", idempotent=False)  # never twice: after a crash somebody looks
def pay(check: float, approved: dict[str, object]) -> str:
    return f"paid {check:.2f}, approved by {approved['by']}"


@refund.step(needs=pay)
def mail(ctx: szal.StepContext, order: str) -> str:
    return f"mail about {order}: {ctx.outputs.get('pay', 'there is no refund')}"


app = Flask(__name__)
app.config["SZAL_STORE"] = os.environ.get("SZAL_STORE", "sqlite:///refunds.db")
app.config["SECRET_KEY"] = os.environ.get("SECRET_KEY", "only on this machine")
flows = Szal(refund, app=app)  # opens nothing: each process does that when it is first asked for something

# All executions, with their graphs, attempts and errors, at /szal/. In earnest, authorize says who may see that.
app.register_blueprint(blueprint(lambda: flows.engine, actions=True), url_prefix="/szal")

PAGE = """<!doctype html><title>{{ title }}</title><h1>{{ title }}</h1>
<p><a href="/">Ask for a refund</a> · <a href="/inbox">Inbox</a> · <a href="/szal/">All there is</a></p>"""


def page(title: str, main: str, **values: object) -> str:
    return render_template_string(PAGE + main, title=title, **values)


@app.get("/")
def form() -> str:
    form = '<form method="post" action="/refunds">Order <input name="order" required> <button>Ask</button></form>'
    return page("Ask for a refund", form)


@app.post("/refunds")
def ask() -> ResponseReturnValue:
    """Begin one, once for each order however often this is sent, and answer at once."""
    order = request.form["order"]
    with suppress(szal.ExecutionOwned):  # it runs already
        flows.start(refund, {"order": order}, execution_id=f"refund-{order}")
    return redirect(f"/refunds/refund-{order}", 303)


@app.get("/refunds/<execution_id>")
def show(execution_id: str) -> ResponseReturnValue:
    """Tell how far it is, whichever process runs it; the page loads itself again whenever that changes."""
    try:
        status = flows.engine.look(execution_id)
    except szal.ExecutionNotFound:
        return page("There is no such refund", ""), 404
    if "application/json" in request.headers.get("Accept", ""):
        steps = {name: {"status": str(step.status), "output": step.output} for name, step in status.steps.items()}
        return {"state": str(status.state), "steps": steps}
    main = """<p>{{ status.state }}: {{ done }} of {{ status.steps|length }} steps</p>
    <progress max="{{ status.steps|length }}" value="{{ done }}"></progress>
    <ul>{% for step in status.steps.values() %}<li>{{ step.step_name }}: {{ step.status }}
      {{ step.error or step.output or "" }}{% endfor %}</ul>
    {% for wait in status.waits %}<p>It waits for: {{ wait.signal }}, until {{ wait.until }}{% endfor %}
    {% if status.state.is_live %}<script>
      const again = seconds => setTimeout(() => location.reload(), 1000 * seconds);
      const events = new EventSource(location.pathname + "/events");
      let first = true;
      events.addEventListener("status", () => first ? first = false : again(0));
      events.addEventListener("end", () => { events.close(); again(0); });
      events.onerror = () => { if (events.readyState === EventSource.CLOSED) again(2); };
    </script>{% endif %}"""
    done = sum(str(step.status) not in ("pending", "running") for step in status.steps.values())
    return page(execution_id, main, status=status, done=done)


@app.get("/refunds/<execution_id>/events")
def events(execution_id: str) -> ResponseReturnValue:
    """Tell whenever it has changed, as Server-Sent Events."""
    return flows.stream(execution_id)


@app.get("/inbox")
def inbox() -> ResponseReturnValue:
    """List what waits for somebody's answer."""
    paused = flows.store.find(flow_name="refund", states=[szal.WorkflowState.PAUSED])
    found = [flows.engine.look(summary.execution_id) for summary in paused]
    waiting = [(status, wait) for status in found for wait in status.waits if wait.signal == "answer"]
    if "application/json" in request.headers.get("Accept", ""):
        return [{"id": wait.execution_id, "step": wait.step} for _, wait in waiting]
    main = """{% for status, wait in waiting %}<form method="post" action="/inbox/{{ wait.execution_id }}">
    <a href="/refunds/{{ status.execution_id }}">{{ status.execution_id }}</a>: {{ status.steps.check.output }} EUR,
    until {{ wait.until }} <input name="by" placeholder="your name" required>
    <button name="yes" value="1">Approve</button> <button name="yes" value="">Refuse</button></form>
    {% else %}<p>Nothing waits for an answer.{% endfor %}"""
    return page("Inbox", main, waiting=waiting)


@app.post("/inbox/<execution_id>")
def answer(execution_id: str) -> ResponseReturnValue:
    """Give the answer, of which the first counts: this process goes on with the refund at once."""
    value = {"yes": bool(request.form.get("yes")), "by": request.form["by"]}
    flows.engine.signal(execution_id, "answer", value, signal_id="answer")
    return redirect(f"/refunds/{execution_id}", 303)
