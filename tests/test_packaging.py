"""What importing szal costs and loads. The child processes are not measured for coverage, which loads modules."""

import os
import subprocess
import sys

CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("COV")}


def child(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=CLEAN, check=True)
    return done.stdout.strip()


def test_import_loads_no_database_library_and_nothing_optional() -> None:
    loaded = child(
        "import szal, sys; print([name for name in "
        "('sqlite_utils', 'sqlite3', 'psycopg', 'psycopg_pool', 'click', 'rich', 'yaml') if name in sys.modules])"
    )
    assert loaded == "[]"


def test_an_engine_without_a_store_loads_no_database_library() -> None:
    loaded = child(
        "import szal, sys; szal.run(szal.FlowDef('f', steps=[szal.StepDef('a')]), handler=lambda ctx: 1);"
        "print([name for name in ('sqlite_utils', 'sqlite3', 'psycopg') if name in sys.modules])"
    )
    assert loaded == "[]"


def test_every_public_name_can_be_had_and_is_documented() -> None:
    import szal

    for name in szal.__all__:
        value = getattr(szal, name)
        assert value.__doc__, name
        assert name in dir(szal)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert child("import szal\ntry: szal.nothing\nexcept AttributeError as e: print(e)") == (
        "module 'szal' has no attribute 'nothing'"
    )
