"""A step with `foreach` runs once for each element of a list, and ends with the last of these items."""

import threading
from collections import Counter

import pytest
from helper_engine import bounded, waited
from hypothesis import given, settings
from hypothesis import strategies as st

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    GiveUp,
    Handlers,
    RetryAfter,
    SkipStep,
    StepDef,
    StepStatus,
    TriggerMode,
    WorkflowState,
)
from szal.errors import ItemsFailed, NoList, TooManyItems

DONE, FAILED, SKIPPED, UNDONE = StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.ROLLED_BACK


def fan_out(**options):
    """A flow of one step that runs over ``inputs.files``, and one that comes after it."""
    flow = FlowDef("fan", FlowMode.DAG)
    each = flow.add_step(StepDef("each", **{"foreach": "inputs.files", "retry_delay": 0.0, **options}))
    flow.add_step(StepDef("after", depends_on=[each]))
    return flow


def run(handler, files, flow=None, **config):
    with Engine(handler, EngineConfig(**config)) as engine:
        return bounded(engine.run, flow or fan_out(), {"files": files})


def upper(ctx):
    """Return the element in capitals; "bad" fails. Of the step after: what it has from the items."""
    if ctx.step.name != "each":
        return ctx.outputs.get("each")
    if ctx.item == "bad":
        raise ValueError("three")
    return ctx.item.upper()


def statuses(result):
    return [item.status for item in result["each"].items]


class TestItems:
    def test_the_output_is_the_list_of_outputs_in_order(self):
        result = run(upper, ["a", "b", "c"])
        assert result["after"].output == ["A", "B", "C"]
        assert [(item.step_name, item.output, item.attempts) for item in result["each"].items] == [
            ("each", "A", 1),
            ("each", "B", 1),
            ("each", "C", 1),
        ]
        assert result.success

    def test_a_step_that_runs_over_no_list_has_no_items(self):
        assert run(upper, ["a"])["after"].items is None

    def test_an_empty_list_completes_with_an_empty_list(self):
        result = run(upper, [])
        assert (result["each"].status, result["each"].output, result["each"].items) == (DONE, [], [])
        assert result["after"].status is DONE

    def test_the_list_may_be_the_output_of_a_step_or_a_part_of_it(self):
        first = StepDef("list")
        steps = [first, StepDef("each", foreach="steps.list.output.files", depends_on=[first])]
        handlers = Handlers()
        handlers.step("list")(lambda ctx: {"files": ["x", "y"]})
        handlers.step("each")(lambda ctx: (ctx.index, ctx.item))
        assert run(handlers, [], FlowDef("f", FlowMode.DAG, steps=steps))["each"].output == [(0, "x"), (1, "y")]

    @pytest.mark.parametrize("mode", [FlowMode.SEQUENTIAL, FlowMode.PARALLEL, FlowMode.HIERARCHICAL])
    def test_it_runs_in_every_mode(self, mode):
        flow = FlowDef("f", mode, steps=[StepDef("each", foreach=["a", "b"])])
        assert run(upper, [], flow)["each"].output == ["A", "B"]

    def test_without_a_store_an_element_may_be_any_object(self):
        values = [object(), object()]
        assert run(lambda ctx: ctx.item, values)["each"].output == values

    def test_an_item_is_this_attempts_own(self):
        def spoil(ctx):
            if ctx.step.name == "each":
                ctx.item.append("spoilt")
                return len(ctx.item)
            return None

        files = [[1], [2, 3]]
        assert run(spoil, files)["each"].output == [2, 3]
        assert files == [[1], [2, 3]]

    def test_templates_see_the_item_and_its_index(self):
        flow = fan_out(config={"url": "http://{{item.host}}/{{index}}", "n": "{{index}}"})
        result = run(lambda ctx: ctx.config, [{"host": "a"}, {"host": "b"}], flow)
        assert result["each"].output == [{"url": "http://a/0", "n": 0}, {"url": "http://b/1", "n": 1}]

    def test_a_template_that_finds_nothing_in_one_item_fails_that_one(self):
        result = run(lambda ctx: ctx.config, [{"host": "a"}, {}], fan_out(config={"h": "{{item.host}}"}))
        assert statuses(result) == [DONE, FAILED]
        assert "nothing at item.host" in result["each"].error

    def test_each_item_has_an_idempotency_key_of_its_own(self):
        keys = run(lambda ctx: ctx.idempotency_key, [1, 2])["each"].output
        assert len(set(keys)) == 2

    def test_a_command_runs_for_each_element(self):
        flow = FlowDef("f", steps=[StepDef("each", foreach=["a b", "c"], step_type="shell", config=COMMAND)])
        assert run(Handlers(), [], flow)["each"].output == ["a b 0", "c 1"]


