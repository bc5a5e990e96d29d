"""A node's access to link buffers: it writes a token into its own and reads those of its neighbours."""

import time
from statistics import median

import numpy as np

from flow_nexus_neural.node.regions import Region
from flow_nexus_neural.protocol.messages import Sight


def announce(region: Region, token: int) -> None:
    """Write a token into the node's own link buffer.

    Raises:
        ValueError: If the region is not a link buffer, or was granted for reading only.
    """
    place = region.array("token", np.int64, (1,))
    if not region.writable or not place.flags.writeable:
        raise ValueError(f"{region.key!r} was not granted for writing")
    place[0] = token


def observe(region: Region, reads: int) -> Sight:
    """Read the token in a neighbour's link buffer, and measure the duration of a read.

    Raises:
        ValueError: If the region is not a link buffer.
    """
    published = region.array("token", np.int64, (1,))
    # A private copy: the neighbour may overwrite the shared buffer at any time.
    private = np.zeros_like(published)
    read_ms = []
    for _ in range(reads):
        began_s = time.perf_counter()
        np.copyto(private, published)
        read_ms.append((time.perf_counter() - began_s) * 1e3)
    return Sight(token=int(private[0]), read_ms=median(read_ms))
