"""A flow compiled for execution: nodes, gates and typed edges, the only thing that the scheduler sees.

An edge leads from a node to a gate, which opens once all edges into it are settled, or sooner: `OPENS` says which
outcome opens a gate at once (for ANY nodes that the first source completed). Nodes that wait for the same sources stand
behind one gate, so that a layer which waits for all of another costs the sum of their sizes, not the product. The modes
differ only in their edges. An edge's kind says what an outcome at its source means for its target: it may leave a mark
at the gate. When that opens, the marks decide whether a node behind it runs or is skipped. Reading a plan costs O(1)
per node and per edge.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import attrs

from szal.collector import without_collector
from szal.expressions.condition import CompiledCondition
from szal.expressions.path import Json, Path
from szal.expressions.template import CompiledTemplate
from szal.model import graph
from szal.model.analysis import Analysis, FlowMode
from szal.model.config import UP_TO_DATE
from szal.model.flow import FlowDef
from szal.model.inputs import ANY_INPUTS, Inputs
from szal.model.kept import Kept
from szal.model.key import item_in, item_key
from szal.model.known_inputs import known_inputs
from szal.model.recorded import as_read_again
from szal.model.step import ENGINE_TYPES, StepDef, TriggerMode
from szal.scheduler import retry
from szal.scheduler.outcomes import MARKS, OPENS, EdgeKind, Mark, Outcome

__all__ = ["MARKS", "OPENS", "EdgeKind", "Item", "Mark", "Node", "Outcome", "Plan"]


_M = Mark
_LINEAR = _M.PRIOR_FAILED | _M.PARENT_FAILED | _M.PARENT_PASSED | _M.PARENT_BLOCKED
_BLOCKED_BY: Final = {
    TriggerMode.ALL: _M.FAILED | _M.UNMET | _LINEAR,
    TriggerMode.ANY: 0,  # but see Node.needs
    TriggerMode.ALL_COMPLETED: _M.FAILED | _M.UNMET | _M.SKIPPED,
    TriggerMode.ALL_DONE: 0,
    TriggerMode.ONE_FAILED: 0,  # but see Node.needs
    TriggerMode.ONE_DONE: 0,
}
_EDGES: Final = {
    TriggerMode.ANY: EdgeKind.EITHER,
    TriggerMode.ONE_FAILED: EdgeKind.FAILING,
    TriggerMode.ONE_DONE: EdgeKind.FIRST,
}
"""What the edges into a step of a dag are, by its trigger; DEPENDENCY where nothing else is said."""


@attrs.define(eq=False, repr=False)
class Item:
    """One element of the list that a step runs over: `index` of `count`. `digest` is what is recorded of it."""

    index: int
    count: int
    value: Json = None
    digest: str | None = None


@attrs.define(eq=False, repr=False)
class Node:
    """One step in a plan. `edges` lead to (gate, kind of the edge)."""

    place: int
    step: StepDef
    blocked_by: int = 0
    needs: int = 0  # a mark without which it does not run
    failure: Outcome = Outcome.FAILED  # what it is to its successors, and its run, that it fails
    condition: CompiledCondition | None = None
    seen_by_condition: tuple[tuple[str, int], ...] = ()  # the steps its condition may see: name, place
    template: CompiledTemplate | None = None
    until: CompiledCondition | None = None  # it is called again until that holds
    seen_by_until: tuple[tuple[str, int], ...] = ()
    foreach: Path | list[Json] | None = None  # the list that it runs over, or where that is
    item: Item | None = None  # that it is, of a step that runs over a list
    key: str = attrs.field(init=False)
    """What it is called where each has another name: in events and rows of stores."""
    gate: int = attrs.field(default=-1, init=False)  # that it stands behind
    edges: list[tuple[int, EdgeKind]] = attrs.field(factory=list)
    losers: tuple[int, ...] = ()  # the places of what ends when it starts: only it waits for them
    may_be_skipped: bool = attrs.field(init=False)
    """Whether it may be skipped although no edge has left a mark."""
    plain: bool = attrs.field(init=False)
    """Whether, where no edge has left a mark, there is nothing to it but calling its handler."""
    shares: bool = attrs.field(init=False)
    """Whether its handler shares something with others, or is called at a rate: it needs a permit."""
    limit: float | None = attrs.field(init=False)
    """Of its first attempt, in seconds; others may have less."""
    next_in_chain: "Node | None" = attrs.field(default=None, init=False)
    """The plain node without a limit that waits for this one alone, where no other waits for this one."""

    def __attrs_post_init__(self) -> None:
        step = self.step
        self.key = step.name if self.item is None else item_key(step.name, self.item.index)
        self.may_be_skipped = self.condition is not None or self.needs != 0
        self.shares = bool(step.resources or step.rate)
        is_called = step.idempotent and self.foreach is None and step.step_type not in ENGINE_TYPES and not self.shares
        limits = (step.timeout, step.total_timeout, None if self.until is None else step.until_timeout)
        self.limit = min((limit for limit in limits if limit is not None), default=None)
        self.plain = not self.may_be_skipped and is_called and self.until is None

    def blocked(self, marks: int, parent_reason: str | None) -> tuple[str, Outcome] | None:
        """Return why the *marks* keep this node from running and what that is to its successors, or None.

        A step under one that was skipped takes over its reason, *parent_reason*.
        """
        if not marks & self.blocked_by and marks & self.needs == self.needs:
            return None
        if marks & Mark.PARENT_FAILED:
            return "parent step failed", Outcome.BLOCKED
        if marks & (Mark.PARENT_PASSED | Mark.PARENT_BLOCKED):
            return parent_reason or "", Outcome.PASSED if marks & Mark.PARENT_PASSED else Outcome.BLOCKED
        if marks & Mark.PRIOR_FAILED:
            return "prior step failed", Outcome.BLOCKED
        if self.step.trigger_mode is TriggerMode.ONE_FAILED:
            return "no dependency failed", Outcome.UNMET
        if marks & Mark.FAILED:
            return "dependency failed", Outcome.BLOCKED
        return "dependency skipped", Outcome.UNMET


@attrs.define(eq=False, repr=False)
class Plan:
    """Nodes in the flow's own order (their place is their index), and the gates that they stand behind."""

    nodes: list[Node]
    steps: Sequence[StepDef]
    places: dict[str, int]  # by step name
    inputs: Inputs = ANY_INPUTS
    gates: list[list[Node]] = attrs.field(factory=list)  # the nodes behind each
    waiting: list[int] = attrs.field(factory=list)  # how many edges lead to each gate
    parents: Sequence[int] = ()
    before: list[list[int]] = attrs.field(factory=list)  # dependencies; empty lists in linear modes
    rank: Sequence[int] = ()
    roots: list[Node] = attrs.field(factory=list)  # they wait for nothing
    finals: frozenset[int] = frozenset()  # the finally steps: they have a run of their own, when all else is over
    has_priorities: bool = False  # not all are equal
    races: list[Node] = attrs.field(factory=list)  # the nodes that have losers
    final_roots: list[Node] = attrs.field(factory=list)  # those of them that wait for no other
    engine_steps: frozenset[int] = frozenset()  # the steps that the engine does itself
    linear: bool = False
    may_run_commands: bool = False  # some step is a command, or is undone by one, or is a sub-flow, which may have some
    may_be_done: Sequence[int] = ()  # the steps that say when their work is there
    names_exceptions: Sequence[StepDef] = ()  # the steps that do, in what they are tried again after
    flaws: Sequence[str] = ()  # what keeps it from being begun, though not from going on
    sharers: Sequence[StepDef] = ()  # the steps that share something with others
    pins: bool = False  # some step is done on the coordinating thread only
    isolates: bool = False  # some step says that it is done in a process of its own
    starts_early: bool = False  # some node runs before all that it depends on is done
    read_again: FlowDef | None = None
    """The flow as whoever reads what is recorded of it sees it, where that is not the same."""

    @classmethod
    def of(cls, flow: FlowDef) -> "Plan":
        """Return the plan of *flow*, compiled once for as long as the flow says the same (`Kept`).

        Raises `InvalidFlow`, with every problem.
        """
        fields = (
            flow.mode,
            flow.name,
            flow.id,
            flow.description,
            flow.version,
            flow.timeout,
            flow.rollback_on_failure,
            flow.parameters,
            flow.concurrency_key,
            *flow.sub_flows,
        )
        kept: Kept[Plan] | None = flow._plan
        if kept is None or not kept.is_of(flow, fields):
            kept = flow._plan = Kept(flow, fields, without_collector(partial(_made, flow), len(flow.steps)))
        return kept.made

    @classmethod
    def chain(cls, links: Iterable[tuple[StepDef, Item | None]]) -> "Plan":
        """Return a plan that takes steps, or items of some, one after another, whatever their outcomes: rollback's."""
        nodes = [Node(place, step, item=item) for place, (step, item) in enumerate(links)]
        steps = [node.step for node in nodes]
        plan = cls(nodes, steps, {step.name: place for place, step in enumerate(steps)}, linear=True)
        for node in nodes:
            plan.add_gate(node)
        for node in nodes[1:]:
            plan.connect(node.place - 1, node.gate, EdgeKind.AFTER)
        plan.find_chains()
        return plan

    @classmethod
    def of_items(cls, node: Node, items: Sequence[Item]) -> "Plan":
        """Return the plan of the *items* of a step: none waits for another."""
        step = node.step
        edges: list[tuple[int, EdgeKind]] = []  # one for all: nothing waits for an item
        texts = {"template": node.template, "until": node.until, "seen_by_until": node.seen_by_until}
        nodes = [Node(item.index, step, item=item, edges=edges, **texts) for item in items]  # type: ignore[arg-type]
        plan = cls(nodes, [step] * len(nodes), {}, pins=step.inline == "always", sharers=[step] if node.shares else ())
        if nodes:
            plan.add_gate(*nodes)
            plan.roots = nodes
        return plan

    def place_of(self, key: str) -> int | None:
        """Return the place of the step that is called *key* in rows of stores, or that such an item is of."""
        found = self.item_in(key)
        return self.places.get(key if found is None else found[0])

    def item_in(self, key: str) -> tuple[str, int] | None:
        """Return the name of the step, and the index, of the item that *key* may be of; None: a step is called so."""
        return None if key in self.places else item_in(key)

    def node_called(self, key: str) -> Node:
        """Return the step, or an item of one, that is called *key* in rows of stores. Raises KeyError."""
        place = self.places.get(key)
        if place is not None:
            return self.nodes[place]
        found = item_in(key)
        if found is None or (node := self.nodes[self.places[found[0]]]).foreach is None:
            raise KeyError(key)
        return Node(found[1], node.step, template=node.template, item=Item(found[1], 0))

    def add_gate(self, *behind: Node) -> int:
        """Put nodes behind a gate of their own, which nothing leads to yet; return it."""
        gate = len(self.gates)
        self.gates.append(list(behind))
        self.waiting.append(0)
        for node in behind:
            node.gate = gate
        return gate

    def connect(self, source: int, gate: int, kind: EdgeKind) -> None:
        """Let an edge lead from the node at *source* to *gate*."""
        self.nodes[source].edges.append((gate, kind))
        self.waiting[gate] += 1

    def find_chains(self) -> None:
        """Take note of where runs begin and of the straight pieces, once all edges are there."""
        self.roots = [node for node in self.nodes if not self.waiting[node.gate]]
        if self.finals:
            self.final_roots = [node for node in self.roots if node.place in self.finals]
            self.roots = [node for node in self.roots if node.place not in self.finals]
        self.pins = any(node.step.inline == "always" for node in self.nodes)
        self.isolates = any(node.step.isolation == "process" for node in self.nodes)
        self.sharers = [node.step for node in self.nodes if node.shares]
        for node in self.nodes:
            if len(node.edges) == 1 and node.until is None:
                gate, kind = node.edges[0]
                behind = self.gates[gate]
                alone = len(behind) == 1 and self.waiting[gate] == 1 and not any(OPENS[kind])
                if alone and behind[0].plain and behind[0].limit is None and behind[0].step.inline == node.step.inline:
                    node.next_in_chain = behind[0]

    def successors(self, place: int) -> Iterator[tuple[int, EdgeKind]]:
        """Yield the places of the nodes that wait for the one at *place*, and what it is to them."""
        return ((node.place, kind) for gate, kind in self.nodes[place].edges for node in self.gates[gate])

    def sources(self, place: int) -> Sequence[int]:
        """Return the places of the nodes whose end the one at *place* waits for; of a line only the last of them."""
        if not self.linear or place in self.finals:
            return self.before[place]
        prior = place - 1
        while prior in self.finals:
            prior -= 1
        return (prior,) if prior >= 0 else ()

    def is_before(self, source: int, node: int) -> bool:
        """Whether *source* is an ancestor of *node*: something it waits for, directly or not."""
        if self.finals and (source in self.finals) != (node in self.finals):
            return node in self.finals
        if self.linear and not (self.finals and node in self.finals):
            return source < node
        return graph.is_ancestor(self.before, self.rank, source, node)

    def all_before(self, node: int) -> Iterable[int]:
        """Return the ancestors of *node*, in the flow's own order."""
        if not self.finals:
            return range(node) if self.linear else sorted(graph.ancestors(self.before, node))
        if node in self.finals:
            behind = set(graph.ancestors(self.before, node))
            return [place for place in range(len(self.nodes)) if place in behind or place not in self.finals]
        before = range(node) if self.linear else sorted(graph.ancestors(self.before, node))
        return [place for place in before if place not in self.finals]


