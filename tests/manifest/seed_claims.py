"""What the user's document says of such systems in general, and how much of it this one does."""

from tests.manifest.files import (
    ANSWER,
    AUTONOMOUS,
    AUTONOMY,
    AUTONOMY_LOG,
    BACKENDS,
    CALIBRATING,
    CALIBRATION,
    CHAOS,
    COMMITTED,
    CONFINED,
    ESCAPES,
    EXAMPLES,
    FAULTS,
    FUSION,
    GUARANTEES,
    KILL,
    KNOWN_CHANCES,
    LEARNING,
    LIARS,
    LIFE,
    LOCAL,
    MACHINES,
    METRICS,
    PARTITION,
    PREDICT,
    PRIVATE,
    README,
    RECORD,
    RECOVER,
    RESUMED,
    RESUMING_KILL,
    ROUNDS,
    STORE_KILL,
    SYNTHETIC,
    USE,
    VERIFYING,
    VOTED,
)
from tests.manifest.promise import Section

OVERVIEW = Section("seed: Overview")
INIT = Section("seed: Initialize Distributed Neural Cluster")
NODES = Section("seed: Deploy Neural Nodes with Specialized Roles")
PERFORMANCE = Section("seed: Performance Advantages")
AI = Section("seed: AI Advantages")
TRADING = Section("seed: Trading Advantages")

RECOVERED = RECOVER / "the_call_of_a_monitor_brings_a_failed_slot_back_with_the_committed_weights"

TRAINING = (
    OVERVIEW.held(
        "seed.claims.multi-node-training",
        "Several nodes train one model.",
        LOCAL / "digits_are_learnt_by_five_workers_that_never_see_each_others_rows",
        USE / "a_training_says_what_is_really_run_on_which_data",
    ),
    OVERVIEW.held(
        "seed.claims.federated-learning",
        "Nodes learn from rows that stay with them, and only their updates leave them.",
        LOCAL / "digits_are_learnt_by_five_workers_that_never_see_each_others_rows",
        LIFE / "no_row_outlives_its_training_in_a_node",
        PARTITION / "owners_of_a_symbol_split_its_rows_in_blocks_of_time",
    ),
    AI.held(
        "seed.claims.data-locality",
        "A node is given its own training rows and no other node's.",
        LIFE / "no_row_outlives_its_training_in_a_node",
        CONFINED / "a_fresh_node_cannot",
    ),
    AI.held(
        "seed.claims.privacy",
        "Training hides each worker's rows by noise, with an epsilon that is counted and attacked.",
        PRIVATE / "membership_inference_works_without_privacy_and_not_with_it",
        PRIVATE / "each_round_is_charged_before_it_is_seen_and_the_reply_says_how",
        GUARANTEES / "no_adjective_replaces_a_number",
    ),
    AI.held(
        "seed.claims.continuous-learning",
        "A trained cluster goes on from its committed weights when it is trained again.",
        LIFE / "training_again_goes_on_from_the_committed_weights",
        LIFE / "every_prediction_during_a_training_rests_on_one_committed_version",
    ),
    TRADING.held(
        "seed.claims.adaptive-strategies",
        "Models adapt to the market by themselves while they serve.",
        AUTONOMOUS / "labels_that_flip_start_one_training_and_accuracy_recovers",
        LEARNING / "a_model_that_is_no_better_is_refused_and_the_former_one_answers_on",
    ),
    OVERVIEW.held(
        "seed.claims.really-learns",
        "Training is real: it costs processor time, moves weights, and learns nothing from shuffled labels.",
        LOCAL / "more_epochs_cost_more_cpu_time_and_lower_the_loss",
        LOCAL / "labels_without_meaning_are_not_learnt",
        LOCAL / "a_prediction_can_be_computed_again_from_the_stored_file",
    ),
    TRADING.held(
        "seed.claims.no-wonders",
        "Accuracy on market-like data stays between the majority class and the best possible filter.",
        SYNTHETIC / "a_learner_lands_between_the_majority_and_the_best_possible",
        SYNTHETIC / "the_best_possible_prediction_of_the_regime_model_is_where_it_is_documented",
    ),
)

