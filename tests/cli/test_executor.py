"""`--executor`: attempts that are made elsewhere, from the command line."""

import os
import socket
import sys

import pytest
from dask_cluster import own_cluster

from szal import Engine, EngineConfig, open_store


def pid_of(store_url, execution_id):
    with open_store(store_url) as store:
        return store.get(execution_id).result["double"].output[1]


@pytest.fixture
def url(here):
    return f"sqlite:///{here}/szal.db"


@pytest.fixture
def at_once(monkeypatch):
    """Nobody waits long for a scheduler."""
    from szal.contrib.dask import DaskExecutor

    monkeypatch.setattr(DaskExecutor.connect.__func__, "__kwdefaults__", {"timeout": 0.2})


def of(address):
    return address.replace("tcp://", "dask://")


@pytest.mark.parametrize("where", ["threads", "threads:2", "processes:1", "dask"])
def test_functions_are_called_there(szal, url, where, request):
    name = of(request.getfixturevalue("dask_address")) if where == "dask" else where
    result = szal(
        "run", "remote_handlers:basics", "-i", "n=3", "--executor", name, "--store", url, "--id", "x", "--json"
    )
    assert result.exit_code == 0, result.stderr
    assert (pid_of(url, "x") == os.getpid()) is where.startswith("threads")


def test_a_worker_has_them_called_there_too(szal, url, dask_address):
    from remote_handlers import basics

    with open_store(url) as store, Engine([], EngineConfig(execution_store=store)) as shop:
        shop.submit(basics, {"n": 3}, execution_id="x")
    executor = ["--executor", of(dask_address)]
    result = szal("worker", "remote_handlers:basics", "--store", url, "--until-idle", *executor)
    assert result.exit_code == 0, result.stderr
    assert pid_of(url, "x") != os.getpid()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("dask", "'dask' is none of threads, processes (as threads:8, processes:8), or dask://host:port"),
        ("dask://", "'dask://' is none of"),
        ("dask://host:port", "'dask://host:port' is none of"),
        ("dask://me:secret@host", "is none of"),
        ("tcp://host:8786", "'tcp://host:8786' is none of"),
        ("dask://host:70000", "'dask://host:70000': there is no port 70000"),
        ("processes:0", "'processes:0' is none of"),
        ("threads:many", "'threads:many' is none of"),
    ],
)
def test_another_name_is_refused(szal, name, told):
    result = szal("run", "remote_handlers:basics", "-i", "n=3", "--executor", name)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())


def test_a_scheduler_that_is_not_there_is_told_of(szal, at_once):
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        result = szal("run", "remote_handlers:basics", "-i", "n=3", "--executor", f"dask://127.0.0.1:{port}")
    assert result.exit_code == 2
    assert f"szal: there is no dask scheduler at tcp://127.0.0.1:{port}: " in result.stderr


def test_so_is_one_that_does_not_answer(szal, at_once):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        result = szal("run", "remote_handlers:basics", "-i", "n=3", "--executor", f"dask://127.0.0.1:{port}")
    assert result.exit_code == 2
    assert f"szal: there is no dask scheduler at tcp://127.0.0.1:{port}: " in result.stderr


def test_what_has_to_be_installed_is_named(szal, monkeypatch):
    monkeypatch.delitem(sys.modules, "szal.contrib.dask", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = szal("run", "remote_handlers:basics", "-i", "n=3", "--executor", "dask://127.0.0.1")
    assert result.exit_code == 2
    told = 'szal: an executor of dask needs an optional part of szal: pip install "szal[dask]"\n'
    assert result.stderr == told


@pytest.mark.timeout(120)
def test_a_scheduler_that_goes_away_leaves_the_execution_to_another_one(szal, url, here, dask_address):
    with own_cluster(1, processes=False) as (process, address):
        inputs = ["-i", f"pid={process.pid}", "-i", f"died={here}/died", "--store", url, "--id", "x"]
        result = szal("run", "remote_handlers:doomed", *inputs, "--executor", of(address))
    assert result.exit_code == 1
    assert "szal: the executor was lost in the middle of step kills: the dask scheduler at tcp://" in result.stderr
    assert "to go on: szal resume x, on an executor that is there" in result.stderr
    result = szal("resume", "x", "remote_handlers:doomed", "--store", url, "--executor", of(dask_address))
    assert result.exit_code == 0, result.stderr
