"""Nodes as the runtime starts them: what the kernel says of them, what they can do, what they cannot."""

import json
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from flow_nexus_neural.errors import IsolationUnavailable, NodeDied
from flow_nexus_neural.networks.layers import VOCABULARY
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.protocol.messages import (
    Build,
    GetWeights,
    Infer,
    Load,
    Pass,
    Predict,
    Train,
)
from flow_nexus_neural.protocol.model_state import MOMENTS
from flow_nexus_neural.protocol.plan import InputSpec
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess
from flow_nexus_neural.settings import Settings
from tests.doubles.runtimes import spec
from tests.security.harness import STRONGEST_USER, has_landlock, skip_without_namespaces
from tests.security.real_nodes import ANSWER_CHARACTERS, ATTACKS_OF_A_NODE, WORK_THAT_MUST_FAIL

pytestmark = pytest.mark.anyio

ROWS, STEPS = 24, 20
INPUT = InputSpec(vector_length=STEPS, n_scalars=3)
COMMAND = (sys.executable, "-I", str(Path(__file__).with_name("attacking_zygote.py")))

# Sizes other than those of the warm-up: kernels that are compiled for a shape are compiled inside.
SEQUENCE = [
    {"type": "conv1d", "filters": 9, "kernel_size": 5, "padding": "same", "activation": "relu"},
    {"type": "batch_normalization"},
    {"type": "spatial_dropout1d", "rate": 0.2},
    {"type": "positional_encoding"},
    {"type": "transformer_encoder", "heads": 3},
    {"type": "lstm", "units": 17, "return_sequences": True},
    {"type": "gru", "units": 11, "return_sequences": True},
    {"type": "simple_rnn", "units": 8, "return_sequences": True},
    {"type": "bidirectional", "layer": {"type": "lstm", "units": 6, "return_sequences": True}},
    {"type": "graph_conv", "units": 10},
    {"type": "layer_normalization"},
    {"type": "attention", "heads": 2, "key_dim": 7},
    {"type": "average_pooling1d", "pool_size": 2},
    {"type": "max_pooling1d", "pool_size": 2},
]
FLAT = [
    {"type": "dense", "units": 33, "activation": "relu"},
    {"type": "gaussian_noise", "stddev": 0.1},
    {"type": "leaky_relu"},
    {"type": "relu"},
    {"type": "elu"},
    {"type": "softmax"},
    {"type": "activation", "activation": "gelu"},
    {"type": "dropout", "rate": 0.3},
]
NETWORKS = {
    "flatten": [*SEQUENCE, {"type": "flatten"}, *FLAT],
    "average": [*SEQUENCE, {"type": "global_average_pooling1d"}, *FLAT],
    "maximum": [*SEQUENCE, {"type": "global_max_pooling1d"}, *FLAT],
    "last query": [*SEQUENCE[:-2], *FLAT],
    "flat": FLAT,
}


CASES = [
    ("flatten", "binary", "adam"),
    ("average", "multiclass", "sgd"),
    ("maximum", "regression", "rmsprop"),
    ("last query", "binary", "adagrad"),
    ("flat", "multiclass", "adam"),
]


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def runtime(anyio_backend):
    settings = Settings(require_isolation="strict" if has_landlock() else "seccomp")
    launch = partial(ZygoteProcess.launch, COMMAND)
    async with LocalRuntime(settings, launch=launch) as opened:
        yield opened


@pytest.fixture
async def node(runtime):
    started = await runtime.start(spec(memory_mb=256, cpu_s=60))
    yield started
    await started.stop(grace_s=0)


async def command(node, name, stage=None):
    """Run a command in the node; what it answered."""
    plan = _plan([{"type": "dense", "units": 1}], "regression")
    await node.call(Build(network="commands", plan=plan, seed=1))
    order = json.dumps({"name": name, "stage": _portable(stage)}).encode()
    rows = np.zeros((ANSWER_CHARACTERS, *INPUT.row_shape), "f4")
    brought = {"x": rows, "command": np.frombuffer(order, "u1")}
    _, arrays = await node.call(Predict(network="commands"), brought)
    return arrays["y"].astype("u1").tobytes().decode().strip()


def _portable(stage):
    if stage is None:
        return _NO_STAGE
    return {
        "server_pid": stage.server_pid,
        "directory": str(stage.directory),
        "shared_file": str(stage.shared_file),
        "tcp_address": stage.tcp_address,
        "udp_address": stage.udp_address,
        "abstract_name": stage.abstract_name.decode(),
        "unix_path": stage.unix_path,
        "victim_pid": stage.victim.pid,
        "victim_address": stage.victim.address,
        "leaked_fd": stage.leaked_fd,
    }


_NO_STAGE = {
    "server_pid": 0,
    "directory": "/",
    "shared_file": "/",
    "tcp_address": [],
    "udp_address": [],
    "abstract_name": "",
    "unix_path": "",
    "victim_pid": 0,
    "victim_address": 0,
    "leaked_fd": 0,
}


def _plan(layers, task):
    return plan_network(
        parse_layers(layers).layers,
        input=INPUT,
        task=task,
        n_outputs=3 if task == "multiclass" else 1,
        max_parameters=200_000,
    ).plan


@pytest.mark.parametrize("attack", ATTACKS_OF_A_NODE, ids=lambda attack: attack.id)
async def test_a_fresh_node_cannot(runtime, stage, attack):
    if attack.by_namespaces:
        skip_without_namespaces(STRONGEST_USER)
    node = await runtime.start(spec(memory_mb=256, cpu_s=60))
    try:
        outcome = await command(node, attack.id, stage)
    except NodeDied:
        outcome = (await node.wait_exit()).signal
    finally:
        await node.stop(grace_s=0)
    assert outcome in attack.expected