INFERENCE = (
    OVERVIEW.held(
        "seed.claims.distributed-inference",
        "Every serving node answers a prediction.",
        USE / "each_aggregation_answers_with_every_number_that_clients_read",
    ),
    PERFORMANCE.held(
        "seed.claims.under-100-ms",
        "Of a thousand predictions on eleven nodes 99 in 100 took less than 100 ms, as measured.",
        COMMITTED / "of_the_committed_predictions_on_eleven_nodes_99_of_100_took_less_than_100_ms",
        README / "the_tables_of_measurements_come_from_the_committed_results",
        METRICS / "percentiles_are_values_that_occurred",
    ),
    PERFORMANCE.held(
        "seed.claims.bounded-wait",
        "A slow node never holds an answer up beyond its deadline.",
        LIFE / "a_late_worker_is_left_out_of_an_answer_at_its_deadline",
        KILL / "a_stopped_worker_is_answered_without_then_suspected_then_ended",
    ),
    AI.held(
        "seed.claims.ensemble",
        "Nodes with different networks answer together, and the reply says how many models differ.",
        LIFE / "different_networks_train_apart_and_answer_together",
        ANSWER / "equal_weights_are_no_independent_evidence",
        CALIBRATING / "slots_that_err_on_different_rows_are_known_to",
    ),
    NODES.held(
        "seed.claims.calibrated-confidence",
        "Confidence is corrected on rows kept for it, where that helps on unseen rows.",
        KNOWN_CHANCES / "confidence_is_as_often_right_as_it_says_on_fresh_draws",
        KNOWN_CHANCES / "of_several_classes_too",
        CALIBRATING / "exaggeration_is_taken_back_where_it_helps",
        CALIBRATING / "honest_chances_are_left_alone",
        CALIBRATION / "the_gate_refuses_a_calibrator_that_only_fits_noise",
        ANSWER / "a_calibrator_belongs_to_its_mode",
    ),
    AI.held(
        "seed.claims.byzantine-predictions",
        "Under byzantine consensus predictions tolerate fewer than a third of nodes that lie.",
        VOTED / "one_of_four_that_answers_the_opposite_changes_no_digit_of_what_all_hold",
        VOTED / "with_two_of_four_gone_nothing_is_decided_and_with_one_gone_everything",
        FUSION / "a_probability_lies_between_those_of_honest_slots",
        FUSION / "a_value_lies_between_those_of_honest_slots",
    ),
    AI.held(
        "seed.claims.impossible-answers-do-not-count",
        "An answer that is not the committed model's, or not finite, is left out and named.",
        PREDICT / "an_answer_that_is_not_the_committed_models_does_not_count",
        LIARS / "an_extreme_answer_gives_numbers",
        FAULTS / "an_update_that_lies_is_refused_by_name_and_moves_nothing",
    ),
)

FAULT_TOLERANCE = (
    OVERVIEW.held(
        "seed.claims.failover",
        "When a node dies the others answer, and the answer stays the same.",
        KILL / "a_burst_of_predictions_survives_the_death_of_a_worker",
        RECOVERED,
        EXAMPLES / "an_example_exits_well_and_prints_what_it_promises",
    ),
    PERFORMANCE.held(
        "seed.claims.training-goes-on",
        "A training goes on without a worker that dies, freezes or sends nonsense.",
        FAULTS / "a_round_closes_without_a_worker_that_fails_in_it",
        KILL / "a_worker_stopped_in_training_does_not_stop_the_training",
        ROUNDS / "a_straggler_is_left_out_at_the_deadline_that_history_sets",
    ),
    PERFORMANCE.held(
        "seed.claims.automatic-recovery",
        "A dead node is replaced without anyone's call, within its autonomy.",
        RECOVER / "a_dead_node_comes_back_without_a_call_where_its_autonomy_allows_that",
        AUTONOMOUS / "a_monitor_that_deploys_every_second_leaves_the_slots_that_there_were",
        AUTONOMOUS / "a_crash_loop_is_restarted_five_times_and_given_up",
        KILL / "a_killed_worker_comes_back_by_itself_and_trains_again",
    ),
    PERFORMANCE.held(
        "seed.claims.runtime-recovery",
        "All nodes come back by themselves when the process that starts them dies.",
        KILL / "nodes_come_back_by_themselves_when_the_process_that_forks_them_dies",
        KILL / "a_training_outlives_the_process_that_forks_its_nodes",
    ),
    PERFORMANCE.held(
        "seed.claims.restart",
        "A restarted server serves the last committed version to the bit.",
        LOCAL / "a_new_server_on_the_old_directory_answers_the_same_to_the_bit",
        LIFE / "a_restarted_server_serves_the_same_answer",
        STORE_KILL / "servers_killed_from_outside_again_and_again_lose_nothing_they_announced",
    ),
    PERFORMANCE.held(
        "seed.claims.resumed-training",
        "A training that a killed server interrupted is resumed.",
        RESUMED / "at_every_point_of_a_durable_write",
        RESUMED / "a_killed_server_s_training_comes_to_the_same_in_every_mode",
        RESUMING_KILL / "a_killed_server_s_training_goes_on_without_a_call",
        LIFE / "a_training_goes_on_when_a_server_opens_the_directory_again",
    ),
    PERFORMANCE.held(
        "seed.claims.damage-named",
        "What is damaged in a state directory is named, and costs the clusters whose rows or files it is.",
        VERIFYING / "a_flipped_bit_of_any_file_is_named",
        VERIFYING / "a_flipped_bit_of_the_journal_is_named_or_changes_nothing_that_is_stored",
        VERIFYING / "a_bad_page_of_the_journal_costs_the_clusters_whose_rows_it_has",
        VERIFYING / "a_backup_of_a_live_directory_opens_and_serves_and_goes_on",
    ),
    TRADING.held(
        "seed.claims.always-on",
        "Whatever happens at once, calls end, books are right and progress never falls.",
        CHAOS / "what_must_always_hold_holds",
        KILL / "when_all_workers_are_killed_calls_end_and_the_cluster_can_be_mended",
    ),
    TRADING.held(
        "seed.claims.risk-is-spread",
        "A node that goes wrong can harm neither the machine nor another node.",
        ESCAPES / "a_node_cannot",
        CONFINED / "too_much_memory_is_refused_inside_and_the_node_lives_on",
    ),
)

