"""Names, bounds and parsers that several packages share.

Importing this module loads neither numpy nor the engine, so that tools can be listed without them.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, Literal, NamedTuple, TypeVar, get_args

from flow_nexus_neural.errors import InvalidArguments

Topology = Literal["mesh", "ring", "star", "hierarchical"]
Architecture = Literal["transformer", "cnn", "rnn", "gnn", "hybrid"]
Consensus = Literal["proof-of-learning", "byzantine", "raft", "gossip"]
Role = Literal["worker", "parameter_server", "aggregator", "validator"]
ModelSize = Literal["base", "large", "xl", "custom"]
Optimizer = Literal["adam", "sgd", "rmsprop", "adagrad"]
Aggregation = Literal["mean", "majority", "weighted", "ensemble"]
PlotKind = Literal[
    "learning_curve",
    "topology",
    "reliability",
    "confusion",
    "latency",
    "node_weights",
    "predictions",
]
PlotFormat = Literal["png", "svg", "mermaid", "text"]
ExportFormat = Literal["safetensors", "onnx", "keras", "predictor", "wasm"]
Task = Literal["binary", "multiclass", "regression"]
TaskKind = Literal["classification", "regression"]
TASK_KINDS: tuple[TaskKind, ...] = get_args(TaskKind)
PartitionKind = Literal["capability", "iid", "dirichlet", "shards", "client", "each_client"]
SourceKind = Literal["builtin", "file", "directory", "inline", "feedback"]
TrainingStatus = Literal["running", "completed", "early_stopped", "stopped", "failed"]
ENDED_WELL: Final[frozenset[TrainingStatus]] = frozenset({"completed", "early_stopped"})
"""Of a training that has led to its final model."""
Detail = Literal["summary", "nodes", "full", "versions"]
"""How much a cluster's status contains."""
AnswerDetail = Literal["default", "full"]
"""How much a prediction contains; `full` lists every node's answers even for a large batch."""
Until = Literal["change", "done"]
"""What a status call waits for: any change of the cluster, or the end of the training."""
Applies = Literal["now", "next_round"]
"""When a change of nodes or links takes effect; during a training, at its next round."""
SIGNIFICANT_DIGITS: Final = 6
"""Of every float that a caller gets, in a reply or in a file."""
Label = str | int | float | bool
"""A class as it is written in the data."""
NO_QUORUM: Final = "no_quorum"
"""In place of a decision: too few nodes answered, or voted alike, for one although some may lie."""

TOPOLOGIES: Final[dict[Topology, str]] = {
    "mesh": "every node is linked to every other",
    "ring": "every node is linked to two others",
    "star": "every node is linked to one hub",
    "hierarchical": "a tree: root, aggregators, workers",
}
ARCHITECTURES: Final[dict[Architecture, str]] = {
    "transformer": "attention over the sequence",
    "cnn": "convolutions along the sequence",
    "rnn": "recurrent layers",
    "gnn": "graph layers",
    "hybrid": "rnn, cnn and transformer in turn",
}
ROLES: Final[dict[Role, str]] = {
    "worker": "is trained and answers predictions",
    "parameter_server": "hub of a star and root of a hierarchy",
    "aggregator": "inner vertex of a hierarchy",
    "validator": "evaluates the model on rows kept from training",
}
DEFAULT_AGGREGATION: Final[Aggregation] = "mean"
"""Of a prediction that names none; the headline numbers of status are those of this one."""
AGGREGATIONS: Final[dict[Aggregation, str]] = {
    "mean": "the mean of the answers",
    "majority": "the share of votes, or the median of values",
    "weighted": "the answers weighted by the caller, else by their loss",
    "ensemble": "as weighted, until a network that combines answers is trained",
}
PARTITIONS: Final[dict[PartitionKind, str]] = {
    "capability": "rows of a symbol to the workers with its tag",
    "iid": "rows at random",
    "dirichlet": "every class by shares drawn from a Dirichlet distribution",
    "shards": "a few pieces each of the rows sorted by label",
    "client": "whole clients of the source",
    "each_client": "every client of the source trains by itself",
}
EACH_CLIENT: Final[PartitionKind] = "each_client"

