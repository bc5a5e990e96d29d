"""Init, deploy and connect: what the contract adds to the calls of the user's document."""

from tests.manifest.files import (
    ARGS,
    BUILD,
    CONFINED,
    DEFAULTS,
    DEPLOY,
    ERRORS,
    GUARANTEES,
    KILL,
    LIFE,
    LINKS,
    MEMBERSHIP,
    REBALANCING,
    RECOVER,
    RESTORING,
    RESULTS,
    SEEDS,
    SEVERAL,
    TOPOLOGY,
    WEIGHTS,
)
from tests.manifest.promise import Section

INIT = Section("contract: section 1.1")
DEPLOY_ = Section("contract: section 1.2")
CONNECT = Section("contract: section 1.3")

MADE = BUILD / "a_cluster_has_the_settings_it_was_asked_for_and_says_which_of_them_do_nothing"
REUSED = BUILD / "reuse_returns_the_newest_live_cluster_of_the_name_and_makes_none"
TOLD = BUILD / "a_node_is_told_of_as_it_runs_and_keeps_what_was_asked"
RECOVERED = RECOVER / "the_call_of_a_monitor_brings_a_failed_slot_back_with_the_committed_weights"
PLANNED = BUILD / "each_topology_is_planned_measured_and_reported"
SWITCHED = BUILD / "another_topology_replaces_the_current_one_and_not_the_declared_one"
AT_THE_BOUNDARY = LIFE / "connecting_during_a_training_waits_for_the_boundary_between_rounds"
QUEUED = LIFE / "a_connect_without_patience_is_queued_and_done_later"
REFUSED = ERRORS / "the_error_is_raised_and_names_what_helps"

OF_INIT = (
    INIT.held(
        "contract.init.reuse",
        "With reuse the newest live cluster of the name comes back if its settings are equal.",
        REUSED,
        REFUSED,
    ),
    INIT.held(
        "contract.init.seed",
        "One seed decides every random choice, and is drawn and told when it is not given.",
        BUILD / "a_seed_that_was_not_given_is_drawn_and_told",
        SEEDS / "one_seed_gives_the_same_weights_in_every_round",
        SEEDS / "another_seed_gives_other_weights",
        WEIGHTS / "the_same_seed_gives_the_same_bytes_and_another_one_does_not",
    ),
    INIT.held(
        "contract.init.restore",
        "restore brings a terminated cluster back under its id, with its nodes, links, model and answers.",
        RESTORING / "a_restored_cluster_gives_the_answers_that_it_gave_to_the_bit",
        RESTORING / "a_restored_cluster_goes_on_and_its_ledger_says_that_it_was_restored",
        RESTORING / "what_cannot_be_restored_is_refused_with_what_to_do",
        RESTORING / "where_voters_decide_a_damaged_file_is_named_and_nothing_comes_back",
        RESTORING / "a_damaged_newest_file_is_named_and_the_newest_whole_version_comes_back",
    ),
    INIT.held(
        "contract.init.rule.defaults",
        "Only the name is needed; the rest is mesh, transformer, proof of learning, and both wishes on.",
        BUILD / "only_a_name_is_needed_and_the_rest_has_its_documented_default",
    ),
    INIT.held(
        "contract.init.rule.name-bounds",
        "A name is trimmed and has 1 to 64 characters.",
        ARGS / "an_argument_is_understood_in_every_spelling_and_form_that_hosts_use",
        ARGS / "a_wrong_value_is_shown_with_what_would_be_right",
    ),
    INIT.held(
        "contract.init.rule.twins",
        "A second live cluster of a name is made, with a warning that names the first.",
        BUILD / "a_second_cluster_of_a_name_is_made_and_the_first_one_is_told_of",
    ),
    INIT.held(
        "contract.init.rule.limit",
        "No more clusters live at once than the server allows.",
        LIFE / "concurrent_creations_respect_the_limit_of_clusters",
    ),
    INIT.held(
        "contract.init.reply.created",
        "created is false when an existing cluster was reused or restored.",
        REUSED,
        MADE,
    ),
    INIT.held(
        "contract.init.reply.status",
        "status is initialized, or ready for a reused cluster.",
        REUSED,
        MADE,
    ),
    INIT.held(
        "contract.init.reply.wasm_enabled", "wasm_enabled is false while no node runs WASM.", MADE
    ),
    INIT.held(
        "contract.init.reply.guarantees",
        "guarantees says what holds for how many nodes, and holds is false without any.",
        MADE,
        GUARANTEES / "the_fields_are_those_of_the_report",
    ),
    INIT.held("contract.init.reply.isolation", "isolation is the level that nodes will get.", MADE),
    INIT.held(
        "contract.init.reply.max_nodes",
        "max_nodes is the limit of the cluster, 32 by default.",
        MADE,
        BUILD / "only_a_name_is_needed_and_the_rest_has_its_documented_default",
    ),
    INIT.held("contract.init.reply.created_at", "created_at is when the cluster was made.", MADE),
)

