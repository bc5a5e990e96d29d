"""Small models, bundles and slots, by hand."""

import numpy as np

from flow_nexus_neural.data.normalise import ColumnSpec
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.committed import Committed
from flow_nexus_neural.engine.model import Bundle, Cohort, ModelState
from flow_nexus_neural.engine.reports import DatasetInfo, SplitSizes
from flow_nexus_neural.engine.slots import Slot, SlotSpec
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


def cohort(key="c0", slots=("worker-0",), task="binary", digest="d0", state=None, **more):
    return Cohort(
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
        "residual_quantiles": {},
        "residual_median": None,
        "error_correlation": None,
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


def committed(cohorts, of_bundle, task="binary", **more):
    values = {
        "version": 3,
        "schema": schema(task),
        "dataset": dataset(task),
        "cohorts": {c.key: c for c in cohorts},
        "bundle": of_bundle,
        "evaluation": None,
        "accuracy": 0.75,
        "loss": 0.5,
    }
    return Committed(**values | more)


def slot(name, **more):
    role = name.rsplit("-", 1)[0]
    spec = SlotSpec(
        role=role,
        node_type=role,
        model="base",
        capabilities=("training",),
        autonomy=0.8,
        template="nodejs",
        layers=({"type": "dense", "units": 1},),
        layers_source="given",
    )
    return Slot(name=name, spec=spec, node_id=f"node_{name}", **more)
