"""Predictions and the end of a cluster: what the contract adds to the calls of the user's document."""

from tests.manifest.files import (
    ADAPTIVE,
    ADAPTIVE_INTERVALS,
    ANSWER,
    CALIBRATING,
    CLASS_WEIGHT,
    CONFORMAL,
    DAMAGED,
    DOUBTS,
    ENSEMBLE,
    EXPERTS,
    KILL,
    LIFE,
    LOCAL,
    PERSONAL,
    PREDICT,
    PREDICTING_FILES,
    REMOVAL,
    SERVED,
    STACKING,
    STUDENTS,
    UNFINISHED,
    USE,
    WRITING,
)
from tests.manifest.promise import Section

PREDICTION = Section("contract: section 1.6")
END = Section("contract: section 1.7")

MEASURED = USE / "numbers_that_nobody_measured_are_null_and_appear_when_they_are"
ANSWERED = USE / "each_aggregation_answers_with_every_number_that_clients_read"
ENDED = USE / "a_terminate_says_what_was_ended_and_what_is_kept"
STOPPED = LIFE / "stopping_a_training_keeps_the_cluster_and_its_last_version"

OF_PREDICT = (
    PREDICTION.held(
        "contract.predict.weights",
        "weights are the caller's, by node id or slot, and only for aggregation weighted.",
        PREDICT / "weights_of_the_caller_reach_the_answer_and_wrong_ones_are_refused",
        ENSEMBLE / "a_weight_of_zero_silences_a_slot_in_the_weighted_answer",
    ),
    PREDICTION.held(
        "contract.predict.deadline_ms",
        "deadline_ms is when the answer is made of what is there; the default grows with the records.",
        LIFE / "a_late_worker_is_left_out_of_an_answer_at_its_deadline",
        LIFE / "nobody_in_time_is_an_error_at_the_deadline",
        USE / "the_default_deadline_grows_with_the_records_up_to_a_limit",
        PREDICT / "nodes_that_must_be_started_first_are_not_waited_for_beyond_the_deadline",
    ),
    PREDICTION.held(
        "contract.predict.threshold",
        "threshold decides the records of one call, and the reply says so.",
        CLASS_WEIGHT / "a_threshold_may_be_given_for_one_call",
        ANSWER / "a_threshold_of_the_call_decides_this_call_and_is_named",
    ),
    PREDICTION.held(
        "contract.answer_detail.default",
        "The usual detail leaves the numbers of each node out of large batches, with a word.",
        ANSWER / "per_node_values_of_large_lists_are_left_out_with_a_word",
    ),
    PREDICTION.held(
        "contract.answer_detail.full",
        "The full detail has the numbers of each node for every batch.",
        USE / "answers_of_each_node_to_a_large_batch_are_given_when_asked_for",
    ),
    PREDICTION.held(
        "contract.predict.input_path",
        "input_path names a file whose rows get the numbers that a reply gives for them.",
        PREDICTING_FILES / "the_rows_of_a_file_get_the_numbers_that_a_reply_gives_for_them",
        PREDICTING_FILES / "a_window_of_rows_is_predicted_as_the_same_window_in_a_call",
        PREDICTING_FILES / "what_cannot_be_predicted_is_refused_with_its_reason_and_leaves_nothing",
    ),
    PREDICTION.held(
        "contract.predict.output_path",
        "output_path is a new file below a write root that is there whole or not at all.",
        PREDICTING_FILES / "an_output_that_may_not_be_is_refused_and_nothing_is_written",
        PREDICTING_FILES / "a_cancelled_call_ends_the_work_and_leaves_nothing",
        PREDICTING_FILES / "a_call_is_answered_before_hosts_give_up_and_the_same_call_waits_on",
        WRITING / "a_file_appears_only_when_it_is_published",
        UNFINISHED / "the_next_start_removes_it_and_forgets_the_note",
    ),
    PREDICTION.held(
        "contract.predict.overwrite",
        "overwrite lets output_path replace what was written there, if nobody changed it since then.",
        PREDICTING_FILES / "a_file_that_is_there_stays_unless_it_may_be_replaced",
        WRITING / "only_a_regular_file_is_replaced_and_only_when_that_is_allowed",
        WRITING / "only_what_was_written_there_is_replaced_and_only_if_nobody_changed_it",
    ),
    PREDICTION.held(
        "contract.predict.rule.one-version",
        "All rows of a file are answered by one version, whatever is committed meanwhile.",
        PREDICTING_FILES / "all_rows_are_of_one_version_whatever_is_committed_meanwhile",
    ),
    PREDICTION.held(
        "contract.predict.detail",
        "detail full keeps each node's numbers of large batches.",
        USE / "answers_of_each_node_to_a_large_batch_are_given_when_asked_for",
        ANSWER / "per_node_values_of_large_lists_are_left_out_with_a_word",
    ),
    PREDICTION.held(
        "contract.predict.rule.list-of-one",
        "A list of one record is answered as a list.",
        ANSWERED,
        ANSWER / "a_list_is_answered_by_lists_even_of_one",
    ),
    PREDICTION.held(
        "contract.predict.rule.queue",
        "Beyond 64 predictions at once callers are told to come back.",
        PREDICT / "more_than_64_at_once_are_told_to_come_back",
    ),
    PREDICTION.held(
        "contract.predict.rule.starting-nodes",
        "Nodes that are there answer while others are started.",
        PREDICT / "those_who_are_there_answer_while_others_are_started",
    ),
    PREDICTION.held(
        "contract.predict.reply.task",
        "task is binary, multiclass or regression, and decides the form of an answer.",
        ANSWER / "classes_are_answered_by_label_with_all_probabilities",
        ANSWER / "values_have_an_interval_and_no_confidence",
        ANSWERED,
    ),
    PREDICTION.held(
        "contract.predict.reply.confidences",
        "confidences has one entry per record.",
        ANSWERED,
        ANSWER / "a_list_is_answered_by_lists_even_of_one",
    ),
    PREDICTION.held(
        "contract.predict.reply.probabilities",
        "probabilities are given for several classes, in the order of classes.",
        ANSWER / "classes_are_answered_by_label_with_all_probabilities",
        LOCAL / "a_prediction_can_be_computed_again_from_the_stored_file",
    ),
    PREDICTION.held(
        "contract.predict.reply.interval",
        "interval holds nine of ten values of a regression, where rows were kept to measure it.",
        ANSWER / "values_have_an_interval_and_no_confidence",
        CALIBRATING / "values_get_an_interval_from_their_residuals",
        CALIBRATING / "each_way_to_combine_has_the_interval_of_its_own_residuals",
        CONFORMAL / "intervals_and_sets_cover_what_they_promise_on_fresh_draws",
        SERVED / "every_reported_number_is_that_of_the_replies",
    ),
    PREDICTION.held(
        "contract.predict.reply.adapted_level",
        "adapted_level is where sets and intervals are cut after outcomes of rows in time order.",
        ADAPTIVE / "a_value_outside_its_interval_widens_the_next_and_one_inside_narrows_it",
        ADAPTIVE_INTERVALS / "outcomes_widen_the_intervals_of_a_series_that_gets_wilder",
        CONFORMAL / "in_the_long_run_nine_of_ten_hold_although_errors_grow",
    ),
    PREDICTION.held(
        "contract.predict.reply.symbol_experts",
        "symbol_experts names the nodes that count twice, since their capabilities name the symbol.",
        EXPERTS / "records_are_decided_by_those_who_know_their_symbol",
        EXPERTS / "the_nodes_that_know_a_symbol_are_told_and_the_callers_weights_stay_as_given",
        EXPERTS / "what_status_reports_is_what_experts_answer",
    ),
    PREDICTION.held(
        "contract.predict.reply.prediction_set",
        "prediction_set has the classes of which one is right in nine of ten cases, where rows show that.",
        ANSWER / "a_record_has_the_classes_that_may_be_right",
        ANSWER / "a_set_is_of_what_was_scored_before_calibration_and_holds_the_decision",
        CALIBRATING / "too_few_rows_for_the_level_give_no_sets",
        CALIBRATING
        / "small_data_score_sets_on_the_rows_that_chose_the_round_and_calibrate_nothing",
        CONFORMAL / "the_rank_is_the_ceiling_in_integers",
        CONFORMAL / "intervals_and_sets_cover_what_they_promise_on_fresh_draws",
        SERVED / "every_reported_number_is_that_of_the_replies",
    ),
    PREDICTION.held(
        "contract.predict.reply.raw_prediction",
        "raw_prediction is the answer before calibration.",
        ANSWER / "a_calibrator_belongs_to_its_mode",
    ),
    PREDICTION.held(
        "contract.predict.reply.calibrated",
        "calibrated is false where a calibrator was not better or not measured.",
        ANSWER / "a_calibrator_belongs_to_its_mode",
        ANSWER
        / "a_mix_of_models_that_was_not_measured_is_neither_calibrated_nor_given_an_interval",
    ),
    PREDICTION.held(
        "contract.predict.reply.classes", "classes are the labels of the task.", ANSWERED
    ),
    PREDICTION.held(
        "contract.predict.reply.decision",
        "decision is the class of each record.",
        ANSWER / "an_even_split_is_decided_by_the_mean",
        ANSWER / "a_split_vote_on_classes_is_decided_by_the_mean",
    ),
    PREDICTION.held(
        "contract.predict.reply.effective_ensemble_size",
        "effective_ensemble_size counts the different models among the answers.",
        PERSONAL / "slots_that_are_not_done_learning_answer_with_weights_of_their_own",
        LIFE / "different_networks_train_apart_and_answer_together",
        ANSWER / "equal_weights_are_no_independent_evidence",
        ANSWERED,
    ),
    PREDICTION.held(
        "contract.predict.reply.error_correlation",
        "error_correlation tells whether nodes err on the same rows.",
        CALIBRATING / "slots_that_err_on_different_rows_are_known_to",
        CALIBRATING / "values_that_err_alike_are_known_to",
    ),
    PREDICTION.held(
        "contract.predict.reply.individual_predictions",
        "individual_predictions has each node's answer to one record, and is null for a list.",
        ANSWERED,
        ANSWER / "the_mean_of_three_nodes",
    ),
    PREDICTION.held(
        "contract.predict.reply.threshold",
        "threshold and positive_class say by which rule the decisions of the reply were made.",
        SERVED / "every_reported_number_is_that_of_the_replies",
        ANSWER / "a_class_decided_below_one_half_is_as_sure_as_its_probability",
        ANSWER / "what_is_missing_never_makes_a_decision_surer",
    ),
    PREDICTION.held(
        "contract.predict.reply.nodes_used",
        "nodes_used and nodes_expected count who answered and who should have.",
        ANSWER / "nodes_that_did_not_answer_lower_consensus_and_confidence",
        LIFE / "a_late_worker_is_left_out_of_an_answer_at_its_deadline",
    ),
    PREDICTION.held(
        "contract.predict.reply.excluded_nodes",
        "excluded_nodes names who is left out and why.",
        ANSWER / "nodes_that_did_not_answer_lower_consensus_and_confidence",
        PREDICT / "an_answer_that_is_not_the_committed_models_does_not_count",
    ),
    PREDICTION.held(
        "contract.predict.reply.confidence_source",
        "confidence comes from a trained validator where that is truer than the probabilities themselves.",
        DOUBTS / "a_validator_knows_where_a_sure_model_is_wrong_and_its_death_is_told",
        DOUBTS / "shuffled_labels_make_nobody_sure",
        ANSWERED,
    ),
    PREDICTION.held(
        "contract.predict.reply.source",
        "source says whether the serving nodes answered or, where they do not, the distilled student.",
        STUDENTS / "a_student_answers_nearly_as_its_teacher_where_no_worker_is_left",
        STUDENTS / "one_server_alone_never_answers_where_nodes_may_lie",
    ),
    PREDICTION.held(
        "contract.predict.reply.stacker",
        "stacker says by which rule an ensemble was made.",
        STACKING / "an_aggregator_is_right_where_every_mean_of_the_workers_is_not",
        STACKING / "without_it_the_same_workers_are_at_chance_and_the_reply_says_what_is_missing",
    ),
    PREDICTION.held(
        "contract.predict.reply.degraded",
        "degraded says that fewer nodes than expected answered, and degraded_reason how many.",
        ANSWER / "nodes_that_did_not_answer_lower_consensus_and_confidence",
        KILL / "a_stopped_worker_is_answered_without_then_suspected_then_ended",
    ),
    PREDICTION.held(
        "contract.predict.reply.bundle_sha",
        "bundle_sha names everything that shapes the answer, and stays through a restart.",
        MEASURED,
        LOCAL / "a_new_server_on_the_old_directory_answers_the_same_to_the_bit",
        DAMAGED / "what_shapes_or_describes_an_answer_cannot_be_altered_unnoticed",
    ),
    PREDICTION.held(
        "contract.predict.reply.input_report",
        "input_report tells what was mapped, imputed, ignored, out of range, and covered.",
        USE / "each_record_of_the_document_is_predicted_for_as_json_text",
        ANSWER / "inputs_that_were_not_given_lower_confidence_and_nothing_else",
    ),
    PREDICTION.held(
        "contract.predict.reply.latency_ms",
        "latency_ms is the duration inside the server.",
        ANSWERED,
        LIFE / "a_late_worker_is_left_out_of_an_answer_at_its_deadline",
    ),
    PREDICTION.held(
        "contract.predict.reply.synthetic_training_data",
        "synthetic_training_data says that the model has seen no real data.",
        ANSWERED,
    ),
)

