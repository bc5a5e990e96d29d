"""What the tools return, in both protocol eras, over a double of the engine."""

import json
import math

import jsonschema
import pytest

from tests.doubles.engine_double import CLUSTER, NODE, PI, TRAINING
from tests.integration.served import GOOD_CALLS, Served, served, text_of

NESTED_ALIASES = {"from", "to"}

FIELDS = {
    "neural_cluster_init": """success id cluster_id name topology architecture consensus status created config
        daa_enabled wasm_enabled guarantees isolation max_nodes created_at warnings restored""",
    "neural_node_deploy": """success id node_id sandbox_id node_ids slots cluster_id slot role node_type
        status healthy model model_size capabilities autonomy autonomy_level template runtime layers
        layers_source parameters wasm
        implied_head incarnation replaces synced_version sync_ms deduplicated joins pid isolation deployed_at
        warnings""",
    "neural_cluster_connect": """success cluster_id topology declared_topology previous_topology status
        pending changed applied topology_epoch connections connections_established edges nodes_connected
        connected
        diameter spectral_gap aggregation rebalanced advice warnings""",
    "neural_train_distributed": """success id training_id session_id job_id cluster_id status nodes_training
        participating_nodes epochs total_epochs total_rounds config dataset_info networks guarantees
        poll_after_ms started_at privacy warnings""",
    "neural_cluster_status": """success id cluster_id name topology declared_topology architecture consensus
        status created_at uptime uptime_seconds active_nodes total_nodes failed_nodes recovering_nodes
        training_status
        training_progress training_error training global_accuracy global_loss evaluation communication_bytes
        communication_mb communication avg_latency latency agreement recent_predictions
        error_rate memory_usage memory_bytes memory_source
        nodes processes retired_nodes links learnt guarantees exchange consensus_report daa performance
        wasm features
        model_version serving feedback dataset_info versions history training_sessions timed_out changed
        poll_after_ms warnings""",
    "neural_predict_distributed": """success cluster_id prediction_id task prediction predictions confidence
        confidences probabilities interval prediction_set adapted_level raw_prediction calibrated classes
        positive_class
        threshold decision consensus node_agreement
        effective_ensemble_size error_correlation node_predictions individual_predictions aggregation
        aggregation_method weights_source weights_outcomes symbol_experts feedback_recorded
        nodes_used nodes_expected excluded_nodes quorum confidence_source stacker source backends
        degraded stale
        degraded_reason model_version bundle_sha input_report latency_ms synthetic_training_data
        output warnings""",
    "neural_model_export": """success cluster_id model_version bundle_sha format path files bytes sha256
        task inputs outputs verified not_verified not_included privacy warnings""",
    "neural_model_import": """success id cluster_id name model_version source consensus task classes nodes
        healthy_nodes networks accuracy loss privacy warnings""",
    "neural_cluster_terminate": """success cluster_id status already_terminated nodes_terminated training_id
        node_id message checkpoints_kept artifacts_path final_metrics terminated_at warnings""",
    "neural_cluster_list": "success clusters live ended warnings",
}
NODE_FIELDS = """id node_id sandbox_id slot role type status state healthy model model_size capabilities
    autonomy connections incarnation rounds_done loss rows memory_bytes memory_limit_bytes parameters
    pol last_error pid placement isolation_level"""


@pytest.mark.parametrize("tool", FIELDS)
def test_a_result_has_exactly_the_fields_of_the_contract_and_the_schema_requires_them_all(
    server: Served, tool: str
):
    expected = set(FIELDS[tool].split())
    schema = next(one.output_schema for one in server.tools() if one.name == tool)
    assert set(server.result(tool)) == expected
    assert set(schema["properties"]) == expected
    assert set(schema["required"]) == expected


def test_a_node_in_a_status_has_exactly_the_fields_of_the_contract(server: Served):
    node = server.result("neural_cluster_status")["nodes"][0]
    assert set(node) == set(NODE_FIELDS.split())


def test_what_autonomy_and_single_nodes_report_holds_no_field_that_can_have_one_value_only(
    server: Served,
):
    daa = server.result("neural_cluster_status")["daa"]
    counts = {"executed", "recommended", "suppressed"}
    assert set(daa) == {"enabled", "level_effective", "events"} | counts
    (one,) = server.result("neural_predict_distributed")["individual_predictions"]
    assert set(one) == {"node_id", "slot", "prediction", "latency_ms"}


