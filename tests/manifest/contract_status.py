"""The status: what the contract adds to the calls of the user's document."""

from tests.manifest.files import (
    ADVANCE,
    ARGS,
    BEST_ROUND,
    BUILD,
    ERRORS,
    FAULTS,
    GOSSIP,
    LIARS_OUTVOTED,
    LIFE,
    LOCAL,
    MEMORY,
    POISONED,
    PROOF_RECORD,
    REAL,
    RECORD,
    RECOVER,
    REPORTING,
    SCORES,
    SCRUTINY,
    SERVED,
    STATUS_SIZE,
    SURENESS,
    USE,
    WAITING,
)
from tests.manifest.promise import Section

STATUS = Section("contract: section 1.5")

MEASURED = USE / "numbers_that_nobody_measured_are_null_and_appear_when_they_are"
COUNTED = USE / "a_status_counts_nodes_bytes_and_time_without_mixing_units"
DETAIL = USE / "each_detail_of_a_status_shows_its_part"
WAITED = USE / "a_wait_for_a_change_ends_with_a_round_and_one_for_the_end_with_the_training"
ENDED = USE / "a_terminate_says_what_was_ended_and_what_is_kept"
STOPPED = LIFE / "stopping_a_training_keeps_the_cluster_and_its_last_version"
RECOVERED = RECOVER / "the_call_of_a_monitor_brings_a_failed_slot_back_with_the_committed_weights"
REFUSED = ERRORS / "the_error_is_raised_and_names_what_helps"

