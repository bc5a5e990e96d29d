"""Clients in the user's own data with flipped labels or absurd values: withstood, and named."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from flow_nexus_neural.data import outlying_clients
from flow_nexus_neural.engine.versions import by_client
from tests.doubles.tables import cells
from tests.sim.simulated import world
from tests.sim.test_outvoted_liars import LAYERS, WORKERS

pytestmark = pytest.mark.anyio

POISONED = ("client_03", "client_07")
ABSURD = "features times 1e6"
FLOOD = "flipped labels of ten times as many rows"
POISONS = {
    "flipped labels": lambda x, y: (x, 9 - y),
    ABSURD: lambda x, y: (x * 1e6, y),
    FLOOD: lambda x, y: (np.tile(x, (10, 1)), 9 - np.tile(y, 10)),
}


@pytest.fixture
def folder(tmp_path):
    """A directory of eleven client files and test rows that nobody poisons, as a function of the poison."""

    def write(poison):
        found = load_digits()
        x, y = np.round(found.data / 16, 3), found.target
        order = np.random.Generator(np.random.PCG64(5)).permutation(len(y))
        test, rest = order[:300], order[300:1100]
        place = tmp_path / "digits"
        (place / "train").mkdir(parents=True)
        (place / "test").mkdir()
        parts = [
            (f"train/client_{k:02}", rows) for k, rows in enumerate(np.array_split(rest, WORKERS))
        ]
        for name, rows in [*parts, ("test/all", test)]:
            features, labels = x[rows], y[rows]
            if name.rsplit("/", 1)[1] in POISONED and poison is not None:
                features, labels = POISONS[poison](features, labels)
            lines = [
                json.dumps({f"p{n}": v for n, v in enumerate(row)} | {"label": int(label)})
                for row, label in zip(features.tolist(), labels, strict=True)
            ]
            (place / f"{name}.jsonl").write_text("\n".join(lines))
        return place

    return write


async def trained(tmp_path, place, consensus="byzantine", **more):
    async with world(tmp_path / "state", allow_paths=(place.parent,)) as w:
        cluster = await w.cluster(WORKERS, layers=LAYERS, consensus=consensus)
        options = {"epochs": 15, "local_epochs": 2, "learning_rate": 0.05, "batch_size": 16}
        report = await w.start(
            cluster, str(place), optimizer="sgd", clients_per_round=WORKERS, **options | more
        )
        status = await w.done(cluster)
    assert status.training_status == "completed", status.training_error
    return status, report


@pytest.mark.parametrize("poison", cells(POISONS, telling=(ABSURD, FLOOD)))
async def test_two_poisoned_clients_of_eleven_are_withstood_and_named(tmp_path, folder, poison):
    status, report = await trained(tmp_path, folder(poison))
    assert report.config.partition == "client"
    assert status.global_accuracy > 0.85
    suspected = status.consensus_report["byzantine"]["suspected"]
    assert {name for one in suspected for name in one["clients"]} == set(POISONED)
    if poison == ABSURD:
        assert all(any(f"'{name}'" in said for said in report.warnings) for name in POISONED)


async def test_were_all_validation_rows_scored_together_whoever_has_most_would_choose_the_round(
    tmp_path, folder, monkeypatch
):
    """The control: without the middle client's score the round that is kept is among the worst."""
    place = folder(FLOOD)
    kept, _ = await trained(tmp_path / "kept", place, epochs=10)
    monkeypatch.setattr(by_client, "LEAST_CLIENTS", np.inf)
    chosen, _ = await trained(tmp_path / "chosen", place, epochs=10)
    assert kept.training.best_round > chosen.training.best_round
    assert kept.global_accuracy > chosen.global_accuracy + 0.05


async def test_the_mean_by_rows_learns_what_the_flood_says(tmp_path, folder):
    mean, _ = await trained(
        tmp_path, folder(FLOOD), epochs=10, aggregation_method="federated_averaging"
    )
    assert mean.global_accuracy < 0.5


async def test_were_absurd_values_to_count_for_the_scaling_no_rule_could_help(
    tmp_path, folder, monkeypatch
):
    """The control: what is withstood above does harm."""
    monkeypatch.setattr(outlying_clients, "LIMIT", np.inf)
    status, _ = await trained(tmp_path, folder(ABSURD), epochs=10)
    assert status.global_accuracy < 0.5
