"""Views: ATOMIC_REQUESTS is on."""

from django.http import HttpRequest, JsonResponse
from django.urls import path

from django_shop.flows import order
from django_shop.models import Order
from szal.contrib.django import engine, start


def buy(request: HttpRequest) -> JsonResponse:
    made = Order.objects.create()
    start(order, {"number": made.pk}, execution_id=f"order-{made.pk}")
    return JsonResponse({"number": made.pk, "state": str(made.state)})


def approve(request: HttpRequest, number: int) -> JsonResponse:
    engine().signal(f"order-{number}", "ok", "Ada")
    status = engine().look(f"order-{number}")
    return JsonResponse({"state": str(status.state), "order": Order.objects.get(pk=number).state})


urlpatterns = [path("buy", buy), path("approve/<int:number>", approve)]
