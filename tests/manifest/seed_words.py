"""The words of the user's document: topologies, architectures, consensus mechanisms, roles, models, ..."""

from tests.manifest.files import (
    ANSWER,
    BUILD,
    DEFAULTS,
    DEPLOY,
    DOUBTS,
    ENSEMBLE,
    EXAMPLES,
    EXCHANGES,
    GOSSIP,
    GOSSIP_LOCAL,
    GUARANTEES,
    KERAS,
    LEARN,
    LIARS,
    LIARS_OUTVOTED,
    LIFE,
    LINKS,
    OPTIMIZERS,
    POL,
    PROOFS,
    RAFT_FAULTS,
    RAFT_GATE,
    RAFT_WEIGHTS,
    SELECTED,
    STACKING,
    STUDENTS,
    TENSORS,
    TOPOLOGY,
    TRAINER,
    USE,
)
from tests.manifest.promise import Promise, Section

INIT = Section("seed: Initialize Distributed Neural Cluster")
ROLES = Section("seed: Deploy Neural Nodes with Specialized Roles")
TRAIN = Section("seed: Distributed Training Coordinator")
LIVE = Section("seed: Live Trading with Distributed Predictions")
BALANCE = Section("seed: Neural Cluster Health Monitoring")

EACH_TOPOLOGY = (
    BUILD / "each_topology_is_planned_measured_and_reported",
    LINKS / "connect_measures_every_edge",
)
TOPOLOGIES: tuple[Promise, ...] = (
    INIT.held(
        "seed.topology.mesh",
        "In a mesh every node is linked to every other node.",
        TOPOLOGY / "a_mesh_links_all_pairs_in_canonical_order",
        *EACH_TOPOLOGY,
    ),
    ROLES.held(
        "seed.topology.hierarchical",
        "In a hierarchy the parameter server is the root and aggregators stand between it and their workers.",
        TOPOLOGY / "a_hierarchy_gives_each_aggregator_one_capability_group",
        TOPOLOGY / "a_hierarchy_without_aggregators_hangs_workers_on_the_root",
        EXAMPLES / "an_example_exits_well_and_prints_what_it_promises",
        *EACH_TOPOLOGY,
    ),
    TRAIN.held(
        "seed.topology.star",
        "In a star every node is linked to one centre, the parameter server if there is one.",
        TOPOLOGY / "a_star_hangs_on_the_first_parameter_server",
        TOPOLOGY / "a_star_without_a_parameter_server_hangs_on_the_engine",
        *EACH_TOPOLOGY,
    ),
    INIT.held(
        "seed.topology.ring",
        "In a ring every node is linked to two neighbours.",
        TOPOLOGY / "a_ring_is_a_cycle_in_canonical_order",
        *EACH_TOPOLOGY,
    ),
    INIT.held(
        "seed.links.carry-weights",
        "Models travel from node to node along the links of the topology.",
        EXCHANGES / "four_topologies_give_one_result_and_the_bytes_of_their_formulas",
    ),
)

EACH_ARCHITECTURE = BUILD / "each_architecture_gives_workers_without_layers_its_own_network"
READS_DIGITS = LEARN / "a_default_network_of_each_family_reads_digits_row_by_row"
SIZES = DEFAULTS / "default_workers_have_their_documented_sizes"
FAMILIES = {
    "transformer": "a stack of attention encoders",
    "cnn": "one-dimensional convolutions",
    "rnn": "LSTM layers",
    "gnn": "graph convolutions over the steps of a row",
}
ARCHITECTURES = (
    *(
        INIT.held(
            f"seed.architecture.{name}",
            f"A worker without layers in a cluster of architecture {name} gets {what}, and learns.",
            EACH_ARCHITECTURE,
            READS_DIGITS,
            SIZES,
            KERAS / "default_networks_equal_keras",
        )
        for name, what in FAMILIES.items()
    ),
    ROLES.held(
        "seed.architecture.hybrid",
        "The workers of a hybrid cluster get recurrent, convolutional and attention networks in turn.",
        EACH_ARCHITECTURE,
        DEFAULTS / "workers_of_a_hybrid_cluster_take_the_families_in_turn",
    ),
)

