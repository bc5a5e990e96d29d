"""Network groups: the slots of a cluster that have one network, and the weights of that network."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.protocol.digest import json_digest, named_tensors, weights_digest
from flow_nexus_neural.protocol.model_state import MOMENTS
from flow_nexus_neural.protocol.plan import NetworkPlan
from flow_nexus_neural.vocabulary import Optimizer

Vector = NDArray[np.float32]
OF_ROLE = ":"
"""Between purpose and slot in the key of such a network."""
PERSONAL = "@"
"""In the key of a group of one slot that has weights of its own: `c0@worker-1` began as `c0`."""
ADAGRAD_START = 0.1
"""Keras' initial accumulator; the first base carries it, so that nodes need no special case."""


@dataclass(frozen=True)
class ServerState:
    """What a federated method keeps at the server from round to round.

    Attributes:
        method: Name of the aggregation policy to which it belongs.
        vectors: Moments of the server's steps by name, each [n_params] float32, finite. Stored with a
            version.
        controls: SCAFFOLD's control variate of each slot that has trained, [n_params] float32. Not stored:
            they are of the shards of one training, and the next one starts without.
    """

    method: str
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    controls: Mapping[str, Vector] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelState:
    """Weights and client-optimiser moments of one network, as flat vectors in plan order.

    Attributes:
        params: [n_params] float32.
        buffers: [n_buffers] float32.
        moments: `m` and `v`, as far as the optimiser keeps them, each [n_params] float32.
        opt_step: Optimiser steps that the moments have seen.
        server: What the federated method keeps; None for one that keeps nothing, and before its first round.
    """

    params: Vector
    buffers: Vector
    moments: Mapping[str, Vector]
    opt_step: int
    server: ServerState | None = None

    @property
    def arrays(self) -> dict[str, Vector]:
        """Everything that travels, by its name on the wire."""
        return {"params": self.params, "buffers": self.buffers, **self.moments}

    @property
    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite. Costs one pass over everything."""
        return all(bool(np.isfinite(array).all()) for array in self.arrays.values())

    @property
    def flaw(self) -> str | None:
        """Why nothing can start from it: it is not finite, or a second moment is negative; else None."""
        if not self.is_finite:
            return "is not finite"
        second = self.moments.get("v")
        if second is not None and second.size and float(second.min()) < 0:
            return "has a negative second moment"
        return None

    def with_fresh_moments(self, optimizer: Optimizer) -> Self:
        """The same weights before the first step of an optimiser."""
        start = ADAGRAD_START if optimizer == "adagrad" else 0.0
        moments: dict[str, Vector] = {
            name: np.full_like(self.params, start) for name in MOMENTS[optimizer]
        }
        return replace(self, moments=moments, opt_step=0)

    def for_training_with(self, method: str) -> Self:
        """The state from which a training with an aggregation method starts.

        Moments that the same method left go on, as the client optimiser's do; control variates do not.
        """
        if self.server is None:
            return self
        kept = self.server.vectors if self.server.method == method else {}
        return replace(self, server=ServerState(method, kept) if kept else None)


@dataclass(frozen=True)
class NetworkGroup:
    """Slots with one network, and its committed state.

    Attributes:
        key: `c0`, `c1` ...; unique in a cluster for ever. `c0@worker-1` has the weights that one slot made of
            those of `c0`, which keep their own key and are what a later training starts from.
        slots: Names in slot order.
        state: None until the initial weights are known.
        digest: State digest of the committed weights.
        blob: sha256 of the checkpoint file that holds the weights under their tensor names.
        moments_blob: The same for the optimiser's moments; None when it keeps none.
        server_blob: The same for the vectors of a federated method; None when it keeps none.
        version: Versions of this network that the ledger holds.
        rows: Rows of each slot's shard, in the last training.
        stored_step: Optimiser steps of the moments in the file, where `state` is not held.
    """

    key: str
    plan: NetworkPlan
    slots: tuple[str, ...]
    layers_source: str
    optimizer: Optimizer
    state: ModelState | None = None
    digest: str | None = None
    blob: str | None = None
    moments_blob: str | None = None
    server_blob: str | None = None
    version: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    stored_step: int = 0

    @property
    def is_personal(self) -> bool:
        """Whether it holds what one slot made of the weights that it shares with others."""
        return PERSONAL in self.key

    @property
    def is_of_role(self) -> bool:
        """Whether it is the own network of a node that serves no records."""
        return OF_ROLE in self.key

    @property
    def shared_key(self) -> str:
        """Key of the group whose weights several slots train together: its own, unless it is personal."""
        return shared_key(self.key)

    def personal_key(self, slot: str) -> str:
        """Key of the group of one of its slots that has weights of its own."""
        return f"{self.key}{PERSONAL}{slot}"

    def personal_to(self, slot: str, state: ModelState, version: int) -> Self:
        """The group of one slot that has weights of its own.

        Args:
            slot: It.
            state: Its weights; moments are left out, for nothing is trained from them.
            version: Versions of that group that the ledger holds already.
        """
        weights = replace(state, moments={}, opt_step=0, server=None)
        own = replace(
            self,
            key=self.personal_key(slot),
            slots=(slot,),
            rows={name: rows for name, rows in self.rows.items() if name == slot},
            version=version,
            blob=None,
            moments_blob=None,
            server_blob=None,
        )
        return own.with_state(weights)

    @cached_property
    def plan_digest(self) -> str:
        """Identifies the network, whatever its weights."""
        return json_digest(self.plan.model_dump(mode="json"))

    def tensors(self, state: ModelState) -> dict[str, Vector]:
        """The weights of a state under their names, as a checkpoint stores them."""
        return named_tensors(self.plan, state.params, state.buffers)

    def digest_of(self, state: ModelState) -> str:
        """State digest of a state's weights."""
        return weights_digest(self.plan, state.params, state.buffers)

    def with_state(self, state: ModelState) -> Self:
        """The same group with other weights, whose digest is computed here."""
        return replace(self, state=state, digest=self.digest_of(state))

    def with_fresh_moments(self) -> Self:
        """The same group, its client optimiser before its first step: where clients share no moments."""
        if self.state is None:
            return self
        return replace(self, state=self.state.with_fresh_moments(self.optimizer))

    @property
    def opt_step(self) -> int:
        """Optimiser steps that its moments have seen."""
        return self.stored_step if self.state is None else self.state.opt_step

    def without_state(self) -> Self:
        """The same group as its files hold it."""
        return replace(self, state=None, stored_step=self.opt_step)


def shared_key(key: str) -> str:
    """Key of the group that a key belongs to: itself, without the slot of a personal one."""
    return key.partition(PERSONAL)[0]
