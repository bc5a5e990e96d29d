"""What each figure shows of a status that is known, and what it refuses to make up."""

from dataclasses import replace

import pytest

from flow_nexus_neural.artifacts.plots.figure import Link
from flow_nexus_neural.artifacts.plots.words import in_words
from flow_nexus_neural.engine.figures.confusion import confusion
from flow_nexus_neural.engine.figures.kinds import FIGURES
from flow_nexus_neural.engine.figures.latency import latency
from flow_nexus_neural.engine.figures.learning_curve import learning_curve
from flow_nexus_neural.engine.figures.node_weights import node_weights
from flow_nexus_neural.engine.figures.predictions import SHOWN, predictions
from flow_nexus_neural.engine.figures.reliability import reliability
from flow_nexus_neural.engine.figures.seen import Copied, RecordedLinks, Seen, SeenOutcome
from flow_nexus_neural.engine.figures.topology import topology
from flow_nexus_neural.engine.reports import Latency
from flow_nexus_neural.errors import NeuralError, NotAvailable
from tests.doubles.engine_double import history_point, node_status, status_report
from tests.unit.engine.building import schema

STATUS = status_report([node_status(0), node_status(1)], full=True)
BINARY = schema().model_copy(update={"classes": ["out", "in"]})
NOTHING = Seen(
    STATUS.model_copy(
        update={
            "training": None,
            "evaluation": None,
            "feedback": None,
            "nodes": [],
            "model_version": None,
        }
    )
)


@pytest.mark.parametrize("kind", FIGURES)
def test_what_was_not_measured_is_an_error_that_says_what_to_do(kind):
    with pytest.raises(NeuralError) as refused:
        FIGURES[kind](NOTHING)
    assert "neural_" in refused.value.hint


def test_a_curve_has_every_round_also_those_without_a_loss():
    history = (history_point(0), history_point(1).model_copy(update={"val_loss": None}))
    losses, right = learning_curve(Seen(STATUS, history=history)).panels
    assert losses.x.whole
    assert losses.series[1].y == (history[0].val_loss, None)
    assert next(one.y for one in right.series) == tuple(point.accuracy for point in history)


def test_links_that_do_not_work_and_dead_nodes_are_told_apart():
    dead = STATUS.nodes[1].model_copy(update={"status": "failed", "healthy": False})
    link = STATUS.links[0].model_copy(update={"fault": "it was cut", "latency_ms": None})
    figure = topology(
        Seen(STATUS.model_copy(update={"nodes": [STATUS.nodes[0], dead], "links": [link]}))
    )
    (graph,) = figure.panels
    assert [vertex.working for vertex in graph.vertices] == [True, False]
    assert graph.links[0].fault == "it was cut"
    assert "0 links work, 1 does not." in figure.notes


def test_nodes_that_a_new_start_has_not_linked_are_told_how_they_are_linked():
    """A server that starts again has the topology, and links nothing until it is asked."""
    figure = topology(Seen(STATUS.model_copy(update={"links": None})))
    assert not figure.panels[0].links
    assert figure.notes[1].startswith("No node is linked: neural_cluster_connect")


@pytest.mark.parametrize("server", [None, "4711"])
def test_of_a_copy_the_recorded_links_are_drawn_and_nothing_is_said_of_how_they_work(server):
    nodes = [node.model_copy(update={"status": "recovering"}) for node in STATUS.nodes]
    one, other = (node.slot for node in nodes)
    links = RecordedLinks("ring", "2026-01-02", ((one, other), (other, "worker-9")))
    status = STATUS.model_copy(update={"nodes": nodes, "links": None})
    figure = topology(Seen(status, copied=Copied(server), recorded_links=links))
    (graph,) = figure.panels
    assert graph.links == (Link(one, other, working=None),), "a node that is gone has no link"
    assert figure.title.startswith("ring topology")
    said = in_words(figure, full=False)
    assert f"{one} - {other}: not known whether it works, latency not measured" in said
    assert "recorded last, at 2026-01-02" in said
    assert ("only the server knows (process 4711)" in said) is (server is not None)
    assert {vertex.status for vertex in graph.vertices} == {"unknown" if server else "stopped"}
    with pytest.raises(NotAvailable, match="is not stored") as refused:
        latency(Seen(status, copied=Copied(server)))
    assert "neural_cluster_plot" in refused.value.hint


