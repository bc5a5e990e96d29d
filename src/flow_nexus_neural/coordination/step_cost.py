"""How long optimiser steps may take, from the network and the rows that a node was given.

A bound and no forecast: several times what steps took where it was measured, on one core of a server of 2023,
so that a node on a slow machine is no liar. What a node says of its own steps does not enter.
"""

from dataclasses import dataclass

from flow_nexus_neural.protocol.plan import NetworkPlan, PlannedLayer

PRODUCTS_PER_S = 1e9
"""Multiplications that a node makes in a second where many share a slow processor."""
BACKWARD = 3
"""A step takes so many times what answering its rows does: gradients of inputs and weights come to it."""
BACKWARD_OF_ROWS = 60
"""The same where each row has gradients of its own: 12 were measured for a wide dense network."""
OPERATION_S = 1.5e-3
"""One layer at one of its steps in time, forwards and back: 0.3 ms were measured for a GRU of 32 units."""
PARAMETER_S = 3e-8
"""One parameter, however few rows: 3 ns were measured for the optimiser, and 8 with digests for proofs."""
NOISE_S = 2e-7
"""The same where a step adds noise to it: 47 ns were measured."""
STEP_BY_STEP = frozenset({"lstm", "gru", "simple_rnn", "bidirectional"})
"""Layers whose steps in time wait for each other."""
LONGEST_S = 3600.0
"""However much a node was asked; by then its round is given up (`coordination.rounds`)."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """A training that a node was asked for.

    Attributes:
        number: Another one for every order.
        steps: Optimiser steps that it can have.
        step_s: What one of them may take.
    """

    number: int
    steps: int
    step_s: float

    @property
    def seconds(self) -> float:
        """What all of its steps may take."""
        return self.steps * self.step_s

    def limit_s(self, least_s: float, n_nodes: int = 1, others_s: float = 0.0) -> float:
        """Seconds in which it is finished.

        Args:
            least_s: However few its steps are.
            n_nodes: Nodes of one process, which may make their steps as one.
            others_s: What orders of the others of its process may take, which may be carried out before it.
        """
        return min(least_s + self.seconds * n_nodes + others_s, max(least_s, LONGEST_S))


def step_s(plan: NetworkPlan, rows: int, *, one_by_one: bool = False) -> float:
    """Seconds that one optimiser step may take.

    Args:
        plan: The network.
        rows: Of the step's batch.
        one_by_one: Each row has gradients of its own, as under DP-SGD.
    """
    backward = BACKWARD_OF_ROWS if one_by_one else BACKWARD
    operations = sum(map(_in_time, plan.layers)) * (rows if one_by_one else 1)
    computing_s = backward * plan.products * rows / PRODUCTS_PER_S + operations * OPERATION_S
    return computing_s + plan.n_params * (NOISE_S if one_by_one else PARAMETER_S)


def _in_time(layer: PlannedLayer) -> int:
    """Operations of a layer that wait for each other."""
    if layer.type not in STEP_BY_STEP:
        return 1
    ways = 2 if layer.type == "bidirectional" else 1
    return ways * (layer.in_shape[0] if len(layer.in_shape) > 1 else 1)
