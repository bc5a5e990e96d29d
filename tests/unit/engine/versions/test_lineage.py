"""A training inherits the privacy of the weights that it starts from, and nothing where there are none."""

from types import SimpleNamespace

import pytest

from flow_nexus_neural.coordination.privacy.lineage import FRESH, UNKNOWN, of_training
from flow_nexus_neural.coordination.privacy.spending import PrivacySpent
from flow_nexus_neural.engine.state.advance import Advance
from flow_nexus_neural.engine.versions.lineage import inherited, made_private
from tests.unit.engine.building import training

BARE = of_training("trn_0", 2, None, PrivacySpent(data=("a",)), secure_aggregation=False)
KNOWN = FRESH.model_copy(update={"trainings": (BARE,)})


def test_only_weights_that_it_goes_on_from_are_inherited():
    of = lambda privacy: SimpleNamespace(privacy=privacy)  # noqa: E731
    assert inherited(None, continues=False) == FRESH
    assert inherited(of(KNOWN), continues=False) == FRESH
    assert inherited(of(KNOWN), continues=True) == KNOWN
    assert inherited(of(None), continues=True) == UNKNOWN


@pytest.mark.anyio
async def test_a_round_about_to_be_committed_counts_and_an_unrecorded_start_is_unknown():
    async def offload(work, *arguments):
        return work(*arguments)

    cluster = SimpleNamespace(context=SimpleNamespace(offload=offload))
    own = training()
    advance = Advance(rounds_done=5, inherited=KNOWN)
    made = await made_private(cluster, own, advance)
    assert [(one.training_id, one.rounds) for one in made.trainings] == [
        ("trn_0", 2),
        (own.training_id, 5),
    ]
    assert made.mode == "none"
    assert (await made_private(cluster, own)).mode == "unknown"
