"""A Flask view that starts a flow and answers at once; another one tells how far it has come.

flask --app examples/flask_app run
curl -X POST localhost:5000/reports/7
curl localhost:5000/executions/ID
"""

import os

from flask import Flask
from flask.typing import ResponseReturnValue

from szal import Engine, EngineConfig, ExecutionNotFound, FlowDef, FlowMode, StepContext, StepDef, open_store

store = open_store(os.environ.get("SZAL_STORE", "memory:"))
sink = store.engine_sink()


def handler(ctx: StepContext) -> str:
    return f"{ctx.step.name} of customer {ctx.inputs['customer']}"


engine = Engine(handler, EngineConfig(execution_store=sink))
report = FlowDef("report", FlowMode.DAG)
parts = [report.add_step(StepDef(name)) for name in ("invoices", "payments", "complaints")]
report.add_step(StepDef("mail", depends_on=parts))

app = Flask(__name__)


@app.post("/reports/<customer>")
def start_report(customer: str) -> ResponseReturnValue:
    execution = engine.start(report, {"customer": customer}, labels={"customer": customer})
    return {"execution": execution.execution_id}, 202


@app.get("/executions/<execution_id>")
def show(execution_id: str) -> ResponseReturnValue:
    try:
        status = engine.look(execution_id)
    except ExecutionNotFound:
        return {"error": "no such execution"}, 404
    return {"state": str(status.state), "steps": {name: str(step.status) for name, step in status.steps.items()}}
