"""Training: what the contract adds to the calls of the user's document."""

from tests.manifest.files import (
    AGGREGATION_RULE,
    BUILD,
    CHOSEN,
    CLASS_WEIGHT,
    DECISION,
    DEFAULT_RUNS,
    DEPLOY,
    EARLY,
    ERRORS,
    FAULTS,
    FEDERATED_METHODS,
    FEDERATED_OPTIONS,
    FOLDS,
    LIFE,
    METHODS_TRAINED,
    PART_SIZES,
    PARTITION,
    PREPARE,
    RECORD,
    REPORTING,
    RETRAINING,
    ROBUST_RULES,
    RULES_END_TO_END,
    SAMPLING,
    SEEDS,
    SELECTED,
    SERVED,
    TRAIN_ARGS,
    TRAINER,
    USE,
)
from tests.manifest.promise import Section

TRAIN = Section("contract: section 1.4")

STARTED = USE / "a_training_says_what_is_really_run_on_which_data"
DATA = USE / "the_arguments_about_the_data_reach_the_data"
EXCLUDED = USE / "columns_are_excluded_and_the_task_is_said_in_the_call"
WEIGHED = USE / "classes_are_weighed_and_decided_as_the_call_says"
TASK_SAID = PREPARE / "the_task_may_be_said_where_the_values_suggest_another"
FEDERATED = TRAIN_ARGS / "defaults_of_federated_training"
REFUSED = ERRORS / "the_error_is_raised_and_names_what_helps"

