"""The threads below the engine: reused, let go of, and replaced where one is left behind."""

import contextvars
import gc
import itertools
import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

import pytest
from forking import FORKS, in_child
from helper_engine import LONG, bounded, waited
from processes import wait_until
from stores.samples import run_python

from szal import Engine, EngineConfig, FlowDef, FlowMode, StepDef
from szal.scheduler.workers import DaemonThreads, Threads, WorkerPool, _serve


class Work:
    """As much of an attempt as a worker pool knows: `execute` reports unless it was abandoned."""

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


def refusing(function, *args):
    raise RuntimeError("can't start new thread")


@pytest.fixture
def named():
    """The threads whose names begin so, but for those that there were before the test."""
    before = set(threading.enumerate())

    def named(*prefixes):
        return [thread for thread in threading.enumerate() if thread.name.startswith(prefixes) and thread not in before]

    return named


def occupy(submit, count):
    """Have *count* threads work at once, and return them when they have."""
    together, seen = threading.Barrier(count), SimpleQueue()
    for _ in range(count):
        submit(lambda: (together.wait(LONG), seen.put(threading.current_thread())))
    return [seen.get(timeout=LONG) for _ in range(count)]


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

    def test_of_a_pool_are_no_more_than_twice_as_many_as_are_needed(self, threads, named):
        done = SimpleQueue()
        for at_once in (2, 20):
            for _ in range(300):
                for _ in range(at_once):
                    threads.pooled(done.put, None)
                for _ in range(at_once):
                    done.get(timeout=LONG)
            assert len(named("szal-worker")) <= (16 if at_once == 2 else 16 + 32 + 64)

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


