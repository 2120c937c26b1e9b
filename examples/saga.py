"""An order: stock, payment, somebody's approval, shipping. What was done is undone where it cannot be shipped.

python examples/saga.py --order 7 --article lamp --euros 30 --store sqlite:///saga.db --id order-7    paused
szal signal order-7 approve true --store sqlite:///saga.db                                          on another day
python examples/saga.py --order 7 --article lamp --euros 30 --store sqlite:///saga.db --id order-7    shipped

While it waits it is in no process at all. With `false` for an answer, or `--address nowhere`, the money goes back, and
the lamp into the shelf.
"""

import sqlite3
from contextlib import closing

import szal

saga = szal.Flow("order", rollback_on_failure=True)


def write(shop: str, statement: str, *values: object) -> None:
    """Be the warehouse, the bank and the carrier, all in one file: asked twice for one thing, they do it once."""
    with closing(sqlite3.connect(shop)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS done (what, number, detail, PRIMARY KEY (what, number))")
        database.execute(statement, values)


DO = "INSERT OR IGNORE INTO done VALUES (?, ?, ?)"
UNDO = "DELETE FROM done WHERE what = ? AND number = ?"


@saga.step
def reserve(order: int, article: str, shop: str = "shop.db") -> str:
    write(shop, DO, "reserved", order, article)
    return article


@reserve.rollback
def release(order: int, shop: str = "shop.db") -> None:
    write(shop, UNDO, "reserved", order)


@saga.step(needs=reserve, max_retries=3, retry_delay="5s")
def pay(order: int, euros: float, shop: str = "shop.db") -> float:
    write(shop, DO, "paid", order, euros)
    return euros


@pay.rollback
def refund(order: int, shop: str = "shop.db") -> None:
    write(shop, UNDO, "paid", order)


WEEK = 7 * 86400.0
saga.add_step(szal.StepDef("approve", step_type="wait", config={"signal": "approve", "timeout": WEEK}), needs=pay)


@saga.step
def ship(approve: bool, order: int, reserve: str, address: str = "1 Main Street", shop: str = "shop.db") -> str:
    if not approve:
        raise szal.GiveUp("nobody wants it to be shipped")
    if address == "nowhere":
        raise szal.GiveUp("no such address")
    write(shop, DO, "shipped", order, address)
    return f"the {reserve} is on its way to {address}"


if __name__ == "__main__":
    saga.main()
