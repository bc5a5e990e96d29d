"""Models as files: exports and imports."""

from tests.manifest.files import EXPORTS, TOOLS
from tests.manifest.promise import Section

EXPORT = Section("contract: section 3.8, models as files")
HOLDS = EXPORTS / "a_folder_holds_the_version_and_says_how_far_it_is_from_the_nodes"

PROMISES = (
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
    ),
    EXPORT.held(
        "contract.export.format",
        "The format of an export is what format says.",
        HOLDS,
    ),
    EXPORT.held(
        "contract.export.overwrite",
        "Without overwrite nothing that exists is replaced.",
        HOLDS,
    ),
    EXPORT.held(
        "contract.export.version",
        "With version a kept version is exported instead of the one in force.",
        HOLDS,
        EXPORTS / "an_export_during_a_training_is_one_committed_version",
    ),
    EXPORT.held(
        "contract.export_format.safetensors",
        "An export in safetensors is a folder that holds everything of a version.",
        HOLDS,
    ),
)
