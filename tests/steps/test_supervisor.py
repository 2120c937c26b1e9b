"""What becomes of commands when the process that runs them has died, however it did."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from processes import is_running, number_in, wait_until

from szal.process_table import start_of
from szal.steps.stop_policy import StopPolicy
from szal.steps.supervisor import Supervisor, is_ending_for, supervisor

PROGRAM = """
    import contextlib, logging, os, signal, sys, threading, time
    from szal.events.progress import Hearing
    from szal.model.redaction import Redaction
    from szal.steps.process import ProcessGroup
    from szal.steps.stop_policy import StopPolicy
    from szal.steps.supervisor import supervisor

    class Caller:
        cancelled = is_hurried = False
        hearing = Hearing.LINES
        redaction = Redaction()
        orphan_grace = float("inf")
        log = logging.getLogger("test")
        def remaining(self): return None
        def report(self, data):
            sys.stdout.write(data["line"] + chr(10))  # at once: it is called on several threads
            sys.stdout.flush()
        def ends_within(self, seconds): return contextlib.nullcontext()

    def run(script, shell="sh", **policy):
        return ProcessGroup([shell, "-c", script], Caller(), policy=StopPolicy(**policy)).run()

    def start(*arguments, **policy):
        threading.Thread(target=run, args=arguments, kwargs=policy, daemon=True).start()
