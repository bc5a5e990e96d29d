"""Words and bounds that several packages share, each of them defined once.

Importing this module loads neither numpy nor the engine, so that the tool list needs neither.
"""

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
Task = Literal["binary", "multiclass", "regression"]
PartitionKind = Literal["capability", "iid", "dirichlet", "client"]
SourceKind = Literal["builtin", "file", "directory", "inline"]
TrainingStatus = Literal["running", "completed", "early_stopped", "stopped", "failed"]
Detail = Literal["summary", "nodes", "full"]
"""How much a cluster's status tells."""
AnswerDetail = Literal["default", "full"]
"""How much a prediction tells; `full` lists every node's answers even for a large batch."""
Until = Literal["change", "done"]
"""What a status call waits for: any change of the cluster, or the end of the training."""
Applies = Literal["now", "next_round"]
"""When a change of nodes or links takes effect; a running training takes it at its next round."""
Label = str | int | float | bool
"""A class as it is written in the data."""

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
    "client": "whole clients of the source",
}

Number = TypeVar("Number", int, float)


class Bounds(NamedTuple, Generic[Number]):
    """Smallest and largest value that is accepted."""

    low: Number
    high: Number


SEED_LIMIT: Final = 1 << 63
"""Seeds are below it, so that they fit a signed integer of 64 bits."""
CLUSTER_NAME_LENGTH: Final = Bounds(1, 64)
PROTOCOL_NAME_LENGTH: Final = Bounds(1, 120)
"""Of networks, regions, arrays and tensors, between the engine and a node."""
CAPABILITY_PATTERN: Final = r"^[A-Za-z0-9_.:-]{1,48}$"
MAX_CAPABILITIES: Final = 16
EPOCHS: Final = Bounds(1, 1000)
"""Passes over the rows, or rounds of federated training."""
LOCAL_EPOCHS: Final = Bounds(1, 50)
CLIENTS: Final = Bounds(1, 64)
DEPLOY_COUNT: Final = Bounds(1, 64)
"""Workers that take part in one round."""
BATCH_SIZE: Final = Bounds(1, 512)
LEARNING_RATE: Final = Bounds(1e-5, 1)
WINDOW: Final = Bounds(2, 512)
"""Rows of a sequence."""
HORIZON: Final = Bounds(0, 512)
"""Rows ahead from which the label is taken."""
MIN_ROWS: Final = 30
"""Fewest rows that can be divided into training and test rows."""
WAIT_S: Final = Bounds(0, 25)
DEADLINE_MS: Final = Bounds(10, 20_000)
ALPHA: Final = Bounds(0.001, 1000.0)
"""Of the Dirichlet distribution. At the low end nearly every class goes to one worker as a whole; at the
high end shares differ by about 3 percent of their mean. Values beyond change the shards no further."""
DEFAULT_ALPHA: Final = 0.5

_ANALYSIS = "_analysis"
_OF_EVERY_WORKER = frozenset({"training", "inference"})


@dataclass(frozen=True, slots=True)
class Capability:
    """What a capability tag means.

    Attributes:
        name: The tag, in lower case if it is known, because the case of a known tag means nothing.
        symbol: Lower-case symbol of a tag `<symbol>_analysis`; None for every other tag.
        has_effect: Whether the tag is known. `training` and `inference` are: they say what every worker
            does. Any other tag is only stored.
    """

    name: str
    symbol: str | None
    has_effect: bool


def parse_capability(tag: str) -> Capability:
    """Read a tag; `BTC_Analysis`, `btc_analysis` and `BTC_analysis` are one."""
    lowered = tag.lower()
    symbol = lowered.removesuffix(_ANALYSIS)
    if symbol and symbol != lowered:
        return Capability(lowered, symbol, has_effect=True)
    if lowered in _OF_EVERY_WORKER:
        return Capability(lowered, None, has_effect=True)
    return Capability(tag, None, has_effect=False)


def symbols_of(tags: Iterable[str]) -> tuple[str, ...]:
    """Lower-case symbols that the tags name, sorted, none twice."""
    found = {parse_capability(tag).symbol for tag in tags}
    return tuple(sorted(symbol for symbol in found if symbol is not None))


def capability_names(tags: Iterable[str]) -> frozenset[str]:
    """The tags as a set that can be compared: two sets that mean the same are equal."""
    return frozenset(parse_capability(tag).name for tag in tags)


class Partition(NamedTuple):
    """How training rows are divided among workers.

    Attributes:
        alpha: Of `dirichlet`: the smaller, the more the workers' classes differ. Others do not read it.
    """

    kind: PartitionKind
    alpha: float = DEFAULT_ALPHA


def parse_partition(text: str) -> Partition:
    """Read a partition such as `iid` or `dirichlet:0.5`, in any case.

    Raises:
        InvalidArguments: If the kind is unknown, or alpha is no number within `ALPHA`.
    """
    word, _, number = text.strip().lower().partition(":")
    kind = next((known for known in get_args(PartitionKind) if known == word), None)
    if kind is None or (number and kind != "dirichlet"):
        raise InvalidArguments(
            f"partition {text[:40]!r} is unknown",
            hint="use capability, iid, dirichlet, dirichlet:<alpha> or client",
        )
    if not number:
        return Partition(kind)
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
