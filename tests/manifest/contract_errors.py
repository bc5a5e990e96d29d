"""Every error code, and the form of an error."""

from tests.manifest.files import (
    ARGS,
    BAD_CALLS,
    BAD_CONTENT,
    CONFINED,
    DEPLOY,
    DISPATCH,
    ENSEMBLE,
    ERRORS,
    FAILURES,
    FAULTS,
    HOST,
    INPROC_FAULTS,
    KILL,
    LEDGER,
    LIARS,
    LIFE,
    NODE_FAULTS,
    NODES,
    PREDICT,
    PRIVATE,
    RAFT_GATE,
    RAFT_GROUP,
    REAL,
    RESOLVE,
)
from tests.manifest.promise import Promise, Section

FORM = Section("contract: section 2")
PROVOKED = ERRORS / "the_error_is_raised_and_names_what_helps"
WORDED = FAILURES / "every_error_of_the_tree_is_worded_with_its_code_and_a_next_step"

CALLERS = {
    "invalid_arguments": (
        "An argument that is unknown, missing, out of range or contradictory is named with the right one.",
        ARGS / "a_wrong_value_is_shown_with_what_would_be_right",
    ),
    "cluster_not_found": (
        "An unknown cluster is answered with the known ones.",
        REAL / "what_only_the_engine_can_refuse_is_refused_in_the_same_form",
    ),
    "node_not_found": (
        "An unknown node is answered with the slots of the cluster.",
        DEPLOY / "impossible_requests_start_nothing",
    ),
    "training_not_found": (
        "An unknown training is answered with those of the cluster.",
        LIFE / "stopping_a_training_keeps_the_cluster_and_its_last_version",
    ),
    "ambiguous_cluster": ("A name of several live clusters is answered with their ids.", PROVOKED),
    "cluster_terminated": (
        "Work on an ended cluster is told when it ended.",
        LIFE / "terminating_is_idempotent_and_ends_everything",
    ),
    "cluster_exists": (
        "Reuse of a cluster with other settings names the settings that differ.",
        PROVOKED,
    ),
    "no_workers": (
        "Too few workers are told with needed, present and counts of each role.",
        LIFE / "training_needs_a_healthy_worker",
    ),
    "limit_exceeded": (
        "A limit is told with its value and the flag that raises it.",
        DEPLOY / "concurrent_deploys_respect_the_limit",
    ),
    "invalid_architecture": (
        "A layer that cannot work is named by its index.",
        DEPLOY / "a_network_that_does_not_fit_the_data_is_named_by_its_workers",
    ),
    "invalid_topology": ("A topology that is too large names one that works.", PROVOKED),
    "unsupported_combination": (
        "Two settings that exclude each other are both named.",
        DEPLOY / "impossible_requests_start_nothing",
    ),
    "dataset_not_found": (
        "An unknown dataset is answered with the built-in names and where files belong.",
        RESOLVE / "a_missing_name_tells_where_files_belong_and_what_is_built_in",
    ),
    "invalid_dataset": ("Data that cannot be used names file, line or column.", PROVOKED),
    "data_too_small": ("Fewer than thirty usable rows are told with how many there are.", PROVOKED),
    "path_not_allowed": (
        "A path outside the data directories is refused with the flag that allows it.",
        RESOLVE / "a_path_outside_the_roots_is_refused_whether_or_not_it_exists",
    ),
    "source_unavailable": (
        "A source that would have to be downloaded is refused with what to do instead.",
        RESOLVE / "nothing_is_downloaded",
    ),
    "invalid_record": (
        "A record that cannot be read is told with the inputs and an example.",
        PREDICT / "a_wrong_record_is_refused_and_the_next_one_answered",
    ),
    "no_known_feature": (
        "A record without any known input is told with the inputs and an example.",
        REAL / "what_only_the_engine_can_refuse_is_refused_in_the_same_form",
    ),
    "not_trained": (
        "A prediction before the first version names the training.",
        LIFE / "a_refused_training_leaves_the_cluster_as_it_was",
    ),
    "training_running": (
        "A second training names the first and its progress.",
        LIFE / "a_second_training_is_refused_while_one_runs_or_is_prepared",
    ),
    "privacy_budget_spent": (
        "A round beyond a privacy budget is refused, with the limit and what it would spend.",
        PRIVATE / "a_budget_counts_trainings_of_other_clusters_and_lives_through_a_restart",
    ),
    "no_serving_node": (
        "When nobody answered in time, asked, answered and deadline are told.",
        LIFE / "nobody_in_time_is_an_error_at_the_deadline",
    ),
    "round_failed": (
        "A round that could not be closed names survivors and their reasons.",
        FAULTS / "a_training_of_which_nobody_sends_anything_usable_fails_with_its_code",
    ),
    "overloaded": (
        "A full queue is told with when to come back.",
        PREDICT / "more_than_64_at_once_are_told_to_come_back",
    ),
    "node_start_failed": (
        "A node that does not come up is told with its last words.",
        DEPLOY / "a_start_that_fails_leaves_no_slot_and_no_process",
    ),
    "sync_mismatch": (
        "A node that holds other weights than the committed ones is refused.",
        PROVOKED,
    ),
    "runtime_unavailable": ("A runtime that cannot start nodes is told.", PROVOKED),
    "isolation_unavailable": (
        "A required isolation that cannot be met names what is missing.",
        CONFINED / "a_strict_requirement_refuses_a_weaker_node_and_leaves_nothing",
    ),
    "not_available": (
        "A known idea that is not built names what there is instead.",
        ARGS / "what_is_not_built_is_refused_and_not_ignored",
    ),
    "state_dir_locked": (
        "A second server on a state directory is told which process holds it.",
        PROVOKED,
    ),
    "store_unavailable": (
        "A full or unwritable disk is told, and what was committed answers on.",
        KILL / "a_full_disk_lets_a_training_wait_and_predictions_go_on",
    ),
    "store_corrupt": (
        "A changed journal refuses its cluster and no other.",
        PREDICT / "a_cluster_whose_ledger_was_altered_is_not_opened_and_others_are",
    ),
    "shutting_down": (
        "A server that stops says so.",
        HOST / "before_and_after_running_a_call_is_refused",
    ),
    "internal_error": (
        "Anything unforeseen shows an incident number only.",
        FAILURES / "an_unexpected_failure_shows_an_incident_number_and_the_log_has_the_traceback",
    ),
}

