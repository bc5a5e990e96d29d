"""Every layer type as WebAssembly against float64, and one result for a row whatever its batch."""

import numpy as np
import pytest

from flow_nexus_neural.networks.layers import LAYER_TYPES
from flow_nexus_neural.node.activations import ACTIVATIONS
from flow_nexus_neural.protocol.plan import InputSpec
from flow_nexus_neural.wasm.compile.layers import EMITTERS
from flow_nexus_neural.wasm.compile.network import compile_network
from flow_nexus_neural.wasm.compile.writer import NotCompilable
from flow_nexus_neural.wasm.machine import LoadedNetwork, WasmTrap
from tests.unit.node.building import FLAT, SEQUENCE, plan_of, rows
from tests.unit.wasm.reference import in_float64, loaded, random_state

WINDOW = InputSpec(vector_length=0, n_scalars=4, window=9)
BATCHES = (1, 2, 3, 5, 7, 13, 33)
EXAMPLES = [
    pytest.param(example, id=f"{kind.name}-{number}")
    for kind in LAYER_TYPES.values()
    if kind.is_computed
    for number, example in enumerate(kind.examples())
]
WIDE = {"type": "dense", "units": 33, "activation": "relu"}
LSTM = {"type": "lstm", "units": 9, "return_sequences": True}
STACKS = [
    [WIDE, {"type": "dense", "units": 1}, {"type": "dense", "units": 9, "activation": "tanh"}],
    [LSTM, {"type": "attention", "heads": 2, "key_dim": 5}, WIDE],
    [{"type": "attention", "heads": 3, "key_dim": 5, "causal": True}, {"type": "flatten"}],
    [{"type": "transformer_encoder", "heads": 2, "depth": 2}],
    [{"type": "transformer_encoder", "heads": 2}, {"type": "global_average_pooling1d"}],
    [{"type": "graph_conv", "units": 2}, {"type": "graph_conv", "units": 9}, {"type": "flatten"}],
    [{"type": "conv1d", "filters": 9, "kernel_size": 2, "strides": 2}, {"type": "flatten"}],
]


def holds(plan, *, relative=1e-5):
    """Equal to float64, and each row equal to the last bit in every batch that it is part of."""
    state = random_state(plan)
    module, asked = loaded(plan, state), rows(100, plan.input)
    outputs = module.infer(asked)
    wanted = in_float64(plan, state, asked)
    assert np.abs(outputs - wanted).max() <= relative * max(1.0, np.abs(wanted).max())
    for size in BATCHES:
        np.testing.assert_array_equal(module.infer(asked[:size]), outputs[:size])
        np.testing.assert_array_equal(module.infer(asked[-size:]), outputs[-size:])


def test_every_layer_type_of_the_vocabulary_is_written():
    assert set(EMITTERS) == {kind.name for kind in LAYER_TYPES.values() if kind.is_computed}


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_layer_is_computed_as_float64_does_in_every_batch(example):
    holds(plan_of([example], WINDOW))
    if not LAYER_TYPES[example["type"]].needs_sequence:
        holds(plan_of([example], FLAT))


@pytest.mark.parametrize("layers", STACKS)
def test_stacks_of_layers_are_computed_as_float64_does(layers):
    holds(plan_of(layers, WINDOW, task="multiclass"))


def test_a_vector_column_and_scalars_become_a_sequence():
    holds(plan_of([LSTM, WIDE], SEQUENCE))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_an_activation_is_computed_as_float64_does(name):
    holds(plan_of([{"type": "dense", "units": 9, "activation": name}], FLAT))


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"exponential"}))
def test_an_activation_holds_far_from_zero(name):
    plan = plan_of([{"type": "activation", "activation": name}], FLAT)
    state = random_state(plan)
    asked = rows(20, FLAT) * np.float32(1e4)
    wanted = in_float64(plan, state, asked)
    np.testing.assert_allclose(loaded(plan, state).infer(asked), wanted, rtol=1e-5, atol=1e-5)


def test_rows_that_do_not_fit_are_refused_and_the_module_goes_on():
    plan = plan_of([WIDE], FLAT)
    module, asked = loaded(plan, random_state(plan)), rows(3, FLAT)
    first = module.infer(asked)
    for wrong in (asked[:0], asked[:, :2], asked[:0, :2], np.full_like(asked, np.nan)):
        with pytest.raises(ValueError, match="rows"):
            module.infer(wrong)
    for n in (0, -1, module.compiled.max_batch + 1):
        with pytest.raises(WasmTrap):
            module._instance.run(n)
    np.testing.assert_array_equal(module.infer(asked), first)


@pytest.mark.parametrize("units", [1, 9, 33])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7, 8, 9])
def test_a_product_of_any_width_is_that_of_float64(width, units):
    holds(plan_of([{"type": "dense", "units": units}], InputSpec(vector_length=0, n_scalars=width)))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("width", [1, 4, 7])
def test_one_value_that_is_not_finite_traps_wherever_it_stands(width, wrong):
    """Also where a layer would hide it; and what an earlier run left behind does not count."""
    plan = plan_of(
        [{"type": "activation", "activation": "relu"}],
        InputSpec(vector_length=0, n_scalars=width),
    )
    module, asked = loaded(plan, random_state(plan)), rows(3, plan.input)
    wanted = module.infer(asked)
    for place in range(3 * width):
        broken = asked.copy()
        broken.flat[place] = wrong
        with pytest.raises(ValueError, match="not finite"):
            module.infer(broken)
        # Rows of a later call lie where the broken ones were.
        n = place // width
        if n:
            np.testing.assert_array_equal(module.infer(asked[:n]), wanted[:n])


def test_a_network_that_needs_too_much_memory_is_named_and_not_compiled():
    long = InputSpec(vector_length=0, n_scalars=64, window=20_000)
    layers = [{"type": "lstm", "units": 256, "return_sequences": True}]
    with pytest.raises(NotCompilable, match="MiB of memory"):
        compile_network(plan_of(layers, long))


def test_the_module_of_a_shape_does_not_depend_on_weights_and_other_weights_need_no_new_one():
    plan = plan_of([WIDE], FLAT)
    assert compile_network(plan).text == compile_network(plan).text
    module = loaded(plan, random_state(plan, seed=1))
    assert isinstance(module, LoadedNetwork)
    state, asked = random_state(plan, seed=2), rows(4, FLAT)
    from flow_nexus_neural.protocol.digest import named_tensors

    module.load(named_tensors(plan, *state))
    np.testing.assert_array_equal(module.infer(asked), loaded(plan, state).infer(asked))
