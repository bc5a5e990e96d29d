"""What the classes of the user's document do with a cluster, as the examples of this project do it."""

from tests.manifest.files import (
    ADAPTER,
    ANSWER,
    BUILD,
    CALIBRATING,
    CONFIGS,
    DEPLOY,
    EXAMPLES,
    KILL,
    LIFE,
    OUTCOMES,
    PREDICT,
    RECOVER,
    TENSORS,
    TRADING,
    USE,
)
from tests.manifest.promise import Section

TRADER = Section("seed: class DistributedNeuralTrader")
LEARNING = Section("seed: class FederatedTradingLearning")
INFERENCE = Section("seed: class DistributedInferenceEngine")
MONITOR = Section("seed: class NeuralClusterMonitor")
SYSTEM = Section("seed: Production-Ready Distributed Neural Trading System")

RUN = EXAMPLES / "an_example_exits_well_and_prints_what_it_promises"
RECOVERED = RECOVER / "the_call_of_a_monitor_brings_a_failed_slot_back_with_the_committed_weights"
HEALTH_SCORE = TRADING / "one_dead_node_of_eleven_hardly_moves_the_health_score"
STATISTICS = TRADING / "percentiles_are_members_of_the_sample"

OF_THE_TRADER = (
    TRADER.held(
        "seed.trader.initialize-cluster",
        "One call builds the cluster, deploys its nodes, connects them and prepares federated learning.",
        RUN,
    ),
    TRADER.held(
        "seed.trader.eleven-nodes",
        "Five groups in four roles make eleven nodes.",
        TRADING / "the_trader_deploys_eleven_nodes_in_four_roles",
        RUN,
    ),
    TRADER.held(
        "seed.trader.node-names",
        "Every one of the eleven nodes keeps a name of its own, though two groups are workers.",
        DEPLOY / "role_wins_over_node_type_and_both_over_the_default",
        RUN,
    ),
    TRADER.held(
        "seed.trader.layers-of-each-role",
        "Each role has layers of its own, and they have the parameters that Keras gives them.",
        TENSORS / "the_worker_on_a_vector_of_50_and_3_scalars_has_834561_parameters",
        TENSORS / "the_parameter_server_gets_an_implied_head",
        TENSORS / "the_aggregator_has_38401_parameters_of_which_37889_train",
        TENSORS / "the_validator_has_3201_parameters",
        RUN,
    ),
    TRADER.held(
        "seed.trader.hierarchical",
        "The eleven nodes are connected as a hierarchy of ten edges.",
        RUN,
    ),
)

OF_LEARNING = (
    LEARNING.held(
        "seed.learning.start",
        "A federated training is started and followed to its end.",
        RUN,
        USE / "a_training_says_what_is_really_run_on_which_data",
    ),
    LEARNING.held(
        "seed.learning.monitor",
        "Polling the status until progress is 100 ends when the training is completed.",
        LIFE / "progress_is_the_share_of_committed_rounds_and_never_falls",
        USE / "a_wait_for_a_change_ends_with_a_round_and_one_for_the_end_with_the_training",
        RUN,
    ),
    LEARNING.held(
        "seed.learning.history",
        "Accuracy, loss and communication of each round can be kept.",
        USE / "each_detail_of_a_status_shows_its_part",
        RUN,
    ),
    LEARNING.held(
        "seed.learning.aggregate",
        "A temporary star averages the models, and the former topology comes back.",
        LIFE / "star_aggregates_each_time_and_the_others_once",
        BUILD / "another_topology_replaces_the_current_one_and_not_the_declared_one",
        RUN,
    ),
    LEARNING.held(
        "seed.learning.test-data",
        "A hundred made-up records of price, volume, volatility and trend are predicted for in one call.",
        USE / "each_record_of_the_document_is_predicted_for_as_json_text",
        ADAPTER / "test_data_with_a_made_up_trend_are_read_without_it",
    ),
    LEARNING.held(
        "seed.learning.accuracy",
        "Accuracy compares predicted with true directions.",
        TRADING / "accuracy_compares_directions",
        RUN,
    ),
    LEARNING.held(
        "seed.learning.consistency",
        "Consistency is 1 when all nodes say the same and less when they differ.",
        TRADING / "nodes_that_agree_are_consistent_and_others_are_less",
        RUN,
    ),
)