class TestIdleThreads:
    """`idle_timeout` seconds after they did something they are gone."""

    @pytest.fixture
    def threads(self):
        made = Threads(idle_timeout=0.2)
        yield made
        made.close()

    @pytest.mark.parametrize("kind", ["pooled", "daemon"])
    def test_end_after_a_while_and_come_back_when_needed(self, threads, kind, named):
        for _ in range(2):
            used = occupy(getattr(threads, kind), 20)
            for thread in used:
                thread.join(LONG)
                assert not thread.is_alive()
        wait_until(lambda: not named("szal-idle"))

    @pytest.mark.parametrize("kind", ["pooled", "daemon"])
    def test_are_used_again_before_that(self, kind):
        threads = Threads()
        used = {thread for _ in range(10) for thread in occupy(getattr(threads, kind), 1) if not time.sleep(0.01)}
        assert len(used) == 1
        threads.close()

    @pytest.mark.parametrize("kind", ["pooled", "daemon"])
    def test_one_that_is_at_work_is_not_idle(self, threads, kind, named):
        gate, entered, ended = threading.Event(), threading.Event(), threading.Event()
        getattr(threads, kind)(lambda: (entered.set(), waited(gate), ended.set()))
        waited(entered)
        time.sleep(0.5)
        [thread] = named("szal-worker", "szal-limited")
        assert thread.is_alive()
        gate.set()
        waited(ended)
        thread.join(LONG)
        assert not thread.is_alive()

    @pytest.mark.parametrize("kind", ["pooled", "daemon"])
    def test_nothing_is_lost_where_they_are_closed_while_others_use_them(self, kind):
        def use():
            seen = SimpleQueue()
            for _ in range(200):
                getattr(threads, kind)(seen.put, None)
                threads.close()
                seen.get(timeout=20)

        threads = Threads(idle_timeout=0.0005)
        with ThreadPoolExecutor() as users:
            for user in [users.submit(use) for _ in range(4)]:
                user.result()

    @pytest.mark.parametrize("kind", ["pooled", "daemon"])
    def test_nothing_is_lost_where_they_are_used_just_when_they_end(self, kind):
        threads, seen = Threads(idle_timeout=0.002), SimpleQueue()
        for number in range(300):
            getattr(threads, kind)(seen.put, number)
            assert seen.get(timeout=LONG) == number
            time.sleep(0.002 + number % 7 * 0.0001)
        threads.close()

    @pytest.mark.parametrize("is_dropped", [False, True])
    def test_a_thread_that_is_given_work_as_its_time_is_up_does_it(self, is_dropped):
        class Late(SimpleQueue):
            """Has work a moment after the wait for it has ended."""

            def get(self, timeout=None):
                if timeout is not None:
                    raise Empty
                return super().get()

        threads, tasks, done = DaemonThreads("szal-limited", 1.0), Late(), SimpleQueue()
        owner = weakref.ref(threads, lambda _: tasks.put(None))
        tasks.put((done.put, (1,)))
        if is_dropped:
            del threads
        worker = threading.Thread(target=_serve, args=(owner, tasks, 1.0))
        worker.start()
        assert done.get(timeout=LONG) == 1
        worker.join(LONG)
        assert not worker.is_alive()

    def test_of_a_daemon_kind_those_that_are_not_needed_end_while_others_work(self, threads, named):
        occupy(threads.daemon, 30)

        def is_down_to_a_few():
            occupy(threads.daemon, 1)
            return len(named("szal-limited")) < 5

        wait_until(is_down_to_a_few)

    def test_after_two_bursts_of_runs_none_is_left(self, threads, finished, named):
        def run():
            pools = [WorkerPool((threads.pooled, threads.daemon), 16, queue), WorkerPool((threads.daemon,), 16, queue)]
            together = threading.Barrier(16)
            for pool in pools:
                for _ in range(16):
                    pool.put(Work(lambda: together.wait(LONG)))
            for _ in range(32):
                queue.get(timeout=LONG)
            for pool in pools:
                pool.close()

        queue = finished
        for _ in range(2):
            runs = [threading.Thread(target=run) for _ in range(30)]
            for thread in runs:
                thread.start()
            for thread in runs:
                thread.join(LONG)
        wait_until(lambda: not named("szal-"))

    def test_no_time_is_too_long(self, named):
        threads = Threads(idle_timeout=float("inf"))
        for submit in (threads.pooled, threads.daemon):
            occupy(submit, 1)
        time.sleep(0.02)
        assert len(named("szal-worker", "szal-limited", "szal-idle")) == 3
        threads.close()
        wait_until(lambda: not named("szal-"))

    def test_dropped_ones_end_by_reference_count_alone(self, no_collector, named):
        for _ in range(30):
            threads = Threads(idle_timeout=1000)
            occupy(threads.pooled, 2)
            occupy(threads.daemon, 2)
            del threads
        wait_until(lambda: not named("szal-"))

    def test_of_dropped_ones_that_are_at_work_the_rest_ends(self, named):
        gate = threading.Event()
        threads = Threads(idle_timeout=1000)
        for submit in (threads.pooled, threads.daemon):
            entered = threading.Event()
            submit(lambda entered=entered: (entered.set(), waited(gate)))
            waited(entered)
            occupy(submit, 5)
        del threads, submit
        wait_until(lambda: len(named("szal-")) == 2)
        gate.set()
        wait_until(lambda: not named("szal-"))


