"""Data sets, splits, the built-in data, and records to predict for."""

from tests.manifest.files import (
    ADAPTER,
    ANSWER,
    ANY_RECORD,
    BAD_CONTENT,
    CSV_FILE,
    DATA_FILE,
    FLAGS,
    HANGING_READS,
    HOSTILE_FILES,
    INLINE,
    JSON_LINES_FILE,
    LOCAL,
    NPY_FILE,
    NPZ_FILE,
    OPENING,
    PARQUET_FILE,
    PART_SIZES,
    PARTITION,
    PREPARATION,
    PREPARE,
    RESOLVE,
    SPLITS,
    SYNTHETIC,
    TRAINER,
    USE,
    WEIGHTS,
)
from tests.manifest.promise import Section

FROM = Section("contract: section 4.1")
FORMS = Section("contract: section 4.2")
FILES = Section("contract: section 4.3")
SPLIT = Section("contract: section 4.4")
CAPS = Section("contract: section 4.5")
BUILT_IN = Section("contract: section 4.6")
RECORDS = Section("contract: section 5")

WHERE = (
    FROM.held(
        "contract.data.inline-first",
        "Objects, lists and text that begins like JSON are inline data.",
        INLINE / "json_text_and_values_give_the_same_table",
        ANY_RECORD / "any_inline_value_gives_data_or_an_error_of_the_tree",
    ),
    FROM.held(
        "contract.data.own-file-wins",
        "A file of the user's wins over the generator of its name, and the label synthetic goes.",
        RESOLVE / "the_users_file_wins_over_the_generator_of_the_same_name",
        PREPARE / "the_users_market_file_gets_lags_and_loses_the_label_synthetic",
    ),
    FROM.held(
        "contract.data.paths",
        "Absolute paths, file URLs, relative paths and bare stems name files of the data directories.",
        RESOLVE / "file_urls_absolute_paths_and_bare_stems_name_the_same_file",
        RESOLVE / "a_relative_path_is_found_in_each_root_in_order",
        FLAGS / "the_directory_of_the_start_is_a_data_root",
    ),
    FROM.held(
        "contract.data.globs",
        "A glob joins files of equal columns in the order of their names.",
        RESOLVE / "a_glob_joins_files_of_equal_columns_in_name_order",
    ),
    FROM.held(
        "contract.data.never-random",
        "A name that is nothing is an error, never random data.",
        ANY_RECORD / "any_name_that_is_not_built_in_gives_an_error_of_the_tree",
        RESOLVE / "a_name_that_cannot_be_a_file_is_not_found",
    ),
    FROM.held(
        "contract.data.options",
        "Options behind a name are arguments, and contradicting ones are refused.",
        PREPARE / "options_behind_the_name_are_arguments",
    ),
    FORMS.held(
        "contract.data.inline-forms",
        "Inputs with labels, records, columns with rows and clients are understood.",
        INLINE / "inputs_and_labels_are_found_under_their_usual_names",
        INLINE / "records_columns_with_rows_and_column_lists_give_the_same_table",
        INLINE / "inline_clients_keep_their_rows_together",
        INLINE / "three_dimensions_are_sequences",
    ),
    FORMS.held(
        "contract.data.inline-defects",
        "An inline form that cannot work is refused with its defect.",
        INLINE / "a_form_that_cannot_work_is_refused_with_its_defect",
    ),
    FILES.held(
        "contract.data.readers",
        "CSV, TSV, JSON, JSON Lines, NPY, NPZ and Parquet are read, text also gzipped.",
        CSV_FILE / "a_csv_of_numbers_is_read_exactly",
        CSV_FILE / "tab_separated_text_is_read_plain_and_packed",
        JSON_LINES_FILE / "json_lines_with_lists_and_absent_keys_become_columns",
        NPZ_FILE / "an_npz_gives_names_symbol_and_label",
        NPY_FILE / "a_plain_npy_has_its_target_last",
        PARQUET_FILE / "parquet_is_read_with_lists_texts_and_missing_values",
    ),
    FILES.held(
        "contract.data.no-pickle",
        "Pickled objects are never loaded.",
        NPZ_FILE / "pickled_objects_are_never_loaded",
    ),
    FILES.held(
        "contract.data.columns",
        "Columns become target, time, symbol, vector or features, and the others are listed with the reason.",
        PREPARE / "columns_that_are_no_features_are_listed_with_the_reason",
        PREPARE / "categories_become_one_input_per_training_level_and_missing_values_the_mean",
        PREPARE / "steps_in_columns_become_a_vector_and_many_groups_do_not",
    ),
    FILES.held(
        "contract.data.default-target",
        "Without a target, prices with a time are predicted to rise or not.",
        PREPARE / "the_users_market_file_gets_lags_and_loses_the_label_synthetic",
        PREPARE / "the_description_is_what_the_engine_reports",
    ),
    FILES.held(
        "contract.data.task",
        "The task is told from the labels.",
        PREPARE / "tasks_are_told_from_the_labels",
        PREPARE / "labels_that_cannot_be_learnt_are_refused",
    ),
    FILES.held(
        "contract.data.directories",
        "A directory holds one file per client, or train and test.",
        RESOLVE / "one_file_per_client_makes_clients_in_name_order",
        RESOLVE / "train_and_test_directories_mark_the_test_rows_of_each_client",
        PARTITION / "fewer_clients_than_workers_are_refused_with_both_counts",
    ),
)

