"""szal in a Django project: under gunicorn, with runserver, and its management command."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from contrib.sites import PROC, Site, database_url, environment, files_of
from processes import UNMEASURED, wait_until
from stores.postgres_server import PostgresServer
from web import ask, free_port, running, send, served

import szal
from szal import MissingExtra

HERE = Path(__file__).parent
MANAGE = HERE / "django_site" / "manage.py"


def manage(*words: str, place: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the project."""
    command = [sys.executable, str(MANAGE), *words]
    return subprocess.run(
        command, env=environment(place, **variables), capture_output=True, text=True, cwd=place, timeout=50
    )


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database."""
    with database_url(request, tmp_path_factory.mktemp("database") / "app.db") as url:
        yield url


@pytest.fixture(scope="module")
def site(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The project under gunicorn, with --preload and two workers."""
    place = tmp_path_factory.mktemp("django")
    variables = environment(place, DATABASE=database, DJANGO_SETTINGS_MODULE="django_site.settings")
    options = ["--workers=2", "--graceful-timeout=10"]
    with served("django_site.wsgi", *options, place=place, environment=variables) as address:
        yield Site(address, place)
    log = (place / "log").read_text()
    assert "the engine cannot be opened" not in log, log


class TestItsDashboard:
    """Of the project's own engine, behind the project's own authorisation."""

    def test_it_shows_what_the_project_runs_and_its_forms_are_sent(self, site: Site) -> None:
        ask(site.address, "POST", "/counts/dash")
        site.await_state("dash", "completed")
        answer = send(site.address, "GET", "/szal/executions/dash", **{"X-May": "look rerun"})
        assert (answer.status, "completed" in answer.text) == (200, True)
        assert 'href="/szal/flows/count"' in answer.text
        token = re.search(r'name="csrf_token" value="([^"]+)"', answer.text)
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        assert token
        for may, status in (("look", 403), ("look rerun", 303)):
            headers = {"X-May": may, "Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
            form = f"csrf_token={token[1]}&new_id=dash-2"
            sent = send(site.address, "POST", "/szal/executions/dash/rerun", form, **headers)
            assert sent.status == status
        assert sent.headers["Location"] == "/szal/executions/dash-2?done=rerun"
        site.await_state("dash-2", "completed")

    @pytest.mark.parametrize("path", ["/szal/", "/staff/waiting"])
    def test_who_has_not_signed_in_is_led_there(self, site: Site, path: str) -> None:
        answer = send(site.address, "GET", path)
        assert (answer.status, answer.headers["Location"]) == (302, f"/accounts/login/?next={path}")


class TestInATransactionOfTheRequest:
    """ATOMIC_REQUESTS is on; where it is off for a view, that is said in the name of the test."""

    def test_a_start_begins_after_the_commit_and_finds_what_the_request_wrote(self, site: Site) -> None:
        assert ask(site.address, "POST", "/counts/a") == {"state": "none"}
        assert site.await_state("a", "completed")["outputs"] == {"counted": 1}

    def test_a_request_that_fails_starts_nothing_and_leaves_nothing(self, site: Site) -> None:
        assert send(site.address, "POST", "/counts/b", "fail").status == 500
        assert ask(site.address, "GET", "/notes/b") == {"count": 0}
        assert ask(site.address, "GET", "/status/b") == {"state": "none"}

    def test_a_start_with_wrong_inputs_fails_the_request_and_takes_back_what_that_wrote(self, site: Site) -> None:
        assert send(site.address, "POST", "/counts/c", "wrong").status == 500
        assert ask(site.address, "GET", "/notes/c") == {"count": 0}
        assert ask(site.address, "GET", "/status/c") == {"state": "none"}

    def test_a_second_start_of_an_execution_is_as_good_as_one(self, site: Site) -> None:
        assert ask(site.address, "POST", "/counts/d", "again") == {"state": "none"}
        assert site.await_state("d", "completed")["outputs"] == {"counted": 1}
        assert ask(site.address, "GET", "/notes/d") == {"count": 2}

    def test_a_process_that_dies_after_the_commit_has_begun_nothing_and_another_start_does(self, site: Site) -> None:
        site.ask("POST", "/counts/n", "die")
        assert wait_until(lambda: site.ask("GET", "/notes/n"), 20) == {"count": 1}
        assert ask(site.address, "GET", "/status/n") == {"state": "none"}
        ask(site.address, "POST", "/counts/n")
        assert site.await_state("n", "completed")["outputs"] == {"counted": 2}

    def test_what_is_submitted_through_its_connection_is_there_with_what_it_wrote_or_not_at_all(
        self, site: Site
    ) -> None:
        assert send(site.address, "POST", "/counts/q/submit", "fail").status == 500
        assert ask(site.address, "GET", "/status/q") == {"state": "none"}
        ask(site.address, "POST", "/counts/q/submit", "again")
        assert ask(site.address, "GET", "/status/q")["state"] == "created"
        ask(site.address, "POST", "/work")
        assert site.await_state("q", "completed")["outputs"] == {"counted": 1}

    def test_without_a_transaction_it_is_there_at_once_and_stays_though_the_view_fails(self, site: Site) -> None:
        assert send(site.address, "POST", "/plain/counts/r/submit", "fail").status == 500
        assert ask(site.address, "GET", "/status/r")["state"] == "created"

    def test_a_signal_is_sent_though_the_request_fails_unless_it_is_put_off(self, site: Site, database: str) -> None:
        for name in ("o", "p"):
            site.go_on(name)
            site.begin(name)
            site.await_state(name, "paused")
        if database.startswith("postgres"):  # in a file the request holds the lock
            assert send(site.address, "POST", "/walks/o/answer?fail", "yes").status == 500
            site.await_state("o", "completed")
        assert send(site.address, "POST", "/walks/p/answer?later&fail", "no").status == 500
        ask(site.address, "POST", "/walks/p/answer?later", "yes")
        assert site.await_state("p", "completed")["outputs"]["second"]["answer"] == "yes"

    def test_without_a_transaction_a_start_begins_at_once_and_stays_though_the_view_fails(self, site: Site) -> None:
        assert ask(site.address, "POST", "/plain/counts/e")["state"] in ("running", "completed")
        assert send(site.address, "POST", "/plain/counts/f", "fail").status == 500
        assert site.await_state("f", "completed")["outputs"] == {"counted": 1}
        assert ask(site.address, "GET", "/notes/f") == {"count": 2}

    def test_what_is_run_finds_nothing_of_what_the_request_wrote_and_stays_though_it_fails(
        self, site: Site, database: str
    ) -> None:
        if database.startswith("sqlite"):
            pytest.skip("the file has one write lock, which the request holds")
        assert ask(site.address, "POST", "/counts/g/run")["outputs"] == {"counted": 0}
        assert ask(site.address, "GET", "/notes/g") == {"count": 2}
        assert send(site.address, "POST", "/counts/h/run", "fail").status == 500
        assert ask(site.address, "GET", "/notes/h") == {"count": 1}
        assert ask(site.address, "GET", "/status/h")["state"] == "completed"

    @pytest.mark.skipif(not os.environ.get("SZAL_TEST_FULL"), reason="it waits for the lock for five seconds")
    def test_what_is_run_where_the_request_holds_the_lock_of_the_file_fails_and_leaves_nothing(
        self, site: Site, database: str
    ) -> None:
        if database.startswith("postgres"):
            pytest.skip("a server locks rows")
        assert send(site.address, "POST", "/counts/i/run").status == 500
        assert ask(site.address, "GET", "/status/i") == {"state": "none"}
        assert ask(site.address, "GET", "/notes/i") == {"count": 0}

    def test_a_view_without_a_transaction_runs_a_flow_that_finds_what_it_wrote(self, site: Site) -> None:
        assert ask(site.address, "POST", "/plain/counts/j/run")["outputs"] == {"counted": 1}
        assert ask(site.address, "GET", "/notes/j") == {"count": 2}


class TestProcesses:
    def test_what_a_killed_worker_left_another_goes_on_with_by_itself(self, site: Site) -> None:
        killed = site.begin("k")
        os.kill(killed, signal.SIGKILL)
        site.go_on("k")
        shown = site.await_state("k", "paused")
        assert shown["outputs"]["first"]["pid"] != killed
        assert shown["waits"] == ["answer"]
        assert ask(site.address, "POST", "/walks/k/answer?later", "yes") == {}
        assert site.await_state("k", "completed")["outputs"]["second"]["answer"] == "yes"

    def test_a_worker_that_is_told_to_end_lets_its_step_end(self, site: Site) -> None:
        told = site.begin("l")
        os.kill(told, signal.SIGTERM)
        wait_until((site.files / f"{told}.ends").exists, 20)
        site.go_on("l")
        assert site.await_state("l", "paused")["outputs"]["first"]["pid"] == told

    def test_a_step_whose_connection_was_lost_has_another_in_its_next_attempt(self, site: Site, database: str) -> None:
        """The first attempt ends its own, the second is made on the same thread."""
        if database.startswith("sqlite"):
            pytest.skip("a file loses no connection")
        ask(site.address, "POST", "/broken/m")
        assert site.await_state("m", "completed")["outputs"] == {"ends_its_connection": 42}


class TestTransaction:
    """What a step writes through Django in ``transaction(ctx)`` is committed with its outcome: once, or not at all."""

    @pytest.mark.parametrize("how", ["succeeds", "fails", "dies before", "dies after"])
    def test_it_is_there_once_whatever_happens(self, site: Site, how: str) -> None:
        name = f"pay-{how.replace(' ', '-')}"
        site.ask("POST", f"/payments/{name}", how)
        assert site.await_state(name, "completed")["outputs"] == {"pays": "paid"}
        assert ask(site.address, "GET", f"/notes/{name}") == {"count": 1}


def test_what_is_queued_is_waited_for_before_a_transaction_has_the_write_lock(tmp_path: Path) -> None:
    """As the transactions of this project have it from their beginning."""
    code = """
        import django, os
        django.setup()
        from szal import Engine, Flow
        from szal.contrib.django import transaction
        flow = Flow("f")
        @flow.step
        def before(ctx):
            return 1
        @flow.step
        def pay(ctx, before):
            with transaction(ctx, output="paid") as connection:
                connection.cursor().execute("CREATE TABLE payments (note TEXT)")
        with Engine.open(os.environ["DATABASE"], flow) as engine:
            print(engine.run(flow).outputs["pay"])
    """
    ran = python(code, tmp_path, DATABASE=f"sqlite:///{tmp_path}/app.db")
    assert ran.stdout == "paid\n", ran.stderr


def test_runserver_that_reloads_waits_for_no_flow_and_goes_on_with_it_and_opens_one_engine(tmp_path: Path) -> None:
    shutil.copytree(MANAGE.parent, tmp_path / "django_site")
    database = f"sqlite:///{tmp_path}/app.db"
    szal.open_store(database).close()
    variables = environment(tmp_path, DATABASE=database)
    variables["PYTHONPATH"] = f"{tmp_path}:{variables['PYTHONPATH']}"
    script = tmp_path / "django_site" / "manage.py"
    server = f"127.0.0.1:{free_port()}"
    command = [sys.executable, str(script), "runserver", server]
    with running(command, place=tmp_path, environment=variables, address=server) as address:
        site = Site(address, tmp_path)
        before = site.begin("a")
        if PROC.exists():
            assert files_of(before, "app.db")
            assert not files_of(ask(address, "GET", "/process")["parent"], "app.db")
        (tmp_path / "django_site" / "urls.py").touch()
        now = site.await_another(before)
        site.go_on("a")
        assert site.await_state("a", "paused")["outputs"]["first"]["pid"] == now


def test_the_command_has_the_store_and_the_flows_of_the_project(tmp_path: Path) -> None:
    """It needs to be told neither; what it tells to type next needs it neither."""
    database = f"sqlite:///{tmp_path}/app.db"
    (tmp_path / "x.go").touch()
    words = ["run", "walk", "-i", "name=x", "--id", "walk-1", "--settings=django_site.settings"]
    ran = manage("szal", *words, place=tmp_path, DATABASE=database)
    assert ran.returncode == 3, ran.stderr
    assert f"then: python {MANAGE} szal resume walk-1 walk\n" in ran.stdout
    assert f": python {MANAGE} szal signal walk-1 answer\n" in ran.stdout
    code = """
        import django
        from django.core.management import CommandError, call_command
        django.setup()
        call_command("szal", "signal", "walk-1", "answer", "yes", "--json")
        try:
            call_command("szal", "show", "nothing")
        except CommandError as error:
            print(error, error.returncode)
        call_command("szal", "recover", "--json")
    """
    called = python(code, tmp_path, DATABASE=database)
    _, refused, recovered = called.stdout.splitlines()
    assert refused == "szal show nothing: exit status 2 2"
    assert json.loads(recovered)["result"]["steps"][2]["output"]["answer"] == "yes"


def test_a_worker_of_the_project_runs_what_is_submitted_and_leaves_no_connection_open(
    database: str, tmp_path: Path
) -> None:
    code = """
        import django
        django.setup()
        from django.core.management import CommandError, call_command
        from django.db import connections, transaction
        from django.db.backends.signals import connection_created
        from django_site.flows import count
        from django_site.models import Note
        from szal.contrib.django import engine, submit
        call_command("migrate", run_syncdb=True, verbosity=0)
        made = []
        connection_created.connect(lambda connection, **_: made.append(connection), weak=False)
        for name in "vw":
            with transaction.atomic():
                Note.objects.create(text=name)
                submit(count, {"text": name}, execution_id=name, queue="slow", priority=2)
            connections.close_all()
            made.clear()
            call_command("szal_worker", "--processes", "2" if name == "w" else "1", "--until-idle", "--queue=slow")
            print(engine().look(name).state, [each.connection for each in made])
        print(engine().look("w").steps["counted"].output, Note.objects.filter(text="w").count())
        try:
            call_command("szal_worker", "--nothing")
        except CommandError as error:
            print(error)
        call_command("szal_worker", "--help")
    """
    ran = python(code, tmp_path, DATABASE=database)
    v, w, counted, refused, *helped = [line for line in ran.stdout.splitlines() if " count " not in line]
    assert (v, w) == ("completed [None]", "completed []"), ran.stderr
    assert (counted, refused) == ("1 2", "szal worker --nothing: exit status 2")
    assert any("--max-executions" in line for line in helped)


def test_what_is_submitted_through_another_database_than_the_stores_is_refused(tmp_path: Path) -> None:
    code = """
        import django
        from django.conf import settings
        SQLITE = {"ENGINE": "django.db.backends.sqlite3"}
        settings.configure(USE_TZ=True, INSTALLED_APPS=["szal.contrib.django"], DATABASES={
            "default": {**SQLITE, "NAME": "app.db"}, "other": {**SQLITE, "NAME": "other.db"},
        })
        django.setup()
        from django.core.management import call_command
        from django.db import transaction
        call_command("migrate", run_syncdb=True, verbosity=0)
        from szal import Flow
        from szal.contrib.django import submit
        flow = Flow("f")
        flow.step(lambda: 1, name="p")
        for atomic in (True, False):
            try:
                if atomic:
                    with transaction.atomic(using="other"):
                        submit(flow, using="other")
                else:
                    submit(flow, using="other")
            except ValueError as error:
                print(error)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path),
        timeout=50,
    )
    told = f"the connection does not lead to {tmp_path}/app.db, the database of the store"
    assert ran.stdout.splitlines() == [told, told], ran.stderr


def test_a_flow_runs_in_a_test_whose_database_is_dropped(server: PostgresServer, tmp_path: Path) -> None:
    """Which PostgreSQL refuses as long as somebody is connected to it."""
    ran = manage("test", "django_site", place=tmp_path, DATABASE=server.url)
    assert "Ran 1 test" in ran.stderr
    assert ran.returncode == 0, ran.stderr


def python(code: str, place: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run *code* with the settings of the project."""
    found = environment(place, DJANGO_SETTINGS_MODULE="django_site.settings", **variables)
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, env=found, capture_output=True, text=True, timeout=50)


