"""A module that no unit or property test beside it imports is tested by accident only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import flow_nexus_neural

SOURCE = Path(flow_nexus_neural.__file__).parent
TESTS = Path(__file__).parents[1]
ROOMS = ("coordination", "kernels", "data", "engine/figures")
"""Folders below the package of which every module is imported by a test beside it or a property test."""
ROOMS_OF_FILES = (
    "engine/autonomy",
    "engine/calls",
    "engine/links",
    "engine/nodes",
    "engine/operations",
    "engine/prediction",
    "engine/raft",
    "engine/state",
    "engine/storage",
    "engine/training",
    "engine/versions",
    "engine/wasm",
)
"""Folders whose modules each have a test file of their own: `room/name.py` in `unit/room/test_name.py`."""


def modules_in(source: Path, room: str) -> list[str]:
    """Dotted names of a folder's modules and those below it, without the package's own name."""
    paths = sorted((source / room).rglob("*.py"))
    named = [path.relative_to(source).with_suffix("") for path in paths]
    return [".".join(path.parts) for path in named if path.name != "__init__"]


def imported_by(path: Path) -> Iterator[str]:
    """Every dotted name that a file imports; `from a import b` is both `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def untested(source: Path, tests: Path, room: str) -> list[str]:
    """Modules of a folder that no file beside them in `tests/unit`, and no property test, imports."""
    files = [*(tests / "unit" / room).rglob("test_*.py"), *(tests / "property").glob("test_*.py")]
    imported = {name for path in files for name in imported_by(path)}
    modules = modules_in(source, room)
    return [name for name in modules if f"{source.name}.{name}" not in imported]


def without_file(source: Path, tests: Path, room: str) -> list[str]:
    """Modules of a folder without a test file of their own, or whose file does not import them."""
    missing = []
    for name in modules_in(source, room):
        *folders, module = name.split(".")
        file = tests.joinpath("unit", *folders, f"test_{module}.py")
        if not file.exists() or f"{source.name}.{name}" not in imported_by(file):
            missing.append(name)
    return missing


def test_every_room_of_the_engine_is_held():
    rooms = {
        path.relative_to(SOURCE).as_posix()
        for path in (SOURCE / "engine").iterdir()
        if any(path.glob("[!_]*.py"))
    }
    # reports: the shapes of replies, without behaviour
    held = {*ROOMS_OF_FILES, *(room for room in ROOMS if room.startswith("engine/"))}
    assert rooms - {"engine/reports"} == held


@pytest.mark.parametrize("room", ROOMS_OF_FILES)
def test_every_module_of_an_engine_room_has_a_test_file_that_imports_it(room):
    assert modules_in(SOURCE, room)
    assert without_file(SOURCE, TESTS, room) == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_is_imported_by_a_test_of_its_own(room):
    assert modules_in(SOURCE, room)
    assert untested(SOURCE, TESTS, room) == []


def test_a_module_without_a_test_is_found_whatever_other_tests_import(tmp_path):
    source, tests = tmp_path / "product", tmp_path / "tests"
    for path, text in {
        "product/room/__init__.py": "",
        "product/room/tested.py": "",
        "product/room/named.py": "",
        "product/room/inner/deep.py": "",
        "product/room/forgotten.py": "",
        "product/room/elsewhere.py": "",
        "tests/unit/room/test_room.py": "from product.room import named\nimport product.room.inner.deep",
        "tests/unit/room/conftest.py": "import product.room.forgotten",
        "tests/property/test_rooms.py": "def test():\n    from product.room.tested import work",
        "tests/unit/other/test_other.py": "from product.room.elsewhere import work",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert untested(source, tests, "room") == ["room.elsewhere", "room.forgotten"]


def test_a_test_file_that_is_missing_or_imports_something_else_is_found(tmp_path):
    source, tests = tmp_path / "product", tmp_path / "tests"
    for path, text in {
        "product/room/__init__.py": "",
        "product/room/tested.py": "",
        "product/room/inner/deep.py": "",
        "product/room/labelled.py": "",
        "product/room/elsewhere.py": "",
        "tests/unit/room/test_tested.py": "from product.room.tested import work",
        "tests/unit/room/inner/test_deep.py": "from product.room.inner import deep",
        "tests/unit/room/test_labelled.py": "from product.room.tested import work",
        "tests/unit/room/test_other.py": "from product.room.elsewhere import work",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert without_file(source, tests, "room") == ["room.elsewhere", "room.labelled"]
