"""How stores are named: the spellings that people have at hand, and passwords, which appear nowhere."""

import logging
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from szal.cli.commands import szal
from szal.errors import StoreError, StoreUnavailable
from szal.stores import PostgresExecutionStore, SqliteExecutionStore, open_store

# -- spellings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///{relative}",
        "sqlite:////{absolute}",
        "sqlite+pysqlite:////{absolute}",
        "SQLite:////{absolute}",
        "sqlite:////{absolute}?mode=rwc",
        "sqlite://{relative}",
        "sqlite://{relative}?mode=rwc",
        "sqlite:{relative}",
    ],
)
def test_spellings_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.chdir(tmp_path)
    absolute = str(tmp_path / "exec.db").removeprefix("/")
    with open_store(url.format(relative="exec.db", absolute=absolute)) as store:
        assert store.name == str(tmp_path / "exec.db")
    assert {entry.name for entry in tmp_path.iterdir()} == {"exec.db"}


@pytest.mark.parametrize("url", ["sqlite::memory:", "sqlite://:memory:", "sqlite:///:memory:?mode=rwc"])
def test_spellings_of_memory(url: str) -> None:
    with open_store(url) as store:
        assert store.name == ":memory:"


def test_a_file_that_must_be_there_is_not_made(path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="unable to open"):
        open_store(f"sqlite:///{path}?mode=rw")
    assert not path.exists()


