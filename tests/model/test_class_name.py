"""Names of exceptions: one for each class, whether its file is a script, run with -m, or imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import szal
from szal.model.class_name import class_name, is_called, may_be_one

SCRIPT = """
from szal import FlowDef, StepDef
from szal.model.class_name import class_name, is_called
from szal.model.definition import content_id

class Busy(Exception):
    class Inner(Exception):
        pass

flow = FlowDef("f", steps=[StepDef("s", retry_on=[Busy])])

def tell(kind, names):
    print(class_name(kind), class_name(kind.Inner), content_id(flow))
    print(*[name for name in names if is_called(kind, name)])

if __name__ == "__main__":
    import sys
    tell(Busy, sys.argv[1:])
"""
FROM_ITS_FOLDER = """
import sys
sys.path.insert(0, "jobs")
import nightly
nightly.tell(nightly.Busy, sys.argv[1:])
"""
FROM_ITS_FOLDER = """
import sys
sys.path.insert(0, "jobs")
import nightly
nightly.tell(nightly.Busy, sys.argv[1:])
"""
WAYS = {
    "a script": ["jobs/nightly.py"],
    "-m": ["-m", "jobs.nightly"],
    "an import": ["-c", "import sys, jobs.nightly; jobs.nightly.tell(jobs.nightly.Busy, sys.argv[1:])"],
    "an import from its folder": ["-c", FROM_ITS_FOLDER],
}
KNOWN = ["Busy", "__main__.Busy", "nightly.Busy", "jobs.nightly.Busy"]
OTHERS = ["daily.Busy", "tly.Busy", "other.nightly.Busy", "nightly.Busy.Inner", "nightly", ""]


def told(tmp_path, way):
    path = os.pathsep.join([str(Path(szal.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    command = [sys.executable, *WAYS[way], *KNOWN, *OTHERS]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture(params=["a package", "a plain folder"])
def folder(request, tmp_path):
    """A folder with the script in jobs/."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "nightly.py").write_text(SCRIPT)
    if request.param == "a package":
        (tmp_path / "jobs" / "__init__.py").touch()
    return tmp_path


def test_the_class_of_one_file_is_one_class(folder):
    ways = [way for way in WAYS if way != "an import from its folder" or not (folder / "jobs" / "__init__.py").exists()]
    names, called = zip(*(told(folder, way) for way in ways), strict=True)
    for kind, inner, _ in names:
        assert inner == f"{kind}.Inner"
        assert may_be_one(kind, names[0][0])
        assert all(kind in each for each in called), "each way knows the name that another one records"
    if (folder / "jobs" / "__init__.py").exists():
        assert {tuple(each) for each in names} == {("jobs.nightly.Busy", "jobs.nightly.Busy.Inner", names[0][2])}
    assert all(set(each) <= set(KNOWN) for each in called), "nothing else is its name"


class TestOfAnImportedModule:
    def test_is_that_of_the_class(self):
        assert class_name(subprocess.TimeoutExpired) == "subprocess.TimeoutExpired"
        assert class_name(KeyError) == "KeyError"

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("subprocess.TimeoutExpired", True),
            ("TimeoutExpired", True),
            ("process.TimeoutExpired", False),
            ("subprocess.Timeout", False),
            ("subprocess.TimeoutExpired.More", False),
            ("", False),
        ],
    )
    def test_another_is_none_of_its_names(self, name, expected):
        assert is_called(subprocess.TimeoutExpired, name) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("nightly.Busy", "jobs.nightly.Busy", True),
        ("__main__.Busy", "nightly.Busy", True),
        ("ValueError", "ValueError", True),
        ("ightly.Busy", "nightly.Busy", False),
        ("a.Busy", "b.Busy", False),
    ],
)
def test_whether_two_recorded_names_may_be_of_one_class(one, other, expected):
    assert may_be_one(one, other) is may_be_one(other, one) is expected
