"""`szal ui`: a page in a server of its own."""

import logging
import re
import signal
import sys
import urllib.error
import urllib.request

import pytest
from processes import command_line

from szal import Engine, FlowDef, StepDef


@pytest.fixture
def url(here):
    url = f"sqlite:///{here}/szal.db"
    with Engine.open(url, lambda ctx: 42) as engine:
        engine.run(FlowDef("demo", steps=[StepDef("answer")]), execution_id="demo-1")
        ask = StepDef("ask", step_type="wait", config={"signal": "go"})
        engine.run(FlowDef("asking", steps=[ask]), execution_id="ask-1")
    return url


def test_it_serves_pages_to_this_machine_until_it_is_interrupted(here, url):
    server = command_line("ui", "--store", url, "--port", "0", cwd=here)
    try:
        said = server.stderr.readline()
        found = re.fullmatch(r"szal: (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)\n", said)
        assert found, said
        with urllib.request.urlopen(f"{found[1]}executions/demo-1", timeout=20) as answer:
            assert "demo-1" in answer.read().decode()
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(urllib.request.Request(found[1], headers={"Host": "evil.example"}), timeout=20)
        with urllib.request.urlopen(f"{found[1]}events/ask-1", timeout=20) as page:  # which is open to the end
            assert page.readline() == b"retry: 1000\n"
            server.send_signal(signal.SIGINT)
            assert server.wait(20) == 0
        assert server.stderr.read() == ""
    finally:
        server.kill()
        server.communicate(timeout=20)


def test_that_a_request_waits_for_a_thread_is_not_told(monkeypatch):
    from szal.contrib.web import server

    class Server:
        effective_port = 1

        def run(self):
            told.append(queue.isEnabledFor(logging.WARNING))

    told, queue = [], logging.getLogger("waitress.queue")
    monkeypatch.setattr(server, "create_server", lambda *args, **options: Server())
    try:
        server.serve(None, "127.0.0.1", 0, told.append)
    finally:
        queue.setLevel(logging.NOTSET)
    assert told == ["http://127.0.0.1:1/", False]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_others_are_let_in_only_with_a_token(szal, url, host, monkeypatch):
    refused = szal("ui", "--store", url, "--host", host)
    assert refused.exit_code == 2
    assert "lets others in: set SZAL_UI_TOKEN" in refused.stderr.replace("\n", " ")
    monkeypatch.setenv("SZAL_UI_TOKEN", " ")
    assert "the token is empty" in szal("ui", "--store", url, "--host", host).stderr


@pytest.mark.parametrize("missing", ["waitress", "flask_wtf"])
def test_without_its_extra_it_says_which_that_is(szal, url, monkeypatch, missing):
    for name in [name for name in sys.modules if name.startswith("szal.contrib.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    refused = szal("ui", "--store", url)
    assert refused.exit_code == 2
    assert 'the dashboard needs an optional part of szal: pip install "szal[web]"' in refused.stderr


def test_a_store_that_is_not_there_is_not_made(szal, here):
    refused = szal("ui", "--store", f"sqlite:///{here}/none.db")
    assert refused.exit_code == 2
    assert "there is no database" in refused.stderr
    assert not (here / "none.db").exists()
