"""Algorithms on graphs given as lists: ``before[node]`` holds the nodes that *node* waits for.

Nodes are indexes. Everything here is iterative, so that a chain of a million nodes needs no deep stack,
and linear in nodes and edges where nothing else is said.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

__all__ = ["ancestors", "find_cycle", "is_ancestor", "not_ancestors", "successors", "topological_order"]

Before = Sequence[Sequence[int]]

_CHUNK = 4096  # targets per pass of not_ancestors: bounds its memory to half a kilobyte a node


def successors(before: Before) -> list[list[int]]:
    """Return the same edges the other way round."""
    after: list[list[int]] = [[] for _ in before]
    for node, sources in enumerate(before):
        for source in sources:
            after[source].append(node)
    return after


def topological_order(before: Before) -> list[int]:
    """Return the nodes, each after all that it waits for; nodes on or behind a cycle are left out."""
    waiting = [len(sources) for sources in before]
    after = successors(before)
    order = [node for node, count in enumerate(waiting) if not count]
    for node in order:  # grows while it is read
        for target in after[node]:
            waiting[target] -= 1
            if not waiting[target]:
                order.append(target)
    return order


def find_cycle(before: Before, order: Collection[int]) -> list[int]:
    """Return the nodes of one cycle, in the order in which they would run; *order* must be incomplete."""
    stuck = set(range(len(before))).difference(order)
    node = min(stuck)
    seen: dict[int, int] = {}
    path: list[int] = []
    while node not in seen:  # a stuck node always waits for another stuck one, so this closes
        seen[node] = len(path)
        path.append(node)
        node = next(source for source in before[node] if source in stuck)
    return path[seen[node] :][::-1]


def ancestors(before: Before, node: int) -> Iterator[int]:
    """Yield every node that *node* waits for, directly or not, nearest first."""
    seen = set(before[node])
    queue = list(seen)
    for source in queue:  # grows while it is read
        yield source
        fresh = [further for further in before[source] if further not in seen]
        seen.update(fresh)
        queue.extend(fresh)


def is_ancestor(before: Before, rank: Sequence[int], source: int, node: int) -> bool:
    """Whether *node* waits for *source*, directly or not.

    *rank* is each node's place in a topological order: nothing ranked before *source* is looked at.
    """
    if source in before[node]:
        return True
    lowest = rank[source]
    seen: set[int] = set()
    stack = [node]
    while stack:
        for further in before[stack.pop()]:
            if further == source:
                return True
            if rank[further] > lowest and further not in seen:
                seen.add(further)
                stack.append(further)
    return False


def not_ancestors(
    before: Before, order: Sequence[int], questions: Iterable[tuple[int, int]], meet: Collection[int] = ()
) -> list[tuple[int, int]]:
    """Return those of the *questions* ``(node, source)`` where *node* does not wait for *source*.

    A node in *meet* waits for only one of its direct sources, so only what all of them wait for counts.
    One pass over the graph answers 4096 distinct sources; direct edges need none.
    """
    no: list[tuple[int, int]] = []
    open_questions: dict[int, list[int]] = {}
    for node, source in questions:
        if source not in before[node] or (node in meet and len(before[node]) > 1):
            open_questions.setdefault(source, []).append(node)
    sources = list(open_questions)
    for start in range(0, len(sources), _CHUNK):
        bits = {source: 1 << place for place, source in enumerate(sources[start : start + _CHUNK])}
        masks = _reach(before, order, bits, meet)
        no += [
            (node, source) for source, bit in bits.items() for node in open_questions[source] if not masks[node] & bit
        ]
    return no


def _reach(before: Before, order: Sequence[int], bits: dict[int, int], meet: Collection[int]) -> list[int]:
    """Return for each node the bits of the nodes that it waits for."""
    masks = [0] * len(before)
    for node in order:
        reached = [masks[source] | bits.get(source, 0) for source in before[node]]
        if not reached:
            continue
        mask = reached[0]
        if node in meet:
            for other in reached[1:]:
                mask &= other
        else:
            for other in reached[1:]:
                mask |= other
        masks[node] = mask
    return masks
