"""What becomes of an order."""

import os

import szal
from shop.models import Order, Payment
from szal.contrib.django import transaction

order = szal.Flow("order")


@order.step
def check(ctx: szal.StepContext, number: int) -> str:
    """See whether it can be delivered: slowly, so that there is something to be seen, and time to kill it."""
    ctx.sleep(float(os.environ.get("PAUSE", "2")))
    return Order.objects.get(pk=number).article


@order.step(needs=check)
def pay(ctx: szal.StepContext, number: int) -> None:
    """Move the money, once: what is written here is committed together with the outcome of the step."""
    with transaction(ctx):
        found = Order.objects.get(pk=number)
        Payment.objects.create(order=found, euros=found.euros)
        found.state = "paid"
        found.save()


@order.step(needs=pay, max_retries=3)
def ship(number: int) -> None:
    """Send it. A step that may run twice, after a crash in it, is written so that this does no harm."""
    Order.objects.filter(pk=number).update(state="shipped")
