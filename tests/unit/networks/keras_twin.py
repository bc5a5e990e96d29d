"""A planned network rebuilt from Keras layers, as the oracle that ours is compared with.

Nothing of the node's arithmetic is used. Where the plan takes shortcuts the twin does not: it runs the final
dense stack on every step and takes the last one at the very end, and it asks attention for all queries.
"""

import os
import tempfile
from functools import partial

os.environ["KERAS_BACKEND"] = "torch"
os.environ.setdefault("KERAS_HOME", tempfile.mkdtemp(prefix="keras-home-"))

import keras
import numpy as np
import torch

from flow_nexus_neural.protocol.digest import named_tensors

torch.set_num_threads(1)  # as in a node; more threads wait for each other on a busy machine

EPSILON = 1e-3


class Twin:
    """A Keras model and, per layer of the plan, the Keras layers that hold its tensors in order."""

    def __init__(self, plan):
        self.plan = plan
        steps_and_width = plan.layers[0].in_shape
        inputs = keras.Input(steps_and_width)
        self.holders = []
        signal = inputs
        for layer in plan.layers:
            holders, signal = BUILDERS[layer.type](layer, signal)
            for holder in holders:
                holder.trainable = not layer.tensors or any(t.trainable for t in layer.tensors)
            self.holders.append(holders)
        if len(signal.shape) == 3:
            signal = signal[:, -1]
        self.model = keras.Model(inputs, signal)

    def load(self, params, buffers):
        """Put the plan's flat vectors into the Keras layers."""
        named = named_tensors(self.plan, params, buffers)
        for layer, holders in zip(self.plan.layers, self.holders, strict=True):
            pending = [named[tensor.name] for tensor in layer.tensors]
            for holder in holders:
                count = len(holder.weights)
                holder.set_weights(pending[:count])
                pending = pending[count:]
            assert not pending

    def variables(self):
        """Tensor name to Keras variable."""
        return {
            tensor.name: variable
            for layer, holders in zip(self.plan.layers, self.holders, strict=True)
            for tensor, variable in zip(
                layer.tensors, [v for holder in holders for v in holder.weights], strict=True
            )
        }

    def flat(self, specs, value=lambda variable: variable.value):
        """A flat vector of the named tensors, in the plan's order."""
        variables = self.variables()
        parts = [value(variables[spec.name]).detach().numpy().ravel() for spec in specs]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def view_of(self, rows):
        """Stored rows [n, *row_shape] as the plan's view of them."""
        spec = self.plan.input
        if self.plan.view == "flat":
            return rows.reshape(len(rows), -1)
        if spec.window is not None or not spec.vector_length:
            return rows.reshape(len(rows), -1, spec.n_scalars)
        vector, scalars = rows[:, : spec.vector_length], rows[:, spec.vector_length :]
        repeated = np.repeat(scalars[:, None], spec.vector_length, axis=1)
        return np.concatenate([vector[:, :, None], repeated], axis=2)

    def logits(self, rows, *, training=False):
        """Logits [n, n_outputs] as a torch tensor with its graph."""
        view = torch.from_numpy(np.ascontiguousarray(self.view_of(rows)))
        return self.model(view, training=training)

    def loss(self, rows, targets, *, training=True):
        """Mean loss of a batch by Keras' own loss of the task."""
        logits = self.logits(rows, training=training)
        labels = torch.from_numpy(targets)
        if self.plan.task == "multiclass":
            losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        elif self.plan.task == "binary":
            losses = keras.losses.binary_crossentropy(labels[:, None], logits, from_logits=True)
        else:
            losses = keras.losses.mean_squared_error(labels[:, None], logits)
        return losses.mean()

    def gradients(self, rows, targets):
        """Loss and d loss / d params as a flat vector; batch norms move their statistics."""
        loss = self.loss(rows, targets)
        self.model.zero_grad()
        loss.backward()
        grads = self.flat(self.plan.trainable, _gradient)
        return float(loss.detach()), grads

    def step(self, optimizer, rows, targets):
        """One step of a Keras optimiser; returns the loss before it."""
        loss, _ = self.gradients(rows, targets)
        variables = self.model.trainable_variables
        with torch.no_grad():
            optimizer.apply([_gradient(variable) for variable in variables], variables)
        return loss


def _gradient(variable):
    grad = variable.value.grad
    return torch.zeros_like(variable.value) if grad is None else grad


