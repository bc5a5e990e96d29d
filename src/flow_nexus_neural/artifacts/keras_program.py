"""Makes a Keras model of described networks, or runs one; a program of its own, for Keras has a backend.

    python keras_program.py build|run FOLDER

`build` reads model.json and tensors.npz and writes model.keras; `run` reads model.keras and rows.npy and
writes logits.npz. It imports nothing of this project.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def build(folder: Path) -> None:
    """Write `model.keras`: from scaled rows to the logits of each network, by key."""
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    with np.load(folder / "tensors.npz", allow_pickle=False) as stored:
        tensors = {name: stored[name] for name in stored.files}
    made(model, tensors).save(folder / "model.keras")


def run(folder: Path) -> None:
    """Write the logits of the rows by network."""
    import keras

    loaded = keras.models.load_model(folder / "model.keras")
    found = loaded(np.load(folder / "rows.npy", allow_pickle=False))
    logits = {key: value.detach().cpu().numpy() for key, value in found.items()}
    np.savez(folder / "logits.npz", **logits)


def made(model: dict[str, Any], tensors: dict[str, Any]) -> Any:
    """The Keras model, its weights set."""
    import keras

    inputs = keras.Input(tuple(model["row_shape"]), name="scaled_rows")
    outputs: dict[str, Any] = {}
    weights: list[tuple[Any, list[Any]]] = []
    for key, described in model["networks"].items():
        x = _entry(keras, inputs, described)
        for planned in described["layers"]:
            if planned["take_last_step"] and len(x.shape) == 3:
                x = x[:, -1]
            arrays = [tensors[full] for full in planned["tensors"].values()]
            x = _Layer(keras, planned, arrays, weights).applied(x)
            if planned["last_query_only"]:
                x = x[:, -1:]
        outputs[key] = x
    whole = keras.Model(inputs, outputs, name="flow_nexus_neural")
    for layer, arrays in weights:
        layer.set_weights(arrays)
    return whole


def _entry(keras: Any, inputs: Any, described: dict[str, Any]) -> Any:
    """Scaled rows as a network takes them: flat, or [steps, channels]."""
    if described["view"] == "flat":
        return keras.layers.Flatten()(inputs)
    if len(inputs.shape) == 3:
        return inputs
    steps, width = described["vector_length"], inputs.shape[1]
    if not steps:
        return keras.layers.Reshape((1, width))(inputs)
    vector = keras.layers.Reshape((steps, 1))(inputs[:, :steps])
    if width == steps:
        return vector
    scalars = keras.layers.RepeatVector(steps)(inputs[:, steps:])
    return keras.layers.Concatenate()([vector, scalars])


class _Layer:
    """One planned layer in Keras' own layers; those with weights are noted with their arrays."""

    def __init__(
        self, keras: Any, planned: dict[str, Any], arrays: list[Any], weights: list[Any]
    ) -> None:
        self._layers = keras.layers
        self._kind, self._args = planned["type"], planned["args"]
        self._arrays, self._weights = list(arrays), weights

    def applied(self, x: Any) -> Any:
        """The output for an input."""
        special = {
            "attention": self._attention,
            "transformer_encoder": self._encoder,
            "graph_conv": self._graph_conv,
            "positional_encoding": self._positions,
        }.get(self._kind)
        if special is not None:
            return special(x)
        layer = self._plain()
        if self._arrays:
            self._weights.append((layer, self._arrays))
        return layer(x)

    def _plain(self) -> Any:
        layers, args = self._layers, self._args
        known = {name: value for name, value in args.items() if value is not None}
        if self._kind in _NAMES:
            return getattr(layers, _NAMES[self._kind])(**known)
        if self._kind == "bidirectional":
            inner = dict(args["layer"])
            cell = getattr(layers, _NAMES[inner.pop("type")])(**inner)
            return layers.Bidirectional(cell, merge_mode=args["merge_mode"])
        raise ValueError(f"layer type {self._kind!r} is unknown")

    def _noted(self, layer: Any, n_arrays: int) -> Any:
        self._weights.append((layer, self._arrays[:n_arrays]))
        self._arrays = self._arrays[n_arrays:]
        return layer

    def _attention(self, x: Any) -> Any:
        heads, key_dim = self._args["heads"], self._args["key_dim"]
        layer = self._noted(self._layers.MultiHeadAttention(heads, key_dim), 8)
        return layer(x, x, use_causal_mask=bool(self._args.get("causal")))

    def _encoder(self, x: Any) -> Any:
        layers = self._layers
        for _ in range(self._args["depth"]):
            normal = self._noted(layers.LayerNormalization(epsilon=1e-3), 2)(x)
            x = layers.Add()([x, self._attention(normal)])
            normal = self._noted(layers.LayerNormalization(epsilon=1e-3), 2)(x)
            hidden = layers.Dense(self._args["ff_dim"], activation=self._args["activation"])
            out = layers.Dense(x.shape[-1])
            mixed = self._noted(hidden, 2)(normal)
            x = layers.Add()([x, self._noted(out, 2)(mixed)])
        return x

    def _graph_conv(self, x: Any) -> Any:
        steps, width = x.shape[1:]
        place = np.arange(steps)
        joined = (np.abs(place[:, None] - place) <= self._args["hops"]).astype(np.float64)
        scale = 1.0 / np.sqrt(joined.sum(axis=1))
        mixing = self._layers.EinsumDense("abc,bd->adc", output_shape=(steps, width))
        self._weights.append((mixing, [scale[:, None] * joined * scale]))
        dense = self._layers.Dense(self._args["units"], activation=self._args["activation"])
        return self._noted(dense, 2)(mixing(x))

    def _positions(self, x: Any) -> Any:
        steps, width = x.shape[1:]
        angle = np.arange(steps)[:, None] / 10_000.0 ** (2.0 * (np.arange(width) // 2) / width)
        table = np.where(np.arange(width) % 2 == 0, np.sin(angle), np.cos(angle))
        adding = self._layers.EinsumDense(
            "abc,bd->adc", output_shape=(steps, width), bias_axes="dc"
        )
        self._weights.append((adding, [np.eye(steps), table]))
        return adding(x)


_NAMES = {
    "dense": "Dense",
    "activation": "Activation",
    "leaky_relu": "LeakyReLU",
    "dropout": "Dropout",
    "spatial_dropout1d": "SpatialDropout1D",
    "gaussian_noise": "GaussianNoise",
    "flatten": "Flatten",
    "batch_normalization": "BatchNormalization",
    "layer_normalization": "LayerNormalization",
    "conv1d": "Conv1D",
    "max_pooling1d": "MaxPooling1D",
    "average_pooling1d": "AveragePooling1D",
    "global_average_pooling1d": "GlobalAveragePooling1D",
    "global_max_pooling1d": "GlobalMaxPooling1D",
    "lstm": "LSTM",
    "gru": "GRU",
    "simple_rnn": "SimpleRNN",
}
"""Layers that take the same arguments under Keras' own name."""


if __name__ == "__main__":
    {"build": build, "run": run}[sys.argv[1]](Path(sys.argv[2]))
