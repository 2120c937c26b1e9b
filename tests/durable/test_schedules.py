"""Flows that are begun at their times, each time once, whoever works."""

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from processes import run_command_line

from szal import FlowDef, Handlers, StepDef, WorkflowState
from szal.engine.timetable import Schedule, Timetable
from szal.model.definition import Definition
from szal.stores.schedules import ScheduleRow

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
            ({"queue": "q\0"}, "the name of a queue holds a NUL"),
        ],
    )
    def test_what_is_wrong_is_refused(self, new_engine, given, problem):
        with pytest.raises(ValueError, match=problem):
            new_engine().schedule(flow(), **{"cron": NIGHT, **given})

    @pytest.mark.parametrize("what", ["cron", "timezone"])
    def test_so_is_what_is_no_text(self, what):
        with pytest.raises(TypeError, match=f"{what} must be a string, not NoneType"):
            Schedule.checked(**{"name": "x", "cron": NIGHT, "timezone": "UTC", what: None})

    def test_a_name_with_which_no_execution_could_be_recorded_is_refused(self, new_engine, kind):
        """Of an execution's id it is a part, which an index of PostgreSQL's has to take."""
        engine, name = new_engine(Handlers()), "x" * 1290
        if kind != "postgres":
            assert engine.schedule(flow(), NIGHT, name=name) == name
            return
        for what, given in (("schedule", {"name": name}), ("queue", {"queue": name * 2})):
            with pytest.raises(ValueError, match=f"the name of a {what} is .* bytes long: an index of"):
                engine.schedule(flow(), NIGHT, **given)
        with pytest.raises(ValueError, match="the name of a queue is 2580 bytes long"):
            engine.submit(flow(), queue=name * 2)


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

    def test_all_that_was_missed_begins_one_after_another_where_they_are_to_wait(self, times):
        times.plan(overlap="queue", catch_up="all")
        assert times.fire(at(4, 12)) == 1
        times.live = set(times.begun())
        assert times.fire(at(4, 12, 1)) == 0
        times.live.clear()
        assert [times.fire(at(4, 12, minute)) for minute in (2, 3, 4)] == [1, 1, 0]
        assert times.begun() == [f"nightly@2026-11-0{day}T02:00:00+00:00" for day in (2, 3, 4)]

    def test_the_last_of_those_of_a_year_is_found(self, times):
        times.plan("* * * * *")
        assert times.fire(at(1) + timedelta(days=365, seconds=30)) == 1
        assert times.begun() == ["nightly@2027-11-01T02:00:00+00:00"]

    @pytest.mark.parametrize("catch_up", ["last", "none"])
    def test_the_last_of_few_is_found_however_long_ago(self, times, catch_up):
        times.plan("0 0 29 2 *", catch_up=catch_up)
        assert times.fire(datetime(2030, 1, 1, tzinfo=UTC)) == (1 if catch_up == "last" else 0)
        assert times.begun() == ["nightly@2028-02-29T00:00:00+00:00"][: 1 if catch_up == "last" else 0]

    def test_one_that_cannot_be_begun_keeps_no_other_from_it_and_is_told_of_once(self, times, caplog):
        ledger = times.engine._admission.recovery().ledger
        ledger.schedules.put(ScheduleRow("broken", '{"of": "another version"}', "{}", at(1, 13).timestamp()))
        times.plan()
        assert [times.fire(at(2)), times.fire(at(3))] == [1, 1]
        assert [record.getMessage() for record in caplog.records] == ["schedule broken: KeyError: 'name'"]

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

    def test_a_schedule_that_waits_for_its_last_execution_is_not_due(self, new_engine):
        """Or whoever comes back at that time would come back again and again."""
        engine = new_engine()
        ask = StepDef("ask", step_type="wait", config={"signal": "go"})
        engine.schedule(FlowDef("nightly", steps=[ask]), "* * * * *", overlap="queue")
        [row] = engine._admission.recovery().ledger.schedules.all()
        engine._admission.recovery().ledger.schedules.advance(row, row.next_at - 300, [])
        assert engine.work(until_idle=True) == 1
        assert engine.next_due() is None
        assert engine.work(until_idle=True) == 0

    def test_what_may_never_begin_is_due_as_late_as_can_be_said(self, new_engine):
        engine = new_engine()
        engine.submit(flow(), not_before=datetime.max.replace(tzinfo=timezone(-timedelta(hours=12))))
        assert engine.next_due().year == 9999

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
