"""Words for the calling model: instructions, arguments, and outputs whose name leaves meaning or unit open.

Every byte here is put before a model at the start of each session; `tests/integration` holds the budgets.
"""

INSTRUCTIONS = """\
Builds, trains and serves clusters of neural nodes as sandboxed processes on the user's own machine. It runs \
here and downloads nothing; every number is measured, and null means not measured.

Order: neural_cluster_init -> neural_node_deploy (once per node, at least one worker) -> \
neural_cluster_connect -> neural_train_distributed (returns at once) -> neural_cluster_status with \
wait_seconds 20 until training_status is no longer running -> neural_predict_distributed -> \
neural_cluster_terminate.

Data: a built-in name (crypto_market_historical_data and synthetic:xor are generated and labelled so), \
a CSV, JSON, JSONL or NPZ file in the data directory or the directory in which the server was started, or \
inline: {"data": [[0,1],[1,0],...], "labels": [1,0,...]} or a list of records; at least 30 rows.

input_data is one record, e.g. {"price": 50210, "features": [0.001]}, or a list of records. Limits: 32 nodes \
per cluster, 10 million parameters per network, 1 million rows, unless the operator changed them. An error \
reads `code: what is wrong. what is valid. next call.`"""

_CLUSTER_ID = {"cluster_id": "Id or name"}

INIT_ARGUMENTS = {
    "name": "Label",
    "topology": "How nodes are linked",
    "architecture": "Default network; hybrid: several",
    "consensus": "Recorded; the rule is averaging",
    "wasm_optimization": "A wish",
    "daa_enabled": "Recorded; nothing acts on its own",
    "reuse": "Return a live equal",
    "seed": "Root of all randomness",
}
DEPLOY_ARGUMENTS = _CLUSTER_ID | {
    "node_type": "As role",
    "role": "Default worker",
    "model": "Size; custom needs layers",
    "capabilities": "Free tags",
    "autonomy": "Recorded, not acted on",
    "template": "Echoed",
    "layers": 'Keras-like: [{"type":"dense","units":64,"activation":"relu"}]',
    "replace_node_id": "Failed node or slot",
    "replace": "false: a new slot",
}
CONNECT_ARGUMENTS = _CLUSTER_ID | {
    "topology": "Default declared; star also aggregates",
    "wait_seconds": "For a running round to end",
}
TRAIN_ARGUMENTS = _CLUSTER_ID | {
    "dataset": "Built-in name, file path or inline data",
    "epochs": "Passes; rounds if federated",
    "batch_size": "Per worker",
    "learning_rate": "Step size",
    "optimizer": "Of each worker",
    "federated": "Local training, averaged per round",
    "rounds": "Federated: instead of epochs",
    "local_epochs": "Federated: per round, default 1",
    "clients_per_round": "Federated: default min(5, workers)",
    "min_nodes_per_round": "Federated: fewest updates",
    "aggregation_method": "federated_averaging",
    "partition": "capability, iid, dirichlet:<alpha> or client",
    "target": "Column to predict",
    "time_column": "Orders the rows",
    "features": "Columns",
    "window": "Rows per sequence",
    "horizon": "Rows ahead",
    "seed": "Default from the cluster's",
}
STATUS_ARGUMENTS = _CLUSTER_ID | {
    "detail": "full adds history and events",
    "wait_seconds": "Wait for `until`",
    "until": "News, or the training's end",
    "training_id": "Default the latest",
}
PREDICT_ARGUMENTS = _CLUSTER_ID | {
    "input_data": "A record or a list of them",
    "aggregation": "How answers are combined",
    "weights": "Node id or slot -> weight, for weighted",
    "deadline_ms": "Default 80, plus 5 per further record",
    "detail": "full: node answers of large batches",
}
TERMINATE_ARGUMENTS = _CLUSTER_ID | {
    "training_id": "Stop only this training",
    "delete_artifacts": "Checkpoints too",
}

INIT_OUTPUTS = {"created": "false: reused", "holds": "false: nothing is promised"}
DEPLOY_OUTPUTS = {
    "slot": "stable across replacements",
    "parameters": "null until the input is known",
}
CONNECT_OUTPUTS = {
    "edges": "that work; null above 16 nodes",
    "latency_ms": "of one read",
}
TRAIN_OUTPUTS = {"strategy": "what really runs", "purged": "rows dropped against leakage"}
STATUS_OUTPUTS = {
    "training_progress": "percent; 100: completed or early stopped",
    "global_accuracy": "on test rows; of the direction for regression",
    "accuracy_interval": "Wilson 95 %",
    "baseline_accuracy": "of the majority class",
    "communication_bytes": "on node links, cumulative",
    "avg_latency": "ms of predict",
    "error_rate": "0-1",
    "memory_usage": "percent of limits",
    "performance": "training rows/s, ms of predict",
    "latency": "milliseconds",
}
PREDICT_OUTPUTS = {
    "prediction": "binary: P(class 1); null for a list",
    "predictions": "one per record",
    "confidence": "P(decision is right)",
    "decision": "class per record, or no_quorum",
    "consensus": "share of expected nodes that agree",
    "node_agreement": "1 - mean pairwise difference",
    "coverage": "share of inputs given",
}
TERMINATE_OUTPUTS: dict[str, str] = {}
