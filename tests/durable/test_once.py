"""What a handler has found out once and for all: ``ctx.once``."""

import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from durable.children import killed
from helper_engine import LONG, bounded, waited

from szal import CancellationToken, Engine, FlowDef, FlowMode, InvalidFlow, StepDef, WorkflowState
from szal.model.key import memo_key
from szal.stores.ledger import TakeOver


def flow(**policy):
    return FlowDef("crawl", steps=[StepDef("crawl", retry_delay=0, **policy)])


class Pages:
    """A handler that fetches pages, and fails on the way as often as it is told; what it fetches is counted."""

    def __init__(self, failures=0, count=3):
        self.left, self.count, self.fetched = failures, count, Counter()

    def fetch(self, number, size=1):
        self.fetched[number] += 1
        return {"page": (number, size)}  # a tuple: recorded as a list

    def __call__(self, ctx):
        found = []
        for number in range(self.count):
            if number == 2 and self.left:
                self.left -= 1
                raise ConnectionError("on the way")
            found.append(ctx.once(f"page:{number}", self.fetch, number, size=2))
        return found


PAGES = [{"page": [number, 2]} for number in range(3)]


@pytest.fixture(params=["recorded", "not recorded"])
def any_engine(request, new_engine):
    """Make engines, with a store or without."""
    if request.param == "recorded":
        yield new_engine
    else:
        made = []

        def make(handler, **config):
            made.append(Engine(handler))
            return made[-1]

        yield make
        for engine in made:
            engine.close()


