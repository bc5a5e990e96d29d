"""Workers that train honestly and publish something else: the attacks of the literature.

Attackers know what every honest worker changed in the round before, which no real node does.
"""

from collections import defaultdict

import numpy as np

from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.digest import weights_digest
from flow_nexus_neural.protocol.messages import Build, Train, Trained

ALIE_DEVIATIONS = 1.5


class Gang:
    """What all workers changed, by the number of their exchange, and who attacks how.

    Args:
        liars: Slots that attack.
        attack: From an honest change, those of all honest workers in the exchange before (None in the first)
            and a generator, to the change that is published. None lies in nothing but its labels.
        flips: Whether the liars' labels are flipped, class k becoming (n_classes - 1 - k).
    """

    def __init__(self, liars, attack=None, *, flips=0):
        self.liars, self.attack, self.flips = frozenset(liars), attack, flips
        self.changes = defaultdict(dict)

    def service(self, spec):
        """For `world(service=...)`."""
        return _Recorded(
            self, spec.slot, node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed
        )


class _Recorded(NodeService):
    def __init__(self, gang, slot, **given):
        super().__init__(**given)
        self.gang, self.slot, self.number = gang, slot, 0
        self.regions, self.plans = {}, {}

    def attach(self, key, arrays, *, writable):
        flips = self.gang.flips
        if flips and self.slot in self.gang.liars and "y" in arrays and not writable:
            arrays = {**arrays, "y": (flips - 1 - arrays["y"]).astype(arrays["y"].dtype)}
        self.regions[key] = arrays
        super().attach(key, arrays, writable=writable)

    def handle(self, request, arrays, poll):
        if isinstance(request, Build):
            self.plans[request.network] = request.plan
        reply, sent = super().handle(request, arrays, poll)
        if isinstance(request, Train) and isinstance(reply, Trained):
            reply = self._published(request, reply)
        return reply, sent

    def _published(self, request, reply):
        gang, region = self.gang, self.regions[request.publish]
        base = self.regions[request.base]["params"]
        change = region["params"] - base
        if self.slot not in gang.liars or gang.attack is None:
            gang.changes[self.number][self.slot] = change
            self.number += 1
            return reply
        before = [gang.changes[self.number - 1][k] for k in sorted(gang.changes[self.number - 1])]
        draw = np.random.Generator(np.random.PCG64(self.number * 64 + int(self.slot[-1])))
        self.number += 1
        lie = gang.attack(change, np.array(before) if before else None, draw)
        region["params"][...] = base + lie.astype("f4")
        digest = weights_digest(self.plans[request.network], region["params"], region["buffers"])
        return reply.model_copy(update={"digest": digest})


def _mean(change, honest):
    return change if honest is None else honest.mean(axis=0)


def opposite(strength):
    """Fall of empires: the honest mean, in the opposite direction (Xie et al., UAI 2019)."""
    return lambda change, honest, _draw: -strength * _mean(change, honest)


def little_is_enough(change, honest, _draw):
    """The honest mean less 1.5 honest deviations in each coordinate (Baruch et al., NeurIPS 2019)."""
    if honest is None:
        return change
    return honest.mean(axis=0) - ALIE_DEVIATIONS * honest.std(axis=0)


def noise(change, _honest, draw):
    """Gaussian noise, ten times as long as an honest change."""
    scale = 10 * np.linalg.norm(change) / np.sqrt(change.size)
    return draw.standard_normal(change.size) * scale


def mimic(change, honest, _draw):
    """All attackers send what one honest worker sent (Karimireddy et al., ICLR 2022)."""
    return change if honest is None else honest[0]


def sign_flip(change, _honest, _draw):
    """The attacker's own change, reversed."""
    return -change


ATTACKS = {
    "none": (None, False),
    "sign flip": (sign_flip, False),
    "ALIE": (little_is_enough, False),
    "FOE 2": (opposite(2.0), False),
    "FOE 10": (opposite(10.0), False),
    "label flip": (None, True),
    "Gaussian": (noise, False),
    "mimic": (mimic, False),
}

"""One that hides, one that takes the mean away, and one in the data."""