def _made(flow: FlowDef) -> Plan:
    found = flow.analyse()
    plan = _compile(found)
    plan.read_again = as_read_again(flow)
    known = None if flow.parameters is None or flow.inputs else known_inputs(flow.parameters, found)
    plan.inputs = Inputs(flow.inputs, known=known, steps=found.places, are_variables=found.has_commands)
    return plan


def _compile(found: Analysis) -> Plan:
    plan = Plan(
        nodes=[_node(place, found) for place in range(len(found.steps))],
        steps=found.steps,
        places=found.places,
        parents=found.parents,
        engine_steps=frozenset(place for place, step in enumerate(found.steps) if step.step_type in ENGINE_TYPES),
        before=_before(found),
        finals=found.finals,
        has_priorities=len({step.priority for step in found.steps}) > 1,
        rank=_ranks(found.order),
        linear=found.mode.is_linear,
        may_run_commands=any(map(_may_run_commands, found.steps)),
        may_be_done=[place for place, step in enumerate(found.steps) if _may_be_done(step)],
        names_exceptions=[step for step in found.steps if _names_exceptions(step)],
        flaws=found.flaws,
    )
    if found.mode is FlowMode.DAG:
        _wire_dag(plan)
    elif plan.linear:
        _wire_line(plan)
    elif plan.nodes:
        plan.add_gate(*(node for node in plan.nodes if node.place not in plan.finals))
        for place in plan.finals:
            plan.add_gate(plan.nodes[place])
    plan.find_chains()
    _scopes(plan, found)
    if any(step.max_retries for step in found.steps):
        retry.get_ready()
    return plan