COORDINATION = (
    INIT.held(
        "seed.claims.wasm",
        "WASM computes predictions where it is measured to be faster.",
        BACKENDS / "a_trained_cluster_is_answered_by_wasm_as_by_its_nodes",
        BACKENDS / "a_node_that_was_killed_or_withholds_its_answer_counts_as_gone",
    ),
    INIT.held(
        "seed.claims.autonomous-coordination",
        "The cluster acts on its own: it restarts nodes, stops trainings, adapts the learning rate.",
        AUTONOMY / "an_action_is_carried_out_at_its_level_and_only_recommended_below",
        AUTONOMY / "a_recorded_stream_replays_to_the_same_decisions",
        AUTONOMOUS / "a_training_that_gains_nothing_is_slowed_and_ends_at_its_best_round",
        AUTONOMOUS / "a_training_without_workers_waits_for_them_and_goes_on",
    ),
    INIT.held(
        "seed.claims.autonomy-observes",
        "The cluster lists once what it would do and with which evidence.",
        AUTONOMY_LOG / "below_the_level_of_a_slot_its_restart_is_recommended_once",
        AUTONOMY_LOG / "autonomy_that_is_off_has_level_0_and_still_tells",
    ),
    NODES.held(
        "seed.claims.progress-is-measured",
        "Times and speeds that are told are measured, and null before.",
        RECORD / "progress_estimates_from_measured_rounds_only",
        USE / "numbers_that_nobody_measured_are_null_and_appear_when_they_are",
    ),
    PERFORMANCE.held(
        "seed.claims.multiple-symbols",
        "Several symbols are trained on together, each scaled by itself and dealt to its workers.",
        PARTITION / "a_tag_finds_its_symbol_in_every_usual_spelling",
        PARTITION / "owners_of_a_symbol_split_its_rows_in_blocks_of_time",
        USE / "a_training_says_what_is_really_run_on_which_data",
    ),
    PERFORMANCE.held(
        "seed.claims.load-distribution",
        "Rows are dealt evenly among the workers.",
        PARTITION / "iid_shards_are_even_alike_and_follow_the_seed",
        LOCAL / "digits_are_learnt_by_five_workers_that_never_see_each_others_rows",
    ),
    OVERVIEW.held(
        "seed.claims.several-machines",
        "A cluster spans several machines.",
        MACHINES / "two_machines_commit_what_one_does_and_nodes_are_spread",
        MACHINES / "a_lost_machine_closes_no_training_and_its_nodes_come_back_on_the_other",
    ),
    OVERVIEW.not_built(
        "seed.claims.machines-add-up",
        "Updates are summed on the machine where their workers live.",
        "sums where the workers live",
    ),
)

PROMISES = (*TRAINING, *INFERENCE, *FAULT_TOLERANCE, *COORDINATION)
