"""The engine of an application: where it is opened, who goes on with what, and its end."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from forking import in_child
from processes import wait_until

import szal
from szal.contrib.application import ApplicationEngine, Settings

flow = szal.Flow("flow")


@flow.step
def name_process() -> int:
    return os.getpid()


flow.add_step(szal.StepDef("ask", step_type="wait", config={"signal": "go"}), needs=name_process)


@pytest.fixture
def recovering() -> Callable[[], int]:
    """How many threads go on with what others have left, of those that the test has started."""
    before = set(threading.enumerate())
    return lambda: sum(thread.name == "szal-recovery" for thread in set(threading.enumerate()) - before)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(store=f"sqlite:///{tmp_path}/app.db", flows=[flow], around=(), recover_every=0.05)


@pytest.fixture
def application(settings: Settings) -> Iterator[ApplicationEngine]:
    found = ApplicationEngine(lambda: settings)
    yield found
    found.close(drain=5)


def test_many_threads_that_ask_first_get_one_engine(application: ApplicationEngine) -> None:
    found: list[szal.Engine] = []
    threads = [threading.Thread(target=lambda: found.append(application.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(engine) for engine in found}) == 1


def test_what_serves_goes_on_with_what_others_left_and_what_does_not_leaves_it(
    application: ApplicationEngine, settings: Settings, recovering: Callable[[], int]
) -> None:
    with attrs.evolve(settings, recover_every=None).open() as other:
        other.run(flow, execution_id="e")
        other.signal("e", "go")
    looking = application.get()
    assert recovering() == 0
    assert str(looking.look("e").state) == "paused"
    for _ in range(3):
        application.serve()
    assert looking.result("e", timeout=30).success
    assert recovering() == 1


def test_a_store_that_is_away_fails_no_request_and_the_next_one_tries_again(
    settings: Settings, caplog: pytest.LogCaptureFixture, recovering: Callable[[], int]
) -> None:
    away = [True]
    here = attrs.evolve(settings, store="memory:")
    application = ApplicationEngine(lambda: attrs.evolve(here, store="sqlite:////nowhere/app.db") if away else here)
    application.serve()
    wait_until(lambda: "the engine cannot be opened: the next request tries that again" in caplog.text)
    away.clear()
    wait_until(lambda: application.serve() or recovering())
    assert str(application.get().run(flow).state) == "paused"
    application.close(drain=5)


def test_a_child_uses_what_its_parent_has_opened_and_its_end_is_not_the_parents(application: ApplicationEngine) -> None:
    engine = application.get()

    def child() -> None:
        assert application.get().run(flow, execution_id="child").outputs == {"name_process": os.getpid()}
        application.close(drain=5)

    in_child(child)
    assert application.get() is engine
    assert engine.run(flow, execution_id="parent").outputs == {"name_process": os.getpid()}


def test_an_engine_that_is_closed_is_followed_by_another(application: ApplicationEngine) -> None:
    first = application.get()
    application.close(drain=5)
    with pytest.raises(szal.EngineClosed):
        first.run(flow)
    assert application.get() is not first


@pytest.mark.parametrize("field", ["recover_every", "drain"])
def test_a_time_that_is_none_is_refused(settings: Settings, field: str) -> None:
    wrong: Callable[[], Settings] = lambda: attrs.evolve(settings, **{field: -1.0})  # noqa: E731
    with pytest.raises(ValueError, match=field):
        wrong()
