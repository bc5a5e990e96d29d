"""Confined nodes do the arithmetic of a plain PyTorch loop: same data, same order, same result."""

import json
import subprocess
import sys
from pathlib import Path

from bench.rounds import same_work

ROOT = Path(__file__).resolve().parents[2]


def pooled_loss(contender: str, work: str, rounds: int) -> float:
    run = subprocess.run(
        [sys.executable, "-m", f"bench.contenders.{contender}", work, f"--rounds={rounds}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)["pooled_loss"]


def test_two_rounds_over_eight_nodes_end_where_the_plain_loop_ends():
    assert same_work(pooled_loss("ours", "W1", 2), pooled_loss("plain", "W1", 2))


def test_recurrent_and_attention_layers_end_where_plain_torch_modules_end():
    assert same_work(pooled_loss("ours", "W2", 1), pooled_loss("plain", "W2", 1))
