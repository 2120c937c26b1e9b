"""Random flows that are run again as they were corrected, and random parts of them: what runs is what a model says."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from szal import Engine, EngineConfig, FlowDef, FlowMode, Part, StepContext, StepDef, open_store

pytestmark = pytest.mark.slow

Sketch = dict[str, tuple[str, frozenset[str]]]
"""Of each step what it does, and which steps it needs: earlier ones."""

WORK = st.sampled_from(["ok", "good", "bad"])


@st.composite
def sketches(draw: st.DrawFn, work: st.SearchStrategy[str] = WORK) -> Sketch:
    found: Sketch = {}
    for name in draw(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1)):
        needs = draw(st.frozensets(st.sampled_from(sorted(found)))) if found else frozenset()
        found[name] = draw(work), needs
    return found


@st.composite
def corrections(draw: st.DrawFn, sketch: Sketch) -> Sketch:
    """Draw what remains of a flow, with some steps changed, some removed, some new."""
    found: Sketch = {}
    for name, (does, needs) in sketch.items():
        what = draw(st.sampled_from(["keep", "keep", "keep", "change", "remove", "rewire"]))
        left = frozenset(need for need in needs if need in found)
        if what == "change":
            does = draw(WORK)  # noqa: PLW2901
        elif what == "rewire" and found:
            left = draw(st.frozensets(st.sampled_from(sorted(found))))
        if what != "remove":
            found[name] = does, left
        if draw(st.integers(0, 4)) == 0 and f"new-{name}" not in sketch:
            found[f"new-{name}"] = (
                draw(WORK),
                draw(st.frozensets(st.sampled_from(sorted(found)))) if found else frozenset(),
            )
    return found or {"only": ("ok", frozenset())}


def flow_of(sketch: Sketch) -> FlowDef:
    made: dict[str, StepDef] = {}
    for name, (does, needs) in sketch.items():
        made[name] = StepDef(name, config=does, depends_on=[made[need] for need in sorted(needs)])
    return FlowDef("f", FlowMode.DAG, steps=made.values())


def after(sketch: Sketch, names: Iterable[str]) -> set[str]:
    """Return *names*, and all that comes after them."""
    found = set(names)
    for name, (_, needs) in sketch.items():
        if needs & found:
            found.add(name)
    return found


def ending(sketch: Sketch, *, kept: Iterable[str] = ()) -> tuple[set[str], set[str]]:
    """Return which steps run, and which of all have completed then."""
    ran, completed = set(), set(kept)
    for name, (does, needs) in sketch.items():
        if name not in completed and needs <= completed:
            ran.add(name)
            completed |= {name} if does != "bad" else set()
    return ran, completed


class Runs:
    """Runs flows in one store; `ran` are the steps of the last one."""

    def __init__(self) -> None:
        self.store = open_store("memory:")
        self.engine = Engine(self.do, EngineConfig(execution_store=self.store))
        self.ran: list[str] = []

    def do(self, ctx: StepContext) -> str:
        self.ran.append(ctx.step.name)
        if ctx.config == "bad":
            raise ValueError("bad")
        return str(ctx.config)

    def __enter__(self) -> "Runs":
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()
        self.store.close()


@given(st.data())
def test_a_rerun_of_a_corrected_flow_runs_what_the_model_says_and_so_does_the_next(data: st.DataObject) -> None:
    old = data.draw(sketches())
    with Runs() as runs:
        execution_id = runs.engine.run(flow_of(old)).execution_id
        completed = ending(old)[1]
        for _ in range(data.draw(st.integers(1, 3))):
            new = data.draw(corrections(old))
            changed = {name for name in new if old.get(name) != new[name]}
            kept = {name for name in completed if name in new} - after(new, changed)
            ran, completed = ending(new, kept=kept)
            runs.ran.clear()
            assert execution_id is not None
            result = runs.engine.rerun(execution_id, flow=flow_of(new))
            assert sorted(runs.ran) == sorted(ran)
            assert set(result.outputs) == completed
            execution_id, old = result.execution_id, new


@given(st.data())
def test_a_part_runs_its_steps_and_no_other(data: st.DataObject) -> None:
    sketch = data.draw(sketches(work=st.just("ok")))
    step = data.draw(st.sampled_from(sorted(sketch)))
    flow = flow_of(sketch)
    make, selected = data.draw(st.sampled_from([(Part.only, {step}), (Part.from_step, after(sketch, [step]))]))
    with Runs() as runs:
        done = runs.engine.run(flow).execution_id
        runs.ran.clear()
        assert done is not None
        part = make(flow, step)
        result = runs.engine.rerun(done, flow=part)
        assert set(runs.ran) == set(part.runs) == selected
        assert set(result.outputs) == selected | set(part.needs)
        assert all(sketch[name][1] <= set(result.outputs) for name in result.outputs)