def _before(found: Analysis) -> list[list[int]]:
    """Return what each node waits for by edges: a finally step only for others of its kind."""
    if not found.finals:
        return found.before
    finals = found.finals
    return [
        [source for source in sources if place not in finals or source in finals]
        for place, sources in enumerate(found.before)
    ]


def _may_be_done(step: StepDef) -> bool:
    return step.done_when is not None or (isinstance(step.config, dict) and UP_TO_DATE in step.config)


def _names_exceptions(step: StepDef) -> bool:
    return any(isinstance(kind, str) for kind in (*step.retry_on, *step.give_up_on))


def _may_run_commands(step: StepDef) -> bool:
    if step.step_type in ("shell", "sub_flow"):
        return True
    return isinstance(step.config, Mapping) and "rollback" in step.config


def _node(place: int, found: Analysis) -> Node:
    step = found.steps[place]
    return Node(
        place,
        step,
        blocked_by=_BLOCKED_BY[step.trigger_mode],
        needs=Mark.MET if step.trigger_mode in (TriggerMode.ANY, TriggerMode.ONE_FAILED) else 0,
        failure=Outcome.CAUGHT if step.continue_on_error or step.finally_ else Outcome.FAILED,
        condition=found.conditions.get(place),
        until=found.untils.get(place),
        template=found.templates.get(place),
        foreach=step.foreach if isinstance(step.foreach, list) else found.lists.get(place),
    )


