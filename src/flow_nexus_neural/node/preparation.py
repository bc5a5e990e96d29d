"""What precedes a node, however its process is started: its order, and its libraries made ready."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flow_nexus_neural.node.confinement.steps import Steps
from flow_nexus_neural.protocol.dispatch import Service
from flow_nexus_neural.protocol.messages import Ready
from flow_nexus_neural.settings import Hostile


@dataclass(frozen=True, slots=True)
class ForkOrder:
    """What the runtime asks for; the field names are those of the message."""

    id: int
    node_id: str
    incarnation: int
    seed: int
    memory_mb: int
    cpu_s: int
    nice: int
    nofile: int
    hostile: Hostile
    header_bytes: int
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Preparation:
    """What warming up gives: how to make a node's service, and which libraries it will run on.

    Attributes:
        make_service: Called in the confined child.
        reseed: Called in the child, so that no two nodes share an inherited generator.
        versions: For `hello` and Ready; `python` and `torch` name the runtime of every node.
        cpu_capability: Vector instructions that the tensor library uses, when it says.
    """

    make_service: Callable[[ForkOrder], Service]
    reseed: Callable[[int], None]
    versions: Mapping[str, str]
    cpu_capability: str | None


def prepare_torch() -> Preparation:
    """Import and warm up the real node."""
    import numpy as np
    import torch

    from flow_nexus_neural.node.service import NodeService
    from flow_nexus_neural.node.warmup import warm_up

    warm_up()

    def make_service(order: ForkOrder) -> Service:
        return NodeService(node_id=order.node_id, incarnation=order.incarnation, seed=order.seed)

    def reseed(seed: int) -> None:
        # Not `torch.manual_seed`, which looks for accelerators first, at sixty times the cost.
        torch.default_generator.manual_seed(seed)
        # Everything in a node draws from counter-based generators. Libraries that might fall back on the
        # global one must at least not repeat what a sibling drew.
        np.random.seed(seed & 0xFFFF_FFFF)  # noqa: TID251, NPY002  # reseeds the inherited global

    return Preparation(
        make_service=make_service,
        reseed=reseed,
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
    )


def ready_of(
    order: ForkOrder, preparation: Preparation, steps: Steps, probes: dict[str, str]
) -> Ready:
    """What a confined node says first."""
    return Ready(
        node_id=order.node_id,
        incarnation=order.incarnation,
        runtime="/".join(
            f"{name}-{version}"
            for name, version in preparation.versions.items()
            if name in ("python", "torch")
        ),
        steps=steps,
        probes=probes,
    )
