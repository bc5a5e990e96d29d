"""Plots in the conversation and in files."""

from tests.manifest.files import PLOTS
from tests.manifest.promise import Section

PLOT = Section("contract: section 3.10, plots")
MEASURED = PLOTS / "every_kind_says_in_words_what_status_measured"
VALUES = PLOTS / "values_are_drawn_with_their_intervals_beside_what_came_of_them"

PROMISES = (
    PLOT.held(
        "contract.tool.plot",
        "The tool neural_cluster_plot draws what was measured of a cluster and says the same in numbers.",
        MEASURED,
        VALUES,
    ),
    PLOT.held(
        "contract.plot.cluster_id",
        "A plot is of the cluster that cluster_id names, also of one that has ended.",
        MEASURED,
    ),
    PLOT.held(
        "contract.plot.kind",
        "The kind of a plot says what is drawn; what was not measured is an error that says what to do.",
        MEASURED,
        VALUES,
    ),
    PLOT.held(
        "contract.plot.format",
        "The format of a plot is a picture, Mermaid or text, all made of the same numbers.",
        MEASURED,
        PLOTS / "a_name_that_is_no_text_for_a_diagram_ends_none",
    ),
    PLOT.held(
        "contract.plot.path",
        "With path a plot is written below a write root, whole or not at all.",
        MEASURED,
    ),
    PLOT.held(
        "contract.plot.overwrite",
        "A plot replaces a plot that was written there, only with overwrite, and nothing else.",
        MEASURED,
    ),
    PLOT.held(
        "contract.plot_kind.learning_curve",
        "The plot learning_curve shows the losses and the share decided right of every round.",
        MEASURED,
    ),
    PLOT.held(
        "contract.plot_kind.topology",
        "The plot topology shows nodes with roles and states, and links with latency or what is wrong.",
        MEASURED,
    ),
    PLOT.held(
        "contract.plot_kind.reliability",
        "The plot reliability shows how many decisions of each level of confidence were right.",
        MEASURED,
    ),
    PLOT.held(
        "contract.plot_kind.confusion",
        "The plot confusion shows which classes were taken for which.",
        MEASURED,
    ),
    PLOT.held(
        "contract.plot_kind.latency",
        "The plot latency shows how long predictions took.",
        MEASURED,
    ),
    PLOT.held(
        "contract.plot_kind.node_weights",
        "The plot node_weights shows what the answer of each node counts.",
        MEASURED,
    ),
    PLOT.held(
        "contract.plot_kind.predictions",
        "The plot predictions shows predictions with their intervals beside what came of them.",
        VALUES,
    ),
    PLOT.held(
        "contract.plot_format.png",
        "A plot can be had as png.",
        MEASURED,
    ),
    PLOT.held(
        "contract.plot_format.svg",
        "A plot can be had as svg.",
        MEASURED,
    ),
    PLOT.held(
        "contract.plot_format.mermaid",
        "A plot can be had as mermaid.",
        MEASURED,
    ),
    PLOT.held(
        "contract.plot_format.text",
        "A plot can be had as text.",
        MEASURED,
    ),
)
