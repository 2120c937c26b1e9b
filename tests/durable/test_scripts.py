"""An execution that a script began goes on wherever its file is loaded in another way."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from pairs import pairs

import szal

SCRIPT = """
    import os, sys
    from szal import *

    class Busy(Exception):
        pass

    steps = [StepDef("dies"), StepDef("busy", max_retries=1, retry_delay=0, retry_on=Busy, give_up_on="OSError")]
    flow = FlowDef("nightly", steps=steps)
    tried = []

    def main(url, how):
        def handler(ctx):
            if ctx.step.name == "dies":
                if how == "begin":
                    engine.config.execution_store.flush()
                    os._exit(7)
                return
            tried.append(ctx.attempt)
            if ctx.attempt == 1:
                raise Busy

        with open_store(url) as store, store.engine_sink() as sink:
            with Engine(handler, EngineConfig(execution_store=sink)) as engine:
                [result] = engine.recover() if how == "recover" else [engine.run(flow, execution_id="e")]
        print(result.state, tried)

    if __name__ == "__main__":
        main(*sys.argv[1:])
"""
BY_IMPORT = ["-c", "import sys; from jobs.nightly import main; main(*sys.argv[1:])"]
WAYS = {"a script": ["jobs/nightly.py"], "-m": ["-m", "jobs.nightly"], "an import": BY_IMPORT}


@pytest.mark.parametrize(("first", "how", "kind"), pairs([*WAYS], ["run", "recover"], ["sqlite", "postgres"]))
def test_what_one_began_the_others_go_on_with(tmp_path, store_url, first, how):
    """In a plain folder, of which only who imports from it knows that it is a package."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "nightly.py").write_text(textwrap.dedent(SCRIPT))
    path = os.pathsep.join([str(Path(szal.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    env = {**os.environ, "PYTHONPATH": path}
    second = "a script" if first == "an import" else "an import"
    for way, doing in ((first, "begin"), (second, how)):
        done = subprocess.run(
            [sys.executable, *WAYS[way], store_url, doing], env=env, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 7 * (doing == "begin"), done.stderr
    assert done.stdout == "completed [1, 2]\n"
