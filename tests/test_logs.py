"""Logs: whatever a program's logging does, what is logged breaks nothing."""

import logging
import signal
import sys
import threading

import pytest

from szal.errors import StoreError
from szal.logs import SafeLogger, Trouble


class Broken(BaseException):
    pass


def raising(error):
    def fail(*arguments):
        raise error

    return fail


@pytest.fixture
def logger():
    plain = logging.getLogger("test_logs")
    filters, handlers, before = plain.filters[:], plain.handlers[:], logging.raiseExceptions
    yield SafeLogger(plain)
    plain.filters[:], plain.handlers[:], logging.raiseExceptions = filters, handlers, before


def log_everything(logger):
    for method in (logger.debug, logger.info, logger.warning, logger.error, logger.critical, logger.exception):
        method("step %s failed", "build")
    logger.log(logging.ERROR, "step %s failed", "build")


def test_logs_as_any_logger_does(logger, caplog):
    with caplog.at_level(logging.DEBUG, "test_logs"):
        log_everything(logger)
    assert [record.getMessage() for record in caplog.records] == ["step build failed"] * 7


def test_a_record_tells_where_it_was_logged(logger, caplog):
    logger.error("here")
    assert caplog.records[0].funcName == "test_a_record_tells_where_it_was_logged"
    assert caplog.records[0].filename == "test_logs.py"


def test_a_caller_further_up_can_be_told(logger, caplog):
    def inner():
        logger.error("here", stacklevel=2)

    inner()
    assert caplog.records[0].funcName == "test_a_caller_further_up_can_be_told"


def test_extra_fields_and_the_exception_go_with_it(logger, caplog):
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("failed", extra={"execution": "x"})
    assert caplog.records[0].execution == "x"
    assert "ValueError: no" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(1), Broken()])
def test_a_filter_or_handler_that_raises_breaks_nothing(logger, capsys, error):
    logger.logger.addFilter(raising(error))
    log_everything(logger)
    logger.logger.filters.clear()
    handler = logging.Handler()
    handler.emit = raising(error)
    logger.logger.addHandler(handler)
    logger.error("step failed")
    assert type(error).__name__ in capsys.readouterr().err


def test_what_logging_raises_is_shown_only_where_logging_would_show_it(logger, capsys):
    logging.raiseExceptions = False
    logger.logger.addFilter(raising(RuntimeError("broken")))
    log_everything(logger)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stderr", ["None", "closed"])
def test_a_program_without_stderr_logs_all_the_same(logger, monkeypatch, tmp_path, stderr):
    logger.logger.addFilter(raising(RuntimeError("broken")))
    with (tmp_path / "stderr").open("w") as file:
        monkeypatch.setattr(sys, "stderr", None if stderr == "None" else file)
    log_everything(logger)


def test_an_interruption_goes_on(logger):
    logger.logger.addFilter(lambda record: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        logger.error("step failed")


def test_on_another_thread_nothing_goes_on(logger):
    logger.logger.addFilter(raising(KeyboardInterrupt()))
    survived = []

    def log():
        logger.error("step failed")
        survived.append(True)

    thread = threading.Thread(target=log)
    thread.start()
    thread.join(30)
    assert survived == [True]


def test_what_a_loop_meets_again_and_again_is_logged_once_for_as_long_as_it_is_the_same(logger, caplog):
    trouble = Trouble(logger)
    for error in (StoreError("away"), StoreError("away"), OSError("full"), None, OSError("full")):
        if error is None:
            assert trouble.is_over()
        else:
            trouble.met(error, "cannot look")
    told = [(record.getMessage(), record.exc_info is not None) for record in caplog.records]
    assert told == [("cannot look: away", False), ("cannot look: full", True), ("cannot look: full", True)]
