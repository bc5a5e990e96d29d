"""What privacy costs: each step beside its plain counterpart, in processor time of one thread.

    python -m bench.privacy

Of 8 clients with 1e6 parameters: the mask of a pair beside numpy's Mersenne Twister of the same length; the
work of one node and of the engine for a secure sum, and clipping and noise, beside the plain mean. Without
transport. Medians of pairs that ran one after the other.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.private_averaging import PrivateAveraging
from flow_nexus_neural.kernels.privacy.gaussian import gaussian_noise
from flow_nexus_neural.kernels.secure.masks import (
    Words,
    add_mask,
    decode,
    encode,
    mask,
    subtract_mask,
)

CLIENTS, PARAMETERS, PAIRS = 8, 1_000_000, 7


def cpu_ms(work: Callable[[], object]) -> float:
    """Processor milliseconds of this thread."""
    began = time.thread_time()
    work()
    return 1000 * (time.thread_time() - began)


def compared(name: str, dear: Callable[[], object], plain: Callable[[], object]) -> None:
    """Print both medians and the median of their ratios."""
    dear()
    plain()
    pairs = [(cpu_ms(dear), cpu_ms(plain)) for _ in range(PAIRS)]
    one, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{name:<58}{one:9.1f} ms {other:9.1f} ms {ratio:8.2f}")


def masks() -> None:
    """A mask beside what a 32-bit Mersenne Twister draws."""
    twister = np.random.Generator(np.random.MT19937(1))
    compared(
        "mask of one pair / numpy's Mersenne Twister",
        lambda: mask(b"k" * 32, PARAMETERS),
        lambda: twister.integers(0, 1 << 32, PARAMETERS, dtype=np.uint32),
    )


def sums() -> None:
    """The whole work of nodes and engine for one sum, without transport."""
    draw = np.random.Generator(np.random.PCG64(2))
    base = draw.standard_normal(PARAMETERS).astype(np.float32)
    states = [base + draw.standard_normal(PARAMETERS).astype(np.float32) for _ in range(CLIENTS)]
    updates = [state - base for state in states]
    keys = [bytes([k]) * 32 for k in range(CLIENTS)]

    def pair(one: int, other: int) -> bytes:
        return bytes([min(one, other), 100 + max(one, other)]) * 16

    def one_node(k: int) -> Words:
        """As `MaskSession.masked`."""
        total = encode(updates[k], 1 / CLIENTS)
        add_mask(total, keys[k])
        for other in range(CLIENTS):
            if other != k:
                (add_mask if k < other else subtract_mask)(total, pair(k, other))
        return total

    masked = [one_node(k) for k in range(CLIENTS)]

    def engine(masked: Sequence[Words]) -> np.ndarray:
        """As `secure_sum.unmasked` and what follows it."""
        total = np.zeros(PARAMETERS, np.uint32)
        for words in masked:
            total += words
        for key in keys:
            subtract_mask(total, key)
        return (base + decode(total)).astype(np.float32)

    vectors = [{"params": s, "buffers": base[:0]} for s in states]
    start = {"params": base, "buffers": base[:0]}
    rows = [100] * CLIENTS

    def plain() -> None:
        FederatedAveraging().combine(start, vectors, rows)

    def private() -> None:
        PrivateAveraging(
            inner=FederatedAveraging(),
            clip_norm=1.0,
            noise_multiplier=1.0,
            clients=CLIENTS,
            adaptive=False,
            noise=gaussian_noise(keys[0], 1, PARAMETERS),
        ).combine(start, vectors, rows)

    compared("one node's encoding and masks / plain mean of 8", lambda: one_node(0), plain)
    compared("unmasking of 8 in the engine / plain mean of 8", lambda: engine(masked), plain)
    compared("clipping, noise and mean of 8 / plain mean of 8", private, plain)


def main() -> None:
    """Print everything."""
    torch.set_num_threads(1)
    print(f"{'':<58}{'private':>12}{'plain':>13}{'ratio':>9}")
    masks()
    sums()


if __name__ == "__main__":
    main()