class TestInOneProcess:
    def test_another_attempt_gets_what_was_found_out(self, any_engine):
        pages = Pages(failures=2)
        result = any_engine(pages).run(flow(max_retries=2))
        assert result["crawl"].attempts == 3
        assert [page["page"][0] for page in result["crawl"].output] == [0, 1, 2]
        assert pages.fetched == {0: 1, 1: 1, 2: 1}

    def test_what_raises_keeps_nothing(self, any_engine):
        calls = []

        def find(ctx):
            calls.append(ctx.attempt)
            if ctx.attempt == 1:
                raise OSError("not yet")
            return "found"

        engine = any_engine(lambda ctx: [ctx.once("x", find, ctx), ctx.once("x", find, ctx)])
        assert engine.run(flow(max_retries=1)).outputs == {"crawl": ["found"] * 2}
        assert calls == [1, 2]

    def test_threads_of_a_handler_share_it(self, any_engine):
        calls, begun, go = [], threading.Event(), threading.Event()

        def slow():
            calls.append(1)
            begun.set()
            waited(go)
            return "slow"

        def handler(ctx):
            found = []
            threads = [threading.Thread(target=lambda: found.append(ctx.once("x", slow))) for _ in range(3)]
            for thread in threads:
                thread.start()
            waited(begun)
            others = [ctx.once(f"other {number}", lambda: "fast") for number in range(3)]  # which does not wait
            go.set()
            for thread in threads:
                thread.join(LONG)
            return found + others

        assert any_engine(handler).run(flow()).outputs == {"crawl": ["slow"] * 3 + ["fast"] * 3}
        assert calls == [1]

    def test_who_waits_calls_it_where_the_first_fails(self, any_engine):
        begun, go, calls = threading.Event(), threading.Event(), []

        def find():
            calls.append(len(calls))
            if calls == [0]:
                begun.set()
                waited(go)
                raise ConnectionError("reset")
            return "found"

        def handler(ctx):
            with ThreadPoolExecutor(2) as threads:
                first = threads.submit(ctx.once, "x", find)
                waited(begun)
                second = threads.submit(ctx.once, "x", find)
                go.set()
                return [str(first.exception(LONG)), second.result(LONG)]

        assert any_engine(handler).run(flow()).outputs == {"crawl": ["reset", "found"]}

    def test_what_a_caller_changes_in_it_nobody_else_sees(self, any_engine):
        kept = {"pages": [1, [2]]}

        def handler(ctx):
            found = ctx.once("x", lambda: kept)
            found["pages"][1].append(ctx.attempt)
            found["pages"].pop(0)
            if ctx.attempt < 3:
                raise ConnectionError("again")
            return found

        assert any_engine(handler).run(flow(max_retries=2)).outputs == {"crawl": {"pages": [[2, 3]]}}

    def test_an_attempt_that_is_left_behind_keeps_nothing(self, any_engine):
        go, over, late = threading.Event(), threading.Event(), []

        def find(ctx):
            if ctx.attempt == 1:
                waited(go)
            return f"attempt {ctx.attempt}"

        def handler(ctx):
            try:
                return [ctx.once("x", find, ctx), ctx.once("y", find, ctx)]
            except BaseException as error:
                late.append(f"{type(error).__name__}: {error}")
                over.set()
                raise
            finally:
                go.set()

        result = any_engine(handler).run(flow(timeout=1.5, max_retries=1))
        assert result.outputs == {"crawl": ["attempt 2"] * 2}
        waited(over)
        assert late == ["Cancelled: nobody waits for this attempt any more"]

    def test_who_waits_in_one_that_is_left_behind_is_told_at_once(self, any_engine):
        begun, go, over, late = threading.Event(), threading.Event(), threading.Event(), []

        def find():
            begun.set()
            waited(go)

        def ask(ctx):
            waited(begun)
            try:
                ctx.once("x", find)
            except BaseException as error:
                late.append(f"{type(error).__name__}: {error}")
            over.set()

        def handler(ctx):
            thread = threading.Thread(target=ask, args=(ctx,), daemon=True)
            thread.start()
            ctx.once("x", find)

        result = any_engine(handler).run(flow(timeout=0.1))
        assert result["crawl"].error_type == "StepTimeout"
        waited(over)
        assert late == ["Cancelled: nobody waits for this attempt any more"]
        go.set()

    def test_each_step_and_each_item_has_its_own(self, any_engine):
        steps = [StepDef("a"), StepDef("b"), StepDef("each", foreach="inputs.names")]
        handler = lambda ctx: ctx.once("x", lambda: [ctx.step.name, ctx.index])  # noqa: E731
        result = any_engine(handler).run(FlowDef("f", FlowMode.PARALLEL, steps=steps), {"names": [7, 8]})
        assert result.outputs == {"a": ["a", None], "b": ["b", None], "each": [["each", 0], ["each", 1]]}

    def test_it_cannot_be_called_within_itself(self, any_engine):
        result = bounded(any_engine(lambda ctx: ctx.once("x", lambda: ctx.once("x", list))).run, flow())
        assert result["crawl"].error == "RuntimeError: ctx.once('x') is called within itself"

    @pytest.mark.parametrize("key", ["", 7, None])
    def test_a_key_is_a_text(self, any_engine, key):
        result = any_engine(lambda ctx: ctx.once(key, list)).run(flow())
        assert result["crawl"].error == f"TypeError: the key of ctx.once must be a text that is not empty, not {key!r}"

    def test_what_it_calls_is_a_function_that_does_something(self, any_engine):
        async def fetch(): ...

        for function, problem in ((7, "is no function, but of type int"), (fetch, "is .*fetch, an async function")):
            result = any_engine(lambda ctx, function=function: ctx.once("x", function)).run(flow())
            assert re.match(rf"NotAHandler: what ctx.once\('x', …\) is to call {problem}", result["crawl"].error)

    def test_the_names_of_its_own_parameters_are_free(self, any_engine):
        engine = any_engine(lambda ctx: ctx.once("x", dict, key=1, function=2))
        assert engine.run(flow()).outputs == {"crawl": {"key": 1, "function": 2}}

    def test_it_works_while_a_run_is_being_cancelled(self, any_engine):
        token = CancellationToken()

        def handler(ctx):
            token.cancel()
            return ctx.once("x", lambda: "cleaned up")

        result = any_engine(handler).run(flow(), cancel=token)
        assert result.state is WorkflowState.CANCELLED
        assert result["crawl"].error != "Cancelled: nobody waits for this attempt any more"


def test_no_step_may_be_called_as_a_memo_is():
    with pytest.raises(InvalidFlow, match="its name begins with"):
        FlowDef("f", steps=[StepDef(memo_key("a", "b"))]).validate()


def test_without_a_store_it_may_be_any_object():
    with Engine(lambda ctx: [ctx.once("x", set) is ctx.once("x", set), ctx.once("y", lambda: (1, {2}))]) as engine:
        assert engine.run(flow()).outputs == {"crawl": [True, (1, {2})]}


