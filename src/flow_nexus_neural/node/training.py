"""One order to train: its regions, checked before the first step, and what is told of it at the end.

A node carries it out by itself (`alone`), or together with other nodes of its process (`node.cohort`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.node.held import Held
from flow_nexus_neural.node.proofs import SegmentLog
from flow_nexus_neural.node.regions import (
    Region,
    correction_of,
    publish_to,
    shard_of,
    state_of,
)
from flow_nexus_neural.node.stacked import Client, Outcome, can_be_stacked
from flow_nexus_neural.node.trainer import Part, Progress, Shard, StepWatch, Workspace, train
from flow_nexus_neural.protocol.digest import weights_digest
from flow_nexus_neural.protocol.messages import UNTOLD, Commitment, Train, Trained

Keep = Callable[[str, NDArray[Any]], None]
"""Keeps how far the parameters of a network moved, for secure aggregation."""


@dataclass(frozen=True, slots=True)
class Order:
    """A training that can begin."""

    held: Held
    request: Train
    shard: Shard
    base: dict[str, NDArray[Any]]
    publish: dict[str, NDArray[Any]]
    correction: NDArray[Any] | None

    @classmethod
    def of(cls, held: Held, request: Train, region: Callable[[str], Region]) -> "Order":
        """Check everything, so that a wrong region costs no training.

        Raises:
            LookupError: From `region`, which finds the granted ones.
            ValueError: If one does not fit the network.
        """
        plan = held.network.plan
        control = None if request.control is None else region(request.control)
        return cls(
            held,
            request,
            shard_of(region(request.shard), plan, taught=request.temperature is not None),
            state_of(region(request.base), plan, request.optimizer),
            publish_to(region(request.publish), plan, request.optimizer),
            None if control is None else correction_of(control, plan),
        )

    @property
    def can_be_stacked(self) -> bool:
        """Whether it gives the same result in a stack."""
        return can_be_stacked(self.held.network.plan, self.request)

    @property
    def client(self) -> Client:
        """As one client of a stack."""
        return Client(self.base, self.shard, self.request)

    def alone(self, stepped: StepWatch, keep: Keep) -> Trained:
        """Train by itself; raises what `stepped` raises, and the published region is then as before."""
        held, request = self.held, self.request
        if held.workspace is None:
            held.workspace = Workspace(held.network)
        workspace = held.workspace
        workspace.load(self.base, request.optimizer)
        held.log = None
        log = SegmentLog(workspace, request, request.proof) if request.proof else None

        def watch(step_ms: float) -> None:
            if log is not None:
                log.stepped()
            stepped(step_ms)

        part = Part(correction=self.correction)
        progress = train(held.network, workspace, self.shard, request, watch, part)
        commitment, held.log = log.commit() if log else None, log
        # Published only when complete: a cancelled training leaves the old content in the region.
        if request.kept:
            keep(request.network, workspace.weights.params.numpy() - self.base["params"])
        else:
            for name, vector in workspace.state(request.optimizer).items():
                np.copyto(self.publish[name], vector)
        digest = UNTOLD if request.kept else workspace.weights.digest()
        return _trained(progress, digest, commitment=commitment)

    def stacked(self, outcome: Outcome) -> Trained:
        """Publish what a stack made of it."""
        self.held.log = None
        state = {"buffers": self.base["buffers"], **outcome.state}
        for name, vector in state.items():
            np.copyto(self.publish[name], vector)
        digest = weights_digest(self.held.network.plan, state["params"], state["buffers"])
        return _trained(outcome.progress, digest, stacked=outcome.stacked)


def _trained(
    progress: Progress,
    digest: str,
    *,
    commitment: Commitment | None = None,
    stacked: int | None = None,
) -> Trained:
    return Trained(
        digest=digest,
        loss=progress.loss,
        steps=progress.steps,
        opt_step=progress.opt_step,
        cpu_s=progress.cpu_s,
        commitment=commitment,
        stacked=stacked if stacked is not None and stacked > 1 else None,
    )
