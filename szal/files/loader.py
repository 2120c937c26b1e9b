"""Flows as data: YAML and JSON files, in a shape that people know from GitHub Actions."""

import os
from pathlib import Path

from szal.errors import LoadError
from szal.files.document import Place, Problem, Unreadable
from szal.files.json import read_json
from szal.files.reader import FlowReader
from szal.files.yaml import read_yaml
from szal.model.flow import FlowDef

__all__ = ["load_flow"]


def load_flow(path: str | os.PathLike[str]) -> FlowDef:
    """Return the flow in the file at *path*: JSON if it is called ``*.json``, otherwise YAML (extra ``szal[cli]``).

    The keys of a flow: ``name``; ``mode`` (dag, the default, sequential, parallel or hierarchical); ``description``;
    ``version``; ``inputs``, an object of defaults; ``timeout``; ``rollback_on_failure``; ``steps``, a list.

    The keys of a step: ``name``; ``description``; ``needs``, a name or a list of them; ``when`` (all, the default,
    any, all_completed or all_done); ``if``, a condition; ``timeout``; ``retries``, a number or an object of ``max``,
    ``delay``, ``backoff`` (fixed, linear or exponential), ``max_delay``, ``jitter``, ``on`` and ``give_up_on`` (names
    of exceptions); ``rollback``; in hierarchical mode ``steps``; and what it does, one of

    * ``run``, a shell command, with ``cwd``, ``env``, ``shell`` ("bash -e"), ``grace`` and ``output`` (text, lines or
      json; see `szal.steps.shell.run_shell`);
    * ``call``, a function as "package.module:function", with its arguments in ``with``;
    * ``flow``, the name of a sub-flow, with its inputs in ``with``;
    * ``wait``, the name of a signal, or an object of ``signal``, ``timeout`` and ``default`` (see docs/semantics.md);
    * ``sleep``, a duration;
    * ``type``, a step type of your own, with its ``config``.

    With none of them it is for a handler that is registered for its name. ``rollback`` is ``{run: …}`` or
    ``{call: …, with: …}``, or true where a handler undoes it. Durations are seconds, or like "90s", "10m", "1h30m",
    "250ms". In YAML only ``true`` and ``false`` are booleans, and dates and times are text.

    Ids are made of the names, so the same file gives the same ids. Raises `LoadError` with every problem and its
    place, and what opening the file raises.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
    ...     _ = file.write('''
    ... name: release
    ... steps:
    ...   - name: build
    ...     run: make wheel
    ...     timeout: 1m30s
    ...   - name: publish
    ...     needs: build
    ...     run: make upload
    ... ''')
    ...     file.flush()
    ...     flow = load_flow(file.name)
    >>> [(step.name, step.config, step.timeout) for step in flow.steps]
    [('build', {'run': 'make wheel'}, 90.0), ('publish', {'run': 'make upload'}, None)]
    """
    problems: list[Problem] = []
    flow = None
    try:
        text = _decode(Path(path).read_bytes())
        is_json = Path(path).suffix.lower() == ".json"
        root = read_json(text, problems) if is_json else read_yaml(text, problems)
        flow = FlowReader(problems).flow(root)
    except Unreadable as error:
        problems.append(error.problem)
    if problems or flow is None:
        raise LoadError(os.fspath(path), tuple(f":{p.place.line}:{p.place.column}: {p.text}" for p in sorted(problems)))
    return flow


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(errors="replace").split("\n")
        raise Unreadable(Place(len(before), len(before[-1]) + 1), "the file is not UTF-8") from None
