"""How steps begin: skipped, by the engine itself, on this thread, or with a worker."""

from functools import partial

from szal.errors import ResourceHeld
from szal.interruption import is_interruption
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.model.step import WAIT_TYPES
from szal.scheduler import fan_out, racing, stopping
from szal.scheduler.again import new_call
from szal.scheduler.attempt import Attempt
from szal.scheduler.call import Call, Where
from szal.scheduler.coordinator import Coordinator
from szal.scheduler.ending import end, finish_if_done, refuse
from szal.scheduler.inline import call_inline
from szal.scheduler.permits import Permit
from szal.scheduler.plan import Node
from szal.scheduler.run import Run
from szal.scheduler.settling import announce, announce_attempt, decide, give_up
from szal.scheduler.stage import KEPT, READY, STARTED, STARTING, Queued
from szal.scheduler.workers import WorkerPool

__all__ = ["is_startable", "launch", "new_attempt", "start_ready"]

_STARTABLE = (READY, STARTED)  # what a step that was made ready still has to be in


def start_ready(c: Coordinator) -> None:
    """Start what is ready, in order: what needs no worker at once, the rest as far as the limit allows."""
    if c.leaving is not None:
        c.ready.clear()
        return
    first_come, by_urgency, ready = c.backlog.first_come, c.backlog.by_urgency, c.ready
    _start_granted(c)
    if first_come:
        _start_first_come(c)
    while ready and not c.inbox.has_calls:
        run, node = ready.popleft()
        if (run.is_over or run.stages[node.place] not in _STARTABLE) and not _is_to_run_again(c, run, node):
            continue
        if (run.marks[node.gate] or not node.plain) and not _prepare(c, run, node):
            if c.timers.is_due(c.clock.monotonic()):  # what needs no worker may make ready ever more of its kind
                return
            continue
        if node.place in run.permits:
            _put_first(c, run, node)
            _start_granted(c)
        elif run.pins and run.inline_of(node) == "always":
            c.pinned.add(run, node)
        elif first_come or by_urgency or (run.urgency is not None and ready) or not _start(c, run, node):
            c.backlog.add(run, node)
    if by_urgency:  # all that are ready are there now
        _start_by_urgency(c)


def _put_first(c: Coordinator, run: Run, node: Node) -> None:
    """Have a step be next that has what it shares with others: they may wait for it."""
    if run.inline_of(node) == "always":
        c.pinned.add(run, node)
    else:
        c.granted.append((run, node))


def _start_granted(c: Coordinator) -> None:
    """Start what has what it shares with others, as far as there is room."""
    while c.granted and not c.inbox.has_calls:
        run, node = c.granted[0]
        if is_startable(run, node) and not _start(c, run, node):
            return
        c.granted.popleft()


def _start_first_come(c: Coordinator) -> None:
    """Start what has waited for room longest, as far as there is some."""
    queue = c.backlog.first_come
    while queue and not c.inbox.has_calls:
        run, node = queue.popleft()
        if is_startable(run, node) and not _start(c, run, node):
            queue.appendleft((run, node))
            return


def _start_by_urgency(c: Coordinator) -> None:
    """Start the most urgent of what has waited for room, as far as there is some."""
    backlog = c.backlog
    while backlog and not c.inbox.has_calls:
        entry = backlog.pop()
        _, _, run, node = entry
        if is_startable(run, node) and not _start(c, run, node):
            backlog.put_back(entry)
            return


def is_startable(run: Run, node: Node) -> bool:
    """Whether a step that was made ready still is to be started."""
    return not run.is_over and run.stages[node.place] in _STARTABLE


def _is_to_run_again(c: Coordinator, run: Run, node: Node) -> bool:
    """Settle a step whose gate has opened as it was settled before; True: it is to be decided on again."""
    if run.is_over or run.stages[node.place] is not KEPT:
        return False
    if not run.take_back(node):
        return True
    finish_if_done(c, run)
    return False


def _start(c: Coordinator, run: Run, node: Node) -> bool:
    """Call the handler on this thread, or queue it for a worker; False where there is no room for it.

    More than the limit is queued ahead, so that workers need not wait for this thread; with both kinds of
    worker at once that would let more than the limit run, so then it is not; nor where a more urgent step may come.
    """
    has_limit, permits = node.limit is not None, node.shares
    if not (has_limit or permits or c.tally.work) and c.may_call_inline(run) and run.inline_of(node) == "auto":
        call_inline(c, run, node)
        return True
    pool, other = c.pooled, c.limited
    if has_limit or run.deadline is not None:
        pool, other = other, pool
    pins = c.pins and bool(c.pinned)  # one of these is called as soon as there is room
    load = pool.load + other.load + pins
    if load >= c.limit:
        run.was_crowded = True
        if other.load or c.shares or pins or run.urgency is not None or load >= c.limit * 4:
            return False
    _dispatch(c, run, node, pool)
    return True


