"""The calls of the user's document that build and train: arguments, and reply fields that its code reads."""

from tests.manifest.files import (
    ARGS,
    AVERAGING,
    BUILD,
    CONFIGS,
    CONFINED,
    DEPLOY,
    ESCAPES,
    EXAMPLES,
    HEADS,
    LIARS,
    LIFE,
    LINKS,
    LOCAL,
    PARTITION,
    REAL,
    RECOVER,
    RESOLVE,
    RESULTS,
    SAMPLING,
    SEEDS,
    SYNTHETIC,
    TENSORS,
    TOOLS,
    TRAIN_ARGS,
    TRAINER,
    USE,
    VOCABULARY,
)
from tests.manifest.promise import Section

INIT = Section("seed: Initialize Distributed Neural Cluster")
NODES = Section("seed: Deploy Neural Nodes with Specialized Roles")
TRAINING = Section("seed: Distributed Training Coordinator")

MADE = BUILD / "a_cluster_has_the_settings_it_was_asked_for_and_says_which_of_them_do_nothing"
DEPLOYED = BUILD / "a_node_is_told_of_as_it_runs_and_keeps_what_was_asked"
RECOVERED = RECOVER / "the_call_of_a_monitor_brings_a_failed_slot_back_with_the_committed_weights"
STARTED = USE / "a_training_says_what_is_really_run_on_which_data"
MEASURED = USE / "numbers_that_nobody_measured_are_null_and_appear_when_they_are"
COUNTED = USE / "a_status_counts_nodes_bytes_and_time_without_mixing_units"
ANSWERED = USE / "each_aggregation_answers_with_every_number_that_clients_read"
WHOLE_RUN = EXAMPLES / "an_example_exits_well_and_prints_what_it_promises"
FULL_NAMES = (
    TOOLS / "no_full_name_is_longer_than_clients_accept",
    CONFIGS / "a_json_snippet_starts_the_server",
)

CALLS = (
    INIT.held(
        "seed.tool.init", "neural_cluster_init makes a cluster.", MADE, WHOLE_RUN, *FULL_NAMES
    ),
    NODES.held(
        "seed.tool.deploy", "neural_node_deploy starts one node.", DEPLOYED, WHOLE_RUN, *FULL_NAMES
    ),
    NODES.held(
        "seed.tool.connect",
        "neural_cluster_connect links the nodes of a cluster.",
        BUILD / "each_topology_is_planned_measured_and_reported",
        LINKS / "connect_measures_every_edge",
        *FULL_NAMES,
    ),
    TRAINING.held(
        "seed.tool.train",
        "neural_train_distributed starts a training of all workers.",
        STARTED,
        REAL / "a_trained_cluster_shows_evidence_and_beats_the_baseline",
        *FULL_NAMES,
    ),
    TRAINING.held(
        "seed.tool.status",
        "neural_cluster_status tells how a cluster is.",
        MEASURED,
        COUNTED,
        *FULL_NAMES,
    ),
    TRAINING.held(
        "seed.tool.predict",
        "neural_predict_distributed asks all serving nodes and combines their answers.",
        ANSWERED,
        REAL / "a_prediction_follows_its_input",
        *FULL_NAMES,
    ),
)

INIT_CALL = (
    INIT.held("seed.init.name", "A cluster carries the name it was given.", MADE),
    INIT.held("seed.init.topology", "A cluster declares how its nodes are to be linked.", MADE),
    INIT.held(
        "seed.init.architecture", "A cluster declares which networks workers get by default.", MADE
    ),
    INIT.held("seed.init.consensus", "A cluster declares how updates are to be admitted.", MADE),
    INIT.held(
        "seed.init.wasm_optimization",
        "The wish for WASM is taken as wasmOptimization, kept, and answered by what is active.",
        MADE,
        ARGS / "an_argument_is_understood_in_every_spelling_and_form_that_hosts_use",
    ),
    INIT.held(
        "seed.init.daa_enabled",
        "Autonomous coordination is switched by daaEnabled, and replies say whether it is on.",
        MADE,
        BUILD / "only_a_name_is_needed_and_the_rest_has_its_documented_default",
        RECOVER / "a_dead_node_comes_back_without_a_call_where_its_autonomy_allows_that",
    ),
    INIT.held(
        "seed.init.reply.id",
        "The reply has the cluster's id, which later calls take as cluster_id.",
        MADE,
        RESULTS / "the_ids_of_a_cluster_a_node_and_a_training_go_by_all_their_names",
    ),
    INIT.held(
        "seed.init.reply.config", "The reply has the effective configuration of the cluster.", MADE
    ),
)

