"""Charges noised sums of a private training to its budget: durably, before anything of them exists."""

from collections.abc import Mapping
from dataclasses import replace

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.storage.cluster_rows import training_row
from flow_nexus_neural.errors import PrivacyBudgetSpent
from flow_nexus_neural.kernels.privacy.keystream import KEY_BYTES


def secret_of(cluster: LiveCluster) -> bytes:
    """What all noise of one training is drawn from: new, of `KEY_BYTES` bytes.

    It is kept in the engine's memory only and ends with the training: after a restart there is another one.
    """
    return cluster.context.ports.random_bits(8 * KEY_BYTES).to_bytes(KEY_BYTES, "big")


async def charge(cluster: LiveCluster, training: Training, more: Mapping[str, int]) -> None:
    """Count sums against the budget of the data set, one training of the engine at a time.

    Args:
        cluster: Of the training.
        training: With privacy.
        more: Sums of each slot that is asked.

    Raises:
        PrivacyBudgetSpent: It would exceed a limit; nothing is charged.
        StoreUnavailable: It could not be charged durably.
        UnsupportedCombination: Another training has spent what cannot be counted with these sums.
    """
    context, settings = cluster.context, training.config.privacy
    if settings is None:
        raise ValueError(f"training {training.training_id} is not private")
    async with context.charging:
        stored = await context.store.privacy_spending()
        spent = training.advance.privacy
        earlier = [
            one.sums
            for one in stored
            if one.training_id != training.training_id and one.concerns(spent.data)
        ]
        spent = await context.offload(spent.charged, more, settings, earlier)
        why = spent.exceeds(settings)
        if why is not None:
            raise PrivacyBudgetSpent(
                f"the privacy budget is spent: {why}",
                hint="raise the limit or noise_multiplier, or train on other rows",
            )
        row = training_row(cluster.cluster_id, training, replace(training.advance, privacy=spent))
        await cluster.ledger.record([training.entry("privacy_charged")], [row])
        training.note_privacy(spent)
