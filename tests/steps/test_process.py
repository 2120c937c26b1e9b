"""Process groups: how they end, and what comes out of them."""

import contextlib
import gc
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from processes import is_running, number_in, wait_until

from szal.errors import ExitStatusUnknown
from szal.events.progress import Hearing
from szal.model.redaction import Redaction
from szal.steps.process import ProcessGroup
from szal.steps.stop_policy import StopPolicy
from szal.steps.stream import MAX_OUTPUT


class Caller:
    """On whose behalf a process runs, in a test: cancels itself when a line *until* comes."""

    hearing = Hearing.LINES
    redaction = Redaction()
    is_hurried = False
    orphan_grace = float("inf")
    log = logging.getLogger("test")

    def __init__(self, until=None, seconds=None):
        self.cancelled = False
        self.lines = []
        self._until = until
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def remaining(self):
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def report(self, data):
        self.lines.append((data["stream"], data["line"]))
        self.cancelled = self.cancelled or data["line"] == self._until

    def ends_within(self, seconds):
        return contextlib.nullcontext()


def start(script, caller=None, grace=2.0, program="sh"):
    return ProcessGroup([program, "-c", script], caller or Caller(), policy=StopPolicy(grace=grace))


def group_of(process):
    return process._process.pid


def run_program(source, *arguments):
    """Run a Python program that uses szal to its end."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=20,
    )


class TestOutput:
    def test_both_streams_are_kept_and_reported_line_by_line(self):
        caller = Caller()
        process = start("echo one; echo two >&2; printf 'three\\r\\nfour'", caller)
        assert process.run() == 0
        assert process.stdout.text() == "one\nthree\r\nfour"
        assert process.stderr.text() == "two\n"
        assert sorted(caller.lines) == [("stderr", "two"), ("stdout", "four"), ("stdout", "one"), ("stdout", "three")]

    def test_lines_come_while_the_program_runs(self):
        caller = Caller(until="ready")
        process = start("echo ready; exec sleep 100", caller)
        assert process.run() is None

    def test_of_long_output_the_last_whole_lines_are_kept(self):
        process = start("yes 0123456789 | head -c 5000000; echo end")
        process.run()
        text = process.stdout.text()
        assert process.stdout.truncated
        assert MAX_OUTPUT - 20 < len(text) <= MAX_OUTPUT
        assert text.startswith("0123456789\n")
        assert text.endswith("end\n")
        assert not process.stderr.truncated

    @pytest.mark.parametrize("character", ["x", "é", "🧵"])
    @pytest.mark.parametrize("end", ["", "\\n"])
    def test_of_one_long_line_the_end_is_kept(self, character, end):
        process = start(f"yes {character} | head -n 1500000 | tr -d '\\n'; printf 'end{end}'")
        process.run()
        text = process.stdout.text()
        assert process.stdout.truncated
        assert MAX_OUTPUT - 10 < len(text.encode()) <= MAX_OUTPUT
        assert set(text) <= {character, *"end\n"}
        assert text.rstrip().endswith(f"{character}end")

    def test_a_line_without_an_end_is_reported_in_pieces(self):
        caller = Caller()
        process = start("head -c 100000 /dev/zero | tr '\\0' x", caller)
        process.run()
        assert max(len(line) for _, line in caller.lines) == 8192
        assert "".join(line for _, line in caller.lines) == process.stdout.text() == "x" * 100000

    def test_bytes_that_are_no_text_are_replaced_and_so_is_nul(self):
        process = start(r"printf 'a\377b\0c'")
        process.run()
        assert process.stdout.text() == "a\ufffdb\ufffdc"

    def test_there_is_no_standard_input(self):
        process = start("cat; echo end")
        process.run()
        assert process.stdout.text() == "end\n"

    def test_a_program_that_closes_its_output_is_waited_for(self):
        process = start("exec >&- 2>&-; sleep 0.2; exit 3")
        assert process.run() == 3


class TestTheEnd:
    def test_a_cancelled_group_gets_sigterm(self):
        process = start("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done", Caller("ready"))
        assert process.run() is None
        assert process.stdout.text().startswith("ready\nbye\n")
        assert not is_running(group_of(process))

    def test_descendants_are_ended_too(self):
        process = start("sh -c 'sleep 100 & sleep 100 & echo ready; wait' & wait", Caller("ready"))
        assert process.run() is None
        assert not is_running(group_of(process))

    def test_what_ignores_sigterm_is_killed_after_the_grace(self):
        process = start("trap '' TERM; echo ready; while :; do sleep 100; done", Caller("ready"), grace=0.2)
        started = time.monotonic()
        assert process.run() is None
        assert time.monotonic() - started >= 0.2
        assert not is_running(group_of(process))

    def test_all_that_was_killed_is_gone_when_the_call_returns(self):
        dies_slowly = "memory = b'x' * 300_000_000; print('ready', flush=True); import time; time.sleep(100)"
        process = start(f"trap '' TERM; {sys.executable} -c \"{dies_slowly}\"; :", Caller("ready"), grace=0.05)
        assert process.run() is None
        assert not is_running(group_of(process))

    def test_a_deadline_ends_it_on_time(self):
        started = time.monotonic()
        process = start("exec sleep 100", Caller(seconds=0.1))
        assert process.run() is None
        assert 0.1 <= time.monotonic() - started < 50

    def test_a_flood_of_output_does_not_put_off_the_deadline(self):
        process = start("exec yes", Caller(seconds=0.1))
        started = time.monotonic()
        assert process.run() is None
        assert time.monotonic() - started < 50
        assert not is_running(group_of(process))

    def test_the_outcome_of_a_program_that_had_ended_before_the_cancellation_stands(self):
        caller = Caller()
        process = start("echo done", caller)

        def report(data):
            wait_until(process._status.has_ended)
            caller.cancelled = True

        caller.report = report
        assert process.run() == 0

    def test_a_program_that_leaves_a_process_with_its_output_is_not_waited_for_forever(self):
        process = start("sleep 100 & echo started", grace=0.2)
        assert process.run() == 0
        assert process.stdout.text() == "started\n"
        assert not is_running(group_of(process))

    def test_a_process_left_behind_without_output_is_ended_at_once(self):
        process = start("sleep 100 >/dev/null 2>&1 &", grace=30)
        started = time.monotonic()
        assert process.run() == 0
        assert time.monotonic() - started < 25
        assert not is_running(group_of(process))

    def test_a_process_left_behind_may_write_to_the_end(self):
        process = start("(sleep 0.2; echo late) &")
        assert process.run() == 0
        assert process.stdout.text() == "late\n"

    def test_a_process_with_a_session_of_its_own_outlives_the_group(self, tmp_path):
        file = tmp_path / "pid"
        begun = f"until test -s {file}; do sleep 0.01; done"
        process = start(f"setsid sh -c 'echo $$ > {file}; exec sleep 100' & {begun}", grace=0.3)
        assert process.run() == 0
        pid = wait_until(lambda: number_in(file))
        os.killpg(pid, signal.SIGKILL)

    def test_the_signal_that_killed_the_program_is_its_exit_code(self):
        assert start("kill -KILL $$").run() == -signal.SIGKILL

    def test_an_exception_in_the_waiting_thread_ends_the_group(self):
        caller = Caller()
        caller.report = lambda data: 1 / 0
        process = start("echo ready; sleep 100", caller)
        with pytest.raises(ZeroDivisionError):
            process.run()
        assert not is_running(group_of(process))

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
    def test_a_signal_while_it_starts_ends_the_group(self, monkeypatch, number):
        popen = subprocess.Popen

        class TookTooLong(Exception):
            pass

        def raise_it(*_):
            raise TookTooLong

        def interrupted(*args, **options):
            made = popen(*args, **options)
            os.kill(os.getpid(), number)
            return made

        monkeypatch.setattr(subprocess, "Popen", interrupted)
        process = start("sleep 100")
        before = signal.signal(number, raise_it)
        try:
            with pytest.raises(TookTooLong):
                process.run()
        finally:
            signal.signal(number, before)
        assert not is_running(group_of(process))


def test_many_at_once_leave_no_thread_file_or_zombie():
    processes = []

    def work():
        for _ in range(4):
            process = start("echo $$; sleep 0.02 & wait")
            processes.append(process)
            process.run()

    start(":").run()  # which starts the supervisor
    gc.collect()
    files, others = len(list(Path("/dev/fd").iterdir())), set(threading.enumerate())
    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    assert len(set(threading.enumerate()) - others) <= len(threads) + 2
    for thread in threads:
        thread.join()
    assert len(processes) == 64
    assert len(list(Path("/dev/fd").iterdir())) <= files
    for process in processes:
        assert process.stdout.text() == f"{group_of(process)}\n"
        with pytest.raises(ChildProcessError):  # reaped: it is no child any more
            os.waitpid(group_of(process), os.WNOHANG)


class TestExit:
    @pytest.mark.skipif(not os.environ.get("SZAL_TEST_FULL"), reason="takes 5 s")
    @pytest.mark.skipif(os.geteuid() != 0, reason="what cannot be killed here belongs to another user")
    def test_what_cannot_be_killed_is_given_up_on_and_told(self):
        source = """
            import contextlib, logging, os, sys
            from szal.events.progress import Hearing
            from szal.model.redaction import Redaction
            from szal.steps.process import ProcessGroup
            from szal.steps.stop_policy import StopPolicy

            class Caller:
                hearing = Hearing.LINES
                redaction = Redaction()
                cancelled = is_hurried = False
                orphan_grace = 1e9
                log = logging.getLogger("the step")
                def remaining(self): return None
                def ends_within(self, seconds): return contextlib.nullcontext()
                def report(self, data):
                    os.setresuid(65534, 65534, 65534)
                    self.cancelled = True

            logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stdout)
            process = ProcessGroup(["sh", "-c", "echo ready; exec sleep 30"], Caller(), policy=StopPolicy(grace=0.1))
            print(process.run())
            sys.stdout.flush()
            os._exit(0)
        """
        done = run_program(source)
        assert re.fullmatch(r"the step: process group \d+ was killed, and does not end\nNone\n", done.stdout)

    def test_a_group_is_ended_when_the_interpreter_exits(self, tmp_path):
        source = """
            import contextlib, sys, threading
            from szal.events.progress import Hearing
            from szal.model.redaction import Redaction
            from szal.steps.process import ProcessGroup
            from szal.steps.stop_policy import StopPolicy

            class Caller:
                hearing = Hearing.LINES
                redaction = Redaction()
                cancelled = is_hurried = False
                orphan_grace = 1e9
                def remaining(self): return None
                def report(self, data): ready.set()
                def ends_within(self, seconds): return contextlib.nullcontext()

            ready = threading.Event()
            script = f"trap '' TERM; echo $$ > {sys.argv[1]}; echo ready; while :; do sleep 100; done"
            process = ProcessGroup(["sh", "-c", script], Caller(), policy=StopPolicy(grace=0.2))
            threading.Thread(target=process.run, daemon=True).start()
            ready.wait()
        """
        file = tmp_path / "pid"
        assert run_program(source, file).returncode == 0
        group = number_in(file)
        wait_until(lambda: not is_running(group))

    def test_a_fork_that_exits_leaves_the_groups_of_its_parent_alone(self, tmp_path):
        source = """
            import contextlib, os, sys, threading
            from szal.events.progress import Hearing
            from szal.model.redaction import Redaction
            from szal.steps.process import ProcessGroup

            class Caller:
                hearing = Hearing.LINES
                redaction = Redaction()
                cancelled = is_hurried = False
                orphan_grace = 1e9
                def remaining(self): return None
                def report(self, data): ready.set()
                def ends_within(self, seconds): return contextlib.nullcontext()

            ready = threading.Event()
            process = ProcessGroup(["sh", "-c", "echo ready; read x; sleep 0.2; exit 7"], Caller())
            thread = threading.Thread(target=lambda: codes.append(process.run()))
            codes = []
            thread.start()
            ready.wait()
            child = os.fork()
            if child == 0:
                sys.exit(0)
            os.waitpid(child, 0)
            thread.join()
            print(codes)
        """
        assert run_program(source).stdout == "[7]\n"


class Reaper:
    """A thread that waits for whatever child ends, as old daemons do."""

    def __enter__(self):
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._reap)
        self._thread.start()

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _reap(self):
        while not self._stop.wait(0.001):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)


@contextlib.contextmanager
def ignored():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


@contextlib.contextmanager
def reaped_by_a_handler():
    """As where an event loop is told of each child that ends."""
    before = signal.signal(signal.SIGCHLD, lambda *_: os.waitpid(-1, os.WNOHANG))
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


class TestWhereSomebodyElseIsToldOfTheEnd:
    @pytest.mark.parametrize("script", ["exit 3", "exit 0", "kill -9 $$", "sleep 0.02; false"])
    def test_where_sigchld_is_ignored_nobody_knows_how_it_ended(self, script):
        process = start(f"echo hello; {script}")
        with ignored(), pytest.raises(ExitStatusUnknown, match="ignores SIGCHLD"):
            process.run()
        assert process.stdout.text() == "hello\n"

    @pytest.mark.parametrize("other", [Reaper, reaped_by_a_handler])
    def test_a_failure_that_another_one_was_told_of_is_none_the_less(self, other):
        with other():
            for _ in range(5):
                try:
                    assert start("sleep 0.01; exit 3").run() == 3
                except ExitStatusUnknown as error:
                    assert "waits for its children" in str(error)  # noqa: PT017

    def test_the_rest_of_its_group_ends_all_the_same(self, tmp_path):
        file = tmp_path / "pid"
        with ignored(), pytest.raises(ExitStatusUnknown):
            start(f"sleep 100 >/dev/null 2>&1 & echo $! > {file}; exit 3").run()
        group = number_in(file)
        wait_until(lambda: not is_running(group))

    def test_one_that_is_cancelled_is(self):
        with ignored():
            assert start("echo ready; sleep 100", Caller(until="ready")).run() is None

    def test_without_waitid_the_exit_code_is_the_same(self, monkeypatch):
        monkeypatch.delattr(os, "waitid")
        assert [start(script).run() for script in ("exit 0", "exit 3", "kill -9 $$")] == [0, 3, -9]
        with ignored(), pytest.raises(ExitStatusUnknown):
            start("exit 3").run()
