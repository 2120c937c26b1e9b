"""The threads below the engine: reused, let go of, and replaced where one is left behind."""

import contextvars
import gc
import threading
import weakref
from queue import SimpleQueue

import pytest
from helper_engine import LONG, bounded, waited

from szal import Engine, EngineConfig, FlowDef, FlowMode, StepDef
from szal.scheduler.workers import Threads, WorkerPool


class Work:
    """As much of an attempt as a lane knows: `execute` reports unless it was abandoned."""

    def __init__(self, body=lambda: None, *, abandoned=False):
        self.body = body
        self.abandoned = abandoned
        self.thread = None
        self.pool = None

    def execute(self, finished):
        self.thread = threading.current_thread()
        self.body()
        if not self.abandoned:
            finished.put(self)
        return not self.abandoned


@pytest.fixture
def threads():
    made = Threads()
    yield made
    made.close()


@pytest.fixture
def finished():
    return SimpleQueue()


def refuse(function, *args):
    raise RuntimeError("can't start new thread")


class TestThreads:
    @pytest.mark.parametrize(
        ("kind", "name", "daemon"), [("pooled", "szal-worker", False), ("daemon", "szal-limited", True)]
    )
    def test_are_named_by_what_they_are_for(self, threads, kind, name, daemon):
        seen = SimpleQueue()
        getattr(threads, kind)(lambda: seen.put(threading.current_thread()))
        thread = seen.get(timeout=LONG)
        assert thread.name.startswith(name)
        assert thread.daemon is daemon

    @pytest.mark.parametrize("kind", ["pooled", "daemon"])
    def test_as_many_as_are_needed_work_at_once(self, threads, kind):
        together, seen = threading.Barrier(40), SimpleQueue()
        for _ in range(40):
            getattr(threads, kind)(lambda: seen.put(together.wait(LONG)))
        assert sorted(seen.get(timeout=LONG) for _ in range(40)) == list(range(40))

    @pytest.mark.parametrize("kind", ["pooled", "daemon"])
    def test_end_when_closed_and_come_back_when_needed(self, threads, kind):
        seen = SimpleQueue()
        for _ in range(2):
            getattr(threads, kind)(lambda: seen.put(threading.current_thread()))
            thread = seen.get(timeout=LONG)
            threads.close()
            thread.join(LONG)
            assert not thread.is_alive()

    def test_close_waits_for_nobody(self, threads):
        release, entered = threading.Event(), threading.Event()
        for submit in (threads.pooled, threads.daemon):
            entered.clear()
            submit(lambda: (entered.set(), waited(release)))
            waited(entered)
        bounded(threads.close)
        release.set()

    def test_end_with_whoever_owned_them(self):
        threads, seen = Threads(), SimpleQueue()
        threads.daemon(lambda: seen.put(threading.current_thread()))
        thread = seen.get(timeout=LONG)
        del threads
        gc.collect()
        thread.join(LONG)
        assert not thread.is_alive()

    def test_none_is_started_before_it_is_needed(self):
        before = set(threading.enumerate())
        with Engine(lambda ctx: set(threading.enumerate()) - before) as engine:
            assert engine.run(FlowDef("f", steps=[StepDef("a")]))["a"].output == set()
        assert set(threading.enumerate()) <= before

    def test_an_idle_one_keeps_nothing_of_what_it_did_alive(self, threads):
        class Thing:
            pass

        thing, done = Thing(), threading.Event()
        alive = weakref.ref(thing)
        threads.daemon(lambda thing: done.set(), thing)
        del thing
        waited(done)
        again = threading.Event()
        threads.daemon(again.set)
        waited(again)
        gc.collect()
        assert alive() is None


