"""Invoices by hand: a loop that tries again, and a file that says how far it got. `after.py` does the same with szal.

python before.py 2026-11-26
"""

import json
import os
import sys
import time
from pathlib import Path

import shop


def load(path: Path) -> dict:
    if path.exists():
        return json.loads(path.read_text())
    return {"sent": {}, "customers": None}


def save(path: Path, state: dict) -> None:
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("w") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def with_retries(function, *args):
    for attempt in (1, 2):
        try:
            return function(*args)
        except ConnectionError as error:
            print(f"attempt {attempt} failed: {error}", file=sys.stderr)
            time.sleep(0.05 * 2**attempt)
    return function(*args)


def main(day: str) -> None:
    path = Path(f"invoices-{day}.json")
    state = load(path)
    if state["customers"] is None:  # the list of the first try holds
        state["customers"] = shop.customers()
        save(path, state)
    for customer in state["customers"]:
        if customer in state["sent"]:
            continue
        invoice = with_retries(shop.bill, customer)
        with_retries(shop.send, invoice, f"{day}-{customer}")
        state["sent"][customer] = invoice["total"]
        save(path, state)
    print(f"{day}: {len(state['sent'])} invoices, {sum(state['sent'].values())} EUR")


if __name__ == "__main__":
    main(sys.argv[1])
