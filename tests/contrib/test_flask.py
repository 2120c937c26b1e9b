"""szal in a Flask application: under gunicorn, as its development server, and in tests of its own."""

import importlib
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contrib.sites import PROC, Site, database_url, environment, files_of
from flask import Flask, current_app, g, has_request_context
from processes import wait_until
from web import ask, running, served

import szal
from szal import MissingExtra
from szal.contrib.flask import Szal

pytestmark = pytest.mark.slow

SITE = Path(__file__).with_name("flask_site.py")
ISOLATED = """
    import szal
    from flask import Flask, current_app
    from szal.contrib.flask import Szal

    flow = szal.Flow("isolated", isolation="process")

    @flow.step
    def look():
        return [current_app.name, current_app == app]

    flows = Szal(flow)

    def create_app():
        app = Flask("shop")
        app.config.update(SZAL_STORE="memory:", TESTING=True)
        flows.init_app(app)
        return app

    app = create_app()
"""


@pytest.fixture(scope="class", params=["sqlite", "postgres"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("flask")
    options = ["--workers=2", "--graceful-timeout=10", "--chdir", str(SITE.parent)]
    with (
        database_url(request, place / "szal.db") as url,
        served("flask_site:app", *options, place=place, environment=environment(place, SZAL_STORE=url)) as address,
    ):
        yield Site(address, place)


class TestUnderGunicorn:
    """With --preload and two workers, one server for all of them."""

    def test_a_step_has_the_application_and_no_request_before_an_approval_and_after_it(self, site: Site) -> None:
        site.go_on("a")
        site.begin("a")
        assert site.await_state("a", "paused")["waits"] == ["answer"]
        assert ask(site.address, "POST", "/walks/a/answer", "yes") == {"sent": True}
        outputs = site.await_state("a", "completed")["outputs"]
        assert outputs["second"]["answer"] == "yes"
        for step in ("first", "second"):
            assert (outputs[step]["app"], outputs[step]["request"]) == ("site", False)

    def test_what_a_killed_worker_left_another_goes_on_with_by_itself(self, site: Site) -> None:
        killed = site.begin("b")
        os.kill(killed, signal.SIGKILL)
        site.go_on("b")
        assert site.await_state("b", "paused")["outputs"]["first"]["pid"] != killed

    def test_a_worker_that_is_told_to_end_lets_its_step_end_and_another_goes_on(self, site: Site) -> None:
        told = site.begin("c")
        os.kill(told, signal.SIGTERM)
        wait_until((site.files / f"{told}.ends").exists)
        ask(site.address, "POST", "/walks/c/answer", "yes")
        site.go_on("c")
        outputs = site.await_state("c", "completed")["outputs"]
        assert outputs["first"]["pid"] == told
        assert outputs["second"]["pid"] != told

    def test_nothing_is_opened_and_no_thread_started_before_the_fork(self, site: Site) -> None:
        site.begin("d")
        process = ask(site.address, "GET", "/process")
        assert "MainThread" in process["threads_at_fork"]
        assert not [name for name in process["threads_at_fork"] if name.startswith("szal")]
        assert not PROC.exists() or not files_of(process["parent"], "szal.db")
        site.go_on("d")


def test_a_server_that_reloads_waits_for_no_flow_and_goes_on_with_it_and_opens_one_engine(tmp_path: Path) -> None:
    script = shutil.copy(SITE, tmp_path)
    command = [sys.executable, str(script), f"{tmp_path}/http"]
    variables = environment(tmp_path, SZAL_STORE=f"sqlite:///{tmp_path}/szal.db")
    with running(command, place=tmp_path, environment=variables) as address:
        site = Site(address, tmp_path)
        before = site.begin("a")
        if PROC.exists():
            assert files_of(before, "szal.db")
            assert not files_of(ask(address, "GET", "/process")["parent"], "szal.db")
        Path(script).touch()
        now = site.await_another(before)
        site.go_on("a")
        assert site.await_state("a", "paused")["outputs"]["first"]["pid"] == now


class TestInOneProcess:
    @pytest.fixture
    def flow(self) -> szal.Flow:
        flow = szal.Flow("walk")

        @flow.step
        def look() -> list[Any]:
            g.times = [*g.get("times", []), 1]
            return [current_app.name, has_request_context(), g.times]

        @flow.step(needs=look)
        def again() -> list[Any]:
            return look()  # type: ignore[no-any-return]

        return flow

    @pytest.fixture
    def app(self) -> Flask:
        app = Flask("site")
        app.config.update(SZAL_STORE="memory:", TESTING=True)
        return app

    def test_each_attempt_has_a_g_of_its_own_which_is_torn_down_after_it(self, app: Flask, flow: szal.Flow) -> None:
        torn_down: list[Any] = []
        app.teardown_appcontext(lambda _: torn_down.append(g.pop("times", None)))
        flows = Szal(flow, app=app)
        with app.app_context():
            result = flows.engine.run(flow)
        assert result.outputs == {"look": ["site", False, [1]], "again": ["site", False, [1]]}
        assert torn_down == [[1], [1], None]
        flows.close(app)

    def test_what_is_run_in_a_request_sees_it_and_what_is_started_does_not(self, app: Flask, flow: szal.Flow) -> None:
        flows = Szal(flow, app=app)
        with app.test_request_context():
            ran = flows.engine.run(flow)
            started = flows.start(flow).result(30)
        assert [ran.outputs["look"][1], started.outputs["look"][1]] == [True, False]
        flows.close(app)

    def test_settings_are_looked_at_where_they_are_written(self, flow: szal.Flow) -> None:
        with pytest.raises(TypeError, match="no setting 'durabilty'; did you mean 'durability'"):
            Szal(flow, durabilty="step")
        with pytest.raises(ValueError, match="durability is one of none, flow, step, not 'always'"):
            Szal(flow, durability="always")

    def test_the_surroundings_of_the_application_itself_come_within(self, app: Flask, flow: szal.Flow) -> None:
        seen: list[str] = []

        class Session:
            def __enter__(self) -> None:
                seen.append(current_app.name)

            def __exit__(self, *_: object) -> None:
                seen.append(current_app.name)

        flows = Szal(flow, app=app, around=[lambda ctx: Session()])
        with app.app_context():
            flows.engine.run(flow).raise_for_failure()
        assert seen == ["site"] * 4
        flows.close(app)

    def test_a_child_process_has_the_application_that_is_found_by_import(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "isolated_shop.py").write_text(textwrap.dedent(ISOLATED))
        monkeypatch.syspath_prepend(tmp_path)
        shop: Any = importlib.import_module("isolated_shop")
        monkeypatch.setitem(sys.modules, "isolated_shop", shop)  # it goes with the test
        with shop.app.app_context():
            assert shop.flows.engine.run(shop.flow).outputs == {"look": ["shop", True]}
        another = shop.create_app()
        with another.app_context(), pytest.raises(szal.InvalidFlow, match=r"have a module say app = create_app\(\)"):
            shop.flows.engine.run(shop.flow)
        for app in (shop.app, another):
            shop.flows.close(app)

    def test_two_applications_have_an_engine_each(self, flow: szal.Flow) -> None:
        flows = Szal(flow)
        apps = [Flask(name) for name in ("one", "two")]
        for app in apps:
            app.config.update(SZAL_STORE="memory:", TESTING=True)
            flows.init_app(app)
            with app.app_context():
                assert flows.engine.run(flow).outputs["look"][0] == app.name
                assert flows.store.count() == 1
        for app in apps:
            flows.close(app)

    def test_a_close_in_a_test_leaves_nothing_and_the_next_use_opens_another(self, app: Flask, flow: szal.Flow) -> None:
        flows = Szal(flow, app=app)
        with app.app_context():
            first = flows.engine
            flows.close(app)
            with pytest.raises(szal.EngineClosed):
                first.run(flow)
            assert flows.engine.run(flow).success
            flows.close(app)

    def test_without_a_store_or_an_application_it_says_what_to_do(self, flow: szal.Flow) -> None:
        app, flows = Flask("site"), Szal(flow)
        with app.app_context():
            with pytest.raises(RuntimeError, match=r"site has no engine: call Szal\(…\).init_app\(app\)"):
                _ = flows.engine
            flows.init_app(app)
            with pytest.raises(RuntimeError, match=r'set app.config\["SZAL_STORE"\] = '):
                _ = flows.engine
        with pytest.raises(RuntimeError, match="site has an engine: give all flows to one Szal"):
            flows.init_app(app)

    @pytest.mark.parametrize(
        ("key", "value", "error"),
        [("SZAL_RECOVER_EVERY", 0, ValueError), ("SZAL_DRAIN", -1, ValueError), ("SZAL_DRAIN", "20", TypeError)],
    )
    def test_a_setting_that_makes_no_sense_is_refused(self, app: Flask, key: str, value: Any, error: Any) -> None:
        app.config[key] = value
        flows = Szal(app=app)
        with app.app_context(), pytest.raises(error, match=key.removeprefix("SZAL_").lower()):
            _ = flows.engine


def test_without_flask_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flask", None)
    monkeypatch.delitem(sys.modules, "szal.contrib.flask")
    with pytest.raises(MissingExtra, match=r'szal.contrib.flask needs .* pip install "szal\[flask\]"'):
        importlib.import_module("szal.contrib.flask")
