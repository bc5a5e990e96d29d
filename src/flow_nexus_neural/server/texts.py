"""What the calling model reads: the server's instructions, and one sentence for each argument and result.

An argument's text says what the argument does and when to set it, and what each value means that is not
obvious; what is only recorded in this version says so. Every result that is an object is described, and so
is every other one whose name leaves its meaning or unit open. All of this is put before a model at the start
of each session; `tests/integration/test_tool_list.py` holds the budgets.
"""

INSTRUCTIONS = """\
Builds, trains and serves clusters of neural nodes as sandboxed processes on the user's own machine. It runs \
here and downloads nothing; every number is measured, and null means not measured.

Order: neural_cluster_init -> neural_node_deploy (at least one worker; count deploys several) -> \
neural_cluster_connect -> neural_train_distributed (returns at once) -> neural_cluster_status with \
wait_seconds 25 and until "done" (one long poll; repeat it while training_status is "running") -> \
neural_predict_distributed -> neural_cluster_plot (pictures) -> neural_model_export (files; \
neural_model_import reads them) -> neural_cluster_terminate. neural_cluster_list finds earlier clusters.

Data: a built-in name (crypto_market_historical_data and synthetic:xor are generated and labelled so), \
a CSV, JSON, JSONL or NPZ file in the data directory or the directory in which the server was started, or \
inline: {"data": [[0,1],[1,0],...], "labels": [1,0,...]} or a list of records; at least 30 rows.

input_data is one record, e.g. {"price": 50210, "features": [0.001]}, or a list of records; input_path and \
output_path are for files. Limits: 32 nodes \
per cluster, 10 million parameters per network, 1 million rows, unless the operator changed them. An error \
reads `code: what is wrong. what is valid. next call.`"""

_CLUSTER_ID = {"cluster_id": "The cluster's id, or its name if that is unique."}

