"""A Flask application with metrics, as the tests of szal.contrib.prometheus have it served: by several processes."""

import os

from flask import Flask
from flask.typing import ResponseReturnValue

import szal
from szal.contrib.flask import Szal
from szal.contrib.prometheus import PrometheusSink

order = szal.Flow("order")


@order.step
def pay(fails: bool = False) -> int:
    if fails:
        raise ValueError("no money")
    return os.getpid()


app = Flask("metrics")
app.config.update(SZAL_STORE=os.environ["SZAL_STORE"], SZAL_RECOVER_EVERY=None)
metrics = PrometheusSink(interval=0.1)
flows = Szal(order, app=app, event_sink=metrics)


@app.post("/orders")
def start() -> ResponseReturnValue:
    return {"pid": flows.engine.run(order)["pay"].output}


@app.get("/metrics")
def scrape() -> ResponseReturnValue:
    page, content_type = metrics.exposition()
    return page, {"Content-Type": content_type}
