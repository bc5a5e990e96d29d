"""Every error that this version can raise is raised by the product, and its text names what helps.

Nodes are objects in this process, so that faults can be planned; server, engine, data and store are real.
"""

import json
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from mcp import Client

from flow_nexus_neural import errors
from flow_nexus_neural.engine.patience import USUAL_PATIENCE
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import Loaded, Trained
from flow_nexus_neural.runtime.base import NodeSpec
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from flow_nexus_neural.runtime.inproc.runtime import InprocNode, InprocRuntime
from flow_nexus_neural.runtime.process.isolation import judge
from flow_nexus_neural.server.app import build_server
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.integration.product import LAYERS, honest, product
from tests.integration.served import text_of

ERROR_FORM = re.compile(r"^[a-z_]+: .+\. .+")
XOR = "synthetic:xor#rows=60"

INSIDE = {
    "fenced",
    "node_died",
    "node_fault",
    "node_timeout",
    "node_unavailable",
    "protocol_violation",
    "quorum_lost",
    "update_rejected",
}
"""What befalls single nodes: callers read it in `excluded`, `last_error` and inside other errors."""

Provoke = Callable[[Path], Awaitable[str]]
CASES: list[tuple[str, tuple[str, ...], Provoke]] = []


def case(code: str, *names: str) -> Callable[[Provoke], Provoke]:
    """Register a way to provoke an error; `names` are regular expressions found in its text, in order."""

    def register(provoke: Provoke) -> Provoke:
        CASES.append((code, names, provoke))
        return provoke

    return register


def refused(code: str, *names: str, tool: str, **arguments: Any) -> None:
    """Register a call that one worker's cluster refuses."""

    @case(code, *names)
    async def provoke(folder: Path) -> str:
        async with product(folder / "state", data_dir=folder) as it:
            return await it.error(tool, **{"cluster_id": await it.cluster(), **arguments})

    provoke.__name__ = tool


refused(
    "invalid_arguments",
    "'epoch'",
    "did you mean 'epochs'",
    "Accepted: cluster_id, dataset, epochs",
    tool="train_distributed",
    dataset=XOR,
    epoch=3,
)
refused(
    "invalid_arguments",
    "'epochs' is 0",
    "1 to 1000",
    tool="train_distributed",
    dataset=XOR,
    epochs=0,
)
refused(
    "invalid_arguments",
    "'optimizer' is \"adamw\"",
    "adam, sgd, rmsprop, adagrad",
    tool="train_distributed",
    dataset=XOR,
    optimizer="adamw",
)
refused("invalid_arguments", "'dataset' is missing", "Accepted: ", tool="train_distributed")
refused(
    "invalid_arguments",
    "rounds",
    "federated is false",
    "federated: true",
    tool="train_distributed",
    dataset=XOR,
    rounds=3,
)
refused(
    "invalid_arguments",
    "clients_per_round=9",
    "the 1 worker",
    "neural_node_deploy",
    tool="train_distributed",
    dataset=XOR,
    federated=True,
    clients_per_round=9,
)
refused(
    "invalid_arguments",
    "target",
    "'q'",
    "x0, x1, target",
    tool="train_distributed",
    dataset=XOR,
    target="q",
)
refused(
    "cluster_not_found",
    "'nowhere'",
    r"dnc_\w{12} \(c\)",
    "neural_cluster_init",
    tool="cluster_status",
    cluster_id="nowhere",
)
refused(
    "node_not_found",
    "'worker-7'",
    r"worker-0 \(node_\w{12}\)",
    "neural_cluster_status",
    "neural_node_deploy",
    tool="node_deploy",
    replace_node_id="worker-7",
)
refused(
    "training_not_found",
    "'trn_x'",
    "it has none",
    "neural_train_distributed",
    tool="cluster_status",
    training_id="trn_x",
)
refused(
    "no_workers",
    "needs 4 workers and 1 take part",
    "neural_node_deploy",
    tool="train_distributed",
    dataset=XOR,
    federated=True,
    min_nodes_per_round=4,
)
refused(
    "invalid_architecture",
    r"layers\[1\]",
    "'attentoin'",
    "did you mean 'attention'",
    tool="node_deploy",
    layers=[*LAYERS, {"type": "attentoin"}],
)
refused(
    "invalid_architecture",
    r"layers\[0\] lstm",
    "'units' is missing",
    "1-2048",
    "Arguments of lstm",
    tool="node_deploy",
    layers=[{"type": "lstm"}],
)
refused(
    "unsupported_combination",
    "'custom'",
    "layers",
    "'base', 'large' or 'xl'",
    tool="node_deploy",
    model="custom",
)
refused(
    "dataset_not_found",
    "'nope'",
    "--data-dir",
    "crypto_market_historical_data",
    "synthetic:xor",
    tool="train_distributed",
    dataset="nope",
)
refused(
    "data_too_small",
    "2 usable rows",
    "at least 30",
    tool="train_distributed",
    dataset={"X": [[1], [2]], "y": [0, 1]},
)
refused(
    "path_not_allowed",
    "'/etc/passwd'",
    "data directory /.+--data-dir",
    "--allow-path",
    tool="train_distributed",
    dataset="/etc/passwd",
)
refused(
    "source_unavailable",
    "'https://example.com/a.csv'",
    "nothing is downloaded",
    "CSV",
    "data directory",
    tool="train_distributed",
    dataset="https://example.com/a.csv",
)
refused(
    "not_available",
    "'homomorphic_encryption'",
    "not encrypted",
    "secure_aggregation",
    tool="train_distributed",
    dataset=XOR,
    homomorphic_encryption=True,
)
refused(
    "not_available",
    "'bucketing'",
    "federated_averaging",
    tool="train_distributed",
    dataset=XOR,
    federated=True,
    aggregation_method="bucketing",
)
refused(
    "not_trained",
    r"dnc_\w{12}",
    "neural_train_distributed",
    "neural_cluster_status",
    tool="predict_distributed",
    input_data={"x0": 1},
)


