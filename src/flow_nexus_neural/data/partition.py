"""Divides training rows among workers: by capability, at random, by skewed or sorted labels, or by client.

Where every client of the source trains by itself, workers are lent its rows in turn (`rows_of_clients`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.data.table import Indices
from flow_nexus_neural.errors import InvalidDataset
from flow_nexus_neural.vocabulary import EACH_CLIENT, Label, parse_partition, symbols_of

GENERAL = "general"
EVERYONE = "all"
QUOTES = ("usd", "usdt", "usdc", "busd", "eur", "gbp", "btc")
MIN_SHARD_ROWS = 2
DIRICHLET_TRIES = 20

WorkerTags = tuple[str, tuple[str, ...]]
"""A worker's slot and its capabilities."""


@dataclass(frozen=True)
class ShardReport:
    """What is reported about the shard of one slot.

    Attributes:
        rows: Number of rows.
        symbols: Symbols that occur, in the order of the data set's symbols.
        label_balance: Share of every class, by label; None for regression.
    """

    rows: int
    symbols: list[str]
    label_balance: dict[str, float] | None


@dataclass(frozen=True)
class Shards:
    """The rows of every slot.

    Attributes:
        rows: [n] int64 indices into the training rows, by slot in slot order; every row is in one shard.
        groups: Capability group of every slot, for sampling clients.
        report: Report of every slot's shard.
        warnings: For the caller.
        label_counts: Rows of each class of every client that trains by itself; None where slots do.
    """

    rows: dict[str, Indices]
    groups: dict[str, str]
    report: dict[str, ShardReport]
    warnings: list[str] = field(default_factory=list)
    label_counts: Sequence[NDArray[np.float64]] | None = None

    @cached_property
    def heterogeneity(self) -> float | None:
        """How far the shards' label distributions differ from that of all rows together, in [0, 1].

        The mean Jensen-Shannon divergence, base 2, over the shards that have rows, or over the clients that
        train by themselves; None for regression.
        """
        if self.label_counts is not None:
            return _heterogeneity(self.label_counts) if len(self.label_counts) else None
        counts = [
            np.array([*shard.label_balance.values()]) * shard.rows
            for shard in self.report.values()
            if shard.label_balance is not None
        ]
        return _heterogeneity(counts) if counts else None


@dataclass(frozen=True)
class _Assignment:
    rows: list[Indices]
    groups: list[str]
    warnings: list[str] = field(default_factory=list)


def assign_shards(  # noqa: PLR0913 - three of them name what the indices in `train` mean
    train: Rows,
    slots: Sequence[WorkerTags],
    partition: str,
    seed: int,
    *,
    symbols: Sequence[str],
    classes: Sequence[Label] | None,
    clients: Sequence[str],
) -> Shards:
    """Divide the training rows among the slots.

    Args:
        train: Training rows, in time order where they have one.
        slots: (slot, capabilities), in slot order.
        partition: `capability`, `iid`, `dirichlet`, `dirichlet:<alpha>`, `shards`, `shards:<k>`, `client` or
            `each_client`, of which a shard is what a slot is lent in a round of all clients and all slots.
        seed: Of every draw.
        symbols: Names to which `train.symbols` are indices.
        classes: Labels by class index; None for regression.
        clients: Names to which `train.clients` are indices.

    Raises:
        InvalidArguments: If `parse_partition` refuses the partition.
        InvalidDataset: If there are fewer rows, pieces of rows, or clients than slots need.
    """
    if len(train) < len(slots) or not slots:
        raise InvalidDataset(
            f"{len(train)} training rows for {len(slots)} workers",
            hint="every worker needs rows: use more data or fewer workers",
        )
    rng = np.random.Generator(np.random.PCG64([seed, 2]))
    kind, alpha, pieces = parse_partition(partition)
    if kind in ("client", EACH_CLIENT):
        assigned = _by_client(train, slots, clients, whole_slots=kind == "client")
    elif kind == "dirichlet":
        assigned = _by_dirichlet(train, slots, alpha, rng, classes)
    elif kind == "shards":
        assigned = _by_sorted_labels(train, slots, pieces, rng)
    elif kind == "capability" and symbols and (train.symbols >= 0).any():
        assigned = _by_capability(train, slots, symbols)
    else:
        assigned = _at_random(train, slots, rng)
        if kind == "capability":
            assigned.warnings.append(
                "the data have no symbols: rows are dealt at random instead of by capability"
            )
    shards = _shards(train, slots, assigned, symbols, classes)
    counts = _counts_of_clients(train, clients, classes) if kind == EACH_CLIENT else None
    warnings = [*assigned.warnings, *_empty_shards(shards.rows)]
    return replace(shards, warnings=warnings, label_counts=counts)