class _Mix(keras.layers.Layer):
    """Multiplies [n, t, c] by a fixed [t, t] from the left."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = torch.tensor(matrix, dtype=torch.float32)

    def call(self, x):
        return self.matrix @ x


class _Shift(keras.layers.Layer):
    """Adds a fixed [t, c]."""

    def __init__(self, table):
        super().__init__()
        self.table = torch.tensor(table, dtype=torch.float32)

    def call(self, x):
        return x + self.table


def _single(make):
    """A builder for a layer that is one Keras layer."""

    def build(layer, signal):
        made = make(layer.args)
        return [made], made(signal)

    return build


def _cell(make, args):
    keywords = {key: value for key, value in args.items() if key != "type"}
    return make(**keywords)


def _bidirectional(args):
    cells = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
    inner = _cell(cells[args["layer"]["type"]], args["layer"])
    return keras.layers.Bidirectional(inner, merge_mode=args["merge_mode"])


def _attention(layer, signal):
    args = layer.args
    attend = keras.layers.MultiHeadAttention(args["heads"], args["key_dim"])
    return [attend], attend(signal, signal, use_causal_mask=args["causal"])


def _encoder(layer, signal):
    args, holders = layer.args, []
    for _ in range(args["depth"]):
        first_norm = keras.layers.LayerNormalization(epsilon=EPSILON)
        attend = keras.layers.MultiHeadAttention(args["heads"], args["key_dim"])
        second_norm = keras.layers.LayerNormalization(epsilon=EPSILON)
        widen = keras.layers.Dense(args["ff_dim"], activation=args["activation"])
        narrow = keras.layers.Dense(layer.in_shape[-1])
        normal = first_norm(signal)
        signal = signal + attend(normal, normal)
        signal = signal + narrow(widen(second_norm(signal)))
        holders += [first_norm, attend, second_norm, widen, narrow]
    return holders, signal


def _positions(layer, signal):
    steps, width = layer.in_shape
    table = np.zeros((steps, width))
    for position in range(steps):
        for column in range(width):
            angle = position / 10_000 ** (2 * (column // 2) / width)
            table[position, column] = np.cos(angle) if column % 2 else np.sin(angle)
    return [], _Shift(table)(signal)


def _graph(layer, signal):
    steps = layer.in_shape[0]
    adjacency = np.array(
        [[float(abs(i - j) <= layer.args["hops"]) for j in range(steps)] for i in range(steps)]
    )
    degrees = np.diag(adjacency.sum(1) ** -0.5)
    dense = keras.layers.Dense(layer.args["units"], activation=layer.args["activation"])
    return [dense], dense(_Mix(degrees @ adjacency @ degrees)(signal))


BUILDERS = {
    "dense": _single(lambda args: keras.layers.Dense(**args)),
    "activation": _single(lambda args: keras.layers.Activation(**args)),
    "leaky_relu": _single(lambda args: keras.layers.LeakyReLU(**args)),
    "dropout": _single(lambda args: keras.layers.Dropout(**args)),
    "spatial_dropout1d": _single(lambda args: keras.layers.SpatialDropout1D(**args)),
    "gaussian_noise": _single(lambda args: keras.layers.GaussianNoise(**args)),
    "lstm": _single(partial(_cell, keras.layers.LSTM)),
    "gru": _single(partial(_cell, keras.layers.GRU)),
    "simple_rnn": _single(partial(_cell, keras.layers.SimpleRNN)),
    "bidirectional": _single(_bidirectional),
    "attention": _attention,
    "transformer_encoder": _encoder,
    "positional_encoding": _positions,
    "conv1d": _single(lambda args: keras.layers.Conv1D(**args)),
    "graph_conv": _graph,
    "max_pooling1d": _single(lambda args: keras.layers.MaxPooling1D(**args)),
    "average_pooling1d": _single(lambda args: keras.layers.AveragePooling1D(**args)),
    "global_average_pooling1d": _single(lambda _: keras.layers.GlobalAveragePooling1D()),
    "global_max_pooling1d": _single(lambda _: keras.layers.GlobalMaxPooling1D()),
    "flatten": _single(lambda _: keras.layers.Flatten()),
    "batch_normalization": _single(lambda args: keras.layers.BatchNormalization(**args)),
    "layer_normalization": _single(lambda args: keras.layers.LayerNormalization(**args)),
}
