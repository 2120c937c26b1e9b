"""A Flask application as the tests of szal.contrib.flask have it served: in processes of their own."""

import atexit
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from flask import Flask, current_app, has_request_context, request
from flask.typing import ResponseReturnValue

import szal
from szal.contrib.flask import Szal
from szal.contrib.web import blueprint

PLACE = Path(os.environ["PLACE"])
"""Where the first step of a walk makes the file NAME.busy, and then waits for the file NAME.go."""

walk = szal.Flow("walk")


def seen() -> dict[str, Any]:
    """What a step sees: where it runs, its application, and whether there is a request."""
    return {"pid": os.getpid(), "app": current_app.name, "request": has_request_context()}


@walk.step
def first(name: str) -> dict[str, Any]:
    (PLACE / f"{name}.busy").touch()
    while not (PLACE / f"{name}.go").exists():
        time.sleep(0.005)
    return seen()


walk.add_step(szal.StepDef("ask", step_type="wait", config={"signal": "answer"}), needs=first)


@walk.step
def second(ask: str) -> dict[str, Any]:
    return seen() | {"answer": ask}


app = Flask("site")
app.config.update(SZAL_STORE=os.environ["SZAL_STORE"], SZAL_RECOVER_EVERY=0.3)
flows = Szal(walk, app=app, durability="step")
app.register_blueprint(blueprint(lambda: flows.engine, name="dashboard"), url_prefix="/szal")


@app.post("/walks/<name>")
def start(name: str) -> ResponseReturnValue:
    flows.start(walk, {"name": name}, execution_id=name)
    atexit.register((PLACE / f"{os.getpid()}.ends").touch)  # called before the engine is drained
    return {"pid": os.getpid(), "parent": os.getppid()}


@app.post("/walks/<name>/answer")
def answer(name: str) -> ResponseReturnValue:
    return {"sent": flows.engine.signal(name, "answer", request.get_data(as_text=True))}


@app.get("/status/<name>")
def show(name: str) -> ResponseReturnValue:
    status = flows.engine.look(name)
    return {
        "state": str(status.state),
        "waits": [wait.signal for wait in status.waits],
        "outputs": {name: step.output for name, step in status.steps.items()},
    }


@app.get("/stream/<name>")
def stream(name: str) -> ResponseReturnValue:
    response = flows.stream(name, keep_alive=0.2)
    response.headers["X-Process"] = str(os.getpid())
    return response


@app.get("/process")
def process() -> ResponseReturnValue:
    return {"pid": os.getpid(), "parent": os.getppid(), "threads_at_fork": threads_at_fork}


threads_at_fork: list[str] = []
"""Those that were there when this process was forked from the one that had loaded the application."""
os.register_at_fork(before=lambda: threads_at_fork.extend(thread.name for thread in threading.enumerate()))


if __name__ == "__main__":  # a server that begins again whenever this file changes
    app.run(f"unix://{sys.argv[1]}", use_reloader=True, reloader_type="stat", reloader_interval=0.1)  # type: ignore[call-arg]
