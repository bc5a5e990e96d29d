"""What init, deploy and connect promise, through the tools: every word they take and what they say of it.

Nodes are objects in this process; server, engine and store are real.
"""

import re
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest

from flow_nexus_neural.engine.requests import Architecture, Topology
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from tests.doubles.limits import HANG_S
from tests.integration.product import LAYERS, product
from tests.sim.simulated import honest

FAMILY = {
    "transformer": ["transformer_encoder"],
    "cnn": ["conv1d"],
    "rnn": ["lstm"],
    "gnn": ["graph_conv"],
    "hybrid": ["lstm", "conv1d", "transformer_encoder"],
}
LIMIT_MB = {"base": 256, "large": 512, "xl": 1024, "custom": 1024}


async def node_of(it: Any, cluster_id: str, slot: str) -> dict[str, Any]:
    nodes = (await it.result("cluster_status", cluster_id=cluster_id))["nodes"]
    return next(node for node in nodes if node["slot"] == slot)


async def test_a_cluster_has_the_settings_it_was_asked_for_and_says_which_of_them_do_nothing(
    tmp_path: Path,
):
    async with product(tmp_path, max_nodes=5, max_rows=900, max_parameters=700) as it:
        made = await it.result(
            "cluster_init",
            name="trading-neural-cluster",
            topology="hierarchical",
            architecture="hybrid",
            wasmOptimization=True,
            daaEnabled=True,
            consensus="byzantine",
            seed=9,
        )
        wasm = made["config"].pop("wasm_optimization")
        assert made["config"] == {
            "topology": "hierarchical",
            "architecture": "hybrid",
            "consensus": "byzantine",
            "daa_enabled": True,
            "seed": 9,
            "max_nodes": 5,
            "limits": {"max_parameters": 700, "max_rows": 900},
        }
        assert (wasm["requested"], wasm["active"], made["wasm_enabled"]) == (True, False, False)
        assert "server's process" in wasm["reason"]
        assert (made["status"], made["created"], made["daa_enabled"]) == ("initialized", True, True)
        assert (made["name"], made["topology"]) == ("trading-neural-cluster", "hierarchical")
        assert (made["architecture"], made["consensus"]) == ("hybrid", "byzantine")
        assert (made["guarantees"]["n"], made["guarantees"]["holds"]) == (0, False)
        assert made["isolation"]["level"]
        assert made["max_nodes"] == 5
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*Z", made["created_at"])
        assert re.fullmatch(r"dnc_[0-9a-f]{12}", made["id"])


async def test_only_a_name_is_needed_and_the_rest_has_its_documented_default(tmp_path: Path):
    async with product(tmp_path) as it:
        config = (await it.result("cluster_init", name="plain"))["config"]
        assert (config["topology"], config["architecture"]) == ("mesh", "transformer")
        assert config["consensus"] == "proof-of-learning"
        assert (config["daa_enabled"], config["wasm_optimization"]["requested"]) == (True, True)
        assert config["max_nodes"] == 32
        assert config["limits"] == {"max_parameters": 10_000_000, "max_rows": 1_000_000}
        off = await it.result("cluster_init", name="off", daaEnabled=False, wasmOptimization=False)
        assert off["daa_enabled"] is False
        assert off["config"]["wasm_optimization"]["requested"] is False


async def test_a_seed_that_was_not_given_is_drawn_and_told(tmp_path: Path):
    async with product(tmp_path) as it:
        drawn = [(await it.result("cluster_init", name="s"))["config"]["seed"] for _ in range(2)]
        assert all(isinstance(seed, int) and 0 <= seed < 2**63 for seed in drawn)
        assert drawn[0] != drawn[1]


async def test_reuse_returns_the_newest_live_cluster_of_the_name_and_makes_none(tmp_path: Path):
    async with product(tmp_path) as it:
        older = await it.result("cluster_init", name="c", topology="ring")
        newer = await it.result("cluster_init", name="c", topology="ring")
        again = await it.result("cluster_init", name="c", topology="ring", reuse=True)
        assert (again["id"], again["created"], again["status"]) == (newer["id"], False, "ready")
        assert again["config"]["seed"] == newer["config"]["seed"]
        await it.result("cluster_terminate", cluster_id=newer["id"])
        again = await it.result("cluster_init", name="c", topology="ring", reuse=True)
        assert again["id"] == older["id"]
        await it.result("cluster_terminate", cluster_id=older["id"])
        fresh = await it.result("cluster_init", name="c", topology="ring", reuse=True)
        assert fresh["created"] is True
        assert fresh["id"] not in {older["id"], newer["id"]}


