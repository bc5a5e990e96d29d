"""What callers may send: every spelling that is understood, every name that is refused, and why."""

import re

import pytest

from flow_nexus_neural.server.argument_names import INERT, NOT_AVAILABLE, REFUSED
from tests.doubles.engine_double import CLUSTER, TRAINING
from tests.integration.served import Served

ERROR_FORM = re.compile(r"^[a-z_]+: .+\. .+")


def asked(server: Served):
    return server.double.asked[-1]


@pytest.mark.parametrize(
    ("tool", "sent", "field", "meant"),
    [
        ("neural_cluster_init", {"wasmOptimization": False}, "wasm_optimization", False),
        ("neural_cluster_init", {"wasm_optimization": False}, "wasm_optimization", False),
        ("neural_cluster_init", {"daaEnabled": "false"}, "daa_enabled", False),
        ("neural_cluster_init", {"daa_enabled": "False"}, "daa_enabled", False),
        (
            "neural_cluster_init",
            {"consensus": "proof_of_learning"},
            "consensus",
            "proof-of-learning",
        ),
        ("neural_cluster_init", {"topology": "Ring"}, "topology", "ring"),
        ("neural_cluster_init", {"seed": "7"}, "seed", 7),
        ("neural_cluster_init", {"seed": None}, "seed", None),
        ("neural_cluster_init", {"name": "  a b "}, "name", "a b"),
        ("neural_node_deploy", {"nodeType": "validator"}, "node_type", "validator"),
        ("neural_node_deploy", {"role": "parameter-server"}, "role", "parameter_server"),
        ("neural_node_deploy", {"model_size": "xl"}, "model", "xl"),
        ("neural_node_deploy", {"modelSize": "xl"}, "model", "xl"),
        ("neural_node_deploy", {"autonomy_level": 0}, "autonomy", 0.0),
        ("neural_node_deploy", {"autonomy": "0.25"}, "autonomy", 0.25),
        ("neural_node_deploy", {"capabilities": '["a","b"]'}, "capabilities", ("a", "b")),
        ("neural_node_deploy", {"layers": '[{"type":"dense"}]'}, "layers", ({"type": "dense"},)),
        ("neural_node_deploy", {"layers": [{"type": "dense"}]}, "layers", ({"type": "dense"},)),
        ("neural_node_deploy", {"layers": "null"}, "layers", None),
        ("neural_cluster_connect", {"wait": False}, "wait_seconds", 0),
        ("neural_cluster_connect", {"wait": True}, "wait_seconds", 20),
        ("neural_cluster_connect", {"waitSeconds": 3}, "wait_seconds", 3),
        ("neural_train_distributed", {"batchSize": 8}, "batch_size", 8),
        ("neural_train_distributed", {"batch_size": "8"}, "batch_size", 8),
        ("neural_train_distributed", {"learningRate": "0.01"}, "learning_rate", 0.01),
        ("neural_train_distributed", {"federated": "true"}, "federated", True),
        ("neural_train_distributed", {"aggregation_rounds": 5}, "rounds", 5),
        ("neural_train_distributed", {"target_column": "y"}, "target", "y"),
        ("neural_train_distributed", {"clientsPerRound": 2}, "clients_per_round", 2),
        ("neural_train_distributed", {"features": '["a"]'}, "features", ("a",)),
        ("neural_train_distributed", {"features": "a"}, "features", ("a",)),
        ("neural_train_distributed", {"features": "5"}, "features", ("5",)),
        ("neural_train_distributed", {"features": "a,b"}, "features", ("a,b",)),
        ("neural_node_deploy", {"capabilities": "training"}, "capabilities", ("training",)),
        ("neural_node_deploy", {"layers": {"type": "dense"}}, "layers", {"type": "dense"}),
        ("neural_node_deploy", {"layers": '{"type":"dense"}'}, "layers", {"type": "dense"}),
        ("neural_node_deploy", {"layers": ""}, "layers", None),
        ("neural_node_deploy", {"role": ""}, "role", None),
        ("neural_node_deploy", {"replace_node_id": " "}, "replace_node_id", None),
        ("neural_node_deploy", {"replace": ""}, "replace", True),
        ("neural_train_distributed", {"target": ""}, "target", None),
        ("neural_train_distributed", {"epochs": ""}, "epochs", None),
        ("neural_train_distributed", {"epochs": None}, "epochs", None),
        ("neural_cluster_status", {"verbose": True}, "detail", "full"),
        ("neural_cluster_status", {"verbose": "false"}, "detail", "nodes"),
        ("neural_cluster_status", {"session_id": TRAINING}, "training_id", TRAINING),
        ("neural_cluster_status", {"jobId": TRAINING}, "training_id", TRAINING),
        (
            "neural_predict_distributed",
            {"aggregation_method": "majority"},
            "aggregation",
            "majority",
        ),
        (
            "neural_predict_distributed",
            {"weights": '{"worker-0": 2}'},
            "weights",
            {"worker-0": 2.0},
        ),
        ("neural_predict_distributed", {"deadlineMs": "50"}, "deadline_ms", 50),
        ("neural_cluster_terminate", {"deleteArtifacts": "true"}, "delete_artifacts", True),
    ],
)
def test_an_argument_is_understood_in_every_spelling_and_form_that_hosts_use(
    server: Served, tool: str, sent: dict, field: str, meant: object
):
    result = server.result(tool, **sent)
    assert getattr(asked(server), field) == meant
    assert [line for line in result["warnings"] if "no effect" in line] == []


