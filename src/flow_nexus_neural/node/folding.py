"""A node's part in an exchange of model states over links: it reads its neighbours' and writes its own."""

from collections.abc import Callable

import numpy as np

from flow_nexus_neural.kernels.folding import FLOAT_BYTES, State, fold
from flow_nexus_neural.node.regions import Region
from flow_nexus_neural.protocol.digest import vectors_digest
from flow_nexus_neural.protocol.messages import Fold, Folded


def fold_regions(
    request: Fold, region_of: Callable[[str], Region], between_blocks: Callable[[], None]
) -> Folded:
    """Carry out a `Fold`; equal requests over equal regions give equal bytes.

    Args:
        request: What to sum, and into which region.
        region_of: Finds a granted region; raises `LookupError` for any other.
        between_blocks: Called between blocks; may raise, which leaves the region half written.

    Raises:
        ValueError: If the region may not be written, regions differ in layout, or a part is not in them.
    """
    target = region_of(request.into)
    into = _state_of(target)
    if not target.writable or not all(array.flags.writeable for array in into):
        raise ValueError(f"{request.into!r} was not granted for writing")
    bytes_read = 0
    for part in request.parts:
        sources = [(region_of(source.region), source.weight) for source in part.sources]
        states = [(_state_of(region), weight) for region, weight in sources]
        fold(into, states, part.divisor, (part.start, part.stop), between_blocks)
        # What a node may write is its own: reading it is no traffic.
        foreign = sum(not region.writable for region, _ in sources)
        bytes_read += foreign * (part.stop - part.start) * FLOAT_BYTES
    digest = vectors_digest(into) if request.hashed else None
    return Folded(bytes_read=bytes_read, digest=digest)


def _state_of(region: Region) -> State:
    arrays = list(region.arrays.values())
    if any(array.dtype != np.float32 or array.ndim != 1 for array in arrays):
        raise ValueError(f"{region.key!r} holds other arrays than float32 vectors")
    return arrays
