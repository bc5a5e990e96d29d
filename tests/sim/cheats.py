"""Workers that fake their proof of learning: each commits to something and reveals what fits its story."""

from typing import ClassVar

import numpy as np

from flow_nexus_neural.coordination.consensus.proof_of_learning import chain, challenge
from flow_nexus_neural.node.proofs import Given, execute_segment
from flow_nexus_neural.node.regions import shard_of
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.digest import training_digest, weights_digest
from flow_nexus_neural.protocol.messages import (
    Build,
    Commitment,
    Failed,
    Reexecute,
    Reveal,
    Revealed,
    Train,
    Trained,
)

CHEAT = "worker-1"


def segment_ends(order):
    """Steps after each segment, 0 first."""
    n_segments = max(1, -(-order.steps // order.segment_steps))
    return [min(k * order.segment_steps, order.steps) for k in range(n_segments + 1)]


class Course(NodeService):
    """Trains honestly, and remembers its state after every segment.

    Attributes:
        states: Of the latest training, the first one its base.
        published: States at the ends of all trainings so far.
    """

    def __init__(self, **given):
        super().__init__(**given)
        self.regions, self.plans = {}, {}
        self.states, self.published = [], []

    def attach(self, key, arrays, *, writable):
        self.regions[key] = arrays
        super().attach(key, arrays, writable=writable)

    def handle(self, request, arrays, poll):
        if isinstance(request, Build):
            self.plans[request.network] = request.plan
        if isinstance(request, Train) and request.proof is not None:
            return self.trained(request, poll), {}
        if isinstance(request, Reveal) and self.states:
            into = self.regions[request.into]
            for name, vector in self.states[request.segment].items():
                into[name][...] = vector
            return Revealed(cpu_s=0.0), {}
        return super().handle(request, arrays, poll)

    def honest(self, request, poll, **changes):
        """The reply of an honest worker, which may be given another assignment than this one was."""
        reply, _ = super().handle(request.model_copy(update=changes), {}, poll)
        assert isinstance(reply, Trained), reply
        self.states = self.course(request, reply)
        return reply

    def course(self, request, reply):
        """The states of an honest training, from its log."""
        log = self._held[request.network].log
        base = {name: array.copy() for name, array in self.regions[request.base].items()}
        end = {name: array.copy() for name, array in self.regions[request.publish].items()}
        between = [log._states[k] for k in range(1, len(reply.commitment.states) - 1)]
        return [base, *between, end]

    def claimed(self, request, states, *, loss=0.5):
        """The reply of a worker that has these states and says that it trained to them."""
        self.states = states
        region = self.regions[request.publish]
        for name, vector in states[-1].items():
            region[name][...] = vector
        ends = segment_ends(request.proof)
        digests = [
            training_digest(state, request.opt_step + steps)
            for state, steps in zip(states, ends, strict=True)
        ]
        plan = self.plans[request.network]
        head = chain(request.proof.context, digests)
        return Trained(
            digest=weights_digest(plan, region["params"], region["buffers"]),
            loss=loss,
            steps=request.proof.steps,
            opt_step=request.opt_step + request.proof.steps,
            cpu_s=0.0,
            commitment=Commitment(states=tuple(digests), head=head, cpu_s=0.0),
        )

    def trained(self, request, poll):
        reply = self.honest(request, poll)
        self.published.append(self.states)
        return reply


def invented(service, request, draw):
    """States that drift away from the base by as much as training would move them."""
    base = {name: array.copy() for name, array in service.regions[request.base].items()}
    states = [base]
    for _ in segment_ends(request.proof)[1:]:
        moved = {name: vector.copy() for name, vector in states[-1].items()}
        moved["params"] += 0.01 * draw.standard_normal(moved["params"].shape).astype("f4")
        states.append(moved)
    return states


class FreeRider(Course):
    """Does no step and invents states."""

    def trained(self, request, poll):
        return self.claimed(request, invented(self, request, np.random.default_rng(1)))


class LabelFlip(NodeService):
    """Trains as asked, on flipped labels."""

    def attach(self, key, arrays, *, writable):
        if "y" in arrays and not writable:
            arrays = {**arrays, "y": (1 - arrays["y"]).astype(arrays["y"].dtype)}
        super().attach(key, arrays, writable=writable)


class Replay(Course):
    """Trains in the first round, and sends that round's states again in every later one."""

    def trained(self, request, poll):
        if not self.published:
            return super().trained(request, poll)
        base = {name: array.copy() for name, array in self.regions[request.base].items()}
        former = self.published[0]
        ends = segment_ends(
            request.proof
        )  # not as many as then, where segments are longer or shorter
        chosen = [former[len(former) * k // len(ends)] for k in range(1, len(ends))]
        return self.claimed(request, [base, *chosen[:-1], former[-1]])


class CopiedWork(Course):
    """Sends what an honest worker sent, with a chain of its own; `others` is filled by that worker."""

    others: ClassVar[list] = []

    def trained(self, request, poll):
        return self.claimed(request, self.others[-1])


class Copied(Course):
    """Trains honestly, and lets its states be seen."""

    def trained(self, request, poll):
        reply = super().trained(request, poll)
        CopiedWork.others.append(self.states)
        return reply


class EditedChain(Course):
    """Trains honestly, publishes something else, and edits the end of the chain without its head."""

    def trained(self, request, poll):
        reply = self.honest(request, poll)
        region = self.regions[request.publish]
        region["params"][...] = -region["params"]
        plan = self.plans[request.network]
        last = training_digest(region, reply.opt_step)
        states = (*reply.commitment.states[:-1], last)
        edited = reply.commitment.model_copy(update={"states": states})
        digest = weights_digest(plan, region["params"], region["buffers"])
        return reply.model_copy(update={"commitment": edited, "digest": digest})


class OtherUpdate(EditedChain):
    """Trains honestly and commits to it; delivers another update."""

    def trained(self, request, poll):
        reply = super().trained(request, poll)
        states = self.states
        digests = [
            training_digest(state, request.opt_step + steps)
            for state, steps in zip(states, segment_ends(request.proof), strict=True)
        ]
        commitment = Commitment(
            states=tuple(digests), head=chain(request.proof.context, digests), cpu_s=0.0
        )
        return reply.model_copy(update={"commitment": commitment})


class WrongRate(Course):
    """Takes steps ten times as large as prescribed."""

    def trained(self, request, poll):
        return self.honest(request, poll, learning_rate=10 * request.learning_rate)


class OneSegment(Course):
    """Executes all segments but one, after which it goes on honestly from an invented state."""

    def trained(self, request, poll):
        self.honest(request, poll)
        return self.claimed(request, self.fake(request, self.choose(request)))

    def choose(self, request):
        """The segment to fake: the second, or the only one."""
        return min(1, len(self.states) - 2)

    def fake(self, request, segment):
        """The honest states, with this segment faked."""
        states = [*self.states[: segment + 1], copied(self.states[segment])]
        states[-1]["params"] += np.float32(0.25)
        for number in range(segment + 1, len(self.states) - 1):
            states.append(self.executed(request, number, states[-1]))
        return states

    def executed(self, request, segment, state):
        """What an honest worker makes of a state in one segment."""
        held = self._held[request.network]
        shard = shard_of(self._region(request.shard), held.network.plan)
        asked = Reexecute(work=request, segment=segment, state="its own")
        given = Given(shard, state)
        execute_segment(held.network, held.workspace, asked, given, lambda _ms: None)
        return copied(held.workspace.state(request.optimizer))


class KnowsTheBeacon(OneSegment):
    """Fakes a segment that will not be challenged: it knows the beacon before it commits."""

    beacon = "0" * 64

    def trained(self, request, poll):
        self.honest(request, poll)
        n_segments = len(self.states) - 1
        for segment in range(n_segments):
            reply = self.claimed(request, self.fake(request, segment))
            if segment not in challenge(self.beacon, reply.commitment.head, n_segments, 1):
                return reply
            self.states = self.course_of(request)
        raise AssertionError("every segment is challenged")

    def course(self, request, reply):
        self._honest = super().course(request, reply)
        return self._honest

    def course_of(self, _request):
        """The honest states again."""
        return self._honest


class Withholds(NodeService):
    """Trains honestly and never reveals a state."""

    def handle(self, request, arrays, poll):
        if isinstance(request, Reveal):
            return Failed(type="lookup_error", message="not now"), {}
        return super().handle(request, arrays, poll)


def copied(state):
    return {name: vector.copy() for name, vector in state.items()}


ATTACKS = {
    "free rider": FreeRider,
    "label flip": LabelFlip,
    "replay": Replay,
    "copied work": CopiedWork,
    "edited chain": EditedChain,
    "another update than proved": OtherUpdate,
    "wrong learning rate": WrongRate,
}


def service_of(attack, *, cheats=(CHEAT,), verifier=NodeService):
    """For `world(service=...)`: these slots attack, the others are honest."""
    CopiedWork.others = []

    def make(spec):
        honest = Copied if attack is CopiedWork and spec.slot.startswith("worker") else NodeService
        kind = attack if spec.slot in cheats else honest
        if spec.slot == "verifier-0":
            kind = verifier
        return kind(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    return make
