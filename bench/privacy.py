"""What privacy costs, each thing beside its plain counterpart in one run.

    python -m bench.privacy [--only masks sums exchange rounds]

Of 8 clients with 1e6 parameters. `masks`: the mask of a pair beside numpy's Mersenne Twister of the same
length. `sums`: the work of one node and of the engine for a secure sum, and clipping and noise, beside the
plain mean, in processor time of one thread. `exchange`: whole exchanges of real nodes, secure beside plain,
by the engine and over links. `rounds`: whole rounds of trainings with 100 rows a client. Printed are the
medians of both, the median ratio of pairs that ran one after the other, and the load.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence

import anyio
import numpy as np
import torch

from bench.private_round import Cost, nodes, whole_rounds
from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.private_averaging import PrivateAveraging
from flow_nexus_neural.kernels.privacy.gaussian import gaussian_noise
from flow_nexus_neural.kernels.secure.masks import (
    Masks,
    Words,
    decode,
    mask,
    sum_without,
    write_masked,
)

CLIENTS, PARAMETERS, PAIRS = 8, 1_000_000, 7
PARTS = ("masks", "sums", "exchange", "rounds")
WAYS = {
    "central_dp": {"privacy": {"mode": "central_dp", "noise_multiplier": 1.0}},
    "secure": {"secure_aggregation": True},
}


def cpu_ms(work: Callable[[], object]) -> float:
    """Processor milliseconds of this thread."""
    began = time.thread_time()
    work()
    return 1000 * (time.thread_time() - began)


def compared(name: str, dear: Callable[[], object], plain: Callable[[], object]) -> None:
    """Measure two things in pairs, and print."""
    dear()
    plain()
    pairs = [(cpu_ms(dear), cpu_ms(plain)) for _ in range(PAIRS)]
    told(name, *zip(*pairs, strict=True))


def told(name: str, dear: Sequence[float], plain: Sequence[float]) -> None:
    """Print both medians and the median of their ratios."""
    ratio = statistics.median(a / b for a, b in zip(dear, plain, strict=True))
    one, other = statistics.median(dear), statistics.median(plain)
    load = os.getloadavg()[0]
    print(f"{name:<62}{one:9.1f} ms {other:9.1f} ms {ratio:8.2f} {load:6.1f}", flush=True)


def both(name: str, dear: Sequence[Cost], plain: Sequence[Cost]) -> None:
    """Print processor time and clock."""
    told(f"{name}: processor", [c.cpu_ms for c in dear], [c.cpu_ms for c in plain])
    told(f"{name}: clock", [c.ms for c in dear], [c.ms for c in plain])


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
    memory = [np.zeros(PARAMETERS, np.uint32) for _ in range(CLIENTS)]

    def pair(one: int, other: int) -> bytes:
        return bytes([min(one, other), 100 + max(one, other)]) * 16

    def one_node(k: int) -> None:
        """As `MaskSession.write_masked`, into memory that is there."""
        added = [keys[k], *(pair(k, other) for other in range(k + 1, CLIENTS))]
        subtracted = [pair(k, other) for other in range(k)]
        applied = Masks(PARAMETERS, added, subtracted)
        write_masked(memory[k], updates[k], 1 / CLIENTS, 1.0, applied)

    def reader(words: Words) -> Callable[[int, Words], None]:
        def read(start: int, into: Words) -> None:
            into[:] = words[start : start + into.size]

        return read

    for k in range(CLIENTS):
        one_node(k)

    def engine() -> np.ndarray:
        """As `secure_sum.unmasked` and what follows it."""
        readers = [reader(words) for words in memory]
        total = sum_without(PARAMETERS, readers, Masks(PARAMETERS, [], keys))
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
    compared("unmasking of 8 in the engine / plain mean of 8", engine, plain)
    compared("clipping, noise and mean of 8 / plain mean of 8", private, plain)


async def exchange() -> None:
    """Exchanges of real nodes, one way after the other."""
    for name, topology in (("by the engine", None), ("over a mesh", "mesh")):
        async with nodes(CLIENTS, PARAMETERS, topology) as workers:
            found: dict[str, list[Cost]] = {"plain": [], "secure": []}
            for number in range(PAIRS + 1):  # the first one warms up
                for way, costs in found.items():
                    cost = await workers.exchange_once(way)
                    if number:
                        costs.append(cost)
            both(f"secure exchange / plain one {name}", found["secure"], found["plain"])


async def rounds() -> None:
    """Whole rounds."""
    for way, options in WAYS.items():
        found = await whole_rounds(CLIENTS, PARAMETERS, {"plain": {}, way: options}, PAIRS)
        both(f"whole round, {way} / plain", found[way], found["plain"])


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    chosen = parser.parse_args().only
    torch.set_num_threads(1)
    print(f"{'':<62}{'private':>12}{'plain':>13}{'ratio':>9}{'load':>7}")
    for name, part in (("masks", masks), ("sums", sums)):
        if name in chosen:
            part()
    for name, real in (("exchange", exchange), ("rounds", rounds)):
        if name in chosen:
            anyio.run(real)


if __name__ == "__main__":
    main()
