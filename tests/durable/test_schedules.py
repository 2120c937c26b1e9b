"""Flows that are begun at their times, each time once, whoever works."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from processes import run_command_line

from szal import FlowDef, Handlers, StepDef, WorkflowState
from szal.engine.timetable import Schedule, Timetable
from szal.model.definition import Definition

NIGHT = "0 2 * * *"


def flow(name="nightly", **fields):
    return FlowDef(name, steps=[StepDef("load")], **fields)


FLOW = flow()


def at(day, hour=2, minute=0):
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


class Times:
    """The timetable of an engine, with a clock that is moved by hand."""

    def __init__(self, engine, now):
        self.engine, self.now = engine, now
        self.live = set()
        recovery = engine._admission.recovery()
        self.timetable = Timetable(
            recovery.ledger.schedules,
            recovery.leased,
            lambda: self.now.timestamp(),  # noqa: PLW0108 (it is moved)
            lambda each: each in self.live,
        )

    def plan(self, cron=NIGHT, flow=FLOW, **more):
        schedule = Schedule.checked("nightly", cron, more.pop("timezone", "UTC"), flow_name="nightly", **more)
        spec = self.engine._admission.submission_of(flow, {"a": 1}, None, None)
        self.timetable.put(schedule, spec.record, Definition.of(spec.flow))

    def fire(self, now):
        self.now = now
        return self.timetable.fire()

    def begun(self):
        return sorted(summary.execution_id for summary in self.engine.config.execution_store.find())


@pytest.fixture
def times(new_engine):
    return Times(new_engine(), at(1, 12))


class TestTimes:
    @pytest.mark.parametrize(
        ("cron", "zone", "after", "found"),
        [
            ("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 28, 12, tzinfo=UTC), "2026-03-29T01:00:00+00:00"),
            ("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC), "2026-10-25T00:30:00+00:00"),
            ("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "2026-10-26T01:30:00+00:00"),
            ("0 2 * * *", "UTC", datetime(2026, 11, 26, 2, tzinfo=UTC), "2026-11-27T02:00:00+00:00"),
            ("0 9 * * MON", "America/New_York", datetime(2026, 11, 26, tzinfo=UTC), "2026-11-30T14:00:00+00:00"),
        ],
    )
    def test_are_those_of_the_wall_clock_there(self, cron, zone, after, found):
        assert Schedule.checked("x", cron, zone).after(after).isoformat() == found

    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            ({"cron": "61 * * * *"}, "cron '61 \\* \\* \\* \\*': Bad minute"),
            ({"cron": "often"}, "cron 'often': "),
            ({"timezone": "Europe/Berlni"}, "there is no time zone 'Europe/Berlni'"),
            ({"catch_up": "some"}, "catch_up is one of last, all, none, not 'some'"),
            ({"overlap": "maybe"}, "overlap is one of allow, skip, queue, not 'maybe'"),
            ({"name": ""}, "the name of a schedule is empty"),
            ({"queue": ""}, "the name of a queue is empty"),
        ],
    )
    def test_what_is_wrong_is_refused(self, new_engine, given, problem):
        with pytest.raises(ValueError, match=problem):
            new_engine().schedule(flow(), **{"cron": NIGHT, **given})


class TestFiring:
    def test_each_time_begins_one_execution_named_after_it(self, times):
        times.plan()
        assert times.fire(at(1, 23)) == 0
        assert times.fire(at(2)) == 1
        assert times.fire(at(2, 2, 1)) == 0
        assert times.fire(at(3)) == 1
        assert times.begun() == ["nightly@2026-11-02T02:00:00+00:00", "nightly@2026-11-03T02:00:00+00:00"]
        record = times.engine.look("nightly@2026-11-02T02:00:00+00:00").record
        assert (record.state, record.inputs) == (WorkflowState.CREATED, {"a": 1})

    @pytest.mark.parametrize(("catch_up", "days"), [("last", [5]), ("all", [2, 3, 4, 5]), ("none", [])])
    def test_what_was_missed(self, times, catch_up, days):
        times.plan(catch_up=catch_up)
        assert times.fire(at(5, 12)) == len(days)
        assert times.begun() == [f"nightly@2026-11-0{day}T02:00:00+00:00" for day in days]
        assert times.fire(at(6)) == 1

    def test_a_little_late_is_not_missed(self, times):
        times.plan(catch_up="none")
        assert times.fire(at(2) + timedelta(seconds=59)) == 1

    def test_while_the_last_one_runs_the_next_is_left_out(self, times):
        times.plan(overlap="skip")
        times.fire(at(2))
        times.live = set(times.begun())
        assert times.fire(at(3)) == 0
        times.live.clear()
        assert times.fire(at(3, 12)) == 0
        assert times.fire(at(4)) == 1

    def test_or_it_waits_for_its_end(self, times):
        times.plan(overlap="queue")
        times.fire(at(2))
        times.live = set(times.begun())
        assert times.fire(at(3)) == 0
        times.live.clear()
        assert times.fire(at(3, 12)) == 1
        assert times.begun()[-1] == "nightly@2026-11-03T02:00:00+00:00"

    def test_said_again_it_keeps_its_next_time_and_changed_it_has_another(self, times):
        times.plan()
        times.fire(at(2))
        times.now = at(4, 12)
        times.plan()
        assert [each.next_at for each in times.engine.schedules()] == [at(3)]
        times.plan("0 3 * * *")
        assert [each.next_at for each in times.engine.schedules()] == [at(5, 3)]

    def test_of_several_who_look_at_once_one_begins_it(self, times, new_engine):
        times.plan(catch_up="all")
        several = [Times(new_engine(), at(9, 12)) for _ in range(3)]
        counts = []
        threads = [threading.Thread(target=lambda each=each: counts.append(each.fire(at(9, 12)))) for each in several]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(counts) == 3
        assert sum(counts) == 8
        assert len(times.begun()) == 8


class TestEngines:
    def test_who_works_begins_what_is_due(self, new_engine):
        engine = new_engine(lambda ctx: ctx.inputs["a"])
        engine.schedule(flow(), "* * * * *", inputs={"a": 1})
        [schedule] = engine.schedules()
        row = engine._admission.recovery().ledger.schedules.all()[0]
        ledger = engine._admission.recovery().ledger
        due = schedule.next_at - timedelta(minutes=5)
        assert ledger.schedules.advance(row, due.timestamp(), [])
        assert engine.next_due() == due
        assert engine.work(until_idle=True) == 1
        [done] = engine.schedules()
        assert engine.look(done.last_id).state is WorkflowState.COMPLETED
        assert done.next_at > datetime.now(UTC)

    def test_it_ends_when_it_is_taken_back(self, new_engine):
        engine = new_engine(Handlers())
        assert engine.schedule(flow(), NIGHT, name="mine") == "mine"
        assert [each.name for each in engine.schedules()] == ["mine"]
        assert engine.unschedule("mine")
        assert not engine.unschedule("mine")
        assert engine.schedules() == []

    def test_when_something_is_due_next(self, new_engine):
        engine = new_engine()
        assert engine.next_due() is None
        engine.schedule(flow(), NIGHT)
        [schedule] = engine.schedules()
        assert engine.next_due() == schedule.next_at
        soon = datetime.now(UTC) + timedelta(seconds=40)
        engine.submit(flow(), not_before=soon)
        assert abs((engine.next_due() - soon).total_seconds()) < 5
        engine.submit(flow())
        assert engine.next_due() <= datetime.now(UTC) + timedelta(seconds=5)

    def test_a_sleep_is_due_when_it_ends(self, new_engine):
        engine = new_engine()
        steps = [StepDef("ask", step_type="wait", config={"signal": "go", "timeout": 1800})]
        assert engine.run(FlowDef("f", steps=steps), execution_id="e").state is WorkflowState.PAUSED
        left = (engine.next_due() - datetime.now(UTC)).total_seconds()
        assert 1700 < left <= 1800


def test_the_command_line_lists_them(store_url, new_engine):
    engine = new_engine(Handlers())
    engine.schedule(flow(), NIGHT, timezone="Europe/Berlin")
    done = run_command_line("schedules", "--store", store_url)
    assert done.returncode == 0, done.stderr
    assert "nightly" in done.stdout
    assert "0 2 * * *" in done.stdout
    done = run_command_line("next", "--store", store_url)
    assert done.stdout.strip() == engine.next_due().isoformat()
