"""An executor of dask that counts what it sends."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from szal.contrib.dask import DaskExecutor


class Counting(DaskExecutor):
    """Counts the bytes of what it sends with each call, and of what it sends for several."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.lock, self.sent, self.kept = threading.Lock(), 0, 0

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        with self.lock:
            self.sent += sum(len(arg) for arg in args if isinstance(arg, bytes))
        return super().submit(function, *args, **kwargs)

    def keep(self, pack: Callable[[], bytes]) -> object:
        def counted() -> bytes:
            data = pack()
            with self.lock:
                self.kept += len(data)
            return data

        return super().keep(counted)
