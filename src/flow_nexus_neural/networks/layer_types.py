"""The vocabulary as data: every layer type, its other names, its arguments, bounds and defaults.

Names and defaults are those of Keras 3 (https://keras.io/api/layers). `transformer_encoder`,
`positional_encoding` and `graph_conv` have no Keras counterpart; their meaning is in `tensors`.
"""

from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from flow_nexus_neural.networks.activations import ACTIVATION_ALIASES, ACTIVATIONS
from flow_nexus_neural.networks.arguments import (
    Argument,
    Choice,
    Dims,
    Flag,
    Integer,
    Nested,
    Real,
    Text,
    optional,
    required,
)
from flow_nexus_neural.networks.spelling import fold

MAX_LAYERS: Final = 64

_FUNCTION: Final = Choice(ACTIVATIONS, ACTIVATION_ALIASES)
_UNITS: Final = Integer(1, 2048)
_HEADS: Final = Integer(1, 64)
_SPAN: Final = Integer(1, 64)
_RATE: Final = Real(0, 1, below=True)
_EPSILON: Final = Real(1e-12, 1)


@dataclass(frozen=True, slots=True)
class LayerType:
    """One canonical layer type.

    Attributes:
        needs_sequence: It works on [steps, features] only, and so makes a network a sequence network.
        pointwise: It treats every step alone, so taking the last step before or after it is the same.
        stands_for: The canonical type and the fixed arguments it is rewritten to, for shorthands.
    """

    name: str
    aliases: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] = ()
    needs_sequence: bool = False
    pointwise: bool = False
    stands_for: tuple[str, dict[str, JsonValue]] | None = None

    @property
    def accepted(self) -> tuple[Argument, ...]:
        """Its own arguments and those common to all layers."""
        return (*self.arguments, *COMMON)


COMMON: Final = (
    optional("name", Text(64), default=None),
    optional("trainable", Flag(), default=True),
)


def _activation(default: str, name: str = "activation") -> Argument:
    """An activation argument; `null` is the identity, as in Keras."""
    return Argument(name, _FUNCTION, default=default, null_means="linear")


def _recurrent(*, gated: bool) -> tuple[Argument, ...]:
    gates = (_activation("sigmoid", "recurrent_activation"),) if gated else ()
    return (
        required("units", _UNITS),
        optional("return_sequences", Flag(), default=False),
        _activation("tanh"),
        *gates,
        optional("dropout", _RATE, default=0.0),
        optional("go_backwards", Flag(), default=False),
    )


_POOLING: Final = (
    optional("pool_size", _SPAN, default=2),
    optional("strides", _SPAN, default=None),
)

