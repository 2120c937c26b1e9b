"""The order of the packages and, in each, of the modules: each imports only what stands above it.

This list is the map of the code, docs/architecture.md a walk through it. Imports for the type checker count too.
"""

import ast
import functools
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOMS: dict[str, dict[str, str]] = {
    "": {
        "number": "what counts as a number",
        "clock": "the clocks, always the real ones",
        "count": "how often something rare has happened in this process",
        "per_process": "what each process has one of",
        "distribution": "many numbers, as how many there were of which size",
        "raised": "what an exception is, whatever its class makes of it",
        "interruption": "what a signal handler raised, told from a failure",
        "interrupts": "what signal handlers raise, kept for a better moment",
        "storable": "text from outside, as every store can hold it",
        "legible": "text from outside, and times, as people can read them",
        "errors.root": "the root of the tree of exceptions",
        "errors.tail": "how a command ended, and what it printed last, as text",
        "errors.value": "JSON and text that are not what they should be",
        "errors.flow": "a flow that cannot be run as it is",
        "errors.execution": "an execution that cannot be begun, or gone on with",
        "errors.step": "a step, or a flow, that did not succeed",
        "errors.elsewhere": "an attempt that was to be made elsewhere",
        "errors.items": "a step that was to run over a list, and did not",
        "errors.command": "a command that did not",
        "errors.handler": "what handlers raise to tell the engine something",
        "errors.description": "an exception as text",
        "errors.store": "a store that could not do what was asked of it",
        "errors.suggestion": "what a word was meant to be",
        "errors": "all of them, in one tree",
        "extra": "libraries that are optional",
        "function": "what can be called to do something",
        "logs": "logging that cannot break what it tells of",
        "waiters": "threads that sleep until they are woken",
        "process_table": "what the system tells of other processes",
        "process_events": "forks, and the end of the process",
        "collector": "the garbage collector, put off while something large is made",
        "recent": "what was asked for last, kept for a while",
    },
    "expressions": {
        "path": "where a value is in a JSON value",
        "copies": "lists and dicts of one's own",
        "comparison": "what equals what, and what comes before what",
        "literal": "what stands for itself",
        "missing": "what there is where a path finds nothing",
        "parser": "a condition's text, read",
        "condition": "when a step runs, as text",
        "template": "values put into a step's config",
        "renaming": "texts that name steps, once these are called otherwise",
    },
    "scripts": {
        "cursor": "a position in a script, and the placeholders up to there",
        "arguments": "options and operands, as programs take them apart",
        "rules": "how a program is given code",
        "programs": "which words of a command are code",
        "words": "words of a script, with their quotes",
        "here_documents": "lines of a script that belong to no command",
        "constructs": "comments, loops, patterns, conditions of a script",
        "commands": "the commands of a script",
        "script": "a script with variables in the places of its placeholders",
    },
    "model": {
        "state": "states, and which may follow which",
        "key": "keys that are made of names",
        "class_name": "names of exceptions, however they were loaded",
        "exception_name": "whether there is an exception of a name, as far as one can tell",
        "duration": "durations as people write them",
        "moment": "times, as they are kept and as they are shown",
        "step": "a step's definition",
        "graph": "algorithms on lists of edges",
        "rate": "how many attempts begin in a time",
        "fields": "what a field of a definition may hold",
        "variables": "the variables of commands: which name makes which",
        "inputs": "what a flow is to be given, and whether that is what it was given",
        "input_faults": "what is wrong with what a flow says of its inputs",
        "shapes": "what is known of a step's outcome before it runs",
        "config": "what the config of szal's own step types must be",
        "references": "what conditions and templates may name",
        "comparisons": "comparisons that cannot be meant",
        "texts": "the conditions and templates of a flow",
        "analysis": "the modes of flows, and what is known of one that has been looked through",
        "validation": "what can be known of a flow before it runs",
        "concurrency": "of which executions one runs at a time",
        "known_inputs": "the inputs of a flow that declares none",
        "flow": "a flow's definition",
        "bounds": "what one store cannot hold and others can",
        "luggage": "exceptions that travel to another process, if they can",
        "table": "how steps stand, as a table for people",
        "results": "results and records",
        "json.text": "JSON values as text",
        "secret_forms": "what a secret is looked for as in the texts of others",
        "redaction": "what must not be seen",
        "kept": "what was made of a flow, for as long as it says the same",
        "json.writing": "values of one type, as they are written",
        "json.reading": "an object, as it is read",
        "json.flow": "a flow as JSON and back",
        "json.step_result": "the result of a step as JSON and back",
        "json.record": "the record of an execution as JSON and back",
        "json.checkpoint": "what is kept of one step, as JSON and back",
        "json": "all of these",
        "recorded": "a flow as whoever goes on with it sees it",
        "definition": "a flow as it is recorded; where two of them differ",
        "migration": "definitions across versions",
        "catalogue": "where sub-flows are looked up",
    },
    "events": {
        "subscription": "a bounded queue that drops its oldest",
        "topic": "patterns of topics",
        "bus": "what happens, published",
        "sinks": "who is told of that, and what else they ask to be told",
        "progress": "what handlers report, published",
    },
    "scheduler": {
        "timers": "due times",
        "clock": "the clock that runs go by",
        "resources": "what handlers share, and there is only so much of",
        "permits": "what an attempt needs before it begins",
        "cancel": "cancellation tokens",
        "spent": "exceptions that tell the engine something, and for whom",
        "retry": "whether another attempt follows",
        "outcomes": "how steps end, and what that is to others",
        "plan": "a flow as nodes and typed edges",
        "call": "what is kept of one call of a handler",
        "seen": "what conditions and templates see of a run",
        "memos": "what handlers have found out once and for all",
        "observers": "who is told what happens to the steps of a run",
        "run_info": "what the steps of one run share",
        "holding": "whether a condition of a step holds",
        "transaction": "what an attempt commits with its outcome",
        "step_logger": "what a handler logs",
        "ancestors": "what an attempt sees of the steps before its own",
        "context": "what a handler is given",
        "attempt": "a call on a thread of its own, which may be abandoned",
        "workers": "threads",
        "stage": "what a step is doing",
        "before": "what is known of steps from before",
        "run": "the state of one plan being run",
        "backlog": "steps for which there is no room",
        "coordinator": "what one coordinating thread owns",
        "ending": "how steps end",
        "again": "how steps are called again: the next attempt, the next poll",
        "settling": "what follows an attempt",
        "stopping": "how runs end before their time",
        "racing": "what becomes of what has lost",
        "beginning": "how runs begin",
        "fan_out": "a step that runs over a list",
        "relief": "who coordinates when a handler does not let go",
        "inline": "handlers that the coordinating thread calls itself",
        "starting": "how steps begin",
        "pinned": "handlers that stay on the coordinating thread",
        "loop": "the one loop that drives runs",
    },
    "stores": {
        "url": "where a store is, as text",
        "filters": "what is looked for",
        "kin": "which executions others still need",
        "heads": "what the databases keep of a record in columns",
        "writes": "a write, as a value",
        "batch": "what writes come to that are one transaction",
        "listening": "hearing that something was queued, or has changed",
        "limits": "what steps share in all engines of a store",
        "queue": "what is submitted and has not begun",
        "transactions": "transactions that handlers write in, as engines see them",
        "schedules": "what is begun again and again",
        "ledger": "who runs an execution, and what is known of it: what each store's is asked",
        "base": "what a store is",
        "retrying": "how a transaction is tried again",
        "sink.lost_writes": "writes that failed for good",
        "sink.pending": "writes that are not done yet, and who waits for them",
        "sink.stats": "what a sink has done so far",
        "sink.committer": "how a batch gets into the database",
        "sink.writer": "the thread that writes",
        "sink.ledger": "the ledger seen through that thread",
        "sink.sink": "a store seen through that thread",
        "store": "what each of szal's own stores is",
        "statement": "one statement, with what is to be known of it",
        "lease_statements": "which statements there are of leases",
        "limit_statements": "which statements there are of what is shared",
        "queue_statements": "which statements there are of the queue, and of schedules",
        "statements": "which statements there are, and how filters are composed",
        "structure": "what there has to be in one",
        "database": "what an SQL database has to offer",
        "sql_executions": "how executions come to be recorded in SQL, and what goes with them",
        "sql_queue": "the queue in SQL",
        "sql_limits": "what steps share, in SQL",
        "slots": "so many threads at a time",
        "sql_transactions": "transactions that handlers write in, in SQL",
        "sql_schedules": "schedules in SQL",
        "sql_ledger": "the ledger in SQL",
        "sql_store": "what is common to SQL stores",
        "memory.listener": "who waits for submissions to a memory store, and for changes",
        "memory.entries": "what a memory store holds",
        "memory.queue": "the queue on plain data",
        "memory.limits": "what steps share, on plain data",
        "memory.schedules": "schedules on plain data",
        "memory.ledger": "the ledger on plain data",
        "memory.store": "the store in this process",
        "sqlite.record_columns": "the columns of a record in SQLite, whoever writes the row",
        "postgres.record_columns": "the columns of a record in PostgreSQL, whoever writes the row",
        "sqlite.labels": "how those are found that have labels",
        "sqlite.terms": "what statements to SQLite have in common",
        "sqlite.lease_statements": "what is said to SQLite of leases",
        "sqlite.limit_statements": "what is said to SQLite of what is shared",
        "sqlite.queue_statements": "what is said to SQLite of the queue, and of schedules",
        "sqlite.statements": "what is said to it of executions",
        "sqlite.migrations": "how its tables come to be",
        "sqlite.connection": "one file's connections",
        "sqlite.listener": "who waits for submissions to a file, and for changes",
        "sqlite.handlers_connection": "the one that a handler is given",
        "sqlite.transaction": "what can be done between BEGIN and COMMIT",
        "sqlite.held": "transactions that others write in",
        "sqlite.turns": "whose turn it is to have the write lock for long",
        "sqlite.database": "its transactions",
        "sqlite.ledger": "what engines ask of it",
        "sqlite.store": "the store in a file",
        "postgres.terms": "what statements to PostgreSQL have in common",
        "postgres.lease_statements": "what is said to PostgreSQL of leases",
        "postgres.limit_statements": "what is said to PostgreSQL of what is shared",
        "postgres.queue_statements": "what is said to PostgreSQL of the queue, and of schedules",
        "postgres.single_statements": "writes that are one statement, and a transaction by that",
        "postgres.statements": "what is said to it of executions",
        "postgres.schema": "the same, to tables in some schema",
        "postgres.sqlstate": "what PostgreSQL's errors mean",
        "postgres.nul": "what PostgreSQL cannot hold",
        "postgres.connection": "one connection, in order",
        "postgres.encoding": "what it can hold, where it is not in UTF-8",
        "postgres.migrations": "how its tables come to be",
        "postgres.server": "where a server is, and how it is connected to",
        "postgres.opening": "a connection that tells what is wrong, and a pool of them",
        "postgres.pool": "connections that come back",
        "postgres.listener": "who waits for submissions to a server, and for changes",
        "postgres.one_execution": "few writes to one execution, as one statement",
        "postgres.marks": "what each transaction leaves, by which it is known again",
        "postgres.transaction": "what can be done between BEGIN and COMMIT",
        "postgres.held": "transactions that others write in",
        "postgres.database": "its transactions, and what became of a lost COMMIT",
        "postgres.queue": "the queue in PostgreSQL",
        "postgres.ledger": "the ledger in PostgreSQL",
        "postgres.store": "the store in a server",
    },
    "steps": {
        "exit_status": "how a process has ended",
        "stop_policy": "how a command is told to end",
        "supervisor": "who ends the commands when this process has died",
        "stream": "what a command prints, taken in as it comes",
        "process": "processes and their groups",
        "lookup": "functions by name, and where they are looked for",
        "machine": "whether there is here what a config names",
        "script": "values in commands",
        "folder": "the files that commands are given",
        "printed": "JSON that a command has written",
        "results_file": "the outputs that a command has written to a file",
        "interpreter": "what runs a script, and with which options",
        "values": "how values come into a script",
        "variables": "the environment of a command",
        "shell": "a step that is a command",
        "around": "what is entered around every attempt",
        "up_to_date": "steps whose work is there already",
        "pickling": "pickles of functions, by where they are found",
        "errand": "what is called where that is elsewhere",
        "handlers": "which function does which step",
        "link": "what a handler in a child process has of the engine",
        "remote_context": "what a handler is given where it is called elsewhere",
        "sharing": "what attempts have in common, sent once",
        "adapter": "what an executor may have that is more than one",
        "remote": "one attempt as it is sent elsewhere, and what comes back",
        "preparing": "the program's main module, and whether a child process is importing it",
        "sending": "attempts that are made elsewhere",
        "on_executor": "attempts that an executor makes",
        "messages": "what an engine and a child process tell each other",
        "forwarding": "lines that are logged in a child process",
        "child": "the child process, from within",
        "fork_server": "the process that child processes are forked from, from within",
        "bell": "what wakes a thread that waits for a file",
        "start": "how a child process is started: afresh",
        "forks": "child processes that are forks of a server",
        "child_process": "the child process, from outside",
        "processes": "an engine's child processes",
        "in_process": "attempts that are made in a child process",
        "resolving": "which does which step of which flow",
    },
    "engine": {
        "process_start": "how child processes are started",
        "config": "what an engine can be told",
        "placing": "where the handlers of a run are called",
        "secrets": "inputs that are not recorded",
        "directory": "where the commands of an execution run",
        "reporting": "events and metrics of one execution",
        "owners": "who runs an execution, and whether it is known to have ended",
        "leases": "the heartbeat",
        "shared_limits": "what all engines of a store share, asked for by a thread",
        "leased_store": "what runs ask of a store with leases",
        "transactions": "transactions of handlers, under the lease of an execution",
        "attempt_log": "how attempts ended, for the rows of their steps",
        "journal": "what an execution writes as it goes",
        "waiting": "steps that wait for a signal or a time",
        "durations": "how long the steps of earlier runs took",
        "finishing": "the finally steps of an execution",
        "undo_log": "what is recorded of an undoing",
        "rollback": "undoing a run",
        "so_far": "how the steps of a run stand that have not ended",
        "under_way": "the steps that have begun and not ended, as others are told of them",
        "binding": "what does and undoes each step of a plan",
        "recorded_flows": "the flows that executions were begun with, as stores have them",
        "spec": "what is to be run",
        "recording": "the three ways to record",
        "lineage": "which executions are whose sub-flows",
        "kept_rows": "what is kept of an execution that runs again",
        "part": "a part of a flow, and what it takes from an execution",
        "correction": "what a corrected definition is to an execution",
        "rows_of_items": "what the rows of items come to together",
        "inspection": "what tools ask of a store beside its records",
        "status": "how far an execution has come",
        "sharing": "what steps under way report, kept for whoever looks",
        "view": "an execution as its store has it, read as far as it has changed",
        "sub_flow_lookup": "which flow a sub_flow step is to run",
        "sub_flow_end": "how the sub-flow of a step has ended",
        "sub_flows": "the executions that sub_flow steps stand for",
        "launching": "beginning what the engine does itself",
        "restored_items": "putting back what a store has of items",
        "restoring": "putting back what a store has of an execution",
        "conclusion": "what an execution comes to",
        "stats": "what an engine is doing, and has done, in figures",
        "supervised": "what other threads tell an execution",
        "lifecycle": "one execution from its first record to its last",
        "family": "an execution and its sub-flows under way",
        "which": "which executions are meant",
        "chosen": "with which of them something can be done",
        "following": "a run in the background, shown while it runs",
        "execution": "a run in the background, as seen by who started it",
        "driver": "one top-level run",
        "active": "which executions an engine runs now",
        "ending": "waiting for executions that anybody runs",
        "feed": "one execution that is watched",
        "watching": "who watches executions",
        "interrupted": "which executions can go on, and nobody runs them",
        "pausing": "pausing an execution that nobody runs",
        "deciding": "steps of which nobody knows whether they were done",
        "reopening": "running again what has failed, under its own id",
        "rerun": "running an execution again as a new one",
        "recovery": "taking executions up again",
        "side_by_side": "work on many executions, several at a time",
        "mass_recovery": "many of them recovered",
        "health": "whether an engine can work",
        "admission": "what an engine may run",
        "monitoring": "what an engine tells of itself",
        "opening": "what a program names as its store, as an engine has it",
        "base": "what an engine has, and how it ends",
        "steering": "what is told to executions, wherever they run",
        "going_on": "taking executions up again",
        "worker": "running what was submitted, and what was interrupted",
        "timetable": "at which times flows are begun, and what becomes of missed ones",
        "fleet": "executions that one process submits and another one runs",
        "engine": "the facade",
        "stream": "how an execution gets on, as Server-Sent Events",
        "one_shot": "a flow run by an engine made for it",
    },
    "authoring": {
        "parameters": "what a function asks for",
        "binding": "handlers made of functions",
        "step": "a function that is a step of a flow",
        "fields": "the fields of a step, as they are written for a flow of functions",
        "wiring": "what each parameter is bound to, and what each step waits for",
        "script": "a flow as a program of its own",
        "functions": "what does the steps of a flow of functions, for an engine",
        "including": "the steps of one flow as steps of another",
        "flow": "a flow written as functions",
    },
    "files": {
        "document": "values that know where they stand in a text",
        "yaml": "YAML as such values",
        "json": "JSON as such values",
        "merging": "the merge keys of YAML",
        "vocabulary": "the words of the format, and what others call them",
        "fields": "the fields of an object in a file",
        "checks": "what a file says of commands and functions, held against what they can be",
        "action": "what a step of a file does",
        "shared": "what all steps of a flow have that say nothing else",
        "inputs": "the inputs that a file declares",
        "reader": "one flow of a document",
        "file": "one file: its flow, and those that its steps name",
        "loader": "flows as files",
        "schema": "the format for editors, as a JSON Schema",
    },
    "pictures": {
        "wording": "what a drawing says: edges, and lines in boxes",
        "mermaid": "a flow for Mermaid",
        "dot": "a flow for Graphviz",
        "markup": "elements of SVG and HTML as text",
        "label": "text in a picture, cut to the room that there is",
        "style": "how pictures look",
        "standing": "how the steps of an execution stand, in a word and in a line",
        "box": "the box of a step",
        "skeleton": "which box is beside which",
        "layout": "where boxes and edges go, in pixels",
        "unit": "what is drawn of a plan: steps, blocks, chains, joins",
        "grid": "the boxes of a unit, in rows",
        "graph": "a flow, or an execution of it, as SVG",
        "notebook": "what a notebook shows of a flow",
        "scale": "a scale of time",
        "row": "the rows of a timeline",
        "timeline": "when each step of an execution ran, as SVG",
        "page": "an execution as one page of HTML",
    },
    "contrib": {
        "streaming": "streams to browsers, of which a server has threads for so many",
        "dask.claims": "calls on a dask cluster that are made once",
        "dask.executor": "an executor there",
        "dask": "szal on dask",
        "application": "the engine of an application, in each of its processes",
        "flask": "szal in Flask",
        "prometheus.events": "metrics of what happens",
        "prometheus.figures": "metrics of what engines tell when they are asked",
        "prometheus.sink": "what engines hand these events to",
        "prometheus": "metrics for Prometheus",
        "otel": "traces by OpenTelemetry",
        "logging": "records of logging that say in which step they were made",
        "web.source": "where the pages get what they show",
        "web.shown": "values as pages show them",
        "web.asked": "what a page is asked for",
        "web.statistics": "how many executions there were over time, and how long they took",
        "web.plot": "that, drawn",
        "web.listing": "the page of executions",
        "web.detail": "the page of one execution",
        "web.picture": "the graph of a flow, as it stands in a page",
        "web.flows": "the page of a flow",
        "web.waiting": "the page of what waits for somebody",
        "web.actions": "what is done with one execution",
        "web.many": "what is done with many",
        "web.rendering": "pages as HTML",
        "web.pages": "what is behind each address",
        "web.application": "the pages as an application of its own",
        "web": "a dashboard of executions",
        "web.server": "that, served by itself",
        "django.database": "the store that a database of a Django project is",
        "django.settings": "what a Django project says of its engine",
        "django.models": "none, which makes Django tell of migrations",
        "django.apps": "what a Django project installs",
        "django": "szal in Django",
        "django.dashboard": "the dashboard in a Django project",
    },
    "testing": {
        "names": "which step a name means",
        "run_clock": "what a run waits for, of a clock that a test moves",
        "clock": "a clock that a test moves",
        "stand_in": "what stands in the place of what does a step",
        "fakes": "the fakes of a flow, as a resolver",
        "signals": "signals that are there from the start",
        "crash": "a crash at a given step",
        "joined": "transactions of the application's, in memory",
        "paused": "executions that go on once their time has come",
        "under_test": "an engine in a test",
        "running": "a flow run in a test",
        "django": "the engine of a Django project in a test",
        "plugin": "what pytest is given",
        "store_contract": "what each store promises, as tests",
        "query_contract": "what szal's own stores promise besides, as tests",
    },
}
UPWARDS = {
    "model.flow": ("pictures.graph", "pictures.notebook", "pictures.standing"),
    "authoring.flow": ("pictures.notebook", "pictures.standing"),
    "engine.opening": ("stores",),
    "authoring.script": ("cli",),
    "contrib.django.apps": ("stores",),
    "testing.under_test": ("stores",),
    "testing.running": ("stores",),
}
"""What modules import from the top, when they are called."""
ON_TOP = ("", "stores", "testing", "cli", "__main__", "contrib.django.management")
"""The public names, those of the stores and of tests, and the command lines: they may import everything."""