OF_DEPLOY = (
    DEPLOY_.held(
        "contract.deploy.replace_node_id",
        "replace_node_id puts a new node into a failed slot, and is refused for a healthy one.",
        DEPLOY / "a_failed_node_is_replaced_by_its_id",
        DEPLOY / "impossible_requests_start_nothing",
    ),
    DEPLOY_.held(
        "contract.deploy.force",
        "force lets replace_node_id replace a healthy node, and is refused without it.",
        DEPLOY / "a_healthy_node_is_replaced_only_when_that_is_forced_and_the_former_is_told",
    ),
    DEPLOY_.held(
        "contract.deploy.count",
        "count deploys so many equal new nodes, all or none.",
        SEVERAL / "a_count_deploys_so_many_equal_nodes_and_names_them_all",
        SEVERAL / "where_one_does_not_come_up_none_is_left",
        SEVERAL / "more_than_fit_are_refused_before_one_is_started",
    ),
    DEPLOY_.held(
        "contract.deploy.replace",
        "replace false always opens a further slot.",
        DEPLOY / "another_kind_or_wish_opens_a_new_slot",
    ),
    DEPLOY_.held(
        "contract.deploy.rule.defaults",
        "Without wishes a node is a base worker with the default tags, autonomy 0.8 and its template.",
        BUILD / "a_node_without_wishes_has_the_documented_defaults",
    ),
    DEPLOY_.held(
        "contract.deploy.rule.role-conflict",
        "Where role and node_type differ, role wins and one warning says so.",
        DEPLOY / "role_wins_over_node_type_and_both_over_the_default",
    ),
    DEPLOY_.held(
        "contract.deploy.rule.tags",
        "Tags have a form and a limit, and one that changes nothing is named in a warning.",
        ARGS / "a_wrong_value_is_shown_with_what_would_be_right",
        DEPLOY / "a_capability_that_changes_nothing_is_named",
    ),
    DEPLOY_.held(
        "contract.deploy.rule.network-order",
        "A network is the given one, else the former one of the slot, else a peer's, else the default.",
        DEPLOY / "the_network_is_given_else_of_a_peer_else_the_default",
        RECOVERED,
    ),
    DEPLOY_.held(
        "contract.deploy.rule.peer-serves",
        "A further worker of a trained kind gets its peers' network and weights, and serves.",
        RECOVER / "the_same_call_without_a_failed_node_opens_a_further_slot_that_serves",
        LIFE / "a_worker_that_comes_while_the_last_version_is_installed_serves_it",
    ),
    DEPLOY_.held(
        "contract.deploy.rule.recovery",
        "Without layers a failed slot of the same kind is filled, synced before it is called healthy.",
        DEPLOY / "a_deploy_without_layers_replaces_a_failed_slot_of_its_kind",
        DEPLOY / "a_node_that_cannot_be_synchronised_is_never_healthy",
        RECOVERED,
        KILL / "a_worker_killed_in_training_is_missed_named_and_replaceable",
    ),
    DEPLOY_.held(
        "contract.deploy.rule.joined-restart",
        "A restart under way is joined, and the same call within ten seconds gets the same node.",
        DEPLOY / "concurrent_recoveries_of_one_node_start_one",
        DEPLOY / "concurrent_recoveries_replace_every_failed_node_before_they_join_one",
        DEPLOY / "a_monitor_that_repeats_itself_gets_the_same_node_for_ten_seconds",
    ),
    DEPLOY_.held(
        "contract.deploy.rule.nothing-left",
        "A deploy that fails or is cancelled leaves no slot and no process.",
        DEPLOY / "a_start_that_fails_leaves_no_slot_and_no_process",
        DEPLOY / "a_cancelled_deploy_is_finished_or_leaves_nothing",
        DEPLOY / "a_deploy_that_meets_the_end_of_its_cluster_says_so",
    ),
    DEPLOY_.held(
        "contract.deploy.rule.limit",
        "No more nodes than the limit are deployed, however many calls come at once.",
        DEPLOY / "concurrent_deploys_respect_the_limit",
        DEPLOY / "a_full_cluster_points_to_its_failed_nodes",
    ),
    DEPLOY_.held(
        "contract.deploy.rule.joins-next-round",
        "A worker deployed during a training takes part from the next round on.",
        LIFE / "a_worker_deployed_during_a_training_joins_the_next_round",
    ),
    DEPLOY_.held(
        "contract.deploy.reply.slot",
        "slot is the name that survives replacements.",
        TOLD,
        RECOVERED,
    ),
    DEPLOY_.held("contract.deploy.reply.status", "status is deployed, or the call fails.", TOLD),
    DEPLOY_.held(
        "contract.deploy.reply.healthy",
        "healthy is true, since a node that is not fails the call.",
        TOLD,
        DEPLOY / "a_node_that_cannot_be_synchronised_is_never_healthy",
    ),
    DEPLOY_.held("contract.deploy.reply.runtime", "runtime is what the node really runs on.", TOLD),
    DEPLOY_.held(
        "contract.deploy.reply.layers", "layers are canonical with every default filled in.", TOLD
    ),
    DEPLOY_.held(
        "contract.deploy.reply.layers_source",
        "layers_source says where the network came from.",
        DEPLOY / "the_network_is_given_else_of_a_peer_else_the_default",
        RECOVERED,
    ),
    DEPLOY_.held(
        "contract.deploy.reply.parameters",
        "parameters is null until the input is known, then the trainable count.",
        TOLD,
        BUILD / "parameters_and_head_are_known_once_the_data_is",
    ),
    DEPLOY_.held(
        "contract.deploy.reply.implied_head",
        "implied_head is null until the task is known.",
        TOLD,
        BUILD / "parameters_and_head_are_known_once_the_data_is",
    ),
    DEPLOY_.held(
        "contract.deploy.reply.incarnation",
        "incarnation counts the nodes of a slot from 1.",
        TOLD,
        RECOVERED,
    ),
    DEPLOY_.held(
        "contract.deploy.reply.replaces",
        "replaces is the id of the former node of the slot.",
        RECOVERED,
    ),
    DEPLOY_.held(
        "contract.deploy.reply.synced_version",
        "synced_version is the version whose weights the new node holds.",
        RECOVERED,
        KILL / "a_worker_killed_in_training_is_missed_named_and_replaceable",
    ),
    DEPLOY_.held(
        "contract.deploy.reply.sync_ms",
        "sync_ms is the measured duration of the sync.",
        RECOVERED,
        TOLD,
    ),
    DEPLOY_.held(
        "contract.deploy.reply.deduplicated",
        "deduplicated is true when the call joined an earlier one.",
        DEPLOY / "a_monitor_that_repeats_itself_gets_the_same_node_for_ten_seconds",
    ),
    DEPLOY_.held(
        "contract.deploy.reply.isolation",
        "isolation is what was measured of the running node.",
        TOLD,
        CONFINED / "eleven_nodes_are_strict_by_the_kernels_own_word",
    ),
    DEPLOY_.held(
        "contract.deploy.rule.default-of-the-role",
        "Roles other than worker have default networks of their own.",
        DEFAULTS / "default_parameter_servers_have_their_documented_sizes",
        DEFAULTS / "the_aggregator_normalises_over_the_batch",
        DEFAULTS / "the_validator_gives_one_probability",
    ),
)