LEAKS = (
    SPLIT.held(
        "contract.splits.documented",
        "Two thousand hours of two symbols split into the documented parts.",
        SPLITS / "two_symbols_of_two_thousand_rows_split_as_documented",
        PREPARE / "the_description_is_what_the_engine_reports",
    ),
    SPLIT.held(
        "contract.splits.purpose",
        "No row is kept for a purpose that does not exist, and the test rows are the same either way.",
        PART_SIZES / "no_row_is_kept_for_a_purpose_that_does_not_exist",
        PREPARATION
        / "rows_for_ensemble_weights_are_kept_where_two_networks_are_trained_and_only_there",
        PREPARATION / "rows_for_roles_are_kept_where_there_is_such_a_node_and_only_there",
    ),
    SPLIT.held(
        "contract.splits.time",
        "Parts follow each other in time, and rows before a cut are dropped so that no label leaks.",
        SPLITS / "parts_follow_each_other_in_time_even_when_rows_come_shuffled",
        SPLITS / "no_label_of_a_part_reaches_into_a_later_part",
        SPLITS / "rows_of_one_moment_are_never_divided",
    ),
    SPLIT.held(
        "contract.splits.stratified",
        "Without a time rows are drawn by the seed, stratified by class.",
        SPLITS / "every_part_keeps_the_shares_of_the_classes",
        SPLITS / "the_draw_follows_the_seed_and_loses_no_row",
    ),
    SPLIT.held(
        "contract.splits.small",
        "Fewer than 2,000 rows train, select and test only, and say so; fewer than 30 are too few.",
        SPLITS / "fewer_than_two_thousand_rows_train_select_and_test_only_and_say_so",
        SPLITS / "fewer_than_thirty_rows_are_too_few",
    ),
    SPLIT.not_built(
        "contract.splits.out-of-fold",
        "Between 200 and 1,999 rows the middle parts are made by out-of-fold predictions.",
        "Without `meta` all nodes weigh the same, and without `calib` nothing is calibrated",
        SPLITS / "fewer_than_two_thousand_rows_train_select_and_test_only_and_say_so",
    ),
    SPLIT.held(
        "contract.splits.windows",
        "Windows stay inside a part and a symbol.",
        PREPARE / "windows_stay_inside_a_part_and_a_symbol",
    ),
    SPLIT.held(
        "contract.splits.fitted-on-train",
        "Scalers, levels and imputed values come from training rows only.",
        PREPARE / "the_statistics_come_from_training_rows_only",
        PREPARE / "prices_are_scaled_by_symbol_so_that_symbols_are_comparable",
    ),
    SPLIT.held(
        "contract.splits.leaks",
        "Outcome-like names and copies of the target are left out and listed.",
        PREPARE / "columns_that_are_no_features_are_listed_with_the_reason",
        PREPARE / "a_copy_of_the_target_is_left_out_unless_it_is_asked_for",
        PREPARE / "a_category_that_gives_one_class_away_is_left_out",
    ),
    SPLIT.held(
        "contract.splits.shuffled-labels",
        "Shuffled labels leave a learner at chance.",
        SYNTHETIC / "shuffled_labels_leave_a_learner_at_chance",
        LOCAL / "labels_without_meaning_are_not_learnt",
    ),
    CAPS.held(
        "contract.caps.excess",
        "Excess of rows, columns, bytes or cells is an error, never a silent cut.",
        INLINE / "inline_data_beyond_the_limit_are_refused_as_text_and_as_values",
        CSV_FILE / "reading_stops_at_the_row_limit",
        CSV_FILE / "a_packed_file_that_unpacks_too_far_is_refused",
        PREPARE / "very_wide_data_are_prepared_and_wider_ones_refused",
        PREPARE / "windows_that_would_not_fit_memory_are_refused",
        BAD_CONTENT / "wrong_content_gets_one_worded_error_each_and_nothing_is_half_done",
    ),
    CAPS.held(
        "contract.caps.million-rows",
        "A million rows of twenty columns are prepared in two gigabytes.",
        PREPARE / "a_million_rows_of_twenty_columns_fit_two_gigabytes",
    ),
    CAPS.held(
        "contract.caps.links",
        "Links are followed only inside the data directories.",
        RESOLVE / "a_link_that_leads_out_of_the_roots_is_refused",
        RESOLVE / "a_link_that_stays_inside_the_roots_is_followed",
        OPENING / "a_link_swapped_in_after_the_check_is_not_followed",
        OPENING / "a_pipe_in_the_place_of_a_file_is_refused_and_never_waited_for",
    ),
    CAPS.held(
        "contract.caps.memory",
        "Whatever a file claims, reading it takes at most 512 MiB, and nothing of a refused one is kept.",
        HOSTILE_FILES / "a_hostile_file_is_refused_in_bounded_memory_and_nothing_is_kept",
    ),
    CAPS.held(
        "contract.caps.changing-files",
        "A file that changes while it is read is refused; the digest is that of the bytes parsed.",
        DATA_FILE / "a_file_that_changes_while_it_is_read_is_refused",
        DATA_FILE / "the_digest_is_that_of_the_bytes_read",
    ),
    CAPS.held(
        "contract.caps.hanging-reads",
        "A read that hangs is given up, and holds neither other calls nor the end of the server.",
        HANGING_READS / "a_read_that_hangs_is_given_up_with_an_error_that_says_so",
        HANGING_READS / "other_calls_go_on_while_reads_hang",
        HANGING_READS / "the_end_of_input_ends_a_server_whose_threads_hang",
    ),
    BUILT_IN.held(
        "contract.builtin.market",
        "The built-in market is the documented process, the same for a seed.",
        SYNTHETIC / "columns_of_the_market_agree_with_each_other",
        SYNTHETIC / "a_seed_gives_the_same_market_and_another_seed_another",
        SYNTHETIC / "the_best_possible_prediction_of_the_regime_model_is_where_it_is_documented",
    ),
    BUILT_IN.held(
        "contract.builtin.toys",
        "XOR defeats a straight line and the linear data do not.",
        SYNTHETIC / "xor_defeats_a_line_and_linear_does_not",
    ),
    BUILT_IN.held(
        "contract.builtin.scikit-learn",
        "Data sets of scikit-learn are built in where it is installed.",
        PREPARE / "a_schema_survives_json",
    ),
)

