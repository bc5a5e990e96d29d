"""Each layer is described by one class and computed by one, under one name; nothing is left to a default."""

from dataclasses import dataclass

import pytest
import torch

from flow_nexus_neural.networks import layers as described
from flow_nexus_neural.networks.layer_type import (
    LayerType,
    SameShape,
    SequenceUse,
    Signal,
    WithoutTensors,
)
from flow_nexus_neural.networks.layers import LAYER_TYPES, VOCABULARY
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.shapes import output_of
from flow_nexus_neural.node import layers as computed
from flow_nexus_neural.node.layer import Layer
from flow_nexus_neural.node.layers import LAYERS
from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.warmup import example_networks
from flow_nexus_neural.protocol.plan import InputSpec
from tests.unit.node.building import plan_of, weights_of

SIX_STEPS_OF_FOUR = InputSpec(vector_length=0, n_scalars=4, window=6)

COMPUTED = [name for name, kind in LAYER_TYPES.items() if kind.is_computed]

ERROR_ORDER = [
    "input",
    "dense",
    "dropout",
    "spatial_dropout1d",
    "gaussian_noise",
    "lstm",
    "gru",
    "simple_rnn",
    "bidirectional",
    "attention",
    "transformer_encoder",
    "positional_encoding",
    "conv1d",
    "graph_conv",
    "max_pooling1d",
    "average_pooling1d",
    "global_average_pooling1d",
    "global_max_pooling1d",
    "flatten",
    "batch_normalization",
    "layer_normalization",
    "activation",
    "relu",
    "elu",
    "softmax",
    "leaky_relu",
]


def lonely_layers():
    """Types that are described and not computed, or computed and not described."""
    return {name for name, kind in LAYER_TYPES.items() if kind.is_computed} ^ set(LAYERS)


class ToyType(SameShape, WithoutTensors):
    name = "toy"
    arguments = ()
    sequence_use = SequenceUse.POINTWISE

    def examples(self):
        return ({"type": "toy"},)


@dataclass(frozen=True, slots=True)
class Toy(Layer):
    @classmethod
    def planned(cls, layer):
        return cls()

    def __call__(self, x, parts, noise):
        return x


def test_every_described_layer_is_computed_and_every_computed_layer_is_described():
    assert lonely_layers() == set()


def test_a_layer_without_its_twin_is_noticed_on_either_side():
    described.register(ToyType)
    try:
        assert lonely_layers() == {"toy"}
    finally:
        described.unregister("toy")
    computed.computes("toy")(Toy)
    try:
        assert lonely_layers() == {"toy"}
    finally:
        computed.unregister("toy")
    assert lonely_layers() == set()


@pytest.mark.parametrize("name", COMPUTED)
def test_a_layer_is_described_and_computed_in_files_of_one_name(name):
    described_in = type(LAYER_TYPES[name]).__module__.rpartition(".")[2]
    assert described_in == LAYERS[name].__module__.rpartition(".")[2]


@pytest.mark.parametrize("kind", LAYER_TYPES.values(), ids=list(LAYER_TYPES))
def test_every_layer_has_examples_that_fit_six_steps_of_four_features(kind):
    read = parse_layers(kind.examples()).layers
    assert read
    for layer in read:
        assert layer.kind is kind
        assert output_of(layer, Signal(is_sequence=True, steps=6, width=4))
        if not kind.needs_sequence:
            assert output_of(layer, Signal(is_sequence=False, steps=None, width=4))


@pytest.mark.parametrize("name", COMPUTED)
def test_every_example_plans_builds_and_runs_in_every_way_it_may_be_used(name):
    used = list(example_networks(LAYER_TYPES[name]))
    assert used
    for layers in used:
        plan = plan_of(layers, SIX_STEPS_OF_FOUR)
        assert name in {layer.type for layer in plan.layers}
        logits = Network(plan).logits(torch.ones(2, 6, 4), weights_of(plan))
        assert logits.shape == (2, 1)
        assert torch.isfinite(logits).all()


def test_errors_list_the_layers_in_a_stable_order():
    assert [name for name in VOCABULARY if name in ERROR_ORDER] == ERROR_ORDER


def test_a_type_that_does_not_say_its_tensors_or_its_shape_cannot_be_registered():
    class NoTensors(SameShape):
        name = "no_tensors"
        arguments = ()
        sequence_use = SequenceUse.POINTWISE

        def examples(self):
            return ()

    class NoShape(WithoutTensors):
        name = "no_shape"
        arguments = ()
        sequence_use = SequenceUse.POINTWISE

        def examples(self):
            return ()

    class NoExamples(SameShape, WithoutTensors):
        name = "no_examples"
        arguments = ()
        sequence_use = SequenceUse.POINTWISE

    for layer_class, missing in (
        (NoTensors, "tensors"),
        (NoShape, "output"),
        (NoExamples, "examples"),
    ):
        with pytest.raises(TypeError, match=missing):
            described.register(layer_class)
        assert layer_class.name not in VOCABULARY


@pytest.mark.parametrize("missing", ["name", "arguments", "sequence_use"])
def test_a_type_that_leaves_out_a_required_attribute_cannot_be_registered(missing):
    given = {"name": "toy", "arguments": (), "sequence_use": SequenceUse.POINTWISE}
    del given[missing]
    base = (SameShape, WithoutTensors)
    layer_class = type("Incomplete", base, {**given, "examples": lambda self: ()})
    with pytest.raises(TypeError, match=f"does not say its {missing}"):
        described.register(layer_class)
    assert set(LAYER_TYPES) == set(COMPUTED) | {"input"}


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("name", "dense"), ("aliases", ("Feed-Forward",)), ("shorthands", {"relu": {}})],
)
def test_no_name_can_mean_two_types(attribute, value):
    before = dict(VOCABULARY)
    with pytest.raises(ValueError, match="already means"):
        described.register(type("Second", (ToyType,), {attribute: value}))
    assert before == VOCABULARY


def test_a_class_that_cannot_compute_cannot_be_registered():
    class NoCall(Layer):
        @classmethod
        def planned(cls, layer):
            raise AssertionError("never built")

    with pytest.raises(TypeError, match="__call__"):
        computed.computes("toy")(NoCall)
    assert "toy" not in LAYERS


def test_no_type_can_be_computed_by_two_classes():
    with pytest.raises(ValueError, match="already computed by Dense"):
        computed.computes("dense")(Toy)


def test_layer_types_are_abstract():
    with pytest.raises(TypeError):
        LayerType()