@pytest.mark.parametrize("spelling", ["cluster_id", "clusterId", "id"])
def test_a_cluster_id_goes_by_three_names(server: Served, spelling: str):
    answer = server.call("neural_cluster_status", {spelling: CLUSTER})
    assert not answer.is_error
    assert asked(server).cluster_id == CLUSTER


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ({"input_data": '{"price": 1}'}, '{"price": 1}'),
        ({"input_data": {"price": 1}}, {"price": 1}),
        ({"inputData": [{"price": 1}]}, [{"price": 1}]),
        ({"input": [1.5, 2.5]}, [1.5, 2.5]),
    ],
)
def test_input_data_arrives_as_sent_as_text_or_as_a_value(
    server: Served, sent: dict, meant: object
):
    assert not server.call("neural_predict_distributed", {"cluster_id": CLUSTER, **sent}).is_error
    assert asked(server).input_data == meant


def test_one_argument_in_two_spellings_is_fine_if_both_agree_and_an_error_if_not(server: Served):
    server.result("neural_train_distributed", batch_size=8, batchSize="8")
    assert asked(server).batch_size == 8
    text = server.error("neural_train_distributed", batch_size=8, batchSize=9)
    assert "'batch_size' is 8 and 'batchSize' is 9" in text


@pytest.mark.parametrize("name", INERT)
def test_a_name_without_effect_is_answered_by_one_warning_that_says_why(server: Served, name: str):
    result = server.result("neural_train_distributed", **{name: 1})
    assert [
        line for line in result["warnings"] if line.startswith(f"'{name}' has no effect: ")
    ] == [f"'{name}' has no effect: {INERT[name]}"]
    assert "made up" in result["warnings"], "the engine's own warnings stay"


@pytest.mark.parametrize("name", NOT_AVAILABLE)
def test_what_is_not_built_is_refused_and_not_ignored(server: Served, name: str):
    text = server.error("neural_train_distributed", **{name: 1.0})
    assert text.startswith("not_available: neural_train_distributed: ")
    assert "not encrypted" in text
    assert server.double.asked == []


@pytest.mark.parametrize("name", [*REFUSED, "reduceLrOnPlateau"])
def test_a_name_that_would_mislead_is_refused_with_the_reason(server: Served, name: str):
    text = server.error("neural_node_deploy", **{name: 3})
    assert text.startswith(f"invalid_arguments: neural_node_deploy: '{name}' is not an argument: ")
    assert server.double.asked == []


