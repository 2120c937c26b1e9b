"""An executor on a dask cluster."""

import socket
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, InvalidStateError
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Any, Final
from weakref import WeakValueDictionary, finalize

import distributed
from distributed.client import FutureCancelledError
from distributed.scheduler import KilledWorker as DaskKilledWorker
from tornado import gen

from szal.clock import monotonic
from szal.contrib.dask.claims import ENGINE, Claims, KilledWorker, Refused, call, killed, worker_of
from szal.errors import describe
from szal.scheduler.attempt import Lost
from szal.steps.adapter import Again
from szal.steps.pickling import Packed

__all__ = ["DaskExecutor", "adapted"]

_PAUSE: Final = 0.1
_TRIES: Final = 4


class DaskExecutor(Executor):
    """A `concurrent.futures.Executor` on a dask cluster, for `EngineConfig.executor`.

    *client* is a `distributed.Client`, *options* are those of its `get_executor`: ``workers``, ``allow_other_workers``,
    ``resources``. An engine that is given ``client.get_executor()`` makes one of these of it. Its members may be used
    from any thread.

    Unlike dask's own, each call is made once at most. Where the worker that had begun it is gone, the future raises
    `KilledWorker`; where the scheduler is out of reach, an engine raises `ExecutorBroken`.
    """

    tells_when_it_begins: Final = True
    _owns_client = False

    def __init__(self, client: "distributed.Client", **options: Any) -> None:
        unknown = sorted(options.keys() - {"workers", "allow_other_workers", "resources"})
        if unknown:
            hint = "; a step has max_retries instead" if "retries" in unknown else ""
            raise TypeError(f"DaskExecutor takes no {', '.join(unknown)}{hint}")
        self.client = client
        self._options = options
        self._topic = f"szal-{uuid.uuid4().hex}"
        self._calls: WeakValueDictionary[str, _Attempt] = WeakValueDictionary()
        self._is_shut_down = self._is_known = False
        client.subscribe_topic(self._topic, partial(_begun, self._calls))
        self._unsubscribe = finalize(self, _unsubscribe, client, self._topic)
        self._unsubscribe.atexit = False

    @classmethod
    def connect(cls, address: str, *, timeout: float = 10.0, **options: Any) -> "DaskExecutor":
        """Return one for the cluster whose scheduler is at *address* (``tcp://host:8786``), with a client of its own.

        `shutdown` closes that. Raises ConnectionError where there is no scheduler after *timeout* seconds.
        """
        try:
            _await_answer(address, timeout)
            client = _client(address, timeout)
        except Exception as error:
            raise ConnectionError(f"there is no dask scheduler at {address}: {describe(error)}") from error
        executor = cls(client, **options)
        executor._owns_client = True
        return executor

    @property
    def workers(self) -> int:
        """How many calls the cluster makes at a time, as it is now."""
        return sum(self.client.nthreads().values())

    def keep(self, pack: Callable[[], Packed]) -> object:
        """Return what stands for the bytes that *pack* returns: where it is submitted, the cluster is sent them once.

        They stay there for as long as it is referred to, and are sent again where the worker is lost that has them.
        """
        return _Kept(pack)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Have *function* called on a worker. Raises BrokenExecutor, and RuntimeError after `shutdown`."""
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self._register()
        found = [arg.there(self) if isinstance(arg, _Kept) else arg for arg in args]
        attempt = _Attempt(self, partial(self.submit, function, *args, **kwargs), args)
        self._calls[attempt.key] = attempt
        bound = partial(function, **kwargs) if kwargs else function
        attempt.follow(
            self.client.submit(
                call, self._topic, attempt.key, bound, *found, key=attempt.key, pure=False, retries=0, **self._options
            )
        )
        if self.client.status != "running":  # nothing more is heard of it, and a worker may have made it
            attempt.settle(error=self.lost("is out of reach"))
        return attempt

    def _register(self) -> None:
        """See to it that the scheduler knows of claims: it may be another one, at the same address."""
        self.check()
        if self._is_known:
            return
        try:
            self.client.register_plugin(Claims())
        except Exception as error:
            self.check()
            raise BrokenExecutor(f"the dask scheduler {_address(self.client)}: {describe(error)}") from error
        self._is_known = True

    def check(self) -> None:
        """Raise BrokenExecutor where the scheduler is out of reach."""
        if self.client.status != "running":
            self._is_known = False
            raise BrokenExecutor(f"the dask scheduler {_address(self.client)} is out of reach")

    def lost(self, how: str) -> Lost:
        """Return the error of a call that may have been made, where the scheduler is gone."""
        return Lost(f"the dask scheduler {_address(self.client)} {how}")

    def call_off(self, attempt: "_Attempt") -> bool:
        """Return whether nobody has begun a call; then nobody will. Waits for the scheduler."""
        claimed = None
        while claimed is None and self.client.status == "running" and not attempt.done():
            try:
                scheduler: Any = self.client.scheduler
                claimed = self.client.sync(scheduler.szal_claim, key=attempt.key, by=ENGINE, topic=self._topic)
            except Exception:  # noqa: BLE001 (dask raises anything; what has become of it is about to be told)
                return False
            if claimed is None:  # it is still on its way
                time.sleep(_PAUSE)
        return claimed == ENGINE

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more; wait for what there is. A client stays open that was given to it."""
        self._is_shut_down = True
        for attempt in [*self._calls.values()]:
            if cancel_futures:
                attempt.cancel()
            if wait:
                with suppress(Exception):
                    attempt.exception()
        self._unsubscribe()
        if self._owns_client:
            self.client.close()