Number = TypeVar("Number", int, float)


class Bounds(NamedTuple, Generic[Number]):
    """Smallest and largest accepted value."""

    low: Number
    high: Number


SEED_LIMIT: Final = 1 << 63
"""Upper limit of seeds, exclusive, so that they fit a signed 64-bit integer."""
CLUSTER_NAME_LENGTH: Final = Bounds(1, 64)
PROTOCOL_NAME_LENGTH: Final = Bounds(1, 120)
"""Length of the names of networks, regions, arrays and tensors in the node protocol."""
CAPABILITY_PATTERN: Final = r"^[A-Za-z0-9_.:-]{1,48}$"
MAX_CAPABILITIES: Final = 16
MAX_NODES_PER_PROCESS: Final = 64
"""The engine deals out no more to one process, and a process takes in no more."""
EPOCHS: Final = Bounds(1, 1000)
"""Passes over the rows, or rounds of federated training."""
PATIENCE: Final = Bounds(0, 1000)
"""Rounds without a better validation loss after which a training ends; 0 for never."""
LOCAL_EPOCHS: Final = Bounds(1, 50)
CLIENTS: Final = Bounds(1, 10_000)
"""Workers that train in one round, or clients of the data."""
BYZANTINE_F: Final = Bounds(0, 31)
"""Lying workers that a round tolerates; fewer than half of those that take part."""
PROXIMAL_MU: Final = Bounds(0.0, 1e6)
"""Weight of FedProx's proximal term; 0 is federated averaging."""
SERVER_LEARNING_RATE: Final = Bounds(1e-5, 100.0)
SERVER_MOMENTUM: Final = Bounds(0.0, 0.999)
"""Share of the server's momentum that is kept from round to round."""
DEPLOY_COUNT: Final = Bounds(1, 64)
"""Nodes of one deploy."""
BATCH_SIZE: Final = Bounds(1, 512)
LEARNING_RATE: Final = Bounds(1e-5, 1)
CLASS_WEIGHT: Final = Bounds(1e-6, 1e6)
"""What the rows of a class count in a training; a class that counts nothing would not be learnt."""
THRESHOLD: Final = Bounds(1e-5, 1 - 1e-5)
"""Of P(positive class). Probabilities are clipped a little outside of it, which thus changes no decision."""
DEFAULT_THRESHOLD: Final = 0.5
BALANCED: Final = "balanced"
"""The class_weight with which every class counts the same in total."""
WINDOW: Final = Bounds(2, 512)
"""Number of rows in a sequence."""
HORIZON: Final = Bounds(0, 512)
"""How many rows ahead the label is taken."""
FOLDS: Final = Bounds(2, 50)
"""Folds of a walk-forward split."""
DEFAULT_FOLDS: Final = 5
MIN_ROWS: Final = 30
"""Fewest rows that can be divided into training and test rows."""
WAIT_S: Final = Bounds(0, 25)
DEADLINE_MS: Final = Bounds(10, 20_000)
ALPHA: Final = Bounds(0.001, 1000.0)
"""Parameter of the Dirichlet distribution. At the low end nearly every class goes to one worker as a whole;
at the high end shares differ by about 3 percent of their mean. Values beyond change the shards no further."""
DEFAULT_ALPHA: Final = 0.5
PIECES: Final = Bounds(1, 100)
"""Pieces of the rows sorted by label that each worker gets."""
DEFAULT_PIECES: Final = 2
"""As in McMahan et al. 2017: most workers then have two classes."""

_ANALYSIS = "_analysis"
_OF_EVERY_WORKER = frozenset({"training", "inference"})