class TestRefusedThreads:
    """A pool that cannot start a thread has queued the work before it says so."""

    def test_work_that_was_refused_is_done_by_nobody_later(self, threads, finished, refuse):
        gate, entered = threading.Event(), threading.Event()
        threads.pooled(lambda: (entered.set(), waited(gate)))
        waited(entered)
        refuse("szal-worker")
        pool = WorkerPool((threads.pooled, threads.daemon), 2, finished)
        now, most, count = set(), [0], itertools.count()

        def body():
            me = next(count)
            now.add(me)
            most[0] = max(most[0], len(now))
            gate.set()  # the pool thread is free, for what was refused before
            time.sleep(0.01)
            now.discard(me)

        works = [Work(body) for _ in range(20)]
        for work in works:
            pool.put(work)
        assert {finished.get(timeout=LONG) for _ in works} == set(works)
        assert most[0] == pool.workers == 2
        refuse()
        pool.close()

    def test_an_engine_does_not_exceed_its_limit(self, refuse):
        gate, entered = threading.Event(), SimpleQueue()

        def handler(ctx):
            if ctx.flow_name == "first":
                entered.put(None)
                waited(gate)
                return
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            gate.set()
            time.sleep(0.02)
            with lock:
                now[0] -= 1

        lock, now, most = threading.Lock(), [0], [0]
        flow = FlowDef("second", FlowMode.PARALLEL, steps=[StepDef(f"s{i}") for i in range(40)])
        with Engine(handler, EngineConfig(max_concurrency=4)) as engine:
            first = engine.start(FlowDef("first", FlowMode.PARALLEL, steps=[StepDef(f"s{i}") for i in range(4)]))
            for _ in range(4):
                entered.get(timeout=LONG)
            refuse("szal-worker")
            assert bounded(engine.run, flow).success
            refuse()
            assert first.result(LONG).success
        assert most[0] == 4

    def test_one_that_was_begun_although_it_was_refused_counts(self, threads, finished):
        def queue_and_refuse(function, *args):
            threads.daemon(function, *args)
            time.sleep(0.05)
            raise RuntimeError("can't start new thread")

        pool = WorkerPool((queue_and_refuse,), 2, finished)
        together = threading.Barrier(2)
        works = [Work(lambda: together.wait(LONG)) for _ in range(2)]
        for work in works:
            pool.put(work)
        assert {finished.get(timeout=LONG) for _ in works} == set(works)
        assert pool.workers == 2
        assert threading.current_thread() not in {work.thread for work in works}
        pool.close()

    def test_one_that_begins_while_the_caller_does_the_work_does_nothing(self, threads, finished):
        refused = []

        def queue_and_refuse(function, *args):
            refused.append((function, args))
            raise RuntimeError("can't start new thread")

        def body():
            for function, args in refused:
                threads.daemon(function, *args)
            occupy(threads.daemon, 1)

        pool = WorkerPool((queue_and_refuse,), 1, finished)
        works = [Work(body), Work(), Work()]
        for work in works:
            pool.put(work)
            pool.load -= 1
        assert [finished.get(timeout=LONG) for _ in works] == works
        assert {work.thread for work in works} == {threading.current_thread()}
        pool.close()

    def test_of_what_was_refused_nothing_is_kept(self, finished):
        refused = []

        def queue_and_refuse(function, *args):
            refused.append((function, args))
            raise RuntimeError("can't start new thread")

        pool = WorkerPool((queue_and_refuse,), 1, finished)
        pool.put(Work())
        kept = weakref.ref(pool._queue)
        del pool, finished.get().pool
        gc.collect()
        assert kept() is None

    def test_after_it_a_thread_of_the_pool_is_never_taken_for_an_idle_one(self, threads, refuse):
        """An executor whose existing thread does what was refused believes from then on that one more is idle."""
        gate, entered = threading.Event(), threading.Event()
        threads.pooled(lambda: (entered.set(), waited(gate)))
        waited(entered)
        refuse("szal-worker")
        for _ in range(5):
            with pytest.raises(RuntimeError):
                threads.pooled(lambda: None)
        gate.set()
        refuse()
        occupy(threads.pooled, 6)

    def test_the_pool_works_without_the_thread_that_watches_it(self, threads, refuse, named):
        refuse("szal-idle")
        for thread in occupy(threads.pooled, 3):
            thread.join(LONG)  # nobody would end them later
            assert not thread.is_alive()
        refuse()
        occupy(threads.pooled, 3)
        assert len(named("szal-idle")) == 1

    def test_an_interruption_leaves_no_worker_counted_that_does_not_exist(self, threads, finished):
        def interrupted(function, *args):
            raise KeyboardInterrupt

        pool = WorkerPool((interrupted,), 1, finished)
        with pytest.raises(KeyboardInterrupt):
            pool.put(Work())
        assert pool.workers == 0
        pool._submits = (threads.daemon,)
        for _ in range(2):
            pool.put(Work())
        assert [finished.get(timeout=LONG) is not None for _ in range(3)] == [True] * 3
        pool.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