def root() -> Path:
    spec = importlib.util.find_spec("szal")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def dotted(path: Path) -> str:
    """Return the name of a module below szal; a package has its own, which is empty for szal itself."""
    return ".".join(path.relative_to(root()).with_suffix("").parts).removesuffix("__init__").rstrip(".")


FILES = {dotted(path): path for path in sorted(root().rglob("*.py"))}
ORDER = [f"{room}.{module}".lstrip(".") for room, modules in ROOMS.items() for module in modules]


def is_on_top(module: str) -> bool:
    return module in ON_TOP or module.startswith(("cli.", "contrib.django.management."))


def is_a_room(module: str) -> bool:
    return not is_on_top(module) and module in (
        *ROOMS,
        "stores.memory",
        "stores.sqlite",
        "stores.postgres",
        "stores.sink",
    )


@functools.cache
def nodes(module: str) -> list[ast.AST]:
    """Return what there is in a module of the kinds that are looked at here."""
    kinds = (ast.Import, ast.ImportFrom, ast.Attribute, ast.AsyncFunctionDef, ast.Await)
    return [node for node in ast.walk(ast.parse(FILES[module].read_text())) if isinstance(node, kinds)]


def imported(module: str) -> Iterator[str]:
    """Yield the modules of szal that a module imports; of a name in a package, the module that it is, if it is one."""
    for node in nodes(module):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "szal":
            source = node.module.removeprefix("szal").lstrip(".")
            for alias in node.names:
                inner = f"{source}.{alias.name}".lstrip(".")
                yield inner if inner in FILES else source
        elif isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("szal.") for alias in node.names if alias.name.startswith("szal."))


