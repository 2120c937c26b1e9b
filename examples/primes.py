"""How many primes there are below a number, counted on all cores, each range in a child process.

python examples/primes.py

A range that takes too long is really ended, and counted again; so is one whose process has crashed, or was killed.
"""

import os

import szal

primes = szal.Flow("primes", isolation="process")


@primes.step(isolation="thread")  # nothing to compute: no process for that
def ranges(below: int = 100_000, parts: int = 8) -> list[list[int]]:
    edges = [below * n // parts for n in range(parts + 1)]
    return [[edges[n], edges[n + 1]] for n in range(parts)]


@primes.step(foreach=ranges, timeout="5m", max_retries=2)
def count(ctx: szal.StepContext, item: list[int]) -> int:
    found = sum(map(is_prime, range(*item)))
    ctx.report({"found": found})  # it crosses to the engine, as what is logged does
    return found


def is_prime(number: int) -> bool:
    return number > 1 and all(number % other for other in range(2, int(number**0.5) + 1))


@primes.step(isolation="thread")
def total(count: list[int], below: int = 100_000) -> str:
    return f"{sum(count)} primes below {below}"


if __name__ == "__main__":  # the child processes import this file
    print(primes.run(max_concurrency=os.cpu_count() or 1)["total"].output)
