"""The engine's end and the node's end of the wire, joined without any transport."""

from flow_nexus_neural.protocol.codec import REQUEST_HEADERS, Decoder, FrameLimits, encode
from flow_nexus_neural.protocol.dispatch import Responder
from flow_nexus_neural.protocol.messages import Ready
from flow_nexus_neural.runtime.connection.memory import CarriedBuffer, CarriedRegion
from flow_nexus_neural.runtime.connection.node_end import NodeEnd
from flow_nexus_neural.runtime.process.exits import describe_exit
from tests.doubles.message_examples import SHARD, STATE, STATE_LAYOUT
from tests.doubles.runtimes import spec


class JoinedNode(NodeEnd):
    """Answers every frame as soon as it is sent.

    Args:
        service: What the node does.
        requests: Which requests its decoder reads.
    """

    def __init__(self, service, requests=REQUEST_HEADERS):
        super().__init__(spec(), FrameLimits())
        self.responder = Responder(service, self.spec.incarnation)
        self.decoder = Decoder(requests, FrameLimits(), tolerant=True)
        ready = Ready(node_id=self.spec.node_id, incarnation=1, runtime="r", steps={}, probes={})
        self._conversation.receive(b"".join(encode(0, 1, ready)))

    def _transmit(self, outgoing):
        for frame in self.decoder.feed(b"".join(outgoing.buffers)):
            answer = self.responder.answer(frame, lambda: False, refuse)
            self._conversation.receive(b"".join(answer))

    def _kill(self, cause):
        self._settle(describe_exit(None, "", cause))


def refuse(grant):
    raise ValueError(f"{grant.key} came without its arrays")


async def granted_node(service, **more):
    """A node that holds the regions of the examples, and its publish buffer."""
    node = JoinedNode(service, **more)
    publish = CarriedBuffer("publish", STATE_LAYOUT)
    for region in (CarriedRegion("base", STATE), CarriedRegion("shard", SHARD), publish):
        await node.grant(region)
    return node, publish
