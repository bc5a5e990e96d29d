"""Layers, networks, heads, Keras parity and default networks."""

from tests.manifest.files import (
    ATTENTION,
    CONFINED,
    CONVOLUTION,
    DEFAULTS,
    HEADS,
    KERAS,
    LAYERS,
    LEARN,
    NORMALIZATION,
    OPTIMIZERS,
    PLANNER,
    RECURRENT,
    REGISTRIES,
    SIGNALS,
    TENSORS,
    TRAINER,
    VOCABULARY,
    WEIGHTS,
)
from tests.manifest.promise import Promise, Section

WORDS = Section("contract: section 6.1")
VIEWS = Section("contract: section 6.2")
PARITY = Section("contract: section 6.3")
BY_DEFAULT = Section("contract: section 6.4")

AS_IN_KERAS = KERAS / "each_layer_of_a_sequence_network_equals_keras"
ALL = (
    KERAS / "the_oracle_covers_the_whole_vocabulary",
    CONFINED / "every_layer_trains_and_predicts_inside_and_loads_no_module",
    REGISTRIES / "every_example_plans_builds_and_runs_in_every_way_it_may_be_used",
)
ALIASES = VOCABULARY / "every_alias_reads_as_its_canonical_type"
TYPES: dict[str, tuple[str, ...]] = {
    "dense": (
        "A dense layer multiplies the last axis and adds a bias.",
        LAYERS / "dense_multiplies_the_last_axis",
    ),
    "dropout": (
        "Dropout zeroes at its rate while training and scales what is left.",
        LAYERS / "dropout_zeroes_at_its_rate_and_scales_what_is_left",
    ),
    "spatial_dropout1d": (
        "Spatial dropout drops a channel for all steps of a row.",
        LAYERS / "spatial_dropout_drops_a_channel_for_all_steps_of_a_row",
    ),
    "gaussian_noise": (
        "Gaussian noise has the deviation it is given, while training only.",
        LAYERS / "gaussian_noise_has_the_deviation_it_is_given",
    ),
    "lstm": (
        "An LSTM has Keras' gates, one bias and an open forget gate.",
        RECURRENT / "a_recurrent_layer_follows_its_equations",
    ),
    "gru": (
        "A GRU resets after the product and has two biases.",
        RECURRENT / "a_recurrent_layer_follows_its_equations",
    ),
    "simple_rnn": (
        "A simple recurrent layer has one gate.",
        RECURRENT / "a_recurrent_layer_follows_its_equations",
    ),
    "bidirectional": (
        "A bidirectional layer joins both directions position by position.",
        RECURRENT / "bidirectional_joins_both_directions_position_by_position",
    ),
    "attention": (
        "Attention has heads of their own width and no residual.",
        ATTENTION / "attention_follows_the_textbook",
    ),
    "transformer_encoder": (
        "An encoder is pre-norm attention and feed-forward with residuals.",
        ATTENTION / "a_transformer_encoder_is_pre_norm_attention_and_feed_forward_with_residuals",
    ),
    "positional_encoding": (
        "Positions are added as sines and cosines.",
        ATTENTION / "positions_are_coded_by_sines_in_even_and_cosines_in_odd_columns",
    ),
    "conv1d": (
        "A convolution runs over time with Keras' padding.",
        CONVOLUTION / "conv1d_correlates_over_time",
    ),
    "graph_conv": (
        "A graph convolution mixes near steps by the normalised band graph.",
        CONVOLUTION / "the_band_graph_is_normalised_by_both_degrees",
        LEARN / "the_default_graph_network_knows_which_steps_are_neighbours",
    ),
    "max_pooling1d": (
        "Max pooling keeps the largest of each window.",
        CONVOLUTION / "pooling_reduces_windows_and_drops_an_incomplete_one",
    ),
    "average_pooling1d": (
        "Average pooling keeps the mean of each window.",
        CONVOLUTION / "pooling_reduces_windows_and_drops_an_incomplete_one",
    ),
    "global_average_pooling1d": (
        "Global average pooling keeps the mean over all steps.",
        CONVOLUTION / "global_pooling_reduces_all_steps",
    ),
    "global_max_pooling1d": (
        "Global max pooling keeps the largest over all steps.",
        CONVOLUTION / "global_pooling_reduces_all_steps",
    ),
    "flatten": (
        "Flatten joins steps and channels, steps first.",
        LAYERS / "flatten_joins_steps_and_channels_steps_first",
    ),
    "batch_normalization": (
        "Batch normalisation uses the batch while training and its statistics while serving.",
        NORMALIZATION / "training_normalises_by_the_batch_and_moves_the_biased_statistics",
        NORMALIZATION / "serving_normalises_by_the_running_statistics_and_leaves_them",
    ),
    "layer_normalization": (
        "Layer normalisation normalises every position on its own.",
        NORMALIZATION / "layer_norm_normalises_every_position_on_its_own",
    ),
    "activation": (
        "An activation layer applies one of sixteen functions.",
        LAYERS / "every_activation_of_the_vocabulary_follows_its_formula",
        KERAS / "each_activation_equals_keras",
    ),
    "leaky_relu": (
        "A leaky ReLU layer has the slope of the Keras layer.",
        VOCABULARY / "the_leaky_relu_layer_has_the_slope_of_the_keras_layer_not_of_the_activation",
        LAYERS / "leaky_relu_as_a_layer_has_the_slope_it_is_given",
    ),
}
SHORTHANDS = ("relu", "elu", "softmax")

