"""The committed model of a cluster: per network the weights, and the bundle that answers predictions."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.kernels.calibration import Calibrator
from flow_nexus_neural.protocol.digest import json_digest, named_tensors, weights_digest
from flow_nexus_neural.protocol.model_state import MOMENTS, Optimizer
from flow_nexus_neural.protocol.plan import NetworkPlan

Vector = NDArray[np.float32]
ADAGRAD_START = 0.1
"""Keras' initial accumulator; the first base carries it, so that nodes need no special case."""


@dataclass(frozen=True)
class ModelState:
    """Weights and client-optimiser moments of one network, as flat vectors in plan order.

    Attributes:
        params: [n_params] float32.
        buffers: [n_buffers] float32.
        moments: `m` and `v`, as far as the optimiser keeps them, each [n_params] float32.
        opt_step: Optimiser steps that the moments have seen.
    """

    params: Vector
    buffers: Vector
    moments: Mapping[str, Vector]
    opt_step: int

    @property
    def arrays(self) -> dict[str, Vector]:
        """Everything that travels, by its name on the wire."""
        return {"params": self.params, "buffers": self.buffers, **self.moments}

    @property
    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite. Costs one pass over everything."""
        return all(bool(np.isfinite(array).all()) for array in self.arrays.values())

    def with_fresh_moments(self, optimizer: Optimizer) -> Self:
        """The same weights before the first step of an optimiser."""
        start = ADAGRAD_START if optimizer == "adagrad" else 0.0
        moments: dict[str, Vector] = {
            name: np.full_like(self.params, start) for name in MOMENTS[optimizer]
        }
        return replace(self, moments=moments, opt_step=0)


@dataclass(frozen=True)
class NetworkGroup:
    """Slots with one network, and its committed state.

    Attributes:
        key: `c0`, `c1` ...; names the networks inside the nodes.
        slots: Names in slot order.
        state: None until the initial weights are known.
        digest: State digest of the committed weights.
        blob: sha256 of the checkpoint file that holds the weights under their tensor names.
        moments_blob: The same for the optimiser's moments; None when it keeps none.
        version: Versions of this network that the ledger holds.
        rows: Rows of each slot's shard, in the last training.
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
    version: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def plan_digest(self) -> str:
        """Identifies the network, whatever its weights."""
        return json_digest(self.plan.model_dump(mode="json"))

    def tensors(self, state: ModelState) -> dict[str, Vector]:
        """The weights of a state under their names, as a checkpoint stores them."""
        return named_tensors(self.plan, state.params, state.buffers)

    def digest_of(self, state: ModelState) -> str:
        """State digest of a state's weights."""
        return weights_digest(self.plan, state.params, state.buffers)

    def to_json(self) -> dict[str, JsonValue]:
        """Everything but the vectors."""
        return {
            "key": self.key,
            "plan": self.plan.model_dump(mode="json"),
            "slots": list(self.slots),
            "layers_source": self.layers_source,
            "optimizer": self.optimizer,
            "digest": self.digest,
            "blob": self.blob,
            "moments_blob": self.moments_blob,
            "version": self.version,
            "opt_step": self.state.opt_step if self.state else 0,
            "rows": dict(self.rows),
        }


def load_network_group(
    stored: Mapping[str, JsonValue], files: CheckpointFiles | None
) -> NetworkGroup:
    """Read a network back, with its committed state when it has one and there are files to read it from.

    Raises:
        StoreCorrupt: A checkpoint is missing, altered, or does not hold what the plan says.
    """
    values = dict(stored)
    opt_step = values.pop("opt_step")
    plan = NetworkPlan.model_validate_json(_dumps(values.pop("plan")))
    network = NetworkGroup(plan=plan, **{**values, "slots": tuple(values["slots"])})  # type: ignore[arg-type]  # JSON that we wrote
    if network.blob is None or files is None:
        return network
    weights = files.read(network.blob)
    moments = files.read(network.moments_blob) if network.moments_blob is not None else {}
    try:
        state = ModelState(
            params=_joined(weights, [tensor.name for tensor in plan.trainable]),
            buffers=_joined(weights, [tensor.name for tensor in plan.buffers]),
            moments={name: moments[name] for name in MOMENTS[network.optimizer]} if moments else {},
            opt_step=int(opt_step),  # type: ignore[arg-type]  # JSON that we wrote
        )
        found = network.digest_of(state)
    except (KeyError, ValueError) as failure:
        raise StoreCorrupt(
            f"checkpoint {network.blob[:12]} does not hold the tensors of its network",
            hint="restore the state directory from a copy, or train the cluster again",
        ) from failure
    if found != network.digest:
        raise StoreCorrupt(
            f"checkpoint {network.blob[:12]} has weights {found[:12]}, the journal says"
            f" {(network.digest or 'none')[:12]}",
            hint="restore the state directory from a copy, or train the cluster again",
        )
    return replace(network, state=state)


@dataclass(frozen=True)
class Bundle:
    """What answers predictions: all numbers of one reply belong to one bundle.

    Attributes:
        version: Committed version of the cluster.
        digests: Weights digest per network.
        parity: 0 or 1: which of a node's two serving copies holds these weights.
        slot_weights: Normalised weight per slot for `weighted` and `ensemble`.
        weights_source: `validation loss` or `equal`.
        calibrators: Per aggregation mode; a mode without one reports uncalibrated values.
        residual_quantiles: 90 % quantile of absolute errors on calibration rows, per mode (regression).
        residual_median: Median of them for `weighted`, the tolerance of agreement (regression).
        error_correlation: Mean pairwise correlation of the slots' errors on calibration rows.
    """

    version: int
    digests: Mapping[str, str]
    parity: int
    slot_weights: Mapping[str, float]
    weights_source: str
    calibrators: Mapping[str, Calibrator]
    residual_quantiles: Mapping[str, float]
    residual_median: float | None
    error_correlation: float | None

    @property
    def sha(self) -> str:
        """sha256 over everything that shapes an answer."""
        return json_digest({**self.to_json(), "parity": None})

    def to_json(self) -> dict[str, JsonValue]:
        """All fields as JSON."""
        return {
            "version": self.version,
            "digests": dict(self.digests),
            "parity": self.parity,
            "slot_weights": dict(self.slot_weights),
            "weights_source": self.weights_source,
            "calibrators": {mode: c.to_json() for mode, c in self.calibrators.items()},
            "residual_quantiles": dict(self.residual_quantiles),
            "residual_median": self.residual_median,
            "error_correlation": self.error_correlation,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, JsonValue]) -> Self:
        """Read back what `to_json` wrote."""
        values = dict(stored)
        calibrators = values.pop("calibrators")
        return cls(
            calibrators={m: Calibrator.from_json(c) for m, c in calibrators.items()},  # type: ignore[union-attr,arg-type]  # JSON that we wrote
            **values,  # type: ignore[arg-type]  # JSON that we wrote
        )


def _joined(tensors: Mapping[str, Vector], names: list[str]) -> Vector:
    if not names:
        return np.zeros(0, dtype=np.float32)
    return np.concatenate([tensors[name].ravel() for name in names])


def _dumps(value: JsonValue) -> str:
    import json

    return json.dumps(value)
