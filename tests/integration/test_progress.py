"""Progress notifications while a call waits."""

import pytest

from flow_nexus_neural.server import progress as pacing
from tests.doubles.engine_double import CLUSTER
from tests.integration.served import Served


class Clock:
    """A monotonic clock that advances by a fixed step whenever it is read."""

    def __init__(self, step_s: float) -> None:
        self.now_s = 0.0
        self.step_s = step_s

    def monotonic(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def heard(server: Served, tool: str, steps: int) -> list[tuple[float, float | None, str | None]]:
    received = []

    async def listen(done: float, total: float | None, message: str | None) -> None:
        received.append((done, total, message))

    server.double.progress_steps = steps
    answer = server.call(tool, {"cluster_id": CLUSTER}, progress_callback=listen)
    assert not answer.is_error
    return received


@pytest.mark.parametrize("tool", ["neural_cluster_status", "neural_cluster_connect"])
def test_a_wait_reports_progress_with_a_message(
    server: Served, tool: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pacing, "time", Clock(step_s=0.3))
    received = heard(server, tool, steps=5)
    assert [done for done, _, _ in received] == [0, 1, 2, 3, 4]
    assert received[3] == (3, 50, "round 3/50 loss 0.661 acc 0.602")


def test_reports_within_a_quarter_of_a_second_are_dropped(
    server: Served, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pacing, "time", Clock(step_s=0.1))
    received = heard(server, "neural_cluster_status", steps=10)
    assert [done for done, _, _ in received] == [0, 3, 6, 9]


def test_a_client_that_did_not_ask_for_progress_gets_its_result_all_the_same(server: Served):
    server.double.progress_steps = 5
    assert server.result("neural_cluster_status")["success"] is True
