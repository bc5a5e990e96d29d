"""Keras' initialisers. A tensor's values depend on the seed and its name, not on the order of drawing."""

import hashlib
from math import prod, sqrt
from typing import assert_never

import numpy as np
import torch
from numpy.typing import NDArray

from flow_nexus_neural.protocol.plan import NetworkPlan, TensorSpec


def initial_weights(
    plan: NetworkPlan, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fresh `params` [n_params] and `buffers` [n_buffers] of a plan."""
    return (_flat(plan.trainable, seed), _flat(plan.buffers, seed))


def _flat(specs: tuple[TensorSpec, ...], seed: int) -> NDArray[np.float32]:
    drawn = [initial_tensor(spec, seed).reshape(-1) for spec in specs]
    return np.concatenate(drawn) if drawn else np.zeros(0, np.float32)


def initial_tensor(spec: TensorSpec, seed: int) -> NDArray[np.float32]:
    """Initial values of one tensor."""
    match spec.init:
        case "zeros":
            return np.zeros(spec.shape, np.float32)
        case "ones":
            return np.ones(spec.shape, np.float32)
        case "lstm_bias":
            return _lstm_bias(spec.shape)
        case "glorot_uniform":
            return _glorot_uniform(spec.shape, _generator(spec.name, seed))
        case "orthogonal":
            return _orthogonal(spec.shape, _generator(spec.name, seed))
        case _:
            assert_never(spec.init)


def _generator(name: str, seed: int) -> np.random.Generator:
    """A counter-based generator (Salmon et al. 2011) keyed by seed and name."""
    key = hashlib.sha256(f"fnn-init-1\0{seed}\0{name}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def _lstm_bias(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Ones for the forget gate, the second quarter (Jozefowicz et al. 2015), zeros elsewhere."""
    bias = np.zeros(shape, np.float32)
    quarter = shape[-1] // 4
    bias[..., quarter : 2 * quarter] = 1.0
    return bias


def _glorot_uniform(shape: tuple[int, ...], draw: np.random.Generator) -> NDArray[np.float32]:
    """Uniform in +- sqrt(6 / (fan_in + fan_out)).

    Source: Glorot and Bengio, AISTATS 2010, equation 16; fans of kernels with more axes as in Keras: the last
    two axes are in and out, the others multiply both.
    """
    field = prod(shape[:-2])
    fan_in, fan_out = (shape[-2] * field, shape[-1] * field) if len(shape) > 1 else shape * 2
    limit = sqrt(6.0 / (fan_in + fan_out))
    return draw.uniform(-limit, limit, shape).astype(np.float32)


def _orthogonal(shape: tuple[int, ...], draw: np.random.Generator) -> NDArray[np.float32]:
    """A matrix with orthonormal rows or columns, whichever are fewer.

    Source: Saxe, McClelland and Ganguli, ICLR 2014; signs made unique as in Mezzadri 2007.
    """
    rows, columns = prod(shape[:-1]), shape[-1]
    normal = draw.standard_normal((max(rows, columns), min(rows, columns)))
    # torch's factorisation: it keeps to one thread, numpy's LAPACK has a thread pool of its own.
    q, r = torch.linalg.qr(torch.from_numpy(normal))
    # QR is unique only up to signs, which the library chooses; this makes the diagonal of R positive.
    unique = q * torch.sign(torch.diagonal(r))
    matrix = unique.numpy() if rows >= columns else unique.numpy().T
    return np.ascontiguousarray(matrix, np.float32).reshape(shape)