async def test_eleven_nodes_are_strict_by_the_kernels_own_word(runtime, needs_landlock):
    skip_without_namespaces(STRONGEST_USER)
    nodes = [await runtime.start(spec(slot=f"worker-{i}")) for i in range(11)]
    try:
        readings = [_status(node.pid) for node in nodes]
        levels = {node.isolation.level for node in nodes}
        namespaces = {node.isolation.layers["network_namespace"] for node in nodes}
    finally:
        for node in nodes:
            await node.stop(grace_s=0)
    assert levels == {"strict"}
    assert namespaces == {True}
    for status in readings:
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert status["Threads"] == "1"
        sets = ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")
        assert {int(status[name], 16) for name in sets} == {0}
        assert "0" not in status["Uid"].split()
        assert "0" not in status["Gid"].split()
        assert status["Groups"] == "" or os.geteuid() != 0


def _environment(pid):
    return Path(f"/proc/{pid}/environ").read_bytes()


def _status(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def test_a_node_holds_no_descriptor_but_its_socket_and_its_stderr(node):
    if os.geteuid() != 0:
        pytest.skip("only root may look into a node that is not dumpable: NOT tested")
    held = {
        number: os.readlink(f"/proc/{node.pid}/fd/{number}")
        for number in os.listdir(f"/proc/{node.pid}/fd")
    }
    assert set(held) == {"2", "3"}
    assert held["2"].startswith("pipe:")
    assert held["3"].startswith("socket:")


async def test_a_node_shows_nothing_of_our_environment(node, stage):
    if os.geteuid() != 0:
        pytest.skip("only root may look into a node that is not dumpable: NOT tested")
    shown = _environment(node.pid)
    assert b"FLOW_NEXUS" not in shown
    assert b"HOME=" not in shown
    assert b"PATH=" not in shown


@pytest.mark.parametrize(("name", "task", "optimizer"), CASES)
async def test_every_layer_trains_and_predicts_inside_and_loads_no_module(
    runtime, node, name, task, optimizer
):
    before = await command(node, "loaded modules")
    plan = _plan(NETWORKS[name], task)
    await node.call(Build(network="net", plan=plan, seed=3))
    reply, publish = await _train(runtime, node, plan, optimizer)
    assert reply.steps == 3
    assert reply.loss is not None
    _, arrays = await node.call(Infer(network="net", weights="publish", data="shard"))
    assert np.isfinite(arrays["y"]).all()
    await node.call(Load(network="net", region="publish"))
    _, arrays = await node.call(
        Predict(network="net"), {"x": np.zeros((5, *INPUT.row_shape), "f4")}
    )
    assert arrays["y"].shape == (5, plan.n_outputs)
    publish.close()
    assert await command(node, "loaded modules") == before


async def _train(runtime, node, plan, optimizer):
    draw = np.random.Generator(np.random.PCG64(5))
    x = draw.standard_normal((ROWS, *INPUT.row_shape)).astype("f4")
    y = np.arange(ROWS) % 2
    targets = y.astype("i8") if plan.task == "multiclass" else y.astype("f4")
    sizes = {"params": plan.n_params, "buffers": plan.n_buffers}
    sizes |= dict.fromkeys(MOMENTS[optimizer], plan.n_params)
    _, weights = await node.call(GetWeights(network="net"))
    state = {key: np.full(size, 0.1, "f4") for key, size in sizes.items()} | weights
    shard = runtime.share("shard", {"x": x, "y": targets})
    base = runtime.share("base", {key: state[key] for key in sizes})
    publish = runtime.buffer("publish", [(key, "f4", (size,)) for key, size in sizes.items()])
    for region in (shard, base, publish):
        await node.grant(region)
    shard.close()
    base.close()
    train = Train(
        network="net",
        base="base",
        opt_step=0,
        shard="shard",
        publish="publish",
        optimizer=optimizer,
        learning_rate=0.001,
        batch_size=8,
        passes=(Pass(order_seed=5),),
        dropout_seed=1,
        feature_dropout=0.1,
    )
    reply, _ = await node.call(train)
    return reply, publish


def test_the_networks_above_hold_every_layer_type():
    used = {entry.type for layers in NETWORKS.values() for entry in parse_layers(layers).layers}
    spelled_otherwise = {"input", "relu", "elu", "softmax"}  # a description, and activations
    assert set(VOCABULARY) - used == spelled_otherwise


HOW_IT_FAILS = {
    "torch.compile": "ModuleNotFoundError",
    "torch.save to a path": "ModuleNotFoundError",
    "data loader with workers": "ModuleNotFoundError",
    "import a module": "ModuleNotFoundError",
    "share_memory_": "RuntimeError",
    "thread": "RuntimeError",
    "subprocess": "EPERM",
    "open a file": "ENOENT",
}


@pytest.mark.parametrize("name", sorted(WORK_THAT_MUST_FAIL))
async def test_work_that_needs_the_outside_fails_and_the_node_lives_on(node, name):
    assert await command(node, name) == HOW_IT_FAILS[name]
    assert await command(node, "loaded modules") != ""


async def test_a_strict_requirement_refuses_a_weaker_node_and_leaves_nothing(runtime, monkeypatch):
    from flow_nexus_neural.runtime.process import isolation

    weaker = {**isolation.EXPECTED_PROBES, "open": frozenset({"what no kernel says"})}
    monkeypatch.setattr(isolation, "EXPECTED_PROBES", weaker)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(IsolationUnavailable, match="probe open"):
        await runtime.start(spec())
    assert set(os.listdir("/proc/self/fd")) == before


async def test_too_much_memory_is_refused_inside_and_the_node_lives_on(node):
    assert await command(node, "resources-allocate_from_python") == "MemoryError"
    assert await command(node, "loaded modules") != ""
