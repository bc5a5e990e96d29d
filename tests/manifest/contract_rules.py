"""The rules of the contract that hold for every tool, and the tools that the document does not have."""

from tests.manifest.files import (
    ARGS,
    BAD_CALLS,
    BUILD,
    DEPLOY,
    ERRORS,
    LIARS,
    LIFE,
    LISTING,
    PREDICT,
    REAL,
    RESULTS,
    ROUNDING,
    SYNTHETIC,
    TOOLS,
    TRAIN_ARGS,
    USE,
)
from tests.manifest.promise import Section

RULES = Section("contract: section 0")
TOOLS_SECTION = Section("contract: section 1")

EXACT_FIELDS = (
    RESULTS / "a_result_has_exactly_the_fields_of_the_contract_and_the_schema_requires_them_all"
)
SPELLINGS = ARGS / "an_argument_is_understood_in_every_spelling_and_form_that_hosts_use"
MEASURED = USE / "numbers_that_nobody_measured_are_null_and_appear_when_they_are"
COUNTED = USE / "a_status_counts_nodes_bytes_and_time_without_mixing_units"

PROMISES = (
    TOOLS_SECTION.held(
        "contract.tool.terminate",
        "A seventh tool, neural_cluster_terminate, ends a cluster or one of its trainings.",
        USE / "a_terminate_says_what_was_ended_and_what_is_kept",
        LIFE / "stopping_a_training_keeps_the_cluster_and_its_last_version",
    ),
    TOOLS_SECTION.held(
        "contract.tool.list",
        "An eighth tool, neural_cluster_list, tells which clusters there are, and starts nothing.",
        LISTING / "a_list_says_of_each_cluster_what_a_later_session_needs",
        LISTING / "listing_starts_no_node_of_a_cluster_that_was_read_back",
        LISTING / "the_tool_and_the_resource_tell_the_same",
    ),
    TOOLS_SECTION.held(
        "contract.list.include_ended",
        "A list with include_ended true also has the clusters that were terminated.",
        LISTING / "an_ended_cluster_is_counted_and_listed_only_when_it_is_asked_for",
    ),
    TOOLS_SECTION.held(
        "contract.list.limit",
        "A list has at most as many clusters as limit says, the newest ones.",
        LISTING / "a_limit_keeps_the_newest_clusters_and_says_how_many_are_left_out",
    ),
    TOOLS_SECTION.held(
        "contract.tools.order",
        "The tools are listed in the order in which they are called, and there is none besides.",
        TOOLS / "the_tools_come_in_the_order_in_which_they_are_called",
        TOOLS / "the_list_is_the_committed_one_in_both_eras",
    ),
    RULES.held(
        "contract.results.success",
        "Every result is one flat object with success true, and a failure is never a result.",
        EXACT_FIELDS,
        ERRORS / "the_error_is_raised_and_names_what_helps",
        REAL / "what_only_the_engine_can_refuse_is_refused_in_the_same_form",
    ),
    RULES.held(
        "contract.results.warnings",
        "Every result has a list of warnings, empty when there is none.",
        EXACT_FIELDS,
        BUILD / "a_second_cluster_of_a_name_is_made_and_the_first_one_is_told_of",
    ),
    RULES.held(
        "contract.results.all-fields",
        "Every field is always there, and the schema requires it.",
        EXACT_FIELDS,
    ),
    RULES.held(
        "contract.numbers.never-invented",
        "What was not measured is null, and what diverged is null.",
        MEASURED,
        RESULTS / "a_loss_that_is_not_a_number_is_null_and_still_fits_the_schema",
        RESULTS / "a_required_float_that_is_not_a_number_is_an_error_and_not_an_invented_number",
    ),
    RULES.held(
        "contract.numbers.synthetic-is-said",
        "Every reply that rests on synthetic data says so.",
        MEASURED,
        USE / "a_training_says_what_is_really_run_on_which_data",
        USE / "each_aggregation_answers_with_every_number_that_clients_read",
        SYNTHETIC / "a_learner_lands_between_the_majority_and_the_best_possible",
    ),
    RULES.held(
        "contract.numbers.six-digits",
        "Floats are rounded to six significant digits; integers and hashes are exact.",
        RESULTS / "floats_are_rounded_to_six_digits_and_integers_and_hashes_are_exact",
        ROUNDING / "rounding_keeps_six_digits_and_is_idempotent",
        ROUNDING / "integers_and_text_are_exact_and_lone_surrogates_can_be_sent",
    ),
    RULES.held(
        "contract.numbers.units",
        "No unit has two meanings: percent, milliseconds, bytes and shares are told apart by name.",
        COUNTED,
    ),
    RULES.held(
        "contract.times.utc",
        "Times are ISO 8601 in UTC.",
        BUILD / "a_cluster_has_the_settings_it_was_asked_for_and_says_which_of_them_do_nothing",
        BUILD / "a_node_is_told_of_as_it_runs_and_keeps_what_was_asked",
    ),
    RULES.held(
        "contract.ids.form",
        "Ids are dnc_, node_ and trn_ with twelve hexadecimal digits.",
        BUILD / "a_cluster_has_the_settings_it_was_asked_for_and_says_which_of_them_do_nothing",
        BUILD / "a_node_is_told_of_as_it_runs_and_keeps_what_was_asked",
        USE / "a_training_says_what_is_really_run_on_which_data",
    ),
    RULES.held(
        "contract.ids.aliases",
        "The id of a cluster, a node or a training stands in the reply under all its names.",
        RESULTS / "the_ids_of_a_cluster_a_node_and_a_training_go_by_all_their_names",
    ),
    RULES.held(
        "contract.ids.incarnation",
        "A node's id is of one incarnation; its slot keeps its name through replacements.",
        DEPLOY / "a_deploy_without_layers_replaces_a_failed_slot_of_its_kind",
        DEPLOY / "a_start_that_fails_leaves_no_slot_and_no_process",
    ),
    RULES.held(
        "contract.ids.cluster-argument",
        "cluster_id is also understood as id and as clusterId.",
        ARGS / "a_cluster_id_goes_by_three_names",
    ),
    RULES.held(
        "contract.ids.by-name",
        "A cluster is also found by its name when exactly one live cluster has it.",
        BUILD / "a_live_cluster_is_found_by_its_name",
        ERRORS / "the_error_is_raised_and_names_what_helps",
    ),
    RULES.held(
        "contract.ids.of-another-kind",
        "The id of a node or a training in place of a cluster's is refused with the right cluster's id.",
        BUILD / "the_id_of_a_node_in_place_of_a_clusters_leads_to_the_cluster",
    ),
    RULES.held(
        "contract.ids.node-argument",
        "A node is named by its id or by its slot.",
        DEPLOY / "a_failed_node_is_replaced_by_its_id",
        DEPLOY / "a_full_cluster_points_to_its_failed_nodes",
        PREDICT / "weights_of_the_caller_reach_the_answer_and_wrong_ones_are_refused",
    ),
    RULES.held(
        "contract.spelling.both", "Every argument may be in snake_case or in camelCase.", SPELLINGS
    ),
    RULES.held(
        "contract.spelling.conflict",
        "Two spellings of one argument with different values are refused.",
        ARGS / "one_argument_in_two_spellings_is_fine_if_both_agree_and_an_error_if_not",
    ),
    RULES.held(
        "contract.spelling.json-text",
        "Structures, numbers and booleans may come as text.",
        SPELLINGS,
        ARGS / "input_data_arrives_as_sent_as_text_or_as_a_value",
    ),
    RULES.held(
        "contract.names.inert",
        "Known names without an effect are accepted and answered by a warning with the reason.",
        ARGS / "a_name_without_effect_is_answered_by_one_warning_that_says_why",
        TOOLS / "nothing_but_the_published_arguments_is_published",
    ),
    RULES.held(
        "contract.names.privacy",
        "What is not built is refused as not available, with what there is instead.",
        ARGS / "what_is_not_built_is_refused_and_not_ignored",
    ),
    RULES.held(
        "contract.names.misleading",
        "Known names that would mislead if ignored are refused with what to do instead.",
        ARGS / "a_name_that_would_mislead_is_refused_with_the_reason",
        ARGS / "federated_on_init_points_to_the_training",
    ),
    RULES.held(
        "contract.names.unknown",
        "Any other unknown name is refused with the nearest known one.",
        ARGS / "a_misspelt_name_is_refused_with_the_nearest_one",
        BAD_CALLS / "an_unknown_argument_is_never_dropped_in_silence",
    ),
    RULES.held(
        "contract.names.federated-only",
        "Arguments of federated training without federated true are refused.",
        TRAIN_ARGS / "what_belongs_to_federated_training_is_refused_without_it",
        ERRORS / "the_error_is_raised_and_names_what_helps",
    ),
    RULES.held(
        "contract.versions.one-at-a-time",
        "All numbers of a prediction belong to one committed version.",
        LIFE / "every_prediction_during_a_training_rests_on_one_committed_version",
        PREDICT / "a_version_replaced_in_the_nodes_is_answered_with_its_successor",
        LIARS / "enormous_weights_fail_the_training_and_what_was_committed_answers_on",
    ),
)