COMMAND = {"run": "echo {{item}} {{index}}", "output": "text"}


class TestFailures:
    def test_the_step_fails_after_the_others_have_finished(self):
        result = run(upper, ["a", "b", "bad", "d", "e"])
        assert result["each"].error == "1 of 5 items failed; [2]: ValueError: three"
        assert (result["each"].status, result["each"].output, result["each"].error_type) == (
            FAILED,
            None,
            "ItemsFailed",
        )
        assert statuses(result) == [DONE, DONE, FAILED, DONE, DONE]
        assert result["each"].items[2].error == "ValueError: three"
        assert (result["after"].status, result["after"].error) == (SKIPPED, "dependency failed")
        with pytest.raises(ItemsFailed) as caught:
            result.raise_for_failure()
        assert isinstance(caught.value.__cause__, ValueError)

    def test_the_error_names_the_first_few_that_failed(self):
        error = run(upper, ["bad"] * 6)["each"].error
        assert error.startswith("6 of 6 items failed; [0]: ValueError: three; [1]: ")
        assert error.endswith("; and 3 more")

    def test_each_item_is_retried_by_itself(self):
        def flaky(ctx):
            if ctx.step.name == "each" and ctx.attempt <= ctx.item:
                raise ValueError("again")
            return ctx.attempt

        result = run(flaky, [0, 2, 1, 5], fan_out(max_retries=2))
        assert [item.attempts for item in result["each"].items] == [1, 3, 2, 3]
        exhausted = "retry exhausted: each after 3 attempts: ValueError: again"
        assert result["each"].error == f"1 of 4 items failed; [3]: {exhausted}"

    def test_give_up_retry_after_and_skip_are_the_items_own(self):
        def speak(ctx):
            if ctx.step.name == "each" and ctx.attempt == 1:
                raise {"give up": GiveUp("no"), "again": RetryAfter(0), "skip": SkipStep("nothing to do")}[ctx.item]
            return ctx.attempt

        result = run(speak, ["again", "skip", "give up"], fan_out(max_retries=3))
        assert [(item.status, item.attempts) for item in result["each"].items] == [(DONE, 2), (SKIPPED, 1), (FAILED, 1)]
        result = run(speak, ["again", "skip"], fan_out(max_retries=3))
        assert result["each"].output == [2, None]

    def test_the_time_limit_is_one_of_each_item(self):
        def slow(ctx):
            if ctx.item == "slow":
                ctx.sleep(20)
            return ctx.item

        result = run(slow, ["a", "slow", "b"], fan_out(timeout=1))
        assert statuses(result) == [DONE, FAILED, DONE]
        assert result["each"].error == "1 of 3 items failed; [1]: step timeout: each after 1000ms"

    @pytest.mark.parametrize(
        ("files", "there_is"),
        [
            ({"a": 1}, "it is an object"),
            ("text", "it is text"),
            (None, "it is null"),
            ({1, 2}, "it is a set"),
        ],
    )
    def test_what_is_no_list_is_told_with_the_name_of_the_step(self, files, there_is):
        result = run(upper, files)
        assert result["each"].error == f"step 'each' has no list to run over at inputs.files: {there_is}"
        assert result["each"].items is None
        with pytest.raises(NoList):
            result.raise_for_failure()

    def test_a_path_that_leads_nowhere_says_what_there_is(self):
        result = run(upper, {"names": []}, fan_out(foreach="inputs.files.nmes"))
        assert result["each"].error.endswith("inputs.files has 'names'; did you mean 'names'?")

    def test_a_step_that_did_not_complete_has_handed_on_no_list(self):
        first = StepDef("list")
        options = {"foreach": first, "depends_on": [first], "trigger_mode": TriggerMode.ALL_DONE}
        flow = FlowDef("f", FlowMode.DAG, steps=[first, StepDef("each", **options)])
        result = run(lambda ctx: 1 / 0, [], flow)
        assert result["each"].error == "step 'each' has no list to run over at steps.list.output: step 'list' failed"

    def test_a_list_that_is_too_long_is_refused(self):
        result = run(upper, ["a"] * 4, fan_out(max_items=3))
        assert result["each"].error == "step 'each' was to run over 4 elements, and takes 3 at most (max_items)"
        assert result["each"].items is None
        with pytest.raises(TooManyItems):
            result.raise_for_failure()
        assert run(upper, ["a"] * 3, fan_out(max_items=3)).success