def adapted(executor: Executor) -> DaskExecutor:
    """Return a `DaskExecutor` in the place of what `Client.get_executor` returns."""
    try:
        client, given = vars(executor)["_client"], vars(executor)["_kwargs"]
    except KeyError:  # there is no other way to ask it
        raise TypeError("executor must be a szal.contrib.dask.DaskExecutor(client) with this version of dask") from None
    return DaskExecutor(client, **{key: value for key, value in given.items() if key != "pure"})


def _await_answer(address: str, timeout: float) -> None:
    """Return once somebody at *address* says something, as dask does: its own client waits for that without end."""
    scheme, _, place = address.rpartition("://")
    host, _, port = place.rpartition(":")
    if scheme not in ("", "tcp") or not host:
        return
    until = monotonic() + timeout
    while True:
        left = max(0.01, until - monotonic())
        try:
            with socket.create_connection((host.strip("[]"), int(port)), left) as connection:
                if connection.recv(1):
                    return
                raise ConnectionError("it does not speak with dask")
        except ConnectionRefusedError:  # it may be about to begin
            if monotonic() + _PAUSE > until:
                raise
            time.sleep(_PAUSE)


def _client(address: str, timeout: float) -> "distributed.Client":
    """Return a client. One fails where a busy scheduler says more at once than the word that it waits for."""
    tries = 1
    while True:
        try:
            return distributed.Client(address, timeout=timeout, set_as_default=False)
        except AssertionError:
            if tries == _TRIES:
                raise
            tries += 1


def _address(client: "distributed.Client") -> str:
    address = getattr(client.scheduler, "address", None)
    return "of a closed client" if address is None else f"at {address}"


def _begun(calls: "WeakValueDictionary[str, _Attempt]", event: tuple[float, Any]) -> None:
    """Take note that a call was claimed. On the thread of the client."""
    key, by = event[1]
    attempt = calls.get(key)
    if attempt is not None and by != ENGINE:
        attempt.worker, attempt.has_begun = worker_of(by), True


def _unsubscribe(client: "distributed.Client", topic: str) -> None:
    with suppress(Exception):  # it may have been closed, or have lost its scheduler
        client.unsubscribe_topic(topic)


class _Kept:
    """Bytes that are on the cluster, once they were needed there."""

    def __init__(self, pack: Callable[[], Packed]) -> None:
        self._pack = pack
        self._lock = Lock()
        self._future: Any = None

    @property
    def is_lost(self) -> bool:
        """Whether the worker is gone that had them."""
        return self._future is not None and self._future.status != "finished"

    def there(self, executor: DaskExecutor) -> Any:
        """Return the bytes as dask finds them; as they are where no worker can take them yet."""
        with self._lock:
            if self._future is None or self._future.status != "finished":
                data = self._pack()
                try:
                    self._future = executor.client.scatter(data, hash=False)
                except Exception:  # noqa: BLE001 (dask raises anything)
                    executor.check()
                    return data
            return self._future


class _Attempt(Future[Any]):
    """A call on the cluster. `running` from when a worker has claimed it."""

    def __init__(self, executor: DaskExecutor, again: Callable[[], "Future[Any]"], args: Sequence[Any]) -> None:
        super().__init__()
        self.key = f"szal-attempt-{uuid.uuid4().hex}"
        self._executor = executor
        self._again = again
        self._kept = [arg for arg in args if isinstance(arg, _Kept)]
        self._task: Any = None
        self.has_begun = False
        self.worker = ""
        """Who has begun it."""

    def follow(self, task: Any) -> None:
        """Have what becomes of *task* be what becomes of this."""
        self._task = task
        loop: Any = self._executor.client.loop
        loop.add_callback(_follow, self, task)

    def running(self) -> bool:
        """Whether a worker has begun it."""
        return self.has_begun and not self.done()

    def cancel(self) -> bool:
        """Call it off, unless a worker has begun it. Waits for the scheduler."""
        if self.done():
            return self.cancelled()
        if self.has_begun or not self._executor.call_off(self):
            return False
        is_cancelled = super().cancel()  # first: what becomes of the task says nothing
        self._task.cancel()
        return is_cancelled

    def settle(self, result: Any = None, error: BaseException | None = None) -> None:
        """Take what has become of it, on the thread of the client."""
        if isinstance(result, Refused):
            if result.by == ENGINE:  # who calls it off has not got to saying so here
                super().cancel()
                return
            error = killed(self.key, result.by)
        with suppress(InvalidStateError):  # it was called off
            if error is None:
                self.set_result(result)
            else:
                self.set_exception(self._told(error))

    def _told(self, error: BaseException) -> BaseException:
        """Return what is raised for *error*. That it has begun was heard of before anything that followed."""
        if isinstance(error, FutureCancelledError):
            if self._executor.client.status != "running" or not any(kept.is_lost for kept in self._kept):
                why = error.reason or "its client was closed"
                return self._executor.lost(f"dropped it ({why})")
            return killed(self.key, self.worker) if self.has_begun else Again(self._again)
        if isinstance(error, DaskKilledWorker) and not isinstance(error, KilledWorker):
            return KilledWorker(error.task, error.last_worker, error.allowed_failures)
        return error


@gen.coroutine
def _follow(attempt: _Attempt, task: Any) -> Generator[Any, Any, None]:
    """Wait for what becomes of a task, on the thread of the client."""
    try:
        attempt.settle((yield task.client.gather(task, asynchronous=True)))
    except Exception as error:  # noqa: BLE001 (whatever became of it)
        attempt.settle(error=error)
    except BaseException:  # the client was closed, and its thread ends
        attempt.settle(error=Lost("the dask client was closed"))
        raise
