"""Every layer type of the vocabulary, and networks of them, on [n, features] or [n, steps, features]."""

from collections.abc import Callable
from typing import Any

import numpy as np

from flow_nexus_neural.artifacts.standalone.activations import ACTIVATIONS, Array, leaky
from flow_nexus_neural.artifacts.standalone.attention import attend, encoder, layer_norm, sinusoids
from flow_nexus_neural.artifacts.standalone.recurrent import CELLS, bidirectional, recurrent

IDENTITIES = ("dropout", "spatial_dropout1d", "gaussian_noise")


def same_padding(steps: int, reach: int, strides: int) -> tuple[int, int]:
    """Zeros before and after, so that there are ceil(steps / strides) outputs; an odd zero goes after."""
    total = max((-(-steps // strides) - 1) * strides + reach + 1 - steps, 0)
    return total // 2, total - total // 2


def windows(x: Array, size: int, strides: int, dilation: int = 1) -> Array:
    """[n, t', size, c] of [n, t, c]."""
    reach = (size - 1) * dilation
    starts = np.arange(0, x.shape[1] - reach, strides)
    places = starts[:, None] + np.arange(size) * dilation
    return x[:, places]


def conv1d(x: Array, args: dict[str, Any], parts: dict[str, Array]) -> Array:
    """Cross-correlation over the steps; kernel [k, c, filters]."""
    size, strides, dilation = args["kernel_size"], args["strides"], args["dilation_rate"]
    reach = (size - 1) * dilation
    before, after = {
        "valid": (0, 0),
        "same": same_padding(x.shape[1], reach, strides),
        "causal": (reach, 0),
    }[args["padding"]]
    padded = np.pad(x, ((0, 0), (before, after), (0, 0)))
    seen = windows(padded, size, strides, dilation)
    out = np.einsum("ntkc,kcf->ntf", seen, parts["kernel"]) + parts["bias"]
    return ACTIVATIONS[args["activation"]](out)


def band_adjacency(steps: int, hops: int) -> Array:
    """D^-1/2 (A + I) D^-1/2 of the graph in which steps i and j are joined if |i - j| <= hops."""
    place = np.arange(steps)
    joined = (np.abs(place[:, None] - place) <= hops).astype(np.float64)
    scale = 1.0 / np.sqrt(joined.sum(axis=1))
    adjacency: Array = scale[:, None] * joined * scale
    return adjacency


def normalised(x: Array, kind: str, args: dict[str, Any], parts: dict[str, Array]) -> Array:
    """Batch normalisation by running statistics, or layer normalisation."""
    if kind == "layer_normalization":
        return layer_norm(x, parts["gamma"], parts["beta"], args["epsilon"])
    scale = parts["gamma"] / np.sqrt(parts["moving_variance"] + args["epsilon"])
    normal: Array = (x - parts["moving_mean"]) * scale + parts["beta"]
    return normal


def dense(x: Array, args: dict[str, Any], parts: dict[str, Array]) -> Array:
    """Each vector times the kernel [in, units]."""
    return ACTIVATIONS[args["activation"]](x @ parts["kernel"] + parts.get("bias", 0.0))


def graph_conv(x: Array, args: dict[str, Any], parts: dict[str, Array]) -> Array:
    """activation(A H W + b) over the band graph of the steps."""
    mixed = band_adjacency(x.shape[1], args["hops"]) @ x
    return ACTIVATIONS[args["activation"]](mixed @ parts["kernel"] + parts["bias"])


def pooled(x: Array, kind: str, args: dict[str, Any]) -> Array:
    """One value per channel for each window of steps, or for all steps."""
    whole = kind.startswith("global_")
    seen = x[:, None] if whole else windows(x, args["pool_size"], args["strides"])
    values: Array = seen.max(axis=2) if "max" in kind else seen.mean(axis=2)
    return values[:, 0] if whole else values


def layer(x: Array, kind: str, args: dict[str, Any], parts: dict[str, Array]) -> Array:
    """The output of one layer outside training."""
    if kind in IDENTITIES:
        return x
    if kind in CELLS:
        return recurrent(x, kind, args, parts)
    if "pooling" in kind:
        return pooled(x, kind, args)
    if "normalization" in kind:
        return normalised(x, kind, args, parts)
    if kind not in LAYERS:
        raise ValueError(f"layer type {kind!r} is unknown")
    return LAYERS[kind](x, args, parts)


LAYERS: dict[str, Callable[[Array, dict[str, Any], dict[str, Array]], Array]] = {
    "dense": dense,
    "conv1d": conv1d,
    "graph_conv": graph_conv,
    "bidirectional": bidirectional,
    "transformer_encoder": encoder,
    "attention": lambda x, args, parts: attend(x, parts, "", causal=args["causal"]),
    "positional_encoding": lambda x, _args, _parts: x + sinusoids(x.shape[1], x.shape[2]),
    "flatten": lambda x, _args, _parts: x.reshape(len(x), -1),
    "activation": lambda x, args, _parts: ACTIVATIONS[args["activation"]](x),
    "leaky_relu": lambda x, args, _parts: leaky(x, args["negative_slope"]),
}


def network(rows: Array, described: dict[str, Any], tensors: dict[str, Array]) -> Array:
    """Logits [n, outputs] of scaled rows [n, features] or [n, steps, features]."""
    x = rows.reshape(len(rows), -1) if described["view"] == "flat" else sequence(rows, described)
    for planned in described["layers"]:
        parts = {name: tensors[full] for name, full in planned["tensors"].items()}
        if planned["take_last_step"] and x.ndim == 3:
            x = x[:, -1]
        x = layer(x, planned["type"], planned["args"], parts)
        if planned["last_query_only"]:
            x = x[:, -1:]
    return x


def sequence(rows: Array, described: dict[str, Any]) -> Array:
    """[n, steps, channels]: a window as it is; else the vector, each scalar repeated as a channel."""
    if rows.ndim == 3:
        return rows
    steps = described["vector_length"]
    if not steps:
        return rows[:, None]
    scalars = np.repeat(rows[:, None, steps:], steps, axis=1)
    return np.concatenate([rows[:, :steps, None], scalars], axis=2)