class TestTheStepAsAWhole:
    def test_its_condition_is_asked_once(self):
        result = run(upper, ["a"], fan_out(condition="inputs.files == 'no'"))
        assert (result["each"].status, result["each"].error, result["each"].items) == (
            SKIPPED,
            "condition not met",
            None,
        )

    def test_events_of_items_have_their_index(self):
        events = []
        run(upper, ["a", "bad"], event_sink=events.append, max_concurrency=1)
        told = [(event.event_type, event.index, event.items) for event in events if event.step_name == "each"]
        assert Counter(told) == Counter(
            [
                ("step_started", None, None),
                *(("step_started", index, 2) for index in (0, 1)),
                ("step_completed", 0, 2),
                ("step_failed", 1, 2),
                ("step_failed", None, None),
            ]
        )
        assert told[0][1] is told[-1][1] is None

    def test_the_metrics_are_of_steps(self):
        seen = []
        run(upper, ["a", "b"], step_type_metrics=lambda *args: seen.append(args[:2]))
        assert seen == [("default", DONE)] * 2


class TestMaxParallel:
    def test_so_many_items_are_under_way_at_most(self):
        together, most, lock = [0], [0], threading.Lock()
        full = threading.Event()

        def count(ctx):
            if ctx.step.name != "each":
                return
            with lock:
                together[0] += 1
                most[0] = max(most[0], together[0])
                if together[0] == 3:
                    full.set()
            waited(full)
            with lock:
                together[0] -= 1

        assert run(count, list(range(20)), fan_out(max_parallel=3)).success
        assert most[0] == 3

    def test_it_limits_no_other_step(self):
        both = threading.Barrier(2)
        flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("each", foreach=[1], max_parallel=1), StepDef("other")])
        assert run(lambda ctx: both.wait(20), [], flow).success

    def test_an_item_that_waits_for_its_next_attempt_keeps_its_place(self):
        order = []

        def note(ctx):
            order.append((ctx.index, ctx.attempt))
            if ctx.item == "flaky" and ctx.attempt == 1:
                raise ValueError
            return 1

        run(
            note,
            ["flaky", "b"],
            FlowDef(
                "f", steps=[StepDef("each", foreach=["flaky", "b"], max_retries=1, retry_delay=0.01, max_parallel=1)]
            ),
        )
        assert order == [(0, 1), (0, 2), (1, 1)]


