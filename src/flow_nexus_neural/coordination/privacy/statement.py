"""The words that go with the numbers: what is protected, how it is counted, and what is not covered."""

from dataclasses import dataclass, replace

from flow_nexus_neural.coordination.privacy.settings import PrivacySettings

_MEASURED = "losses, metrics and the number of rounds in status, which are measured without noise"
_HELD_OUT = (
    "rows held out for validation, calibration and test: they choose round, weights, thresholds"
)
_PREPARED = (
    "scaling of columns, class names and class_weight balanced, computed from all training rows"
)
_WHO = "how many rows of which class each worker has, who took part when, and how long it took"
_ELSEWHERE = (
    "trainings of this data set without privacy, in other state directories, or on altered copies"
)


@dataclass(frozen=True)
class Statement:
    """What the epsilon of a mode means.

    Attributes:
        relation: Which two data sets are neighbours.
        sampling: What is gained by sampling.
        unit: What is protected.
        outside: What the numbers do not cover.
    """

    accountant: str
    relation: str
    sampling: str
    conversion: str
    unit: str
    outside: tuple[str, ...]


_CLIENTS = Statement(
    accountant="dp-accounting: get_epsilon_gaussian over all noised sums as one Gaussian mechanism",
    relation="add_or_remove_one",
    sampling="none: clients are asked in turn, so nothing is gained by sampling",
    conversion="exact for Gaussian noise (Balle and Wang, ICML 2018)",
    unit="client: all training rows of one worker, whose shard stays the same during the training",
    outside=(
        _MEASURED,
        _HELD_OUT,
        _PREPARED,
        _WHO,
        "the engine and, under proof-of-learning, verifying nodes: they see single updates or rows",
        _ELSEWHERE,
    ),
)


_CLIENTS_OF_DATA = replace(
    _CLIENTS,
    unit="client: all training rows of one client of the data, which trains by itself",
    outside=(
        _MEASURED,
        _HELD_OUT,
        _PREPARED,
        "which clients there are, how many rows of which class each has, and who took part when",
        "the engine, and every node that is lent the client's rows: they see single updates or rows",
        _ELSEWHERE,
    ),
)


def statement_of(settings: PrivacySettings) -> Statement:
    """The words for the numbers of a training."""
    if settings.mode == "central_dp":
        return _CLIENTS_OF_DATA if settings.of_data else _CLIENTS
    rate = settings.sampling_rate
    return Statement(
        accountant="dp-accounting: RdpAccountant over all steps of one worker",
        relation=(
            "add_or_remove_one row of one worker, all others stay where they are; shards are disjoint, so"
            " workers compose in parallel and the one with most steps counts"
        ),
        sampling=f"Poisson: each row is part of each step with probability {rate:.6g}, drawn in secret"
        if rate < 1
        else "none: every row is part of every step",
        conversion="Renyi divergences to epsilon (Canonne, Kamath, Steinke, NeurIPS 2020)"
        if rate < 1
        else _CLIENTS.conversion,
        unit="record: one training example; a row of a file in several windows is in several examples",
        outside=(
            _MEASURED,
            _HELD_OUT,
            _PREPARED,
            _WHO,
            "the engine, the worker that has the row and, under proof-of-learning, verifying nodes",
            _ELSEWHERE,
        ),
    )
