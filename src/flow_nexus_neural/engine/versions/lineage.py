"""The privacy of the weights that a training makes: of all that it started from, and its own so far."""

from flow_nexus_neural.coordination.privacy.lineage import (
    FRESH,
    UNKNOWN,
    ModelPrivacy,
    of_training,
    with_training,
)
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.advance import Advance
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.version import CommittedVersion


def inherited(committed: CommittedVersion | None, *, continues: bool) -> ModelPrivacy:
    """What a training starts from.

    Args:
        committed: The version in force.
        continues: Whether any network starts from its weights.
    """
    if committed is None or not continues:
        return FRESH
    return committed.privacy or UNKNOWN


async def made_private(
    cluster: LiveCluster, training: Training, advance: Advance | None = None
) -> ModelPrivacy:
    """The privacy of weights that a training makes now.

    Args:
        cluster: Of the training.
        training: With all that it has spent.
        advance: A round that is about to be committed, in place of the committed ones.

    Raises:
        NotAvailable: Several private trainings are to be composed, and nothing here can compute that.
    """
    reached = advance or training.advance
    own = of_training(
        training.training_id,
        reached.rounds_done,
        training.config.privacy,
        reached.privacy,
        secure_aggregation=training.config.secure_aggregation,
    )
    former = reached.inherited or UNKNOWN
    return await cluster.context.offload(with_training, former, own)
