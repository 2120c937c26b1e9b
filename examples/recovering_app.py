"""A Flask app whose flows outlive the worker that started them: another worker goes on with what it left.

export SZAL_STORE=sqlite:///imports.db
gunicorn --preload --workers 2 --chdir examples recovering_app:app      (or: flask --app examples/recovering_app run)

mkdir inbox; mkfifo inbox/today.csv             a file that takes its time to be read
curl -X POST localhost:8000/imports/today.csv   {"import": "today.csv", "worker": 4711}
kill -9 4711
curl localhost:8000/imports/today.csv           running; within 30 seconds another worker takes it up
echo one > inbox/today.csv                      now it can be read
curl localhost:8000/imports/today.csv           completed: accepted by the killed process, loaded by another

With --config examples/gunicorn.conf.py a worker that is told to end (kill 4711, a deployment) lets its steps end first.

Here all that is done by hand, as with any framework; szal.contrib.flask does it by itself (flask_app.py).
"""

import os
from pathlib import Path

from flask import Flask
from flask.typing import ResponseReturnValue

from szal import Engine, EngineConfig, ExecutionOwned, FlowDef, Handlers, StepContext, StepDef, open_store

INBOX = Path(os.environ.get("INBOX", "inbox"))
RECOVER_EVERY = float(os.environ.get("RECOVER_EVERY", "30"))  # seconds

handlers = Handlers()


@handlers.step("accept")
def accept(ctx: StepContext) -> dict[str, int]:
    return {"process": os.getpid()}


@handlers.step("load")
def load(ctx: StepContext) -> dict[str, int]:
    lines = (INBOX / ctx.inputs["file"]).read_text().splitlines()
    return {"process": os.getpid(), "lines": len(lines)}


@handlers.step("announce")
def announce(ctx: StepContext) -> dict[str, int]:
    return {"process": os.getpid()}


imports = FlowDef("import", steps=[StepDef("accept"), StepDef("load"), StepDef("announce")])

# With --preload the module is loaded once, before the workers are forked: it starts no thread and opens no connection
# that they would share.
store = open_store(os.environ.get("SZAL_STORE", "sqlite:///imports.db"))
sink = store.engine_sink()
engine = Engine(handlers, EngineConfig(execution_store=sink, durability="step"))

app = Flask(__name__)
recovering: set[int] = set()  # processes: a worker has this from before the fork, but not the thread


@app.before_request
def look_for_what_others_left() -> None:
    if os.getpid() not in recovering:
        recovering.add(os.getpid())
        engine.start_recovery(RECOVER_EVERY)


@app.post("/imports/<name>")
def start(name: str) -> ResponseReturnValue:
    """Start an import, once for each file however often this is asked for."""
    try:
        engine.start(imports, {"file": name}, execution_id=name)
    except ExecutionOwned:
        return {"import": name}, 409  # it runs already
    return {"import": name, "worker": os.getpid()}, 202


@app.get("/imports/<name>")
def show(name: str) -> ResponseReturnValue:
    record = sink.get(name)
    if record is None:
        return {"error": "no such import"}, 404
    return {"state": str(record.state), "outputs": record.result.outputs if record.result else {}}
