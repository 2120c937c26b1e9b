"""The pages, and where they are."""

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import get_object_or_404
from django.template import engines
from django.urls import include, path

from shop.flows import order as flow
from shop.models import Order, Payment
from szal.contrib.django import engine, submit
from szal.contrib.django.dashboard import dashboard

PAGE = """<!doctype html><title>Shop</title><meta http-equiv="refresh" content="2"><h1>Orders</h1>
<form method="post" action="/orders"><input type="hidden" name="csrfmiddlewaretoken" value="{{ token }}">
<input name="article" placeholder="article" required> <input name="euros" type="number" placeholder="EUR" required>
<button>Order</button></form>
<ul>{% for order in orders %}<li><a href="/orders/{{ order.pk }}">{{ order.pk }}</a>
{{ order.article }}, {{ order.euros }} EUR: {{ order.state }}{% endfor %}</ul>"""


def orders(request: HttpRequest) -> HttpResponse:
    """Show all orders, or take another: it is committed together with its flow, which a worker begins."""
    if request.method == "POST":
        order = Order.objects.create(article=request.POST["article"], euros=request.POST["euros"])
        submit(flow, {"number": order.pk}, execution_id=order.execution_id)
        return HttpResponseRedirect("/")
    found = Order.objects.order_by("-pk")
    page = engines["django"].from_string(PAGE).render({"orders": found, "token": get_token(request)})
    return HttpResponse(page)


def show(request: HttpRequest, number: int) -> JsonResponse:
    """Tell how far an order is, whichever process does it."""
    order = get_object_or_404(Order, pk=number)
    status = engine().look(order.execution_id)
    steps = {name: str(step.status) for name, step in status.steps.items()}
    paid = Payment.objects.filter(order=order).count()
    told = {"article": order.article, "state": order.state, "payments": paid}
    return JsonResponse({**told, "flow": str(status.state), "steps": steps})


def may(_request: HttpRequest, _action: str, _execution_id: str | None) -> bool:
    """Let everybody see, and do, what there is: this project has no users. Left out, it is for staff."""
    return True


urlpatterns = [
    path("", orders),
    path("orders", orders),
    path("orders/<int:number>", show),
    path("szal/", include(dashboard(actions=True, authorize=may))),
]
