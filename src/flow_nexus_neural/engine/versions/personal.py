"""Whose own weights answer: those of a slot that, beside the others' answers, make the whole answer better.

After a training all slots of a network group hold one state, and an ensemble of equal models is one model.
Each slot can train on from there, on its own rows. Whether that helps is decided on rows that nobody trained
on, by what a prediction would serve, so that nothing is better in looks only.

Source: Li et al., "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021. Departure:
not each slot's own loss decides, but the loss of the answer of all of them together, and few steps instead of
a penalty keep the weights near the shared ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.version import Bundle
from flow_nexus_neural.engine.versions.served import Logits, serve
from flow_nexus_neural.kernels.ensemble import Fused
from flow_nexus_neural.kernels.probabilities import class_logits
from flow_nexus_neural.kernels.row_losses import row_losses
from flow_nexus_neural.vocabulary import DEFAULT_AGGREGATION

RULE = "personalised"
"""Of the ledger entry of weights that one slot made on its own."""
MOST_TRIED = 16
"""How many numbers of slots are tried; of more slots, so many numbers between one and all."""
ERRORS = 2.0
"""Standard errors by which the answer must get better: it is the best of several that were tried. With one,
four of six trainings on digits and breast_cancer kept own weights, and none decided a test row more rightly.
"""
LEAST_GAIN = 1e-3
"""Share of the loss below which a gain, however sure, is not worth a model for every slot."""
LEAST_CLIENTS = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outputs:
    """What the slots say of rows that nobody trained on.

    Attributes:
        shared: [R, O] by every serving slot, in slot order, with the weights that it shares.
        personal: [R, O] by slots that trained on, with their own weights.
        own_rows: [R] which rows are of the kind that a slot trained on, by these slots.
    """

    shared: Mapping[str, Logits]
    personal: Mapping[str, Logits]
    own_rows: Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Choice:
    """Whose own weights answer, and the numbers behind that.

    Attributes:
        kept: Those slots; none where their weights do not make the answer better.
        reason: Why, or why not.
        shared_loss: Of the answer with the shared weights.
        personal_loss: Of the best answer with own weights.
        standard_error: Of the difference.
        own: Loss with the slot's own weights and with the shared ones on the slot's own rows, by slot.
    """

    kept: tuple[str, ...]
    reason: str
    shared_loss: float
    personal_loss: float
    standard_error: float
    own: Mapping[str, tuple[float, float]]


def choose(bundle: Bundle, schema: DataSchema, rows: Rows, outputs: Outputs) -> Choice:
    """Decide whose own weights answer.

    Slots are taken in one after the other, those first whose own weights gain most on their own rows, and the
    number of them whose answer, combined as a prediction does by default, has the lowest loss is kept; none
    where that is not below the loss with the shared weights by two standard errors, or decides fewer rows
    rightly. Under byzantine consensus the gain must also be one for the middle client of the data.

    Args:
        bundle: Without calibration.
        schema: Of the data.
        rows: Validation rows.
        outputs: Of these rows.
    """
    own = {
        slot: _own_losses(bundle, schema, rows, outputs, slot)
        for slot in sorted(outputs.personal, key=slot_order)
    }
    ranked = sorted(own, key=lambda slot: (own[slot][0] - own[slot][1], slot_order(slot)))
    before = _answer(bundle, schema, rows, outputs, ())
    tried = [
        (ranked[:count], _answer(bundle, schema, rows, outputs, ranked[:count]))
        for count in _counts(len(ranked))
    ]
    best, after = min(tried, key=lambda one: float(one[1].losses.mean()))
    gain = before.losses - after.losses
    error = float(gain.std(ddof=1)) / math.sqrt(gain.size)
    reason = _refusal(bundle, rows, before, after, error)
    kept = () if reason else tuple(sorted(best, key=slot_order))
    return Choice(
        kept=kept,
        reason=reason or f"the answer of all slots is better with {len(kept)} slots' own weights",
        shared_loss=float(before.losses.mean()),
        personal_loss=float(after.losses.mean()),
        standard_error=error,
        own=own,
    )


def with_personal(
    networks: Mapping[str, NetworkGroup], personal: Mapping[str, NetworkGroup]
) -> dict[str, NetworkGroup]:
    """Network groups of which some slots answer with weights of their own.

    Args:
        networks: With shared weights.
        personal: Groups of one slot each, by key.
    """
    apart = {slot for network in personal.values() for slot in network.slots}
    shared = {
        key: replace(network, slots=tuple(slot for slot in network.slots if slot not in apart))
        for key, network in networks.items()
    }
    return {**shared, **personal}


@dataclass(frozen=True)
class _Answered:
    """What an answer is worth, row by row; `hits` is None for values."""

    losses: Floats
    hits: NDArray[np.bool_] | None


def _answer(
    bundle: Bundle, schema: DataSchema, rows: Rows, outputs: Outputs, kept: Sequence[str]
) -> _Answered:
    """The answer of all slots, those that are kept with their own weights."""
    stacked = np.stack(
        [
            np.asarray(outputs.personal[slot] if slot in kept else shared, dtype=np.float64)
            for slot, shared in outputs.shared.items()
        ]
    )
    fused = serve(bundle, schema, DEFAULT_AGGREGATION, stacked, [1.0] * len(stacked)).raw
    hits = None if fused.decisions is None else fused.decisions == rows.y.astype(np.int64)
    return _Answered(_losses(schema, fused, rows), hits)


def _losses(schema: DataSchema, fused: Fused, rows: Rows) -> Floats:
    if fused.probabilities is None:
        standardised = (fused.values - schema.target_mean) / schema.target_sd
        return row_losses(standardised[:, None], rows.y, schema.task)
    return row_losses(class_logits(fused.probabilities), rows.y, schema.task)


def _own_losses(
    bundle: Bundle, schema: DataSchema, rows: Rows, outputs: Outputs, slot: str
) -> tuple[float, float]:
    """Loss of a slot's own weights, and of the shared ones, on rows like those that it trained on."""
    alone = replace(bundle, robust=False)
    own_rows = outputs.own_rows[slot]
    found = []
    for logits in (outputs.personal[slot], outputs.shared[slot]):
        one = np.asarray(logits, dtype=np.float64)[None]
        fused = serve(alone, schema, DEFAULT_AGGREGATION, one, [1.0]).raw
        found.append(float(_losses(schema, fused, rows)[own_rows].mean()))
    return found[0], found[1]