def _ranks(order: Sequence[int]) -> list[int]:
    ranks = [0] * len(order)
    for rank, place in enumerate(order):
        ranks[place] = rank
    return ranks


def _wire_dag(plan: Plan) -> None:
    gates: dict[tuple[EdgeKind, frozenset[int]], int] = {}
    for node in plan.nodes:
        sources = plan.before[node.place]
        kind = _EDGES.get(node.step.trigger_mode, EdgeKind.DEPENDENCY)
        if node.place in plan.finals:
            kind = EdgeKind.AFTER
        plan.starts_early = plan.starts_early or (node.step.trigger_mode.is_early and len(sources) > 1)
        key = kind, frozenset(sources)
        gate = gates.get(key)
        if gate is not None:
            node.gate = gate
            plan.gates[gate].append(node)
            continue
        gate = gates[key] = plan.add_gate(node)
        for source in sources:
            plan.connect(source, gate, kind)
    plan.races = [node for node in plan.nodes if node.step.cancel_losers]
    for node in plan.races:
        node.losers = _losers(plan, node)


def _losers(plan: Plan, winner: Node) -> tuple[int, ...]:
    """Return the places of the nodes that *winner* alone waits for, directly or not."""
    found: set[int] = set()
    behind = sorted(graph.ancestors(plan.before, winner.place), key=plan.rank.__getitem__, reverse=True)
    for place in behind:
        if all(target == winner.place or target in found for target, _ in plan.successors(place)):
            found.add(place)
    return tuple(sorted(found, key=plan.rank.__getitem__))