def test_a_version_of_which_the_bins_were_not_measured_has_no_reliability():
    with pytest.raises(NotAvailable):
        reliability(Seen(STATUS))


def test_a_matrix_has_the_counts_under_their_classes():
    (matrix,) = confusion(Seen(STATUS)).panels
    assert [list(row) for row in matrix.counts] == STATUS.evaluation.confusion
    assert matrix.names == tuple(str(one.label) for one in STATUS.evaluation.per_class)


@pytest.mark.parametrize("values", [(0.0004,), (1.0, 1.0), (3.0, 250.0, 7.5), (99.9, 100.0)])
def test_a_histogram_counts_every_call_in_the_bin_that_holds_it(values):
    status = STATUS.model_copy(
        update={"latency": Latency(p50=1.0, p95=2.0, p99=3.0, n=len(values))}
    )
    (chart,) = latency(Seen(status, predict_ms=values)).panels
    (bars,) = chart.series
    for low, count in zip(bars.x, bars.y, strict=True):
        inside = [v for v in values if low - 1e-12 <= v < low + bars.width - 1e-12]
        assert count == len(inside)
    assert sum(bars.y) == len(values)
    assert len(bars.x) <= 30
    assert [one.value for one in chart.references] == [1.0, 2.0, 3.0, 100.0]


def test_a_single_call_is_one_call_and_its_percentiles_say_so():
    status = STATUS.model_copy(update={"latency": Latency(p50=1.0, p95=1.0, p99=1.0, n=1)})
    (note,) = latency(Seen(status, predict_ms=(1.0,))).notes
    assert note.startswith("1 call in")
    assert note.endswith("n = 1.")


def test_outcomes_that_moved_no_weight_are_no_source_of_them():
    told = {"slot_weights": {"worker-0": 1.0}, "weights_outcomes": 2}
    for source, said in (
        ("validation loss", "validation loss; 2 outcomes recorded, which moved none"),
        ("outcomes", "outcomes, 2 outcomes"),
    ):
        feedback = STATUS.feedback.model_copy(update={**told, "weights_source": source})
        figure = node_weights(Seen(STATUS.model_copy(update={"feedback": feedback})))
        assert figure.notes[0] == f"Source of the weights: {said}."


def test_an_imported_model_has_no_rounds_and_is_not_called_untrained():
    imported = STATUS.model_copy(update={"training": None, "model_version": 1})
    with pytest.raises(NotAvailable, match="was imported"):
        learning_curve(Seen(imported))


def test_weights_are_those_in_force_beside_equal_ones():
    weights = {"worker-0": 0.75, "worker-1": 0.25}
    feedback = STATUS.feedback.model_copy(update={"slot_weights": weights})
    (chart,) = node_weights(Seen(STATUS.model_copy(update={"feedback": feedback}))).panels
    assert dict(zip(chart.x.names, chart.series[0].y, strict=True)) == weights
    assert chart.references[0].value == 0.5


def test_only_the_newest_outcomes_are_drawn_and_the_others_counted():
    one = SeenOutcome("now", 0.9, 0.9, None, None, "in")
    outcomes = (*[replace(one, outcome="out")] * 3, *[one] * SHOWN)
    figure = predictions(Seen(STATUS, BINARY, outcomes=outcomes))
    (chart,) = figure.panels
    assert set(chart.series[1].y) == {1.0}
    assert f"The newest {SHOWN} of {SHOWN + 3} that are stored." in figure.notes
    assert "Brier score 0.01 over 200 outcomes." in figure.notes


@pytest.mark.parametrize(
    "evaluation", [None, STATUS.evaluation.model_copy(update={"positive_class": "out"})]
)
def test_the_positive_class_of_outcomes_is_the_models_also_where_nothing_was_measured(evaluation):
    status = STATUS.model_copy(update={"evaluation": evaluation, "dataset_info": None})
    outcomes = (
        SeenOutcome("now", 1.0, 1.0, None, None, "in"),
        SeenOutcome("now", 0.0, 1.0, None, None, "out"),
    )
    figure = predictions(Seen(status, BINARY, outcomes=outcomes))
    assert figure.panels[0].series[1].y == (1.0, 0.0)
    assert figure.panels[0].series[1].name == "outcome: 1 if in"
    assert "Brier score 0 over 2 outcomes." in figure.notes
