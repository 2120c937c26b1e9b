"""What a type checker makes of flows of functions."""

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(180)  # mypy reads szal, and all that it imports, for the first time
def test_decorated_functions_keep_their_signatures():
    api = pytest.importorskip("mypy.api")
    options = [f"--config-file={ROOT}/pyproject.toml", f"--cache-dir={ROOT}/.mypy_cache", "--no-error-summary"]
    files = [Path(__file__).with_name("typed_flow.py"), ROOT / "examples" / "etl.py"]
    out, err, status = api.run([*options, f"--python-executable={sys.executable}", *map(str, files)])
    assert (status, out, err) == (0, "", "")
