"""Words, tags and bounds: defined once, and read alike by everyone who reads them."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from flow_nexus_neural import vocabulary
from flow_nexus_neural.data.options import DataRequest, check_range
from flow_nexus_neural.data.partition import assign_shards, owned_symbols
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.training.arguments import check_arguments
from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.protocol.messages import NODE_BATCH_SIZE, NODE_LEARNING_RATE
from flow_nexus_neural.vocabulary import (
    ALPHA,
    BATCH_SIZE,
    HORIZON,
    LEARNING_RATE,
    WINDOW,
    Partition,
    capability_names,
    parse_capability,
    parse_partition,
    symbols_of,
)

PACKAGE = Path(__file__).parents[2] / "src" / "flow_nexus_neural"
SPELLINGS = ("btc_analysis", "BTC_analysis", "BTC_Analysis", "Btc_ANALYSIS")


def word_sets(package):
    """Modules in which each set of words is written as a Literal; one word alone is a tag, not a set."""
    found = {}
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Literal"):
                parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
                words = frozenset(part.value for part in parts if isinstance(part, ast.Constant))
                if len(words) > 1:
                    found.setdefault(words, set()).add(str(file.relative_to(package)))
    return found


def defined_twice(package):
    return {
        tuple(sorted(map(str, words))): sorted(modules)
        for words, modules in word_sets(package).items()
        if len(modules) > 1
    }


def test_no_set_of_words_is_defined_in_two_modules():
    assert defined_twice(PACKAGE) == {}
    assert word_sets(PACKAGE)[frozenset(get_args(vocabulary.Role))] == {"vocabulary.py"}


def test_a_set_of_words_in_two_modules_is_found_in_any_order(tmp_path):
    (tmp_path / "one.py").write_text('from typing import Literal\nA = Literal["x", "y"]\n')
    (tmp_path / "two.py").write_text(
        'import typing\ndef f(a: typing.Literal["y", "x"], b: typing.Literal["x"]): ...\n'
    )
    (tmp_path / "three.py").write_text('B: Literal["x"] = "x"\n')
    assert defined_twice(tmp_path) == {("x", "y"): ["one.py", "two.py"]}


def test_importing_the_words_loads_neither_numpy_nor_models_nor_another_package():
    script = (
        "import sys, flow_nexus_neural.vocabulary;"
        "print(sorted(m for m in sys.modules if m.startswith('flow_nexus_neural.')));"
        "print([m for m in ('numpy', 'torch', 'pydantic.main') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    own, heavy = result.stdout.splitlines()
    assert own == "['flow_nexus_neural.errors', 'flow_nexus_neural.vocabulary']"
    assert heavy == "[]"


@pytest.mark.parametrize(
    ("meanings", "words"),
    [
        (vocabulary.TOPOLOGIES, vocabulary.Topology),
        (vocabulary.ARCHITECTURES, vocabulary.Architecture),
        (vocabulary.ROLES, vocabulary.Role),
        (vocabulary.AGGREGATIONS, vocabulary.Aggregation),
        (vocabulary.PARTITIONS, vocabulary.PartitionKind),
    ],
)
def test_every_word_has_its_meaning(meanings, words):
    assert tuple(meanings) == get_args(words)
    assert len(set(meanings.values())) == len(meanings)


@pytest.mark.parametrize("tag", SPELLINGS)
def test_the_case_of_a_tag_means_nothing(tag):
    assert parse_capability(tag) == parse_capability("btc_analysis")
    assert parse_capability(tag).symbol == "btc"
    assert parse_capability(tag).has_effect
    for symbol in ("BTC", "btc", "Btc-USD"):
        assert owned_symbols((tag,), ("ETH", symbol)) == [1]


def test_tags_that_every_worker_has_are_known_and_name_no_symbol():
    for tag in ("training", "Inference"):
        assert parse_capability(tag).has_effect
        assert parse_capability(tag).symbol is None


@pytest.mark.parametrize("tag", ["real_time_inference", "_analysis", "analysis", "btc_analysis2"])
def test_a_tag_that_names_nothing_is_only_stored(tag):
    assert not parse_capability(tag).has_effect
    assert parse_capability(tag).symbol is None
    assert owned_symbols((tag,), ("BTC", "-USD", "_")) == []


def test_symbols_are_sorted_and_named_once():
    assert symbols_of(("ETH_analysis", "x", *SPELLINGS)) == ("btc", "eth")


def test_sets_of_tags_are_equal_when_they_mean_the_same():
    assert capability_names(("BTC_Analysis", "Training")) == {"btc_analysis", "training"}
    # What is only stored keeps its spelling: nobody knows what it means.
    assert capability_names(("GPU",)) != capability_names(("gpu",))


def refused(act):
    try:
        act()
    except InvalidArguments as failure:
        return str(failure)
    return None


def asked(partition):
    check_arguments(TrainRequest(cluster_id="c", dataset="d", federated=True, partition=partition))


def deal(partition, workers=4):
    none = np.full(64, -1, dtype=np.int32)
    rows = Rows(x=np.zeros((64, 2), np.float32), y=np.arange(64) % 3, symbols=none, clients=none)
    slots = [(f"worker-{number}", ()) for number in range(workers)]
    return assign_shards(rows, slots, partition, 5, symbols=(), classes=(0, 1, 2), clients=())


ALPHAS = st.one_of(st.floats(), st.floats(1e-5, 0.01), st.floats(100, 10_000))


@given(ALPHAS)
def test_an_alpha_is_refused_before_data_are_read_or_never(alpha):
    text = f"dirichlet:{alpha!r}"
    before = refused(lambda: asked(text))
    assert before == refused(lambda: deal(text))
    assert (before is None) == (ALPHA.low <= alpha <= ALPHA.high)


@pytest.mark.parametrize("alpha", ["0.0001", "5000", "0", "-1", "inf", "nan", "x", "0.5:1"])
def test_an_alpha_outside_is_refused_with_the_range(alpha):
    assert "from 0.001 to 1000" in refused(lambda: asked(f"dirichlet:{alpha}"))


@pytest.mark.parametrize("alpha", ["0.001", "0.5", "1000", "1e3"])
@pytest.mark.parametrize("workers", [1, 2, 32])
def test_every_alpha_within_gives_every_worker_rows(alpha, workers):
    asked(f"dirichlet:{alpha}")
    sizes = [len(rows) for rows in deal(f"dirichlet:{alpha}", workers).rows.values()]
    assert sum(sizes) == 64
    assert min(sizes) >= 1


@pytest.mark.parametrize("kind", get_args(vocabulary.PartitionKind))
def test_partitions_are_read_in_any_case(kind):
    assert parse_partition(f" {kind.upper()} ") == Partition(kind, 0.5)
    assert parse_partition("Dirichlet:2") == Partition("dirichlet", 2.0)


@pytest.mark.parametrize("text", ["by_file", "iid:3", "client:0.5", ""])
def test_an_unknown_partition_lists_the_valid_ones(text):
    with pytest.raises(InvalidArguments, match="unknown") as caught:
        parse_partition(text)
    for kind in get_args(vocabulary.PartitionKind):
        assert kind in caught.value.hint


@pytest.mark.parametrize(("name", "bounds"), [("window", WINDOW), ("horizon", HORIZON)])
def test_the_tool_and_the_data_set_accept_the_same_numbers(name, bounds):
    for value in (bounds.low - 1, bounds.low, bounds.high, bounds.high + 1):
        fits = bounds.low <= value <= bounds.high
        assert (refused(lambda v=value: check_range(DataRequest("d", **{name: v}))) is None) == fits
        try:
            TypeAdapter(TrainRequest).validate_python(
                {"cluster_id": "c", "dataset": "d", name: value}
            )
            accepted = True
        except ValidationError:
            accepted = False
        assert accepted == fits


def test_a_node_takes_whatever_a_caller_may_ask_for():
    for asked_for, taken in ((BATCH_SIZE, NODE_BATCH_SIZE), (LEARNING_RATE, NODE_LEARNING_RATE)):
        assert taken.low <= asked_for.low <= asked_for.high <= taken.high