OF_INFERENCE = (
    INFERENCE.held(
        "seed.inference.calibrate",
        "Nodes are weighed by their errors on records whose outcome is known.",
        TRADING / "the_better_node_gains_weight_and_no_weight_falls_below_its_floor",
        PREDICT / "weights_of_the_caller_reach_the_answer_and_wrong_ones_are_refused",
        OUTCOMES / "a_node_that_is_wrong_loses_its_weight_and_predictions_change",
        RUN,
    ),
    INFERENCE.held(
        "seed.inference.own-weights",
        "The cluster weighs its nodes by itself when the caller sends no weights.",
        CALIBRATING / "slots_are_weighted_by_their_loss_on_meta_rows",
    ),
    INFERENCE.held(
        "seed.inference.calibration-records",
        "A record of ten features fills the most recent steps, and its expected outcome is not read.",
        ADAPTER / "calibration_data_fill_the_most_recent_steps",
        USE / "each_record_of_the_document_is_predicted_for_as_json_text",
    ),
    INFERENCE.held(
        "seed.inference.live-record",
        "A live record of symbol, price, volume, time and fifty features is predicted for.",
        ADAPTER / "a_live_record_is_mapped_aligned_and_reported",
        USE / "each_record_of_the_document_is_predicted_for_as_json_text",
    ),
    INFERENCE.held(
        "seed.inference.every-100-ms",
        "Predictions can be asked for every 100 ms without a failure.",
        RUN,
    ),
    INFERENCE.held(
        "seed.inference.signal",
        "A signal is BUY or SELL only when value and confidence are clear, else HOLD.",
        TRADING / "a_signal_needs_a_clear_value_and_confidence",
        RUN,
    ),
    INFERENCE.held(
        "seed.inference.zero-is-a-value",
        "No reply has a 0 that the document's code would replace by one half.",
        ANSWER / "a_probability_is_never_quite_0_or_1",
        USE / "each_aggregation_answers_with_every_number_that_clients_read",
    ),
    INFERENCE.held(
        "seed.inference.cache",
        "The newest signal of a symbol is acted on for five seconds, if it is confident.",
        TRADING / "a_cached_signal_is_acted_on_while_it_is_fresh_and_confident",
        RUN,
    ),
    INFERENCE.held(
        "seed.inference.goes-on",
        "A prediction that is refused is recorded and the pipeline goes on.",
        TRADING / "a_refused_prediction_is_recorded_and_the_pipeline_goes_on",
    ),
    INFERENCE.held(
        "seed.inference.report",
        "Mean, median, p95 and p99 of latency and consensus are reported, and nothing without a sample.",
        STATISTICS,
        TRADING / "statistics_of_nothing_are_not_measured",
        RUN,
    ),
    INFERENCE.held(
        "seed.inference.feed",
        "Market data of the examples are synthetic, and say so in what is printed.",
        TRADING / "the_synthetic_feed_repeats_with_its_seed_and_tells_the_next_hour",
        RUN,
    ),
)

OF_THE_MONITOR = (
    MONITOR.held(
        "seed.monitor.health-score",
        "The health score is the mean of availability, latency, error rate and memory.",
        HEALTH_SCORE,
        USE / "a_status_counts_nodes_bytes_and_time_without_mixing_units",
    ),
    MONITOR.held(
        "seed.monitor.finds-failed-nodes",
        "A node that died is told as not healthy, with the reason.",
        RECOVERED,
        KILL / "a_worker_killed_in_training_is_missed_named_and_replaceable",
        RUN,
    ),
    MONITOR.held(
        "seed.monitor.recovers-a-node",
        "Deploying with the failed node's type, model and capabilities puts a new node into its slot.",
        RECOVERED,
        DEPLOY / "a_deploy_without_layers_replaces_a_failed_slot_of_its_kind",
        RUN,
    ),
    MONITOR.held(
        "seed.monitor.recovers-once",
        "A monitor that repeats the call each second gets the same node and no further one.",
        DEPLOY / "a_monitor_that_repeats_itself_gets_the_same_node_for_ten_seconds",
        DEPLOY / "concurrent_recoveries_of_one_node_start_one",
    ),
    MONITOR.held(
        "seed.monitor.syncs-the-model",
        "A replacement holds the committed weights before it is called healthy.",
        RECOVERED,
        DEPLOY / "a_node_that_cannot_be_synchronised_is_never_healthy",
    ),
    MONITOR.held(
        "seed.monitor.failed-recovery",
        "A recovery that fails is an error that the caller can catch, and leaves nothing behind.",
        DEPLOY / "a_start_that_fails_leaves_no_slot_and_no_process",
        TRADING / "a_health_check_without_an_answer_is_remembered_and_so_is_a_failed_recovery",
    ),
    MONITOR.held(
        "seed.monitor.rebalances",
        "After a recovery the cluster is connected as a mesh.",
        RUN,
        BUILD / "each_topology_is_planned_measured_and_reported",
    ),
)

PROMISES = (
    *OF_THE_TRADER,
    *OF_LEARNING,
    *OF_INFERENCE,
    *OF_THE_MONITOR,
    SYSTEM.held(
        "seed.system.whole", "The whole system runs from building to trading decisions.", RUN
    ),
    SYSTEM.held(
        "seed.system.key",
        "Tools appear under the names that the document calls, with the key flow_nexus.",
        CONFIGS / "a_json_snippet_starts_the_server",
        CONFIGS / "the_line_for_claude_code_starts_the_server",
    ),
)
