"""Recurrent layers over [n, t, c] with Keras' weights, gate order and bias rules."""

from typing import Any

import numpy as np

from flow_nexus_neural.artifacts.standalone.activations import ACTIVATIONS, Array


def lstm(x: Array, args: dict[str, Any], parts: dict[str, Array]) -> Array:
    """[n, t, units]; gates i, f, c, o."""
    activation, gate = ACTIVATIONS[args["activation"]], ACTIVATIONS[args["recurrent_activation"]]
    inputs = x @ parts["kernel"] + parts["bias"]
    hidden = np.zeros((len(x), parts["recurrent_kernel"].shape[0]))
    carry, outputs = hidden, []
    for step in range(x.shape[1]):
        joined = inputs[:, step] + hidden @ parts["recurrent_kernel"]
        i, f, c, o = np.split(joined, 4, axis=1)
        carry = gate(f) * carry + gate(i) * activation(c)
        hidden = gate(o) * activation(carry)
        outputs.append(hidden)
    return np.stack(outputs, axis=1)


def gru(x: Array, args: dict[str, Any], parts: dict[str, Array]) -> Array:
    """[n, t, units]; gates z, r, h, the reset gate applied after the matrix product."""
    activation, gate = ACTIVATIONS[args["activation"]], ACTIVATIONS[args["recurrent_activation"]]
    inputs = x @ parts["kernel"] + parts["bias"][0]
    hidden, outputs = np.zeros((len(x), parts["recurrent_kernel"].shape[0])), []
    for step in range(x.shape[1]):
        x_z, x_r, x_h = np.split(inputs[:, step], 3, axis=1)
        joined = hidden @ parts["recurrent_kernel"] + parts["bias"][1]
        h_z, h_r, h_h = np.split(joined, 3, axis=1)
        update = gate(x_z + h_z)
        candidate = activation(x_h + gate(x_r + h_r) * h_h)
        hidden = update * hidden + (1.0 - update) * candidate
        outputs.append(hidden)
    return np.stack(outputs, axis=1)


def simple_rnn(x: Array, args: dict[str, Any], parts: dict[str, Array]) -> Array:
    """[n, t, units]."""
    activation = ACTIVATIONS[args["activation"]]
    inputs = x @ parts["kernel"] + parts["bias"]
    hidden, outputs = np.zeros((len(x), parts["recurrent_kernel"].shape[0])), []
    for step in range(x.shape[1]):
        hidden = activation(inputs[:, step] + hidden @ parts["recurrent_kernel"])
        outputs.append(hidden)
    return np.stack(outputs, axis=1)


CELLS = {"lstm": lstm, "gru": gru, "simple_rnn": simple_rnn}


def recurrent(x: Array, kind: str, args: dict[str, Any], parts: dict[str, Array]) -> Array:
    """All steps in the order of processing, or only the last one processed, [n, units]."""
    outputs = CELLS[kind](x[:, ::-1] if args["go_backwards"] else x, args, parts)
    return outputs if args["return_sequences"] else outputs[:, -1]


def bidirectional(x: Array, args: dict[str, Any], parts: dict[str, Array]) -> Array:
    """Two layers, one over the reversed steps, merged position by position."""
    inner = args["layer"]
    both = [
        recurrent(
            x,
            inner["type"],
            {**inner, "go_backwards": backwards},
            {k.removeprefix(prefix): v for k, v in parts.items() if k.startswith(prefix)},
        )
        for prefix, backwards in (("forward.", False), ("backward.", True))
    ]
    ahead, behind = both[0], both[1][:, ::-1] if inner["return_sequences"] else both[1]
    if args["merge_mode"] == "concat":
        return np.concatenate([ahead, behind], axis=-1)
    if args["merge_mode"] == "mul":
        return ahead * behind
    return (ahead + behind) / (2.0 if args["merge_mode"] == "ave" else 1.0)
