"""A server on one machine of a Ray cluster of two: the same results, and machines that are lost."""

import json
import os
import signal
import sys
from contextlib import asynccontextmanager

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from tests.doubles.limits import HANG_S
from tests.doubles.runtimes import gone, until
from tests.integration.product import Product
from tests.machines.hosts import HEAD, OTHER, freeze
from tests.sim.simulated import blobs

pytestmark = pytest.mark.anyio

LAYERS = [{"type": "dense", "units": 6, "activation": "tanh"}]
DATA = json.dumps(blobs(120))
ROLES = ("parameter_server", "worker", "worker", "worker", "worker", "aggregator")
PATIENT = ("--node-ready-timeout-s", "100")


@asynccontextmanager
async def served(command, environment):
    server = StdioServerParameters(
        command=command[0], args=[*command[1:], *PATIENT], env=dict(environment)
    )
    async with Client(server, read_timeout_seconds=HANG_S * 2) as client:
        yield Product(client, None)


async def built(it, roles=ROLES):
    made = await it.result("cluster_init", name="c", seed=7, daaEnabled=False)
    for role in roles:
        await it.result("node_deploy", cluster_id=made["id"], role=role, layers=LAYERS)
    await it.result("cluster_connect", cluster_id=made["id"], topology="star")
    return made["id"]


async def train(it, cluster_id, epochs=3):
    await it.result("train_distributed", cluster_id=cluster_id, dataset=DATA, epochs=epochs)


async def status_of(it, cluster_id):
    return await it.result("cluster_status", cluster_id=cluster_id)


async def result_of(command, environment):
    """Build, train and predict; what was committed, where the nodes were, and an answer."""
    async with served(command, environment) as it:
        cluster_id = await built(it)
        placed = {
            node["slot"]: node["placement"] for node in (await status_of(it, cluster_id))["nodes"]
        }
        await train(it, cluster_id)
        status = await it.done(cluster_id)
        assert status["training_status"] == "completed", status["training_error"]
        answer = await asked(it, cluster_id)
        history = (
            await it.client.read_resource(f"neural://clusters/{cluster_id}/history")
        ).contents
        rounds = [
            (point["train_loss"], point["val_loss"])
            for point in json.loads(history[0].text)["rounds"]
        ]
        digest = status["training"]["evidence"]["weights_digest_after"]
        return (digest, rounds, answer["probabilities"]), placed, status


async def asked(it, cluster_id):
    return await it.result(
        "predict_distributed",
        cluster_id=cluster_id,
        input_data=json.dumps([1.0, 1.0, 1.0]),
        deadline_ms=20_000,
    )


async def until_failed(it, cluster_id, slots):
    with anyio.fail_after(HANG_S):
        while True:
            status = await it.result("cluster_status", cluster_id=cluster_id, wait_seconds=1)
            failed = {node["slot"] for node in status["nodes"] if node["status"] == "failed"}
            if failed >= slots:
                return status


def slots_at(status, address):
    return {
        node["slot"]
        for node in status["nodes"]
        if node["placement"] and node["placement"]["address"] == address
    }


async def come_back(it, cluster_id, slots):
    """Replace every lost slot, as a monitor does; the cluster may have done so by itself meanwhile."""
    with anyio.fail_after(HANG_S):
        while True:
            status = await status_of(it, cluster_id)
            nodes = {node["slot"]: node for node in status["nodes"]}
            away = [nodes[slot] for slot in slots if not nodes[slot]["healthy"]]
            if not away:
                break
            for node in away:
                named = {"role": node["role"], "replace_node_id": node["id"]}
                await it.call("node_deploy", cluster_id=cluster_id, **named)
    assert {nodes[slot]["incarnation"] for slot in slots} == {2}


async def test_two_machines_commit_what_one_does_and_nodes_are_spread(machines, tmp_path):
    alone = [sys.executable, "-m", "flow_nexus_neural", "--state-dir", str(tmp_path / "one")]
    one, nowhere, _ = await result_of(alone, {"PATH": os.environ["PATH"]})
    command = machines.server("--state-dir", str(tmp_path / "two"))
    two, placed, status = await result_of(command, machines.environment)
    assert two == one
    assert set(nowhere.values()) == {None}
    assert sorted(place["address"] for place in placed.values()) == [HEAD] * 3 + [OTHER] * 3
    assert {place["host"] for place in placed.values()} == {"first.example", "second.example"}
    assert {node["isolation_level"] for node in status["nodes"]} == {"strict"}
    assert status["communication"]["inter_host_bytes"] > 0


async def test_a_lost_machine_closes_no_training_and_its_nodes_come_back_on_the_other(
    machines, tmp_path
):
    async with served(machines.server("--state-dir", str(tmp_path)), machines.environment) as it:
        cluster_id = await built(it)
        await train(it, cluster_id, epochs=2)
        await it.done(cluster_id)
        lost = slots_at(await status_of(it, cluster_id), OTHER)
        assert len(lost) == 3
        await train(it, cluster_id, epochs=40)
        await it.result("cluster_status", cluster_id=cluster_id, wait_seconds=1)
        machines.second.stop()
        status = await until_failed(it, cluster_id, lost)
        assert {node["slot"] for node in status["nodes"] if node["status"] == "failed"} == lost
        assert (await asked(it, cluster_id))["nodes_used"] > 0
        ended = await it.done(cluster_id)
        assert ended["training_status"] == "completed"
        await come_back(it, cluster_id, lost)
        assert slots_at(await status_of(it, cluster_id), HEAD) >= lost


async def test_a_killed_agent_loses_its_nodes_only_and_its_machine_takes_nodes_again(
    machines, tmp_path
):
    async with served(machines.server("--state-dir", str(tmp_path)), machines.environment) as it:
        cluster_id = await built(it, ROLES[1:5])
        lost = slots_at(await status_of(it, cluster_id), OTHER)
        there = machines.processes_of(machines.second)
        (agent,) = [pid for pid, words in there.items() if "ray::HostAgent" in words]
        below = [
            pid
            for pid, words in there.items()
            if "ray.host_process" in words or "node.zygote" in words
        ]
        assert len(below) >= 2
        os.kill(agent, signal.SIGKILL)
        status = await until_failed(it, cluster_id, lost)
        assert {node["slot"] for node in status["nodes"] if node["status"] == "failed"} == lost
        await until(lambda: all(gone(pid) for pid in below))
        await come_back(it, cluster_id, lost)
        status = await status_of(it, cluster_id)
        assert status["failed_nodes"] == 0


async def test_a_frozen_machine_is_lost_and_counts_for_nothing_when_it_wakes_up(machines, tmp_path):
    async with served(machines.server("--state-dir", str(tmp_path)), machines.environment) as it:
        cluster_id = await built(it, ROLES[1:5])
        lost = slots_at(await status_of(it, cluster_id), OTHER)
        frozen = [pid for pid in machines.processes_of(machines.second) if pid != _holder(machines)]
        freeze(frozen)
        await until_failed(it, cluster_id, lost)
        await come_back(it, cluster_id, lost)
        await train(it, cluster_id, epochs=1)
        done = await it.done(cluster_id)
        assert done["training_status"] == "completed"
        agents = _host_processes(machines)
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        await until(lambda: all(gone(pid) for pid in agents))
        status = await status_of(it, cluster_id)
        assert status["failed_nodes"] == 0
        assert {node["incarnation"] for node in status["nodes"]} == {1, 2}


def _holder(machines):
    return machines.second.namespace.pid


def _host_processes(machines):
    there = machines.processes_of(machines.second)
    return [pid for pid, words in there.items() if "ray.host_process" in words]
