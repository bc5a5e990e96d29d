"""The real zygote, some of whose nodes train and then publish something else. Run as a script, isolated.

python -I lying_zygote.py <attack> <memory of a liar in MiB> <control fd> <parent pid>

A liar knows what any node knows: its own rows and its own change, and nothing of the others.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.node.preparation import ForkOrder, Preparation, prepare_torch
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.node.zygote import serve
from flow_nexus_neural.protocol.digest import weights_digest
from flow_nexus_neural.protocol.dispatch import Service
from flow_nexus_neural.protocol.messages import Build, Train, Trained

Change = NDArray[np.float32]
LOUD = 10.0
FLIPPED_LABELS = "label flip"


def _noise(change: Change) -> Change:
    draw = np.random.Generator(np.random.PCG64(1))
    scale = LOUD * float(np.linalg.norm(change)) / np.sqrt(change.size)
    return (scale * draw.standard_normal(change.size)).astype(np.float32)


ATTACKS: dict[str, Callable[[Change], Change]] = {
    "none": lambda change: change,
    "sign flip": lambda change: -change,
    "reversed x 2": lambda change: -2 * change,
    "reversed x 10": lambda change: -LOUD * change,
    "Gaussian x 10": _noise,
    "zero": np.zeros_like,
    FLIPPED_LABELS: lambda change: change,
}


class Liar(NodeService):
    """A node that attacks."""

    def __init__(self, attack: str, **given: Any) -> None:
        super().__init__(**given)
        self._attack = attack
        self._granted: dict[str, Mapping[str, NDArray[Any]]] = {}
        self._built: dict[str, Any] = {}

    def attach(self, key: str, arrays: Mapping[str, NDArray[Any]], *, writable: bool) -> None:
        """Keep what is granted, and read the labels backwards where that is the attack."""
        if self._attack == FLIPPED_LABELS and "y" in arrays and not writable:
            y = arrays["y"]
            arrays = {**arrays, "y": (y.max() - y).astype(y.dtype)}
        self._granted[key] = arrays
        super().attach(key, arrays, writable=writable)

    def handle(self, request: Any, arrays: Any, poll: Any) -> Any:
        """Answer as an honest node, but publish other weights."""
        if isinstance(request, Build):
            self._built[request.network] = request.plan
        reply, sent = super().handle(request, arrays, poll)
        if isinstance(request, Train) and isinstance(reply, Trained):
            base, region = self._granted[request.base], self._granted[request.publish]
            lie = ATTACKS[self._attack](region["params"] - base["params"])
            region["params"][...] = base["params"] + lie
            plan = self._built[request.network]
            digest = weights_digest(plan, region["params"], region["buffers"])
            reply = reply.model_copy(update={"digest": digest})
        return reply, sent


def prepare() -> Preparation:
    """As every zygote, with liars among the services."""
    honest = prepare_torch()

    def make_service(order: ForkOrder) -> Service:
        # The only thing of a deployment that reaches a node's start.
        if order.memory_mb != int(sys.argv[2]):
            return honest.make_service(order)
        return Liar(
            sys.argv[1], node_id=order.node_id, incarnation=order.incarnation, seed=order.seed
        )

    return replace(honest, make_service=make_service)


if __name__ == "__main__":
    serve(int(sys.argv[3]), int(sys.argv[4]), prepare)