def damaged(content: str, *names: str) -> None:
    """Register a data file that cannot be used."""

    @case("invalid_dataset", *names)
    async def file_is_damaged(folder: Path) -> str:
        (folder / "bad.csv").write_text(content)
        async with product(folder / "state", data_dir=folder) as it:
            return await it.error(
                "train_distributed", cluster_id=await it.cluster(), dataset="bad.csv"
            )


damaged("a,b,y\n1,2,0\n1,2\n" * 40, "'bad.csv'", "line 3", "2 fields, the header has 3")
damaged("a,y\n" + "1,0\n" * 40, "'y'", "value 0 in every row", "two different values")
damaged("a,y\n" + "1,0\n2,1.5\n" * 40 + "3,inf\n", "'y'", "not finite in 1 of 81 rows")
damaged(
    "t,y\n" + "".join(f"name {row},{row % 2}\n" for row in range(40)),
    "no column is left as a feature",
    "t",
    "numeric column",
)


@case("ambiguous_cluster", "2 live clusters", r"dnc_\w{12}, dnc_\w{12}")
async def a_name_is_used_twice(folder: Path) -> str:
    async with product(folder / "state") as it:
        for _ in range(2):
            await it.result("cluster_init", name="twin")
        return await it.error("cluster_status", cluster_id="twin")


@case("cluster_terminated", r"at 20\d\d-\d\d-\d\dT", "neural_cluster_init")
async def the_cluster_has_ended(folder: Path) -> str:
    async with product(folder / "state") as it:
        cluster_id = await it.cluster()
        await it.result("cluster_terminate", cluster_id=cluster_id)
        return await it.error("node_deploy", cluster_id=cluster_id)


@case("cluster_exists", "topology: has 'mesh', asked 'ring'", "seed: has 1, asked 4")
async def the_one_to_reuse_is_another(folder: Path) -> str:
    async with product(folder / "state") as it:
        await it.cluster()
        return await it.error("cluster_init", name="c", topology="ring", seed=4, reuse=True)


@case(
    "no_workers", "at least 1 healthy worker", "0 are present", "0 of 1 workers, 1 of 1 validators"
)
async def the_only_worker_is_dead(folder: Path) -> str:
    async with product(folder / "state") as it:
        cluster_id = await it.cluster()
        await it.result("node_deploy", cluster_id=cluster_id, role="validator")
        it.kill("worker-0")
        with anyio.fail_after(HANG_S):
            while (await it.result("cluster_status", cluster_id=cluster_id))["failed_nodes"] == 0:
                await it.result("cluster_status", cluster_id=cluster_id, wait_seconds=1)
        return await it.error("train_distributed", cluster_id=cluster_id, dataset=XOR)


@case("no_workers", "at least 1 healthy node", "0 are present", "no nodes", "neural_node_deploy")
async def there_is_nobody_to_connect(folder: Path) -> str:
    async with product(folder / "state") as it:
        return await it.error("cluster_connect", cluster_id=await it.cluster(0))


