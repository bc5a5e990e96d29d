"""Small models, bundles and slots, by hand."""

from types import SimpleNamespace

import numpy as np

from flow_nexus_neural.data.normalise import ColumnSpec
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.context import Notices
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import DatasetInfo, HistoryPoint, SplitSizes, TrainingConfig
from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.engine.state.cluster import ClusterSpec, ClusterState
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.slot_spec import SlotSpec
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.version import Bundle, CommittedVersion
from flow_nexus_neural.kernels.decision import MOST_PROBABLE
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.protocol.plan import InputSpec

CLASSES = {"binary": [0, 1], "multiclass": ["a", "b", "c"], "regression": None}


def schema(task="binary", features=2, **more):
    columns = tuple(
        ColumnSpec(name=f"f{n}", kind="number", mean=(0.0,), sd=(1.0,)) for n in range(features)
    )
    values = {
        "input": InputSpec(vector_length=0, n_scalars=features),
        "task": task,
        "classes": CLASSES[task],
        "columns": columns,
        "target": "y",
        "target_name": "y",
        "target_mean": 10.0 if task == "regression" else 0.0,
        "target_sd": 2.0 if task == "regression" else 1.0,
        "symbols": (),
        "time_ordered": False,
        "target_is_return": False,
        "horizon": 0,
        "outcome_names": ("y",),
    }
    return DataSchema(**values | more)


def plan(task="binary", features=2):
    of = schema(task, features)
    layers = parse_layers(({"type": "dense", "units": of.n_outputs},)).layers
    return plan_network(
        layers, input=of.input, task=task, n_outputs=of.n_outputs, max_parameters=1000
    ).plan


def network(key="c0", slots=("worker-0",), task="binary", digest="d0", state=None, **more):
    return NetworkGroup(
        key=key,
        plan=plan(task),
        slots=tuple(slots),
        layers_source="given",
        optimizer="adam",
        state=state,
        digest=digest,
        **more,
    )


def state(of, seed=1, opt_step=7):
    draw = np.random.Generator(np.random.PCG64(seed))

    def vector(n):
        return draw.standard_normal(n).astype("f4")

    n = of.n_params
    return ModelState(
        vector(n), vector(of.n_buffers), {"m": vector(n), "v": vector(n) ** 2}, opt_step
    )


def bundle(slot_weights, **more):
    values = {
        "version": 3,
        "digests": {"c0": "d0"},
        "parity": 1,
        "slot_weights": slot_weights,
        "weights_source": "equal",
        "calibrators": {},
        "residual_median": None,
        "error_correlation": None,
        "rule": MOST_PROBABLE,
    }
    return Bundle(**values | more)


def dataset(task="binary"):
    return DatasetInfo(
        name="d",
        kind="inline",
        source="inline",
        rows=100,
        columns=["f0", "f1"],
        target="y",
        task=task,
        classes=CLASSES[task],
        split=SplitSizes(train=80, select=0, meta=0, verify=0, calib=0, test=20, purged=0),
        synthetic=False,
        sha256="0" * 64,
        symbols=[],
        excluded_columns=[],
    )


def committed(networks, of_bundle, task="binary", **more):
    values = {
        "version": 3,
        "schema": schema(task),
        "dataset": dataset(task),
        "networks": {c.key: c for c in networks},
        "bundle": of_bundle,
        "evaluation": None,
        "accuracy": 0.75,
        "loss": 0.5,
    }
    return CommittedVersion(**values | more)


def slot(name, autonomy=0.8, **more):
    role = name.rsplit("-", 1)[0]
    spec = SlotSpec(
        role=role,
        node_type=role,
        model="base",
        capabilities=("training",),
        autonomy=autonomy,
        template="nodejs",
        layers=({"type": "dense", "units": 1},),
        layers_source="given",
    )
    return Slot(name=name, spec=spec, node_id=f"node_{name}", **more)


def cluster_state(clock=lambda: 0.0, **more):
    """A cluster without slots; `more` is what its init request says besides the name."""
    return ClusterState(
        cluster_id="dnc_1",
        spec=ClusterSpec.of(InitRequest(name="x", **more), 1),
        created_at="2026-01-01T00:00:00Z",
        clock=clock,
        created_at_s=0.0,
    )


def live(of_state, at="now"):
    """A cluster that runs in nothing: no runtime, no store, no links."""
    context = SimpleNamespace(
        store=None,
        listeners=[],
        clock=of_state.clock,
        timestamp=lambda: at,
        notices=Notices(),
    )
    return LiveCluster(context, of_state, wiring=None)


def point(number, seconds=1.0, val_loss=0.5):
    return HistoryPoint(
        round=number, train_loss=0.5, val_loss=val_loss, accuracy=None, bytes=1, seconds=seconds
    )


def training(rounds=10, seconds=(), patience=0, **more):
    config = TrainingConfig(
        refit=False,
        epochs=rounds,
        batch_size=8,
        learning_rate=0.1,
        optimizer="adam",
        federated=True,
        rounds=rounds,
        local_epochs=2,
        clients_per_round=1,
        min_nodes_per_round=1,
        aggregation_method="federated_averaging",
        partition="iid",
        seed=1,
        strategy="federated",
        sync_every_steps=None,
        class_weight=None,
        threshold=None,
        positive_class=None,
        patience=patience,
        chosen=[],
    )
    made = Training("trn_1", 0, config, "2026-01-01T00:00:00Z", **more)
    for number, one in enumerate(seconds, 1):
        made.history.append(point(number, one))
        made.advance = made.advance.after(made.history[-1], 5, f"d{number}")
    return made
