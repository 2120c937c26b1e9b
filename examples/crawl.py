"""All pages of an API, of which nobody knows how many there are: each is fetched once, whatever happens in between.

python examples/crawl.py --store sqlite:///crawl.db --id today
python examples/crawl.py --url https://shop.example/api/orders --store sqlite:///crawl.db --id today

A page is an object: {"items": [...], "next": "2.json"}, the last one without "next". Killed in the middle, or tried
again after a page that could not be fetched, the step goes on with the first page that it has not got.
"""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import urlopen

import szal

crawl = szal.Flow("crawl")


def fetch(url: str) -> dict[str, Any]:
    with urlopen(url, timeout=30) as answer:  # noqa: S310 the pages beside this file are files
        page: dict[str, Any] = json.load(answer)
    return page


@crawl.step(max_retries=5, retry_delay="1s", backoff=szal.BackoffStrategy.EXPONENTIAL)
def items(ctx: szal.StepContext, url: str = (Path(__file__).parent / "pages" / "1.json").as_uri()) -> list[Any]:
    found: list[Any] = []
    while True:
        page = ctx.once(url, fetch, url)  # recorded before it is returned
        found += page["items"]
        if not page.get("next"):
            return found
        url = urljoin(url, page["next"])


@crawl.step
def summary(items: list[Any]) -> str:
    return f"{len(items)} items, from {items[0]} to {items[-1]}"


if __name__ == "__main__":
    crawl.main()