async def test_a_second_cluster_of_a_name_is_made_and_the_first_one_is_told_of(tmp_path: Path):
    async with product(tmp_path) as it:
        first = await it.result("cluster_init", name="c")
        second = await it.result("cluster_init", name="c")
        assert first["warnings"] == []
        assert second["id"] != first["id"]
        (warning,) = second["warnings"]
        assert first["id"] in warning


async def test_a_live_cluster_is_found_by_its_name(tmp_path: Path):
    async with product(tmp_path) as it:
        made = await it.result("cluster_init", name="by name")
        found = await it.result("cluster_status", cluster_id="by name")
        assert found["id"] == made["id"]


async def test_the_id_of_a_node_in_place_of_a_clusters_leads_to_the_cluster(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.trained()
        status = await it.result("cluster_status", cluster_id=cluster_id)
        for wrong in (status["nodes"][0]["id"], status["training"]["training_id"]):
            text = await it.error("cluster_status", cluster_id=wrong)
            assert text.startswith("cluster_not_found: ")
            assert cluster_id in text


@pytest.mark.parametrize("architecture", get_args(Architecture))
async def test_each_architecture_gives_workers_without_layers_its_own_network(
    tmp_path: Path, architecture: str
):
    async with product(tmp_path) as it:
        cluster_id = await it.cluster(0, architecture=architecture)
        for kind in FAMILY[architecture]:
            node = await it.result("node_deploy", cluster_id=cluster_id, replace=False)
            assert kind in [layer["type"] for layer in node["layers"]]
            assert node["layers_source"] == "default"


async def test_byzantine_consensus_is_in_force_without_a_word_about_aggregation(tmp_path: Path):
    async with product(tmp_path) as it:
        made = await it.result("cluster_init", name="c", consensus="byzantine")
        assert "0 updates cannot outvote 1" in made["guarantees"]["reason"]
        for _ in range(4):
            await it.result("node_deploy", cluster_id=made["id"], layers=LAYERS)
        training = await it.result(
            "train_distributed", cluster_id=made["id"], dataset="synthetic:xor#rows=60", epochs=1
        )
        status = await it.done(made["id"])
        config = training["config"]
        assert (config["aggregation_method"], config["byzantine_f"]) == ("auto", 1)
        for stated in (training["guarantees"], status["guarantees"]):
            assert (stated["holds"], stated["f_tolerated"], stated["reason"]) == (True, 1, None)
        assert status["consensus_report"]["byzantine"]["rule_last"] == "trimmed_mean"


async def test_raft_is_in_force_and_the_status_names_its_voters(tmp_path: Path):
    async with product(tmp_path) as it:
        made = await it.result("cluster_init", name="c", consensus="raft")
        for _ in range(4):
            await it.result("node_deploy", cluster_id=made["id"], layers=LAYERS)
        training = await it.result(
            "train_distributed", cluster_id=made["id"], dataset="synthetic:xor#rows=60", epochs=1
        )
        status = await it.done(made["id"])
        assert status["training_status"] == "completed"
        for stated in (training["guarantees"], status["guarantees"]):
            assert (stated["mode"], stated["n"], stated["f_tolerated"]) == ("raft", 3, 1)
            assert stated["holds"]
            assert not any("not part of this version" in note for note in stated["notes"])
        report = status["consensus_report"]
        assert report["available"]
        raft = report["raft"]
        voters = [voter["slot"] for voter in raft["voters"]]
        assert voters == ["worker-0", "worker-1", "worker-2"]
        assert raft["applied_index"] == raft["commit_index"] > 1
        # On a busy machine an election may be on at the moment of the status above.
        with anyio.fail_after(HANG_S):
            while (leader := raft["leader"]) is None:
                status = await it.result("cluster_status", cluster_id=made["id"])
                raft = status["consensus_report"]["raft"]
        assert leader in voters


async def test_proof_of_learning_is_in_force_without_a_word_about_it(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.cluster(3)
        training = await it.result(
            "train_distributed",
            cluster_id=cluster_id,
            dataset="synthetic:xor#rows=400",
            epochs=2,
            federated=True,
        )
        assert training["guarantees"]["holds"] is True
        status = await it.done(cluster_id)
        assert status["training_status"] == "completed"
        stated, proofs = status["guarantees"], status["consensus_report"]["pol"]
        assert (stated["mode"], stated["holds"], stated["f_tolerated"]) == (
            "proof-of-learning",
            True,
            2,
        )
        assert (proofs["verified_rounds"], proofs["excluded_updates"]) == (2, 0)
        assert proofs["verifier"] == "engine"
        for node in status["nodes"]:
            assert node["pol"]["verified"] == node["pol"]["challenged"] > 0


async def test_gossip_is_in_force_and_connect_and_status_say_what_it_costs(tmp_path: Path):
    nodes = InprocRuntime(honest, peer_views=True)
    async with product(tmp_path, nodes) as it:
        cluster_id = await it.cluster(4, topology="ring", consensus="gossip")
        made = await it.result("cluster_connect", cluster_id=cluster_id)
        assert "spectral gap 0.667" in " ".join(made["advice"])
        training = await it.result(
            "train_distributed", cluster_id=cluster_id, dataset="synthetic:xor#rows=60", epochs=2
        )
        assert training["config"]["aggregation_method"] == "gossip"
        status = await it.done(cluster_id)
        assert status["training_status"] == "completed"
        for stated in (training["guarantees"], status["guarantees"]):
            assert (stated["holds"], stated["f_tolerated"], stated["reason"]) == (True, 0, None)
        report = status["consensus_report"]["gossip"]
        assert report["spectral_gap"] == pytest.approx(2 / 3, abs=1e-3)
        assert (report["connected"], report["diameter"], report["members"]) == (True, 2, 4)
        assert report["consensus_distance"] > 0


@pytest.mark.parametrize("topology", get_args(Topology))
async def test_each_topology_is_planned_measured_and_reported(tmp_path: Path, topology: str):
    async with product(tmp_path) as it:
        cluster_id = await it.cluster(4, topology=topology)
        await it.result(
            "node_deploy", cluster_id=cluster_id, role="parameter_server", layers=LAYERS
        )
        made = await it.result("cluster_connect", cluster_id=cluster_id)
        n_edges, diameter = {"mesh": (10, 1), "ring": (5, 2), "star": (4, 2)}.get(topology, (4, 2))
        assert (made["topology"], made["declared_topology"]) == (topology, topology)
        assert (made["connections"], made["connections_established"]) == (n_edges, n_edges)
        assert (made["diameter"], made["connected"]) == (diameter, True)
        assert len(made["edges"]) == n_edges
        assert all(edge["latency_ms"] > 0 for edge in made["edges"])
        assert made["spectral_gap"] > 0
        assert (made["nodes_connected"], made["previous_topology"]) == (5, None)
        assert (made["status"], made["pending"], made["applied"]) == ("connected", False, "now")
        assert all("cannot share memory" in text for text in made["warnings"])
        status = await it.result("cluster_status", cluster_id=cluster_id)
        assert status["features"]["connections_active"] == n_edges
        assert sum(node["connections"] for node in status["nodes"]) == 2 * n_edges


async def test_another_topology_replaces_the_current_one_and_not_the_declared_one(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.cluster(3, topology="hierarchical")
        first = await it.result("cluster_connect", cluster_id=cluster_id)
        star = await it.result("cluster_connect", cluster_id=cluster_id, topology="star")
        assert (star["topology"], star["previous_topology"]) == ("star", "hierarchical")
        assert star["declared_topology"] == "hierarchical"
        assert star["topology_epoch"] == first["topology_epoch"] + 1
        assert star["aggregation"]["performed"] is False
        assert star["aggregation"]["reason"] == "not_trained"
        status = await it.result("cluster_status", cluster_id=cluster_id)
        assert (status["topology"], status["declared_topology"]) == ("star", "hierarchical")
        back = await it.result("cluster_connect", cluster_id=cluster_id)
        assert (back["topology"], back["changed"]) == ("hierarchical", True)
        same = await it.result("cluster_connect", cluster_id=cluster_id)
        assert (same["changed"], same["topology_epoch"]) == (False, back["topology_epoch"])
        assert same["rebalanced"] == {"moved_shards": 0}


async def test_a_connect_of_a_costly_topology_advises_another_one(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.cluster(9, topology="ring")
        ring = await it.result("cluster_connect", cluster_id=cluster_id)
        assert ring["advice"]
        star = await it.result("cluster_connect", cluster_id=cluster_id, topology="star")
        assert star["advice"] != ring["advice"]


async def test_a_node_is_told_of_as_it_runs_and_keeps_what_was_asked(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.cluster(0)
        node = await it.result(
            "node_deploy",
            cluster_id=cluster_id,
            node_type="worker",
            role="worker",
            model="large",
            capabilities=["btc_analysis", "real_time_inference"],
            autonomy=0,
            template="nodejs",
            layers=[{"type": "lstm", "units": 4, "return_sequences": True}],
        )
        assert re.fullmatch(r"node_[0-9a-f]{12}", node["sandbox_id"])
        assert (node["id"], node["node_id"]) == (node["sandbox_id"], node["sandbox_id"])
        assert (node["cluster_id"], node["slot"]) == (cluster_id, "worker-0")
        assert (node["role"], node["node_type"]) == ("worker", "worker")
        assert (node["status"], node["healthy"], node["incarnation"]) == ("deployed", True, 1)
        assert (node["model"], node["model_size"]) == ("large", "large")
        assert node["capabilities"] == ["btc_analysis", "real_time_inference"]
        assert (node["autonomy"], node["autonomy_level"]) == (0, 0)
        assert node["template"] == "nodejs"
        assert node["runtime"] == "inproc"  # what it really is, whatever the template says
        (layer,) = node["layers"]
        assert (layer["activation"], layer["recurrent_activation"]) == ("tanh", "sigmoid")
        assert (node["layers_source"], node["joins"]) == ("given", "now")
        assert node["parameters"] is node["implied_head"] is node["replaces"] is None
        assert node["synced_version"] is node["sync_ms"] is None
        assert node["deduplicated"] is False
        assert set(node["isolation"]) >= {"level", "layers", "probes", "not_enforced"}
        assert node["deployed_at"].endswith("Z")
        assert any("layers win over model 'large'" in warning for warning in node["warnings"])
        seen = await node_of(it, cluster_id, "worker-0")
        told = ("id", "role", "model_size", "capabilities", "autonomy", "healthy")
        assert {name: seen[name] for name in told} == {name: node[name] for name in told}


async def test_a_node_without_wishes_has_the_documented_defaults(tmp_path: Path):
    async with product(tmp_path) as it:
        node = await it.result("node_deploy", cluster_id=await it.cluster(0))
        assert (node["role"], node["node_type"], node["model"]) == ("worker", "worker", "base")
        assert node["capabilities"] == ["training", "inference"]
        assert (node["autonomy"], node["template"]) == (0.8, "nodejs")


async def test_parameters_and_head_are_known_once_the_data_is(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.trained()
        node = await it.result("node_deploy", cluster_id=cluster_id)
        assert (node["layers_source"], node["parameters"]) == ("peer", 6 * 3 + 7)
        assert node["implied_head"] is True
        assert node["synced_version"] is not None
        assert node["sync_ms"] > 0


@pytest.mark.parametrize("model", LIMIT_MB)
async def test_each_model_size_has_its_own_memory_limit(tmp_path: Path, model: str):
    async with product(tmp_path, node_memory_mb=512) as it:
        cluster_id = await it.cluster(0)
        await it.result("node_deploy", cluster_id=cluster_id, model=model, layers=LAYERS)
        node = await node_of(it, cluster_id, "worker-0")
        assert node["memory_limit_bytes"] == LIMIT_MB[model] << 20


async def test_each_model_size_but_custom_has_its_own_default_network(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.cluster(0, architecture="rnn")
        units = {}
        for model in ("base", "large", "xl"):
            node = await it.result("node_deploy", cluster_id=cluster_id, model=model)
            units[model] = node["layers"][0]["units"]
        assert units == {"base": 64, "large": 128, "xl": 256}
