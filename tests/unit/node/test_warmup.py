"""After the warm-up a node imports nothing, whatever it is asked."""

import json
import subprocess
import sys
from pathlib import Path

from flow_nexus_neural.networks.activations import ACTIVATIONS
from flow_nexus_neural.networks.layers import LAYER_TYPES
from flow_nexus_neural.node import warmup
from flow_nexus_neural.node.activations import ACTIVATIONS as FUNCTIONS
from flow_nexus_neural.node.layers import LAYERS
from flow_nexus_neural.node.warmup import example_networks
from flow_nexus_neural.protocol.model_state import MOMENTS
from tests.unit.node.building import plan_of

ROOT = Path(__file__).parents[3]
SCRIPT = """
import json, os, sys
from tests.unit.node.test_warmup import exercise_everything
from flow_nexus_neural.node.warmup import warm_up

warm_up()
before, threads = set(sys.modules), len(os.listdir("/proc/self/task"))
done = exercise_everything()
print(json.dumps({
    "new": sorted(set(sys.modules) - before),
    "dynamo": "torch._dynamo" in sys.modules,
    "done": done,
    "new_threads": len(os.listdir("/proc/self/task")) - threads,
}))
"""


def exercise_everything():
    """Train, judge and serve one network per layer type and activation, of other sizes than the warm-up's."""
    from flow_nexus_neural.node.warmup import _PRIVATE
    from flow_nexus_neural.protocol.messages import Infer, Load, Pass, Predict
    from flow_nexus_neural.protocol.model_state import MOMENTS
    from tests.unit.node.building import ask, service_with, train_request

    done = 0
    optimizers = list(MOMENTS)
    for number, layers in enumerate(networks()):
        optimizer = optimizers[number % len(optimizers)]
        plan = plan_of(layers)
        service, _, _, x, _ = service_with(plan, count=3, optimizer=optimizer)
        passes = (Pass(order_seed=1), Pass(order_seed=2))
        ask(service, train_request(optimizer=optimizer, batch_size=2, passes=passes))
        if not plan.n_buffers:
            ask(service, train_request(optimizer=optimizer, passes=passes[:1], private=_PRIVATE))
        ask(service, Infer(network="net", weights="publish", data="shard"))
        ask(service, Load(network="net", region="publish"))
        ask(service, Predict(network="net"), {"x": x[:1]})
        service.handle(train_request(batch_size=2, base="none"), {}, lambda: False)
        service.handle(Predict(network="net"), {"x": x[:, :2]}, lambda: False)
        done += 1
    return done


SEQUENCES = [
    [{"type": "conv1d", "filters": 4, "kernel_size": 3, "padding": "same", "activation": "relu"}],
    [{"type": "batch_normalization"}, {"type": "spatial_dropout1d", "rate": 0.1}],
    [{"type": "conv1d", "filters": 4, "kernel_size": 2, "padding": "causal", "dilation_rate": 2}],
    [{"type": "transformer_encoder", "heads": 2}],
    [{"type": "lstm", "units": 4, "return_sequences": True, "dropout": 0.1}],
    [{"type": "lstm", "units": 4, "return_sequences": True, "activation": "relu"}],
    [{"type": "gru", "units": 4, "return_sequences": True, "go_backwards": True}],
    [{"type": "gru", "units": 4, "return_sequences": True, "activation": "elu"}],
    [{"type": "simple_rnn", "units": 4, "return_sequences": True}],
    [{"type": "simple_rnn", "units": 4, "return_sequences": True, "activation": "relu"}],
    [{"type": "simple_rnn", "units": 4, "return_sequences": True, "activation": "selu"}],
    [
        {
            "type": "bidirectional",
            "layer": {"type": "lstm", "units": 2, "return_sequences": True},
            "merge_mode": mode,
        }
        for mode in ("ave", "mul", "sum", "concat")
    ],
    [{"type": "bidirectional", "layer": {"type": "gru", "units": 2, "return_sequences": True}}],
    [{"type": "graph_conv", "units": 4}, {"type": "graph_conv", "units": 6}],
    [{"type": "layer_normalization"}, {"type": "attention", "heads": 2, "key_dim": 3}],
    [{"type": "attention", "heads": 2, "key_dim": 3, "dropout": 0.1, "causal": True}],
    [{"type": "average_pooling1d", "pool_size": 2, "strides": 1}, {"type": "max_pooling1d"}],
]
"""Layers of other settings and neighbours than the warm-up's, which keep a sequence."""

ENDINGS = [
    [{"type": "attention", "heads": 2, "key_dim": 3, "dropout": 0.1}],
    [{"type": "transformer_encoder", "heads": 2}],
    [{"type": "flatten"}],
    [{"type": "global_average_pooling1d"}],
    [{"type": "global_max_pooling1d"}],
]
"""Every way in which a sequence ends."""


def networks():
    for layers in SEQUENCES:
        yield [{"type": "dense", "units": 8}, *layers, {"type": "lstm", "units": 3}]
    for ending in ENDINGS:
        yield [{"type": "dense", "units": 6}, {"type": "positional_encoding"}, *ending]
    for kind in LAYER_TYPES.values():
        if kind.is_computed:
            yield from example_networks(kind)
    for name in ACTIVATIONS:
        yield [{"type": "dense", "units": 7, "activation": name}]
        yield [{"type": "lstm", "units": 3, "recurrent_activation": name}]


def test_no_operation_of_a_node_imports_a_module_after_the_warm_up():
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd=ROOT
    )
    outcome = json.loads(run.stdout)
    assert outcome["new"] == []
    assert outcome["dynamo"] is False
    assert outcome["new_threads"] == 0
    assert outcome["done"] == len(list(networks()))


def warmed():
    return list(warmup._exercises())


def test_the_warm_up_uses_every_layer_type():
    assert {layer.type for plan, _ in warmed() for layer in plan.layers} == set(LAYERS)


def test_the_warm_up_uses_every_activation():
    used = {layer.args.get("activation") for plan, _ in warmed() for layer in plan.layers}
    assert used >= set(FUNCTIONS)


def test_the_warm_up_uses_every_optimizer_with_every_task():
    assert len({(plan.task, optimizer) for plan, optimizer in warmed()}) == 3 * len(MOMENTS)


def test_the_warm_up_computes_attention_in_full_and_for_the_last_step_alone():
    forms = {
        (layer.type, layer.last_query_only)
        for plan, _ in warmed()
        for layer in plan.layers
        if layer.type in ("attention", "transformer_encoder")
    }
    assert len(forms) == 4


def test_the_warm_up_runs_batch_normalization_over_steps_and_rows_frozen_or_not():
    ways = {
        (len(layer.in_shape), any(tensor.trainable for tensor in layer.tensors))
        for plan, _ in warmed()
        for layer in plan.layers
        if layer.type == "batch_normalization"
    }
    assert ways == {(1, True), (1, False), (2, True), (2, False)}
