"""What becomes of an order."""

import os

from django.db.transaction import atomic

import szal
from shop.models import Order, Payment

order = szal.Flow("order")


@order.step
def check(ctx: szal.StepContext, number: int) -> str:
    """See whether it can be delivered: slowly, so that there is something to be seen, and time to kill it."""
    ctx.sleep(float(os.environ.get("PAUSE", "2")))
    return Order.objects.get(pk=number).article


@order.step(needs=check)
def pay(number: int) -> None:
    """Move the money, once: after a crash it is seen whether that was done."""
    with atomic():
        found = Order.objects.select_for_update().get(pk=number)
        Payment.objects.get_or_create(order=found, defaults={"euros": found.euros})
        found.state = "paid"
        found.save()


@order.step(needs=pay, max_retries=3)
def ship(number: int) -> None:
    """Send it. A step that may run twice, after a crash in it, is written so that this does no harm."""
    Order.objects.filter(pk=number).update(state="shipped")
