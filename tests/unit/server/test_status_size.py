import json

from pydantic import JsonValue

from flow_nexus_neural.engine.reports import NodeStatus, ShardInfo, TrainingSession
from flow_nexus_neural.server.rounding import wire_json
from flow_nexus_neural.server.schemas import StatusResult
from flow_nexus_neural.server.status_size import MAX_STATUS_BYTES, short_enough
from tests.doubles.engine_double import CLUSTER, LONG_AGO, node_status, status_report


def status_of(nodes: list[NodeStatus], n_sessions: int = 0) -> StatusResult:
    session = TrainingSession(
        training_id="trn_000000000001",
        status="completed",
        rounds_done=5,
        total_rounds=5,
        started_at=LONG_AGO,
        ended_at=LONG_AGO,
        error=None,
    )
    report = status_report(nodes, full=True)
    return StatusResult.of(report.model_copy(update={"training_sessions": [session] * n_sessions}))


def talkative(number: int) -> NodeStatus:
    return node_status(number).model_copy(update={"last_error": "e" * 300})


def n_bytes(status: StatusResult) -> int:
    return len(json.dumps(wire_json(status), separators=(",", ":")).encode())


def test_a_status_of_the_usual_size_is_returned_as_it_is():
    status = status_of([node_status(i) for i in range(11)])
    assert short_enough(status).result is status


def test_the_history_goes_first_keeps_its_ends_and_says_where_the_rest_is():
    status = status_of([node_status(i) for i in range(36)])
    assert n_bytes(status) > MAX_STATUS_BYTES
    short = short_enough(status).result
    assert [point.round for point in short.history] == [0, 5, 10, 14, 19]
    assert n_bytes(short) <= MAX_STATUS_BYTES
    assert short.nodes == status.nodes
    (warning,) = short.warnings
    assert f"neural://clusters/{CLUSTER}/history" in warning


def proved(number: int) -> NodeStatus:
    counts: dict[str, JsonValue] = {
        "segments": 2000,
        "challenged": 200,
        "verified": 200,
        "failed": 0,
        "unavailable": 0,
        "strikes": 0,
        "last_reason": "segment 3 of 10 gives another state" if number == 7 else None,
    }
    return node_status(number).model_copy(update={"pol": counts})


def test_proofs_without_a_fault_go_before_what_nodes_say():
    short = short_enough(status_of([proved(i) for i in range(36)])).result
    assert n_bytes(short) <= MAX_STATUS_BYTES
    assert [node.slot for node in short.nodes if node.pol is not None] == ["worker-7"]
    assert any("proofs were all valid" in warning for warning in short.warnings)


def test_what_nodes_say_goes_next_and_old_sessions_last():
    status = status_of([talkative(i) for i in range(32)], n_sessions=40)
    short = short_enough(status).result
    assert n_bytes(short) <= MAX_STATUS_BYTES
    assert len(short.nodes) == 32
    assert all(node.last_error is None for node in short.nodes)
    assert len(short.training_sessions) == 5
    assert len(short.warnings) == 3


def test_the_shards_of_many_workers_are_left_out_before_old_sessions():
    status = status_of([node_status(i) for i in range(20)])
    shards = [
        ShardInfo(
            slot=f"worker-{k}", rows=9, symbols=[], labels={f"class {n}": 0.1 for n in range(10)}
        )
        for k in range(64)
    ]
    training = status.training.model_copy(update={"shards": shards})
    short = short_enough(status.model_copy(update={"training": training})).result
    assert n_bytes(short) <= MAX_STATUS_BYTES
    assert short.training.shards is None
    assert any("training.shards" in warning for warning in short.warnings)
