"""Self-attention over the steps of a sequence, transformer encoder blocks, and positional encoding."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pydantic import JsonValue
from typing_extensions import override

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.arguments import (
    RATE,
    Flag,
    Integer,
    activation,
    optional,
    required,
)
from flow_nexus_neural.networks.fixed_arguments import (
    KERNEL_AND_BIAS,
    SEED,
    FixedArgument,
    IgnoredArgument,
)
from flow_nexus_neural.networks.layer_type import (
    LayerSpec,
    LayerType,
    SameShape,
    SequenceUse,
    Signal,
    WithoutTensors,
    WrittenLayer,
)
from flow_nexus_neural.networks.registry import register
from flow_nexus_neural.networks.tensors import (
    LayerTensor,
    gamma_and_beta,
    kernel_and_bias,
    under,
)

_HEADS: Final = Integer(1, 64)


@register
class AttentionType(SameShape):
    """Multi-head self-attention.

    Tensors: query_kernel [in, heads, key_dim], query_bias [heads, key_dim], the same for key_ and value_,
    output_kernel [heads, key_dim, in], output_bias [in].
    """

    name = "attention"
    aliases = ("multi_head_attention", "mha", "self_attention")
    arguments = (
        required("heads", _HEADS, "num_heads"),
        required("key_dim", Integer(1, 512), "dim"),
        optional("dropout", RATE, default=0.0),
        optional("causal", Flag(), default=False),
    )
    fixed_arguments = (
        FixedArgument("value_dim", same_as="key_dim"),
        FixedArgument("use_bias", default=True),
        FixedArgument("use_gate", default=False),
        FixedArgument("output_shape"),
        FixedArgument("attention_axes", None, (1,)),
        FixedArgument("sliding_window"),
        IgnoredArgument("flash_attention"),
        *KERNEL_AND_BIAS,
        SEED,
    )
    sequence_use = SequenceUse.ATTENDS

    @override
    def tensors(self, layer: LayerSpec, width: int) -> Iterable[LayerTensor]:
        """See `LayerType.tensors`."""
        return _attention_tensors(width, layer.integer("heads"), layer.integer("key_dim"))

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        # Dropout, and a causal mask with it, take other branches of the computation.
        return (
            {"type": "attention", "heads": 2, "key_dim": 3},
            {"type": "attention", "heads": 2, "key_dim": 3, "dropout": 0.1},
            {"type": "attention", "heads": 2, "key_dim": 3, "dropout": 0.1, "causal": True},
        )


@register
class TransformerEncoderType(LayerType):
    """A stack of pre-norm encoder blocks without a final norm.

    Each block (Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture", figure 1b) is
    x += dropout(attention(norm(x))), then x += dropout(out(activation(in(norm(x))))), with norms of epsilon
    1e-3 and key_dim = width / heads.

    Tensors of block b: block<b>.attention_norm.{gamma, beta}, block<b>.attention.* as those of `attention`,
    block<b>.feed_forward_norm.{gamma, beta}, block<b>.feed_forward_in.{kernel, bias},
    block<b>.feed_forward_out.{kernel, bias}.
    """

    name = "transformer_encoder"
    aliases = ("transformer_block", "transformer")
    arguments = (
        optional("heads", _HEADS, "num_heads", default=4),
        optional("ff_dim", Integer(1, 4096), "hidden_dim", default=None),
        optional("depth", Integer(1, 8), "num_layers", default=1),
        optional("dropout", RATE, default=0.1),
        activation("relu"),
    )
    sequence_use = SequenceUse.ATTENDS

    @override
    def output(self, layer: LayerSpec, signal: Signal) -> Signal:
        """See `LayerType.output`."""
        heads, width = layer.integer("heads"), signal.width
        if width is None or width % heads == 0:
            return signal
        fitting = [str(n) for n in range(1, min(width, 64) + 1) if width % n == 0]
        raise InvalidArchitecture(
            f"{layer.where} heads={heads} does not divide its width {width}",
            hint=f"Heads may be {', '.join(fitting[:8])};"
            " or put a dense layer of another width before it",
        )

    @override
    def tensors(self, layer: LayerSpec, width: int) -> Iterable[LayerTensor]:
        """See `LayerType.tensors`."""
        heads, hidden = layer.integer("heads"), _hidden_width(layer, width)
        for number in range(layer.integer("depth")):
            yield from under(f"block{number}", _block_tensors(width, heads, hidden))

    @override
    def planned_args(self, layer: LayerSpec, width: int) -> dict[str, JsonValue]:
        """Add the hidden width and the width of a head."""
        hidden, key_dim = _hidden_width(layer, width), width // layer.integer("heads")
        return {**layer.args, "ff_dim": hidden, "key_dim": key_dim}

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return (
            {"type": "transformer_encoder", "heads": 2},
            {"type": "transformer_encoder", "heads": 2, "depth": 2, "activation": "gelu"},
        )


@register
class PositionalEncodingType(SameShape, WithoutTensors):
    """Adds a fixed sinusoidal encoding of each step's position."""

    name = "positional_encoding"
    arguments = ()
    sequence_use = SequenceUse.REQUIRED

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return ({"type": "positional_encoding"},)


def _hidden_width(layer: LayerSpec, width: int) -> int:
    """Hidden width of the feed-forward part: as given, else twice the width of the input."""
    given = layer.args["ff_dim"]
    return given if isinstance(given, int) else 2 * width


def _attention_tensors(width: int, heads: int, key_dim: int) -> Iterator[LayerTensor]:
    for role in ("query", "key", "value"):
        yield LayerTensor(f"{role}_kernel", (width, heads, key_dim), "glorot_uniform")
        yield LayerTensor(f"{role}_bias", (heads, key_dim), "zeros")
    yield LayerTensor("output_kernel", (heads, key_dim, width), "glorot_uniform")
    yield LayerTensor("output_bias", (width,), "zeros")


def _block_tensors(width: int, heads: int, hidden: int) -> Iterator[LayerTensor]:
    yield from under("attention_norm", gamma_and_beta(width))
    yield from under("attention", _attention_tensors(width, heads, width // heads))
    yield from under("feed_forward_norm", gamma_and_beta(width))
    yield from under("feed_forward_in", kernel_and_bias(width, hidden))
    yield from under("feed_forward_out", kernel_and_bias(hidden, width))
