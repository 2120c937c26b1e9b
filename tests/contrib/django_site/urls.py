"""Views. Each is in a transaction of the request, unless it is told otherwise."""

import atexit
import os
import signal
from functools import partial
from typing import Any

from django.db import transaction
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

import szal
from django_site.flows import PLACE, broken, count, pay, walk
from django_site.models import Note
from szal.contrib.django import engine, start, stream, submit
from szal.contrib.django.dashboard import dashboard


def status(name: str) -> dict[str, Any]:
    try:
        found = engine().look(name)
    except szal.ExecutionNotFound:
        return {"state": "none"}
    return {
        "state": str(found.state),
        "waits": [wait.signal for wait in found.waits],
        "outputs": {name: step.output for name, step in found.steps.items()},
    }


def show(request: HttpRequest, name: str) -> JsonResponse:
    return JsonResponse(status(name))


def process(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"pid": os.getpid(), "parent": os.getppid()})


@csrf_exempt
def begin_walk(request: HttpRequest, name: str) -> JsonResponse:
    start(walk, {"name": name}, execution_id=name)
    transaction.on_commit(lambda: atexit.register((PLACE / f"{os.getpid()}.ends").touch))  # before it is drained
    return JsonResponse({"pid": os.getpid()})


@csrf_exempt
def answer(request: HttpRequest, name: str) -> JsonResponse:
    """Send a signal, at once or once the request is committed; then fail, if the path says so."""
    send = partial(engine().signal, name, "answer", request.body.decode())
    if "later" in request.GET:
        transaction.on_commit(send)
    else:
        send()
    if "fail" in request.GET:
        raise RuntimeError("the view failed")
    return JsonResponse({})


@csrf_exempt
def break_connection(request: HttpRequest, name: str) -> JsonResponse:
    start(broken, execution_id=name)
    return JsonResponse({})


@csrf_exempt
def begin_pay(request: HttpRequest, name: str) -> JsonResponse:
    start(pay, {"text": name, "how": request.body.decode()}, execution_id=name)
    return JsonResponse({})


@csrf_exempt
def begin_count(request: HttpRequest, name: str) -> JsonResponse:
    """Write a note, start a flow that counts them, and tell what became of that before the answer is sent."""
    Note.objects.create(text=name)
    if request.body == b"die":
        transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
    start(count, {"text": name}, execution_id=name)
    told = status(name)
    if request.body == b"fail":
        raise RuntimeError("the view failed")
    if request.body == b"again":
        start(count, {"text": name}, execution_id=name)
    if request.body == b"wrong":
        start(count, {"word": name}, execution_id=name)
    return JsonResponse(told)


@csrf_exempt
def run_count(request: HttpRequest, name: str) -> JsonResponse:
    """Write a note, unless told otherwise, then run the flow within the request."""
    if request.body != b"silent":
        Note.objects.create(text=name)
    result = engine().run(count, {"text": name}, execution_id=name)
    if request.body == b"fail":
        raise RuntimeError("the view failed")
    return JsonResponse({"state": str(result.state), "outputs": result.outputs})


@csrf_exempt
def submit_count(request: HttpRequest, name: str) -> JsonResponse:
    """Write a note, and submit a flow in the same transaction."""
    Note.objects.create(text=name)
    for _ in range(2 if request.body == b"again" else 1):
        submit(count, {"text": name}, execution_id=name)
    if request.body == b"fail":
        raise RuntimeError("the view failed")
    return JsonResponse({})


@csrf_exempt
def work(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"ran": engine().work(until_idle=True)})


def notes(request: HttpRequest, name: str) -> JsonResponse:
    return JsonResponse({"count": Note.objects.filter(text=name).count()})


@transaction.non_atomic_requests
@csrf_exempt
def plain(request: HttpRequest, name: str, view: Any) -> JsonResponse:
    """Do what *view* does, without a transaction."""
    answer: JsonResponse = view(request, name)
    return answer


@transaction.non_atomic_requests
def stream_of(request: HttpRequest, name: str) -> StreamingHttpResponse:
    response = stream(request, name, keep_alive=0.2)
    response.headers["X-Process"] = str(os.getpid())
    return response


def by_header(request: HttpRequest, action: str, _: str | None) -> bool:
    return action in request.headers.get("X-May", "")


urlpatterns = [
    path("stream/<name>", stream_of),
    path("process", process),
    path("walks/<name>", begin_walk),
    path("walks/<name>/answer", answer),
    path("broken/<name>", break_connection),
    path("notes/<name>", notes),
    path("payments/<name>", begin_pay),
    path("counts/<name>", begin_count),
    path("counts/<name>/run", run_count),
    path("counts/<name>/submit", submit_count),
    path("work", transaction.non_atomic_requests(work)),
    path("plain/counts/<name>", plain, {"view": begin_count}),
    path("plain/counts/<name>/run", plain, {"view": run_count}),
    path("plain/counts/<name>/submit", plain, {"view": submit_count}),
    path("status/<name>", show),
    path("szal/", include(dashboard(actions=True, authorize=by_header))),
    path("staff/", include(dashboard())),
]
