"""Confined nodes do the arithmetic of a plain PyTorch loop: same data, same order, same result.

The networks are those of the measurements; the rows are few, since two or three steps of every client show a
difference as well as a hundred do.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.rounds import same_work
from bench.work import WORKS, Work, batch_order, client_data, make_model, train_client
from bench.work import pooled_loss as work_loss
from tests.doubles.programs import run_to_end

torch.set_num_threads(
    1
)  # as every contender: threads that wait for each other make a busy machine crawl

ROOT = Path(__file__).resolve().parents[2]
FEW_ROWS = replace(WORKS["W1"], rows=96)
RECURRENT = replace(WORKS["W2"], clients=2, rows=64)


def pooled_loss(contender: str, work: Work, rounds: int) -> float:
    size = (f"--rounds={rounds}", f"--clients={work.clients}", f"--rows={work.rows}")
    command = [sys.executable, "-m", f"bench.contenders.{contender}", work.name, *size]
    done = run_to_end(command, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)["pooled_loss"]


def both(work: Work, rounds: int) -> tuple[float, float]:
    return pooled_loss("ours", work, rounds), pooled_loss("plain", work, rounds)


def test_two_rounds_over_eight_nodes_end_where_the_plain_loop_ends():
    assert same_work(*both(FEW_ROWS, rounds=2))


def test_recurrent_and_attention_layers_end_where_plain_torch_modules_end():
    assert same_work(*both(RECURRENT, rounds=1))


@pytest.mark.parametrize("work", [FEW_ROWS, RECURRENT], ids=lambda work: work.name)
def test_so_few_rows_still_tell_one_order_of_rows_from_another(work: Work):
    def loss(order: np.ndarray) -> float:
        model = make_model(work)
        data = tuple(torch.from_numpy(part) for part in client_data(work, 0))
        train_client(work, model, data, torch.from_numpy(order), fused=False)
        return work_loss(work, model)

    work = replace(work, clients=1)
    order = batch_order(work, 1, 0)
    assert same_work(loss(order), loss(order))
    assert not same_work(loss(order), loss(order[::-1].copy()))
