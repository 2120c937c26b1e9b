"""A flow as a type checker sees it: decorated functions keep their signatures. `test_typing.py` runs mypy on it."""

from typing import assert_type

import szal
from szal.authoring.step import Step

ci = szal.Flow("ci", "dag")


@ci.step
def build(ctx: szal.StepContext, revision: str) -> dict[str, str]:
    return {"wheel": f"{revision}.whl"}


@ci.step(max_retries=2, timeout="1m", backoff="linear", needs=build)
def count(n: int = 1) -> int:
    return n


@count.rollback
def uncount(count: int) -> None:
    print(count)


kept: Step[[szal.StepContext, str], dict[str, str]] = build
assert_type(count(3), int)
assert_type(count(n=3), int)
uncount(1)
count("three")  # type: ignore[arg-type]
build(revision=1)  # type: ignore[call-arg, arg-type]
assert_type(ci.run({"revision": "x"})["count"].attempts, int)
