"""Clients in turns on workers that fail; whole trainings are in tests/sim/test_each_client.py."""

from types import SimpleNamespace

import pytest

from flow_nexus_neural.engine.training import client_rounds
from flow_nexus_neural.engine.training.client_rounds import _Losses, divided_round
from flow_nexus_neural.engine.training.left_out import LeftOut
from tests.unit.engine.building import slot


def test_a_worker_that_is_lost_is_left_out_of_the_round_and_one_whose_update_is_refused_is_not():
    of_round = LeftOut()
    of_wave, lost, doubted = _Losses(of_round), slot("worker-0"), slot("worker-1")
    of_wave.add(lost, "died")
    of_wave.refuse(doubted, "is not finite")
    assert of_round.holds(lost)
    assert not of_round.holds(doubted)
    assert of_wave.refused == {"worker-1": "is not finite"}
    assert of_wave.reasons(()) == {"worker-0": "died"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.parametrize(("federated", "expected"), [(True, "federated"), (False, "local")])
async def test_who_trains_by_shards_is_asked_as_before(monkeypatch, federated, expected):
    async def found(name):
        return name

    monkeypatch.setattr(client_rounds, "federated_round", lambda *_: found("federated"))
    monkeypatch.setattr(client_rounds, "local_sgd_round", lambda *_: found("local"))
    setting = SimpleNamespace(virtual=None, config=SimpleNamespace(federated=federated))
    assert await divided_round(setting, 1, []) == expected