OF_NODES: dict[str, tuple[str, ...]] = {
    "node_died": (
        "The death of a node ends its calls and is told with the reason.",
        NODES / "death_in_flight_fails_the_calls_of_that_node_only",
        FAULTS / "a_node_that_dies_while_it_is_idle_is_noticed",
        NODE_FAULTS / "an_exit_tells_signal_status_and_what_it_cost",
    ),
    "node_unavailable": (
        "A request to a node that is gone is not delivered and says so.",
        NODES / "death_between_calls_reaches_every_waiter_and_fails_the_next_call",
    ),
    "node_timeout": (
        "A node that answers nothing in time is ended and told as such.",
        LIARS / "claiming_endless_steps_buys_no_endless_patience",
        LIARS / "a_node_that_answers_pings_and_withholds_a_grant_is_killed",
    ),
    "node_fault": (
        "An operation that fails inside a node leaves the node alive.",
        NODES / "an_operation_that_fails_leaves_the_node_alive",
    ),
    "fenced": (
        "A message of another incarnation changes nothing.",
        NODES / "a_request_of_another_incarnation_is_fenced_by_the_node",
        DISPATCH / "another_incarnation_is_fenced_and_changes_nothing",
    ),
    "protocol_violation": (
        "A node that sends what the protocol does not allow is ended and named.",
        INPROC_FAULTS / "garbage_is_a_violation",
        FAULTS / "a_round_closes_without_a_worker_that_fails_in_it",
        LIARS / "a_number_that_cannot_be_ends_the_node_and_the_training_goes_on",
    ),
    "quorum_lost": (
        "Too few usable answers are an error that says so.",
        ENSEMBLE / "nobody_answering_is_an_error_that_can_be_retried",
        PREDICT / "weights_of_the_caller_reach_the_answer_and_wrong_ones_are_refused",
    ),
    "update_rejected": (
        "An update that contradicts itself is not admitted, and a commit on a stale parent neither.",
        FAULTS / "an_update_that_lies_is_refused_by_name_and_moves_nothing",
        LEDGER / "a_commit_on_a_stale_parent_is_refused",
    ),
}

PROMISES: tuple[Promise, ...] = (
    *(
        FORM.held(f"contract.error.{code}", text, *dict.fromkeys((PROVOKED, test)))
        for code, (text, test) in CALLERS.items()
    ),
    *(
        FORM.held(f"contract.error.{code}", text, *tests)
        for code, (text, *tests) in OF_NODES.items()
    ),
    FORM.held(
        "contract.error.consensus_unavailable",
        "Without a majority of voters nothing is committed, and the error says so.",
        RAFT_GATE / "without_a_majority_no_version_becomes_visible_and_the_training_fails",
        RAFT_GATE / "a_training_waits_at_the_boundary_for_a_majority_and_then_fails",
        RAFT_GROUP / "two_voters_of_three_decide_and_one_does_not_and_says_why",
    ),
    FORM.held(
        "contract.errors.form",
        "An error is one line under 1,000 characters: code, what is wrong, what is valid, the next call.",
        PROVOKED,
        WORDED,
        FAILURES / "whatever_an_error_says_its_text_is_one_short_line_that_can_be_sent",
        REAL / "what_only_the_engine_can_refuse_is_refused_in_the_same_form",
    ),
    FORM.held(
        "contract.errors.no-structure",
        "An error has one text block and no structured content.",
        WORDED,
        REAL / "what_only_the_engine_can_refuse_is_refused_in_the_same_form",
    ),
    FORM.held(
        "contract.errors.next-call",
        "An error names the call that helps.",
        PROVOKED,
        REAL / "work_on_a_cluster_without_what_it_needs_names_the_next_call",
    ),
    FORM.held(
        "contract.errors.nothing-half-done",
        "A refused call leaves nothing behind.",
        BAD_CONTENT / "wrong_content_gets_one_worded_error_each_and_nothing_is_half_done",
        DEPLOY / "impossible_requests_start_nothing",
        LIFE / "a_refused_training_leaves_the_cluster_as_it_was",
    ),
    FORM.held(
        "contract.errors.any-input",
        "Whatever is sent, the answer is a result or one worded error, and the next call is answered.",
        BAD_CALLS / "every_malformed_call_gets_one_worded_error_and_the_next_call_is_answered",
        BAD_CALLS / "whatever_is_sent_the_answer_is_a_result_or_one_worded_error",
        REAL / "no_malformed_call_reaches_or_harms_the_real_engine",
    ),
    FORM.held(
        "contract.errors.all-provoked",
        "Every code of the tree is provoked by a test, or is known not to reach a caller.",
        ERRORS / "every_code_of_the_tree_is_provoked_below_or_is_known_not_to_reach_a_caller",
    ),
    FORM.held(
        "contract.errors.ended-name",
        "The name of an ended cluster is answered with its id.",
        LIFE / "the_name_of_an_ended_cluster_leads_to_its_id",
    ),
)
