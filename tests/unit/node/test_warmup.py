"""After the warm-up a node imports nothing, whatever it is asked."""

import json
import subprocess
import sys
from pathlib import Path

from flow_nexus_neural.networks.activations import ACTIVATIONS
from flow_nexus_neural.networks.layer_types import LAYER_TYPES
from flow_nexus_neural.node.network import LAYERS
from flow_nexus_neural.node.warmup import ENDINGS, SEQUENCE_LAYERS, flat_layers
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
    from flow_nexus_neural.protocol.messages import Infer, Load, Pass, Predict
    from flow_nexus_neural.protocol.model_state import MOMENTS
    from tests.unit.node.building import ask, service_with, train_request

    done = 0
    optimizers = list(MOMENTS)
    for number, layers in enumerate(networks()):
        optimizer = optimizers[number % len(optimizers)]
        service, _, _, x, _ = service_with(plan_of(layers), count=9, optimizer=optimizer)
        passes = (Pass(order_seed=1), Pass(order_seed=2))
        ask(service, train_request(optimizer=optimizer, batch_size=4, passes=passes))
        ask(service, Infer(network="net", weights="publish", data="shard"))
        ask(service, Load(network="net", region="publish"))
        ask(service, Predict(network="net"), {"x": x[:1]})
        service.handle(train_request(batch_size=4, base="none"), {}, lambda: False)
        service.handle(Predict(network="net"), {"x": x[:, :2]}, lambda: False)
        done += 1
    return done


def networks():
    for layer in SEQUENCE_LAYERS:
        yield [{"type": "dense", "units": 4}, layer, {"type": "lstm", "units": 3}]
    for ending in ENDINGS.values():
        yield [{"type": "dense", "units": 6}, {"type": "positional_encoding"}, *ending]
    yield flat_layers()
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


def test_the_node_builds_every_layer_type_of_the_vocabulary():
    built = {
        name for name, kind in LAYER_TYPES.items() if kind.stands_for is None and name != "input"
    }
    assert set(LAYERS) == built


def test_the_warm_up_uses_every_layer_type():
    used = {
        layer.type
        for layers in ([*SEQUENCE_LAYERS, *ending] for ending in ENDINGS.values())
        for layer in plan_of(layers).layers
    }
    used |= {layer.type for layer in plan_of(flat_layers()).layers}
    assert used == set(LAYERS)