@case("privacy_budget_spent", "max_epsilon 0.5", "would spend 4.37718", "Raise max_epsilon")
async def the_budget_is_less_than_a_round(folder: Path) -> str:
    async with product(folder / "state") as it:
        return await it.error(
            "train_distributed",
            cluster_id=await it.cluster(2),
            dataset="synthetic:xor",
            federated=True,
            privacy={"mode": "central_dp", "noise_multiplier": 1, "max_epsilon": 0.5},
        )


@case("limit_exceeded", "1 live clusters", "limit is 1", "--max-clusters")
async def too_many_clusters(folder: Path) -> str:
    async with product(folder / "state", max_clusters=1) as it:
        await it.cluster(0)
        return await it.error("cluster_init", name="second")


@case("limit_exceeded", "has 1 nodes", "limit is 1", "--max-nodes")
async def too_many_nodes(folder: Path) -> str:
    async with product(folder / "state", max_nodes=1) as it:
        return await it.error("node_deploy", cluster_id=await it.cluster(1))


@case(
    "limit_exceeded",
    r"network has 25 parameters",
    "limit is 20",
    r"layers\[0\]",
    "--max-parameters",
)
async def too_many_parameters(folder: Path) -> str:
    async with product(folder / "state", max_parameters=20) as it:
        return await it.error("train_distributed", cluster_id=await it.cluster(1), dataset=XOR)


@case("limit_exceeded", "rows=60", "limit of 50", "--max-rows")
async def too_many_rows(folder: Path) -> str:
    async with product(folder / "state", max_rows=50) as it:
        return await it.error("train_distributed", cluster_id=await it.cluster(1), dataset=XOR)


@case("invalid_topology", "mesh of 33 nodes", "528 links", "at most 32", "star or hierarchical")
async def a_mesh_is_too_large(folder: Path) -> str:
    async with product(folder / "state", max_nodes=40) as it:
        return await it.error("cluster_connect", cluster_id=await it.cluster(33))


@case("training_running", r"trn_\w{12}", r"at [\d.]+ %", "wait_seconds", "neural_cluster_terminate")
async def a_training_is_under_way(folder: Path) -> str:
    runtime = InprocRuntime(honest, FaultPlan().slow("worker-0", "train", delay_s=30))
    async with product(folder / "state", runtime) as it:
        cluster_id = await it.cluster()
        await it.result("train_distributed", cluster_id=cluster_id, dataset=XOR)
        return await it.error("train_distributed", cluster_id=cluster_id, dataset=XOR)


@case("invalid_record", "'x0' is 'abc'", "inputs: x0, x1", r'for example \{"x0": ')
async def a_record_holds_a_word(folder: Path) -> str:
    async with product(folder / "state") as it:
        return await it.error(
            "predict_distributed",
            cluster_id=await it.trained(dataset=XOR),
            input_data={"x0": "abc"},
        )


@case("no_known_feature", "it has: zz", "inputs: x0, x1", r'for example \{"x0": ')
async def a_record_holds_nothing_known(folder: Path) -> str:
    async with product(folder / "state") as it:
        return await it.error(
            "predict_distributed", cluster_id=await it.trained(dataset=XOR), input_data={"zz": 1}
        )


@case(
    "no_serving_node",
    "0 of 1 serving nodes",
    "1 asked",
    "deadline 60 ms",
    "worker-0",
    "deadline_ms",
)
async def the_serving_node_is_frozen(folder: Path) -> str:
    runtime = InprocRuntime(honest, FaultPlan().freeze("worker-0", "predict"))
    async with product(folder / "state", runtime) as it:
        cluster_id = await it.trained(dataset=XOR)
        return await it.error(
            "predict_distributed", cluster_id=cluster_id, input_data={"x0": 1}, deadline_ms=60
        )


@case("overloaded", "64 predictions", "after 100 ms", "list")
async def too_many_predictions_wait(folder: Path) -> str:
    runtime = InprocRuntime(honest, FaultPlan().freeze("worker-0", "predict"))
    async with product(folder / "state", runtime) as it:
        call = {
            "cluster_id": await it.trained(dataset=XOR),
            "input_data": {"x0": 1},
            "deadline_ms": 5000,
        }
        refusals: list[str] = []

        async def predict() -> None:
            refusals.append(text_of(await it.call("predict_distributed", **call)))
            waiting.cancel_scope.cancel()  # the first to be answered is the one that was refused

        async with anyio.create_task_group() as waiting:
            for _ in range(65):
                waiting.start_soon(predict)
        return refusals[0]


