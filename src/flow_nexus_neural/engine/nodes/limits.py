"""What one node may use: the operator's setting, scaled by the size that the node was declared with."""

from flow_nexus_neural.engine.requests import ModelSize
from flow_nexus_neural.settings import Settings

MEMORY_SHARE: dict[ModelSize, float] = {"base": 0.5, "large": 1.0, "xl": 2.0, "custom": 2.0}
"""Share of `node_memory_mb`: a default network of twice the budget needs about twice the memory."""
CPU_SHARE: dict[ModelSize, float] = {"base": 1.0, "large": 1.0, "xl": 2.0, "custom": 2.0}
"""Share of `node_cpu_s`."""


def memory_mb(settings: Settings, model: ModelSize) -> int:
    """MiB that a node of this size may allocate above its start size."""
    return int(settings.node_memory_mb * MEMORY_SHARE[model])


def cpu_s(settings: Settings, model: ModelSize) -> int:
    """CPU seconds that a node of this size may use over its life."""
    return int(settings.node_cpu_s * CPU_SHARE[model])