class TestStopping:
    def test_a_cancellation_skips_the_items_that_have_not_begun(self):
        token, begun = CancellationToken(), threading.Event()

        def hold(ctx):
            if ctx.index == 0:
                return "done"
            begun.set()
            ctx.sleep(20)
            ctx.check()
            return None

        with Engine(hold, EngineConfig(max_concurrency=2)) as engine:
            execution = engine.start(fan_out(max_parallel=1), {"files": [0, 1, 2, 3]}, cancel=token)
            waited(begun)
            token.cancel()
            result = execution.result(20)
        assert result.state is WorkflowState.CANCELLED
        assert [item.error for item in result["each"].items] == [None, "Cancelled: cancelled", "cancelled", "cancelled"]
        assert result["each"].error == "1 of 4 items failed; [1]: Cancelled: cancelled; 2 of 4 items not run: cancelled"

    def test_the_time_limit_of_the_flow_holds_for_items(self):
        flow = fan_out(max_parallel=1)
        flow.timeout = 1
        result = run(lambda ctx: ctx.sleep(20), [0, 1, 2], flow, max_concurrency=2)
        assert (result.state, result.error) == (WorkflowState.FAILED, "flow timeout exceeded")
        assert "step timeout: each" in result["each"].error
        assert "not run: flow timeout exceeded" in result["each"].error
        assert (result["after"].status, result["after"].error) == (SKIPPED, "flow timeout exceeded")

    @pytest.mark.parametrize("max_parallel", [None, 1])
    def test_the_first_failure_of_a_flow_that_fails_fast_ends_items_too(self, max_parallel):
        begun, flow = threading.Event(), FlowDef("f", FlowMode.PARALLEL, fail_fast=True)
        flow.add_step(StepDef("each", foreach=[0, 1, 2], max_parallel=max_parallel))
        flow.add_step(StepDef("boom"))

        def act(ctx):
            if ctx.step.name == "boom":
                waited(begun)
                raise ValueError
            begun.set()
            ctx.sleep(20)
            return "done"

        result = run(act, [], flow, max_concurrency=2)
        assert result["each"].status is FAILED
        assert {item.error for item in result["each"].items} == {"Cancelled: flow failed", "flow failed"}