def test_the_store_is_the_database_of_the_project_and_what_is_wrong_with_settings_is_told(tmp_path: Path) -> None:
    code = """
        import django, json
        from django.conf import settings
        POSTGRES = {"ENGINE": "django.db.backends.postgresql"}
        SQLITE = {"ENGINE": "django.db.backends.sqlite3"}
        settings.configure(USE_TZ=True, INSTALLED_APPS=["szal.contrib.django"], DATABASES={
            "default": {**SQLITE, "NAME": "app.db"},
            "memory": {**SQLITE, "NAME": ":memory:"},
            "server": {**POSTGRES, "NAME": "shop", "USER": "me", "PASSWORD": "a b@c/d?", "HOST": "db", "PORT": 5433,
                       "OPTIONS": {"sslmode": "require", "pool": True, "connect_timeout": 5}},
            "socket": {**POSTGRES, "NAME": "shop", "HOST": "/run/pg sql"},
            "service": {**POSTGRES, "OPTIONS": {"service": "shop"}},
            "role": {**POSTGRES, "NAME": "shop", "OPTIONS": {"assume_role": "boss"}},
        })
        django.setup()
        from django.core.exceptions import ImproperlyConfigured
        from django.db import connections
        from psycopg.conninfo import conninfo_to_dict
        from szal.contrib.django.database import url_of
        for alias in connections:
            try:
                url = url_of(alias)
            except ImproperlyConfigured as error:
                print(error)
            else:
                print(json.dumps(conninfo_to_dict(url)) if url.startswith("postgres") else url)

        from szal.contrib.django import engine
        for change in ({"FLOW": []}, {"FLOWS": "shop.flows.order"}, None):
            settings.SZAL = change or {}
            if change is None:
                django.apps.apps.set_installed_apps([])
            try:
                engine()
            except ImproperlyConfigured as error:
                print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=tmp_path, env=UNMEASURED
    )
    assert done.returncode == 0, done.stderr
    file, memory, server, socket, service, role, *wrong = done.stdout.splitlines()
    assert file == f"sqlite:///{tmp_path}/app.db"
    assert memory.startswith("the database 'memory' is in memory, where only Django sees it; SZAL[")
    assert json.loads(server) == {
        "dbname": "shop",
        "user": "me",
        "password": "a b@c/d?",
        "host": "db",
        "port": "5433",
        "sslmode": "require",
        "connect_timeout": "5",
    }
    assert json.loads(socket) == {"dbname": "shop", "host": "/run/pg sql"}
    assert json.loads(service) == {"service": "shop"}
    assert role.startswith("the database 'role' assumes the role 'boss'")
    assert wrong == [
        "SZAL has no setting 'FLOW'; did you mean 'FLOWS'?",
        'SZAL["FLOWS"] is a list: ["shop.flows.order"]',
        'add "szal.contrib.django" to INSTALLED_APPS',
    ]


def test_in_a_child_process_the_project_is_set_up_before_a_handler_is_imported(tmp_path: Path) -> None:
    code = """
        import django
        from django.conf import settings
        settings.SZAL = {"FLOWS": ["django_site.isolated.flow"]}
        django.setup()
        from django.core.management import call_command
        from django_site.isolated import flow
        from szal.contrib.django import engine
        call_command("migrate", run_syncdb=True, verbosity=0)
        result = engine().run(flow)
        print(result.outputs, result.error)
    """
    ran = python(code, tmp_path, DATABASE=f"sqlite:///{tmp_path}/app.db")
    assert (ran.stdout, ran.stderr) == ("{'notes': 1} None\n", "")


def test_without_django_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "django", None)
    monkeypatch.delitem(sys.modules, "szal.contrib.django", raising=False)
    with pytest.raises(MissingExtra, match=r'szal.contrib.django needs .* pip install "szal\[django\]"'):
        importlib.import_module("szal.contrib.django")
