"""A layer from outside works everywhere once it is described and computed: two classes, nothing else."""

import json
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch

import flow_nexus_neural
from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks import layers as described
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import check_structure
from flow_nexus_neural.node import layers as computed
from flow_nexus_neural.node import warmup
from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.weights import Weights
from flow_nexus_neural.protocol.messages import Infer, Load, Predict
from tests.unit.node.building import (
    FLAT,
    SEQUENCE,
    ask,
    plan_of,
    service_with,
    train_request,
    weights_of,
)

TOY = Path(__file__).parent / "toy_layer"

LAYERS = [
    {"type": "dense", "units": 4},
    {"type": "Gain", "times": "3"},
    {"type": "dense", "units": 2},
]


def run_file(path):
    spec = spec_from_file_location(f"toy_{path.stem}", path)
    spec.loader.exec_module(module_from_spec(spec))


@pytest.fixture
def scale():
    """The toy layer, entered by its two files and taken out again."""
    run_file(TOY / "described.py")
    run_file(TOY / "computed.py")
    yield
    described.unregister("scale")
    computed.unregister("scale")


@pytest.mark.usefixtures("scale")
def test_it_is_read_with_its_aliases_defaults_and_warnings():
    parsed = parse_layers([{"type": "GAIN", "factor": "0"}])
    assert parsed.layers[0].to_json() == {"type": "scale", "copies": 2, "factor": 0.0}
    assert parsed.warnings == ["layers[0] scale with factor 0 gives zeros"]
    check_structure(parsed.layers)


@pytest.mark.usefixtures("scale")
def test_errors_know_its_bounds_arguments_and_name():
    with pytest.raises(
        InvalidArchitecture, match=r"layers\[0\] scale copies=9 is outside 1-8"
    ) as e:
        parse_layers([{"type": "scale", "copies": 9}])
    assert e.value.hint.startswith(
        "Arguments of scale: copies? (times), factor?, name?, trainable?"
    )
    with pytest.raises(InvalidArchitecture, match="did you mean 'scale'") as e:
        parse_layers([{"type": "scales"}])
    assert "leaky_relu, scale." in e.value.hint


@pytest.mark.usefixtures("scale")
def test_it_is_planned_with_its_shape_and_tensors():
    layer = plan_of(LAYERS, FLAT).layers[1]
    assert (layer.type, layer.in_shape, layer.out_shape) == ("scale", (4,), (12,))
    assert [(t.name, t.shape, t.init) for t in layer.tensors] == [("layers.1.gain", (12,), "ones")]


@pytest.mark.usefixtures("scale")
def test_as_a_pointwise_layer_it_gets_the_last_step_only_at_the_end_of_a_sequence_network():
    plan = plan_of([{"type": "positional_encoding"}, {"type": "scale"}], SEQUENCE)
    assert plan.layers[1].take_last_step
    assert plan.layers[1].out_shape == (6,)


@pytest.mark.usefixtures("scale")
def test_it_computes_what_it_says():
    plan = plan_of([{"type": "scale", "copies": 2, "factor": 0.5}], FLAT)
    weights = weights_of(plan)
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    parts = weights.layers[0] | {"gain": torch.arange(10.0)}
    found = Network(plan)._layers[0](x, parts, None)
    assert torch.equal(found, torch.cat((x, x), dim=1) * torch.arange(10.0) * 0.5)


@pytest.mark.usefixtures("scale")
def test_its_tensors_are_trained_published_and_served():
    plan = plan_of(LAYERS, FLAT)
    service, state, published, x, _ = service_with(plan)
    ask(service, train_request())
    ask(service, Infer(network="net", weights="publish", data="shard"))
    ask(service, Load(network="net", region="publish"))
    _, answer = ask(service, Predict(network="net"), {"x": x[:2]})
    assert all(np.isfinite(array).all() for array in answer.values())
    before, after = Weights(plan), Weights(plan)
    before.load(state["params"], state["buffers"])
    after.load(published["params"], published["buffers"])
    gains = before.layers[1]["gain"], after.layers[1]["gain"]
    assert torch.equal(gains[0], torch.ones(12))
    assert (gains[1] != 1.0).all()


@pytest.mark.usefixtures("scale")
def test_the_warm_up_runs_its_examples():
    used = [layer for plan, _ in warmup._exercises() for layer in plan.layers]
    settings = {
        (layer.args["copies"], layer.args["factor"]) for layer in used if layer.type == "scale"
    }
    assert settings == {(2, 1.0), (1, 0.5)}


def test_without_registration_the_name_is_unknown():
    with pytest.raises(InvalidArchitecture, match="'scale' is unknown"):
        parse_layers([{"type": "scale"}])


SCRIPT = """
import json, sys
from flow_nexus_neural.networks.layers import LAYER_TYPES
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.node.layers import LAYERS
from flow_nexus_neural.node.warmup import warm_up
from flow_nexus_neural.protocol.plan import InputSpec

warm_up()
plan = plan_network(
    parse_layers([{"type": "scale"}]).layers,
    input=InputSpec(vector_length=0, n_scalars=3), task="binary", n_outputs=1, max_parameters=100,
).plan
print(json.dumps({
    "from": sys.modules["flow_nexus_neural"].__file__,
    "last": list(LAYER_TYPES)[-1],
    "modules": [type(LAYER_TYPES["scale"]).__module__, LAYERS["scale"].__module__],
    "tensors": [tensor.name for tensor in plan.tensors],
}))
"""


def test_one_file_in_each_of_two_folders_is_all_that_a_layer_takes(tmp_path):
    package = tmp_path / "flow_nexus_neural"
    shutil.copytree(
        Path(flow_nexus_neural.__file__).parent,
        package,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(TOY / "described.py", package / "networks" / "layers" / "scaling.py")
    shutil.copy(TOY / "computed.py", package / "node" / "layers" / "scaling.py")
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{SCRIPT}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    found = json.loads(run.stdout)
    assert Path(found["from"]).parent == package
    assert found["last"] == "scale"
    assert found["modules"] == [
        "flow_nexus_neural.networks.layers.scaling",
        "flow_nexus_neural.node.layers.scaling",
    ]
    assert found["tensors"] == ["layers.0.gain", "head.kernel", "head.bias"]
