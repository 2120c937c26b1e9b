"""The command line."""

import argparse
import math
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import docs, page, report
from benchmarks.case import Case
from benchmarks.catalogue import CASES, WORKERS, trace_case
from benchmarks.environment import Environments
from benchmarks.lent import Lent
from benchmarks.machine import describe
from benchmarks.measure import Found, Plan, measure
from benchmarks.party import FLOORS, OURS, PEERS, Peer, Role, roles
from benchmarks.progress import Progress
from benchmarks.table import case_table, ratio_table
from benchmarks.trace import BadTrace, Trace, read_trace

__all__ = ["main"]


_HURRY = 4.0
"""Seconds that the rounds of a case take with --quick."""


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    options = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure szal, floors and peers.")
    options.add_argument(
        "--only", metavar="PATTERN", default="", help="cases whose name matches (a regular expression)"
    )
    options.add_argument("--quick", action="store_true", help="fewer and smaller sizes, five repetitions at most")
    options.add_argument("--sizes", metavar="N,N", type=_sizes, help="these sizes in every case")
    options.add_argument("--repetitions", metavar="N", type=int, help="after the warm-up (9; with --quick 5)")
    options.add_argument("--peers", metavar="PATTERN", default="", help="peers whose name matches; 'none' for none")
    options.add_argument("--envs", metavar="DIR", type=Path, help="where peers' virtualenvs are kept (~/.cache/…)")
    options.add_argument("--scratch", metavar="DIR", type=Path, help="where databases are made (the temporary folder)")
    options.add_argument("--limit", metavar="SECONDS", type=float, help="the most for one repetition (180)")
    options.add_argument("--trace", metavar="FILE", type=Path, help="replay a workflow's trace in WfCommons' format")
    options.add_argument(
        "--makespan",
        metavar="SECONDS",
        type=float,
        default=2.0,
        help="scale the trace so that no replay is shorter (2)",
    )
    options.add_argument("--json", metavar="FILE", type=Path, help="write all figures")
    options.add_argument("--html", metavar="FILE", type=Path, help="write a page with plots")
    options.add_argument(
        "--into",
        metavar="PAGE#PART",
        type=docs.part_of_page,
        help="put results and plots into a part of a Markdown page",
    )
    options.add_argument("--figures", action="store_true", help="put only the figures into that part")
    options.add_argument(
        "--summary",
        metavar="PAGE#PART",
        type=docs.part_of_page,
        help="put one picture and one table into a part of a page",
    )
    options.add_argument(
        "--check", action="store_true", help="exit with 1 if a target is not met, or szal or a floor failed"
    )
    options.add_argument("--list", action="store_true", help="name the cases and their subjects, and measure nothing")
    return options


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(","))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; return the exit status."""
    options = parser().parse_args(arguments)
    try:
        trace = _trace(options)
    except BadTrace as error:
        print(error, file=sys.stderr)
        return 2
    cases = [] if trace and not options.only else [case for case in CASES if re.search(options.only, case.name)]
    cases += [trace_case(trace)] if trace else []
    if not cases:
        print(f"no case matches {options.only!r}: {', '.join(case.name for case in CASES)}", file=sys.stderr)
        return 2
    peers = [peer for peer in PEERS if re.search(options.peers, peer.name)]
    if options.list:
        _list(cases, peers)
        return 0
    environments = Environments(options.envs, _tell)
    progress = Progress([_amount(case, peers, options) for case in cases])
    summary = report.Report(machine=describe(), command=f"python -m benchmarks {shlex.join(arguments or sys.argv[1:])}")
    with Lent(options.scratch, trace) as lent:
        try:
            for case in cases:
                progress.next()
                if lent.has(case):
                    taking_part = _roles(case, peers, environments)
                    found = measure(
                        case, taking_part, _plan(case, options, lent), lambda text: _tell(f"[{progress}] {text}")
                    )
                    summary.add(found)
                    _show(found)
        except KeyboardInterrupt:
            _tell("interrupted: what there is follows\n")
        summary.machine |= lent.describe()
        summary.missing = environments.missing | lent.missing
    _finish(summary, options)
    return int(options.check and (bool(summary.broken()) or any(verdict.met is False for verdict in summary.verdicts)))


def _trace(options: argparse.Namespace) -> Trace | None:
    """Return the trace to be replayed, in scaled time."""
    if options.trace is None:
        return None
    trace = read_trace(options.trace)
    return trace.scaled(options.makespan / trace.bound(WORKERS))


def _roles(case: Case, peers: Sequence[Peer], environments: Environments) -> list[Role]:
    """Return who takes part in *case*; the virtualenv of a peer is made when it is first needed."""
    taking_part = list(roles(case.source, [*OURS, *FLOORS]))
    for peer in peers:
        labels = peer.cases.get(case.source)
        python = environments.python(peer) if labels else None
        if labels and python:
            taking_part += [Role(label, peer.party(python), peer) for label in labels]
    return taking_part


def _amount(case: Case, peers: Sequence[Peer], options: argparse.Namespace) -> int:
    """Return how many measures *case* is, but for repetitions, which are as many in each."""
    subjects = len([*roles(case.source, [*OURS, *FLOORS])]) + sum(
        len(peer.cases.get(case.source, {})) for peer in peers
    )
    return subjects * len(_sizes_of(case, options))


def _sizes_of(case: Case, options: argparse.Namespace) -> tuple[int, ...]:
    chosen: tuple[int, ...] | None = None if case.fixed else options.sizes
    return chosen or (case.quick if options.quick else case.sizes)


def _plan(case: Case, options: argparse.Namespace, lent: Lent) -> Plan:
    return Plan(
        sizes=_sizes_of(case, options),
        repetitions=options.repetitions or (5 if options.quick else 9),
        limit=options.limit or (4 * _HURRY if options.quick else 180.0),
        hurry=_HURRY if options.quick else math.inf,
        scratch=options.scratch,
        lend=lent.to,
    )


def _list(cases: Sequence[Case], peers: Sequence[Peer]) -> None:
    for case in cases:
        labels = [role.label for role in roles(case.source, [*OURS, *FLOORS])]
        labels += [label for peer in peers for label in peer.cases.get(case.source, {})]
        print(f"{case.name}: {case.title}\n    {'; '.join(labels)}")


def _tell(text: str) -> None:
    """Say on stderr what is going on: over the line before, where a person looks on."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
    elif text.endswith("\n"):
        sys.stderr.write(text)
    sys.stderr.flush()


def _show(found: Found) -> None:
    _tell("")
    print(case_table(found), end="\n\n", flush=True)


def _finish(summary: report.Report, options: argparse.Namespace) -> None:
    print(ratio_table(summary.verdicts))
    print("\n" + "\n".join(summary.circumstances()))
    if options.json is not None:
        options.json.write_text(summary.as_json(), encoding="utf-8")
    if options.html is not None:
        options.html.write_text(page.of(summary), encoding="utf-8")
    if options.into is not None:
        (docs.put_figures_into if options.figures else docs.put_into)(*options.into, summary)
    if options.summary is not None:
        docs.put_summary_into(*options.summary, summary)
