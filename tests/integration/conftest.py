from collections.abc import Iterator

import pytest

from tests.integration.served import ERAS, Served, served


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=ERAS)
def shared_server(request: pytest.FixtureRequest) -> Iterator[Served]:
    """One server per module and protocol era."""
    with served(request.param) as running:
        yield running


@pytest.fixture
def server(shared_server: Served) -> Served:
    """The module's server, with a double that remembers nothing of the test before."""
    double = shared_server.double
    double.asked.clear()
    double.fail_with = None
    double.replace = {}
    double.progress_steps = 0
    double.n_nodes = 11
    return shared_server
