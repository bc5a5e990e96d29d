"""The MCP layer: schemas, hints, eras, resources, transports, lifetime, settings."""

from tests.manifest.files import (
    ARGS,
    BAD_CALLS,
    CLIENTS,
    CODE,
    COMMANDS,
    COMMITTED,
    CONFIGS,
    FAILURES,
    FLAGS,
    HOST,
    HTTP,
    LIFETIME,
    PROGRESS,
    REAL,
    RESOURCES,
    RESULTS,
    STDIO,
    SUITE,
    TOOLS,
    WAITING,
)
from tests.manifest.promise import Section

STRICT = Section("contract: section 3.1")
LISTED = Section("contract: section 3.2")
ERAS = Section("contract: section 3.3")
MORE = Section("contract: section 3.4")
LIFE = Section("contract: section 3.5")
CHECKS = Section("contract: section 8")

PROMISES = (
    STRICT.held(
        "contract.schemas.closed",
        "Input schemas list the published arguments and allow no other.",
        TOOLS / "nothing_but_the_published_arguments_is_published",
        BAD_CALLS / "an_unknown_argument_is_never_dropped_in_silence",
    ),
    STRICT.held(
        "contract.schemas.output",
        "Every tool has an output schema, and every result fits it.",
        RESULTS / "a_result_fits_its_published_schema",
        RESULTS
        / "a_result_has_exactly_the_fields_of_the_contract_and_the_schema_requires_them_all",
        REAL / "a_trained_cluster_shows_evidence_and_beats_the_baseline",
    ),
    STRICT.held(
        "contract.schemas.portable",
        "Schemas use nothing that strict clients refuse.",
        TOOLS / "no_published_array_leaves_its_items_undescribed",
        TOOLS / "no_published_schema_gives_one_value_a_list_of_types",
        CLIENTS / "the_inspector_finds_nothing_in_the_tools_even_strictly",
    ),
    STRICT.held(
        "contract.schemas.one-text",
        "A result is sent as structure and once as the same compact text.",
        RESULTS / "a_result_is_sent_as_structure_and_once_as_the_same_compact_text",
    ),
    STRICT.held(
        "contract.schemas.words-of-ours",
        "Wrong arguments are answered in words of this project, with the long value cut.",
        ARGS / "a_wrong_value_is_shown_with_what_would_be_right",
        ARGS / "a_long_value_is_cut_in_the_text",
        ARGS / "a_missing_argument_is_named",
    ),
    LISTED.held(
        "contract.listing.hints",
        "Hints say which tools read, destroy, may be repeated, and that none reaches outside.",
        TOOLS / "the_hints_for_hosts_are_right",
    ),
    LISTED.held(
        "contract.listing.described",
        "Every tool and every argument is described.",
        TOOLS / "every_tool_and_every_argument_is_described",
        TOOLS / "every_description_describes_something_that_exists",
    ),
    LISTED.held(
        "contract.listing.budgets",
        "The list, the instructions and the results keep their byte budgets.",
        TOOLS / "the_list_keeps_its_byte_budgets",
        TOOLS / "a_result_of_eleven_nodes_keeps_its_byte_budget",
    ),
    LISTED.held(
        "contract.listing.names",
        "No full tool name is longer than clients accept.",
        TOOLS / "no_full_name_is_longer_than_clients_accept",
    ),
    LISTED.held(
        "contract.listing.instructions",
        "The instructions name every tool in the order of use.",
        TOOLS / "the_instructions_name_every_tool_in_order",
    ),
    LISTED.held(
        "contract.listing.unknown-tool",
        "An unknown tool is answered with the nearest one.",
        TOOLS / "an_unknown_tool_is_answered_with_the_nearest_one",
    ),
    ERAS.held(
        "contract.eras.both",
        "One process serves clients of the handshake era and of 2026.",
        STDIO / "every_line_of_standard_output_is_protocol_whatever_is_printed",
        REAL / "a_trained_cluster_shows_evidence_and_beats_the_baseline",
        TOOLS / "the_list_is_the_committed_one_in_both_eras",
    ),
    ERAS.held(
        "contract.eras.stdout",
        "Nothing but protocol reaches standard output.",
        STDIO / "every_line_of_standard_output_is_protocol_whatever_is_printed",
    ),
    ERAS.held(
        "contract.eras.25-seconds",
        "No call waits longer than 25 seconds.",
        ARGS / "a_wrong_value_is_shown_with_what_would_be_right",
        WAITING / "a_wait_that_runs_out_says_so_and_whether_anything_happened",
    ),
    ERAS.held(
        "contract.eras.progress",
        "Waits report increasing progress with a message, at most four times a second.",
        PROGRESS / "a_wait_reports_progress_with_a_message",
        PROGRESS / "reports_within_a_quarter_of_a_second_are_dropped",
        REAL / "a_client_that_asks_for_progress_hears_of_rounds",
        WAITING / "a_waiter_is_told_the_rounds_their_loss_and_the_time_left_once_a_round_was_timed",
    ),
    ERAS.held(
        "contract.eras.concurrent",
        "A call is answered while another waits, and a cancelled wait frees at once.",
        FAILURES / "a_call_is_answered_while_another_one_waits",
        FAILURES / "a_cancelled_wait_frees_at_once_and_the_next_call_is_answered",
    ),
    MORE.held(
        "contract.resources.clusters",
        "The clusters, one cluster and its whole curve are resources.",
        RESOURCES / "the_list_of_clusters_is_a_resource",
        RESOURCES / "a_cluster_is_a_resource_with_the_full_status",
        RESOURCES / "the_whole_curve_is_a_resource",
        RESOURCES / "the_templates_are_listed_with_descriptions",
    ),
    MORE.held(
        "contract.resources.unknown",
        "An unknown cluster is an unknown resource, and another failure is not passed off as one.",
        RESOURCES / "an_unknown_cluster_is_an_unknown_resource",
        RESOURCES / "another_failure_is_not_passed_off_as_an_unknown_resource",
    ),
    MORE.held(
        "contract.resources.updates",
        "Subscribers of both eras hear of changes, many at once as one.",
        RESOURCES / "a_listener_of_the_2026_protocol_hears_of_a_change",
        RESOURCES
        / "a_subscriber_of_the_handshake_protocol_hears_of_a_change_until_it_unsubscribes",
        RESOURCES / "many_changes_at_once_are_one_update_per_resource",
    ),
    MORE.held(
        "contract.completions.cluster-id",
        "A cluster id is completed by id and by name.",
        RESOURCES / "a_cluster_id_is_completed_by_id_and_by_name",
    ),
    MORE.held(
        "contract.prompts.plan-cluster",
        "A prompt plans a cluster for a goal and data.",
        RESOURCES / "the_prompt_carries_the_goal_and_the_data",
        RESOURCES / "a_wrong_prompt_is_the_callers_mistake",
    ),
    LIFE.held(
        "contract.lifetime.end-of-input",
        "The end of input ends the server and its nodes, also during a waiting call.",
        LIFETIME / "end_of_input_ends_the_server_and_its_children",
        LIFETIME / "end_of_input_during_a_waiting_call_ends_the_server_and_its_children",
    ),
    LIFE.held(
        "contract.lifetime.signals",
        "SIGTERM, SIGHUP and SIGINT end the server and its nodes.",
        LIFETIME / "a_signal_ends_the_server_and_its_children",
    ),
    LIFE.held(
        "contract.lifetime.client-death",
        "The death of the client ends the server, even if its pipe stays open elsewhere.",
        LIFETIME / "the_death_of_the_client_ends_the_server_and_its_children",
    ),
    LIFE.held(
        "contract.lifetime.server-death",
        "Nodes do not outlive a killed server, and the next one recovers.",
        LIFETIME / "nodes_do_not_outlive_a_server_that_is_killed_and_the_next_one_starts",
    ),
    LIFE.held(
        "contract.start.light",
        "Listing the tools loads neither torch nor numpy nor the engine.",
        TOOLS / "listing_the_tools_loads_neither_torch_nor_numpy_nor_the_engine",
        CODE / "listing_tools_needs_neither_torch_nor_numpy",
        HOST / "no_engine_is_opened_until_somebody_asks",
    ),
    LIFE.held(
        "contract.start.initialize",
        "Initialize was answered within a second and a half, as measured.",
        COMMITTED / "of_the_committed_starts_initialize_was_answered_within_a_second_and_a_half",
    ),
    LIFE.held(
        "contract.settings.flags",
        "Every setting but secrets has a flag and a variable, and the flag wins.",
        FLAGS / "every_setting_has_a_flag_except_secrets",
        FLAGS / "a_flag_wins_over_its_variable",
        FLAGS / "a_variable_that_names_no_setting_is_refused",
    ),
    LIFE.held(
        "contract.settings.read-only",
        "A read-only server offers status, predict and the list of clusters only.",
        RESULTS / "a_read_only_server_offers_only_what_reads",
    ),
    LIFE.held(
        "contract.http.guarded",
        "HTTP serves the loopback interface, checks host and origin, and asks for a token elsewhere.",
        HTTP / "only_the_loopback_interface_is_bound",
        HTTP / "a_request_from_a_web_page_is_refused",
        HTTP / "a_token_is_asked_of_every_request_once_there_is_one",
        HTTP / "an_address_that_would_open_the_tools_to_others_is_refused_at_start",
    ),
    CHECKS.held(
        "contract.clients.python-and-typescript",
        "Python and TypeScript clients of several versions live through a whole cluster.",
        CLIENTS / "a_python_client_lives_through_a_whole_cluster",
        CLIENTS / "a_typescript_client_lives_through_a_whole_cluster",
        CLIENTS / "a_typescript_client_does_the_same_over_http",
    ),
    CHECKS.held(
        "contract.clients.inspector",
        "The inspector reads every method and shows our error texts.",
        CLIENTS / "the_inspector_reads_every_method",
        CLIENTS / "the_inspector_shows_the_text_of_an_error_and_exits_with_5",
        CLIENTS / "the_inspector_meets_the_modern_era",
    ),
    CHECKS.held(
        "contract.clients.conformance",
        "The official conformance suite passes but for what needs fixtures.",
        SUITE / "everything_passes_with_the_fixtures_of_the_suite_mounted",
        SUITE / "the_product_itself_fails_only_what_needs_those_fixtures",
    ),
    CHECKS.held(
        "contract.clients.configurations",
        "The configurations that are printed for clients start the server.",
        CONFIGS / "a_json_snippet_starts_the_server",
        CONFIGS / "the_projects_own_configuration_starts_the_server",
    ),
    CHECKS.held(
        "contract.commands.stored-clusters",
        "Stored clusters can be listed, shown and removed from the command line.",
        COMMANDS
        / "stored_clusters_are_listed_shown_and_removed_but_not_removed_while_a_server_has_them",
        COMMANDS / "the_doctor_says_what_is_wrong",
    ),
)
