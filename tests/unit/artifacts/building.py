"""Models of any layers with random weights, and what nodes and engine answer to rows of them."""

import numpy as np
import torch

from flow_nexus_neural.artifacts.model import Examples, ExportedModel, ExportedNetwork
from flow_nexus_neural.coordination.quorum import liars_tolerated
from flow_nexus_neural.data.normalise import ColumnSpec
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.state.version import Bundle
from flow_nexus_neural.engine.versions.served import serve
from flow_nexus_neural.kernels.calibration import Calibrator
from flow_nexus_neural.kernels.decision import DecisionRule
from flow_nexus_neural.networks.layers import LAYER_TYPES
from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.weights import Weights
from flow_nexus_neural.protocol.digest import weights_digest
from flow_nexus_neural.protocol.plan import InputSpec
from tests.unit.node.building import plan_of

WINDOW = InputSpec(vector_length=0, n_scalars=4, window=6)
VECTOR = InputSpec(vector_length=6, n_scalars=2)
FLAT = InputSpec(vector_length=0, n_scalars=4)
DENSE = ({"type": "dense", "units": 5, "activation": "relu"},)
EVERY_LAYER = [
    layer for kind in LAYER_TYPES.values() if kind.is_computed for layer in kind.examples()
]
"""At least one layer of every type, together with every branch of their computation."""

CLASSES = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"], "regression": None}


def schema_of(spec, task="binary", *, priced=False):
    """Columns with statistics of their own; the first scalar is a price of two symbols where `priced`."""
    columns = []
    if spec.vector_length:
        steps = spec.vector_length
        columns.append(ColumnSpec(name="v", kind="vector", mean=(0.5,) * steps, sd=(1.5,) * steps))
    columns += [
        ColumnSpec(name=f"f{n}", kind="number", mean=(n - 1.0,), sd=(1.0 + n,))
        for n in range(spec.n_scalars)
    ]
    if priced:
        columns[0] = ColumnSpec(
            name="price",
            kind="number",
            mean=(0.1,),
            sd=(0.5,),
            medians={"BTC": 50_000.0, "ETH": 3_000.0},
            pooled=(9.0, 2.0),
        )
    return DataSchema(
        input=spec,
        task=task,
        classes=CLASSES[task],
        columns=tuple(columns),
        target="y",
        target_name="y",
        target_mean=20.0 if task == "regression" else 0.0,
        target_sd=4.0 if task == "regression" else 1.0,
        symbols=("BTC", "ETH") if priced else (),
        time_ordered=False,
        target_is_return=False,
        horizon=0,
        outcome_names=("y",),
    )


def network_of(key, layers, schema, seed):
    plan = plan_of(layers, schema.input, schema.task, schema.n_outputs)
    draw = np.random.Generator(np.random.PCG64(seed))
    weights = Weights(plan)
    # Like trained ones: biases and statistics that are not what they begin as.
    params = (0.4 * draw.standard_normal(plan.n_params)).astype("f4")
    buffers = (0.5 + draw.random(plan.n_buffers)).astype("f4")
    weights.load(params, buffers)
    made = ExportedNetwork(key, plan, params, buffers, weights_digest(plan, params, buffers))
    return made, Network(plan), weights