@pytest.mark.parametrize("tool", GOOD_CALLS)
def test_a_result_is_sent_as_structure_and_once_as_the_same_compact_text(server: Served, tool: str):
    answer = server.call(tool, GOOD_CALLS[tool])
    text = text_of(answer)
    assert text == json.dumps(answer.structured_content, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize("tool", GOOD_CALLS)
def test_a_result_fits_its_published_schema(server: Served, tool: str):
    schema = next(one.output_schema for one in server.tools() if one.name == tool)
    jsonschema.validate(server.result(tool), schema, cls=jsonschema.Draft202012Validator)


def test_the_ids_of_a_cluster_a_node_and_a_training_go_by_all_their_names(server: Served):
    cluster = server.result("neural_cluster_init")
    assert cluster["id"] == cluster["cluster_id"] == CLUSTER
    node = server.result("neural_node_deploy", autonomy=0, model="xl")
    assert node["id"] == node["node_id"] == node["sandbox_id"] == NODE.format(1)
    assert node["model"] == node["model_size"] == "xl"
    assert node["autonomy"] == node["autonomy_level"] == 0
    training = server.result("neural_train_distributed", epochs=7)
    assert {training[name] for name in ("id", "training_id", "session_id", "job_id")} == {TRAINING}
    assert training["epochs"] == training["total_epochs"] == 7
    connection = server.result("neural_cluster_connect")
    assert connection["connections"] == connection["connections_established"] == 1
    prediction = server.result("neural_predict_distributed", aggregation="ensemble")
    assert prediction["aggregation"] == prediction["aggregation_method"] == "ensemble"
    line = server.result("neural_cluster_status")["nodes"][0]
    assert line["id"] == line["node_id"] == line["sandbox_id"]
    assert (line["type"], line["state"], line["model_size"]) == ("worker", "healthy", "large")


def test_an_edge_names_its_ends_from_and_to(server: Served):
    (edge,) = server.result("neural_cluster_connect")["edges"]
    assert edge == {"from": "worker-0", "to": "worker-1", "latency_ms": 3.14159}


def test_floats_are_rounded_to_six_digits_and_integers_and_hashes_are_exact(server: Served):
    status = server.result("neural_cluster_status", detail="full")
    assert status["training"]["train_loss"] == 3.14159 != PI
    assert status["communication_mb"] == 1602.38
    assert status["communication_bytes"] == 1_602_376_568
    assert status["training"]["evidence"]["weights_digest_after"] == "71" * 32
    assert status["history"][3]["bytes"] == 32_047_531


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf, None])
def test_a_loss_that_is_not_a_number_is_null_and_still_fits_the_schema(server: Served, lost: float):
    server.double.replace = {"global_loss": lost, "global_accuracy": lost}
    status = server.result("neural_cluster_status")
    schema = next(
        one.output_schema for one in server.tools() if one.name == "neural_cluster_status"
    )
    assert status["global_loss"] is None
    assert status["global_accuracy"] is None
    jsonschema.validate(status, schema, cls=jsonschema.Draft202012Validator)


def test_a_required_float_that_is_not_a_number_is_an_error_and_not_an_invented_number(
    server: Served,
):
    server.double.replace = {"training_progress": math.nan}
    answer = server.call("neural_cluster_status", GOOD_CALLS["neural_cluster_status"])
    assert answer.is_error
    assert text_of(answer).startswith("internal_error: ")


def test_a_read_only_server_offers_only_what_reads():
    from flow_nexus_neural.settings import Settings

    with served("auto", Settings(read_only=True)) as reader:
        assert [tool.name for tool in reader.tools()] == [
            "neural_cluster_status",
            "neural_predict_distributed",
            "neural_cluster_plot",
            "neural_cluster_list",
        ]
        assert all(tool.annotations.read_only_hint for tool in reader.tools())
        answer = reader.call("neural_cluster_terminate", {"cluster_id": CLUSTER})
        assert answer.is_error
        assert text_of(answer).startswith("invalid_arguments: there is no tool")
        assert "--read-only. Tools: neural_cluster_status" in text_of(answer)
        assert reader.double.asked == []
