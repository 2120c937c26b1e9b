"""PgBouncer in transaction mode before a PostgreSQL server, with one session, which all its clients take turns at."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
import pytest
from processes import wait_until
from stores.postgres_server import OwnServer

_CONFIG = """
[databases]
* = host={server} user=postgres
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {place}
logfile = {place}/log
auth_type = any
pool_mode = transaction
default_pool_size = 1
max_client_conn = 200
server_reset_query =
"""


class PgBouncer:
    """A process, and where it listens."""

    def __init__(self, server: OwnServer) -> None:
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
        self._place = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir=server.place))
        self._place.chmod(0o777)  # it does not run as root
        host = parse_qs(urlsplit(server.url).query)["host"][0]
        (self._place / "pgbouncer.ini").write_text(_CONFIG.format(server=host, place=self._place))
        self._command, self._user = [program, "-q", str(self._place / "pgbouncer.ini")], server.server.system_user
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, user=self._user)
        wait_until(self._answers)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self._place), safe='')}&port=6432"

    def restart(self) -> None:
        """Kill it, whatever its clients are in the middle of, and start it again."""
        self.close()
        self._start()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._place / "log").read_text()
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True