def test_federated_on_init_points_to_the_training(server: Served):
    text = server.error("neural_cluster_init", federated=True)
    assert "neural_train_distributed" in text


@pytest.mark.parametrize(
    ("tool", "wrong", "right"),
    [
        ("neural_train_distributed", "epoch", "epochs"),
        ("neural_train_distributed", "bath_size", "batch_size"),
        ("neural_train_distributed", "learningrate", "learning_rate"),
        ("neural_train_distributed", "early_stopping", "patience"),
        ("neural_train_distributed", "n_iter_no_change", "patience"),
        ("neural_cluster_init", "topolgy", "topology"),
        ("neural_cluster_init", "achitekture", "architecture"),
        ("neural_node_deploy", "capability", "capabilities"),
        ("neural_predict_distributed", "aggregtion", "aggregation"),
        ("neural_cluster_status", "wait_second", "wait_seconds"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest_one(
    server: Served, tool: str, wrong: str, right: str
):
    text = server.error(tool, **{wrong: 1})
    assert f"'{wrong}' is not an argument; did you mean '{right}'? Accepted: " in text
    assert ERROR_FORM.match(text)
    assert server.double.asked == []


@pytest.mark.parametrize(
    ("tool", "word", "right"),
    [
        ("neural_train_distributed", "lr", "learning_rate"),
        ("neural_train_distributed", "max_epochs", "epochs"),
        ("neural_train_distributed", "maxEpochs", "epochs"),
        ("neural_train_distributed", "label", "target"),
        ("neural_train_distributed", "lookback", "window"),
        ("neural_train_distributed", "random_state", "seed"),
        ("neural_train_distributed", "validation_split", "validation_size"),
        ("neural_train_distributed", "valSize", "validation_size"),
        ("neural_train_distributed", "test_split", "test_size"),
        ("neural_train_distributed", "train_size", "test_size"),
        ("neural_train_distributed", "n_splits", "folds"),
        ("neural_train_distributed", "file", "dataset"),
        ("neural_train_distributed", "class_weights", "class_weight"),
        ("neural_train_distributed", "pos_label", "positive_class"),
        ("neural_predict_distributed", "cutoff", "threshold"),
        ("neural_predict_distributed", "record", "input_data"),
        ("neural_predict_distributed", "voting", "aggregation"),
        ("neural_predict_distributed", "timeout", "deadline_ms"),
        ("neural_cluster_status", "timeout", "wait_seconds"),
        ("neural_node_deploy", "network", "layers"),
        ("neural_cluster_terminate", "force", "delete_artifacts"),
    ],
)
def test_a_word_of_other_tools_is_refused_with_the_argument_that_it_means(
    server: Served, tool: str, word: str, right: str
):
    text = server.error(tool, **{word: 1})
    assert f"'{word}' is not an argument; did you mean '{right}'?" in text
    assert server.double.asked == []


@pytest.mark.parametrize(
    ("tool", "sent", "right"),
    [
        ("neural_cluster_init", {"architecture": "LSTM"}, "rnn"),
        ("neural_cluster_init", {"topology": "fully_connected"}, "mesh"),
        ("neural_cluster_init", {"topology": "heirarchical"}, "hierarchical"),
        ("neural_predict_distributed", {"aggregation": "voting"}, "majority"),
        ("neural_predict_distributed", {"aggregation": "Soft Voting"}, "mean"),
        ("neural_train_distributed", {"optimizer": "AdamW"}, "adam"),
        ("neural_node_deploy", {"model": "medium"}, "large"),
        ("neural_node_deploy", {"role": "client"}, "worker"),
        ("neural_cluster_status", {"until": "finished"}, "done"),
    ],
)
def test_a_value_of_other_tools_is_refused_with_the_choice_that_it_means(
    server: Served, tool: str, sent: dict, right: str
):
    text = server.error(tool, **sent)
    assert f"; did you mean '{right}'?" in text
    assert "; expected one of " in text
    assert server.double.asked == []


def test_every_argument_that_is_wrong_is_named_in_one_error(server: Served):
    answer = server.call(
        "neural_train_distributed",
        {"cluster_id": CLUSTER, "lr": 0.1, "nonsense": 1, "epochs": 0, "optimizer": "adamw"},
    )
    text = answer.content[0].text
    assert ERROR_FORM.match(text)
    for part in (
        "'lr' is not an argument; did you mean 'learning_rate'?",
        "'nonsense' is not an argument;",
        "'optimizer' is \"adamw\"",
        "'epochs' is 0; expected a number from 1 to 1000",
        "'dataset' is missing",
        "Accepted: cluster_id, dataset, ",
    ):
        assert part in text
    assert server.double.asked == []


def test_many_wrong_arguments_are_counted_where_they_do_not_fit(server: Served):
    text = server.error("neural_train_distributed", **{f"nonsense_{i}": i for i in range(30)})
    named = text.count("is not an argument")
    assert 3 <= named < 30
    assert f"; and {30 - named} more. Accepted: " in text
    assert len(text) < 1000


def test_what_does_not_exist_beside_what_is_wrong_is_told_with_its_own_advice(server: Served):
    text = server.error(
        "neural_train_distributed", homomorphic_encryption=True, loss="mse", epoch=3
    )
    assert text.startswith(
        "invalid_arguments: neural_train_distributed: 'homomorphic_encryption' is not available"
    )
    for part in (
        "'loss' is not an argument: ",
        "did you mean 'epochs'?",
        "Pass secure_aggregation",
    ):
        assert part in text


@pytest.mark.parametrize("blank", ["", "  "])
@pytest.mark.parametrize("name", ["training_id", "node_id"])
def test_an_empty_id_never_ends_the_whole_cluster(server: Served, name: str, blank: str):
    text = server.error("neural_cluster_terminate", **{name: blank})
    assert f"'{name}' is " in text
    assert server.double.asked == []


@pytest.mark.parametrize(
    ("tool", "sent", "says"),
    [
        (
            "neural_train_distributed",
            {"epochs": 0},
            "'epochs' is 0; expected a number from 1 to 1000",
        ),
        ("neural_train_distributed", {"epochs": 2.5}, "'epochs' is 2.5; expected a whole number"),
        ("neural_train_distributed", {"epochs": True}, "'epochs' is true; expected a number"),
        (
            "neural_train_distributed",
            {"optimizer": "adamw"},
            "expected one of adam, sgd, rmsprop, adagrad",
        ),
        ("neural_train_distributed", {"learning_rate": 2}, "from 1e-05 to 1"),
        ("neural_node_deploy", {"autonomy": 1.1}, "from 0 to 1"),
        ("neural_node_deploy", {"capabilities": ["a", "b c"]}, "'capabilities[1]' is \"b c\""),
        ("neural_node_deploy", {"capabilities": ["a"] * 17}, "at most 16 entries"),
        ("neural_node_deploy", {"layers": "[{"}, "or JSON text of it"),
        ("neural_predict_distributed", {"weights": {"a": -1}}, "'weights.a' is -1"),
        ("neural_cluster_init", {"name": ""}, "'name' is missing"),
        ("neural_predict_distributed", {"input_data": ""}, "'input_data' is missing"),
        ("neural_cluster_init", {"name": "x" * 65}, "at most 64 characters"),
        ("neural_cluster_status", {"wait_seconds": 26}, "from 0 to 25"),
    ],
)
def test_a_wrong_value_is_shown_with_what_would_be_right(
    server: Served, tool: str, sent: dict, says: str
):
    text = server.error(tool, **sent)
    assert says in text
    assert ERROR_FORM.match(text)
    assert server.double.asked == []


def test_a_missing_argument_is_named(server: Served):
    answer = server.call("neural_train_distributed", {"cluster_id": CLUSTER})
    assert answer.is_error
    assert "'dataset' is missing" in answer.content[0].text


def test_a_long_value_is_cut_in_the_text(server: Served):
    text = server.error("neural_train_distributed", optimizer="z" * 5000)
    assert "..." in text
    assert len(text) < 1000
