"""The harness tells equal work from other work, and the README from a stale one."""

import json

import pytest

from bench.measure import interleave, process_tree, record
from bench.report import load_records, render
from bench.rounds import same_work
from bench.work import WORKS, batch_order, client_data
from readme.markers import replace_between

PAGE = "before\n<!-- x:begin -->\nold\n<!-- x:end -->\nafter\n"


def make(contender, samples, **more):
    return record("rounds", "W1", contender, samples, unit="s/round", load_start=0.1, **more)


def test_percentiles_below_a_hundred_samples_are_not_claimed():
    few, many = make("plain", [1.0, 2.0, 9.0]), make("plain", [float(n) for n in range(101)])
    assert (few.median, few.min, few.max, few.p99) == (2.0, 1.0, 9.0, None)
    assert many.p99 == 99.0
    assert make("plain", []).median is None


def test_another_result_is_other_work():
    assert same_work(0.00451550, 0.00451551)
    assert not same_work(0.00451550, 0.00451650)
    assert not same_work(None, 0.0045)


@pytest.mark.parametrize(("spread", "ratio"), [(1.09, 0.5), (0.92, 0.5), (1.11, None), (0.9, None)])
def test_no_ratio_is_told_where_the_controls_of_a_run_differ(tmp_path, spread, ratio):
    made = make("ours", [0.03], ratio_to_reference=0.5, controls_spread=spread)
    assert made.ratio_to_reference == ratio
    (tmp_path / "rounds.json").write_text(json.dumps([made.model_dump()]))
    assert ("controls differ" in render(load_records(tmp_path))) == (ratio is None)


def test_a_ratio_is_shown_only_for_equal_work(tmp_path):
    records = [
        make("plain", [0.1], ratio_to_reference=1.0),
        make("ours", [0.03], different_work=True),
    ]
    (tmp_path / "rounds.json").write_text(json.dumps([one.model_dump() for one in records]))
    table = render(load_records(tmp_path))
    assert "| W1 plain | 0.1 s | 1.00 |" in table
    assert "| W1 ours | 0.03 s | different work |" in table


def test_a_loaded_machine_is_named(tmp_path):
    busy = record("rounds", "W1", "plain", [0.1], unit="s/round", load_start=3.0)
    assert "not quiet" in render([busy])
    assert "not quiet" not in render([make("plain", [0.1])])


def test_a_stale_part_fails_the_check_and_is_rewritten_without_it(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    with pytest.raises(SystemExit, match="stale"):
        replace_between(page, "x", "new", check=True)
    assert page.read_text() == PAGE
    replace_between(page, "x", "new", check=False)
    assert page.read_text() == PAGE.replace("old", "new")
    replace_between(page, "x", "new", check=True)


def test_missing_markers_are_named(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    with pytest.raises(SystemExit, match="y:begin"):
        replace_between(page, "y", "new", check=False)


def test_every_contender_is_measured_equally_often_in_changing_order():
    seen = []
    interleave(["a", "b", "c"], 8, seen.append)
    turns = [tuple(seen[start : start + 3]) for start in range(0, 24, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len(set(turns)) > 1


def test_the_work_is_the_same_on_every_call_and_differs_between_clients():
    work = WORKS["W1"]
    x, y = client_data(work, 0)
    assert x.shape == (1000, 50)
    assert (client_data(work, 0)[1] == y).all()
    assert not (client_data(work, 1)[0] == x).all()
    assert sorted(batch_order(work, 1, 0)) == list(range(1000))
    assert not (batch_order(work, 1, 0) == batch_order(work, 2, 0)).all()


def test_a_process_tree_starts_with_its_root():
    assert process_tree(1)[0] == 1
