"""What can be known of a flow before it runs: its graph, its compiled texts, and everything wrong with it.

Linear in the size of the flow and not recursive: a chain of 100 000 steps is analysed in a second or two.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from itertools import islice

import attrs

from szal.errors import CycleDetected, InvalidFlow, did_you_mean
from szal.model import fields, graph, key, texts
from szal.model.analysis import Analysis, FlowMode, walk
from szal.model.config import faults_in
from szal.model.rate import problems_between
from szal.model.references import Scope
from szal.model.shapes import Steps
from szal.model.step import ENGINE_TYPES, MAX_ITEMS, StepDef, TriggerMode
from szal.model.variables import INPUT, OUTPUT, clashes
from szal.number import shown

__all__ = ["analyse"]


def _misfits(mode: object, steps: Sequence[object]) -> tuple[str, ...]:
    """Return what is of the wrong type altogether: with that, nothing else can be looked at."""
    problem = fields.problem_of_member(mode, FlowMode)
    found = [] if problem is None else [f"the flow's mode {problem}"]
    pending = [(f"step number {number}", step) for number, step in enumerate(steps, 1)]
    for label, step in pending:  # grows while it is read
        if not isinstance(step, StepDef):
            found.append(f"{label} is not a StepDef ({shown(step)})")
        elif step.sub_steps:
            pending += [(f"a sub-step of {_name(step)}", sub) for sub in step.sub_steps]
    return tuple(found)


def analyse(
    flow_name: str,
    mode: FlowMode,
    steps: Sequence[StepDef],
    problems: Iterable[str] = (),
    inputs: Collection[str] | None = None,
    *,
    configs: bool = False,
) -> Analysis:
    """Return what the plan is made of, or raise `InvalidFlow` with every problem there is.

    *problems* are what is wrong with the flow's own fields; *inputs* those that it declares, None where it does not.
    With *configs*, those of the engine's own types are looked at too, commands, and names of exceptions: what has been
    recorded goes on without that, as far as it gets.
    """
    misfits = _misfits(mode, steps)
    if misfits:
        raise InvalidFlow(flow_name, (*problems, *misfits))
    return _Analyser(mode, steps, problems, inputs, configs=configs).run(flow_name)


def _name(step: StepDef) -> str:
    name: object = step.name
    return repr(name) if isinstance(name, str) else shown(name)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_early(step: StepDef) -> bool:
    trigger: object = step.trigger_mode
    return isinstance(trigger, TriggerMode) and trigger.is_early


_AFTER_SUCCESS = (TriggerMode.ALL, TriggerMode.ALL_COMPLETED)  # triggers under which nobody sees a step that failed
_HINTS = 20  # looking for the name that was meant takes long: the first few problems say it


class _Analyser:
    def __init__(
        self,
        mode: FlowMode,
        steps: Sequence[StepDef],
        problems: Iterable[str],
        inputs: Collection[str] | None,
        *,
        configs: bool,
    ) -> None:
        self.problems = list(problems)
        self._configs = configs
        self._inputs = inputs
        self._mentions: list[tuple[int, str, frozenset[str]]] = []  # the steps that a text of a step names
        walked = list(walk(steps))
        self.found = Analysis(
            mode=mode,
            steps=[step for step, _ in walked],
            parents=[parent for _, parent in walked],
            places={},
            before=[[] for _ in walked],
            order=[],
        )

    def run(self, flow_name: str) -> Analysis:
        self._names()
        named = Steps(
            {name: self.found.steps[place] for name, place in self.found.places.items()},
            may_have_failed=any(
                step.trigger_mode not in _AFTER_SUCCESS or step.continue_on_error for step in self.found.steps
            ),
        )
        in_condition, in_config = (
            Scope(named, self._inputs, is_condition, self._may_guess) for is_condition in (True, False)
        )
        for place, step in enumerate(self.found.steps):
            self._shape(step)
            if step.foreach is not None:
                self._list(place, step, in_config)
            self._texts(place, step, in_condition, in_config)
            for problem in fields.problems_of_names(step) if self._configs else ():
                self._problem(step, problem)
            if self._configs and _is_text(step.step_type) and step.step_type in ENGINE_TYPES:
                for fault in faults_in(step.step_type, step.config):
                    self._problem(step, str(fault))
            for problem in texts.misplaced_in_step(step) if self._configs else ():
                self._problem(step, problem)
        self.problems += problems_between(self.found.steps)
        self._variables()
        cycle = self._dependencies()
        if not cycle:
            self._references()
        if self._configs:
            self.problems += self.found.flaws
        if cycle:
            raise CycleDetected(flow_name, tuple(self.problems), cycle)
        if self.problems:
            raise InvalidFlow(flow_name, tuple(self.problems))
        return self.found

    def _may_guess(self) -> bool:
        return len(self.problems) < _HINTS

    def _problem(self, step: StepDef, text: str) -> None:
        self.problems.append(f"step {_name(step)}: {text}")

    def _names(self) -> None:
        ids: set[str] = set()
        for place, step in enumerate(self.found.steps):
            name: object = step.name
            if not isinstance(name, str) or not name:
                self.problems.append(f"step number {place + 1}: its name must be a non-empty string, not {shown(name)}")
            elif fields.problem_of_text(name) is not None:
                self._problem(step, f"its name {fields.problem_of_text(name)}")
            elif name.startswith(key.MEMO):
                self._problem(step, f"its name begins with {key.MEMO!r}")
            elif self.found.places.setdefault(name, place) != place:
                self._problem(step, "duplicate step name")
            if (problem := fields.problem_of_id(step.id)) is not None:
                self._problem(step, f"its id {problem}")
            elif step.id in ids:
                self._problem(step, f"duplicate step id {step.id!r}")
            else:
                ids.add(step.id)
        for name, place in self.found.places.items():
            owner = key.item_in(name)
            other = None if owner is None else self.found.places.get(owner[0])
            if owner is not None and other is not None and self.found.steps[other].foreach is not None:
                self._problem(self.found.steps[place], f"an item of step {owner[0]!r} is called that")

    def _variables(self) -> None:
        """Take note of commands, and of names that make one variable for them."""
        found = self.found
        has_undo = any("run" in (texts.undo_of(step) or ()) for step in found.steps)
        found.has_commands = has_undo or any(step.step_type == "shell" for step in found.steps)
        if found.has_commands:
            inputs = clashes(INPUT, filter(_is_text, self._inputs or ()))
            found.flaws += [f"the flow's inputs: {clash}" for clash in inputs]
            steps = clashes(OUTPUT, found.places, has_undo=has_undo)
            found.flaws += [f"step {clash.name!r}: {clash}" for clash in steps]

    def _shape(self, step: StepDef) -> None:
        if step.done_when is not None and _is_text(step.step_type) and step.step_type in ENGINE_TYPES:
            self._problem(step, f"done_when does not go with the type {step.step_type!r}")
        mode = self.found.mode
        trigger: object = step.trigger_mode  # anything may stand there
        for problem in (*fields.problems_of_step(step), *texts.unread_in_step(step)):
            self._problem(step, problem)
        if step.sub_steps and mode is not FlowMode.HIERARCHICAL:
            self._problem(step, f"sub_steps in {mode} mode: only hierarchical mode has them")
        if step.depends_on and mode is not FlowMode.DAG:
            self._problem(step, f"depends_on in {mode} mode: only dag mode has it")
        if isinstance(trigger, TriggerMode):
            self._trigger(step, trigger)
        if step.cancel_losers is True and trigger is not TriggerMode.ANY:
            self._problem(step, "cancel_losers without trigger mode any: there is no race")
        if step.foreach is None and step.max_parallel is not None:
            self._problem(step, "max_parallel without foreach")
        if step.foreach is None and step.max_items != MAX_ITEMS:
            self._problem(step, "max_items without foreach")
        if step.foreach is not None and _is_text(step.step_type) and step.step_type in ENGINE_TYPES:
            self._problem(step, f"foreach with step type {step.step_type!r}: only what a handler does runs over a list")

    def _trigger(self, step: StepDef, trigger: TriggerMode) -> None:
        if trigger.is_early and not step.depends_on:
            self._problem(step, f"trigger mode {trigger} without dependencies: it would never run")
        elif self.found.mode is not FlowMode.DAG and trigger is not TriggerMode.ALL and step.finally_ is not True:
            self._problem(step, f"trigger mode {trigger} in {self.found.mode} mode: only dag mode has triggers")

    def _list(self, place: int, step: StepDef, scope: Scope) -> None:
        path = texts.foreach_of(step, scope, partial(self._problem, step))
        if path is not None:
            self.found.lists[place] = path
            if path.step is not None:
                self._mentions.append((place, "foreach", frozenset({path.step})))

    def _finals(self) -> None:
        """Take note of the finally steps; report what comes before one that is none, and one below another step."""
        found = self.found
        found.finals = frozenset(place for place, step in enumerate(found.steps) if step.finally_ is True)
        if not found.finals:
            return
        for place, step in enumerate(found.steps):
            if place in found.finals:
                if found.parents[place] >= 0:
                    self._problem(step, "a finally step below another: it stands at the top of its flow")
                continue
            for source in found.before[place]:
                if source in found.finals:
                    name = found.steps[source].name
                    self._problem(step, f"depends on the finally step {name!r}, which runs when all else is over")

    def _texts(self, place: int, step: StepDef, in_condition: Scope, in_config: Scope) -> None:
        if step.condition is None and step.config is None and step.until is None:
            return
        report, of_call = partial(self._problem, step), in_condition
        if step.foreach is not None:
            in_config, of_call = (attrs.evolve(scope, has_item=True) for scope in (in_config, of_call))
        until = texts.until_of(step, attrs.evolve(of_call, steps=of_call.steps.after_a_call_of(step)), report)
        if until is not None:
            self.found.untils[place] = until
            self._mentions.append((place, "until", until.steps))
        condition = texts.condition_of(step, in_condition, report)
        if condition is not None:
            self.found.conditions[place] = condition
            self._mentions.append((place, "condition", condition.steps))
        template = texts.template_of(step, in_config, report)
        if template is not None:
            self.found.templates[place] = template
            self._mentions.append((place, "config", template.steps))
        undo = texts.template_of_undo(step, in_config, report)
        if undo is not None:  # it may name what the step itself has come to
            self._mentions.append((place, "config.rollback", undo.steps - {step.name}))

    def _dependencies(self) -> tuple[str, ...]:
        """Fill `before` and `order`; return the names along a cycle, if there is one."""
        found = self.found
        by_id = {step.id: place for place, step in enumerate(found.steps) if _is_text(step.id)}
        if found.mode is FlowMode.DAG:
            for place, step in enumerate(found.steps):
                for dependency in dict.fromkeys(filter(_is_text, step.depends_on)):
                    if dependency in by_id:
                        found.before[place].append(by_id[dependency])
                        continue
                    hint = "; depends_on takes steps or their ids, not names" if dependency in found.places else ""
                    self._problem(step, f"depends on an unknown step {dependency!r}{hint}")
        self._finals()
        found.order = graph.topological_order(found.before)
        if len(found.order) == len(found.steps):
            return ()
        circle = graph.find_cycle(found.before, found.order)
        first = circle.index(min(circle))
        names = [found.steps[place].name for place in circle[first:] + circle[: first + 1]]
        self.problems.append(f"dependency cycle: {' -> '.join(names)}")
        return tuple(names)

    def _references(self) -> None:
        """Report each text that refers to a step that cannot have run before its own."""
        found = self.found
        questions: dict[tuple[int, int], str] = {}
        names = list(islice(found.places, 1000))
        for place, what, mentioned in self._mentions:
            for name in sorted(mentioned):
                source = found.places.get(name)
                if source is None:
                    hint = did_you_mean(name, names) if self._may_guess() else ""
                    self._problem(found.steps[place], f"{what} refers to an unknown step {name!r}{hint}")
                else:
                    questions.setdefault((place, source), what)
        impossible = self._impossible(questions)
        may_wait = self._may_wait(impossible)
        for place, source in impossible:
            what, name = questions[place, source], found.steps[source].name
            hint = f": add {name!r} to what it needs" if (place, source) in may_wait else ""
            self._problem(found.steps[place], f"{what} refers to step {name!r}, which cannot have run before it{hint}")
        self._races({*impossible})

    def _may_wait(self, pairs: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
        """Return those of the *pairs* whose first step could need the second."""
        found = self.found
        if found.mode is not FlowMode.DAG:
            return set()
        turned = [(source, place) for place, source in pairs if source != place and source not in found.finals]
        return {(place, source) for source, place in graph.not_ancestors(found.before, found.order, turned)}

    def _races(self, impossible: set[tuple[int, int]]) -> None:
        """Note each condition of a step that may run early which names a step that need not have ended by then."""
        found = self.found
        early = {place for place in found.conditions if _is_early(found.steps[place]) and place not in found.finals}
        questions = [
            (place, found.places[name])
            for place in sorted(early)
            for name in sorted(found.conditions[place].steps)
            if name in found.places
        ]
        if not questions:
            return
        meet = {place for place, step in enumerate(found.steps) if _is_early(step)}
        for place, source in sorted({*graph.not_ancestors(found.before, found.order, questions, meet)} - impossible):
            step, name = found.steps[place], found.steps[source].name
            found.flaws.append(
                f"step {_name(step)}: condition refers to step {name!r}, which may not have ended by then, as trigger "
                f"mode {step.trigger_mode} waits for one of several: put the condition on a step that depends on "
                f"{name!r} alone, or wait for all of them (trigger mode all_done)"
            )

    def _impossible(self, questions: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        found = self.found
        if found.finals:  # all others have ended before one of these begins
            questions = [
                (node, source) for node, source in questions if node not in found.finals or source in found.finals
            ]
        if found.mode.is_linear:
            return [(node, source) for node, source in questions if source >= node or source in found.finals]
        return sorted(graph.not_ancestors(found.before, found.order, questions))