"""


@contextlib.contextmanager
def program(source, *arguments):
    """Start a Python program that runs commands; it is killed at the end."""
    code = textwrap.dedent(PROGRAM) + textwrap.dedent(source)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def supervisors_of(pid):
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"\0szal-supervisor\0%d\0" % pid in file.read_bytes():
                found.append(int(file.parent.name))
    return found


def children_of(pid):
    found = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if line.split()[1] == str(pid)]


class TestACommandOfAProcessThatDies:
    @pytest.mark.parametrize("number", ["KILL", "QUIT", "ABRT", "USR1", "HUP", "TERM"])
    def test_ends_by_whatever_signal_it_was(self, number):
        with program("run('echo $$; exec sleep 100')") as process:
            group = int(process.stdout.readline())
            process.send_signal(signal.Signals[f"SIG{number}"])
            process.wait()
            wait_until(lambda: not is_running(group))

    def test_ends_though_the_process_leaves_without_a_word(self):
        with program("start('echo $$; exec sleep 100'); sys.stdin.readline(); os._exit(7)") as process:
            group = int(process.stdout.readline())
            process.communicate("\n")
            wait_until(lambda: not is_running(group))

    def test_ends_though_the_thread_that_began_it_has_ended_long_before_and_others_went_on(self):
        source = "start('echo $$; exec sleep 0.1'); start('echo $$; exec sleep 100'); sys.stdin.readline()"
        with program(source) as process:
            groups = [int(process.stdout.readline()) for _ in range(2)]
            wait_until(lambda: sum(map(is_running, groups)) == 1)
            process.kill()
            wait_until(lambda: not any(map(is_running, groups)))

    def test_gets_its_stop_signal_and_its_grace(self, tmp_path):
        file = tmp_path / "told"
        quiet = "exec >/dev/null 2>&1"  # nobody reads it any more
        script = f"trap 'sleep 0.3; echo INT > {file}; exit' INT; echo ready; {quiet}; while :; do sleep 0.02; done"
        with program("run(sys.argv[1], signal='INT', grace=20)", script) as process:
            process.stdout.readline()
            process.kill()
            wait_until(lambda: file.exists() and file.read_text() == "INT\n")

    def test_is_killed_after_its_grace_with_all_that_it_has_started(self):
        script = "trap '' TERM; (trap '' TERM; sleep 100) & echo $$; while :; do sleep 100; done"
        with program("run(sys.argv[1], grace=0.3)", script) as process:
            group = int(process.stdout.readline())
            process.kill()
            wait_until(lambda: not is_running(group))

    def test_leaves_alone_what_has_a_session_of_its_own(self, tmp_path):
        file = tmp_path / "pid"
        script = f"setsid sh -c 'echo $$ > {file}; exec sleep 100' & echo $$; wait"
        with program("run(sys.argv[1])", script) as process:
            group = int(process.stdout.readline())
            left = wait_until(lambda: number_in(file))
            process.kill()
            wait_until(lambda: not is_running(group))
        assert is_running(left)
        os.killpg(left, signal.SIGKILL)

    def test_ends_though_a_fork_of_the_process_lives_on(self):
        source = """
            start('echo $$; exec sleep 100')
            sys.stdin.readline()
            if os.fork() == 0:
                signal.pause()
            print("forked", flush=True)
            signal.pause()
        """
        with program(source) as process:
            group = int(process.stdout.readline())
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "forked\n"
            child = next(pid for pid in children_of(process.pid) if pid != group)
            process.kill()
            try:
                wait_until(lambda: not is_running(group))
            finally:
                os.kill(child, signal.SIGKILL)

    def test_of_a_fork_ends_with_that_fork_and_not_with_its_parent(self):
        source = """
            run('echo')  # the parent has a supervisor
            if os.fork() == 0:
                run('echo $$; exec sleep 100')
            signal.pause()
        """
        with program(source) as process:
            process.stdout.readline()
            group = int(process.stdout.readline())
            child = children_of(process.pid)[0]
            process.kill()
            process.wait()
            time.sleep(0.2)  # nothing tells that nothing happens
            assert is_running(group)
            os.kill(child, signal.SIGKILL)
            wait_until(lambda: not is_running(group))

    def test_that_was_being_started_is_found_on_linux(self):
        if not Path("/proc/self/environ").exists():
            pytest.skip("nothing here tells what is in the environment of a process")
        mine = Supervisor()
        command = mine.begin(StopPolicy(grace=0.2))
        popen = subprocess.Popen(["sleep", "100"], env={**os.environ, **command.environment}, start_new_session=True)
        mine.close()  # as if this process had died before it could tell
        assert popen.wait(timeout=30) == -signal.SIGTERM


class TestTheSupervisor:
    def test_ends_with_its_process(self):
        with program("run('echo'); sys.stdin.readline()") as process:
            process.stdout.readline()
            assert supervisors_of(process.pid)
            process.communicate("\n")
            wait_until(lambda: not supervisors_of(process.pid))

    def test_is_no_child_of_it_so_that_a_program_may_wait_for_all_of_its_own(self):
        source = """
            run('echo')
            try:
                os.wait()
            except ChildProcessError:
                print("no child", flush=True)
        """
        with program(source) as process:
            assert process.communicate(timeout=20)[0] == "\nno child\n"

    def test_that_was_killed_is_started_again_and_that_is_told(self):
        source = "start('echo $$; exec sleep 100'); start('echo $$; exec sleep 100'); sys.stdin.readline()"
        with program(f"logging.basicConfig(stream=sys.stdout); {source}") as process:
            groups = [int(process.stdout.readline()) for _ in range(2)]
            for pid in supervisors_of(process.pid):
                os.kill(pid, signal.SIGKILL)
            assert "was ended, and has been started again" in process.stdout.readline()
            process.kill()
            wait_until(lambda: not any(map(is_running, groups)))

    def test_is_one_also_where_two_threads_begin_the_first_commands_at_once(self, monkeypatch):
        together = threading.Barrier(2)

        def make():
            together.wait(20)
            return Supervisor()

        monkeypatch.setattr("szal.steps.supervisor._ONE", {})
        monkeypatch.setattr("szal.steps.supervisor.Supervisor", make)
        with ThreadPoolExecutor(2) as threads:
            first, second = threads.map(lambda _: supervisor(), range(2))
        assert first is second

    def test_is_started_again_where_the_program_has_closed_all_of_its_files(self):
        source = """
            run('echo')
            os.closerange(3, 100)
            run('echo $$; exec sleep 100')
        """
        with program(source) as process:
            process.stdout.readline()
            group = int(process.stdout.readline())
            process.kill()
            wait_until(lambda: not is_running(group))

    @pytest.mark.parametrize("number", ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "PIPE"])
    def test_is_not_ended_by_a_signal_that_a_whole_session_or_service_gets(self, number):
        with program("run('echo $$; exec sleep 100')") as process:
            group = int(process.stdout.readline())
            for pid in supervisors_of(process.pid):
                os.kill(pid, signal.Signals[f"SIG{number}"])
            process.kill()
            wait_until(lambda: not is_running(group))

    def test_that_is_held_up_holds_up_no_command(self):
        source = """
            run('echo')
            sys.stdin.readline()
            for _ in range(120):
                assert run(':') == 0
            start('echo $$; exec sleep 100')
            sys.stdin.readline()
            while supervisor()._unsent:
                time.sleep(0.01)
            print("told", flush=True)
            signal.pause()
        """
        with program(source) as process:
            process.stdout.readline()
            (pid,) = supervisors_of(process.pid)
            os.kill(pid, signal.SIGSTOP)
            process.stdin.write("\n")
            process.stdin.flush()
            group = int(process.stdout.readline())
            os.kill(pid, signal.SIGCONT)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "told\n"
            process.kill()
            wait_until(lambda: not is_running(group))

    def test_that_cannot_be_started_is_told_and_the_command_runs_all_the_same(self, monkeypatch, caplog):
        def refuse(*arguments, **options):
            raise OSError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(subprocess, "Popen", refuse)
        command = Supervisor().begin(StopPolicy())
        command.started(1)
        command.over()
        (record,) = caplog.records
        assert "commands will outlive this process if it is killed: no supervisor" in record.getMessage()

    def test_is_known_by_the_process_that_it_ends_the_commands_of(self):
        mine = Supervisor()
        mine.begin(StopPolicy()).over()
        assert is_ending_for(str(os.getpid()), start_of("self"))
        assert not is_ending_for(str(os.getpid()), "1")
        mine.close()
