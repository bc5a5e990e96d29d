"""What tools answer while another server has the state directory."""

import pytest

from flow_nexus_neural.engine.requests import ListRequest, StatusRequest
from flow_nexus_neural.server.dashboard.view import VIEW_SPEC, ViewRequest
from flow_nexus_neural.server.stored_answers import (
    NULL_WHERE_STORED,
    stored_clusters,
    stored_status,
    stored_summary,
)
from flow_nexus_neural.server.tools import TOOL_SPECS

pytestmark = pytest.mark.anyio


class Answers:
    async def status(self, request):
        return {"asked": request}

    async def clusters(self, request):
        return {"asked": request}


async def test_each_tool_that_only_reads_what_is_stored_asks_for_it_in_its_own_words():
    status = StatusRequest(cluster_id="dnc_1", detail="summary", wait_seconds=3)
    assert (await stored_status(Answers(), status))["asked"] == status
    view = (await stored_status(Answers(), ViewRequest(cluster_id="dnc_1")))["asked"]
    assert (view.cluster_id, view.detail, view.wait_seconds) == ("dnc_1", "full", 0)
    listed = ListRequest(include_ended=True, limit=3)
    assert (await stored_clusters(Answers(), listed))["asked"] == listed


def test_no_tool_that_changes_or_computes_something_answers_from_a_copy():
    reading = {spec.name for spec in (*TOOL_SPECS, VIEW_SPEC) if spec.stored is not None}
    assert reading == {"neural_cluster_status", "neural_cluster_list", "neural_cluster_view"}


def test_what_is_null_then_may_be_null_by_the_published_schema():
    (status,) = (spec for spec in TOOL_SPECS if spec.name == "neural_cluster_status")
    published = status.output_schema()["properties"]
    for name in NULL_WHERE_STORED:
        assert {"type": "null"} in published[name]["anyOf"], name


def test_a_summary_says_that_it_is_of_what_is_stored():
    status = {"name": "one", "cluster_id": "dnc_1", "total_nodes": 3, "training": None}
    status["active_nodes"] = None
    assert stored_summary(status).startswith(
        "Cluster one (dnc_1) as it is stored, with 3 nodes; not"
    )
    training = {"current_round": 4, "total_rounds": 9}
    told = stored_summary({**status, "training": training, "training_status": "running"})
    assert "training running, round 4 of 9 stored" in told


def test_a_summary_of_a_cluster_that_has_ended_names_no_server_that_has_it():
    ended = {"name": "one", "cluster_id": "dnc_1", "total_nodes": 0, "training": None}
    assert "Another server has it" in stored_summary({**ended, "active_nodes": None})
    assert "server" not in stored_summary({**ended, "active_nodes": 0})