class TestFailFast:
    """`FlowDef.fail_fast`: the first item that fails for good ends its siblings too."""

    def flow(self, count=5, **options):
        flow = FlowDef("f", FlowMode.DAG, fail_fast=True, rollback_on_failure=options.pop("rollback_on_failure", False))
        each = flow.add_step(StepDef("each", foreach=list(range(count)), retry_delay=0.0, **options))
        flow.add_step(StepDef("after", depends_on=[each]))
        return flow

    def test_what_runs_is_told_and_fails_and_the_rest_is_skipped(self):
        begun = {index: threading.Event() for index in (0, 2)}

        def act(ctx):
            if ctx.index == 1:
                for event in begun.values():
                    waited(event)
                raise ValueError("bad")
            begun[ctx.index].set()
            while ctx.sleep(20):
                pass
            return "late"

        result = run(act, [], self.flow(max_parallel=3))
        told, skipped = "Cancelled: flow failed", "flow failed"
        assert [item.error for item in result["each"].items] == [told, "ValueError: bad", told, skipped, skipped]
        assert statuses(result) == [FAILED] * 3 + [SKIPPED] * 2
        assert (result.state, result.error) == (WorkflowState.FAILED, "step 'each[1]' failed: ValueError: bad")
        assert result["each"].error == (
            "3 of 5 items failed; [1]: ValueError: bad; [0]: Cancelled: flow failed; [2]: Cancelled: flow failed; "
            "2 of 5 items not run: flow failed"
        )
        assert (result["after"].status, result["after"].error) == (SKIPPED, "flow failed")
        assert isinstance(result["each"].exception.__cause__, ValueError)

    @pytest.mark.parametrize("options", [{"max_concurrency": 1}, {}], ids=str)
    @pytest.mark.parametrize("max_parallel", [None, 1])
    def test_no_item_begins_after_that(self, options, max_parallel):
        begun = []

        def act(ctx):
            begun.append(ctx.index)
            if ctx.index == 1:
                raise ValueError("bad")

        result = run(act, [], self.flow(max_parallel=max_parallel), **options)
        if max_parallel == 1:
            assert begun == [0, 1]
        assert result.error == "step 'each[1]' failed: ValueError: bad"
        assert all(item.status is not SKIPPED or item.error == "flow failed" for item in result["each"].items)

    def test_other_steps_end_with_them(self):
        begun, flow = threading.Event(), self.flow(2)
        flow.add_step(StepDef("slow"))

        def act(ctx):
            if ctx.step.name == "slow":
                begun.set()
                while ctx.sleep(20):
                    pass
                return
            waited(begun)
            raise ValueError("bad")

        assert run(act, [], flow)["slow"].error == "Cancelled: flow failed"

    def test_an_item_that_is_tried_again_ends_nothing_until_it_is_given_up_on(self):
        attempts = []

        def act(ctx):
            attempts.append((ctx.index, ctx.attempt))
            if ctx.index == 0 and ctx.attempt < 3:
                raise ValueError("bad")
            return "done"

        assert run(act, [], self.flow(2, max_retries=2, max_parallel=1)).success
        assert attempts == [(0, 1), (0, 2), (0, 3), (1, 1), (None, 1)]

    def test_where_the_failure_is_caught_every_item_runs(self):
        def act(ctx):
            if ctx.index == 0:
                raise ValueError("bad")
            return "done"

        result = run(act, [], self.flow(3, continue_on_error=True, max_parallel=1))
        assert result.success
        assert statuses(result) == [FAILED, DONE, DONE]

    def test_the_items_of_a_finally_step_all_run(self):
        flow = FlowDef("f", fail_fast=True, steps=[StepDef("each", foreach=[0, 1, 2], max_parallel=1, finally_=True)])

        def act(ctx):
            if ctx.index == 0:
                raise ValueError("bad")

        assert statuses(run(act, [], flow)) == [FAILED, DONE, DONE]

    def test_what_has_completed_is_undone(self):
        undone = []

        def act(ctx):
            if ctx.index == 1:
                raise ValueError("bad")
            return ctx.index

        options = {"max_parallel": 1, "rollbackable": True, "rollback_on_failure": True}
        result = run(act, [], self.flow(3, **options), rollback_handler=lambda ctx: undone.append(ctx.index))
        assert (result.state, undone) == (WorkflowState.ROLLED_BACK, [0])
        assert statuses(result) == [UNDONE, FAILED, SKIPPED]

    def test_an_item_that_fails_once_its_step_has_lost_a_race_ends_nothing(self):
        flow, begun = FlowDef("f", FlowMode.DAG, fail_fast=True), threading.Event()
        each = flow.add_step(StepDef("each", foreach=[0, 1], max_parallel=1))
        quick = flow.add_step(StepDef("quick"))
        flow.add_step(StepDef("won", depends_on=[each, quick], trigger_mode=TriggerMode.ANY, cancel_losers=True))

        def act(ctx):
            if ctx.step.name == "quick":
                waited(begun)
            elif ctx.step.name == "each":
                begun.set()
                while ctx.sleep(20):
                    pass
                raise ValueError("too late")

        result = run(act, [], flow)
        assert result.success, result
        assert result["each"].error == "Cancelled: another won"