def rows_of_clients(train: Rows, clients: Sequence[str]) -> dict[str, Indices]:
    """Row numbers of every client that has rows, in the order of `clients`.

    Args:
        train: Training rows.
        clients: Names to which `train.clients` are indices.
    """
    order = np.argsort(train.clients, kind="stable").astype(np.int64)
    bounds = np.searchsorted(train.clients[order], np.arange(len(clients) + 1))
    cut = {name: order[bounds[k] : bounds[k + 1]] for k, name in enumerate(clients)}
    return {name: rows for name, rows in cut.items() if rows.size}


def pooled_shards(
    train: Rows,
    slots: Sequence[WorkerTags],
    *,
    symbols: Sequence[str],
    classes: Sequence[Label] | None,
) -> Shards:
    """All training rows for the first slot, none for the others; arguments as `assign_shards`."""
    if not slots:
        raise InvalidDataset("there is no worker to train on the rows", hint="deploy a worker")
    nothing = np.zeros(0, dtype=np.int64)
    everything = np.arange(len(train), dtype=np.int64)
    rows = [everything, *[nothing] * (len(slots) - 1)]
    return _shards(train, slots, _Assignment(rows, [EVERYONE] * len(slots)), symbols, classes)


def _shards(
    train: Rows,
    slots: Sequence[WorkerTags],
    assigned: _Assignment,
    symbols: Sequence[str],
    classes: Sequence[Label] | None,
) -> Shards:
    rows = dict(zip((slot for slot, _ in slots), assigned.rows, strict=True))
    groups = dict(zip((slot for slot, _ in slots), assigned.groups, strict=True))
    report = {
        slot: ShardReport(len(own), _symbols_in(train, own, symbols), _balance(train, own, classes))
        for slot, own in rows.items()
    }
    return Shards(rows, groups, report)


def owned_symbols(capabilities: Sequence[str], symbols: Sequence[str]) -> list[int]:
    """Indices of the symbols that a worker's capability tags name.

    A tag's word matches a symbol that is it, begins with it before a separator, or is it with a quote
    currency, in any case: `btc` matches BTC, BTC-USD, BTC/EUR and BTCUSDT.
    """
    words = symbols_of(capabilities)
    return [
        index for index, symbol in enumerate(symbols) if not _spellings(symbol).isdisjoint(words)
    ]


def _spellings(symbol: str) -> set[str]:
    lowered = symbol.lower()
    head = re.split(r"[^a-z0-9]+", lowered)[0]
    bases = {head.removesuffix(quote) for quote in QUOTES if head.endswith(quote) and head != quote}
    return {lowered, head, *bases}


def _by_capability(train: Rows, slots: Sequence[WorkerTags], symbols: Sequence[str]) -> _Assignment:
    """Divide the rows of each symbol among its owners and the slots without a symbol, in blocks of time.

    Rows of a symbol that nobody owns are spread over all slots.
    """
    owned = [owned_symbols(capabilities, symbols) for _, capabilities in slots]
    shards: list[list[Indices]] = [[] for _ in slots]
    warnings: list[str] = []
    for index in [*range(len(symbols)), -1]:
        rows = np.flatnonzero(train.symbols == index)
        if not len(rows):
            continue
        claimants = [place for place, own in enumerate(owned) if index in own or not own]
        if not any(index in own for own in owned):
            claimants = list(range(len(slots)))
        blocks = np.array_split(rows, len(claimants))
        for place, block in zip(claimants, blocks, strict=True):
            shards[place].append(block)
    groups = ["+".join(symbols[index] for index in own) or GENERAL for own in owned]
    if all(not own for own in owned):
        warnings.append("no worker has a tag such as btc_analysis: symbols are spread over all")
    return _Assignment([np.sort(_joined(parts)) for parts in shards], groups, warnings)


def _at_random(train: Rows, slots: Sequence[WorkerTags], rng: np.random.Generator) -> _Assignment:
    shuffled = rng.permutation(len(train)).astype(np.int64)
    shards = [np.sort(part) for part in np.array_split(shuffled, len(slots))]
    return _Assignment(shards, [EVERYONE] * len(slots))


