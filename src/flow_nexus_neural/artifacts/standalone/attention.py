"""Self-attention over the steps of [n, t, c]: multi-head attention, encoder blocks, positions."""

from typing import Any

import numpy as np

from flow_nexus_neural.artifacts.standalone.activations import ACTIVATIONS, Array, softmax

ENCODER_EPSILON = 1e-3


def layer_norm(x: Array, gamma: Array, beta: Array, epsilon: float) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta over the last axis."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    normal: Array = (x - mean) / np.sqrt(variance + epsilon) * gamma + beta
    return normal


def attend(x: Array, parts: dict[str, Array], prefix: str, *, causal: bool) -> Array:
    """softmax(Q K^T / sqrt(key_dim)) V for every step, [n, t, c] to [n, t, c]."""

    def projected(name: str) -> Array:
        kernel, bias = parts[f"{prefix}{name}_kernel"], parts[f"{prefix}{name}_bias"]
        split: Array = np.einsum("ntc,chd->nhtd", x, kernel) + bias[None, :, None, :]
        return split

    query, key, value = projected("query"), projected("key"), projected("value")
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(query.shape[-1])
    if causal:
        future = np.triu(np.ones(scores.shape[-2:], dtype=bool), 1)
        scores = np.where(future, -np.inf, scores)
    mixed = softmax(scores) @ value
    output: Array = np.einsum("nhtd,hdc->ntc", mixed, parts[f"{prefix}output_kernel"])
    return output + parts[f"{prefix}output_bias"]


def encoder(x: Array, args: dict[str, Any], parts: dict[str, Array]) -> Array:
    """Pre-norm blocks: x += attention(norm(x)), then x += feed_forward(norm(x)); no norm at the end."""
    activation = ACTIVATIONS[args["activation"]]
    for number in range(args["depth"]):
        block = f"block{number}."

        def norm(values: Array, name: str, block: str = block) -> Array:
            gamma, beta = parts[f"{block}{name}.gamma"], parts[f"{block}{name}.beta"]
            return layer_norm(values, gamma, beta, ENCODER_EPSILON)

        x = x + attend(norm(x, "attention_norm"), parts, f"{block}attention.", causal=False)
        hidden = norm(x, "feed_forward_norm") @ parts[f"{block}feed_forward_in.kernel"]
        hidden = activation(hidden + parts[f"{block}feed_forward_in.bias"])
        out = hidden @ parts[f"{block}feed_forward_out.kernel"]
        x = x + out + parts[f"{block}feed_forward_out.bias"]
    return x


def sinusoids(steps: int, width: int) -> Array:
    """[steps, width]: sin(p / 10000^(2i / width)) in even columns 2i, cos of the same in odd ones."""
    pairs = np.arange(width) // 2
    angle = np.arange(steps)[:, None] / 10_000.0 ** (2.0 * pairs / width)
    table: Array = np.where(np.arange(width) % 2 == 0, np.sin(angle), np.cos(angle))
    return table