class TestLane:
    def test_does_what_is_put_into_it(self, threads, finished):
        lane = WorkerPool((threads.pooled,), 4, finished)
        works = [Work() for _ in range(100)]
        for work in works:
            lane.put(work)
        assert {finished.get(timeout=LONG) for _ in works} == set(works)
        assert len({work.thread for work in works}) <= 4
        assert all(work.pool is lane for work in works)
        lane.close()

    def test_has_as_many_workers_as_its_limit_allows_and_its_load_asks_for(self, threads, finished):
        lane = WorkerPool((threads.pooled,), 3, finished)
        gate = threading.Event()
        for expected in (1, 2, 3, 3, 3):
            lane.put(Work(lambda: waited(gate)))
            assert lane.workers == expected
        assert lane.load == 5
        gate.set()
        for _ in range(5):
            finished.get(timeout=LONG)
            lane.leave()
        assert lane.load == 0
        lane.close()

    def test_replaces_a_worker_that_is_left_behind(self, threads, finished):
        lane = WorkerPool((threads.daemon,), 1, finished)
        gate, entered = threading.Event(), threading.Event()
        lane.put(Work(lambda: (entered.set(), waited(gate)), abandoned=True))
        waited(entered)
        following = Work()
        lane.put(following)
        lane.leave(abandoned=True)
        assert finished.get(timeout=LONG) is following
        assert (lane.load, lane.workers) == (1, 1)
        gate.set()
        lane.close()

    def test_a_worker_that_was_left_behind_does_not_come_back_as_one_too_many(self, threads, finished):
        lane = WorkerPool((threads.daemon,), 1, finished)
        gate, ended, busy, at_once = threading.Event(), threading.Event(), threading.Lock(), []
        lane.put(Work(lambda: (waited(gate), ended.set()), abandoned=True))

        def body():
            at_once.append(busy.acquire(blocking=False))
            gate.set()
            ended.wait(LONG)  # the one that was left behind is free again
            busy.release()

        works = [Work(body) for _ in range(50)]
        for work in works:
            lane.put(work)
        lane.leave(abandoned=True)
        assert [finished.get(timeout=LONG) for _ in works] == works
        assert at_once == [True] * 50
        lane.close()

    def test_takes_another_kind_of_thread_where_the_first_is_not_to_be_had(self, threads, finished):
        lane = WorkerPool((refuse, threads.daemon), 2, finished)
        work = Work()
        lane.put(work)
        assert finished.get(timeout=LONG) is work
        assert work.thread.daemon
        lane.close()

    def test_does_the_work_on_the_callers_thread_where_there_is_no_thread_at_all(self, finished):
        lane = WorkerPool((refuse, refuse), 2, finished)
        works = [Work() for _ in range(3)]
        for work in works:
            lane.put(work)
            assert finished.get(timeout=1) is work
            lane.leave()
        assert {work.thread for work in works} == {threading.current_thread()}

    def test_makes_do_with_the_workers_it_has(self, threads, finished):
        calls = []

        def only_once(function, *args):
            if calls:
                raise RuntimeError("can't start new thread")
            calls.append(function)
            threads.pooled(function, *args)

        lane = WorkerPool((only_once,), 4, finished)
        works = [Work() for _ in range(20)]
        for work in works:
            lane.put(work)
        assert {finished.get(timeout=LONG) for _ in works} == set(works)
        assert len({work.thread for work in works}) == 1
        lane.close()

    def test_loses_nothing_where_its_only_worker_is_left_behind_and_there_is_no_other(self, threads, finished):
        calls = []

        def only_once(function, *args):
            if calls:
                raise RuntimeError("can't start new thread")
            calls.append(function)
            threads.daemon(function, *args)

        lane = WorkerPool((only_once,), 1, finished)
        gate, entered = threading.Event(), threading.Event()
        lane.put(Work(lambda: (entered.set(), waited(gate)), abandoned=True))
        waited(entered)
        queued = [Work() for _ in range(3)]
        for work in queued:
            lane.put(work)
        bounded(lane.leave, abandoned=True)
        done = set()
        for _ in queued:
            done.add(finished.get(timeout=2))
        assert done == set(queued)
        gate.set()
        lane.close()

    def test_sends_all_its_workers_home_when_closed(self, threads, finished):
        lane = WorkerPool((threads.pooled,), 8, finished)
        together = threading.Barrier(8)
        works = [Work(lambda: together.wait(LONG)) for _ in range(8)]
        for work in works:
            lane.put(work)
        for _ in works:
            finished.get(timeout=LONG)
        lane.close()
        threads.close()
        for work in works:
            work.thread.join(LONG)
            assert not work.thread.is_alive()


def test_a_flow_runs_where_no_thread_can_be_started(monkeypatch):
    """The process has used up its threads: parallel steps are done one after another, by the caller."""

    def call():
        monkeypatch.setattr(threading.Thread, "start", refuse)
        try:
            return engine.run(flow)
        finally:
            monkeypatch.undo()

    flow = FlowDef(
        "f", FlowMode.PARALLEL, steps=[*(StepDef(f"s{i}") for i in range(5)), StepDef("limited", timeout=60)]
    )
    with Engine(lambda ctx: ctx.step.name, EngineConfig(max_concurrency=2)) as engine:
        result = call()
    assert result.outputs == {name: name for name in ("s0", "s1", "s2", "s3", "s4", "limited")}


def test_an_engine_that_nobody_closed_leaves_no_thread_behind():
    engine = Engine(lambda ctx: threading.current_thread())
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b", timeout=60)])
    threads = contextvars.copy_context().run(engine.run, flow).outputs.values()
    del engine, flow
    gc.collect()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