def _by_dirichlet(
    train: Rows,
    slots: Sequence[WorkerTags],
    alpha: float,
    rng: np.random.Generator,
    classes: Sequence[Label] | None,
) -> _Assignment:
    """Divide the rows of each class in proportions drawn from Dirichlet(alpha) (Hsu, Qi and Brown 2019).

    A regression target is cut into ten equally full bins first.
    """
    strata = _strata(train, classes)
    wanted = min(MIN_SHARD_ROWS, len(train) // len(slots))
    owner = np.zeros(len(train), dtype=np.int64)
    for _ in range(DIRICHLET_TRIES):
        for stratum in np.unique(strata):
            rows = rng.permutation(np.flatnonzero(strata == stratum))
            shares = np.cumsum(rng.dirichlet(np.full(len(slots), alpha)))[:-1]
            cuts = np.round(shares * len(rows)).astype(np.int64)
            for place, part in enumerate(np.split(rows, cuts)):
                owner[part] = place
        if np.bincount(owner, minlength=len(slots)).min() >= wanted:
            break
    warnings = _fill_up(owner, len(slots), wanted)
    shards = [np.flatnonzero(owner == place) for place in range(len(slots))]
    return _Assignment(shards, [EVERYONE] * len(slots), warnings)


def _by_sorted_labels(
    train: Rows, slots: Sequence[WorkerTags], pieces: int, rng: np.random.Generator
) -> _Assignment:
    """Sort the rows by label, cut them into equal pieces, and deal each slot as many of these at random.

    Source: McMahan et al., AISTATS 2017, section 3, whose pathological partition deals two pieces to each
    client. A regression target is sorted by its value. Rows with equal labels stay in their order.
    """
    wanted = pieces * len(slots)
    if len(train) < wanted:
        raise InvalidDataset(
            f"{len(train)} training rows cannot be cut into {pieces} pieces for each of {len(slots)} workers",
            hint=f"use shards:{max(1, len(train) // len(slots))} at most, or more data",
        )
    cut = np.array_split(np.argsort(train.y, kind="stable").astype(np.int64), wanted)
    dealt = rng.permutation(wanted).reshape(len(slots), pieces)
    shards = [np.sort(np.concatenate([cut[index] for index in own])) for own in dealt]
    return _Assignment(shards, [EVERYONE] * len(slots))


def _fill_up(owner: Indices, n_slots: int, wanted: int) -> list[str]:
    """Move rows from the largest shard to those that are too small."""
    moved = 0
    for place in range(n_slots):
        while (owner == place).sum() < wanted:
            largest = int(np.argmax(np.bincount(owner, minlength=n_slots)))
            owner[np.flatnonzero(owner == largest)[-1]] = place
            moved += 1
    return [f"{moved} rows were moved to shards that the draw left almost empty"] if moved else []


def _strata(train: Rows, classes: Sequence[Label] | None) -> Indices:
    if classes is not None:
        return train.y.astype(np.int64)
    edges = np.quantile(train.y, np.arange(1, 10) / 10)
    return np.searchsorted(edges, train.y).astype(np.int64)


def _counts_of_clients(
    train: Rows, clients: Sequence[str], classes: Sequence[Label] | None
) -> list[NDArray[np.float64]]:
    if classes is None:
        return []
    labels = train.y.astype(np.int64)
    return [
        np.bincount(labels[rows], minlength=len(classes)).astype(np.float64)
        for rows in rows_of_clients(train, clients).values()
    ]


def _by_client(
    train: Rows, slots: Sequence[WorkerTags], clients: Sequence[str], *, whole_slots: bool
) -> _Assignment:
    """Assign whole clients, in the order of their names, to the slots in turn.

    Raises:
        InvalidDataset: A slot would get none, and `whole_slots` says that each must.
    """
    present = [index for index in range(len(clients)) if (train.clients == index).any()]
    if len(present) < len(slots) and whole_slots:
        raise InvalidDataset(
            f"{len(present)} clients with training rows for {len(slots)} workers",
            hint="use fewer workers, or another partition than client",
        )
    owner_of = np.full(len(clients) + 1, -1, dtype=np.int64)
    owner_of[present] = np.arange(len(present)) % len(slots)
    owner = owner_of[train.clients]
    shards = [np.flatnonzero(owner == place) for place in range(len(slots))]
    return _Assignment(shards, [EVERYONE] * len(slots))


def _joined(parts: Sequence[Indices]) -> Indices:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _balance(
    train: Rows, rows: Indices, classes: Sequence[Label] | None
) -> dict[str, float] | None:
    if classes is None:
        return None
    counts = np.bincount(train.y[rows].astype(np.int64), minlength=len(classes))
    total = max(len(rows), 1)
    return {str(label): float(count / total) for label, count in zip(classes, counts, strict=True)}


def _symbols_in(train: Rows, rows: Indices, symbols: Sequence[str]) -> list[str]:
    return [symbols[index] for index in np.unique(train.symbols[rows]) if index >= 0]


def _heterogeneity(counts: Sequence[NDArray[np.float64]]) -> float:
    pool = np.sum(counts, axis=0)
    divergences = [_jensen_shannon(own, pool) for own in counts if own.sum()]
    return float(np.mean(divergences))


def _jensen_shannon(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    p, q = first / first.sum(), second / second.sum()
    middle = (p + q) / 2
    return (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2


def _relative_entropy(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    some = p > 0
    return max(0.0, float((p[some] * np.log2(p[some] / q[some])).sum()))


def _empty_shards(rows: Mapping[str, Indices]) -> list[str]:
    empty = [slot for slot, own in rows.items() if not len(own)]
    return [f"{', '.join(empty[:8])} got no rows and cannot train"] if empty else []
