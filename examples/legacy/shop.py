"""What both programs call: a shop's customers, and a service that sends invoices and does not always answer."""

from pathlib import Path

_PRICES = {"ada": 120, "borg": 80, "cyr": 45, "dee": 210}
_OUTBOX = Path("outbox.txt")
_refused: set[str] = set()


def customers() -> list[str]:
    return list(_PRICES)


def bill(customer: str) -> dict:
    return {"customer": customer, "total": _PRICES[customer]}


def send(invoice: dict, key: str) -> None:
    """Send it, once for each key: what the service has under that is not sent again. Borg's line is bad."""
    if invoice["customer"] == "borg" and "borg" not in _refused:
        _refused.add("borg")
        raise ConnectionError("borg does not answer")
    sent = _OUTBOX.read_text().splitlines() if _OUTBOX.exists() else []
    if not any(line.startswith(f"{key} ") for line in sent):
        with _OUTBOX.open("a") as outbox:
            outbox.write(f"{key} {invoice['customer']} {invoice['total']}\n")