def each(modules: Iterable[str], wrong: Callable[[str], Iterable[str]]) -> dict[str, list[str]]:
    """Return what is wrong with each module, of those with which something is."""
    return {module: found for module in modules if (found := sorted(wrong(module)))}


def test_each_module_has_a_place_in_the_order() -> None:
    assert [module for module in FILES if not (is_on_top(module) or is_a_room(module) or module in ORDER)] == []


def test_a_rooms_own_file_only_says_what_the_room_is_for() -> None:
    assert each(filter(is_a_room, FILES), imported) == {}


def test_a_module_imports_only_what_stands_above_it() -> None:
    def below(module: str) -> set[str]:
        return {*imported(module)}.difference(ORDER[: ORDER.index(module)], UPWARDS.get(module, ()))

    assert each([module for module in ORDER if not is_on_top(module)], below) == {}


def test_every_line_of_the_order_is_a_module() -> None:
    assert [module for module in ORDER if module not in FILES] == []


def test_the_command_line_reaches_into_no_ledger() -> None:
    modules = [path for module, path in FILES.items() if module.split(".")[0] == "cli"]
    assert modules
    assert [path.name for path in modules if re.search(r"\bledger_of\b|\.ledger\.", path.read_text())] == []


def test_nothing_uses_asyncio() -> None:
    for module, path in FILES.items():
        assert not [node for node in nodes(module) if isinstance(node, ast.AsyncFunctionDef | ast.Await)], path
        assert "asyncio" not in path.read_text(), path


