"""What only engine, data and networks can refuse: hundreds of wrong layers, data sets, records and ids.

Each call gets one worded error, nothing is half done, and the next call is answered.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow_nexus_neural.networks.arguments import Argument, Integer, Nested, Real
from flow_nexus_neural.networks.layers import VOCABULARY
from flow_nexus_neural.networks.parsing import MAX_LAYERS
from tests.doubles.engine_double import CLUSTER
from tests.integration.product import LAYERS, Product, product
from tests.integration.served import text_of
from tests.integration.test_malformed_calls import TABLE

ERROR_FORM = re.compile(r"^[a-z_]+: .+\. .+")
DENSE = {"type": "dense", "units": 4}
BIG = 10**9

FILES = {
    "empty.csv": "",
    "header.csv": "a,b,y\n",
    "ragged.csv": "a,b,y\n1,2,0\n1,2\n" * 20,
    "words.csv": "a,y\n" + "".join(f"w{i},{i % 2}\n" for i in range(40)),
    "one_class.csv": "a,y\n" + "".join(f"{i},1\n" for i in range(40)),
    "twice.csv": "a,a,y\n" + "".join(f"{i},{i},{i % 2}\n" for i in range(40)),
    "binary.csv": "\x00\x01\x02" * 200,
    "truncated.json": '{"X": [[1, 2], [3',
    "scalar.json": "5",
    "lines.jsonl": '{"a": 1, "y": 0}\nnot json\n' * 30,
    "short.csv": "a,y\n1,0\n2,1\n",
    "notes.txt": "hello",
    "fake.npz": "not a zip",
    "fake.npy": "not an array",
    "fake.csv.gz": "not gzip",
    "fake.parquet": "not parquet",
    "good.csv": "a,b,y\n" + "".join(f"{i},{i * i % 7},{i % 2}\n" for i in range(60)),
}


def fitting(argument: Argument) -> Any:
    """A value that a required argument of a layer takes."""
    match argument.kind:
        case Integer(low=low):
            return low
        case Real():
            return 0.25
        case Nested():
            return {"type": "lstm", "units": 2}
        case _:
            return "relu"


def wrong_layers() -> Iterator[Any]:
    yield from ([], [[]], [{}], [None], [5], ["dense"], [{"type": None}], [{"type": 5}])
    yield from ("[", "{}", "5", "[1]", "[{}]", '[{"type": "dense"', "dense", "[" * 3000)
    yield from ([{"units": 3}], [{"type": ""}], [{"type": "densse", "units": 3}])
    yield [DENSE] * (MAX_LAYERS + 1)
    yield [{"type": "x" * 5000}]
    yield [{"type": "dense", "units": 3, "x" * 5000: 1}]
    for refused in ("lambda", "embedding", "conv2d", "max_pooling2d", "gan", "autoencoder"):
        yield [{"type": refused}]
    yield [{"type": "lstm", "units": 4}, {"type": "lstm", "units": 4}]
    yield [{"type": "flatten"}, {"type": "conv1d", "filters": 2, "kernel_size": 3}]
    yield [{"type": "bidirectional", "layer": {"type": "dense", "units": 3}}]
    yield [{"type": "bidirectional", "layer": {"type": "bidirectional", "layer": DENSE}}]
    for kind in VOCABULARY.values():
        needed = [argument for argument in kind.arguments if argument.required]
        good = {"type": kind.name} | {argument.name: fitting(argument) for argument in needed}
        yield [{**good, "no_such_argument": 1}]
        for argument in kind.arguments:
            if argument.required:
                yield [{key: value for key, value in good.items() if key != argument.name}]
                for value in ([], {}, "many", -1, BIG, "NaN", [1, 1]):
                    yield [{**good, argument.name: value}]
            elif argument.name.endswith("activation"):
                for value in ("rellu", 5, [], "", {}):
                    yield [{**good, argument.name: value}]
        yield [{**good, "trainable": "maybe"}]
        yield [{**good, "name": []}]


def wrong_datasets() -> Iterator[Any]:
    yield from ("", " ", "nope", "synthetic:", "synthetic:nope", "sklearn:nope", "builtin:nope")
    yield from ("hf:a/b", "s3://b/k", "http://x/y.csv", "yfinance:SPY", "ftp://h/f", "gs://b/o")
    yield from (
        "/etc/passwd",
        "../secret.csv",
        "file:///etc/shadow",
        "file://host/x",
        "~/.ssh",
        "/",
    )
    yield from (
        "**/*.csv",
        "../*.csv",
        "*.nothing",
        "a\x00b",
        "x" * 5000,
        "\ud83d",
        "C:\\x.csv",
        "//x",
    )
    yield from (name for name in FILES if name != "good.csv")
    yield from (
        f"good.csv#{option}"
        for option in (
            "target=q",
            "features=a,q",
            "time=q",
            "window=1",
            "window=9999",
            "horizon=-1",
            "horizon=9999",
            "window=x",
            "split=never",
            "split=walk_forward&folds=0",
            "split=walk_forward&folds=x",
            "embargo=-1",
            "test_size=x",
            "test_size=1.5",
            "test_size=99999",
            "validation_size=-1",
            "test_size=0.6&validation_size=0.4",
            "folds=60",
            "nonsense=1",
            "target=y&target=a",
            "rows=-5",
            "seed=x",
            "=",
            "features=",
        )
    )
    yield from ("synthetic:xor#rows=5", "synthetic:xor#rows=99999999999", "synthetic:xor#rows=x")
    yield from ("{", "[", "[]", "{}", '{"X": }', '{"X": [[NaN]], "y": [0]}', "[[1,2],[3]]", "[1,2]")
    x, y = [[i, i % 5] for i in range(40)], [i % 2 for i in range(40)]
    for inputs in (
        [],
        [[]],
        [[1], [2, 3]] * 20,
        5,
        "x",
        None,
        {},
        [["a", "b"]] * 40,
        [[None]] * 40,
    ):
        yield {"X": inputs, "y": y}
    for labels in (
        [],
        5,
        "y",
        None,
        {},
        [0] * 40,
        [[0, 1]] * 40,
        y[:39],
        list(range(40)),
        [None] * 40,
    ):
        if labels != list(range(40)):  # that is a regression
            yield {"X": x, "y": labels}
    yield {"X": x}
    yield {"X": x, "y": y, "labels": y}
    yield {"X": x, "y": y, "feature_names": ["only one"]}
    yield {"X": x, "y": y, "feature_names": ["same", "same"]}
    yield {"columns": ["a", "y"], "rows": x[:5]}
    yield {"columns": ["a"], "rows": x}
    yield {"columns": [], "rows": []}
    yield {"columns": ["a", "a"], "rows": x}
    yield {"rows": x}
    yield {"clients": {}}
    yield {"clients": {"a": {"X": x}}}
    yield {"clients": {"a": {"X": x, "y": y}, "b": {"X": [[1]] * 40, "y": y}}}
    yield {"clients": [1, 2]}
    yield {"nothing": "known"}
    yield [{"a": 1}] * 40
    yield [{"a": i, "y": i % 2} for i in range(40)] + [5]
    yield [{"a": {"b": 1}, "y": i % 2} for i in range(40)]
    yield [{"a": float(i), "y": 1} for i in range(40)]
    yield [{"a": 1, "y": i % 2} for i in range(12)]
    yield [[1, 2], [3, 4]]


WRONG_TRAINING: list[dict[str, Any]] = [
    {"target": "q"},
    {"target": "a" * 500},
    {"features": ["q"]},
    {"features": ["x0", "q"]},
    {"features": []},
    {"features": ["target"]},
    {"time_column": "q"},
    {"window": 500},
    {"horizon": 500},
    {"test_size": 1.5},
    {"test_size": 10**9},
    {"test_size": 0.5, "validation_size": 0.5},
    {"folds": 50},
    {"dataset": "good.csv#target=y", "target": "a"},
    {"dataset": "good.csv#folds=4", "folds": 5},
    {"dataset": "good.csv#window=4", "window": 5},
    {"rounds": 3},
    {"local_epochs": 2},
    {"clients_per_round": 1},
    {"min_nodes_per_round": 1},
    {"aggregation_method": "fedavg"},
    {"federated": True, "clients_per_round": 60},
    {"federated": True, "min_nodes_per_round": 60},
    {"federated": True, "clients_per_round": 1, "min_nodes_per_round": 2},
    {"federated": True, "aggregation_method": "bucketing"},
    {"federated": True, "aggregation_method": "scaffold"},
    {"federated": True, "aggregation_method": "fedadam", "byzantine_f": 1},
    {"federated": True, "aggregation_method": "fedadam", "proximal_mu": 0.1},
    {"federated": True, "server_momentum": 0.5},
    {"federated": True, "aggregation_method": "best"},
    {"federated": True, "partition": "client"},
    {"federated": True, "partition": "random"},
    {"federated": True, "partition": "dirichlet:0"},
    {"federated": True, "partition": "dirichlet:x"},
    {"federated": True, "partition": "iid:3"},
    {"federated": False, "partition": "dirichlet"},
]


def wrong_records() -> Iterator[Any]:
    yield from (
        "",
        "x",
        "{",
        "[",
        "[]",
        "null",
        "5",
        "true",
        '"text"',
        "NaN",
        "Infinity",
        "[NaN, 1]",
    )
    yield from ("{}", '{"zz": 1}', '{"x0": NaN}', '{"x0": Infinity, "x1": 0}', "[[]]", "[[[1, 2]]]")
    yield from (
        "[" * 5000,
        '{"x0": 1}' * 2,
        " " * 100,
        "[1, 2, 3]",
        "[[1, 2], [3]]",
        "[null, null]",
    )
    yield from ([], [[]], {}, [None], [1, 2, 3], [1], ["a", "b"], [[1, 2], 5], [{}], [{"zz": 1}])
    yield from ([{"x0": 1}, {}], [{"x0": 1}, {"zz": 2}], [{"x0": 1}, 5], [{"x0": 1}] * 1001)
    yield from (
        {"window": [[1, 2]]},
        {"window": []},
        {"features": [1, 2, 3]},
        {"x0": None, "x1": None},
    )
    yield from ({"target": 1}, {"X": [[1, 2]]}, {"data": {"x0": 1}}, {"": 1}, {"x0 ": 1})
    for value in ("abc", [], {}, [1], "1e999", "--1", "0x10", "1,5", {"value": 1}, "inf", "nan"):
        yield {"x0": value, "x1": 0}
        yield [{"x0": 1, "x1": 0}, {"x0": value, "x1": 0}]


WRONG_WEIGHTS: list[Any] = [
    {"worker-9": 1},
    {"worker-0": 0},
    {"worker-0": 0, "worker-1": 0},
    {"": 1},
    {"node_ffffffffffff": 1},
    {"validator-0": 1},
    {"x" * 3000: 1},
    {},
]
WRONG_IDS: list[Any] = [
    "", " ", "x", "dnc_", "dnc_ffffffffffff", "DNC_FFFFFFFFFFFF", "trn_ffffffffffff", "worker-0", "*",
    "x" * 3000, "\u202e\n\0", "../..", "null", "None", "undefined", "[object Object]", "0", "dnc_ g",
]  # fmt: skip
GOOD: dict[str, dict[str, Any]] = {
    "node_deploy": {"layers": LAYERS},
    "cluster_connect": {},
    "train_distributed": {"dataset": "synthetic:xor#rows=60"},
    "cluster_status": {},
    "predict_distributed": {"input_data": {"x0": 1, "x1": 0}},
    "cluster_terminate": {},
}


def wrong_calls() -> Iterator[tuple[str, dict[str, Any]]]:
    for layers in wrong_layers():
        yield "node_deploy", {"layers": layers}
    for node in ("worker-9", "node_x", "worker-0", "x" * 3000):
        yield "node_deploy", {"replace_node_id": node}
    yield "node_deploy", {"model": "custom", "layers": None}
    yield "node_deploy", {"capabilities": ["with space"]}
    yield "node_deploy", {"capabilities": ["x"] * 17}
    yield "node_deploy", {"capabilities": ["y" * 49]}
    for dataset in wrong_datasets():
        yield "train_distributed", {"dataset": dataset}
    for more in WRONG_TRAINING:
        yield "train_distributed", more
    for record in wrong_records():
        yield "predict_distributed", {"input_data": record}
    for weights in WRONG_WEIGHTS:
        yield "predict_distributed", {"aggregation": "weighted", "weights": weights}
        yield "predict_distributed", {"weights": weights or {"worker-0": 1}}
    for tool in GOOD:
        for cluster_id in WRONG_IDS:
            yield tool, {"cluster_id": cluster_id}
    yield (
        "cluster_terminate",
        {"training_id": ""},
    )  # elsewhere empty is not given; here it would end more
    for tool in ("cluster_status", "cluster_terminate"):
        for training_id in ("x", "trn_ffffffffffff", "dnc_x", "y" * 3000):
            yield tool, {"training_id": training_id}


CALLS = list(wrong_calls())


class Session:
    """One client's session with the product, and what exists in it."""

    def __init__(self, it: Product, portal: BlockingPortal) -> None:
        self.it, self.portal = it, portal
        self.trained = portal.call(lambda: it.trained(2, dataset="synthetic:xor#rows=60"))
        self.fresh = portal.call(lambda: it.cluster(1, name="fresh"))

    def call(self, tool: str, arguments: dict[str, Any]) -> Any:
        return self.portal.call(lambda: self.it.client.call_tool(tool, arguments))

    def standing(self) -> list[Any]:
        """Everything that a half done call would have changed."""
        return self.portal.call(self._standing)

    async def _standing(self) -> list[Any]:
        contents = (await self.it.client.read_resource("neural://clusters")).contents
        clusters = json.loads(contents[0].text)["clusters"]
        standing: list[Any] = [clusters, len(self.it.runtime.nodes)]
        for cluster in clusters:
            status = await self.it.result("cluster_status", cluster_id=cluster["cluster_id"])
            standing.append(
                {
                    "nodes": [(node["id"], node["status"]) for node in status["nodes"]],
                    "sessions": status["features"]["training_sessions"],
                    "edges": status["features"]["connections_active"],
                    "version": status["model_version"],
                    "training": status["training_status"],
                    "topology": status["topology"],
                }
            )
        return standing


