"""A prefork web server with --preload under load, whose workers are killed: what it accepted is recorded."""

import http.client
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pairs import FULL
from web import Client, served

import szal
from szal.model.state import WorkflowState
from szal.stores import open_store

pytestmark = pytest.mark.slow

CLIENTS, REQUESTS, KILLS = (6, 60, 8) if FULL else (6, 25, 4)


class Asking(Client):
    """A client of `stores.served`."""

    def ask(self, execution_id: str) -> int:
        """Have a flow run, and return the process that ran it."""
        try:
            self.request("GET", f"/?{execution_id}", headers={"Host": "szal"})
            answer = self.getresponse()
            assert answer.status == 200, answer.read()
            return int(answer.read())
        finally:
            self.close()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, path: Path) -> str:
    postgres: str = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return postgres or f"sqlite:///{path}"


@pytest.fixture
def address(url: str, tmp_path: Path) -> Iterator[str]:
    """Where a server with four workers listens."""
    pytest.importorskip("gunicorn")
    places = [Path(szal.__file__).parents[1], Path(__file__).parents[1]]
    environment = os.environ | {"SZAL_TEST_STORE": url, "PYTHONPATH": os.pathsep.join(map(str, places))}
    options = ["--workers=4", "--graceful-timeout=10", "--log-level=warning"]
    with served("stores.served:app", *options, place=tmp_path, environment=environment) as address:
        yield address


def test_every_accepted_request_is_recorded_though_workers_are_killed(url: str, address: str) -> None:
    accepted: dict[str, int] = {}
    errors: list[BaseException] = []
    turn = threading.Lock()
    killed: set[int] = set()

    def load(client: int) -> None:
        done = tried = 0
        try:
            while done < REQUESTS:
                tried += 1
                execution_id = f"c{client}-{tried}"
                try:
                    worker = Asking(address).ask(execution_id)
                except (OSError, http.client.HTTPException):
                    continue  # its worker was killed: nobody has promised anything
                done += 1
                with turn:
                    accepted[execution_id] = worker
                    if len(accepted) % 30 == 0 and len(killed) < KILLS and worker not in killed:
                        killed.add(worker)
                        os.kill(worker, signal.SIGKILL)
        except BaseException as error:
            errors.append(error)

    clients = [threading.Thread(target=load, args=[number]) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert not errors
    assert len(killed) == KILLS
    assert len({*accepted.values()}) > 4
    with open_store(url) as store:
        found = {summary.execution_id: summary for summary in store.find(limit=None)}
        missing = [execution_id for execution_id in accepted if execution_id not in found]
        assert not missing
        assert all(found[execution_id].state is WorkflowState.COMPLETED for execution_id in accepted)
        assert {"preloaded", "queued"} <= {*found}
