"""What gunicorn has to be told so that a deployment breaks off no step: see recovering_app.py."""

from typing import Any

graceful_timeout = 30  # seconds for a worker to end, before it is killed


def worker_exit(server: Any, worker: Any) -> None:
    """Let what runs in this worker come to its end; another worker goes on with what follows."""
    from recovering_app import engine

    engine.close(drain=graceful_timeout - 5)
