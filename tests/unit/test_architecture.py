"""The shape of the code base: who may import whom, and how large a file or a function may grow."""

import ast
import os
import shutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "flow_nexus_neural"
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

OFFENCES = {
    "layers": ("kernels/averaging.py", "import flow_nexus_neural.engine.state.changes"),
    "engine-rooms": (
        "engine/versions/commit.py",
        "import flow_nexus_neural.engine.training.exchange",
    ),
    "runtime-layers": (
        "runtime/exec/spawn.py",
        "import flow_nexus_neural.runtime.local.zygote_client",
    ),
    "torch": ("engine/state/changes.py", "import torch"),
    "server-without-torch": ("runtime/process/exits.py", "import flow_nexus_neural.node.service"),
    "pure": ("coordination/quorum.py", "import time"),
    "mcp": ("engine/state/changes.py", "import mcp"),
    "fork-safety": ("node/service.py", "import anyio"),
    "ray": ("runtime/ray/agent.py", "import ray"),
    "extras": ("runtime/process/exits.py", "import pyarrow"),
}


def lint(source: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Run the import contracts over a source tree."""
    chosen = [argument for contract in contracts for argument in ("--contract", contract)]
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("lint-imports")),
            "--config",
            str(ROOT / "pyproject.toml"),
            "--no-cache",
            *chosen,
        ],
        env={**os.environ, "PYTHONPATH": str(source)},
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("contract", OFFENCES)
def test_an_import_against_a_contract_breaks_it(contract, tmp_path):
    source = tmp_path / "src"
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    file, line = OFFENCES[contract]
    offender = source / PACKAGE.name / file
    offender.write_text(offender.read_text() + f"\n{line}\n")
    result = lint(source, contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout


def test_the_code_keeps_all_contracts():
    result = lint(PACKAGE.parent)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(OFFENCES)} kept, 0 broken" in result.stdout


def sources():
    return sorted(PACKAGE.rglob("*.py"))


def test_no_file_outgrows_its_limit():
    long = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in sources()}
    assert {name: n for name, n in long.items() if n > MAX_FILE_LINES} == {}


def test_no_function_outgrows_its_limit():
    long = {}
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                # The docstring explains; it does not make a function harder to follow.
                doc = ast.get_docstring(node, clean=False)
                lines -= len(doc.splitlines()) if doc else 0
                if lines > MAX_FUNCTION_LINES:
                    long[f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"] = lines
    assert long == {}


def test_listing_tools_needs_neither_torch_nor_numpy():
    script = (
        "import sys, flow_nexus_neural.server.app, flow_nexus_neural.server.tools;"
        "print([m for m in ('torch', 'numpy') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def imported(path, known):
    """Which of the known modules a file imports anywhere: at the top, in a function, for types only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found.update(name for name in names if name in known)
    return found


def circle(graph):
    """Modules of one cycle of imports; none where there is no cycle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as found:
        return sorted(set(found.args[1]))
    return []


def test_no_module_imports_itself_through_others_not_even_late_or_for_types():
    paths = {".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts): p for p in sources()}
    graph = {name: imported(path, paths.keys()) - {name} for name, path in paths.items()}
    assert circle(graph) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


OWNED = {
    "state/slots.py": ("Slot", "SlotBook"),
    "state/cluster.py": ("ClusterState",),
    "state/training_record.py": ("Training",),
    "state/autonomy_log.py": ("AutonomyLog",),
    "live.py": ("LiveCluster",),
}


def attributes_of(path, names):
    """Fields that the classes of a file declare or set on themselves."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and node.name in names:
            for inner in ast.walk(node):
                if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                    found.add(inner.target.id)
                if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                    found.add(inner.attr)
    return found


def written_from_outside(source, owned):
    """Assignments to an owned attribute of anything but `self`, as (line, attribute)."""
    found = []
    for node in ast.walk(ast.parse(source)):
        stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del))
        if not stored or node.attr not in owned:
            continue
        if not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            found.append((node.lineno, node.attr))
    return found


def test_only_their_own_methods_write_slots_clusters_and_trainings():
    engine = PACKAGE / "engine"
    owned = set().union(*(attributes_of(engine / file, names) for file, names in OWNED.items()))
    assert {"state", "committed", "last_error", "advance", "run"} <= owned
    offenders = {
        str(path.relative_to(engine)): found
        for path in engine.rglob("*.py")
        if (found := written_from_outside(path.read_text(), owned))
    }
    assert offenders == {}
    assert written_from_outside("slot.last_error = 'x'\nself.last_error = 'y'", owned) == [
        (1, "last_error")
    ]
