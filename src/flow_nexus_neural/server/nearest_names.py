"""What a caller most likely meant: by the words that people use for an argument or a value, else by spelling.

A word of another library is answered with its name here and not taken for it: what it means there (passes,
rounds, a unit of time) is not always what it means here.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence

MAX_COMPARED_CHARS = 80


def _by_word(meanings: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """`{"target": "label labels"}` as `{"label": ("target",), ...}`; a word may mean several, in order."""
    found: dict[str, tuple[str, ...]] = {}
    for meaning, words in meanings.items():
        for word in words.split():
            found[word] = (*found.get(word, ()), meaning)
    return found


ARGUMENT_WORDS = _by_word(
    {
        "cluster_id": "cluster cluster_name name",
        "name": "cluster_name cluster title",
        "count": "nodes n_nodes num_nodes node_count replicas workers n_workers num_workers number quantity"
        " copies instances",
        "role": "type kind node_role",
        "model": "size",
        "layers": "network architecture config model_config layer_config net",
        "capabilities": "tags skills",
        "dataset": "data file path csv data_path dataset_path dataset_name train_data training_data"
        " input_path X",
        "input_data": "x X data inputs record records sample samples features instances rows payload",
        "input_path": "path file input_file filename csv data_path dataset dataset_path input_filename",
        "output_path": "output out output_file destination result_path outfile save_to save_path",
        "overwrite": "force replace exist_ok clobber",
        "epochs": "max_epochs num_epochs n_epochs nb_epoch nb_epochs passes iterations max_iter n_iter",
        "rounds": "num_rounds n_rounds max_rounds fl_rounds communication_rounds",
        "batch_size": "bs batch minibatch mini_batch_size per_device_train_batch_size",
        "learning_rate": "lr eta alpha step_size learning_rate_init initial_learning_rate",
        "patience": "early_stopping early_stopping_rounds early_stop early_stopping_patience es_patience"
        " n_iter_no_change stop_early",
        "optimizer": "optim optimiser solver",
        "clients_per_round": "clients n_clients num_clients",
        "min_nodes_per_round": "min_clients min_fit_clients min_available_clients",
        "aggregation_method": "aggregation aggregator algorithm strategy fedavg method",
        "byzantine_f": "f n_byzantine num_byzantine byzantine num_adversaries n_malicious num_malicious",
        "proximal_mu": "mu prox_mu proximal prox_term fedprox_mu",
        "server_learning_rate": "server_lr global_learning_rate global_lr eta eta_g server_eta",
        "server_momentum": "beta beta1 beta_1 momentum server_beta",
        "aggregation": "method voting vote ensemble ensemble_method combine strategy",
        "target": "label labels y y_column label_column target_name outcome output predict"
        " dependent_variable",
        "time_column": "time date timestamp date_column datetime_column timestamp_column time_col date_col",
        "features": "x columns inputs feature_columns feature_names predictors",
        "window": "lookback look_back lags seq_len sequence_length timesteps window_size n_steps",
        "horizon": "lookahead forecast_horizon prediction_horizon steps_ahead forecast",
        "test_size": "test_split test_ratio test_fraction test_frac test_share test_percentage holdout"
        " holdout_size hold_out train_size train_split train_ratio train_test_split split_ratio",
        "validation_size": "validation_split validation_fraction validation_ratio validation_share val_size"
        " val_split val_ratio val_fraction val_frac valid_size valid_split valid_pct dev_size eval_size"
        " eval_split",
        "folds": "n_splits n_folds num_folds k_folds kfold k_fold cv n_windows walk_forward backtest"
        " cross_validation",
        "class_weight": "class_weights weights weight loss_weight loss_weights pos_weight scale_pos_weight"
        " auto_class_weights is_unbalance balanced",
        "threshold": "decision_threshold cutoff cut_off classification_threshold probability_threshold"
        " prob_threshold thresholds decision_boundary",
        "positive_class": "pos_label positive_label pos_class positive event_level",
        "partition": "split_by sharding distribution iid",
        "seed": "random_state random_seed rng",
        "deadline_ms": "timeout timeout_ms deadline",
        "wait_seconds": "timeout timeout_s timeout_seconds wait_s poll",
        "until": "wait_for wait_until",
        "detail": "details level verbosity",
        "delete_artifacts": "force delete purge remove_files delete_files delete_weights",
        "restore": "restore_from load load_from resume reopen undo_terminate checkpoint from_checkpoint",
        "include_ended": "all include_all ended terminated",
        "limit": "max_results n count",
    }
)
"""Argument names of other tools, and which argument here they stand for."""

VALUE_WORDS = _by_word(
    {
        "rnn": "lstm gru recurrent bilstm",
        "cnn": "conv conv1d convolutional convolution tcn",
        "transformer": "attention encoder bert",
        "gnn": "graph gcn graph-conv",
        "mesh": "full fully-connected all-to-all p2p peer-to-peer decentralized decentralised",
        "star": "hub hub-and-spoke central centralized centralised",
        "hierarchical": "tree hierarchy layered",
        "byzantine": "bft pbft",
        "proof-of-learning": "pol",
        "majority": "voting vote hard hard-voting majority-vote majority-voting",
        "mean": "average avg soft soft-voting averaging",
        "weighted": "weighted-average weighted-mean weighted-voting",
        "ensemble": "stacking",
        "base": "small tiny mini default",
        "large": "medium big l",
        "xl": "huge extra-large xlarge",
        "worker": "trainer client compute learner",
        "parameter_server": "ps server master coordinator leader",
        "validator": "verifier evaluator tester",
        "adam": "adamw nadam adamax",
        "sgd": "momentum nesterov gd",
        "done": "completed complete finished finish end ended",
        "change": "changed any next",
        "full": "all verbose everything long",
        "summary": "short brief minimal",
    }
)
"""Values of other tools, folded, and which choice here they stand for."""


def nearest_argument(name: str, fields: Iterable[str], spellings: Sequence[str]) -> str | None:
    """The argument that a name stands for: by its meaning, else by its spelling; None if none is near.

    Args:
        name: What was sent, in snake_case.
        fields: The arguments that the tool has.
        spellings: All spellings of them that are understood.
    """
    known = set(fields)
    for meaning in ARGUMENT_WORDS.get(name, ()):
        if meaning in known:
            return meaning
    near = difflib.get_close_matches(name[:MAX_COMPARED_CHARS], spellings, n=1, cutoff=0.6)
    return near[0] if near else None


def nearest_choice(value: str, choices: Sequence[str]) -> str | None:
    """The choice that a value stands for: by its meaning, else by its spelling; None if none is near."""
    folded = value.strip().lower().replace("_", "-").replace(" ", "-")[:MAX_COMPARED_CHARS]
    for meaning in VALUE_WORDS.get(folded, ()):
        if meaning in choices:
            return meaning
    near = difflib.get_close_matches(folded, choices, n=1, cutoff=0.6)
    return near[0] if near else None
