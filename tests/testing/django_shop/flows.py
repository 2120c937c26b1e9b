"""A flow that writes where the request has written."""

import threading
from typing import Any

import szal
from django_shop.models import Order

order = szal.Flow("order", rollback_on_failure=True)
threads = set[int]()
"""Those in which steps were done."""


def mark(number: int, state: str) -> None:
    threads.add(threading.get_ident())
    assert Order.objects.filter(pk=number).update(state=state) == 1


@order.step(timeout=30, max_retries=2, retry_delay="10m")
def charge(ctx: szal.StepContext, number: int) -> Any:
    raise AssertionError("this asks a payment service")


@charge.rollback
def refund(number: int) -> None:
    mark(number, "refunded")


order.add_step(szal.StepDef("approve", step_type="wait", config={"signal": "ok", "timeout": 86400}), needs=charge)


@order.step(needs="approve", foreach=["bed", "table"])
def pack(number: int, item: str) -> str:
    mark(number, f"packed {item}")
    return item


@order.step(timeout=30)
def ship(number: int, pack: list[str]) -> int:
    mark(number, "shipped")
    return len(pack)