_TYPES: Final = (
    LayerType("input", ("input_layer",), (optional("shape", Dims(), "input_shape", default=None),)),
    LayerType(
        "dense",
        ("linear", "output", "hidden", "feed_forward"),
        (
            required("units", _UNITS, "size", "dim", "num_classes"),
            _activation("linear"),
            optional("use_bias", Flag(), default=True),
        ),
        pointwise=True,
    ),
    LayerType("dropout", (), (required("rate", _RATE, "p"),), pointwise=True),
    LayerType("spatial_dropout1d", (), (required("rate", _RATE, "p"),), needs_sequence=True),
    LayerType("gaussian_noise", (), (required("stddev", Real(0, 1)),), pointwise=True),
    LayerType("lstm", (), _recurrent(gated=True), needs_sequence=True),
    LayerType("gru", (), _recurrent(gated=True), needs_sequence=True),
    LayerType("simple_rnn", ("rnn",), _recurrent(gated=False), needs_sequence=True),
    LayerType(
        "bidirectional",
        (),
        (
            required("layer", Nested()),
            optional("merge_mode", Choice(("concat", "sum", "mul", "ave")), default="concat"),
        ),
        needs_sequence=True,
    ),
    LayerType(
        "attention",
        ("multi_head_attention", "mha", "self_attention"),
        (
            required("heads", _HEADS, "num_heads"),
            required("key_dim", Integer(1, 512), "dim"),
            optional("dropout", _RATE, default=0.0),
            optional("causal", Flag(), default=False),
        ),
        needs_sequence=True,
    ),
    LayerType(
        "transformer_encoder",
        ("transformer_block", "transformer"),
        (
            optional("heads", _HEADS, "num_heads", default=4),
            optional("ff_dim", Integer(1, 4096), "hidden_dim", default=None),
            optional("depth", Integer(1, 8), "num_layers", default=1),
            optional("dropout", _RATE, default=0.1),
            _activation("relu"),
        ),
        needs_sequence=True,
    ),
    LayerType("positional_encoding", (), (), needs_sequence=True),
    LayerType(
        "conv1d",
        ("conv",),
        (
            required("filters", _UNITS),
            required("kernel_size", _SPAN),
            optional("strides", _SPAN, default=1),
            optional("padding", Choice(("valid", "same", "causal")), default="valid"),
            optional("dilation_rate", _SPAN, default=1),
            _activation("linear"),
        ),
        needs_sequence=True,
    ),
    LayerType(
        "graph_conv",
        ("gnn", "gcn"),
        (
            required("units", _UNITS),
            optional("hops", _SPAN, default=2),
            _activation("relu"),
        ),
        needs_sequence=True,
    ),
    LayerType("max_pooling1d", ("maxpool1d",), _POOLING, needs_sequence=True),
    LayerType("average_pooling1d", ("avgpool1d",), _POOLING, needs_sequence=True),
    LayerType("global_average_pooling1d", ("pooling", "global_average"), (), needs_sequence=True),
    LayerType("global_max_pooling1d", ("global_max",), (), needs_sequence=True),
    LayerType("flatten"),
    LayerType(
        "batch_normalization",
        ("batch_norm", "bn"),
        (
            optional("momentum", Real(0, 1, below=True), default=0.99),
            optional("epsilon", _EPSILON, default=1e-3),
        ),
    ),
    LayerType(
        "layer_normalization",
        ("layer_norm", "ln"),
        (optional("epsilon", _EPSILON, default=1e-3),),
        pointwise=True,
    ),
    LayerType("activation", (), (required("activation", _FUNCTION),), pointwise=True),
    LayerType("relu", stands_for=("activation", {"activation": "relu"})),
    LayerType("elu", stands_for=("activation", {"activation": "elu"})),
    LayerType("softmax", stands_for=("activation", {"activation": "softmax"})),
    # Not a shorthand: as a layer its slope is 0.3 in Keras, as an activation 0.2.
    LayerType(
        "leaky_relu",
        (),
        (optional("negative_slope", Real(0, 1), "alpha", default=0.3),),
        pointwise=True,
    ),
)

LAYER_TYPES: Final = {layer_type.name: layer_type for layer_type in _TYPES}
"""Canonical name to type, in the order of documentation."""

_ALIASES: Final = {
    fold(name): layer_type
    for layer_type in _TYPES
    for name in (layer_type.name, *layer_type.aliases)
}

KNOWN_NAMES: Final = tuple(
    name for layer_type in _TYPES for name in (layer_type.name, *layer_type.aliases)
)
"""Every accepted type name, for the search of the nearest one."""

_CODE = "code from a caller is never run"
_CHAIN = "a layer list is one chain from input to output"
_ONE_AXIS = "rows have at most one time axis; use conv1d and the 1-D pooling layers"
_SCALED = "the data is scaled and encoded before it reaches the network"
_TASK = "networks are trained on a target; use dense layers for an encoder"

_REFUSED: Final = {
    "lambda": _CODE,
    "custom": _CODE,
    "custom_object": _CODE,
    "embedding": "data is numeric only",
    "conv2d": _ONE_AXIS,
    "conv3d": _ONE_AXIS,
    "separable_conv2d": _ONE_AXIS,
    "depthwise_conv2d": _ONE_AXIS,
    "conv_lstm2d": _ONE_AXIS,
    "max_pooling2d": _ONE_AXIS,
    "maxpool2d": _ONE_AXIS,
    "average_pooling2d": _ONE_AXIS,
    "global_average_pooling2d": _ONE_AXIS,
    "global_max_pooling2d": _ONE_AXIS,
    "spatial_dropout2d": _ONE_AXIS,
    "gan": _TASK,
    "autoencoder": _TASK,
    "vae": _TASK,
    "normalization": _SCALED,
    "rescaling": _SCALED,
    "discretization": _SCALED,
    "category_encoding": _SCALED,
    "hashing": _SCALED,
    "string_lookup": _SCALED,
    "integer_lookup": _SCALED,
    "text_vectorization": _SCALED,
    "add": _CHAIN,
    "concatenate": _CHAIN,
    "multiply": _CHAIN,
    "residual": _CHAIN,
}

_REFUSED_BY_FOLD: Final = {fold(name): reason for name, reason in _REFUSED.items()}


def layer_type_named(name: str) -> LayerType | None:
    """The type with this name or alias; None when there is none."""
    return _ALIASES.get(fold(name))


def refusal_of(name: str) -> str | None:
    """Why a known idea is not offered; None when the name is not one of them."""
    return _REFUSED_BY_FOLD.get(fold(name))