class TestUndo:
    def test_items_are_undone_one_by_one_in_the_reverse_order_of_completion(self):
        undone = []

        def undo(ctx):
            undone.append((ctx.step.name, ctx.index, ctx.item, ctx.output))

        flow = FlowDef("f", rollback_on_failure=True)
        flow.add_step(StepDef("first", rollbackable=True))
        flow.add_step(StepDef("each", foreach=["a", "b", "c"], rollbackable=True, max_parallel=1))
        flow.add_step(StepDef("boom"))
        result = run(lambda ctx: 1 / 0 if ctx.step.name == "boom" else ctx.item, [], flow, rollback_handler=undo)
        assert undone == [
            ("each", 2, "c", "c"),
            ("each", 1, "b", "b"),
            ("each", 0, "a", "a"),
            ("first", None, None, None),
        ]
        assert (result["each"].status, statuses(result)) == (UNDONE, [UNDONE] * 3)
        assert result.rolled_back

    def test_of_a_step_that_failed_the_items_that_completed_are_undone(self):
        undone = []
        flow = fan_out(rollbackable=True)
        flow.rollback_on_failure = True
        result = run(upper, ["a", "bad", "c"], flow, rollback_handler=lambda ctx: undone.append(ctx.index))
        assert sorted(undone) == [0, 2]
        assert (result["each"].status, statuses(result)) == (FAILED, [UNDONE, FAILED, UNDONE])
        assert result.state is WorkflowState.ROLLED_BACK

    def test_items_and_steps_are_undone_in_one_order(self):
        undone, between, done = [], threading.Event(), threading.Event()
        flow = FlowDef("f", FlowMode.DAG, rollback_on_failure=True)
        each = flow.add_step(StepDef("each", foreach=[0, 1], rollbackable=True))
        beside = flow.add_step(StepDef("beside", rollbackable=True))
        flow.add_step(StepDef("boom", depends_on=[each, beside]))
        first = threading.Event()

        def act(ctx):
            if ctx.step.name == "boom":
                raise ValueError
            if ctx.index == 1:
                waited(between)
            elif ctx.step.name == "beside":
                waited(first)

        def told(event):
            if event.event_type == "step_completed":
                {(0, "each"): first, (None, "beside"): between}.get((event.index, event.step_name), done).set()

        run(act, [], flow, event_sink=told, rollback_handler=lambda ctx: undone.append((ctx.step.name, ctx.index)))
        assert undone == [("each", 1), ("beside", None), ("each", 0)]

    def test_an_item_that_cannot_be_undone_is_named(self):
        def undo(ctx):
            if ctx.index == 1:
                raise ValueError("stays")

        steps = [StepDef("each", foreach=[1, 2, 3], rollbackable=True), StepDef("boom")]
        flow = FlowDef("f", steps=steps, rollback_on_failure=True)
        result = run(lambda ctx: 1 / 0 if ctx.step.name == "boom" else 1, [], flow, rollback_handler=undo)
        assert result.state is WorkflowState.FAILED
        assert "not rolled back: each[1] (ValueError: stays)" in result.error
        assert (result["each"].status, statuses(result)) == (DONE, [UNDONE, DONE, UNDONE])


@settings(max_examples=60, deadline=None)
@given(
    items=st.lists(st.tuples(st.sampled_from(["ok", "bad", "flaky", "skip"]), st.integers()), max_size=12),
    max_parallel=st.none() | st.integers(1, 4),
    workers=st.integers(1, 3),
    retries=st.integers(0, 1),
)
def test_random_lists_end_as_a_loop_over_them_would(items, max_parallel, workers, retries):
    def act(ctx):
        if ctx.step.name != "each":
            return None
        kind, value = ctx.item
        if kind == "skip":
            raise SkipStep("no")
        if kind == "bad" or (kind == "flaky" and ctx.attempt == 1):
            raise ValueError(value)
        return value

    flow = fan_out(max_parallel=max_parallel, max_retries=retries)
    result = run(act, items, flow, max_concurrency=workers)
    good = {"ok": DONE, "skip": SKIPPED, "flaky": DONE if retries else FAILED, "bad": FAILED}
    expected = [good[kind] for kind, _ in items]
    assert statuses(result) == expected
    if FAILED in expected:
        assert result["each"].status is FAILED
        assert result["each"].error.startswith(f"{expected.count(FAILED)} of {len(items)} items failed; ")
    else:
        assert result["each"].output == [None if kind == "skip" else value for kind, value in items]


def test_an_undo_of_an_item_sees_the_item_among_the_steps():
    seen = []

    def undo(ctx):
        seen.append((ctx.index, ctx.steps["each"].output, ctx.outputs.get("each"), ctx.render("{{steps.each.output}}")))

    steps = [StepDef("each", foreach=[1, 0, 3], rollbackable=True, undo_on_failure=True)]
    run(lambda ctx: [6 // ctx.item], [], FlowDef("f", steps=steps, rollback_on_failure=True), rollback_handler=undo)
    assert sorted(seen, key=lambda each: each[0]) == [(0, [6], [6], [6]), (1, None, None, None), (2, [2], [2], [2])]


def test_an_item_that_runs_past_its_time_is_named_in_the_log(caplog):
    flow = FlowDef("f", steps=[StepDef("each", foreach=[0, 1], timeout=0.02)])
    go_on = threading.Event()
    run(lambda ctx: ctx.index and waited(go_on), [], flow)
    go_on.set()
    assert "step each[1] of f " in caplog.text