@contextmanager
def session(folder: Path) -> Iterator[Session]:
    for name, content in FILES.items():
        (folder / name).write_text(content)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(product(folder / "state", data_dir=folder)) as it,
    ):
        yield Session(it, portal)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session(tmp_path_factory.mktemp("content")) as it:
        yield it


def assert_one_worded_error(answer: Any, shown: str) -> None:
    assert answer.is_error, f"{shown} -> {str(answer.structured_content)[:300]}"
    assert answer.structured_content is None
    text = text_of(answer)
    assert ERROR_FORM.match(text), text
    assert len(text) < 1000, text
    assert "\n" not in text
    assert "Traceback" not in text
    assert not text.startswith("internal_error"), f"{shown} -> {text}"


def test_the_table_is_large():
    assert len(CALLS) > 500


def test_wrong_content_gets_one_worded_error_each_and_nothing_is_half_done(running: Session):
    before = running.standing()
    for number, (tool, more) in enumerate(CALLS):
        arguments = {"cluster_id": running.trained, **GOOD[tool], **more}
        answer = running.call(f"neural_{tool}", arguments)
        assert_one_worded_error(answer, f"{tool} {str(more)[:300]}")
        if number % 50 == 0:
            assert running.standing() == before, f"{tool} {str(more)[:300]}"
    assert running.standing() == before