@case("no_workers", "needs 2 workers", "min_nodes_per_round", "1 can train", "neural_node_deploy")
async def fewer_workers_are_left_than_the_caller_insists_on(folder: Path) -> str:
    runtime = InprocRuntime(honest, FaultPlan().kill("worker-1", "train"))
    async with product(folder / "state", runtime) as it:
        cluster_id = await it.cluster(2)
        await it.result(
            "train_distributed",
            cluster_id=cluster_id,
            dataset=XOR,
            federated=True,
            min_nodes_per_round=2,
        )
        status = await it.done(cluster_id)
        assert status["training_status"] == "failed"
        assert status["global_loss"] is None
        return status["training_error"]


class Divergent(NodeService):
    """Publishes what is not a number."""

    def attach(self, key: str, arrays: Any, *, writable: bool) -> None:
        super().attach(key, arrays, writable=writable)
        self.published = arrays if writable else getattr(self, "published", {})

    def handle(self, request: Any, arrays: Any, poll: Any) -> Any:
        reply, out = super().handle(request, arrays, poll)
        if isinstance(reply, Trained):
            self.published["params"][:] = np.nan
        return reply, out


def divergent(spec: NodeSpec) -> NodeService:
    return Divergent(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)


@case(
    "round_failed",
    "0 of 1 needed updates",
    "worker-0: .*?not finite",
    "neural_cluster_status",
    "learning_rate",
    "a version that was committed before stays in force",
)
async def no_update_is_finite(folder: Path) -> str:
    async with product(folder / "state", InprocRuntime(divergent)) as it:
        cluster_id = await it.cluster()
        await it.result("train_distributed", cluster_id=cluster_id, dataset=XOR)
        status = await it.done(cluster_id)
        assert status["training_status"] == "failed"
        return status["training_error"]


@case("round_failed", "none of 1 serving workers", "former links stay", "neural_cluster_status")
async def nobody_delivers_at_a_star(folder: Path) -> str:
    runtime = InprocRuntime(honest, FaultPlan().kill("worker-0", "get_weights", nth=2))
    async with product(folder / "state", runtime) as it:
        cluster_id = await it.trained(dataset=XOR)
        return await it.error("cluster_connect", cluster_id=cluster_id, topology="star")


@case(
    "consensus_unavailable",
    "1 of 3 voters are alive and 2 are needed",
    "lost: worker-1, worker-2",
    "neural_node_deploy",
    "neural_cluster_status",
)
async def most_voters_are_dead(folder: Path) -> str:
    ports = Ports(patience=replace(USUAL_PATIENCE, majority_s=3.0))
    async with product(folder / "state", ports=ports) as it:
        cluster_id = await it.cluster(3, consensus="raft")
        await it.result("train_distributed", cluster_id=cluster_id, dataset=XOR, epochs=1)
        assert (await it.done(cluster_id))["training_status"] == "completed"
        it.kill("worker-1")
        it.kill("worker-2")
        return await it.error("cluster_connect", cluster_id=cluster_id, topology="star")


def no_service(spec: NodeSpec) -> NodeService:
    raise RuntimeError(f"{spec.slot} lacks a library")


@case("node_start_failed", "worker-0", "lacks a library")
async def the_node_ends_while_it_starts(folder: Path) -> str:
    async with product(folder / "state", InprocRuntime(no_service)) as it:
        return await it.error("node_deploy", cluster_id=await it.cluster(0), layers=LAYERS)


class Forgetful(NodeService):
    """Says it holds other weights than it was given."""

    def handle(self, request: Any, arrays: Any, poll: Any) -> Any:
        reply, out = super().handle(request, arrays, poll)
        if isinstance(reply, Loaded):
            reply = reply.model_copy(update={"digest": "0" * len(reply.digest)})
        return reply, out


def second_is_forgetful(spec: NodeSpec) -> NodeService:
    kind = Forgetful if spec.slot == "worker-1" else NodeService
    return kind(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)


@case(
    "sync_mismatch",
    "worker-1",
    "holds weights 0{12}",
    r"loading [0-9a-f]{12}",
    "neural_node_deploy",
)
async def a_new_node_holds_other_weights(folder: Path) -> str:
    async with product(folder / "state", InprocRuntime(second_is_forgetful)) as it:
        cluster_id = await it.trained(dataset=XOR)
        return await it.error("node_deploy", cluster_id=cluster_id, layers=LAYERS)