OF_LAYERS: tuple[Promise, ...] = (
    *(
        WORDS.held(f"contract.layer.{name}", text, *tests, AS_IN_KERAS, *ALL)
        for name, (text, *tests) in TYPES.items()
    ),
    *(
        WORDS.held(
            f"contract.layer.{name}",
            f"Layer {name} is short for an activation layer with this function.",
            ALIASES,
            VOCABULARY / "the_shorthands_of_activations_keep_their_function",
            KERAS / "each_activation_equals_keras",
        )
        for name in SHORTHANDS
    ),
    WORDS.held(
        "contract.layer.input",
        "An input layer is ignored, with a warning when its shape is another.",
        PLANNER / "an_input_layer_is_ignored_and_indices_stay_the_callers",
        PLANNER / "an_input_layer_of_another_shape_is_warned_about",
    ),
    WORDS.held(
        "contract.layers.names",
        "Names of layers match without case and separators, and under their aliases.",
        ALIASES,
        VOCABULARY / "case_of_a_type_does_not_matter",
    ),
    WORDS.held(
        "contract.layers.defaults",
        "Arguments left out have Keras' defaults, and the reply shows them.",
        VOCABULARY / "defaults_are_filled_in_in_the_order_of_the_vocabulary",
        VOCABULARY / "reading_what_was_written_gives_the_same_layer",
    ),
    WORDS.held(
        "contract.layers.errors",
        "A wrong layer gets one sentence with its index and the nearest right one.",
        VOCABULARY / "a_wrong_layer_gets_one_sentence_that_names_it",
        VOCABULARY / "any_json_is_either_read_or_refused_by_index",
        SIGNALS / "a_sequence_of_layers_that_cannot_work_is_refused_before_the_data_is_known",
    ),
    WORDS.held(
        "contract.layers.refused",
        "Code, embeddings, two-dimensional layers and other ideas are refused by name with the reason.",
        VOCABULARY / "known_ideas_that_are_not_offered_are_refused_with_their_reason",
    ),
    WORDS.held(
        "contract.layers.bounds",
        "Widths, depths, numbers of layers and of parameters are bounded.",
        VOCABULARY / "an_empty_list_and_one_of_65_layers_are_refused",
        VOCABULARY / "a_wrong_layer_gets_one_sentence_that_names_it",
        PLANNER / "the_limit_on_parameters_names_both_numbers_and_the_largest_layer",
        PLANNER / "rows_that_would_grow_beyond_all_memory_are_refused",
    ),
    WORDS.held(
        "contract.layers.frozen",
        "A layer with trainable false does not move.",
        TRAINER / "a_frozen_layer_does_not_move",
        KERAS / "frozen_layers_equal_keras_and_a_frozen_batch_norm_uses_its_statistics",
    ),
    WORDS.held(
        "contract.layers.losses",
        "The loss follows the task.",
        KERAS / "the_loss_of_each_task_equals_keras",
        TRAINER / "multiclass_and_regression_learn_their_targets",
    ),
)

