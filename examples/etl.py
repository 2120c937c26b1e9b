"""A nightly ETL: the CSV files of a day, cleaned side by side, in one currency, loaded into a warehouse.

python examples/etl.py --day 2026-11-26 --store sqlite:///etl.db --id etl-2026-11-26

Killed in the middle, the same command goes on where that was: what has been cleaned is not cleaned again, and each
order is loaded once. A day that does not add up is taken out of the warehouse again.
"""

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

import szal

ORDERS = str(Path(__file__).parent / "orders")

etl = szal.Flow("etl", rollback_on_failure=True)


@etl.step
def files(day: str, orders: str = ORDERS) -> list[str]:
    return sorted(str(path) for path in Path(orders, day).glob("*.csv"))


@etl.step(max_retries=3, retry_delay="5s", timeout="1m")  # a service on the network, in earnest
def rates(orders: str = ORDERS) -> dict[str, float]:
    with Path(orders, "rates.csv").open() as file:
        return {row["currency"]: float(row["euros"]) for row in csv.DictReader(file)}


@etl.step(foreach=files, max_parallel=4)  # once for each file
def clean(item: str, rates: dict[str, float]) -> list[tuple[str, float]]:
    with Path(item).open() as file:
        rows = [row for row in csv.DictReader(file) if row["amount"]]
    return [(row["order"], round(float(row["amount"]) * rates[row["currency"]], 2)) for row in rows]


@etl.step
def load(day: str, clean: list[list[tuple[str, float]]], warehouse: str = "warehouse.db") -> int:
    rows = [(day, order, euros) for orders in clean for order, euros in orders]
    with closing(sqlite3.connect(warehouse)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS orders (day, number PRIMARY KEY, euros)")
        database.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", rows)
    return len(rows)


@load.rollback
def unload(day: str, warehouse: str = "warehouse.db") -> None:
    with closing(sqlite3.connect(warehouse)) as database, database:
        database.execute("DELETE FROM orders WHERE day = ?", (day,))


@etl.step
def report(day: str, load: int, clean: list[list[tuple[str, float]]]) -> str:
    total = sum(euros for orders in clean for _, euros in orders)
    if total <= 0:
        raise ValueError(f"the {load} orders of {day} do not add up: {total:.2f} EUR")
    return f"{day}: {load} orders, {total:.2f} EUR"


if __name__ == "__main__":
    etl.main()
