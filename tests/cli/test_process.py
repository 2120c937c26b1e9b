"""szal as a process: signals, pipes, what goes to which stream."""

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from processes import is_running, number_in, wait_until, zygote
from processes import run_command_line as szal
from zygote import COMMAND_LINE, Process

from szal import ExecutionRecord, StepStatus, WorkflowState, open_store
from szal.model.json import decode_record


def python_m_szal(*arguments, **more):
    command = [sys.executable, "-m", "szal", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, **more)


def with_files(doing, *arguments, **environment):
    """Run szal after *doing* something to its files; return exit status, stdout and stderr."""
    code = f"import os\nfull = lambda: os.open('/dev/full', os.O_WRONLY)\n{doing}\n{COMMAND_LINE}"
    process = Process(zygote(), code, [*map(str, arguments)], environ={**os.environ, **environment})
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def only_record(database):
    with open_store(database) as store:
        (execution_id,) = store.list()
        return store.get(execution_id)


def interrupted_in(url):
    """Return which executions whoever recovers would go on with."""
    with open_store(url) as store:
        return list(store.ledger.interrupted(lambda owner: False))


def told_commands(seen):
    """Return what was said to type, by what for."""
    return dict(re.findall(r"to (go on|undo it|cancel it): (szal .+?)\r?$", seen, re.MULTILINE))


def typed(command):
    """Type *command* into a shell, do what it was understood as, and return how that ended."""
    function = """szal() { printf '%s\\0' "$@" >> words; echo >> words; }"""
    subprocess.run(["bash", "-c", f"{function}; {command}"], timeout=30, check=True)
    for words in Path("words").read_text().removesuffix("\0\n").split("\0\n"):
        done = szal(*words.split("\0"))
        if done.returncode:
            break
    return done


