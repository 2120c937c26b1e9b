"""The contract of stores finds out what a store of one's own does not keep to."""

import copy
import subprocess
import sys
import threading

import pytest
from processes import UNMEASURED

from szal import ExecutionOwned
from szal.testing.store_contract import StoreContract


class Store:
    """A store that somebody else wrote."""

    def __init__(self):
        self._lock = threading.Lock()
        self._records = {}

    def save(self, record):
        with self._lock:
            self._records[record.execution_id] = copy.deepcopy(record)

    def get(self, execution_id):
        with self._lock:
            return copy.deepcopy(self._records.get(execution_id))

    def list(self, flow_name=None):
        with self._lock:
            return [name for name, record in self._records.items() if flow_name in (None, record.flow_name)]

    def remove(self, execution_id):
        with self._lock:
            return self._records.pop(execution_id, None)


class TestAStoreOfOnesOwn(StoreContract):
    @pytest.fixture
    def store(self):
        return Store()


class KeepsTheObject(Store):
    def save(self, record):
        self._records[record.execution_id] = record

    def get(self, execution_id):
        return self._records.get(execution_id)


class KnowsNoFlows(Store):
    def list(self, flow_name=None):
        return super().list()


class RemovesLoudly(Store):
    def remove(self, execution_id):
        return self._records.pop(execution_id)


class KeepsTheFirst(Store):
    def save(self, record):
        self._records.setdefault(record.execution_id, copy.deepcopy(record))


@pytest.mark.parametrize(
    ("flawed", "found_by"),
    [
        (KeepsTheObject, StoreContract.test_a_later_change_of_an_object_does_not_leak_in),
        (KnowsNoFlows, StoreContract.test_a_second_save_replaces_the_first),
        (RemovesLoudly, StoreContract.test_what_is_not_there_is_none),
        (KeepsTheFirst, StoreContract.test_an_engine_records_its_runs_in_it),
    ],
)
def test_a_flaw_fails_the_test_that_tells_of_it(flawed, found_by):
    with pytest.raises((AssertionError, KeyError, ExecutionOwned)):
        found_by(StoreContract(), flawed())


def test_without_pytest_it_says_what_to_install():
    code = "import sys; sys.modules['pytest'] = None; import szal.testing; import szal.testing.store_contract"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=UNMEASURED)
    assert done.stderr.endswith("ImportError: szal.testing.store_contract is made of tests: pip install pytest\n")
