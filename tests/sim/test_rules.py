"""Rules of aggregation end to end: chosen by name, told in the ledger, judged by an attack that bites."""

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus import registry
from flow_nexus_neural.coordination.consensus.federated_methods import METHODS
from flow_nexus_neural.coordination.consensus.policy import Combined
from tests.doubles.tables import cells
from tests.sim.simulated import AT_THE_END, blobs, world
from tests.sim.test_lying_nodes import lying, publishes

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_out_of_fold")]

HUGE = 1e6
"""Weights that are finite and have their digest, so that no check refuses them."""
SPOILT_BY_ONE = {"federated_averaging", "fedprox"}
"""Registered rules of which nobody says that they resist; any other one has to."""
TRUSTING = {method.name for method in METHODS}
"""Go where the mean points, but in steps of their own; see `test_federated_methods.py`."""
WORKERS = {"bulyan": 7, "coordinate_median": 3, "auto": 3, "Middle": 3}
"""How many train; 5 if not named: of three, rules that choose among updates leave a third of the rows out."""


class Middle:
    """The middle of every coordinate, and nothing else that a real rule thinks of."""

    name = "middle_of_each"
    aliases = ("middle",)

    def combine(self, base, updates, rows):
        return Combined(
            {
                name: np.median([update[name] for update in updates], axis=0).astype("f4")
                for name in updates[0]
            },
            weights=None,
        )


@pytest.fixture(autouse=True)
def with_one_more(monkeypatch):
    monkeypatch.setattr(registry, "POLICIES", (*registry.POLICIES, Middle()))


async def trained(tmp_path, method, service=None):
    """The status after a training and the rules that its ledger names."""
    told = {} if service is None else {"service": service}
    async with world(tmp_path, **told) as w:
        # Not proof-of-learning, the default: it excludes the liar before any rule sees its update.
        consensus = "raft" if method in SPOILT_BY_ONE else "byzantine"
        cluster = await w.cluster(WORKERS.get(method, 5), consensus=consensus)
        rows = 240
        if registry.needs_trusted_rows(method):
            await w.deploy(cluster, "validator")
            rows = 900
        status = await w.train(
            cluster, blobs(rows), epochs=12, learning_rate=0.05, aggregation_method=method
        )
        versions = await w.versions(cluster)
    assert status.training_status == "completed", status.training_error
    return status, {version["rule"] for version in versions} - AT_THE_END


LIAR = lying(publishes(HUGE, honest_digest=False))


@pytest.mark.parametrize(
    "method",
    cells(
        sorted(
            {p.name for p in registry.POLICIES} - SPOILT_BY_ONE - TRUSTING
            | {"Middle", "nnm+caf", "arc+krum"}
        ),
        telling=("Middle", "auto", "fltrust", "krum", "nnm+caf"),
    ),
)
async def test_a_robust_rule_learns_as_well_with_a_lying_worker_as_without(tmp_path, method):
    honest, rules = await trained(tmp_path / "honest", method)
    name = registry.find_policy(method).name
    assert rules == {name}
    assert honest.training_sessions[-1].status == "completed"
    assert any(name in note for note in honest.guarantees.notes)
    lied, rules = await trained(tmp_path / "lied", method, LIAR)
    assert rules == {name}
    assert honest.global_accuracy > 0.8
    assert lied.global_accuracy > honest.global_accuracy - 0.1
    assert lied.training.val_loss < honest.training.val_loss + 0.2


@pytest.mark.parametrize("method", cells(sorted(SPOILT_BY_ONE), telling=("federated_averaging",)))
async def test_the_same_worker_spoils_a_rule_that_is_not_robust(tmp_path, method):
    honest, _ = await trained(tmp_path / "honest", method)
    lied, rules = await trained(tmp_path / "lied", method, LIAR)
    assert rules == {method}
    assert honest.global_accuracy > 0.8
    # Served probabilities are at least 1e-6, so no log loss is above 13.8: this is close to it.
    assert lied.training.val_loss > 10 * honest.training.val_loss
