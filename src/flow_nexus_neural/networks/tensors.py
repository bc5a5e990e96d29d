"""The tensors of each layer: names, shapes, initialisers, in Keras shape and order of creation.

Under `layers.<index>.` (or `head.`):

    dense                kernel [in, units], bias [units] unless use_bias is false
    lstm                 kernel [in, 4u], recurrent_kernel [u, 4u], bias [4u]; gates i, f, c, o
    gru                  kernel [in, 3u], recurrent_kernel [u, 3u], bias [2, 3u]: of the input, of the
                         state; gates z, r, h; the reset gate acts after the product
    simple_rnn           kernel [in, u], recurrent_kernel [u, u], bias [u]
    bidirectional        forward.* then backward.*, each as its inner layer
    attention            query_kernel [in, heads, key_dim], query_bias [heads, key_dim], the same for
                         key_ and value_, output_kernel [heads, key_dim, in], output_bias [in]
    transformer_encoder  for each block b: block<b>.attention_norm.{gamma, beta}, block<b>.attention.*,
                         block<b>.feed_forward_norm.{gamma, beta},
                         block<b>.feed_forward_in.{kernel, bias}, block<b>.feed_forward_out.{kernel, bias}
    conv1d               kernel [kernel_size, in, filters], bias [filters]
    graph_conv           kernel [in, units], bias [units]
    batch_normalization  gamma, beta, moving_mean, moving_variance [width]; the last two never trainable
    layer_normalization  gamma, beta [width]

`transformer_encoder` is pre-norm (Xiong et al. 2020, "On Layer Normalization in the Transformer
Architecture", figure 1b) without the final norm: x += dropout(attention(norm(x))), then
x += dropout(out(activation(in(norm(x))))), norms with epsilon 1e-3, key_dim = width / heads.
`graph_conv` is H' = activation(A H W + b) of Kipf & Welling 2017 with A the symmetrically normalised band
graph |i - j| <= hops over the steps, self-loops included.
"""

from collections.abc import Iterator
from typing import cast

from pydantic import JsonValue

from flow_nexus_neural.networks.signals import integer
from flow_nexus_neural.networks.vocabulary import LayerSpec
from flow_nexus_neural.protocol.plan import Initializer, TensorSpec

Part = tuple[str, tuple[int, ...], Initializer]
"""Name below the layer's prefix, shape, initialiser."""

_NEVER_TRAINABLE = frozenset({"moving_mean", "moving_variance"})


def tensors_of(layer: LayerSpec, width: int, prefix: str) -> tuple[TensorSpec, ...]:
    """The tensors of a layer whose input has `width` features, named `<prefix>.<part>`."""
    return tuple(
        TensorSpec(
            name=f"{prefix}.{name}",
            shape=shape,
            init=init,
            trainable=layer.trainable and name not in _NEVER_TRAINABLE,
        )
        for name, shape, init in _parts(layer, width)
    )


def dense_parts(width: int, units: int, *, use_bias: bool = True) -> Iterator[Part]:
    """Kernel [in, out] and bias [out]."""
    yield "kernel", (width, units), "glorot_uniform"
    if use_bias:
        yield "bias", (units,), "zeros"


def _parts(layer: LayerSpec, width: int) -> Iterator[Part]:
    match layer.type:
        case "dense":
            use_bias = layer.args["use_bias"] is True
            yield from dense_parts(width, integer(layer, "units"), use_bias=use_bias)
        case "graph_conv":
            yield from dense_parts(width, integer(layer, "units"))
        case "lstm" | "gru" | "simple_rnn":
            yield from _recurrent_parts(layer.type, width, integer(layer, "units"))
        case "bidirectional":
            yield from _bidirectional_parts(layer.args["layer"], width)
        case "attention":
            yield from _attention_parts(width, integer(layer, "heads"), integer(layer, "key_dim"))
        case "transformer_encoder":
            yield from _encoder_parts(layer, width)
        case "conv1d":
            filters = integer(layer, "filters")
            yield "kernel", (integer(layer, "kernel_size"), width, filters), "glorot_uniform"
            yield "bias", (filters,), "zeros"
        case "batch_normalization":
            yield from _norm_parts(width)
            yield "moving_mean", (width,), "zeros"
            yield "moving_variance", (width,), "ones"
        case "layer_normalization":
            yield from _norm_parts(width)
        case _:
            return


def _recurrent_parts(cell: str, width: int, units: int) -> Iterator[Part]:
    gates = {"lstm": 4, "gru": 3, "simple_rnn": 1}[cell]
    yield "kernel", (width, gates * units), "glorot_uniform"
    yield "recurrent_kernel", (units, gates * units), "orthogonal"
    if cell == "gru":
        yield "bias", (2, gates * units), "zeros"
    else:
        yield "bias", (gates * units,), "lstm_bias" if cell == "lstm" else "zeros"


def _bidirectional_parts(inner: JsonValue, width: int) -> Iterator[Part]:
    args = cast("dict[str, JsonValue]", inner)
    for direction in ("forward", "backward"):
        parts = _recurrent_parts(str(args["type"]), width, cast("int", args["units"]))
        yield from _under(direction, parts)


def _attention_parts(width: int, heads: int, key_dim: int) -> Iterator[Part]:
    for role in ("query", "key", "value"):
        yield f"{role}_kernel", (width, heads, key_dim), "glorot_uniform"
        yield f"{role}_bias", (heads, key_dim), "zeros"
    yield "output_kernel", (heads, key_dim, width), "glorot_uniform"
    yield "output_bias", (width,), "zeros"


def _encoder_parts(layer: LayerSpec, width: int) -> Iterator[Part]:
    heads, ff_dim = integer(layer, "heads"), encoder_ff_dim(layer, width)
    for number in range(integer(layer, "depth")):
        block = f"block{number}"
        yield from _under(f"{block}.attention_norm", _norm_parts(width))
        yield from _under(f"{block}.attention", _attention_parts(width, heads, width // heads))
        yield from _under(f"{block}.feed_forward_norm", _norm_parts(width))
        yield from _under(f"{block}.feed_forward_in", dense_parts(width, ff_dim))
        yield from _under(f"{block}.feed_forward_out", dense_parts(ff_dim, width))


def encoder_ff_dim(layer: LayerSpec, width: int) -> int:
    """The hidden width of a transformer encoder: as given, else twice its own width."""
    given = layer.args["ff_dim"]
    return given if isinstance(given, int) else 2 * width


def _norm_parts(width: int) -> Iterator[Part]:
    yield "gamma", (width,), "ones"
    yield "beta", (width,), "zeros"


def _under(prefix: str, parts: Iterator[Part]) -> Iterator[Part]:
    for name, shape, init in parts:
        yield f"{prefix}.{name}", shape, init
