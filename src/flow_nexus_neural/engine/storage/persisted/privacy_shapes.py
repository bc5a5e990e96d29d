"""Stored shapes of the privacy of a model's weights: of each training in them, and by data set."""

from flow_nexus_neural.engine.storage.persisted.base import Stored


class StoredTrainingPrivacy(Stored):
    """What one training has cost; of one without privacy there are no numbers."""

    training_id: str
    mode: str
    rounds: int = 0
    data: tuple[str, ...] = ()
    secure_aggregation: bool = False
    epsilon: float | None = None
    delta: float | None = None
    noise_multiplier: float | None = None
    clip_norm: float | None = None
    sums: int | None = None
    sampling_rate: float | None = None
    target_epsilon: float | None = None
    max_epsilon: float | None = None
    epsilon_of_data: float | None = None
    accountant: str | None = None
    relation: str | None = None
    sampling: str | None = None
    conversion: str | None = None
    unit: str | None = None
    protects: str | None = None


class StoredDataPrivacy(Stored):
    """What all trainings on one data set have cost together."""

    data: tuple[str, ...] = ()
    trainings: tuple[str, ...] = ()
    mode: str
    epsilon: float | None = None
    delta: float | None = None
    protects: str | None = None


class StoredModelPrivacy(Stored):
    """The privacy of a model."""

    mode: str
    epsilon: float | None = None
    delta: float | None = None
    data_sets: tuple[StoredDataPrivacy, ...] = ()
    trainings: tuple[StoredTrainingPrivacy, ...] = ()