CONSENSUS = (
    INIT.held(
        "seed.consensus.proof-of-learning",
        "Under proof of learning only updates whose training was shown to have happened are admitted.",
        BUILD / "proof_of_learning_is_in_force_without_a_word_about_it",
        PROOFS / "a_cheat_is_quarantined_and_the_weights_are_those_of_a_run_without_it",
        PROOFS / "honest_workers_are_never_rejected",
        PROOFS / "a_cheat_that_knows_the_beacon_before_it_commits_gets_through",
        POL / "two_hundred_rounds_with_one_faked_segment_and_one_challenge_match_the_formula",
        GUARANTEES / "proof_of_learning_says_who_repeats_what_is_found_and_what_is_not",
    ),
    ROLES.held(
        "seed.consensus.byzantine",
        "Under byzantine consensus less than a third of the workers may lie without spoiling the model.",
        BUILD / "byzantine_consensus_is_in_force_without_a_word_about_aggregation",
        LIARS_OUTVOTED / "the_default_learns_although_two_of_eleven_attack",
        LIARS_OUTVOTED / "the_plain_mean_collapses_under_one_of_the_same_attacks",
        SELECTED / "with_a_validator_rules_are_selected_and_learn_although_two_attack",
        GUARANTEES / "byzantine_holds_with_its_rule_and_less_than_a_third_of_liars",
        GUARANTEES / "byzantine_says_what_is_missing_for_it",
    ),
    INIT.held(
        "seed.consensus.raft",
        "Under raft a version is committed once more than half of the voters hold it.",
        RAFT_GATE / "every_version_of_a_training_is_replicated_with_what_the_ledger_says",
        RAFT_GATE / "without_a_majority_no_version_becomes_visible_and_the_training_fails",
        RAFT_WEIGHTS / "where_most_voters_do_not_hold_them_nothing_is_decided",
        RAFT_FAULTS / "twenty_killed_leaders_change_nothing_of_what_is_learnt",
        GUARANTEES / "raft_counts_voters_that_may_crash_and_none_that_may_lie",
        GUARANTEES / "only_a_replicated_log_speaks_of_durability",
    ),
    INIT.held(
        "seed.consensus.gossip",
        "Under gossip nodes average with their neighbours only, until all agree.",
        GOSSIP / "every_worker_goes_on_from_its_own_state",
        GOSSIP / "the_engine_sees_no_weight_between_two_barriers",
        GOSSIP / "the_better_a_topology_mixes_the_nearer_are_its_workers",
        GOSSIP_LOCAL / "workers_that_mix_learn_as_much_as_those_that_are_averaged",
        GOSSIP / "the_guarantee_holds_for_crashes_and_no_liar",
    ),
)

EACH_ROLE = DEPLOY / "role_wins_over_node_type_and_both_over_the_default"
ALL_ROLES = EXAMPLES / "an_example_exits_well_and_prints_what_it_promises"
ROLES_OF_NODES = (
    ROLES.held(
        "seed.role.worker",
        "A worker trains on its own rows and answers predictions.",
        EACH_ROLE,
        ALL_ROLES,
        USE / "a_training_says_what_is_really_run_on_which_data",
    ),
    ROLES.held(
        "seed.role.parameter_server",
        "A parameter server is deployed with its network and is the centre of stars and hierarchies.",
        EACH_ROLE,
        ALL_ROLES,
        TENSORS / "the_parameter_server_gets_an_implied_head",
        TOPOLOGY / "a_star_hangs_on_the_first_parameter_server",
    ),
    ROLES.held(
        "seed.role.aggregator",
        "An aggregator is deployed with its network and stands between the root and a group of workers.",
        EACH_ROLE,
        ALL_ROLES,
        TENSORS / "the_aggregator_has_38401_parameters_of_which_37889_train",
        TOPOLOGY / "a_hierarchy_gives_each_aggregator_one_capability_group",
    ),
    ROLES.held(
        "seed.role.validator",
        "A validator computes the model's outputs on rows kept from training, and is named as trusted.",
        EACH_ROLE,
        ALL_ROLES,
        TENSORS / "the_validator_has_3201_parameters",
        GUARANTEES / "whoever_evaluates_is_named_among_those_who_are_believed",
        LIFE / "no_row_outlives_its_training_in_a_node",
        LIARS / "the_node_whose_outputs_are_evaluated_is_told_to_be_trusted",
    ),
    ROLES.held(
        "seed.roles.trained-helpers",
        "Parameter servers, aggregators and validators have trained networks of their own.",
        STUDENTS / "it_is_one_more_column_for_the_aggregators_and_its_absence_is_felt",
        STUDENTS / "a_student_answers_nearly_as_its_teacher_where_no_worker_is_left",
        STACKING / "an_aggregator_is_right_where_every_mean_of_the_workers_is_not",
        DOUBTS / "a_validator_knows_where_a_sure_model_is_wrong_and_its_death_is_told",
    ),
)

