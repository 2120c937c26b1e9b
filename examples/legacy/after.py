"""The invoices of `before.py` as a flow: what it tries again, and how far it got, is szal's.

python after.py 2026-11-26
szal show invoices-2026-11-26 --store sqlite:///invoices.db
"""

import sys

import shop

import szal

invoices = szal.Flow("invoices")


@invoices.step
def customers():
    return shop.customers()


@invoices.step(foreach=customers, max_parallel=1, max_retries=2, retry_delay="100ms", backoff="exponential")
def send(ctx, item):
    invoice = shop.bill(item)
    shop.send(invoice, ctx.idempotency_key)
    return invoice["total"]


@invoices.step
def report(day, send):
    return f"{day}: {len(send)} invoices, {sum(send)} EUR"


def main(day: str) -> None:
    result = invoices.run({"day": day}, store="sqlite:///invoices.db", execution_id=f"invoices-{day}")
    print(result.raise_for_failure()["report"].output)


if __name__ == "__main__":
    main(sys.argv[1])
