"""The algorithms on graphs, against definitions that are obviously right and slow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from szal.model import graph

LONG = 20_000


@st.composite
def graphs(draw: st.DrawFn, *, cyclic: bool = True) -> list[list[int]]:
    """Draw ``before`` lists; without *cyclic*, of a graph whose nodes are in no helpful order."""
    count = draw(st.integers(0, 9))
    if not count:
        return []
    edges = draw(st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=16))
    names = draw(st.permutations(range(count)))
    before: list[list[int]] = [[] for _ in range(count)]
    for node, source in edges:
        if cyclic:
            before[node].append(source)
        elif node != source:
            before[names[max(node, source)]].append(names[min(node, source)])
    return [sorted(set(sources), key=draw(st.permutations(range(count))).index) for sources in before]


def reachable(before, node):
    """Return all that *node* waits for: the definition."""
    found = set()
    while True:
        more = {source for each in {node, *found} for source in before[each]} if found else set(before[node])
        if more <= found:
            return found
        found |= more


def chain(count=LONG):
    return [[node - 1] if node else [] for node in range(count)]


def ranks(order):
    places = {node: place for place, node in enumerate(order)}
    return [places[node] for node in range(len(order))]


@given(graphs())
def test_successors_are_the_same_edges_the_other_way_round(before):
    forward = {(source, node) for node, sources in enumerate(before) for source in sources}
    after = graph.successors(before)
    assert len(after) == len(before)
    assert {(source, node) for source, nodes in enumerate(after) for node in nodes} == forward
    assert sum(map(len, after)) == len(forward)


@given(graphs())
def test_a_topological_order_has_each_node_after_its_sources_and_leaves_out_what_is_stuck(before):
    order = graph.topological_order(before)
    on_cycle = {node for node in range(len(before)) if node in reachable(before, node)}
    stuck = {node for node in range(len(before)) if ({node} | reachable(before, node)) & on_cycle}
    assert sorted(order) == sorted(set(range(len(before))) - stuck)
    for node in order:
        assert all(order.index(source) < order.index(node) for source in before[node])


@given(graphs())
def test_a_cycle_is_found_where_there_is_one(before):
    order = graph.topological_order(before)
    if len(order) == len(before):
        return
    cycle = graph.find_cycle(before, order)
    assert len(cycle) == len(set(cycle)) >= 1
    for source, node in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        assert source in before[node]


def test_a_cycle_is_told_in_the_order_in_which_it_would_run():
    before = [[2], [0], [1], [0]]
    cycle = graph.find_cycle(before, graph.topological_order(before))
    start = cycle.index(0)
    assert cycle[start:] + cycle[:start] == [0, 1, 2]


@given(graphs())
def test_ancestors_are_all_that_a_node_waits_for_nearest_first(before):
    for node in range(len(before)):
        found = list(graph.ancestors(before, node))
        assert len(found) == len(set(found))
        assert set(found) == reachable(before, node)
        distances = [distance(before, node, source) for source in found]
        assert distances == sorted(distances)


def distance(before, node, source):
    steps, edge = 1, set(before[node])
    while source not in edge:
        steps, edge = steps + 1, {further for each in edge for further in before[each]}
    return steps


@given(graphs(cyclic=False))
def test_is_ancestor_agrees_with_the_definition(before):
    rank = ranks(graph.topological_order(before))
    for node in range(len(before)):
        found = {source for source in range(len(before)) if graph.is_ancestor(before, rank, source, node)}
        assert found == reachable(before, node)


def surely_before(before, meet):
    """Return for each node what must have ended before it, where one of *meet* waits for any one source."""
    sure = [set() for _ in before]
    for node in graph.topological_order(before):
        each = [{source} | sure[source] for source in before[node]]
        if each:
            sure[node] = set.intersection(*each) if node in meet else set.union(*each)
    return sure


@given(graphs(cyclic=False), st.sets(st.integers(0, 8)), st.data())
def test_not_ancestors_answers_many_questions_at_once(before, meet, data):
    nodes = st.integers(0, max(0, len(before) - 1))
    questions = data.draw(st.lists(st.tuples(nodes, nodes), unique=True)) if before else []
    sure = surely_before(before, meet)
    answer = graph.not_ancestors(before, graph.topological_order(before), questions, meet)
    assert sorted(answer) == sorted((node, source) for node, source in questions if source not in sure[node])


@pytest.mark.parametrize("count", [4095, 4096, 4097, 9000])
def test_not_ancestors_with_more_sources_than_fit_one_pass(count):
    before = chain(count)
    questions = [(count - 1 - source, source) for source in range(count)]
    expected = [(node, source) for node, source in questions if source >= node]
    assert sorted(graph.not_ancestors(before, list(range(count)), questions)) == sorted(expected)


# -- hostile sizes ------------------------------------------------------------------------------------


def test_a_long_chain_needs_no_deep_stack():
    before = chain()
    order = graph.topological_order(before)
    assert order == list(range(LONG))
    assert sum(1 for _ in graph.ancestors(before, LONG - 1)) == LONG - 1
    assert graph.is_ancestor(before, order, 0, LONG - 1)
    assert not graph.is_ancestor(before, order, LONG - 1, 0)
    assert graph.not_ancestors(before, order, [(LONG - 1, 0), (0, LONG - 1)]) == [(0, LONG - 1)]


def test_a_long_cycle_is_found_whole():
    before = chain()
    before[0] = [LONG - 1]
    assert len(graph.find_cycle(before, graph.topological_order(before))) == LONG


def test_a_long_way_to_a_short_cycle():
    before = [[], *([node + 1] for node in range(1, LONG - 1)), [LONG - 2]]
    assert sorted(graph.find_cycle(before, graph.topological_order(before))) == [LONG - 2, LONG - 1]


def test_everything_waits_for_one_and_one_waits_for_everything():
    before = [[], *([0] for _ in range(1, LONG)), list(range(1, LONG))]
    order = graph.topological_order(before)
    assert (order[0], order[-1], len(order)) == (0, LONG, LONG + 1)
    assert set(graph.ancestors(before, LONG)) == set(range(LONG))
    assert graph.is_ancestor(before, ranks(order), 0, LONG)


def test_a_ladder_with_exponentially_many_paths_is_walked_once():
    """Two nodes a rung, each waiting for both below: 2**50 000 paths."""
    before = [[] if node < 2 else [node // 2 * 2 - 2, node // 2 * 2 - 1] for node in range(LONG)]
    order = graph.topological_order(before)
    assert len(order) == LONG
    assert len(list(graph.ancestors(before, LONG - 1))) == LONG - 2
    assert graph.is_ancestor(before, ranks(order), 0, LONG - 1)
    assert graph.not_ancestors(before, order, [(LONG - 1, 0), (LONG - 1, LONG - 2)]) == [(LONG - 1, LONG - 2)]


@pytest.mark.parametrize("before", [[], [[]]])
def test_next_to_nothing(before):
    assert graph.successors(before) == before
    assert graph.topological_order(before) == list(range(len(before)))
    assert graph.not_ancestors(before, [], []) == []


def test_a_node_that_waits_for_itself_is_a_cycle():
    assert graph.topological_order([[0], []]) == [1]
    assert graph.find_cycle([[0], []], [1]) == [0]
