"""What the processes of these tests begin with, and how a test talks with one: by lines, so nobody sleeps."""

from stores.samples import python

SETUP = """
    import os, signal, sys, threading, time
    from szal import *

    store = open_store(sys.argv[1])
    sink = store.engine_sink()

    def new_engine(handler=lambda ctx: ctx.step.name, **config):
        return Engine(handler, EngineConfig(execution_store=sink, **config))

    def tell(*words):
        print(*words, flush=True)

    def listen():
        return sys.stdin.readline().strip()

    def add(path, line):
        file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        os.write(file, f"{line}\\n".encode())
        os.close(file)

    def die():
        sink.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


class Child:
    """A process that runs *code* after `SETUP`; killed at the end of the block, if it has not ended."""

    def __init__(self, code: str, *arguments: object) -> None:
        self.process = python(SETUP + code, *arguments)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def hear(self) -> str:
        """Return the next line that the process tells."""
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        assert line, self.process.stderr.read()  # type: ignore[union-attr]
        return line.strip()

    def say(self, line: str = "go") -> None:
        """Have `listen` return *line* in the process."""
        self.process.stdin.write(f"{line}\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]

    def end(self, limit: float = 50.0) -> str:
        """Return all else that the process tells, once it has ended well: within *limit* seconds."""
        out, err = self.process.communicate(timeout=limit)
        assert self.process.returncode == 0, err
        return out.strip()


def run_child(code: str, *arguments: object, limit: float = 50.0) -> str:
    """Return what the process tells, once it has ended well: within *limit* seconds."""
    with Child(code, *arguments) as child:
        return child.end(limit)


def killed(code: str, *arguments: object) -> None:
    """Run a process that kills itself."""
    process = python(SETUP + code, *arguments)
    _, err = process.communicate(timeout=50)
    assert process.returncode == -9, f"{process.returncode}: {err}"
