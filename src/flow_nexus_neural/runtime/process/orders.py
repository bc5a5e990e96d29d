"""The start order of a node, sent to the zygote or to the exec'd process."""

from typing import Final

from flow_nexus_neural.protocol.codec import FrameLimits
from flow_nexus_neural.runtime.base import NodeSpec
from flow_nexus_neural.settings import Settings

CARRIED_BODY_BYTES: Final = 1 << 30
"""Longest body of a frame if arrays travel inside frames."""
_EXTRA_DESCRIPTORS: Final = 16


def order_of(spec: NodeSpec, settings: Settings, limits: FrameLimits) -> dict[str, int | str]:
    """The fields of `node.preparation.ForkOrder`, except `id`."""
    return {
        "node_id": spec.node_id,
        "incarnation": spec.incarnation,
        "seed": spec.seed,
        "hosts": spec.group_size,
        # A limit cannot be raised later: that of a process is for all nodes that it may host in the end.
        "memory_mb": spec.memory_mb * spec.group_size,
        "cpu_s": spec.cpu_s * spec.group_size,
        "nice": settings.node_nice,
        "hostile": settings.hostile,
        "nofile": _EXTRA_DESCRIPTORS + spec.max_regions + spec.group_size - 1,
        "header_bytes": limits.header_bytes,
        "body_bytes": limits.body_bytes,
    }
