"""Flows as data: YAML and JSON files, in a shape that people know from GitHub Actions."""

import os
from pathlib import Path

from szal.files.file import read_file
from szal.model.flow import FlowDef

__all__ = ["load_flow"]


def load_flow(path: str | os.PathLike[str], *, is_whole: bool = False, here: bool = False) -> FlowDef:
    """Return the flow in the file at *path*: JSON if it is called ``*.json``, otherwise YAML (extra ``szal[cli]``).

    docs/flows-as-files.md has all keys. Flows that its steps name are read with it, from under ``flows`` and from files
    beside it (`FlowDef.sub_flows`). With *is_whole*, as the command line reads files, nothing else brings what a step
    needs: one that only a handler in Python could do, or a sub-flow that is nowhere, is a problem too.

    Ids are made of the names, so the same file gives the same ids. Raises `LoadError` with every problem and its
    place, and what opening the file raises. *here*: so it does for directories, shells and functions that the file
    names, and that are not on this machine; the functions' modules are imported for that.

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
    flow = read_file(Path(path), is_whole=is_whole, here=here)
    flow.file = os.path.abspath(path)  # noqa: PTH100 (Path.absolute leaves ".." in it)
    return flow