PROMISES = (
    *OF_LAYERS,
    VIEWS.held(
        "contract.views.sequence-and-flat",
        "Sequence networks see steps of channels, and dense networks the flat row.",
        SIGNALS / "dense_networks_see_the_flat_row_and_windows_are_flattened",
        WEIGHTS / "a_vector_column_is_channel_0_and_each_scalar_repeats_beside_it",
        TENSORS / "the_worker_on_a_vector_of_50_and_3_scalars_has_834561_parameters",
    ),
    VIEWS.held(
        "contract.views.last-step",
        "A sequence that is left is cut to its last step before the final dense layers.",
        PLANNER / "a_sequence_is_cut_to_its_last_step_before_the_final_pointwise_stack",
        KERAS / "the_last_layers_run_on_the_last_step_only_and_equal_the_textbook_order",
    ),
    VIEWS.held(
        "contract.views.head",
        "The last layer is the head if it fits the task, else one is appended and told.",
        HEADS / "the_last_layer_is_the_head_when_width_and_activation_fit_the_task",
        HEADS / "a_final_sigmoid_on_a_number_becomes_linear_with_a_warning",
        HEADS / "an_output_layer_of_another_task_is_warned_about",
    ),
    VIEWS.held(
        "contract.views.parameters",
        "The networks of the user's document have the documented parameters.",
        TENSORS / "the_worker_on_20_steps_of_16_channels_has_846849_parameters",
        TENSORS / "the_parameter_server_on_16_inputs_has_172928_parameters_before_its_head",
        TENSORS / "the_aggregator_has_38401_parameters_of_which_37889_train",
        TENSORS / "the_validator_has_3201_parameters",
    ),
    PARITY.held(
        "contract.keras.forward",
        "Functions and gradients equal Keras, for any list of layers.",
        AS_IN_KERAS,
        KERAS / "random_networks_equal_keras",
    ),
    PARITY.held(
        "contract.keras.initialisers",
        "Weights are drawn from Keras' distributions.",
        KERAS / "glorot_kernels_are_drawn_from_keras_distribution",
        KERAS / "orthogonal_kernels_are_orthogonal_as_in_keras",
        KERAS / "fresh_keras_layers_have_the_biases_that_ours_start_with",
    ),
    PARITY.held(
        "contract.keras.optimisers",
        "Fifty steps of each optimiser follow Keras.",
        KERAS / "fifty_steps_of_each_optimiser_follow_keras",
        OPTIMIZERS / "fifty_steps_follow_the_formula",
    ),
    PARITY.held(
        "contract.keras.batch-norm-of-one",
        "A training batch of one row is skipped by batch normalisation.",
        TRAINER / "batch_norm_skips_a_batch_of_one_row",
        TRAINER / "batches_of_one_row_are_refused_for_batch_norm_and_fine_without",
    ),
    BY_DEFAULT.held(
        "contract.defaults.sizes",
        "Default networks have the documented sizes.",
        DEFAULTS / "default_workers_have_their_documented_sizes",
        DEFAULTS / "default_parameter_servers_have_their_documented_sizes",
        DEFAULTS / "rows_without_a_sequence_get_dense_layers_whatever_the_architecture",
    ),
    BY_DEFAULT.held(
        "contract.defaults.dropout-and-head",
        "Every default drops out before the head that the task appends.",
        DEFAULTS / "every_default_leaves_its_head_to_the_task_and_drops_out_before_it",
    ),
    BY_DEFAULT.held(
        "contract.defaults.learn",
        "Default networks learn, and learn nothing from shuffled labels.",
        LEARN / "a_default_network_of_each_family_reads_digits_row_by_row",
        LEARN / "shuffled_labels_teach_nothing",
        LEARN / "every_larger_default_moves_all_its_tensors_in_one_step",
    ),
)
