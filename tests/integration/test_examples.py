"""Every example runs as a user would run it, and prints what its expected output promises."""

import os
import sys
from pathlib import Path

import pytest

from readme.expected_output import first_difference
from tests.doubles.programs import run_to_end

EXAMPLES = Path(__file__).resolve().parents[2] / "client_examples"
RUNS = {
    "01_first_cluster.py": ["--epochs=10"],
    "02_neural_trader.py": [],
    "03_federated_learning.py": ["--epochs=1"],
    "04_live_inference.py": ["--epochs=1", "--hours=6", "--cycles=10"],
    "05_kill_a_node.py": ["--epochs=1"],
    "06_trading_system.py": ["--epochs=1", "--cycles=6"],
    "07_see_and_take_away.py": ["--epochs=2"],
}


@pytest.mark.parametrize("script", sorted(RUNS))
def test_an_example_exits_well_and_prints_what_it_promises(script, tmp_path):
    run = run_to_end(
        [sys.executable, str(EXAMPLES / script), *RUNS[script]],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
    expected = (EXAMPLES / "expected" / f"{script[:2]}.txt").read_text().splitlines()
    assert first_difference(expected, run.stdout.splitlines()) is None
    assert list(tmp_path.iterdir()) == [], "the example left files behind"


def test_every_script_of_the_folder_is_run():
    assert sorted(path.name for path in EXAMPLES.glob("[0-9]*.py")) == sorted(RUNS)


def test_a_quick_start_fits_on_a_page():
    assert len((EXAMPLES / "01_first_cluster.py").read_text().splitlines()) < 40
    assert len((EXAMPLES / "client.py").read_text().splitlines()) <= 65
    assert all(len(path.read_text().splitlines()) <= 125 for path in EXAMPLES.glob("[0-9]*.py"))


def test_the_comparison_notices_a_wrong_line_a_missing_line_and_a_further_line():
    expected = ["seed {int}", "* round {int}", "+ loss {float}", "end"]
    assert first_difference(expected, ["seed 1", "loss 0.5", "loss 0.25", "end"]) is None
    assert first_difference(expected, ["seed 1", "round 1", "loss 0.5", "end"]) is None
    assert first_difference(expected, ["seed x", "loss 0.5", "end"]) is not None
    assert first_difference(expected, ["seed 1", "end"]) is not None
    assert first_difference(expected, ["seed 1", "loss 0.5"]) is not None
    assert first_difference(expected, ["seed 1", "loss 0.5", "end", "more"]) is not None
