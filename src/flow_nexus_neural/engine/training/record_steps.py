"""DP-SGD in the workers: each exchange is charged, durably, before a worker is asked, and gets own keys."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from flow_nexus_neural.coordination.privacy.settings import PrivacySettings
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.training.charging import charge, secret_of
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.engine.training.tasks import Task
from flow_nexus_neural.protocol.messages import PrivateSteps


@dataclass
class RecordSteps:
    """The private steps of one training.

    The secret is that of the training (`charging.secret_of`). No key serves two assignments, also not those
    of a round that is tried again: two sums with the same noise would tell their difference.
    """

    cluster: LiveCluster
    training: Training
    settings: PrivacySettings
    _secret: bytes = field(init=False, repr=False)
    _assignments: int = 0

    def __post_init__(self) -> None:
        self._secret = secret_of(self.cluster)

    async def charged(self, exchange: Exchange, tasks: Sequence[Task]) -> list[Task]:
        """The same tasks with their noise, all steps of which are paid for.

        Raises:
            PrivacyBudgetSpent: They would exceed a limit; nobody is to be asked.
            StoreUnavailable: They could not be charged durably; nobody is to be asked.
        """
        steps = {task.slot.name: exchange.steps_of(task.slot.name, task.passes) for task in tasks}
        await charge(self.cluster, self.training, steps)
        return [replace(task, private=self._order(exchange, task.slot.name)) for task in tasks]

    def _order(self, exchange: Exchange, slot: str) -> PrivateSteps:
        settings, number = self.settings, self._assignments
        self._assignments += 1
        derived = hashlib.sha256(b"fnn-record-1" + self._secret + number.to_bytes(8, "big"))
        return PrivateSteps(
            key=derived.hexdigest(),
            sampling_rate=settings.sampling_rate,
            steps=settings.steps,
            clip_norm=settings.clip_norm,
            noise_multiplier=settings.noise_multiplier,
            expected_rows=settings.sampling_rate * exchange.rows_of(slot),
        )
