"""The real zygote around real nodes; the first incarnation of each large one withholds its predictions.

Run as a script: `python -I withholding_zygote.py <control fd> <parent pid>`.
"""

import sys
import time
from dataclasses import replace

from flow_nexus_neural.node.preparation import prepare_torch
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.node.zygote import serve
from flow_nexus_neural.protocol.messages import Predict

BASE_MEMORY_MB = 512


class Withholding(NodeService):
    """Answers everything but predictions, also while it sits on one."""

    def handle(self, request, arrays, poll):
        if isinstance(request, Predict):
            while True:
                poll()
                time.sleep(0.01)
        return super().handle(request, arrays, poll)


def prepare():
    honest = prepare_torch()

    def make_service(order):
        if order.memory_mb > BASE_MEMORY_MB and order.incarnation == 1:
            return Withholding(
                node_id=order.node_id, incarnation=order.incarnation, seed=order.seed
            )
        return honest.make_service(order)

    return replace(honest, make_service=make_service)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), prepare)
