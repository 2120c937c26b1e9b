"""A program whose handlers use multiprocessing, and whose children run flows: with the start method, and a store.

Run as a file: what is spawned imports it again, as ``__mp_main__``.
"""

import multiprocessing
import sys

import szal

METHOD, URL = sys.argv[1:]
context = multiprocessing.get_context(METHOD)
family, small = szal.Flow("family"), szal.Flow("small")
engine = szal.Engine.open(URL, family, small)  # a child of a fork finds it as it was, a spawned one makes another


def square(number):
    return number * number


def in_a_child(name):
    """Run a flow with the engine that there is in a child, and with one that is made there."""
    assert multiprocessing.parent_process() is not None
    engine.run(small, {"n": 3}, execution_id=f"{name}-inherited")
    with szal.Engine.open(URL, small) as own:
        assert own.run(small, {"n": 4}, execution_id=f"{name}-own").success


@small.step
def a(n):
    return n


@small.step
def b(n):
    return n


@small.step
def both(a, b):
    return a * b


@family.step(inline="always")
def pool():
    with context.Pool(1) as workers:
        return workers.map(square, [1, 2, 3])


@family.step(timeout=30)
def process(pool):
    """Start a child on a thread of a worker's, while the engine goes on."""
    child = context.Process(target=in_a_child, args=("child",))
    child.start()
    child.join()
    return child.exitcode


if __name__ == "__main__":
    with engine:
        result = engine.run(family, execution_id="parent").raise_for_failure()
        print(result.outputs)
        for name in ("child-inherited", "child-own"):
            print(name, engine.look(name).record.result.outputs["both"])