INIT_ARGUMENTS = {
    "name": "A name of your choice.",
    "topology": (
        "Which nodes neural_cluster_connect links by default. mesh: every pair. ring: each with the next,"
        " the last with the first. star: all with one hub. hierarchical: workers below aggregators below a"
        " parameter_server. It changes what is learnt under gossip only."
    ),
    "architecture": (
        "The network of workers deployed without layers, on windows and vector columns; rows without a"
        " sequence get dense layers. transformer: attention over steps. cnn:"
        " convolutions. rnn: LSTM. gnn: graph convolution over neighbouring steps. hybrid: rnn, cnn and"
        " transformer in turn."
    ),
    "consensus": (
        "proof-of-learning: parts of each worker's steps are executed again elsewhere; cheats are excluded."
        " byzantine: robust rules combine updates and predictions, so that fewer than a third of the workers,"
        " from 4 on, may lie; suspects are in status. raft: the plain mean, visible once most of up to five"
        " voting nodes have it. gossip: workers average with their neighbours only; how far apart they are is"
        " in status."
    ),
    "wasm_optimization": "true: WebAssembly in the server answers predictions for living nodes where it"
    " is measured to be faster (needs the extra wasm); training stays on PyTorch.",
    "daa_enabled": (
        "true: the cluster restarts dead nodes, ends or slows trainings that gain nothing and so on, as far"
        " as its nodes' autonomy goes; status and the audit resource say what was done. false: it only says"
        " what it would do."
    ),
    "reuse": (
        "true: return the live cluster of this name and settings if there is one, instead of a new one."
    ),
    "seed": "Set it to repeat an earlier run; every random choice follows from it.",
    "restore": (
        "Id or name of a terminated cluster to bring back with nodes and model; name then renames it."
    ),
    "version": (
        "With restore, also of a live cluster: put this version of its model in force again, under a new"
        ' number; status (detail "versions") lists them.'
    ),
}
DEPLOY_ARGUMENTS = _CLUSTER_ID | {
    "node_type": "Another name for role; role wins if both are given.",
    "role": (
        "Default worker: trains and predicts. aggregator: learns to combine the workers, for aggregation"
        " ensemble. validator: learns how sure decisions are, and computes evaluations. parameter_server: hub"
        " of links; learns to answer where workers do not."
    ),
    "model": (
        "Size of the default network and of the node's memory: base (up to 100,000 parameters), large"
        " (500,000), xl (2.5 million). custom: needs layers."
    ),
    "capabilities": (
        "Tags. <symbol>_analysis, like btc_analysis, gives a worker that symbol's rows when federated;"
        " others are only recorded."
    ),
    "autonomy": (
        "What daaEnabled may do without asking: from 0.2 restart this node, 0.4 quarantine it when caught;"
        " for the cluster the median counts: 0.5 rebalance, 0.6 stop early, 0.7 adapt the learning rate."
    ),
    "template": "Recorded only: every node is a Python process.",
    "layers": (
        "The network as Keras-like layers; leave it out for the default or to replace a failed node."
        ' Example: [{"type":"lstm","units":64},{"type":"dense","units":32,"activation":"relu"}]; a missing'
        " output layer is added. A Keras model's to_json() is read too."
    ),
    "count": "Deploys this many equal new nodes in one call, all or none.",
    "replace_node_id": "Id or slot name (worker-0) of the failed node to replace.",
    "force": "With replace_node_id: replace it although it is healthy.",
    "replace": (
        "true: a failed node of the same role, model and capabilities is replaced if layers are left out."
        " false: always a new node."
    ),
}
CONNECT_ARGUMENTS = _CLUSTER_ID | {
    "topology": (
        "Leave it out for the cluster's own; values as in neural_cluster_init. On a trained cluster star, or"
        " any change, also averages the workers' weights."
    ),
    "wait_seconds": "While a training runs: how long to wait for the end of its round, when links change.",
}
TRAIN_ARGUMENTS = _CLUSTER_ID | {
    "dataset": (
        'Built-in name, file path or glob, inline {"data": [[...]], "labels": [...]}, or a list of records.'
        " Send a bare list of rows as JSON text. feedback: the recorded outcomes; the new model answers only"
        " if it is better on the newest."
    ),
    "epochs": (
        "Passes over the data; with federated true the number of rounds. This, batch_size, learning_rate and"
        " patience fit the data by themselves if left out."
    ),
    "batch_size": "Rows per optimiser step of each worker.",
    "learning_rate": "Step size of the optimiser.",
    "patience": (
        "Rounds without a better validation loss after which training ends; 0: never. Default: 10, or 0"
        " where epochs or rounds are given."
    ),
    "optimizer": "Optimiser of each worker, with Keras' defaults.",
    "federated": (
        "false: one worker trains on all rows, or all share them and are averaged often, as is faster. true:"
        " each worker trains on its own shard and is averaged once per round."
    ),
    "rounds": "Federated only: number of rounds, instead of epochs.",
    "local_epochs": "Federated only: passes of each worker over its shard per round. Default 1.",
    "clients_per_round": (
        "Federated only: workers that train in a round, up to 5 by default; or clients of the data, all."
    ),
    "min_nodes_per_round": (
        "Federated only: fewest updates that complete a round. Default: 80 % of clients_per_round, but not"
        " all of 3 or more, and where nodes were lost all that are left."
    ),
    "aggregation_method": (
        "Federated only: how the updates of a round are combined. federated_averaging (fedavg): mean by rows,"
        " the default except for consensus byzantine. fedprox, fedavgm, fedadam, fedyogi, fedadagrad,"
        " scaffold (sgd only): for shards that differ. auto, caf, krum, fltrust and others withstand lying"
        " workers. Under gossip push_sum, in a ring. An unknown name is answered with all that there are."
    ),
    "byzantine_f": "How many lying workers a robust rule withstands. Default: below a third.",
    "proximal_mu": "fedprox only: how strongly workers are held near the round's start. Default 0.01.",
    "server_learning_rate": (
        "Step size at the server. Default 0.01 for fedadam, fedyogi, fedadagrad; 1 for fedavgm, scaffold."
    ),
    "server_momentum": "fedavgm, fedadam, fedyogi, fedadagrad: momentum of the server. Default 0.9.",
    "partition": (
        "Federated only: who gets which rows. capability (default): by <symbol>_analysis tags. iid: at"
        " random. dirichlet:<alpha>: skewed labels, the more the smaller alpha. shards:<k>: k pieces each of"
        " the rows sorted by label. client: the data's own clients, merged per worker. each_client: each of"
        " them by itself, in turns on the workers."
    ),
    "target": "Column to predict; set it unless it is called target, label, y, class or direction.",
    "time_column": "Column that orders the rows. Default: the one that holds times, if any.",
    "features": "Columns to learn from. Default: all that can be used.",
    "exclude": "Columns to leave out of every role.",
    "task": (
        "classification: the target's values are classes. regression: they are numbers. Default: as the"
        " values suggest."
    ),
    "window": "Makes each run of this many consecutive rows one input sequence, for time series.",
    "horizon": "Predicts the target this many rows ahead. Default 0; 1 for a price's next move.",
    "test_size": "Rows to test on: a share below 1, or a number of rows. Default: 0.08 to 0.2.",
    "validation_size": "The same for rows that choose the best round; 0: none.",
    "folds": "For rows in time order: a walk-forward test with so many folds.",
    "class_weight": 'What rows of a class count: balanced, or by label like {"yes": 5}.',
    "threshold": (
        "Two classes: least probability that decides positive_class. Default 0.5, or as class_weight implies."
    ),
    "positive_class": "Two classes: the one whose probability is predicted. Default: the latter.",
    "seed": "Set it to repeat this training alone. Default: follows from the cluster's seed.",
    "refit": (
        "true: after the evaluation train once more, on every row, for as many rounds as were best; that"
        " model answers. Default: true for rows in time order."
    ),
    "privacy": (
        'Differential privacy like {"mode": "central_dp", "target_epsilon": 8} or with noise_multiplier:'
        " central_dp for each worker's rows (federated), record_dp for single rows (DP-SGD). Also clip_norm"
        " (1), adaptive, delta (1e-5), max_epsilon for all on these data. Status has what it cost."
    ),
    "secure_aggregation": (
        "Federated only: true: the engine sees masked updates and their sum only. Needs consensus raft and 3"
        " workers."
    ),
}
STATUS_ARGUMENTS = _CLUSTER_ID | {
    "detail": (
        "summary: no list of nodes. nodes: with each node. versions: those that can be restored, with their"
        " metrics. full: also history, training_sessions and daa events."
    ),
    "wait_seconds": "How long to wait for what `until` names; 0 answers at once.",
    "until": (
        "What ends the wait. change: a round, a node, the links or a training changed. done: the training"
        " ended; use it to wait for a training."
    ),
    "training_id": "An earlier training to report on or to wait for. Default: the latest.",
}
PREDICT_ARGUMENTS = _CLUSTER_ID | {
    "input_data": (
        'One record like {"price": 50210} or a list of at most 1,000. Send bare rows of numbers as JSON'
        " text."
    ),
    "input_path": "Instead of input_data: a file of rows, found and read like a dataset.",
    "output_path": (
        "Writes one row per input row into this new .csv, .jsonl or .parquet file in the data directory or"
        " below an --allow-path; needed above 1,000 rows."
    ),
    "overwrite": "true: replace an earlier one.",
    "aggregation": (
        "How the nodes' answers are combined. mean: their average. majority: share of votes, or median."
        " weighted: better nodes count more, by validation rows and by recorded outcomes. ensemble:"
        " aggregators combine them, else as weighted."
    ),
    "weights": 'Only with weighted: your weight per node id or slot, e.g. {"worker-0": 2}.',
    "outcomes": (
        'What became of earlier predictions, e.g. {"prd_1": 1}; of a list one each, or null. A record may'
        " bring its own as expectedOutcome, which no node sees."
    ),
    "deadline_ms": (
        "Nodes that answer later are left out. Default: 80, plus 5 per further record."
    ),
    "detail": "full: each node's answers for large lists too, which default leaves out.",
    "threshold": "Two classes: decides this call instead of the model's own.",
}
PLOT_ARGUMENTS = _CLUSTER_ID | {
    "kind": "learning_curve: loss and accuracy per round. topology: nodes, links. reliability: whether"
    " confidences are right. confusion: of classes. latency: of predictions. node_weights: what each node"
    " counts. predictions: beside recorded outcomes.",
    "format": "png, the default where matplotlib is installed, or svg: a picture. mermaid: a diagram as text."
    " text: every number.",
    "path": "Write it there too, below the data directory or an --allow-path.",
    "overwrite": "true: replace an earlier plot.",
}
EXPORT_ARGUMENTS = _CLUSTER_ID | {
    "path": "Where to write, below the data directory or an --allow-path; its folder must exist.",
    "format": (
        "safetensors: a folder with everything, which neural_model_import reads. onnx: one file for ONNX"
        " Runtime (extra onnx). keras: a folder for Keras 3 (extra keras). predictor: one Python file that"
        " needs numpy only. wasm: a folder with WebAssembly, a Node script and a web page."
    ),
    "overwrite": "true: replace an earlier export.",
    "version": "A kept version instead of the one in force.",
}
IMPORT_ARGUMENTS = {
    "path": "Folder of an export of format safetensors, in the data directory or an --allow-path.",
    "name": "Name of the new cluster; the exported one's if left out.",
    "sha256": "That of the export's reply, to refuse any other folder.",
}
TERMINATE_ARGUMENTS = _CLUSTER_ID | {
    "training_id": "Stop only this training; the cluster and its model stay.",
    "node_id": "Remove only this node, by id or slot name; the others go on. Not during a training.",
    "delete_artifacts": "true: delete the saved weights too. This cannot be undone.",
}
LIST_ARGUMENTS = {
    "include_ended": "true: also clusters that were terminated.",
    "limit": "At most this many, the newest ones.",
}

