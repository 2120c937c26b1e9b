"""Flows in the tests of a Django project: in the one transaction that is open there."""

import subprocess
import sys
from pathlib import Path

import pytest
from contrib.sites import environment

import szal_pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
PLUGINS = ("pytest_django.plugin", "szal_pytest", "no:cacheprovider")


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_flows_work_in_the_transaction_of_a_test(request, tmp_path, kind):
    """In django.test.TestCase, and with pytest-django: what there is to it is in django_shop/cases.py."""
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else f"sqlite:///{tmp_path}/app.db"
    variables = environment(tmp_path, DATABASE=url, DJANGO_SETTINGS_MODULE="django_shop.settings")
    places = (str(HERE), str(Path(szal_pytest.__file__).parent))
    variables["PYTHONPATH"] = ":".join([*places, variables["PYTHONPATH"], str(HERE.parent / "contrib")])
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "--reuse-db"]
    command += [word for plugin in PLUGINS for word in ("-p", plugin)]
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = cases.py\n")
    done = subprocess.run(
        [*command, "-c", str(tmp_path / "pytest.ini"), str(HERE / "django_shop" / "cases.py")],
        env=variables | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("12 passed"), done.stdout
