"""The formats in which clusters are stored, apart from what clients get and from what the engine holds.

Every open part of a row is a JSON object with a format number. Reading one goes through the upgrade steps
from its format to the present one, then into a frozen shape here. Fields that a shape does not know are
ignored and fields that are missing have defaults, so that a field can come and go without a new format. A new
format is needed where the meaning or the place of a field changes: raise `FORMAT`, add the step to
`_UPGRADES`, and keep a state directory of it under `tests/fixtures/state_dirs`.

History of formats:
    1: reports of the engine, as they were sent to clients; no number.
    2: shapes of their own; network groups under `networks`; a training's request and the sha256 of its data.
    3: the ledger of a cluster names the digest of every row of it, and one that it does not name is refused.
"""

from flow_nexus_neural.engine.storage.persisted.base import (
    FORMAT,
    LOST,
    Json,
    Label,
    Part,
    Stored,
    StoredPart,
)
from flow_nexus_neural.engine.storage.persisted.cluster_shapes import (
    StoredBundle,
    StoredCluster,
    StoredConformal,
    StoredDataset,
    StoredFinal,
    StoredGate,
    StoredKept,
    StoredLayout,
    StoredLearnt,
    StoredNetwork,
    StoredRoles,
    StoredSlot,
    StoredSplit,
    StoredState,
    StoredVersion,
)
from flow_nexus_neural.engine.storage.persisted.feedback_shapes import (
    StoredFeedback,
    StoredOutcome,
)
from flow_nexus_neural.engine.storage.persisted.privacy_shapes import StoredModelPrivacy
from flow_nexus_neural.engine.storage.persisted.reading import (
    demands_digests,
    read,
    report,
    understood,
    upgraded,
)
from flow_nexus_neural.engine.storage.persisted.training_shapes import (
    StoredConfig,
    StoredContinuation,
    StoredData,
    StoredGossip,
    StoredProgress,
    StoredProofs,
    StoredResult,
    StoredRound,
    StoredScrutiny,
    StoredSeen,
    StoredSteering,
    StoredTraining,
)

__all__ = [
    "FORMAT",
    "LOST",
    "Json",
    "Label",
    "Part",
    "Stored",
    "StoredBundle",
    "StoredCluster",
    "StoredConfig",
    "StoredConformal",
    "StoredContinuation",
    "StoredData",
    "StoredDataset",
    "StoredFeedback",
    "StoredFinal",
    "StoredGate",
    "StoredGossip",
    "StoredKept",
    "StoredLayout",
    "StoredLearnt",
    "StoredModelPrivacy",
    "StoredNetwork",
    "StoredOutcome",
    "StoredPart",
    "StoredProgress",
    "StoredProofs",
    "StoredResult",
    "StoredRoles",
    "StoredRound",
    "StoredScrutiny",
    "StoredSeen",
    "StoredSlot",
    "StoredSplit",
    "StoredState",
    "StoredSteering",
    "StoredTraining",
    "StoredVersion",
    "demands_digests",
    "read",
    "report",
    "understood",
    "upgraded",
]