VIEW_ARGUMENTS = _CLUSTER_ID

_GUARANTEES = "What the mode promises; holds false: nothing, for the reason given."

INIT_OUTPUTS = {
    "created": "false: an existing one is reused or restored",
    "restored": "What came back of a terminated cluster.",
    "config": "Effective settings and limits.",
    "guarantees": _GUARANTEES,
    "isolation": "How nodes will be confined.",
}
DEPLOY_OUTPUTS = {
    "slot": "stable across replacements",
    "node_ids": "with count: all that were deployed",
    "slots": "their names",
    "layers": "The network, defaults filled in.",
    "parameters": "null until the input is known",
    "implied_head": "whether an output layer was added",
    "deduplicated": "true: an equal call started it",
    "isolation": "How the process is confined, as measured.",
    "wasm": "What computes its predictions, by batch size, and why.",
}
CONNECT_OUTPUTS = {
    "edges": "Working links; null above 16 nodes.",
    "aggregation": "Whether weights were averaged, and the new version.",
    "rebalanced": "Shards of lost workers that were moved.",
}
TRAIN_OUTPUTS = {
    "config": "Every argument as used; strategy: what really runs.",
    "dataset_info": "How the data was understood: rows, target, task, split.",
    "networks": "Parameters and input per group of equal workers.",
    "guarantees": _GUARANTEES,
    "privacy": "Epsilon so far, how it is counted, and what it does not cover.",
}
STATUS_OUTPUTS = {
    "training_status": "none, running, completed, early_stopped, stopped or failed",
    "training_progress": "percent; 100 only when completed or early_stopped",
    "training": "Rounds, losses, time left, weight digests.",
    "global_accuracy": "on test rows; of the direction for regression",
    "evaluation": "Metrics of what predict serves for test rows, and of baselines.",
    "communication_bytes": "to and from nodes, cumulative",
    "communication": "The same bytes by purpose.",
    "exchange": "How updates last travelled: path, steps, bytes, ms.",
    "avg_latency": "ms of predict",
    "latency": "Percentiles of predict in ms.",
    "agreement": "of nodes, mean over the predictions that latency counts",
    "recent_predictions": "Time and agreement of the last ones; only in full.",
    "error_rate": "failed calls to nodes, 0-1",
    "memory_usage": "percent of limits",
    "nodes": "One per node; empty in summary.",
    "processes": "Processes with several workers, and how many were trained in stacks.",
    "retired_nodes": "Node ids that are gone, and why; only in full.",
    "links": "Every link: latency, or what is wrong; only in full.",
    "learnt": "By slot, what the own network of each aggregator, validator and parameter server learnt.",
    "guarantees": _GUARANTEES,
    "consensus_report": "Proofs and their cost; robust rule: suspects; gossip: distances; raft: voters.",
    "daa": "What autonomy did, recommended and suppressed; events only in full.",
    "performance": "Training rows per second, ms of predict.",
    "wasm": "Whether WASM answers predictions, or why not; by node in full.",
    "features": "Switches and counts.",
    "serving": "The model that answers predictions.",
    "feedback": "Recorded outcomes, the weights they made, and drift.",
    "dataset_info": "The data of that model.",
    "versions": "Versions that restore can put in force; only in versions and full.",
    "history": "Loss and accuracy per round; only in full.",
    "training_sessions": "All trainings; only in full.",
    "timed_out": "true: the wait ended first",
}
PREDICT_OUTPUTS = {
    "prediction": "binary: P(positive_class); null for a list",
    "predictions": "one per record",
    "confidence": "P(decision is right), below .5 at some thresholds",
    "interval": "90 % range; regression only.",
    "adapted_level": "where sets and ranges are cut after outcomes",
    "prediction_set": "Classes that hold the right one in 9 of 10 cases.",
    "raw_prediction": "before calibration",
    "consensus": "share of expected nodes that agree",
    "node_agreement": "1 - mean pairwise difference",
    "effective_ensemble_size": "different models that answered",
    "node_predictions": "By node id; lists for a list.",
    "individual_predictions": "By node, for one record.",
    "weights_source": "of the nodes' weights",
    "weights_outcomes": "how many outcomes they learnt from",
    "symbol_experts": "nodes that count twice, by symbol",
    "feedback_recorded": "outcomes kept for learning",
    "excluded_nodes": "Left out, and why.",
    "backends": "How many answers WASM and PyTorch computed; null for a file.",
    "quorum": "byzantine: answers needed and got, and f that may lie; below it decision is no_quorum.",
    "degraded": "true: a node is missing",
    "stale": "true: raft has no majority for a later version",
    "input_report": "What of the input was used, filled in or ignored.",
    "output": "The file: status (running: call again), sha256, class_counts, metrics by its labels.",
}
EXPORT_OUTPUTS = {
    "files": "Name, bytes and sha256 of each file.",
    "verified": "How far the export, read back, was from the nodes on example rows; null if not compared.",
    "not_included": "What of the cluster's answers the format does not hold.",
    "sha256": "Of the file, or of a folder's manifest.json.",
    "privacy": "Epsilon of its trainings.",
}
IMPORT_OUTPUTS = {
    "source": "Cluster, version and digests that the export names as its origin.",
    "accuracy": "As measured of the exported version; null if not.",
    "privacy": "As its export says.",
}
TERMINATE_OUTPUTS = {
    "checkpoints_kept": "Files of the model that stay.",
    "artifacts_path": "their folder below the state directory",
    "final_metrics": "Rounds, accuracy, loss and bytes reached.",
}
LIST_OUTPUTS = {
    "clusters": "One each, newest last.",
    "live": "clusters that have not ended",
    "ended": "clusters that were terminated",
}
VIEW_OUTPUTS = {
    "drawn": "false: this client draws no views",
    "summary": "what the cluster does, in a few sentences",
}
