"""Canonical bytes of values and tensors, and their digests, by which states are compared."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from pydantic import JsonValue

from flow_nexus_neural.protocol.plan import NetworkPlan


def canonical_json(value: JsonValue) -> bytes:
    """UTF-8, sorted keys, no spaces, floats in shortest round-trip form, NaN and infinities as null."""
    return json.dumps(
        _finite(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def json_digest(value: JsonValue) -> str:
    """sha256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def state_digest(tensors: Mapping[str, NDArray[Any]]) -> str:
    """sha256 over tensors sorted by name, each as name, dtype, shape and little-endian bytes.

    Name, dtype and shape each end with a zero byte, so that different states have different byte strings.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.asarray(tensors[name], order="C")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name}\0{little.dtype.str.lstrip('<|')}\0{little.shape}\0".encode())
        digest.update(little.data.cast("B") if little.size else b"")  # an empty view cannot be cast
    return digest.hexdigest()


def vectors_digest(vectors: Iterable[NDArray[Any]]) -> str:
    """sha256 over the little-endian bytes of vectors, one after the other; names and shapes do not enter."""
    digest = hashlib.sha256()
    for vector in vectors:
        little = np.ascontiguousarray(vector).astype(vector.dtype.newbyteorder("<"), copy=False)
        digest.update(little.data.cast("B") if little.size else b"")  # an empty view cannot be cast
    return digest.hexdigest()


def named_tensors(
    plan: NetworkPlan, params: NDArray[np.float32], buffers: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Views of the flat vectors under the plan's tensor names.

    Args:
        plan: Gives names, shapes and order.
        params: [n_params] float32.
        buffers: [n_buffers] float32.

    Raises:
        ValueError: If a vector is not exactly as long as the plan says.
    """
    if params.shape != (plan.n_params,) or buffers.shape != (plan.n_buffers,):
        raise ValueError(
            f"vectors of {params.shape} and {buffers.shape} do not fit a plan of"
            f" {plan.n_params} parameters and {plan.n_buffers} buffers"
        )
    named: dict[str, NDArray[np.float32]] = {}
    for vector, specs in ((params, plan.trainable), (buffers, plan.buffers)):
        start = 0
        for spec in specs:
            named[spec.name] = vector[start : start + spec.size].reshape(spec.shape)
            start += spec.size
    return named


def weights_digest(
    plan: NetworkPlan, params: NDArray[np.float32], buffers: NDArray[np.float32]
) -> str:
    """The state digest of a network's weights. Engine and node both compute it with this function."""
    return state_digest(named_tensors(plan, params, buffers))


def training_digest(state: Mapping[str, NDArray[np.float32]], opt_step: int) -> str:
    """BLAKE3 of a whole state of training, in hex: its flat vectors by name, and the number of steps.

    Proofs hash a state after every few steps, and this is most of what they cost: BLAKE3 takes less than a
    third of the time of sha256, and nothing of it is stored. Vectors are hashed as they are and not tensor by
    tensor as in `weights_digest`: for a small network, cutting it would cost more than the hashing.

    Args:
        state: `params`, `buffers` and the optimiser's moments; see `protocol.model_state`.
        opt_step: Optimiser steps that the moments have seen.
    """
    digest = blake3(b"fnn-training-state-2\0" + opt_step.to_bytes(8, "little"))
    for name in sorted(state):
        vector = np.ascontiguousarray(state[name], "<f4")
        digest.update(f"{name}\0{vector.size}\0".encode())
        digest.update(vector.data.cast("B") if vector.size else b"")
    return digest.hexdigest()


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
