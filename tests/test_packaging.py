"""What importing szal costs and loads. The child processes are not measured for coverage, which loads modules."""

import ast
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import pytest
from processes import UNMEASURED


def child(code: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=UNMEASURED, check=True)
    return done.stdout.strip()


def test_import_loads_nothing_but_what_is_used() -> None:
    assert child("import szal, sys; print([name for name in sys.modules if name.startswith('szal.')])") == "[]"
    assert child("import szal, sys; szal.StepFailed; print('attr' in sys.modules, 'szal.engine' in sys.modules)") == (
        "True False"
    )


def test_what_a_run_needs_is_no_database_library_and_nothing_optional() -> None:
    loaded = child(
        "import szal, sys; szal.Flow, szal.run; print([name for name in "
        "('sqlite_utils', 'sqlite3', 'psycopg', 'psycopg_pool', 'click', 'rich', 'yaml', 'tenacity', 'secrets',"
        " 'fractions', 'shutil', 'hashlib', 'html', 'szal.stores') if name in sys.modules])"
    )
    assert loaded == "[]"


def test_a_subpackage_is_there_without_an_import_of_its_own() -> None:
    assert child("import szal; print(szal.errors.StepFailed is szal.StepFailed)") == "True"


def test_type_checkers_are_told_where_each_name_is() -> None:
    import szal

    [told] = [node for node in ast.parse(Path(szal.__file__).read_text()).body if isinstance(node, ast.If)]
    places = {name.name: node.module for node in told.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert sorted(places) == sorted(szal.__all__)
    for name, module in places.items():
        assert getattr(szal, name) is getattr(import_module(str(module)), name)


def test_an_engine_without_a_store_loads_no_database_library() -> None:
    loaded = child(
        "import szal, sys; szal.run(szal.FlowDef('f', steps=[szal.StepDef('a')]), handler=lambda ctx: 1);"
        "print([name for name in ('sqlite_utils', 'sqlite3', 'psycopg') if name in sys.modules])"
    )
    assert loaded == "[]"


def test_no_driver_is_imported_before_it_is_used() -> None:
    child("""
        import sys, szal.stores, szal.stores.sink.sink, szal.stores.base, szal.stores.memory.store
        szal.stores.open_store("memory:").close()
        assert not {"sqlite_utils", "psycopg", "psycopg_pool"} & set(sys.modules), "imported"
        assert "SqliteExecutionStore" in dir(szal.stores)
        assert szal.stores.SqliteExecutionStore.connect and "sqlite_utils" in sys.modules
    """)


@pytest.mark.parametrize(
    "hide", ["sys.modules['psycopg_binary'] = sys.modules['psycopg_c'] = None", "sys.modules['psycopg_pool'] = None"]
)
def test_a_missing_driver_says_what_to_install(hide: str) -> None:
    child(f"""
        import sys, ctypes.util
        import szal
        ctypes.util.find_library = lambda name: None
        {hide}
        from szal.errors import MissingDriver
        for use in (lambda: szal.open_store("postgresql://host/app"), lambda: szal.PostgresExecutionStore):
            try:
                use()
            except MissingDriver as error:
                assert 'pip install "psycopg[binary,pool]"' in str(error), error
            else:
                raise AssertionError
        szal.open_store("memory:")
    """)


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


def test_what_decides_on_a_failure_is_loaded_before_there_is_one() -> None:
    child("""
        import os, resource, szal

        class Full(Exception): ...

        opened = []

        def handler(ctx):
            if ctx.attempt > 1:
                return len(opened)
            try:
                while True:
                    opened.append(os.dup(0))
            except OSError as error:
                raise Full from error

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        step = szal.StepDef("a", max_retries=1, retry_delay=0, retry_jitter=0.5, retry_on=["Full", Full])
        assert szal.run(szal.FlowDef("f", steps=[step]), handler=handler).success
    """)