class TestRecorded:
    def test_it_is_what_is_recorded_from_the_first_time_on_and_each_time_anew(self, new_engine):
        def handler(ctx):
            first = ctx.once("x", lambda: {"sizes": (1, 2)})
            first["sizes"].append(3)
            return [first, ctx.once("x", list)]

        assert new_engine(handler).run(flow()).outputs == {"crawl": [{"sizes": [1, 2, 3]}, {"sizes": [1, 2]}]}

    def test_what_cannot_be_recorded_is_told_by_its_place(self, new_engine):
        result = new_engine(lambda ctx: ctx.once("x", lambda: {"when": {1, 2}})).run(flow())
        assert result["crawl"].error == """OutputNotSerializable: once('x')["when"]: set"""

    @pytest.mark.parametrize("durability", ["none", "flow", "step"])
    def test_it_is_committed_before_it_returns(self, new_engine, store, durability):
        def handler(ctx):
            ctx.once("x", lambda: 42)
            return [[name, text] for name, _, text in store.ledger.read(ctx.execution_id).memos]

        result = new_engine(handler, durability=durability).run(flow(), execution_id="e")
        assert result.outputs == {"crawl": [[memo_key("crawl", "x"), "42"]]}
        assert list(new_engine().look("e").steps) == ["crawl"]

    def test_who_was_taken_over_from_records_nothing(self, new_engine, store):
        seen = []

        def find(ctx):
            wanted = TakeOver(execution_id="e", owner="somebody else", ttl=30.0, is_gone=lambda owner: True)
            store.ledger.take_over(wanted)
            return 42

        def handler(ctx):
            try:
                ctx.once("x", find, ctx)
            except BaseException as error:
                seen.append(str(error))
                raise

        with pytest.raises(BaseException, match="taken over"):
            new_engine(handler).run(flow(), execution_id="e")
        assert seen == ["another process runs this execution now"]
        assert list(store.ledger.read("e").memos) == []

    def test_what_has_failed_and_is_run_again_under_its_id_goes_on_with_it(self, new_engine):
        pages = Pages(failures=2)
        engine = new_engine(pages)
        assert engine.run(flow(), execution_id="e").state is WorkflowState.FAILED
        assert engine.run(flow(), execution_id="e", retry_failed=True).state is WorkflowState.FAILED
        assert engine.run(flow(), execution_id="e", retry_failed=True).outputs == {"crawl": PAGES}
        assert pages.fetched == {0: 1, 1: 1, 2: 1}

    def test_a_rerun_is_another_execution_and_begins_anew(self, new_engine):
        pages = Pages(failures=1)
        engine = new_engine(pages)
        engine.run(flow(), execution_id="e")
        assert engine.rerun("e").success
        assert pages.fetched == {0: 2, 1: 2, 2: 1}

    def test_with_the_execution_it_goes(self, new_engine, store):
        with new_engine(Pages()) as engine:
            engine.run(flow(), execution_id="e")
            store.remove("e")
            engine.run(flow(), execution_id="e")
        assert len(store.ledger.read("e").memos) == 3


DIES = """
    place = sys.argv[3]
    def pause(here):
        if here == place:
            os.kill(os.getpid(), signal.SIGKILL)
    def fetch(number):
        add(sys.argv[2], f"fetch {number}")
        pause(f"in {number}")
        return os.urandom(4).hex()
    def handler(ctx):
        for number in range(3):
            value = ctx.once(f"page {number}", fetch, number)
            add(sys.argv[2], f"got {number} {value}")
            pause(f"after {number}")
    result = new_engine(handler).run(FlowDef("crawl", steps=[StepDef("crawl")]), execution_id="e")
    tell(result.state)
"""


@pytest.mark.parametrize("place", [f"{where} {number}" for where in ("in", "after") for number in range(3)])
def test_killed_anywhere_each_is_found_out_once_and_stays_what_it_was(store_url, log, new_engine, place):
    killed(DIES, store_url, log.path, place)

    def handler(ctx):
        return [ctx.once(f"page {number}", lambda: log.add(f"fetch {number}") or "new") for number in range(3)]  # noqa: B023

    with new_engine(handler) as engine:
        (result,) = engine.recover()
    fetches = Counter(line for line in log.lines if line.startswith("fetch"))
    where, number = place.split()
    assert fetches == {f"fetch {each}": 1 + (where == "in" and each == int(number)) for each in range(3)}
    got = dict(line.split()[1:] for line in log.lines if line.startswith("got"))
    assert [got.get(str(each), "new") for each in range(3)] == result.outputs["crawl"]


@pytest.mark.parametrize("key", ["x" * 201, "a\0b", "\ud800"])
def test_a_key_that_not_every_store_can_hold_is_refused_by_all(key: str) -> None:
    with Engine(lambda ctx: ctx.once(key, int)) as engine:
        result = engine.run(FlowDef("demo", steps=[StepDef("a")]))
    assert "ValueError: the key of ctx.once" in (result["a"].error or "")
