"""What a node may use: whole units, more for a larger model, and in proportion to the operator's setting."""

from typing import get_args

import pytest

from flow_nexus_neural.engine.nodes.limits import cpu_s, memory_mb
from flow_nexus_neural.settings import Settings
from flow_nexus_neural.vocabulary import ModelSize

SIZES = get_args(ModelSize)
SETTINGS = Settings(node_memory_mb=1000, node_cpu_s=600)


def test_the_operators_setting_is_what_a_large_model_gets():
    assert memory_mb(SETTINGS, "large") == 1000
    assert cpu_s(SETTINGS, "large") == 600


def test_a_larger_model_never_gets_less():
    for limit in (memory_mb, cpu_s):
        found = [limit(SETTINGS, size) for size in ("base", "large", "xl")]
        assert found == sorted(found)
        assert found[0] < found[-1]


@pytest.mark.parametrize("size", SIZES)
def test_twice_the_setting_is_twice_the_limit(size):
    twice = Settings(node_memory_mb=2000, node_cpu_s=1200)
    assert memory_mb(twice, size) == 2 * memory_mb(SETTINGS, size)
    assert cpu_s(twice, size) == 2 * cpu_s(SETTINGS, size)


@pytest.mark.parametrize("size", SIZES)
def test_a_limit_is_a_positive_whole_number(size):
    odd = Settings(node_memory_mb=777, node_cpu_s=61)
    for limit in (memory_mb(odd, size), cpu_s(odd, size)):
        assert type(limit) is int
        assert limit > 0