EACH_SIZE = (
    BUILD / "each_model_size_has_its_own_memory_limit",
    BUILD / "each_model_size_but_custom_has_its_own_default_network",
    SIZES,
)
MODEL_SIZES = (
    *(
        ROLES.held(
            f"seed.model_size.{size}",
            f"Model {size} picks the width of the default network and the limits of the node.",
            *EACH_SIZE,
        )
        for size in ("base", "large", "xl")
    ),
    ROLES.held(
        "seed.model_size.custom",
        "Model custom is a network that the caller writes out; without layers it is refused.",
        DEFAULTS / "a_custom_model_needs_layers",
        DEPLOY / "impossible_requests_start_nothing",
        BUILD / "each_model_size_has_its_own_memory_limit",
    ),
)

STEPS = {
    "adam": "Adam's moments and bias correction",
    "sgd": "the gradient alone",
    "rmsprop": "a running mean of squared gradients",
    "adagrad": "a sum of squared gradients that starts at 0.1",
}
OPTIMIZER_WORDS = tuple(
    TRAIN.held(
        f"seed.optimizer.{name}",
        f"Optimizer {name} moves the workers' weights by {what}.",
        USE / "each_optimiser_trains_and_ends_at_weights_of_its_own",
        OPTIMIZERS / "fifty_steps_follow_the_formula",
        KERAS / "fifty_steps_of_each_optimiser_follow_keras",
        TRAINER / "every_optimiser_lowers_the_loss",
    )
    for name, what in STEPS.items()
)

EACH_AGGREGATION = USE / "each_aggregation_answers_with_every_number_that_clients_read"
AGGREGATIONS = (
    LIVE.held(
        "seed.aggregation.mean",
        "Aggregation mean is the average of the nodes' probabilities.",
        EACH_AGGREGATION,
        ANSWER / "the_mean_of_three_nodes",
        ENSEMBLE / "mean_averages_probabilities",
    ),
    LIVE.held(
        "seed.aggregation.majority",
        "Aggregation majority is the share of nodes that vote for the class.",
        EACH_AGGREGATION,
        ANSWER / "a_majority_is_the_share_of_votes_and_as_sure_as_the_mean",
        ENSEMBLE / "majority_is_the_share_of_votes",
    ),
    LIVE.held(
        "seed.aggregation.weighted",
        "Aggregation weighted pools the nodes' answers by weights, the caller's or those learnt.",
        EACH_AGGREGATION,
        ANSWER / "weights_pool_logits",
        ENSEMBLE / "weighted_pools_logits",
    ),
    LIVE.held(
        "seed.aggregation.ensemble",
        "Aggregation ensemble combines all nodes, and says in `stacker` by which rule.",
        EACH_AGGREGATION,
        ANSWER / "weights_pool_logits",
    ),
    LIVE.held(
        "seed.aggregations.trained-stacker",
        "Aggregation ensemble is computed by trained aggregator nodes where that is better.",
        STACKING / "an_aggregator_is_right_where_every_mean_of_the_workers_is_not",
        STACKING / "shuffled_labels_leave_it_at_chance_and_unused",
        STACKING / "a_dead_aggregator_leaves_the_weighted_mean_and_its_replacement_has_its_network",
    ),
)

PROMISES = (
    *TOPOLOGIES,
    *ARCHITECTURES,
    *CONSENSUS,
    *ROLES_OF_NODES,
    *MODEL_SIZES,
    *OPTIMIZER_WORDS,
    *AGGREGATIONS,
    BALANCE.held(
        "seed.topologies.switching",
        "A running cluster can be connected as another topology and back to its declared one.",
        BUILD / "another_topology_replaces_the_current_one_and_not_the_declared_one",
        LINKS / "a_change_of_topology_gives_new_buffers_and_hides_what_is_written_then",
    ),
)
