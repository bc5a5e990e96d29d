"""Default layer lists for nodes deployed without layers, by role, model size, architecture and input.

A worker's architecture counts where rows have a sequence; rows of values without order get dense layers: they
learn such rows better and faster. The planner appends the output layers, except the validator's, whose task
is always binary. Parameter budgets for 50 steps of 4 channels: base 100 thousand, large 500 thousand, xl 2.5
million.
"""

from copy import deepcopy
from typing import Final

from pydantic import JsonValue

from flow_nexus_neural.errors import UnsupportedCombination
from flow_nexus_neural.protocol.plan import InputSpec

Layers = list[dict[str, JsonValue]]

DROPOUT: Final = 0.1
"""Rate before the output layer of a default network."""
DENSE_DROPOUT: Final = 0.2
"""The same for workers on rows without a sequence, whose layers are wide for what rows tell."""

_HYBRID: Final = ("rnn", "cnn", "transformer")
"""Architectures of a hybrid cluster, assigned to the worker slots in rotation."""


def has_sequence(rows: InputSpec) -> bool:
    """Whether rows have steps in an order: a window of rows, or a vector column."""
    return rows.window is not None or rows.vector_length > 0


def default_layers(
    architecture: str, model: str, role: str, slot_number: int, rows: InputSpec | None = None
) -> Layers:
    """The layer list of a node deployed without layers.

    Args:
        architecture: transformer, cnn, rnn, gnn or hybrid; used for workers only, on rows with a sequence.
        model: base, large or xl.
        role: worker, parameter_server, aggregator or validator.
        slot_number: The number in the slot's name; it selects the architecture in a hybrid cluster.
        rows: What a worker learns from; None where that is not known yet: then its network for sequences.

    Raises:
        UnsupportedCombination: If the model is `custom`, which has no default network.
        ValueError: If a name is unknown.
    """
    if model == "custom":
        raise UnsupportedCombination(
            "model 'custom' was asked for without layers",
            hint="Give layers, or choose model base, large or xl; then call neural_node_deploy again",
        )
    family = role
    if role == "worker" and rows is not None and not has_sequence(rows):
        family = "dense"
    elif role == "worker":
        hybrid = architecture == "hybrid"
        family = _HYBRID[slot_number % len(_HYBRID)] if hybrid else architecture
        few = rows is not None and rows.sequence_shape[1] <= FEW_CHANNELS
        if (family, model) == ("transformer", "base") and few:
            family = "narrow transformer"
    try:
        return deepcopy(_NETWORKS[family][model])  # the caller may modify its list
    except KeyError:
        raise ValueError(f"no default network for {family!r} of size {model!r}") from None


def _dense(units: int, activation: str = "relu") -> dict[str, JsonValue]:
    return {"type": "dense", "units": units, "activation": activation}


def _hidden(*units: int) -> Layers:
    """Dense relu layers, then dropout before the output layer."""
    return [*(_dense(width) for width in units), {"type": "dropout", "rate": DROPOUT}]


FEW_CHANNELS: Final = 4
"""Channels per step up to which a transformer of size base is one LSTM and one encoder, of width 32.

Larger encoders learn the noise of a few thousand rows of so little. The LSTM is what reads a hidden state out
of many noisy steps, the encoder after it what finds a certain step: on made series of either kind the two
together were as good as the better of the two alone.

Source: an LSTM before attention as in Lim et al. 2021, "Temporal Fusion Transformers for Interpretable
Multi-horizon Time Series Forecasting", section 4.5; unlike there, positions are encoded too: without them the
place of a step was not learnt.
"""


def _dense_worker(*units: int) -> Layers:
    return [*_hidden(*units)[:-1], {"type": "dropout", "rate": DENSE_DROPOUT}]


def _transformer(width: int, heads: int, depth: int, *hidden: int) -> Layers:
    encoder: dict[str, JsonValue] = {
        "type": "transformer_encoder",
        "heads": heads,
        "ff_dim": 2 * width,
        "depth": depth,
    }
    return [
        _dense(width, "linear"),
        {"type": "positional_encoding"},
        encoder,
        *_hidden(*hidden),
    ]


def _recurrent_transformer(width: int, heads: int) -> Layers:
    read: Layers = [{"type": "lstm", "units": width, "return_sequences": True}]
    return [*read, *_transformer(width, heads, 1)[1:]]


def _cnn(*stages: tuple[int, int], hidden: int) -> Layers:
    """Stages are (filters, kernel size)."""
    convolutions: Layers = [
        {
            "type": "conv1d",
            "filters": filters,
            "kernel_size": kernel_size,
            "padding": "same",
            "activation": "relu",
        }
        for filters, kernel_size in stages
    ]
    return [*convolutions, {"type": "global_average_pooling1d"}, *_hidden(hidden)]


def _rnn(*units: int, hidden: int) -> Layers:
    last = len(units) - 1
    cells: Layers = [
        {"type": "lstm", "units": width, "return_sequences": position < last}
        for position, width in enumerate(units)
    ]
    return [*cells, *_hidden(hidden)]


def _gnn(*units: int, hidden: int) -> Layers:
    graph: Layers = [{"type": "graph_conv", "units": width} for width in units]
    return [*graph, {"type": "global_average_pooling1d"}, *_hidden(hidden)]


def _aggregator(first: int, second: int) -> Layers:
    return [_dense(first), {"type": "batch_normalization"}, *_hidden(second)]


_VALIDATOR: Final = [*_hidden(64, 32), _dense(1, "sigmoid")]

_NETWORKS: Final[dict[str, dict[str, Layers]]] = {
    "dense": {
        "base": _dense_worker(256),
        "large": _dense_worker(512, 256),
        "xl": _dense_worker(1024, 512, 256),
    },
    "transformer": {
        "base": _transformer(64, 4, 2, 32),
        "large": _transformer(128, 8, 3, 64),
        "xl": _transformer(256, 8, 4, 128),
    },
    "narrow transformer": {"base": _recurrent_transformer(32, 4)},
    "cnn": {
        "base": _cnn((32, 5), (64, 3), hidden=32),
        "large": _cnn((64, 7), (128, 5), (128, 3), hidden=64),
        "xl": _cnn((128, 7), (256, 5), (256, 3), (256, 3), hidden=128),
    },
    "rnn": {
        "base": _rnn(64, hidden=32),
        "large": _rnn(128, 128, hidden=64),
        "xl": _rnn(256, 256, 256, hidden=128),
    },
    "gnn": {
        "base": _gnn(64, 64, hidden=32),
        "large": _gnn(128, 128, 128, hidden=64),
        "xl": _gnn(256, 256, 256, 256, hidden=128),
    },
    "parameter_server": {
        "base": _hidden(128, 64),
        "large": _hidden(256, 128),
        "xl": _hidden(512, 256, 128),
    },
    "aggregator": {
        "base": _aggregator(64, 32),
        "large": _aggregator(128, 64),
        "xl": _aggregator(256, 128),
    },
    "validator": {"base": _VALIDATOR, "large": _VALIDATOR, "xl": _VALIDATOR},
}