OF_STATUS = (
    STATUS.held("contract.status.detail", "detail says how much a status shows.", DETAIL),
    STATUS.held("contract.detail.summary", "A summary has no nodes.", DETAIL),
    STATUS.held("contract.detail.nodes", "The usual detail has nodes, and no history.", DETAIL),
    STATUS.held(
        "contract.detail.full",
        "Full detail adds history, trainings and events.",
        DETAIL,
        RECOVER / "a_dead_node_comes_back_without_a_call_where_its_autonomy_allows_that",
    ),
    STATUS.held(
        "contract.status.wait_seconds",
        "wait_seconds holds the answer back until something happens, 25 seconds at most.",
        WAITED,
        WAITING / "without_patience_nothing_is_waited_for",
        WAITING / "a_wait_that_runs_out_says_so_and_whether_anything_happened",
        ARGS / "a_wrong_value_is_shown_with_what_would_be_right",
    ),
    STATUS.held("contract.status.until", "until says what is waited for.", WAITED),
    STATUS.held(
        "contract.until.change",
        "A wait for a change ends with a round, a node, a topology or a training.",
        WAITED,
        WAITING / "a_change_ends_the_wait_at_once",
        FAULTS / "a_listener_is_told_of_every_change",
    ),
    STATUS.held(
        "contract.until.done",
        "A wait for the end lasts until the training has ended.",
        WAITED,
        WAITING / "changes_that_are_no_end_do_not_end_the_wait_for_the_end",
        WAITING / "the_end_of_nothing_is_not_waited_for",
    ),
    STATUS.held(
        "contract.status.training_id",
        "training_id, session_id or job_id asks for an earlier training.",
        USE / "an_earlier_training_can_be_asked_for_by_its_id",
        WAITING / "an_unknown_training_is_refused_before_any_wait",
    ),
    STATUS.held(
        "contract.status.rule.bytes",
        "A status keeps its size: history is thinned first, then what nodes say.",
        STATUS_SIZE / "the_history_goes_first_keeps_its_ends_and_says_where_the_rest_is",
        STATUS_SIZE / "what_nodes_say_goes_next_and_old_sessions_last",
    ),
    STATUS.held(
        "contract.status.reply.status",
        "status is degraded with a failed slot, recovering, training, ready, initialized or terminated.",
        RECOVERED,
        ENDED,
        LIFE / "a_training_goes_on_when_a_server_opens_the_directory_again",
        FAULTS / "a_node_that_dies_while_it_is_idle_is_noticed",
    ),
    STATUS.held(
        "contract.status.reply.topology",
        "topology is the current one, beside the declared one.",
        LIFE / "a_connect_without_patience_is_queued_and_done_later",
    ),
    STATUS.held(
        "contract.status.reply.uptime",
        "uptime stands still once a cluster has ended.",
        COUNTED,
        REPORTING / "uptime_stands_still_once_a_cluster_is_terminated",
    ),
    STATUS.held(
        "contract.status.reply.training_status",
        "training_status says whether a training runs, and how it ended.",
        MEASURED,
        STOPPED,
        FAULTS / "without_any_worker_left_the_training_fails_and_the_former_version_stays",
    ),
    STATUS.held(
        "contract.status.reply.training_error",
        "training_error is the code and sentence of a failure.",
        REFUSED,
        FAULTS / "a_failure_that_nobody_foresaw_ends_one_training_and_nothing_else",
    ),
    STATUS.held(
        "contract.status.reply.training",
        "training has rounds, losses, times, and as evidence steps and weight digests.",
        REAL / "a_trained_cluster_shows_evidence_and_beats_the_baseline",
        RECORD / "progress_estimates_from_measured_rounds_only",
        ADVANCE / "the_best_round_is_the_first_with_the_lowest_validation_loss",
        BEST_ROUND / "the_best_round_answers_and_not_the_last",
    ),
    STATUS.held(
        "contract.status.reply.evaluation",
        "evaluation has the interval of the accuracy, the majority baseline and further measures.",
        SERVED / "every_reported_number_is_that_of_the_replies",
        MEASURED,
        SURENESS / "the_confidence_and_the_sets_of_answers_are_measured_by_hand",
        SURENESS / "votes_are_as_sure_as_the_mean_is_of_what_they_decided",
        SCORES / "the_wilson_interval_has_its_published_values",
        SCORES / "binary_numbers_equal_those_of_an_independent_implementation",
        SCORES / "a_regressor_is_measured_in_the_targets_own_unit",
        SCORES / "directions_are_those_of_the_unstandardised_target",
    ),
    STATUS.held(
        "contract.status.reply.communication",
        "communication splits the bytes by what they were for.",
        COUNTED,
        LOCAL / "communication_is_what_an_independent_count_gives",
    ),
    STATUS.held(
        "contract.status.reply.latency",
        "latency has percentiles in milliseconds and their number.",
        MEASURED,
    ),
    STATUS.held(
        "contract.status.reply.memory_bytes",
        "memory_bytes is the sum over the nodes.",
        MEMORY / "memory_is_the_sum_of_what_was_read_and_null_unless_every_node_was",
    ),
    STATUS.held(
        "contract.status.reply.memory_source",
        "memory_source says how memory was read.",
        MEMORY / "memory_is_the_sum_of_what_was_read_and_null_unless_every_node_was",
    ),
    STATUS.held(
        "contract.status.reply.guarantees",
        "guarantees is of the workers that live now.",
        BUILD / "proof_of_learning_is_in_force_without_a_word_about_it",
    ),
    STATUS.held(
        "contract.status.reply.consensus_report",
        "consensus_report has what proofs showed and cost, or what a robust rule saw and whom it suspects;"
        " under gossip it has how far apart workers are.",
        BUILD / "proof_of_learning_is_in_force_without_a_word_about_it",
        PROOF_RECORD / "counts_add_up_over_exchanges_and_a_failed_try_verifies_no_round",
        POISONED / "two_poisoned_clients_of_eleven_are_withstood_and_named",
        SCRUTINY / "who_is_far_off_in_most_rounds_is_suspected_the_farthest_first",
        LIARS_OUTVOTED / "the_default_learns_although_two_of_eleven_attack",
        GOSSIP / "the_reported_distance_is_that_of_the_states_in_the_nodes",
    ),
    STATUS.held(
        "contract.status.reply.daa",
        "daa counts what was executed, recommended and suppressed.",
        RECOVER / "a_dead_node_comes_back_without_a_call_where_its_autonomy_allows_that",
    ),
    STATUS.held(
        "contract.status.reply.performance",
        "performance has rows per second and milliseconds.",
        MEASURED,
        WAITED,
    ),
    STATUS.held(
        "contract.status.reply.wasm",
        "wasm says whether it was wished, whether it is active, and why not.",
        COUNTED,
    ),
    STATUS.held(
        "contract.status.reply.features", "features has the switches and three counts.", COUNTED
    ),
    STATUS.held(
        "contract.status.reply.model_version", "model_version counts committed versions.", MEASURED
    ),
    STATUS.held(
        "contract.status.reply.serving",
        "serving names what answers, and the files of its weights.",
        MEASURED,
        LOCAL / "a_prediction_can_be_computed_again_from_the_stored_file",
        LIFE / "different_networks_train_apart_and_answer_together",
    ),
    STATUS.held(
        "contract.status.reply.dataset_info", "dataset_info is the data in one line.", MEASURED
    ),
    STATUS.held(
        "contract.status.reply.history",
        "history has at most twenty points, evenly, the last one kept.",
        DETAIL,
        REPORTING / "a_history_is_thinned_evenly_and_keeps_both_ends",
    ),
    STATUS.held(
        "contract.status.reply.training_sessions", "training_sessions lists all trainings.", DETAIL
    ),
    STATUS.held("contract.status.reply.timed_out", "timed_out says that a wait ran out.", WAITED),
    STATUS.held(
        "contract.status.reply.changed",
        "changed says that something happened during a wait.",
        WAITED,
    ),
    STATUS.held(
        "contract.status.reply.poll_after_ms",
        "poll_after_ms is null when nothing runs.",
        MEASURED,
        WAITED,
    ),
)

PROMISES = OF_STATUS