OF_TERMINATE = (
    END.held("contract.terminate.cluster_id", "A terminate ends the cluster it names.", ENDED),
    END.held(
        "contract.terminate.training_id",
        "training_id stops that training and keeps the cluster.",
        STOPPED,
    ),
    END.held(
        "contract.terminate.node_id",
        "With node_id only that node is removed, between trainings and for good.",
        REMOVAL / "a_worker_whose_layers_do_not_fit_blocks_training_until_it_is_removed",
        REMOVAL / "a_removed_node_has_no_process_no_links_and_no_slot",
        REMOVAL / "a_removal_during_a_training_is_refused_with_what_to_do",
        REMOVAL / "a_removed_node_stays_away_after_a_restart_and_its_name_is_not_used_again",
        REMOVAL / "numbers_of_an_ensemble_do_not_outlive_its_members",
    ),
    END.held(
        "contract.terminate.delete_artifacts",
        "Files of an ended cluster go only with delete_artifacts.",
        LIFE / "artifacts_go_only_when_asked",
        ENDED,
    ),
    END.held(
        "contract.terminate.rule.idempotent",
        "A dead cluster is terminated again with success, by however many callers.",
        LIFE / "terminating_is_idempotent_and_ends_everything",
        ENDED,
    ),
    END.held(
        "contract.terminate.rule.everything-ends",
        "Every node and the training end, even if the caller goes away or a node is frozen.",
        LIFE / "terminating_is_idempotent_and_ends_everything",
        LIFE / "cancelling_a_terminate_keeps_no_node_alive",
        KILL / "a_cluster_with_a_stopped_worker_ends_at_once",
    ),
    END.held(
        "contract.terminate.rule.durable",
        "An end that could not be recorded is recorded by the next call.",
        LIFE / "an_end_that_could_not_be_made_durable_is_made_so_by_the_next_call",
    ),
    END.held(
        "contract.terminate.reply.status",
        "status is terminated or training_stopped.",
        ENDED,
        STOPPED,
    ),
    END.held(
        "contract.terminate.reply.already_terminated",
        "already_terminated tells a second call.",
        ENDED,
        STOPPED,
    ),
    END.held(
        "contract.terminate.reply.nodes_terminated",
        "nodes_terminated counts the nodes that were stopped.",
        ENDED,
    ),
    END.held("contract.terminate.reply.message", "message names the cluster that ended.", ENDED),
    END.held(
        "contract.terminate.reply.checkpoints_kept",
        "checkpoints_kept counts the files that stay.",
        ENDED,
        LIFE / "artifacts_go_only_when_asked",
        LIFE / "checkpoints_that_nobody_names_are_deleted",
    ),
    END.held(
        "contract.terminate.reply.artifacts_path", "artifacts_path is where files stay.", ENDED
    ),
    END.held(
        "contract.terminate.reply.final_metrics",
        "final_metrics are the last measures of the cluster.",
        ENDED,
        LIFE / "an_ended_cluster_keeps_its_files_and_no_weights_in_memory",
    ),
)

PROMISES = (*OF_PREDICT, *OF_TERMINATE)
