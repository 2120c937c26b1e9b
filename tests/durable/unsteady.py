"""PostgreSQL that does not stay as it is while flows run: crashed, restarted, failed over, behind PgBouncer."""

import random
import time
from collections.abc import Callable, Iterator

from stores.pgbouncer import PgBouncer
from stores.postgres_server import OwnServer, Pair


class Unsteady:
    """A database that is at *url*, and what may happen on the way there, in turns; `count` says how often it has.

    `every` how many fault points a process dies is a matter of how long that takes.
    """

    def __init__(self, url: str, *troubles: Callable[[], None], every: int) -> None:
        self.url = url
        self.every = every
        self.count = 0
        self.troubles = troubles

    def happen(self) -> None:
        """Let the next of it happen, now or a moment later; return when all is well again."""
        time.sleep(random.uniform(0.0, 0.005))
        if self.troubles:
            self.troubles[self.count % len(self.troubles)]()
        self.count += 1


def restarting(server: OwnServer) -> Iterator[Unsteady]:
    """A server that crashes, one of whose processes is killed, and that is restarted in order, in turns."""

    def restart(mode: str) -> None:
        server.stop(mode)
        server.start()

    schema = server.new_schema()
    troubles = [lambda: restart("immediate"), server.lose_a_process, lambda: restart("fast")]
    yield Unsteady(server.url_of(schema), *troubles, every=4)
    server.drop_schema(schema)


def failing_over(server: OwnServer) -> Iterator[Unsteady]:
    """Two servers of their own, which take each other's place."""
    pair = Pair()
    yield Unsteady(pair.url_of(pair.new_schema()), pair.fail_over, every=20)
    pair.close()


def bounced(server: OwnServer) -> Iterator[Unsteady]:
    """A server behind PgBouncer."""
    yield from _behind_pgbouncer(server)


def bounced_and_killed(server: OwnServer) -> Iterator[Unsteady]:
    """A server behind PgBouncer, which is killed and started again."""
    yield from _behind_pgbouncer(server, restarts=True)


def _behind_pgbouncer(server: OwnServer, *, restarts: bool = False) -> Iterator[Unsteady]:
    bouncer = PgBouncer(server)
    server.execute("CREATE DATABASE bounced")
    yield Unsteady(bouncer.url("bounced"), *[bouncer.restart] * restarts, every=4)
    bouncer.close()
    server.execute("DROP DATABASE bounced WITH (FORCE)")


KINDS = {
    "restarts": restarting,
    "failovers": failing_over,
    "PgBouncer": bounced,
    "PgBouncer killed": bounced_and_killed,
}
