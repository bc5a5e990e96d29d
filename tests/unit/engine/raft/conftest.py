import pytest

from tests.unit.engine.running import virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()
