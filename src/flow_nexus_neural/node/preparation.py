"""Preparation common to forked and exec'd nodes: the start order, and warmed-up libraries."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from flow_nexus_neural.node.confinement.steps import Steps
from flow_nexus_neural.node.hosting import Hosting, TrainTogether
from flow_nexus_neural.protocol.dispatch import Service
from flow_nexus_neural.protocol.messages import Host, Ready
from flow_nexus_neural.settings import Hostile


@dataclass(frozen=True, slots=True)
class ForkOrder:
    """The runtime's order to start one node; the field names are those of the message.

    Attributes:
        hosts: Nodes that the process may host in the end, this one included; 1 hosts no other.
    """

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
    hosts: int = 1


@dataclass(frozen=True, slots=True)
class Preparation:
    """Result of the warm-up: how to create a node's service, and the versions of its libraries.

    Attributes:
        make_service: Called in the confined child.
        reseed: Called in the child, so that no two nodes draw from the same inherited generator state.
        versions: For `hello` and Ready; `python` and `torch` name the runtime of every node.
        cpu_capability: Vector instructions that the tensor library uses; None if unknown.
        train_together: Trains several nodes of one process; None if each is trained by itself.
    """

    make_service: Callable[[ForkOrder], Service]
    reseed: Callable[[int], None]
    versions: Mapping[str, str]
    cpu_capability: str | None
    train_together: TrainTogether | None = None


def prepare_torch() -> Preparation:
    """Import and warm up torch and the node's service."""
    # Imported here, not above: tests start zygotes with a light service and without torch.
    import numpy as np
    import torch

    from flow_nexus_neural.node.cohort import train_together
    from flow_nexus_neural.node.service import NodeService
    from flow_nexus_neural.node.warmup import warm_up

    warm_up()

    def make_service(order: ForkOrder) -> Service:
        return NodeService(node_id=order.node_id, incarnation=order.incarnation, seed=order.seed)

    def reseed(seed: int) -> None:
        # Not `torch.manual_seed`, which first looks for accelerators and takes sixty times as long.
        torch.default_generator.manual_seed(seed)
        # The node's own code draws from counter-based generators only. This is for a library that falls
        # back on the global one: it must not repeat the numbers of another node.
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
        train_together=train_together,
    )


def ready_of(
    order: ForkOrder, preparation: Preparation, steps: Steps, probes: dict[str, str]
) -> Ready:
    """The first message of a confined node."""
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


def hosting_of(order: ForkOrder, preparation: Preparation, ready: Ready) -> Hosting | None:
    """How the process takes in further nodes; None where its order allows for one.

    Args:
        order: Of the first node.
        preparation: Makes services.
        ready: Of the first node: what confines the process confines every node in it.
    """
    if order.hosts <= 1:
        return None

    def make_service(host: Host) -> Service:
        return preparation.make_service(
            replace(order, node_id=host.node_id, incarnation=host.incarnation, seed=host.seed)
        )

    def ready_again(host: Host) -> Ready:
        return ready.model_copy(update={"node_id": host.node_id, "incarnation": host.incarnation})

    return Hosting(make_service, ready_again, preparation.train_together, order.hosts)