STANDARD = sys.stdlib_module_names - {"code", "token"} | {"date"}  # two are names of other things here
CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time", "time_ns", "now", "utcnow", "today"}


def names_of(module: str) -> Iterator[tuple[str, str]]:
    """Yield each name that is taken from a module of the standard library: by import, or as an attribute of it."""
    for node in nodes(module):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in sys.stdlib_module_names:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (("", alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in STANDARD:
            yield node.value.id, node.attr


def test_no_module_takes_anything_private_of_the_standard_library() -> None:
    def private(module: str) -> list[str]:
        names = [f"{whole}.{name}" for whole, name in names_of(module)]
        return [name for name in names if re.search(r"\b_(?!_|exit$)", name)]

    assert each(FILES, private) == {}


def test_no_module_reads_a_clock_but_szals_own() -> None:
    def clocks(module: str) -> list[str]:
        return [name for whole, name in names_of(module) if name in CLOCKS and whole in ("time", "datetime", "date")]

    assert each([module for module in FILES if module != "clock"], clocks) == {}


OF_THREADS = {"scheduler.clock", "scheduler.workers"}
"""What goes by the machine's clock in any case: threads that are idle, and that clock itself."""


def test_what_is_scheduled_goes_by_the_clock_of_its_engine() -> None:
    """Which a test may move."""

    def clocks(module: str) -> set[str]:
        return {"clock", "clock.monotonic"}.intersection(imported(module))

    assert each([name for name in FILES if name.startswith("scheduler.") and name not in OF_THREADS], clocks) == {}