OF_CONNECT = (
    CONNECT.held(
        "contract.connect.wait_seconds",
        "wait_seconds bounds the wait for the end of a running round; 0 and wait false queue the change.",
        AT_THE_BOUNDARY,
        QUEUED,
        ARGS / "an_argument_is_understood_in_every_spelling_and_form_that_hosts_use",
    ),
    CONNECT.held(
        "contract.connect.rule.declared",
        "Without a topology the declared one is planned.",
        SWITCHED,
    ),
    CONNECT.held(
        "contract.connect.rule.members",
        "The graph holds healthy nodes only, and the next connect closes the gap of a dead one.",
        LINKS / "a_dead_node_has_no_edges_and_the_next_connect_closes_the_ring",
        LINKS / "a_replacement_has_the_edges_of_its_slot_when_it_is_deployed",
    ),
    CONNECT.held(
        "contract.connect.rule.a-link-that-fails",
        "An edge that does not work is told in a warning and not counted.",
        LINKS / "an_edge_that_does_not_work_is_told_and_not_drawn",
    ),
    CONNECT.held(
        "contract.connect.reply.previous_topology",
        "previous_topology is null at the first connect.",
        PLANNED,
        SWITCHED,
    ),
    CONNECT.held(
        "contract.connect.reply.declared_topology",
        "declared_topology stays what init said.",
        SWITCHED,
    ),
    CONNECT.held(
        "contract.connect.reply.status",
        "status is connected, or pending when it was queued.",
        QUEUED,
        PLANNED,
    ),
    CONNECT.held(
        "contract.connect.reply.pending",
        "pending is true for a change that will be applied later.",
        QUEUED,
    ),
    CONNECT.held(
        "contract.connect.reply.changed",
        "changed is false for the same topology and members, and never for a star.",
        SWITCHED,
        LIFE / "star_aggregates_each_time_and_the_others_once",
    ),
    CONNECT.held(
        "contract.connect.reply.applied",
        "applied says whether the change was made now or at the next round.",
        AT_THE_BOUNDARY,
        PLANNED,
    ),
    CONNECT.held(
        "contract.connect.reply.topology_epoch", "topology_epoch counts the changes.", SWITCHED
    ),
    CONNECT.held(
        "contract.connect.reply.connections",
        "connections is the number of undirected edges.",
        PLANNED,
    ),
    CONNECT.held(
        "contract.connect.reply.edges",
        "edges lists both ends and the measured latency, up to 16 nodes.",
        PLANNED,
        LINKS / "connect_measures_every_edge",
        LINKS / "a_mesh_of_thirty_two_works",
        LINKS / "a_time_that_cannot_be_true_is_no_latency",
        RESULTS / "an_edge_names_its_ends_from_and_to",
    ),
    CONNECT.held(
        "contract.connect.reply.nodes_connected",
        "nodes_connected counts the healthy nodes.",
        PLANNED,
    ),
    CONNECT.held(
        "contract.connect.reply.connected",
        "connected says whether the graph hangs together.",
        PLANNED,
        LINKS / "an_edge_that_does_not_work_is_told_and_not_drawn",
    ),
    CONNECT.held(
        "contract.connect.reply.diameter",
        "diameter is the longest of the shortest ways.",
        PLANNED,
        LINKS / "an_edge_that_does_not_work_is_told_and_not_drawn",
    ),
    CONNECT.held(
        "contract.connect.reply.spectral_gap",
        "spectral_gap tells how fast the graph averages.",
        TOPOLOGY / "spectral_gaps_equal_their_formulas",
        PLANNED,
    ),
    CONNECT.held(
        "contract.connect.reply.rebalanced",
        "rebalanced counts the shards that moved, and is 0 where none did.",
        SWITCHED,
        REBALANCING / "connecting_during_a_training_gives_the_rows_of_a_dead_worker_to_living_ones",
    ),
    CONNECT.held(
        "contract.connect.reply.advice",
        "advice names costs and better topologies for the size.",
        BUILD / "a_connect_of_a_costly_topology_advises_another_one",
        TOPOLOGY / "a_ring_is_told_to_be_long_and_to_spare_its_busiest_node",
    ),
    CONNECT.held(
        "contract.connect.rule.states-of-a-slot",
        "A slot passes only through the documented states, and counts follow them.",
        MEMBERSHIP / "every_state_has_its_row_and_only_known_successors",
        MEMBERSHIP / "counts_separate_healthy_failed_and_neither",
    ),
)

PROMISES = (*OF_INIT, *OF_DEPLOY, *OF_CONNECT)