class TestForks:
    @pytest.fixture
    def hammered(self):
        """Threads that others use all the time."""
        threads, stop = Threads(idle_timeout=0.005), threading.Event()

        def hammer():
            number = 0
            while not stop.is_set():
                number += 1
                for submit in (threads.pooled, threads.daemon):
                    submit(seen.put, None)
                if number % 3 == 0:
                    threads.close()
                for _ in range(2):
                    seen.get(timeout=LONG)

        seen = SimpleQueue()
        users = [threading.Thread(target=hammer) for _ in range(4)]
        for user in users:
            user.start()
        yield threads
        stop.set()
        for user in users:
            user.join(LONG)
        threads.close()

    def test_a_child_begins_with_threads_of_its_own(self, hammered):
        def child():
            for submit in (hammered.pooled, hammered.daemon):
                occupy(submit, 4)
            hammered.close()

        for _ in range(FORKS):
            in_child(child)

    def test_a_child_may_drop_what_its_parent_was_using(self):
        kept, stop = [Threads()], threading.Event()

        def hammer(threads):
            seen = SimpleQueue()
            while not stop.is_set():
                threads.pooled(seen.put, None)
                seen.get(timeout=LONG)
                del threads
                threads = kept[0]

        users = [threading.Thread(target=hammer, args=(kept[0],)) for _ in range(3)]
        for user in users:
            user.start()
        try:
            for _ in range(FORKS):
                in_child(kept.clear)
        finally:
            stop.set()
            for user in users:
                user.join(LONG)


