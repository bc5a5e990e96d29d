"""Models as files: exports and imports."""

from tests.manifest.files import (
    EXPORT_KILL,
    EXPORTS,
    IMPORTS,
    KERAS_EXPORT,
    ONNX,
    PREDICTOR,
    TOOLS,
    WASM,
)
from tests.manifest.promise import Section

EXPORT = Section("contract: section 3.8, models as files")
HOLDS = EXPORTS / "a_folder_holds_the_version_and_says_how_far_it_is_from_the_nodes"

IMPORT = Section("contract: section 3.9, models read back")
EQUAL = IMPORTS / "the_imported_cluster_answers_to_the_bit_as_its_source_and_outlives_the_server"
REFUSED = IMPORTS / "an_edited_foreign_or_unreachable_folder_is_refused_and_makes_nothing"

PROMISES = (
    IMPORT.held(
        "contract.tool.import",
        "The tool neural_model_import makes a cluster of an exported folder, with equal predictions.",
        EQUAL,
        IMPORTS / "slots_keep_weights_of_their_own_under_their_names",
        IMPORTS / "a_disk_that_fails_while_it_is_made_durable_leaves_nothing",
    ),
    IMPORT.held(
        "contract.import.path",
        "An import reads the folder at path, below a data root, and refuses one that was edited.",
        REFUSED,
        IMPORTS / "limits_of_the_server_hold_for_imports",
    ),
    IMPORT.held(
        "contract.import.name",
        "The imported cluster is called name, or as the exported one.",
        EQUAL,
    ),
    IMPORT.held(
        "contract.import.sha256",
        "With sha256 any other export is refused.",
        REFUSED,
    ),
    EXPORT.held(
        "contract.tool.export",
        "The tool neural_model_export writes a committed version to files that other programs read.",
        HOLDS,
        TOOLS / "the_tools_come_in_the_order_in_which_they_are_called",
    ),
    EXPORT.held(
        "contract.export.cluster_id",
        "An export is of the cluster that cluster_id names, which must have a model.",
        HOLDS,
    ),
    EXPORT.held(
        "contract.export.path",
        "An export lies at path, below a write root, and is there whole or not at all.",
        HOLDS,
        EXPORTS / "an_export_that_answers_otherwise_than_the_nodes_is_not_kept",
        EXPORT_KILL / "the_next_start_removes_what_a_killed_server_had_exported_by_half",
    ),
    EXPORT.held(
        "contract.export.format",
        "The format of an export is what format says.",
        HOLDS,
    ),
    EXPORT.held(
        "contract.export.overwrite",
        "Without overwrite nothing that exists is replaced, and with it an earlier export alone.",
        HOLDS,
        EXPORTS / "a_file_of_another_format_is_run_before_it_is_kept",
    ),
    EXPORT.held(
        "contract.export.version",
        "With version a kept version is exported instead of the one in force.",
        HOLDS,
        EXPORTS / "an_export_during_a_training_is_one_committed_version",
    ),
    EXPORT.held(
        "contract.export_format.onnx",
        "An export in onnx is one graph of scaling, every serving network and their combination.",
        ONNX / "the_answers_are_those_of_nodes_and_engine",
        ONNX / "every_layer_alone_gives_the_logits_of_the_node",
        ONNX / "windows_of_other_lengths_are_answered_where_the_layers_allow_it",
        ONNX / "without_the_package_the_error_names_the_command",
    ),
    EXPORT.held(
        "contract.export_format.keras",
        "An export in keras is a folder with a Keras 3 model of the networks and the rest as numbers.",
        KERAS_EXPORT / "keras_gives_the_logits_of_the_nodes_for_every_layer",
        KERAS_EXPORT / "a_vector_column_becomes_the_first_channel_in_keras_too",
        KERAS_EXPORT / "without_keras_the_error_names_the_command",
    ),
    EXPORT.held(
        "contract.export_format.predictor",
        "An export as predictor is one Python file that needs numpy only and answers as the cluster does.",
        PREDICTOR / "it_answers_as_the_cluster_and_knows_every_layer",
        PREDICTOR / "as_a_program_it_reads_records_by_name_with_their_symbol",
    ),
    EXPORT.held(
        "contract.export_format.wasm",
        "An export as wasm is a folder of modules that wasmtime, Node and browsers run.",
        WASM / "the_bundled_script_answers_as_the_cluster",
        WASM / "v8_and_wasmtime_compute_the_same_bits_of_every_layer_in_every_batch",
    ),
    EXPORT.held(
        "contract.export_format.safetensors",
        "An export in safetensors is a folder that holds everything of a version.",
        HOLDS,
    ),
)
