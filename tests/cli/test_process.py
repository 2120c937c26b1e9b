"""szal as a process: signals, pipes, what goes to which stream."""

import json
import os
import signal
import subprocess
import sys

import pytest

from szal import ExecutionRecord, StepStatus, WorkflowState, open_store
from szal.model.json import decode_record


def szal(*arguments, **more):
    command = [sys.executable, "-m", "szal", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, **more)


def only_record(database):
    with open_store(database) as store:
        (execution_id,) = store.list()
        return store.get(execution_id)


class TestSignals:
    @pytest.mark.parametrize(
        ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
    )
    def test_a_signal_cancels_the_run_and_it_is_recorded(self, spawn, database, number, status):
        process = spawn("run", "flows:waits", "--store", database)
        process.until("| ready")
        process.signal(number)
        assert process.end() == status
        assert f"{number.name}: cancelling" in process.seen
        assert "waits cancelled in" in process.seen
        record = only_record(database)
        assert record.state is WorkflowState.CANCELLED
        assert record.result["after"].error == "cancelled"

    def test_a_cancelled_run_rolls_back_where_it_is_asked_to(self, spawn, database):
        process = spawn("run", "flows:rolls", "--store", database)
        process.until("| ready")
        process.signal(signal.SIGINT)
        assert process.end() == 130
        assert "undone one" in process.seen
        record = only_record(database)
        assert record.state is WorkflowState.ROLLED_BACK
        assert record.result["one"].status is StepStatus.ROLLED_BACK

    def test_a_second_one_ends_the_waiting_and_the_process_though_a_step_hangs(self, spawn, database):
        process = spawn("run", "flows:hangs", "--store", database)
        process.until("| ready")
        process.signal(signal.SIGINT)
        process.until("once more to stop waiting")
        process.signal(signal.SIGINT)
        assert process.end(timeout=10) == 130
        assert "hangs cancelled in" in process.seen
        assert "Traceback" not in process.seen
        record = only_record(database)
        assert record.state is WorkflowState.CANCELLED
        assert record.result["hang"].error_type == "Cancelled"

    def test_a_cancelled_run_with_json_is_a_record_too(self, here):
        script = "import os, signal, sys; from szal.cli import main; sys.exit(main(['run', 'mine:flow', '--json']))"
        (here / "mine.py").write_text(
            "import os, signal\nfrom szal import FlowDef, StepDef\n"
            "def work(ctx):\n    os.kill(os.getpid(), signal.SIGTERM)\n    ctx.sleep(60)\n"
            "flow = FlowDef('f', steps=[StepDef('a'), StepDef('b')]), work\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
        assert done.returncode == 143
        assert decode_record(done.stdout).state is WorkflowState.CANCELLED

    def test_an_ignored_signal_stays_ignored(self, here):
        (here / "mine.py").write_text(
            "import os, signal\nfrom szal import FlowDef, StepDef\n"
            "def work(ctx):\n    os.kill(os.getpid(), signal.SIGHUP)\n"
            "flow = FlowDef('f', steps=[StepDef('a'), StepDef('b')]), work\n"
        )
        done = szal("run", "mine:flow", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        assert done.returncode == 0


class TestStreams:
    def test_json_is_all_that_goes_to_stdout(self, here):
        done = szal("run", "flows:noisy", "--json")
        record = json.loads(done.stdout)
        assert record["state"] == "Completed"
        assert done.stdout.count("\n") == 1
        for text in ("while making the flow", "printed", "written", "from a child process", "| reported", "logged"):
            assert text in done.stderr

    @pytest.mark.parametrize("arguments", [["run", "flows:large"], ["graph", "flows:large"], ["list"]])
    def test_a_reader_that_leaves_is_no_error(self, here, database, arguments):
        with open_store(database) as store:
            store.save(ExecutionRecord("e1", "ci"))
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as stdout:
            done = subprocess.run(
                [sys.executable, "-m", "szal", *arguments],
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
                timeout=30,
                env={**os.environ, "SZAL_STORE": database},
            )
        assert done.stderr == ""
        assert done.returncode == 0

    @pytest.mark.parametrize("closed", ["1", "2"])
    def test_a_stream_that_was_closed_before(self, here, closed):
        command = f'exec "{sys.executable}" -m szal run flows:good {closed}>&-'
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0
        assert "Traceback" not in done.stderr

    def test_an_encoding_without_the_signs(self, here):
        done = szal("run", "flows:mixed", env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
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
        assert done.stderr == 'szal: the command line needs an optional part: pip install "szal[cli]"\n'
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