def _wire_line(plan: Plan) -> None:
    """Wire a depth-first order: each node waits for the one before it and for its parent."""
    prior = -1
    for node, parent in zip(plan.nodes, plan.parents, strict=True):
        gate = plan.add_gate(node)
        if node.place in plan.finals:
            continue
        if parent >= 0:
            plan.connect(parent, gate, EdgeKind.PARENT)
        if 0 <= prior != parent:
            plan.connect(prior, gate, EdgeKind.PRIOR)
        prior = node.place


def _scopes(plan: Plan, found: Analysis) -> None:
    """Give each condition the steps that must have finished before its own, so that it never depends on timing."""
    both = (found.conditions, found.untils)
    questions = [
        (place, found.places[name])
        for texts in both
        for place, condition in texts.items()
        for name in sorted(condition.steps)
    ]
    unsure = set()
    if plan.starts_early:
        early = {node.place for node in plan.nodes if node.step.trigger_mode.is_early}
        unsure = set(graph.not_ancestors(found.before, found.order, questions, meet=early))
        unsure = {(node, source) for node, source in unsure if node not in found.finals}
    for place, condition in found.conditions.items():
        plan.nodes[place].seen_by_condition = _seen(place, condition, found, unsure)
    for place, until in found.untils.items():
        plan.nodes[place].seen_by_until = _seen(place, until, found, unsure)


def _seen(
    place: int, condition: CompiledCondition, found: Analysis, unsure: Collection[tuple[int, int]]
) -> tuple[tuple[str, int], ...]:
    """Return the steps that a *condition* of the one at *place* sees: name, place."""
    named = ((name, found.places[name]) for name in sorted(condition.steps))
    return tuple((name, source) for name, source in named if (place, source) not in unsure)
