"""Tests of the project's flows, as its authors write them."""

import threading

import pytest
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.test import TestCase

from django_shop.flows import mark, order, threads
from django_shop.models import Order
from szal.contrib.django import engine, submit, transaction
from szal.errors import InvalidInputs
from szal.testing import crash_after, run_flow
from szal.testing.django import project_engine


def charge(ctx, number):
    """Fail once, then write."""
    if ctx.attempt == 1:
        raise ConnectionError("no answer")
    mark(number, "charged")
    return "c1"


FAKES = {"charge": charge}


class TestOfAFlow(TestCase):
    def setUp(self):
        assert Order.objects.count() == 0, "what a test has written is taken back"
        threads.clear()
        self.number = Order.objects.create().pk

    def state(self):
        return Order.objects.get(pk=self.number).state

    def test_its_steps_find_what_the_test_has_written_and_it_finds_what_they_have(self):
        result = run_flow(order, {"number": self.number}, fakes=FAKES, signals={"ok": "Ada"}, inline="always")
        assert (result.success, self.state(), result.total_duration) == (True, "shipped", 600)
        assert threads == {threading.get_ident()}

    def test_it_is_undone_in_the_same_transaction(self):
        fakes = {"charge": charge, "ship": OSError("no van")}
        result = run_flow(order, {"number": self.number}, fakes=fakes, signals={"ok": "Ada"}, inline="always")
        assert (str(result.state), self.state()) == ("rolled_back", "refunded")

    def test_it_survives_a_crash_after_each_step(self):
        for step in ("charge", "approve", "pack", "ship"):
            given = {"fakes": FAKES, "signals": {"ok": "Ada"}, "inline": "always", "crash": crash_after(step)}
            assert run_flow(order, {"number": self.number}, **given).success
            assert self.state() == "shipped"

    def test_a_handler_that_sleeps_too_long_fails_in_its_own_thread(self):
        fakes = {"charge": lambda ctx: ctx.sleep(31)}
        result = run_flow(order, {"number": self.number}, fakes=fakes, inline="always")
        assert "step timeout: charge after 30000ms" in result["charge"].error


class TestOfATransaction(TestCase):
    def test_a_step_is_done_if_what_it_has_written_stands(self):
        number = Order.objects.create().pk

        def charge(ctx, number):
            with transaction(ctx, output="c1"):
                mark(number, "charged")
                if ctx.attempt == 1:
                    raise ConnectionError("no answer")

        result = run_flow(order, {"number": number}, fakes={"charge": charge, "approve": "Ada"}, inline="always")
        assert [result["charge"].output, result["charge"].attempts, result.success] == ["c1", 2, True]
        assert Order.objects.get().state == "shipped"

    def test_a_crash_just_before_or_just_after_has_it_done_once(self):
        for recorded in (True, False):
            number, done = Order.objects.create().pk, []

            def charge(ctx, number, done=done):
                with transaction(ctx, output="c1"):
                    assert Order.objects.filter(pk=number).update(state=Concat(F("state"), Value("!"))) == 1
                    done.append(ctx.attempt)

            fakes = {"charge": charge, "approve": "Ada", "pack": None, "ship": lambda: None}
            crash = crash_after("charge", recorded=recorded)
            assert run_flow(order, {"number": number}, fakes=fakes, crash=crash, inline="always").success
            assert [Order.objects.get(pk=number).state, len(done)] == ["new!", 1 if recorded else 2]


class TestOfViews(TestCase):
    def test_what_a_request_starts_has_come_as_far_as_it_can_by_its_answer(self):
        with project_engine(fakes=FAKES) as test:
            with self.captureOnCommitCallbacks(execute=True):
                number = self.client.post("/buy").json()["number"]
            status = test.look(f"order-{number}")
            assert [str(status.state), *(wait.signal for wait in status.waits)] == ["paused", "ok"]
            assert Order.objects.get().state == "charged"
            assert engine() is test
            told = self.client.post(f"/approve/{number}").json()
            assert told == {"state": "completed", "order": "shipped"}
            assert test.result(f"order-{number}", timeout=0)["ship"].output == 2

    def test_what_a_request_submits_has_been_run_as_far_as_it_can_once_that_is_committed(self):
        with project_engine(fakes=FAKES) as test:
            with self.captureOnCommitCallbacks(execute=True):
                number = submit(order, {"number": Order.objects.create().pk}, execution_id="o", queue="slow")
                assert Order.objects.get().state == "new"
            assert (number, str(test.look("o").state), Order.objects.get().state) == ("o", "paused", "charged")
            with pytest.raises(InvalidInputs):
                submit(order, {"numbre": 1})

    def test_the_time_for_an_answer_passes(self):
        with project_engine(fakes=FAKES) as test:
            with self.captureOnCommitCallbacks(execute=True):
                number = self.client.post("/buy").json()["number"]
            test.clock.advance(24 * 3600)
            assert Order.objects.get(pk=number).state == "refunded"

    def test_before_the_commit_nothing_has_begun(self):
        with project_engine(fakes={"charge": AssertionError}) as test:
            self.client.post("/buy")
            assert test.config.execution_store.list() == []


@pytest.mark.django_db
def test_with_pytest_django(client, django_capture_on_commit_callbacks):
    assert Order.objects.count() == 0
    with project_engine(fakes={**FAKES, "approve": "nobody"}), django_capture_on_commit_callbacks(execute=True):
        client.post("/buy")
    assert Order.objects.get().state == "shipped"


@pytest.mark.django_db
def test_with_the_fixtures(szal_engine):
    number = Order.objects.create().pk
    test = szal_engine(order, fakes=FAKES, inline="always", eager=True)
    execution = test.start(order, {"number": number}, signal=("ok", "Ada"))
    assert execution.result(0)["ship"].output == 2
    assert Order.objects.get().state == "shipped"