def test_wrong_arguments_do_not_reach_the_real_engine(running: Session):
    before = running.standing()
    for tool, arguments in TABLE:
        sent = {k: running.trained if v == CLUSTER else v for k, v in arguments.items()}
        assert_one_worded_error(running.call(tool, sent), f"{tool} {str(sent)[:300]}")
    assert running.standing() == before


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["X", "y", "clients", "columns", "rows", "x0", "x1", "type", "units"])
            | st.text(max_size=6),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(
    derandomize=True,
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    place=st.sampled_from(
        [
            ("train_distributed", "dataset"),
            ("predict_distributed", "input_data"),
            ("node_deploy", "layers"),
        ]
    ),
    value=JSON_VALUES,
    as_text=st.booleans(),
)
def test_whatever_stands_in_for_content_the_answer_is_a_result_or_one_worded_error(
    running: Session, place: tuple[str, str], value: Any, as_text: bool
):
    tool, name = place
    sent = json.dumps(value) if as_text else value
    cluster_id = running.trained if tool == "predict_distributed" else running.fresh
    before = running.standing()
    answer = running.call(f"neural_{tool}", {"cluster_id": cluster_id, **GOOD[tool], name: sent})
    if answer.is_error:
        assert_one_worded_error(answer, f"{tool} {str(sent)[:300]}")
        assert running.standing() == before
    else:
        json.loads(text_of(answer))
