"""What the committed measurements must show for the sentences that rest on them."""

from bench.report import RESULTS, load_records


def test_of_the_committed_predictions_on_eleven_nodes_99_of_100_took_less_than_100_ms():
    predictions = [one for one in load_records(RESULTS) if one.suite == "predict"]
    assert {one.contender for one in predictions} == {"client", "inside the server"}
    for one in predictions:
        assert one.samples >= 1000
        assert one.unit == "ms"
        assert one.p99 is not None
        assert one.p99 < 100


def test_of_the_committed_starts_initialize_was_answered_within_a_second_and_a_half():
    (start,) = [one for one in load_records(RESULTS) if one.contender == "initialize answered"]
    assert start.max is not None
    assert start.max < 1.5