def test_a_file_that_is_only_read_is_not_written(sqlite: SqliteExecutionStore, path: Path) -> None:
    with open_store(f"sqlite:///{path}?mode=ro") as store:
        assert store.list() == []
        assert isinstance(store, SqliteExecutionStore)
        with pytest.raises(StoreUnavailable, match="readonly"):
            store.remove("e1")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite:///x.db?cache=shared", "mode=rwc, mode=rw or mode=ro, and nothing else"),
        ("sqlite:///what?.db", "a file with a '\\?' in its name is given as a path"),
        ("sqlite:///x.db?mode=x", "mode=rwc"),
        ("sqlite://", "empty: write sqlite:///relative.db"),
        ("sqlite:///", "empty"),
        ("sqlite://me:secret@host/x.db", "no user"),
        ("sqlite+pysqlcipher://:secret@/x.db", "Python's own driver"),
        ("postgresql://me:secret@host/x", "no URL of SQLite: write sqlite:///"),
    ],
)
def test_what_is_no_url_of_sqlite_says_what_to_write(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        SqliteExecutionStore.connect(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2", "PostgreSQL"]
)
def test_spellings_of_one_database(scheme: str) -> None:
    store = PostgresExecutionStore.connect(f"{scheme}://me:secret@db.example:5433/app?sslmode=require")
    assert store.name == "postgresql://db.example:5433/app"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgre://h/db", r"no store for postgre://…: did you mean postgresql://…\?"),
        ("sqllite:///x.db", r"did you mean sqlite:///FILE\?"),
        ("mysql+pymysql://h/db", r"no store for mysql://…: Known are memory:, sqlite:///FILE, postgresql://…"),
        ("szal.db", "this is no URL of a store: write sqlite:///szal.db"),
        ("/var/szal.db", "no URL of a store: write sqlite:////var/szal.db"),
        ("", "no URL of a store: it is empty"),
        (":memory:", "no URL of a store: write memory:"),
        ("szal", "no URL of a store: that of a file begins with sqlite:///"),
        ("host=h dbname=d", "key=value text is for PostgresExecutionStore.connect"),
    ],
)
def test_open_store_says_what_to_write(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        open_store(url)


def test_what_sqlalchemy_shows_of_a_url_is_none() -> None:
    with pytest.raises(ValueError, match="hide_password=False"):
        open_store("postgresql+psycopg://me:***@h/db")


def test_open_store_takes_text() -> None:
    with pytest.raises(TypeError, match=r"named by a URL .* not by a PosixPath"):
        open_store(Path("x.db"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not by a PosixPath"):
        PostgresExecutionStore.connect(Path("x.db"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("connect_timeout=soon", "connect_timeout is no number"),
        ("prepare_threshold=often", "prepare_threshold in a URL is a number"),
        ("pool_size=5", "names that libpq has"),
        ("sslmode", "name=value"),
    ],
)
def test_parameters_that_are_none_are_refused(query: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        PostgresExecutionStore.connect(f"postgresql://h/db?{query}")


# -- passwords --------------------------------------------------------------------------------------

SECRET = "s3cr3t"
PASSWORDS = [
    SECRET,
    *(
        f"{SECRET}{odd}{SECRET}"
        for odd in [*"@/:% '?#&=\\", '"', "%2", "@h/", "?a=", "?user=", "@h/?user=", "/1?user=a@"]
    ),
]
HERE = "127.0.0.1:1"  # where nobody listens


def all_that_is_said(act: Callable[[], object], caplog: pytest.LogCaptureFixture) -> str:
    """Return all that becomes visible: what is returned or raised, with all causes, and what is logged."""
    caplog.set_level(logging.DEBUG)
    try:
        said = repr(act())
    except (ValueError, StoreError) as error:
        said = "".join(traceback.format_exception(error))  # with what is suppressed too:
        each: BaseException | None = error
        while each is not None:
            said += f"{each!r} {each} {each.args}"
            each = each.__cause__ or each.__context__
    return said + caplog.text


@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize(
    "form",
    [
        "postgresql://me:{}@{here}/db",
        "postgresql+psycopg2://me:{}@{here}/db?connect_timeout=2",
        "postgresql://{here}/db?user=me&password={}",
        "postgre://me:{}@{here}/db",
        "postgresql:/me:{}@{here}/db",
        "me:{}@{here}/db",
        "mysql://{here}/db?password={}",
        "sqlite://me:{}@{here}/db",
        "sqlite+pysqlcipher://:{}@/db",
    ],
)
def test_no_password_is_seen_whatever_is_in_it(form: str, escaped: bool, caplog: pytest.LogCaptureFixture) -> None:
    for password in PASSWORDS:
        url = form.format(quote(password, safe="") if escaped else password, here=HERE)
        assert SECRET not in all_that_is_said(lambda url=url: open_store(url), caplog), url


@pytest.mark.parametrize("form", ["host=127.0.0.1 port=1 user=me password={}", "host=127.0.0.1,password={}", "{}"])
@pytest.mark.parametrize("quoted", [True, False])
def test_no_password_is_seen_in_key_value_text(form: str, quoted: bool, caplog: pytest.LogCaptureFixture) -> None:
    for password in PASSWORDS:
        value = "'{}'".format(password.replace("\\", "\\\\").replace("'", "\\'")) if quoted else password
        text = form.format(value)
        assert SECRET not in all_that_is_said(lambda text=text: open_store(text), caplog), text
        said = all_that_is_said(lambda text=text: PostgresExecutionStore.connect(text).list(), caplog)
        assert SECRET not in said, text


@pytest.mark.parametrize(
    "text",
    [f"dbname=postgresql://u:{SECRET}@h/d", *(f"{key}=1;password={SECRET}" for key in ("host", "port", "dbname"))],
)
def test_no_place_is_named_that_may_be_a_password(text: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=r"host|port|database"):
        PostgresExecutionStore.connect(text)
    assert SECRET not in all_that_is_said(lambda: PostgresExecutionStore.connect(text), caplog)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@{HERE}/db",
        f"postgre://me:{SECRET}@{HERE}/db",
        f"postgresql://me:a@{SECRET}@{HERE}/db",
        f"host=h password={SECRET}",
    ],
)
def test_no_password_is_seen_on_the_command_line(url: str) -> None:
    result = CliRunner().invoke(szal, ["list", "--store", url], prog_name="szal")
    assert result.exit_code == 2
    assert SECRET not in result.output + str(result.exception)


def test_a_short_password_does_not_cross_out_its_letters() -> None:
    with pytest.raises(StoreUnavailable, match=r"port 1 failed: Connection refused") as caught:
        open_store(f"postgresql://me:e@{HERE}/db")
    assert "…" not in str(caught.value)


def test_the_environment_is_libpqs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PGCONNECT_TIMEOUT", "7")
    store = PostgresExecutionStore.connect("postgresql://h/db")
    server = store._database.pool._server
    assert server is not None
    assert server.connect_timeout == 7
    assert "connect_timeout" not in server.parameters
