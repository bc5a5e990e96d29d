"""A file system that hangs costs the call that reads from it, and neither other calls nor the end."""

import sys
import threading
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from mcp import Client

from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.patience import USUAL_PATIENCE
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from flow_nexus_neural.server.app import build_server
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.doubles.stdio_client import ServerProcess, wait_until
from tests.integration.product import Product, honest, product

ROOT = Path(__file__).parents[2]
CSV = "a,b,y\n" + "".join(f"{i},{i * i % 7},{i % 2}\n" for i in range(60))
N_CALLS = 3
"""One more than the engine has threads for its own work."""


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch):
    """Reading `hang*` hangs until the test is over."""
    over, begun = threading.Event(), []
    read = DataFile._read

    def hanging(self: DataFile, place: int) -> bytes:
        if self.name.startswith("hang"):
            begun.append(self.name)
            over.wait()
        return read(self, place)

    monkeypatch.setattr(DataFile, "_read", hanging)
    yield begun
    over.set()


async def test_a_read_that_hangs_is_given_up_with_an_error_that_says_so(tmp_path: Path, hung):
    root = tmp_path / "data"
    root.mkdir()
    (root / "hang.csv").write_text(CSV)
    made = Settings(state_dir=tmp_path / "state", data_dir=root)
    ports = Ports(patience=replace(USUAL_PATIENCE, data_s=1.0))
    async with InprocRuntime(honest) as nodes:
        host = EngineHost(lambda: Engine.open(made, runtime=nodes, ports=ports))
        async with host.running(), Client(build_server(host, made)) as client:
            product = Product(client, nodes)
            cluster_id = await product.cluster()
            for _ in range(N_CALLS):
                error = await product.error(
                    "train_distributed", cluster_id=cluster_id, dataset="hang.csv"
                )
                assert error.startswith("limit_exceeded: reading the data took more than 1 s")
    assert set(hung) == {
        "hang.csv"
    }  # on a busy machine one may be given up before it began to read


async def test_other_calls_go_on_while_reads_hang(tmp_path: Path, hung):
    root = tmp_path / "data"
    root.mkdir()
    (root / "hang.csv").write_text(CSV)
    async with product(tmp_path / "state", data_dir=root) as served:
        hanging = [await served.cluster() for _ in range(N_CALLS)]
        async with anyio.create_task_group() as tasks:
            for cluster_id in hanging:
                tasks.start_soon(
                    lambda cluster_id=cluster_id: served.call(
                        "train_distributed", cluster_id=cluster_id, dataset="hang.csv"
                    )
                )
            with anyio.fail_after(HANG_S):
                while len(hung) < N_CALLS:  # noqa: ASYNC110 - what is awaited happens in threads
                    await anyio.sleep(0.01)
            cluster_id = await served.trained(epochs=1)
            assert (await served.done(cluster_id))["training_status"] == "completed"
            tasks.cancel_scope.cancel()


@pytest.mark.skipif(sys.platform != "linux", reason="the server's nodes need Linux")
@pytest.mark.parametrize(("name", "n_calls"), [("hang.csv", N_CALLS), ("late.csv", N_CALLS - 1)])
def test_the_end_of_input_ends_a_server_whose_threads_hang(
    tmp_path: Path, monkeypatch, name: str, n_calls: int
):
    root, marks = tmp_path / "data", tmp_path / "marks"
    root.mkdir()
    marks.touch()
    (root / name).write_text(CSV)
    monkeypatch.setenv("HUNG", str(marks))
    places = ["--state-dir", str(tmp_path / "state"), "--data-dir", str(root)]
    command = [sys.executable, "-m", "tests.doubles.hanging_reads", *places]
    with ServerProcess(command, ROOT, tmp_path / "stderr") as server:
        client = server.client
        client.initialize()
        ids = []
        for _ in range(n_calls):
            ids.append(client.result("neural_cluster_init", {"name": "c"})["id"])
            client.result(
                "neural_node_deploy",
                {"cluster_id": ids[-1], "layers": [{"type": "dense", "units": 2}]},
            )
        for number, cluster_id in enumerate(ids):
            arguments = {"cluster_id": cluster_id, "dataset": name}
            client.send(
                {
                    "jsonrpc": "2.0",
                    "id": 1_000 + number,
                    "method": "tools/call",
                    "params": {"name": "neural_train_distributed", "arguments": arguments},
                }
            )
        wait_until(lambda: marks.read_text().count("hung") == n_calls, "all calls hang")
        server.process.stdin.close()
        wait_until(lambda: server.process.poll() is not None, "the server has ended")
