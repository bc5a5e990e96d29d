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
def concurrent(request):
    """For promises about a node that is asked while it works on something else."""
    if "inproc-inline" in request.node.callspec.params.values():
        pytest.skip("inline, a node works on the event loop: nobody can ask it while it trains")


@pytest.fixture
async def node(runtime):
    from tests.doubles.runtimes import spec

    started = await runtime.start(spec())
    yield started
    await started.stop(grace_s=0)