SHAPES = USE / "each_record_of_the_document_is_predicted_for_as_json_text"
OF_RECORDS = (
    RECORDS.held(
        "contract.records.forms",
        "A record is an object or a list of numbers, a batch a list of them, and a window one sequence.",
        ADAPTER / "positional_records_are_read_in_stored_order",
        ADAPTER / "a_window_is_one_record_and_short_ones_are_padded_on_the_left",
        ANY_RECORD / "a_record_reads_the_same_alone_in_a_batch_and_as_text",
    ),
    RECORDS.held(
        "contract.records.refused",
        "NaN, wrong widths, too many records and too much text are refused.",
        ADAPTER / "input_that_cannot_be_read_is_refused_with_its_defect",
        ANY_RECORD / "any_json_gives_finite_input_or_one_of_two_errors",
    ),
    RECORDS.held(
        "contract.records.names",
        "Names match in any case and under their aliases.",
        ADAPTER / "names_are_found_in_any_case_and_under_their_aliases",
    ),
    RECORDS.held(
        "contract.records.vectors",
        "A shorter vector fills the most recent steps, and of a longer one the most recent are used.",
        ADAPTER / "calibration_data_fill_the_most_recent_steps",
        ADAPTER / "a_longer_vector_keeps_its_most_recent_values",
        ANY_RECORD / "a_shorter_vector_fills_the_most_recent_steps_and_only_them",
    ),
    RECORDS.held(
        "contract.records.ignored",
        "Times, outcomes and unknown names are ignored and listed.",
        ADAPTER / "a_live_record_is_mapped_aligned_and_reported",
        ADAPTER / "test_data_with_a_made_up_trend_are_read_without_it",
        SHAPES,
    ),
    RECORDS.held(
        "contract.records.symbols",
        "A symbol picks its scaling; an unknown one is scaled by all together, with a warning.",
        ADAPTER / "an_unknown_symbol_is_scaled_by_all_symbols_together",
    ),
    RECORDS.held(
        "contract.records.missing",
        "What is missing becomes the mean, and training has seen rows with hidden inputs.",
        ADAPTER / "null_is_missing_and_becomes_the_mean",
        WEIGHTS / "feature_dropout_removes_whole_features_of_single_rows_unscaled",
        TRAINER / "dropout_and_feature_dropout_change_with_their_seed_and_with_nothing_else",
    ),
    RECORDS.held(
        "contract.records.coverage",
        "Coverage is the share of inputs that were given, and lowers the confidence.",
        ANY_RECORD / "coverage_counts_the_inputs_that_were_given",
        ANSWER / "inputs_that_were_not_given_lower_confidence_and_nothing_else",
    ),
    RECORDS.held(
        "contract.records.far-away",
        "Values far from the training rows are clipped, counted, named, and lower the confidence.",
        ADAPTER / "values_far_away_are_clipped_counted_and_named",
        ANSWER
        / "inputs_unlike_the_training_rows_draw_confidence_towards_chance_though_all_were_given",
    ),
    RECORDS.held(
        "contract.records.example",
        "The example in a refusal can be predicted for.",
        ADAPTER / "the_record_that_a_refusal_shows_can_be_predicted_for",
    ),
    RECORDS.held(
        "contract.records.the-documents-shapes",
        "All three shapes of records in the user's document are predicted for.",
        SHAPES,
    ),
)

PROMISES = (*WHERE, *LEAKS, *OF_RECORDS)