def test_a_parent_that_ignores_sigchld_hides_no_failure(here):
    (here / "fails.yaml").write_text("name: fails\nsteps:\n  - name: a\n    run: exit 3\n")
    done = python_m_szal("run", "fails.yaml", preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert done.returncode == 1
    assert "exit status 3" in done.stdout + done.stderr


class TestSignals:
    """What is recorded is interrupted."""

    def test_a_persons_pauses_the_run(self, spawn, database):
        process = spawn("run", "flows:rolls", "--store", database)
        process.until("| ready")
        process.signal(signal.SIGINT)
        assert process.end() == 130
        assert "rolls paused in" in process.seen
        assert "undone" not in process.seen
        record = only_record(database)
        assert (record.state, record.error) == (WorkflowState.PAUSED, "interrupted")
        assert [step.status for step in record.result.steps] == [StepStatus.COMPLETED, StepStatus.PENDING]
        assert interrupted_in(database) == []

    @pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str)
    def test_a_machines_leaves_it_to_whoever_recovers(self, spawn, database, number, status):
        process = spawn("run", "flows:rolls", "--id", "e1", "--store", database)
        process.until("| ready")
        process.signal(number)
        assert process.end() == status
        assert re.search(r"rolls interrupted in .* 1 pending, 1 completed", process.seen)
        assert "interrupted, and left to whoever recovers; to go on: szal resume e1 flows:rolls" in process.seen
        assert "undone" not in process.seen
        record = only_record(database)
        assert (record.state, record.result) == (WorkflowState.RUNNING, None)
        assert interrupted_in(database) == ["e1"]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
    @pytest.mark.parametrize("name", ["e1", "a name; $(touch broken)", "-e'1"])
    def test_what_it_says_to_type_goes_on(self, spawn, here, database, number, name):
        process = spawn("run", "flows:rolls", f"--id={name}", "--store", database)
        process.until("| ready")
        process.signal(number)
        process.end()
        (here / "flows.py").write_text((here / "flows.py").read_text().replace("ctx.sleep(60)", "pass"))
        done = typed(told_commands(process.seen)["go on"])
        assert done.returncode == 0, done.stderr
        assert only_record(database).state is WorkflowState.COMPLETED
        assert not (here / "broken").exists()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
    @pytest.mark.parametrize(
        ("flow", "end"), [("rolls", ("undo it", "rolled_back")), ("waits", ("cancel it", "cancelled"))]
    )
    def test_what_it_says_to_type_undoes_it(self, spawn, database, number, flow, end):
        process = spawn("run", f"flows:{flow}", "--store", database)
        process.until("| ready")
        process.signal(number)
        process.end()
        word, state = end
        assert typed(told_commands(process.seen)[word]).returncode == 1
        assert str(only_record(database).state) == state

    def test_a_store_from_the_environment_is_told_as_that(self, spawn, database):
        process = spawn("run", "flows:waits", "--id", "e1", SZAL_STORE=database)
        process.until("| ready")
        process.signal(signal.SIGINT)
        process.end()
        assert told_commands(process.seen)["go on"] == 'szal resume e1 flows:waits --store "$SZAL_STORE"'

    @pytest.mark.parametrize(
        ("number", "word", "state"), [(signal.SIGINT, "pausing", "paused"), (signal.SIGTERM, "stopping", "running")]
    )
    def test_a_second_one_ends_the_waiting_and_the_process_though_a_step_hangs(self, spawn, number, word, state):
        process = spawn("run", "flows:hangs", "--store", "sqlite:///szal.db")
        process.until("| ready")
        process.signal(number)
        process.until(f"{number.name}: {word} as soon as what runs has ended; once more to stop waiting")
        process.signal(number)
        assert process.end() == 128 + number  # the grace is 5s
        assert re.search(r"hangs (paused|interrupted) in", process.seen)
        assert re.search(r"hang +pending", process.seen)
        assert "Traceback" not in process.seen
        assert str(only_record("sqlite:///szal.db").state) == state

    @pytest.mark.parametrize("store", [[], ["--store", "sqlite:///szal.db"]], ids=["none", "kept"])
    def test_two_at_once_are_two(self, spawn, store):
        process = spawn("run", "flows:hangs", *store)
        process.until("| ready")
        process.popen.send_signal(signal.SIGSTOP)
        process.signal(signal.SIGINT)
        process.signal(signal.SIGTERM)
        process.popen.send_signal(signal.SIGCONT)
        assert process.end() in (130, 143)  # the grace is 5s

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
    @pytest.mark.parametrize("store", [[], ["--store", "sqlite:///szal.db"]], ids=["none", "kept"])
    def test_a_second_one_kills_what_still_runs(self, spawn, here, number, store):
        process, group = self.run_what_ignores_sigterm(spawn, here, *store)
        process.signal(number)
        process.until("once more to stop waiting")
        assert is_running(group)
        process.signal(number)
        assert process.end() == 128 + number  # the grace is 60s
        assert "killing commands, and waiting for nothing else; once more to leave at once" in process.seen
        wait_until(lambda: not is_running(group))  # its grace is 60s
        assert "still running" not in process.seen

    def run_what_ignores_sigterm(self, spawn, here, *options):
        script = "trap '' TERM; echo $$ > group; echo ready; while :; do sleep 100; done"
        (here / "long.yaml").write_text(f'name: long\nsteps: [{{name: a, run: "{script}", stop: {{grace: 60s}}}}]\n')
        process = spawn("run", "long.yaml", *options)
        process.until("| ready")
        return process, number_in(here / "group")

    def test_a_third_one_kills_it_though_the_database_hangs(self, spawn, here):
        process, group = self.run_what_ignores_sigterm(
            spawn, here, "--store", "sqlite:///szal.db", "--lease-ttl", "600"
        )
        with contextlib.closing(sqlite3.connect(here / "szal.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            for told in ("once more to stop waiting", "once more to leave at once", "left at once"):
                process.signal(signal.SIGINT)
                process.until(told)
            assert process.end() == 130
            wait_until(lambda: not is_running(group))  # its grace is 60s

    def test_a_third_one_gets_out_though_the_database_hangs(self, spawn, here):
        process = spawn("run", "flows:waits", "--id", "e1", "--store", "sqlite:///szal.db")
        process.until("| ready")
        with contextlib.closing(sqlite3.connect(here / "szal.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            process.signal(signal.SIGINT)
            process.until("once more to stop waiting")
            process.signal(signal.SIGINT)
            process.until("once more to leave at once")
            process.signal(signal.SIGINT)
            assert process.end() == 130
        assert "left at once; szal show tells how far it came" in process.seen
        assert only_record("sqlite:///szal.db").state is WorkflowState.RUNNING

    def test_many_in_a_hurry_do_not_hide_how_it_goes_on(self, spawn, database):
        process = spawn("run", "flows:waits", "--store", database)
        process.until("| ready")
        for _ in range(20):
            process.signal(signal.SIGINT)
        assert process.end() == 130
        assert "go on" in told_commands(process.seen)
        assert "Traceback" not in process.seen

    @pytest.mark.parametrize(
        ("number", "status", "state"), [(signal.SIGINT, 130, "Paused"), (signal.SIGTERM, 143, "Running")], ids=str
    )
    def test_json_says_that_it_was_interrupted(self, here, database, number, status, state):
        done = self.interrupts_itself(here, number, "--id", "e1", "--store", database, "--json")
        assert done.returncode == status
        found = json.loads(done.stdout)
        assert (found["state"], found["interrupted"]) == (state, True)
        assert json.loads(szal("show", "e1", "--store", database, "--json").stdout) == found
        (listed,) = json.loads(szal("list", "--store", database, "--json").stdout)
        assert (listed["state"], listed["interrupted"]) == (state, True)

    def interrupts_itself(self, here, number, *options):
        (here / "mine.py").write_text(
            "import os, signal\nfrom szal import FlowDef, StepDef\n"
            f"def work(ctx):\n    os.kill(os.getpid(), {int(number)})\n    ctx.sleep(60)\n    ctx.check()\n"
            "flow = FlowDef('f', steps=[StepDef('a'), StepDef('b')]), work\n"
        )
        return szal("run", "mine:flow", *options)

    @pytest.mark.parametrize("store", [[], ["--store", "memory:"]], ids=["none", "memory"])
    def test_what_nothing_keeps_is_cancelled(self, here, store):
        done = self.interrupts_itself(here, signal.SIGTERM, "--json", *store)
        assert done.returncode == 143
        record = decode_record(done.stdout)
        assert record.state is WorkflowState.CANCELLED
        assert record.result["b"].error == "cancelled"
        assert "szal resume" not in done.stderr

    def test_and_rolled_back_where_it_is_asked_to(self, spawn):
        process = spawn("run", "flows:rolls")
        process.until("| ready")
        process.signal(signal.SIGINT)
        assert process.end() == 130
        assert "undone one" in process.seen
        assert "rolls rolled_back in" in process.seen

    def test_and_a_second_one_ends_the_waiting_there_too(self, spawn):
        process = spawn("run", "flows:hangs")
        process.until("| ready")
        process.signal(signal.SIGINT)
        process.until("SIGINT: cancelling; once more to stop waiting")
        process.signal(signal.SIGINT)
        assert process.end() == 130
        assert "hangs cancelled in" in process.seen

    @pytest.mark.parametrize("command", ["run", "validate", "graph"])
    def test_ctrl_c_while_a_module_is_imported(self, spawn, here, command):
        (here / "slow.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
        process = spawn(command, "slow:flow")
        process.until("importing")
        process.signal(signal.SIGINT)
        assert process.end() == 130
        assert process.seen.strip() == "importing"

    def test_ctrl_c_while_a_store_is_opened(self, spawn, here):
        with socket.create_server(("127.0.0.1", 0)) as server:  # it accepts, and says nothing
            process = spawn("list", "--store", f"postgresql://127.0.0.1:{server.getsockname()[1]}/x")
            with server.accept()[0]:
                process.signal(signal.SIGINT)
                assert process.end() == 130
        assert process.seen.strip() == ""

    def test_what_a_fork_of_it_is_sent_is_not_its_own(self, here):
        (here / "mine.py").write_text(
            "import os, signal\nfrom szal import FlowDef, StepDef\n"
            "def work(ctx):\n"
            "    child = os.fork()\n"
            "    if child:\n"
            "        return os.waitpid(child, 0)[1]\n"
            "    try:\n"
            "        os.kill(os.getpid(), signal.SIGINT)\n"
            "    finally:\n"
            "        os._exit(7)\n"
            "flow = FlowDef('f', steps=[StepDef('a'), StepDef('b'), StepDef('c')]), work\n"
        )
        done = szal("run", "mine:flow")
        assert done.returncode == 0
        assert "SIGINT" not in done.stdout + done.stderr
        assert re.search(r"c +completed .* 1792\n", done.stdout)

    def test_an_ignored_signal_stays_ignored(self, here):
        (here / "mine.py").write_text(
            "import os, signal\nfrom szal import FlowDef, StepDef\n"
            "def work(ctx):\n    os.kill(os.getpid(), signal.SIGHUP)\n"
            "flow = FlowDef('f', steps=[StepDef('a'), StepDef('b')]), work\n"
        )
        done = python_m_szal("run", "mine:flow", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        assert done.returncode == 0


class TestStreams:
    def test_json_is_all_that_goes_to_stdout(self, here):
        done = szal("run", "flows:noisy", "--json")
        record = json.loads(done.stdout)
        assert record["state"] == "Completed"
        assert done.stdout.count("\n") == 1
        for text in ("while making the flow", "printed", "written", "from a child process", "| reported", "logged"):
            assert text in done.stderr

    FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")

    @pytest.mark.parametrize("arguments", [["run", "flows:large"], ["graph", "flows:large"], ["list"]])
    def test_a_reader_that_leaves_is_no_error(self, here, database, arguments):
        with open_store(database) as store:
            store.save(ExecutionRecord("e1", "ci"))
        leave = "end, other = os.pipe(); os.dup2(other, 1); os.close(end)"
        status, _, err = with_files(leave, *arguments, SZAL_STORE=database)
        message = "szal: stdout cannot be written: Broken pipe; the run goes on without it\n"
        assert (status, err) == (0, message if "run" in arguments else "")

    @FULL
    @pytest.mark.parametrize(
        ("arguments", "status"),
        [
            (["run", "flows:good"], 0),
            (["run", "flows:good", "--json"], 0),
            (["run", "flows:prints"], 0),
            (["run", "flows:bad"], 1),
            (["validate", "flows:good"], 0),
            (["prune", "--keep", "9"], 0),
            (["list"], 1),
            (["show", "e1", "--json"], 1),
            (["graph", "flows:good"], 1),
            (["schema"], 1),
            (["--help"], 1),
            (["run", "--help", "flows:good"], 1),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_a_full_disk_is_one_message_and_the_status_is_that_of_what_was_done(
        self, here, database, arguments, status
    ):
        with open_store(database) as store:
            store.save(ExecutionRecord("e1", "ci", WorkflowState.RUNNING))
        ended, _, err = with_files("os.dup2(full(), 1)", *arguments, SZAL_STORE=database)
        said = [line for line in err.splitlines() if "No space left" in line]
        assert (ended, len(said)) == (status, 1), err
        assert said[0].startswith("szal: stdout cannot be written: ")
        assert "Traceback" not in err

    @FULL
    @pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help", "flows:good"], ["list", "-h"]])
    def test_help_that_cannot_be_written_is_one_message_where_nothing_is_buffered_either(self, here, arguments):
        command = f'exec "{sys.executable}" -um szal {" ".join(arguments)} >/dev/full'
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (1, "szal: stdout cannot be written: No space left on device\n")

    @FULL
    @pytest.mark.parametrize(("arguments", "status"), [(["run", "flows:good"], 0), (["run", "flows:nothing"], 2)])
    def test_where_nothing_can_be_written_the_status_still_tells(self, here, arguments, status):
        assert with_files("os.dup2(full(), 1); os.dup2(1, 2)", *arguments)[0] == status

    @pytest.mark.parametrize("closed", ["1", "2"])
    def test_a_stream_that_was_closed_before(self, here, closed):
        command = f'exec "{sys.executable}" -m szal run flows:good {closed}>&-'
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0
        assert "Traceback" not in done.stderr
        told = "szal: stdout cannot be written: it is closed; the run goes on without it\n"
        assert done.stderr == (told if closed == "1" else "")

    def test_a_step_that_closes_stdout_fails_nothing(self, here):
        done = szal("run", "flows:closes")
        assert done.returncode == 0
        assert done.stderr == "szal: stdout cannot be written: it is closed; the run goes on without it\n"

    def test_json_is_a_document_where_stderr_was_closed(self, here):
        command = f'exec "{sys.executable}" -m szal run flows:noisy --json 2>&-'
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30)
        assert json.loads(done.stdout)["state"] == "Completed"

    def test_an_encoding_without_the_signs(self, here):
        done = python_m_szal("run", "flows:mixed", env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
        assert done.returncode == 1
        assert "x mixed failed in" in done.stdout


class TestWithoutTheExtra:
    BLOCK = (
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == {module!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "from szal.cli import main\n"
        "sys.exit(main({arguments!r}))\n"
    )

    def call(self, module, *arguments):
        script = self.BLOCK.format(module=module, arguments=list(arguments))
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)

    @pytest.mark.parametrize("module", ["click", "rich"])
    def test_it_says_what_to_install(self, module):
        done = self.call(module, "--help")
        assert done.returncode == 2
        assert done.stderr == 'szal: the command line needs an optional part of szal: pip install "szal[cli]"\n'
        assert done.stdout == ""

    def test_a_file_needs_yaml_but_a_module_does_not(self, here):
        (here / "flow.yaml").write_text("name: x\nsteps: []\n")
        assert self.call("yaml", "run", "flows:good").returncode == 0
        done = self.call("yaml", "run", "flow.yaml")
        assert done.returncode == 2
        assert "szal[cli]" in done.stderr
        assert "Traceback" not in done.stderr


def test_importing_it_imports_nothing_heavy():
    script = "import sys, szal.cli; print([m for m in ('click', 'rich', 'yaml', 'sqlite_utils') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"