def _counts(slots: int) -> list[int]:
    if slots <= MOST_TRIED:
        return list(range(1, slots + 1))
    return sorted({-(-number * slots // MOST_TRIED) for number in range(1, MOST_TRIED + 1)})


def _refusal(
    bundle: Bundle,
    rows: Rows,
    before: _Answered,
    after: _Answered,
    error: float,
) -> str | None:
    """Why own weights are not kept; None where they are."""
    gain = before.losses - after.losses
    needed = max(ERRORS * error, LEAST_GAIN * float(before.losses.mean()))
    if not float(gain.mean()) > needed:
        return (
            f"own weights do not make the answer better by two standard errors on {gain.size} validation"
            f" rows: {float(gain.mean()):.3g} against {needed:.2g}"
        )
    if before.hits is not None and after.hits is not None and after.hits.sum() < before.hits.sum():
        return "own weights lower the loss but decide fewer validation rows rightly"
    if bundle.robust and not _middle_client_gains(gain, rows):
        return "own weights make the answer better for fewer than half of the data's clients"
    return None


def _middle_client_gains(gain: Floats, rows: Rows) -> bool:
    """Whether the median over clients of the gain is one: a lying client must not decide."""
    clients = np.unique(rows.clients[rows.clients >= 0])
    if len(clients) < LEAST_CLIENTS:
        return True
    return float(np.median([gain[rows.clients == client].mean() for client in clients])) > 0