DEPLOY_CALL = (
    NODES.held(
        "seed.deploy.cluster_id", "A node belongs to the cluster that the call names.", DEPLOYED
    ),
    NODES.held(
        "seed.deploy.node_type",
        "node_type alone says the role, as the monitor's recovery sends it.",
        DEPLOY / "role_wins_over_node_type_and_both_over_the_default",
        RECOVERED,
    ),
    NODES.held(
        "seed.deploy.role",
        "role says what the node does, and wins over node_type.",
        DEPLOY / "role_wins_over_node_type_and_both_over_the_default",
    ),
    NODES.held(
        "seed.deploy.model",
        "model is the size of the node, and layers win over its width.",
        DEPLOYED,
        BUILD / "each_model_size_has_its_own_memory_limit",
    ),
    NODES.held(
        "seed.deploy.capabilities",
        "capabilities are kept; a tag like btc_analysis decides which rows a worker gets.",
        DEPLOYED,
        PARTITION / "owners_of_a_symbol_split_its_rows_in_blocks_of_time",
        DEPLOY / "a_capability_that_changes_nothing_is_named",
    ),
    NODES.held("seed.deploy.autonomy", "autonomy is kept for each node, 0 included.", DEPLOYED),
    NODES.held(
        "seed.deploy.template", "template is echoed beside the runtime that really runs.", DEPLOYED
    ),
    NODES.held(
        "seed.deploy.layers",
        "layers are the node's network, written as in Keras.",
        DEPLOYED,
        VOCABULARY / "defaults_are_filled_in_in_the_order_of_the_vocabulary",
        TENSORS / "the_worker_on_a_vector_of_50_and_3_scalars_has_834561_parameters",
        HEADS / "the_canonical_layers_keep_the_activation_that_the_plan_moves_into_the_loss",
    ),
    NODES.held(
        "seed.deploy.reply.sandbox_id",
        "The reply has the node's id under sandbox_id, the key of later status and predictions.",
        DEPLOYED,
        RECOVERED,
    ),
    NODES.held(
        "seed.deploy.rule.own-process",
        "Each node is a process of its own that can reach nothing outside itself.",
        CONFINED / "eleven_nodes_are_strict_by_the_kernels_own_word",
        CONFINED / "a_fresh_node_cannot",
        ESCAPES / "a_node_cannot",
        ESCAPES / "without_confinement_the_attack_succeeds",
    ),
)

CONNECT_CALL = (
    NODES.held(
        "seed.connect.cluster_id",
        "A connect links the nodes of the cluster it names.",
        BUILD / "each_topology_is_planned_measured_and_reported",
    ),
    NODES.held(
        "seed.connect.topology",
        "A connect may name another topology than the declared one.",
        BUILD / "another_topology_replaces_the_current_one_and_not_the_declared_one",
    ),
    TRAINING.held(
        "seed.connect.reply.aggregation",
        "Connecting a trained cluster as a star averages the workers into a new version and says so.",
        LIFE / "star_aggregates_each_time_and_the_others_once",
        LIARS / "a_worker_that_holds_other_weights_has_no_part_in_an_aggregation",
        AVERAGING / "workers_count_by_their_rows",
    ),
)

TRAIN_CALL = (
    TRAINING.held(
        "seed.train.cluster_id", "A training runs on the workers of the cluster it names.", STARTED
    ),
    TRAINING.held(
        "seed.train.dataset",
        "crypto_market_historical_data is the user's file of that name, else synthetic and labelled so.",
        STARTED,
        RESOLVE / "the_users_file_wins_over_the_generator_of_the_same_name",
        SYNTHETIC / "columns_of_the_market_agree_with_each_other",
    ),
    TRAINING.held(
        "seed.train.epochs",
        "epochs is the number of passes, and of rounds when federated.",
        TRAIN_ARGS / "defaults_of_federated_training",
        LOCAL / "more_epochs_cost_more_cpu_time_and_lower_the_loss",
    ),
    TRAINING.held(
        "seed.train.batch_size",
        "batch_size is the number of rows of an optimiser step of a worker.",
        STARTED,
        TRAINER / "steps_take_the_batches_that_the_pass_describes_and_follow_their_gradient",
    ),
    TRAINING.held(
        "seed.train.learning_rate",
        "learning_rate is the step size of each worker's optimiser.",
        STARTED,
        TRAINER / "steps_take_the_batches_that_the_pass_describes_and_follow_their_gradient",
    ),
    TRAINING.held(
        "seed.train.optimizer",
        "optimizer is the rule by which each worker moves its weights.",
        USE / "each_optimiser_trains_and_ends_at_weights_of_its_own",
    ),
    TRAINING.held(
        "seed.train.federated",
        "federated trains workers on their own rows in rounds and averages their weights after each.",
        STARTED,
        LOCAL / "digits_are_learnt_by_five_workers_that_never_see_each_others_rows",
        SEEDS / "one_seed_gives_the_same_weights_in_every_round",
    ),
    TRAINING.held(
        "seed.train.reply.training_id", "The reply has the training's id, at once.", STARTED
    ),
    TRAINING.held(
        "seed.train.rule.federated-config",
        "Rounds, clients per round and averaging as the document configures them are the defaults.",
        TRAIN_ARGS / "defaults_of_federated_training",
        SAMPLING / "groups_are_asked_in_proportion_to_their_size",
        AVERAGING / "workers_count_by_their_rows",
    ),
)

PROMISES = (*CALLS, *INIT_CALL, *DEPLOY_CALL, *CONNECT_CALL, *TRAIN_CALL)
