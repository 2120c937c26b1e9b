"""Child processes that the engines of many tests share: each takes a second to start where there is much to do."""

from szal import Engine, EngineConfig
from szal.steps.processes import Processes
from szal.steps.start import Afresh


class SharedProcesses(Processes):
    """They end with the block, and not with an engine."""

    def __init__(self, limit, grace=20.0, start=None):
        super().__init__(limit, grace, idle_timeout=600.0, start=start or Afresh())

    def engine(self, handler, **config):
        """Return an engine that has its attempts made in these processes, where they are to be made in any."""
        engine = Engine(handler, EngineConfig(**config))
        engine.processes = lambda: self
        return engine

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
