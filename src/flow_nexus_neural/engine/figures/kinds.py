"""The figure of each kind of plot."""

from collections.abc import Callable, Mapping

from flow_nexus_neural.artifacts.plots.figure import Figure
from flow_nexus_neural.engine.figures.confusion import confusion
from flow_nexus_neural.engine.figures.latency import latency
from flow_nexus_neural.engine.figures.learning_curve import learning_curve
from flow_nexus_neural.engine.figures.node_weights import node_weights
from flow_nexus_neural.engine.figures.predictions import predictions
from flow_nexus_neural.engine.figures.reliability import reliability
from flow_nexus_neural.engine.figures.seen import Seen
from flow_nexus_neural.engine.figures.topology import topology
from flow_nexus_neural.vocabulary import PlotKind

FIGURES: Mapping[PlotKind, Callable[[Seen], Figure]] = {
    "learning_curve": learning_curve,
    "topology": topology,
    "reliability": reliability,
    "confusion": confusion,
    "latency": latency,
    "node_weights": node_weights,
    "predictions": predictions,
}
