"""Accepted spellings of arguments, and known names that are not arguments here.

Callers use names from several related products. A name is accepted, or has no effect and causes a warning, or
is refused with the reason; none is ignored silently.
"""

from collections.abc import Mapping

PUBLISHED = {"wasm_optimization": "wasmOptimization", "daa_enabled": "daaEnabled"}
"""Fields whose published name differs from the field's name."""

_CLUSTER = {"id": "cluster_id"}
_TRAINING = {"session_id": "training_id", "job_id": "training_id"}

ALIASES: Mapping[str, Mapping[str, str]] = {
    "neural_cluster_init": {},
    "neural_node_deploy": {**_CLUSTER, "model_size": "model", "autonomy_level": "autonomy"},
    "neural_cluster_connect": {**_CLUSTER, "wait": "wait_seconds"},
    "neural_train_distributed": {
        **_CLUSTER,
        "target_column": "target",
        "aggregation_rounds": "rounds",
    },
    "neural_cluster_status": {**_CLUSTER, **_TRAINING, "verbose": "detail"},
    "neural_predict_distributed": {
        **_CLUSTER,
        "input": "input_data",
        "aggregation_method": "aggregation",
    },
    "neural_cluster_plot": {**_CLUSTER, "output_path": "path", "type": "kind"},
    "neural_model_export": {**_CLUSTER, "output_path": "path", "model_version": "version"},
    "neural_model_import": {"input_path": "path"},
    "neural_cluster_terminate": {**_CLUSTER, **_TRAINING, "sandbox_id": "node_id"},
    "neural_cluster_list": {"include_terminated": "include_ended"},
    "neural_cluster_view": {**_CLUSTER},
}
"""Further names of arguments, by tool, in snake_case."""

INERT = {
    "user_id": "there are no accounts",
    "tier": "there are no tiers",
    "metadata": "nothing is stored with a call",
    "env_vars": "nodes run no code of the caller",
    "resources": "limits are set when the server is started",
    "ha_mode": "a failed node is replaced when neural_node_deploy is called",
    "gpu_config": "nodes run on the CPU",
    "auto_scaling": "nodes come and go by calls of yours alone",
    "min_workers": "nodes come and go by calls of yours alone",
    "max_workers": "nodes come and go by calls of yours alone",
    "health_check_interval": "node exits are noticed at once",
    "checkpoint_interval": "every committed round is durable",
    "gradient_compression": "updates are exchanged in full",
    "compression_ratio": "updates are exchanged in full",
    "mixed_precision": "training is in float32",
    "coordination_mode": "the engine coordinates every round",
    "knowledge_sharing": "workers share by averaging their weights",
}
"""Names that are accepted without effect; the value is the reason, given in a warning."""

_PRIVACY = (
    "it belongs into the object `privacy`",
    'Pass privacy like {"mode": "central_dp", "target_epsilon": 8, "delta": 1e-5, "clip_norm": 1}',
)
NOT_AVAILABLE: Mapping[str, tuple[str, str]] = dict.fromkeys(
    ("homomorphic_encryption",),
    ("updates are summed under masks, not encrypted", "Pass secure_aggregation: true instead"),
)
"""Known features that this version does not have: (reason, what to do)."""

_FOLLOWS_TASK = "losses and metrics follow the task that the data sets"
REFUSED: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("epsilon", "target_epsilon", "delta", "noise_multiplier", "clipping_norm", "clip_norm"),
        _PRIVACY,
    ),
    "loss": (_FOLLOWS_TASK, "Leave it out; `target` chooses the column and thereby the task"),
    "metrics": (
        _FOLLOWS_TASK,
        "Leave it out; neural_cluster_status reports every metric of the task",
    ),
    "reduce_lr_on_plateau": (
        "a training has one learning rate in all its rounds",
        "Leave it out and give patience to end on a plateau; then train again with a lower learning_rate",
    ),
}
"""Names that must not be ignored, because the caller would expect an effect: (reason, what to do)."""

_NO_NODES = (
    "a cluster starts without nodes",
    "Leave it out here and call neural_node_deploy (count) with the cluster_id",
)
REFUSED_BY_TOOL: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "neural_cluster_init": {
        "federated": (
            "it belongs to a training, not to a cluster",
            "Leave it out here and pass federated to neural_train_distributed",
        ),
        **dict.fromkeys(
            ("nodes", "n_nodes", "num_nodes", "workers", "count", "replicas"), _NO_NODES
        ),
    }
}

BLANK_IS_REFUSED: Mapping[str, frozenset[str]] = {
    "neural_cluster_terminate": frozenset({"training_id", "node_id"})
}
"""Arguments whose empty text is not taken for "not given": without them the call destroys more."""


def snake_case(name: str) -> str:
    """`clusterId` -> `cluster_id`; a name in snake_case is unchanged."""
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).removeprefix(
        "_"
    )


def camel_case(name: str) -> str:
    """`cluster_id` -> `clusterId`."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
