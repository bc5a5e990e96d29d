import pytest

from tests.doubles.runtimes import open_runtime, spec


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def runtime(anyio_backend):
    async with open_runtime("local") as opened:
        await (await opened.start(spec())).stop()  # its zygote is warm from here on
        yield opened


@pytest.fixture
async def node(runtime):
    started = await runtime.start(spec())
    yield started
    await started.stop(grace_s=0)
