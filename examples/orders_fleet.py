"""A shop that takes orders, and workers that deliver: the order and its flow are committed together, or neither.

python examples/orders_fleet.py            takes three orders, has two workers deliver them, and shows what came of it

In earnest the shop is a web application, and the workers run beside it, on any number of machines:

szal worker orders_fleet:delivery --store postgresql://… --processes 4
"""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import szal

FILE = Path("orders.db")

delivery = szal.Flow("delivery")


@delivery.step(max_retries=3, retry_delay=0.1)
def pack(customer: str, book: str) -> str:
    return f"{book} for {customer}"


@delivery.step
def send(pack: str) -> str:
    return f"sent: {pack}"


def order(shop: szal.Engine, customer: str, book: str, *, urgent: bool = False) -> str:
    """Take an order; its delivery is submitted in the same transaction."""
    with closing(sqlite3.connect(FILE)) as connection, connection:
        connection.execute("INSERT INTO orders VALUES (?, ?)", (customer, book))
        inputs = {"customer": customer, "book": book}
        return shop.submit(delivery, inputs, priority=1 if urgent else 0, connection=connection)


def main() -> None:
    with szal.Engine.open(f"sqlite:///{FILE}") as shop:
        with closing(sqlite3.connect(FILE)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS orders (customer TEXT, book TEXT)")
        ids = [order(shop, "Ann", "Emma"), order(shop, "Bob", "Ulysses"), order(shop, "Cyr", "Dracula", urgent=True)]
        worker = [sys.executable, "-m", "szal", "worker", f"{__file__}:delivery", "--store", f"sqlite:///{FILE}"]
        workers = [subprocess.Popen([*worker, "--until-idle"], stdout=subprocess.DEVNULL) for _ in range(2)]
        for each in ids:
            print(shop.result(each, timeout=60)["send"].output)
        for process in workers:
            process.wait(60)


if __name__ == "__main__":
    main()
