"""The dashboard in Debian's Chromium, run by `tox -e browser` alone: other runs of the tests have no browser."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser.page import Browser
from browser.shop import FLOWS, Gate
from processes import UNMEASURED

import szal
from szal import Engine

if "SZAL_TEST_BROWSER" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser, new and without anything from elsewhere."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("there is no Chromium, or no chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(driver))
    made.set_page_load_timeout(30)
    yield made
    made.quit()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a store that the tests share."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/szal.db"


@pytest.fixture(scope="session")
def engine(store: str) -> Iterator[Engine]:
    """An engine of this process: what it runs, the server only sees."""
    with Engine.open(store, *FLOWS, durability="step", daemon=True) as made:
        yield made


@pytest.fixture(scope="session")
def address(engine: Engine, store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `szal ui` serves that store, in a process of its own that has the flows too."""
    place = tmp_path_factory.mktemp("server")
    here = Path(__file__).parents[1]
    environment = UNMEASURED | {"PYTHONPATH": f"{Path(szal.__file__).parents[1]}:{here}"}
    targets = [f"browser.shop:{name}" for name in ("order", "transfer", "slow")]
    command = [sys.executable, "-m", "szal", "ui", *targets, "--store", store, "--port", "0", "--actions"]
    engine.run(FLOWS[2], {"gate": str(Gate.opened(place))}, execution_id="slow-0")  # so that there is a store
    with (place / "log").open("w+") as log:
        server = subprocess.Popen(command, env=environment, cwd=place, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            said = server.stderr.readline()
            assert said.startswith("szal: http://127.0.0.1:"), said + server.stderr.read() + log.read()
            yield said.split()[1].rstrip("/")
        finally:
            server.terminate()
            _, rest = server.communicate(timeout=30)
            assert "Traceback" not in rest, rest


@pytest.fixture
def browser(chromium: Any, address: str) -> Iterator[Browser]:
    """The browser, on a wide and light screen. In the end nothing may have gone wrong in it."""
    made = Browser(chromium, address)
    made.look_like()
    yield made
    made.enable_scripts(True)
    assert made.problems() == []