def model_and_examples(
    networks,
    *,
    spec=WINDOW,
    task="binary",
    slots=None,
    robust=False,
    calibrator=None,
    rule=None,
    priced=False,
    rows=4,
):
    """A model of networks by layer list, and rows with the answers of the nodes' own computation.

    Args:
        networks: Layer list of each network; they get the keys c0, c1 ...
        slots: Key of each slot; one slot a network where None.
    """
    schema = schema_of(spec, task, priced=priced)
    made = {f"c{n}": network_of(f"c{n}", own, schema, n) for n, own in enumerate(networks)}
    of_slots = {f"worker-{n}": key for n, key in enumerate(slots or made)}
    rule = rule or DecisionRule()
    bundle = Bundle(
        version=7,
        digests={key: own[0].digest for key, own in made.items()},
        parity=1,
        slot_weights=dict.fromkeys(of_slots, 1 / len(of_slots)),
        weights_source="equal",
        calibrators={} if calibrator is None else {"mean": calibrator},
        residual_median=None,
        error_correlation=None,
        rule=rule,
        robust=robust,
    )
    model = ExportedModel(
        cluster_id="dnc_000000000001",
        name='a \'quoted\' """ name',
        version=7,
        sha="ab" * 32,
        schema=schema,
        networks={key: own[0] for key, own in made.items()},
        slots=of_slots,
        calibrator=calibrator,
        rule=rule,
        liars=liars_tolerated(len(of_slots)) if robust else 0,
        stored={"accuracy": 0.75, "evaluation": None, "bundle": {}},
    )
    return model, examples_of(model, bundle, made, rows)


def examples_of(model, bundle, made, rows):
    schema = model.schema
    draw = np.random.Generator(np.random.PCG64(99))
    raw = 2.0 * draw.standard_normal((rows, *schema.input.row_shape))
    symbols = (None,) * rows
    if schema.symbols:
        raw[..., 0] = np.exp(draw.uniform(6, 12, raw[..., 0].shape))
        symbols = ("BTC", "ETH", None, "BTC", "ETH", None, "DOGE")[:rows]
    raw.reshape(rows, -1)[1, 1] = np.nan
    steps = schema.input.window or 1
    x, _ = schema.scaler.scale(
        raw.reshape(rows * steps, -1), [s for s in symbols for _ in range(steps)]
    )
    x = x.reshape(raw.shape)
    with torch.inference_mode():
        logits = {
            key: net.logits(torch.from_numpy(x), weights).numpy().astype(np.float64)
            for key, (_, net, weights) in made.items()
        }
    stacked = np.stack([logits[key] for key in model.slots.values()])
    weights = list(bundle.slot_weights.values())
    final = serve(bundle, schema, "mean", stacked, weights).final
    answers = final.values[:, None] if final.probabilities is None else final.probabilities
    return Examples(raw, symbols, x, logits, answers, final.decisions)


SCALED = Calibrator("temperature", 0.8, 0.0)
SHIFTED = Calibrator("platt", 1.3, -0.4)

CASES = {
    "every layer": {"networks": [[layer] for layer in EVERY_LAYER]},
    "vector column": {"networks": [[{"type": "lstm", "units": 3}], DENSE], "spec": VECTOR},
    "flat rows": {"networks": [DENSE, [*DENSE, {"type": "batch_normalization"}]], "spec": FLAT},
    "several classes": {
        "networks": [DENSE, [{"type": "gru", "units": 4}]],
        "task": "multiclass",
        "calibrator": SCALED,
        "rule": DecisionRule(0.5, (1.0, 2.0, 4.0)),
    },
    "two classes, weighed": {
        "networks": [DENSE, [{"type": "conv1d", "filters": 3, "kernel_size": 3}]],
        "calibrator": SHIFTED,
        "rule": DecisionRule(0.3, (0.5, 2.0)),
        "slots": ["c0", "c1", "c0"],
    },
    "values": {
        "networks": [DENSE, [{"type": "attention", "heads": 2, "key_dim": 3}]],
        "task": "regression",
    },
    "some may lie": {"networks": [DENSE] * 5, "robust": True, "spec": FLAT},
    "some may lie about classes": {
        "networks": [DENSE] * 4,
        "robust": True,
        "spec": FLAT,
        "task": "multiclass",
    },
    "some may lie about values": {
        "networks": [DENSE] * 4,
        "robust": True,
        "spec": FLAT,
        "task": "regression",
    },
    "prices of symbols": {"networks": [DENSE], "priced": True, "rows": 7},
}
"""Models that together have everything that an export may meet."""
