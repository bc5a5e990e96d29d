import pytest

from tests.doubles.runtimes import KINDS, open_runtime


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module", params=KINDS)
async def runtime(request, anyio_backend):
    async with open_runtime(request.param) as opened:
        yield opened


@pytest.fixture
async def node(runtime):
    from tests.doubles.runtimes import spec

    started = await runtime.start(spec())
    yield started
    await started.stop(grace_s=0)