def _prepare(c: Coordinator, run: Run, node: Node) -> bool:
    """Do what there is to do before a handler is called, or instead; return whether it is to be called now."""
    place = node.place
    if place not in run.history and run.stages[place] is READY and (run.marks[node.gate] or node.may_be_skipped):
        try:
            skip = run.why_skip(node)
        except BaseException as error:  # foreign objects in outputs may not even compare
            if is_interruption(error):
                raise
            call = Call(run, node, 0)
            call.started = call.ended = c.clock.monotonic()
            end(c, call, error, node.failure)
            return False
        if skip is not None:
            run.skip(node, *skip)
            finish_if_done(c, run)
            return False
    if node.foreach is not None:
        fan_out.begin(c, run, node)
        return False
    if node.shares and place not in run.permits and not _ask_for_permit(c, run, node):
        return False
    if node.losers:
        racing.end_losers(c, run, node)
    if run.handlers[place] is None:
        if run.ends_waits and node.step.step_type in WAIT_TYPES:
            stopping.overtake(c, run, node)
        else:
            launch(c, run, node)
        return False
    if not node.step.idempotent and run.log is not None and place not in run.history and run.stages[place] is READY:
        _commit_start(c, run, node)
        return False
    return True


def _ask_for_permit(c: Coordinator, run: Run, node: Node) -> bool:
    """Have what the handler of *node* shares with others for it; False: it waits for that, or has failed."""

    def told(permit: Permit) -> None:
        c.inbox.call(partial(_granted, c, run, node, permit))

    try:
        permit = c.permits.ask(node.step, run.info.lease, c.clock.monotonic, told)
    except ResourceHeld as error:
        call = new_call(run, node)
        call.started = call.ended = c.clock.monotonic()
        decide(c, call, None, None, error, last=True)
        return False
    if permit.is_held and not permit.delay:
        run.permits[node.place] = permit
        return True
    run.enter(node.place, Queued(permit, c.clock.wall()))
    if permit.is_held:
        told(permit)
    return False


def _granted(c: Coordinator, run: Run, node: Node, permit: Permit) -> None:
    """Have a step go on that has what it waited for; where it waits no more, that has been given back."""
    stage = None if run.is_over else run.stages[node.place]
    if not (isinstance(stage, Queued) and stage.permit is permit):
        return
    if not permit.is_held:
        permit.press()
        return
    delay, permit.delay = permit.delay, 0.0
    if delay:
        due = c.clock.monotonic() + delay
        permit.timer = c.timers.add(due, partial(_granted, c, run, node, permit))
    else:
        run.enter(node.place, READY)
        run.permits[node.place] = permit
        if _prepare(c, run, node):
            _put_first(c, run, node)


def launch(c: Coordinator, run: Run, node: Node, attempt: int | None = None) -> None:
    """Begin a sub-flow or a wait, which inherits what is left of the step's and the flow's time.

    With *attempt* it is that one, which a crash has interrupted. `Run.launch` enters the stage that it is in.
    """
    call = new_call(run, node)
    call.number = attempt or call.number
    call.begin()
    announce(c, call)
    assert run.launch is not None
    run.launch(call)


def _commit_start(c: Coordinator, run: Run, node: Node) -> None:
    """Have it committed that a step which must not run twice begins, before it does."""

    def committed(error: Exception | None) -> None:
        if run.is_over or run.stages[node.place] is not STARTING:
            return  # a stop came first
        if error is not None:
            run.give_back(node.place)
            refuse(c, run, node, error)
            return
        run.enter(node.place, STARTED)
        if node.place in run.permits:
            _put_first(c, run, node)
        else:
            c.ready.append((run, node))

    assert run.log is not None
    run.enter(node.place, STARTING)
    begun = StepResult(node.step.id, node.step.name, StepStatus.RUNNING)
    run.log.begun(node, begun, None, lambda error: c.inbox.call(partial(committed, error)))


def _dispatch(c: Coordinator, run: Run, node: Node, pool: WorkerPool) -> None:
    """Give an attempt to a worker of *pool*."""
    attempt = new_attempt(c, run, node)
    call = attempt.call
    if node.limit is not None:
        due = c.clock.monotonic() + node.limit
        if not (call.first is None and call.until_by is None) and call.deadline is not None:
            due = min(due, call.deadline)
        attempt.timer = c.timers.add(due, partial(_check_limit, c, attempt))
    run.attempt_begins(node.place, attempt)
    pool.put(attempt)


def new_attempt(c: Coordinator, run: Run, node: Node) -> Attempt:
    """Return the next attempt at *node*, whoever makes it."""
    call = new_call(run, node)
    handler = run.handlers[node.place]
    assert handler is not None
    context = run.new_context(node, call.number, call)
    attempt = Attempt(call, context, handler, c.variables.copy(), run.encode)
    attempt.ahead = c.ahead
    if run.permits:
        attempt.permit = run.permits.pop(node.place, None)
    if run.watch is not None and call.is_first:
        attempt.announce = partial(announce_attempt, c, attempt)
    return attempt


def _check_limit(c: Coordinator, attempt: Attempt) -> None:
    """Look after an attempt's limit, which counts from its start: it may have been queued for long."""
    now, call = c.clock.monotonic(), attempt.call
    if not call.begun or call.where is Where.QUEUED:
        attempt.timer = c.timers.add(now + call.node.limit, partial(_check_limit, c, attempt))
    elif call.deadline is not None and call.deadline > now:
        attempt.timer = c.timers.add(call.deadline, partial(_check_limit, c, attempt))
    else:
        give_up(c, attempt, call.timed_out())