@dataclass(frozen=True, slots=True)
class Capability:
    """A parsed capability tag.

    Attributes:
        name: The tag, in lower case if it is known, because known tags are case-insensitive.
        symbol: Lower-case symbol of a tag `<symbol>_analysis`; None for every other tag.
        has_effect: Whether the tag is known: `<symbol>_analysis`, or `training` and `inference`, which apply
            to every worker. Any other tag is only stored.
    """

    name: str
    symbol: str | None
    has_effect: bool


def parse_capability(tag: str) -> Capability:
    """Parse a tag; `BTC_Analysis`, `btc_analysis` and `BTC_analysis` are equal."""
    lowered = tag.lower()
    symbol = lowered.removesuffix(_ANALYSIS)
    if symbol and symbol != lowered:
        return Capability(lowered, symbol, has_effect=True)
    if lowered in _OF_EVERY_WORKER:
        return Capability(lowered, None, has_effect=True)
    return Capability(tag, None, has_effect=False)


def symbols_of(tags: Iterable[str]) -> tuple[str, ...]:
    """Lower-case symbols of the tags, sorted, without duplicates."""
    found = {parse_capability(tag).symbol for tag in tags}
    return tuple(sorted(symbol for symbol in found if symbol is not None))


def capability_names(tags: Iterable[str]) -> frozenset[str]:
    """Canonical names of the tags: two lists of tags with the same meaning give equal sets."""
    return frozenset(parse_capability(tag).name for tag in tags)


class Partition(NamedTuple):
    """How training rows are divided among workers.

    Attributes:
        alpha: Parameter of `dirichlet`, unused otherwise: the smaller, the more the workers' classes differ.
        pieces: Of each worker, under `shards`; unused otherwise.
    """

    kind: PartitionKind
    alpha: float = DEFAULT_ALPHA
    pieces: int = DEFAULT_PIECES


def parse_partition(text: str) -> Partition:
    """Parse a partition such as `iid`, `dirichlet:0.5` or `shards:2`, case-insensitively.

    Raises:
        InvalidArguments: If the kind is unknown, or its number is not one within `ALPHA` or `PIECES`.
    """
    word, colon, number = text.strip().lower().partition(":")
    kind = next((known for known in get_args(PartitionKind) if known == word), None)
    if kind is None or (colon and kind not in ("dirichlet", "shards")):
        raise InvalidArguments(
            f"partition {text[:40]!r} is unknown",
            hint="use capability, iid, dirichlet, dirichlet:<alpha>, shards, shards:<k>, client or"
            " each_client",
        )
    if not colon:
        return Partition(kind)
    if kind == "shards":
        return Partition(kind, pieces=_pieces(text, number))
    try:
        alpha = float(number)
    except ValueError:
        alpha = float("nan")
    if not ALPHA.low <= alpha <= ALPHA.high:
        raise InvalidArguments(
            f"partition {text[:40]!r}: alpha must be a number from {ALPHA.low:g} to {ALPHA.high:g}",
            hint="for example dirichlet:0.5; a small alpha makes the workers' classes differ more",
        )
    return Partition(kind, alpha)


def _pieces(text: str, number: str) -> int:
    if number.isdecimal() and len(number) <= 3 and PIECES.low <= int(number) <= PIECES.high:
        return int(number)
    raise InvalidArguments(
        f"partition {text[:40]!r}: k must be a whole number from {PIECES.low} to {PIECES.high}",
        hint="for example shards:2; with fewer pieces the workers' classes differ more",
    )


def round_float(value: float) -> float | None:
    """Round to six significant digits; None if the value is not finite."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None


RaftRole = Literal["follower", "precandidate", "candidate", "leader"]
RaftRefusal = Literal[
    "not_leader", "handing_over", "own_term", "change_pending", "more_than_one", "no_voters"
]
"""Why a leader does not append: it is none, its successor takes over, it has committed nothing of its term
yet, an earlier change is not committed, or the change is of more than one voter or leaves none."""

BY_OUTCOMES = "outcomes"
"""The source of weights that outcomes moved."""