OF_TRAIN = (
    TRAIN.held(
        "contract.train.rounds",
        "rounds overrides epochs as the number of federated rounds.",
        FEDERATED,
        STARTED,
    ),
    TRAIN.held(
        "contract.train.local_epochs",
        "local_epochs is the passes of a worker in one round.",
        FEDERATED,
        STARTED,
    ),
    TRAIN.held(
        "contract.train.clients_per_round",
        "clients_per_round workers are asked in each round, five at most by default.",
        FEDERATED,
        TRAIN_ARGS / "no_more_clients_than_workers",
        SAMPLING / "exactly_the_wanted_number_is_asked_without_repetition",
    ),
    TRAIN.held(
        "contract.train.min_nodes_per_round",
        "min_nodes_per_round updates close a round, four fifths of the clients by default.",
        TRAIN_ARGS / "four_fifths_of_the_clients_close_a_round",
        FAULTS / "a_round_closes_without_a_worker_that_fails_in_it",
        REFUSED,
    ),
    TRAIN.held(
        "contract.train.aggregation_method",
        "aggregation_method is an average, a federated method or a robust rule, by name.",
        TRAIN_ARGS / "spellings_of_the_average_are_accepted",
        RULES_END_TO_END / "a_robust_rule_learns_as_well_with_a_lying_worker_as_without",
        ROBUST_RULES / "the_rule_of_a_name_gives_the_published_vector",
        SELECTED / "with_a_validator_rules_are_selected_and_learn_although_two_attack",
        SELECTED / "by_name_without_a_validator_or_rows_it_is_refused_and_nothing_starts",
        TRAIN_ARGS / "arguments_that_mean_nothing_are_refused_before_data_are_read",
    ),
    TRAIN.held(
        "contract.train.byzantine_f",
        "byzantine_f is how many lying workers a rule tolerates; what it cannot is refused before the start.",
        AGGREGATION_RULE / "a_given_number_is_taken",
        AGGREGATION_RULE / "a_rule_that_cannot_keep_its_number_is_refused_with_a_way_out",
        ROBUST_RULES / "a_round_that_cannot_keep_what_was_promised_fails_by_name",
    ),
    TRAIN.held(
        "contract.train.proximal_mu",
        "proximal_mu is the weight of FedProx's term; the larger, the nearer weights stay to the base.",
        TRAINER / "the_proximal_term_is_added_to_the_gradient",
        TRAINER / "a_large_mu_leaves_the_weights_at_the_base",
        FEDERATED_OPTIONS / "an_option_of_another_method_is_refused_with_those_that_have_it",
    ),
    TRAIN.held(
        "contract.train.server_learning_rate",
        "server_learning_rate is the step size of the methods that have a server step.",
        FEDERATED_METHODS / "the_parameters_go_where_the_formula_of_the_paper_says",
        FEDERATED_OPTIONS / "an_option_of_another_method_is_refused_with_those_that_have_it",
        METHODS_TRAINED / "options_take_effect_and_are_in_the_configuration",
    ),
    TRAIN.held(
        "contract.train.server_momentum",
        "server_momentum is the momentum of the server's step.",
        FEDERATED_METHODS / "the_parameters_go_where_the_formula_of_the_paper_says",
        FEDERATED_OPTIONS / "an_option_of_another_method_is_refused_with_those_that_have_it",
        METHODS_TRAINED / "options_take_effect_and_are_in_the_configuration",
    ),
    TRAIN.held(
        "contract.train.partition",
        "partition says how rows are dealt: by capability, at random, skewed, sorted, or by client.",
        TRAIN_ARGS / "the_partition_in_force",
        TRAIN_ARGS / "partitions_of_federated_training_are_accepted",
        PARTITION / "a_small_alpha_makes_shards_differ_and_a_large_one_does_not",
        PARTITION / "whole_clients_go_to_workers_in_turn",
        PARTITION / "owners_of_a_symbol_split_its_rows_in_blocks_of_time",
    ),
    TRAIN.held(
        "contract.train.target",
        "target is the column to predict.",
        DATA,
        PREPARE / "a_misspelt_column_gets_a_suggestion",
    ),
    TRAIN.held(
        "contract.train.time_column", "time_column orders the rows and is no feature.", DATA
    ),
    TRAIN.held("contract.train.features", "features are the only columns that are used.", DATA),
    TRAIN.held(
        "contract.train.exclude",
        "exclude names columns that have no role at all.",
        EXCLUDED,
        PREPARE / "excluded_columns_are_named_with_the_reason",
    ),
    TRAIN.held(
        "contract.train.task",
        "task says whether the target is classes or numbers, where its values suggest another.",
        EXCLUDED,
        PREPARE / "a_task_that_the_target_does_not_allow_is_refused",
    ),
    TRAIN.held(
        "contract.train.class_weight",
        "class_weight is what the rows of a class count in the training and in the decision.",
        WEIGHED,
        CLASS_WEIGHT
        / "a_rare_class_is_found_more_often_and_its_probability_stays_that_of_the_data",
        CLASS_WEIGHT / "every_worker_weighs_by_the_whole_data_set_and_not_by_its_shard",
        CLASS_WEIGHT / "classes_that_all_count_once_give_the_bytes_of_no_weights",
        DECISION / "weights_that_no_data_make_right_are_refused_at_once",
    ),
    TRAIN.held(
        "contract.train.threshold",
        "threshold is the probability from which on the positive class is decided, everywhere.",
        WEIGHED,
        SERVED / "every_reported_number_is_that_of_the_replies",
        CLASS_WEIGHT / "the_rule_outlives_the_server_and_the_nodes",
        DECISION / "a_wish_that_the_task_cannot_follow_is_refused",
    ),
    TRAIN.held(
        "contract.train.positive_class",
        "positive_class is the one of two classes whose probability is predicted.",
        WEIGHED,
        CLASS_WEIGHT / "the_class_that_is_called_positive_is_the_one_whose_probability_is_told",
    ),
    TRAIN.held(
        "contract.task_kind.classification",
        "classification takes each value of the target for a class.",
        TASK_SAID,
    ),
    TRAIN.held(
        "contract.task_kind.regression", "regression takes the target for numbers.", TASK_SAID
    ),
    TRAIN.held(
        "contract.train.window",
        "window makes sequences of so many following rows.",
        DATA,
        PREPARE / "windows_stay_inside_a_part_and_a_symbol",
    ),
    TRAIN.held(
        "contract.train.horizon",
        "horizon takes the target so many rows later.",
        DATA,
        PREPARE / "a_horizon_takes_the_label_from_later_rows_of_the_same_symbol",
    ),
    TRAIN.held(
        "contract.train.test_size",
        "test_size is the share or the number of the rows that are tested on.",
        DATA,
        PART_SIZES / "a_given_size_is_exact_and_the_other_parts_keep_their_proportions",
        PART_SIZES / "sizes_that_leave_nothing_to_train_on_are_named",
        PART_SIZES / "a_test_part_cannot_be_cut_beside_reserved_rows",
    ),
    TRAIN.held(
        "contract.train.validation_size",
        "validation_size is the share or the number of the rows that choose the best round; 0 for none.",
        DATA,
        PART_SIZES / "a_given_size_is_exact_and_the_other_parts_keep_their_proportions",
    ),
    TRAIN.held(
        "contract.train.folds",
        "folds cuts as many tests in time order, each after the rows that are trained on for it.",
        DATA,
        FOLDS / "four_folds_train_on_ever_more_and_test_on_the_second_to_the_fourth_fifth",
        FOLDS / "the_gap_and_the_embargo_hold_in_every_fold",
        RETRAINING / "every_fold_has_a_model_of_its_own_trained_on_what_came_before",
        RETRAINING / "the_score_of_a_fold_is_that_of_a_training_on_its_rows_alone",
    ),
    TRAIN.held(
        "contract.train.refit",
        "refit trains once more on every row after the evaluation; that model answers.",
        DATA,
        RETRAINING / "rows_in_time_order_are_all_trained_on_at_the_end",
        RETRAINING / "what_was_measured_is_of_the_version_before_and_said_so",
        RETRAINING / "a_later_training_starts_from_weights_that_have_not_seen_its_test_rows",
    ),
    TRAIN.held(
        "contract.train.seed",
        "seed decides split, shards, order and dropout of a training.",
        STARTED,
        PREPARE / "the_split_follows_the_seed",
        SEEDS / "another_seed_gives_other_weights",
    ),
    TRAIN.held(
        "contract.train.rule.at-once",
        "The call returns at once, and the training outlives it.",
        STARTED,
        LIFE / "progress_is_the_share_of_committed_rounds_and_never_falls",
    ),
    TRAIN.held(
        "contract.train.rule.one-at-a-time",
        "A cluster has one training at a time.",
        LIFE / "a_second_training_is_refused_while_one_runs_or_is_prepared",
    ),
    TRAIN.held(
        "contract.train.rule.needs-a-worker",
        "A training needs a healthy worker.",
        LIFE / "training_needs_a_healthy_worker",
    ),
    TRAIN.held(
        "contract.train.rule.connects",
        "A cluster that was never connected is connected first, with a warning.",
        USE / "a_training_of_a_cluster_that_was_never_connected_connects_it",
    ),
    TRAIN.held(
        "contract.train.rule.lineage",
        "Equal inputs continue from the committed version; other inputs start a new lineage, with a warning.",
        LIFE / "training_again_goes_on_from_the_committed_weights",
    ),
    TRAIN.held(
        "contract.train.rule.refused-changes-nothing",
        "A refused training leaves the cluster as it was.",
        LIFE / "a_refused_training_leaves_the_cluster_as_it_was",
        DEPLOY / "a_network_that_does_not_fit_the_data_is_named_by_its_workers",
    ),
    TRAIN.held(
        "contract.train.rule.data-parallel",
        "Without federated several workers train on random shards and average a few times an epoch.",
        TRAIN_ARGS / "without_federation_the_strategy_is_the_chosen_one_with_its_reason",
        TRAIN_ARGS / "workers_average_about_four_times_an_epoch",
        FAULTS / "data_parallel_training_goes_on_without_a_dead_worker",
    ),
    TRAIN.not_built(
        "contract.train.rule.all-reduce",
        "Without federated the workers compute each step of one large batch together.",
        "not the step-by-step all-reduce of one large batch",
        TRAIN_ARGS / "without_federation_the_strategy_is_the_chosen_one_with_its_reason",
    ),
    TRAIN.held(
        "contract.train.rule.other-methods",
        "Federated averaging can be replaced by FedProx, FedAvgM, FedAdam, FedYogi, FedAdagrad or SCAFFOLD.",
        FEDERATED_METHODS / "the_parameters_go_where_the_formula_of_the_paper_says",
        METHODS_TRAINED / "each_method_learns_from_unequal_shards_and_differs_from_the_average",
    ),
    TRAIN.held(
        "contract.train.rule.early-stopping",
        "A training that gains nothing more stops by itself, and its progress is then 100.",
        EARLY / "a_training_ends_when_its_patience_is_exhausted_and_the_best_round_answers",
        RECORD / "only_what_ended_well_is_at_100_percent",
    ),
    TRAIN.held(
        "contract.train.patience",
        "patience is the number of rounds without a better validation loss that ends a training.",
        EARLY / "a_training_ends_when_its_patience_is_exhausted_and_the_best_round_answers",
        EARLY / "rounds_that_are_asked_for_are_all_done_unless_a_patience_is",
        EARLY / "a_patience_that_nothing_can_be_counted_by_is_named",
        TRAIN_ARGS / "a_training_ends_early_unless_its_rounds_were_given_or_nothing_can_be_counted",
    ),
    TRAIN.held(
        "contract.train.rule.chosen",
        "Epochs, batch size and learning rate that are not given fit the data, and the reply names them.",
        TRAIN_ARGS / "what_is_given_is_used_and_the_rest_is_chosen_and_named",
        CHOSEN / "fewer_rows_get_smaller_batches_and_more_epochs",
        DEFAULT_RUNS / "a_training_that_is_given_only_data_learns_them",
        DEFAULT_RUNS / "the_synthetic_market_is_told_from_its_majority_class",
    ),
    TRAIN.held(
        "contract.train.reply.participating_nodes",
        "participating_nodes are the ids of the workers.",
        STARTED,
    ),
    TRAIN.held(
        "contract.train.reply.config",
        "config has every argument as it is in force.",
        STARTED,
        FEDERATED,
    ),
    TRAIN.held(
        "contract.train.reply.dataset_info",
        "dataset_info tells how the data was understood, split and hashed.",
        STARTED,
        DATA,
        PREPARE / "the_description_is_what_the_engine_reports",
    ),
    TRAIN.held(
        "contract.train.reply.networks",
        "networks lists slots with the same network and its size.",
        STARTED,
        LIFE / "different_networks_train_apart_and_answer_together",
    ),
    TRAIN.held(
        "contract.train.reply.guarantees",
        "guarantees is of the workers that take part.",
        BUILD / "proof_of_learning_is_in_force_without_a_word_about_it",
    ),
    TRAIN.held(
        "contract.train.reply.poll_after_ms",
        "poll_after_ms is when it is worth asking again.",
        STARTED,
        REPORTING / "it_is_worth_asking_again_after_about_a_round",
    ),
)

PROMISES = OF_TRAIN