def test_a_process_does_not_wait_for_handlers_on_daemon_threads():
    """What is recovered in the background must never keep a program from ending."""
    done = run_python(
        """
        import threading
        from queue import Empty, SimpleQueue
        from szal.scheduler.workers import DaemonThreads, Threads, WorkerPool, _serve

        class Hanging:
            def execute(self, finished):
                entered.put(None)
                threading.Event().wait()

        threads, entered = Threads(), SimpleQueue()
        pool = WorkerPool((threads.daemon,), 4, SimpleQueue())
        for _ in range(10):
            pool.put(Hanging())
        for _ in range(4):
            entered.get()
        print("the end")
        """,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")


def test_workers_of_a_pool_that_was_dropped_go_home(threads, finished):
    pool = WorkerPool((threads.daemon,), 2, finished)
    together, gone = threading.Barrier(2), SimpleQueue()
    submit = pool._submits[0]
    pool._submits = (lambda function, *args: submit(lambda: (function(*args), gone.put(None))),)
    for _ in range(2):
        pool.put(Work(lambda: together.wait(LONG)))
    for _ in range(2):
        finished.get(timeout=LONG)
    del pool
    for _ in range(2):
        gone.get(timeout=LONG)


class TestWorkerPool:
    def test_does_what_is_put_into_it(self, threads, finished):
        pool = WorkerPool((threads.pooled,), 4, finished)
        works = [Work() for _ in range(100)]
        for work in works:
            pool.put(work)
        assert {finished.get(timeout=LONG) for _ in works} == set(works)
        assert len({work.thread for work in works}) <= 4
        assert all(work.pool is pool for work in works)
        pool.close()

    def test_has_as_many_workers_as_its_limit_allows_and_its_load_asks_for(self, threads, finished):
        pool = WorkerPool((threads.pooled,), 3, finished)
        gate = threading.Event()
        for expected in (1, 2, 3, 3, 3):
            pool.put(Work(lambda: waited(gate)))
            assert pool.workers == expected
        assert pool.load == 5
        gate.set()
        for _ in range(5):
            finished.get(timeout=LONG)
            pool.load -= 1
        assert pool.load == 0
        pool.close()

    def test_replaces_a_worker_that_is_left_behind(self, threads, finished):
        pool = WorkerPool((threads.daemon,), 1, finished)
        gate, entered = threading.Event(), threading.Event()
        pool.put(Work(lambda: (entered.set(), waited(gate)), abandoned=True))
        waited(entered)
        following = Work()
        pool.put(following)
        pool.load -= 1
        pool.lose_worker()
        assert finished.get(timeout=LONG) is following
        assert (pool.load, pool.workers) == (1, 1)
        gate.set()
        pool.close()

    def test_a_worker_that_was_left_behind_does_not_come_back_as_one_too_many(self, threads, finished):
        pool = WorkerPool((threads.daemon,), 1, finished)
        gate, ended, busy, at_once = threading.Event(), threading.Event(), threading.Lock(), []
        pool.put(Work(lambda: (waited(gate), ended.set()), abandoned=True))

        def body():
            at_once.append(busy.acquire(blocking=False))
            gate.set()
            ended.wait(LONG)  # the one that was left behind is free again
            busy.release()

        works = [Work(body) for _ in range(50)]
        for work in works:
            pool.put(work)
        pool.load -= 1
        pool.lose_worker()
        assert [finished.get(timeout=LONG) for _ in works] == works
        assert at_once == [True] * 50
        pool.close()

    def test_takes_another_kind_of_thread_where_the_first_is_not_to_be_had(self, threads, finished):
        pool = WorkerPool((refusing, threads.daemon), 2, finished)
        work = Work()
        pool.put(work)
        assert finished.get(timeout=LONG) is work
        assert work.thread.daemon
        pool.close()

    def test_does_the_work_on_the_callers_thread_where_there_is_no_thread_at_all(self, finished):
        pool = WorkerPool((refusing, refusing), 2, finished)
        works = [Work() for _ in range(3)]
        for work in works:
            pool.put(work)
            assert finished.get(timeout=20) is work
            pool.load -= 1
        assert {work.thread for work in works} == {threading.current_thread()}

    def test_makes_do_with_the_workers_it_has(self, threads, finished):
        calls = []

        def only_once(function, *args):
            if calls:
                raise RuntimeError("can't start new thread")
            calls.append(function)
            threads.pooled(function, *args)

        pool = WorkerPool((only_once,), 4, finished)
        works = [Work() for _ in range(20)]
        for work in works:
            pool.put(work)
        assert {finished.get(timeout=LONG) for _ in works} == set(works)
        assert len({work.thread for work in works}) == 1
        pool.close()

    def test_loses_nothing_where_its_only_worker_is_left_behind_and_there_is_no_other(self, threads, finished):
        calls = []

        def only_once(function, *args):
            if calls:
                raise RuntimeError("can't start new thread")
            calls.append(function)
            threads.daemon(function, *args)

        pool = WorkerPool((only_once,), 1, finished)
        gate, entered = threading.Event(), threading.Event()
        pool.put(Work(lambda: (entered.set(), waited(gate)), abandoned=True))
        waited(entered)
        queued = [Work() for _ in range(3)]
        for work in queued:
            pool.put(work)
        pool.load -= 1
        bounded(pool.lose_worker)
        done = set()
        for _ in queued:
            done.add(finished.get(timeout=20))
        assert done == set(queued)
        gate.set()
        pool.close()

    def test_sends_all_its_workers_home_when_closed(self, threads, finished):
        pool = WorkerPool((threads.pooled,), 8, finished)
        together = threading.Barrier(8)
        works = [Work(lambda: together.wait(LONG)) for _ in range(8)]
        for work in works:
            pool.put(work)
        for _ in works:
            finished.get(timeout=LONG)
        pool.close()
        threads.close()
        for work in works:
            work.thread.join(LONG)
            assert not work.thread.is_alive()


def test_a_flow_runs_where_no_thread_can_be_started(monkeypatch):
    """The process has used up its threads: parallel steps are done one after another, by the caller."""

    def call():
        monkeypatch.setattr(threading.Thread, "start", refusing)
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
