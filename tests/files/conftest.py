"""Flow files, written and read."""

import textwrap

import pytest

from szal.errors import LoadError
from szal.files.loader import load_flow


@pytest.fixture
def write(tmp_path):
    """``write(text, name="flow.yaml")`` writes a file, and returns its path."""

    def write(text, name="flow.yaml"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        return file

    return write


@pytest.fixture
def load(write):
    """``load(text, suffix="yaml")`` returns the flow of a file with this text."""

    def load(text, suffix="yaml", **options):
        return load_flow(write(text, f"flow.{suffix}"), **options)

    return load


@pytest.fixture
def problems(load, tmp_path):
    """The problems of a text, without the name of the file."""

    def problems(text, suffix="yaml", **options):
        with pytest.raises(LoadError) as caught:
            load(text, suffix, **options)
        assert caught.value.file == str(tmp_path / f"flow.{suffix}")
        return list(caught.value.problems)

    return problems