@case("runtime_unavailable", "runtime")
async def the_runtime_is_closed(folder: Path) -> str:
    runtime = InprocRuntime(honest)
    async with product(folder / "state", runtime) as it:
        cluster_id = await it.cluster(0)
        await runtime.aclose()
        return await it.error("node_deploy", cluster_id=cluster_id, layers=LAYERS)


class Unconfined(InprocRuntime):
    """Nodes that could not confine themselves at all, judged as real ones are."""

    async def start(self, spec: NodeSpec, *, ready_timeout_s: float = 30.0) -> InprocNode:
        node = await super().start(spec, ready_timeout_s=ready_timeout_s)
        try:
            judge(1, {}, {}, "strict")
        except errors.IsolationUnavailable:
            await node.stop(grace_s=0)
            raise
        return node


@case(
    "isolation_unavailable",
    "'strict' is required",
    "reached '",
    r"missing: \w",
    "--require-isolation",
)
async def a_node_cannot_be_confined(folder: Path) -> str:
    async with product(folder / "state", Unconfined(honest)) as it:
        return await it.error("node_deploy", cluster_id=await it.cluster(0), layers=LAYERS)


@case("state_dir_locked", r"process \d+", "--state-dir")
async def another_server_has_the_directory(folder: Path) -> str:
    async with product(folder / "state") as first:
        await first.cluster(0)
        async with product(folder / "state") as second:
            return await second.error("cluster_init", name="late")


@case("store_unavailable", "state directory", "Not a directory|File exists", "permissions")
async def the_state_directory_is_a_file(folder: Path) -> str:
    (folder / "state").write_text("")
    async with product(folder / "state") as it:
        return await it.error("cluster_init", name="c")


@case("store_corrupt", r"cluster dnc_\w{12}", "entry 0", "neural_cluster_init")
async def the_journal_was_changed(folder: Path) -> str:
    async with product(folder / "state") as it:
        cluster_id = await it.trained(dataset=XOR)
    with sqlite3.connect(folder / "state" / "state.db") as database:
        (body,) = database.execute("SELECT body FROM ledger WHERE seq = 0").fetchone()
        changed = json.dumps({**json.loads(body), "kind": "forged"})
        database.execute("UPDATE ledger SET body = ? WHERE seq = 0", (changed,))
    database.close()
    async with product(folder / "state") as it:
        return await it.error("cluster_status", cluster_id=cluster_id)


async def without_engine(host: EngineHost) -> str:
    async with Client(build_server(host, Settings())) as client:
        return text_of(await client.call_tool("neural_cluster_init", {"name": "c"}))


@case("shutting_down", "Start the server again")
async def the_server_is_stopping(folder: Path) -> str:
    host = EngineHost(lambda: pytest.fail("opened"))
    async with host.running():
        pass
    return await without_engine(host)


@case("internal_error", r"incident [0-9a-f]{4}\)", "log")
async def something_unforeseen_happens(folder: Path) -> str:
    def fail() -> Any:
        raise ZeroDivisionError("secret")

    host = EngineHost(fail)
    async with host.running():
        text = await without_engine(host)
    assert "secret" not in text
    return text


def leaves(kind: type[errors.NeuralError]) -> Iterator[str]:
    below = kind.__subclasses__()
    if not below:
        yield kind("").code
    for one in below:
        yield from leaves(one)


def test_every_code_of_the_tree_is_provoked_below_or_is_known_not_to_reach_a_caller():
    provoked = {code for code, _, _ in CASES}
    assert provoked.isdisjoint(INSIDE)
    assert provoked | INSIDE == set(leaves(errors.NeuralError))


@pytest.mark.parametrize(
    ("code", "names", "provoke"),
    CASES,
    ids=[f"{code}-{provoke.__name__}" for code, _, provoke in CASES],
)
async def test_the_error_is_raised_and_names_what_helps(
    tmp_path: Path, code: str, names: tuple[str, ...], provoke: Provoke
):
    text = await provoke(tmp_path)
    assert text.startswith(f"{code}: "), text
    place = 0
    for name in names:
        found = re.compile(name).search(text, place)
        assert found, f"{name!r} is not in {text[place:]!r}"
        place = found.end()
    assert ERROR_FORM.match(text), text
    assert len(text) < 1000
    assert "\n" not in text
    assert "Traceback" not in text
