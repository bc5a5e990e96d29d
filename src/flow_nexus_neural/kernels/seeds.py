"""Derives the seed of every random choice from ids, so that a repeated run draws the same numbers."""

import hashlib
import json
from typing import Literal

from flow_nexus_neural.vocabulary import SEED_LIMIT

Purpose = Literal[
    "init",
    "order",
    "dropout",
    "sample",
    "noise",
    "mixup",
    "probe",
    "partition",
    "bootstrap",
    "challenge",
    "election",
    "bucketing",
]


def seed64(run: tuple[int, int], round_number: int, slot: str, step: int, purpose: Purpose) -> int:
    """Derive the seed of one random choice from the ids it belongs to.

    The seed is the first 8 bytes, little endian, of sha256("fnn-rng-1" || JSON of the five arguments), masked
    to 63 bits so that it fits a signed integer on the wire. No generator state is stored: a training resumes
    at any round from the ids alone.

    Args:
        run: (cluster seed, ordinal of the training). Randomly chosen ids are not part of a seed.
        round_number: Round the choice belongs to; 0 outside rounds.
        slot: Slot name; empty for choices that concern the whole cluster.
        step: Counter inside the round, for example the local epoch.
        purpose: Keeps choices of different kinds independent.

    Returns:
        An integer in [0, 2**63).

    Source: counter-based generation, Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3",
    SC 2011. Departure: sha256 instead of Philox, because the key is text and the rate is low.
    """
    key = json.dumps(
        [list(run), round_number, slot, step, purpose], separators=(",", ":"), ensure_ascii=False
    )
    head = hashlib.sha256(b"fnn-rng-1" + key.encode()).digest()[:8]
    return int.from_bytes(head, "little") & (SEED_LIMIT - 1)


def step_seed(seed: int, step: int) -> int:
    """Seed of what is drawn in one step of a longer work: any step can be repeated without those before it.

    Args:
        seed: Of the whole work, in [0, 2**63).
        step: Number of the step in it.

    Returns:
        An integer in [0, 2**63), derived as in `seed64`.
    """
    head = hashlib.sha256(b"fnn-step-1" + f"[{seed},{step}]".encode()).digest()[:8]
    return int.from_bytes(head, "little") & (SEED_LIMIT - 1)
