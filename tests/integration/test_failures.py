"""How the engine's failures reach a caller, and what never does."""

import logging
import re

import anyio
import pytest

from flow_nexus_neural import errors
from flow_nexus_neural.server.errors import error_text
from tests.doubles.engine_double import CLUSTER, EngineDouble
from tests.doubles.limits import HANG_S
from tests.integration.served import GOOD_CALLS, Served, connected, text_of

ERROR_FORM = re.compile(r"^[a-z_]+: .+\. .+")


def leaves(kind: type[errors.NeuralError]) -> list[type[errors.NeuralError]]:
    below = kind.__subclasses__()
    return [leaf for one in below for leaf in leaves(one)] if below else [kind]


@pytest.mark.parametrize("kind", leaves(errors.NeuralError), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("hint", ["", "Call neural_cluster_init"])
def test_every_error_of_the_tree_is_worded_with_its_code_and_a_next_step(
    server: Served, kind: type[errors.NeuralError], hint: str
):
    server.double.fail_with = kind("worker-1 did not do it, got 3", hint=hint)
    answer = server.call("neural_cluster_status", GOOD_CALLS["neural_cluster_status"])
    text = text_of(answer)
    assert answer.is_error
    assert answer.structured_content is None
    assert text.startswith(f"{server.double.fail_with.code}: worker-1 did not do it, got 3. ")
    assert ERROR_FORM.match(text)
    assert hint in text


@pytest.mark.parametrize(
    "message",
    ["x" * 5000, "a\nb\x00c", "lone \ud800 surrogate", "ends with a dot.", "", "really?", " "],
)
def test_whatever_an_error_says_its_text_is_one_short_line_that_can_be_sent(message: str):
    text = error_text(errors.NodeDied(message, hint="y" * 5000))
    assert ERROR_FORM.match(text)
    assert "\n" not in text
    assert len(text) < 1000
    text.encode("utf-8")
    assert ".." not in text.replace("...", "")


def test_an_unexpected_failure_shows_an_incident_number_and_the_log_has_the_traceback(
    server: Served, caplog: pytest.LogCaptureFixture
):
    server.double.fail_with = RuntimeError("secret /home/user/x")
    with caplog.at_level(logging.ERROR):
        answer = server.call("neural_cluster_init", {"name": "x"})
    text = text_of(answer)
    assert answer.is_error
    assert answer.structured_content is None
    incident = re.search(r"incident ([0-9a-f]{4})\)", text)
    assert text.startswith("internal_error: ")
    assert incident
    assert "secret" not in text
    assert "Traceback" not in text
    (record,) = [one for one in caplog.records if incident[1] in one.getMessage()]
    assert record.exc_info[1] is server.double.fail_with
    server.double.fail_with = None
    server.result("neural_cluster_status")


async def test_a_call_is_answered_while_another_one_waits():
    for mode in ("auto", "legacy"):
        double = EngineDouble()
        double.progress_steps = -1
        async with connected(mode, double) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "neural_cluster_status", {"cluster_id": CLUSTER})
            with anyio.fail_after(HANG_S):
                await double.waiting.wait()
                answer = await client.call_tool(
                    "neural_predict_distributed", {"cluster_id": CLUSTER, "input_data": {"a": 1}}
                )
            assert not answer.is_error
            tasks.cancel_scope.cancel()


async def test_a_cancelled_wait_frees_at_once_and_the_next_call_is_answered():
    for mode in ("auto", "legacy"):
        double = EngineDouble()
        double.progress_steps = -1
        async with connected(mode, double) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "neural_cluster_status", {"cluster_id": CLUSTER})
            with anyio.fail_after(HANG_S):
                await double.waiting.wait()
            tasks.cancel_scope.cancel()
        double.progress_steps = 0
        async with connected(mode, double) as client:
            with anyio.fail_after(HANG_S):
                answer = await client.call_tool("neural_cluster_status", {"cluster_id": CLUSTER})
            assert not answer.is_error
