"""Opens two nodes started by exec, puts one to work, tells their pids, and waits to be killed."""

import sys

import anyio

from tests.doubles.runtimes import LONG_TRAIN, open_runtime, prepare, spec


async def main(kind):
    async with open_runtime(kind) as runtime, anyio.create_task_group() as tasks:
        nodes = [await runtime.start(spec(f"worker-{number}")) for number in range(2)]
        await prepare(runtime, nodes[0])
        tasks.start_soon(nodes[0].call, LONG_TRAIN)
        sys.stdout.write(" ".join(str(node.pid) for node in nodes) + "\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


anyio.run(main, sys.argv[1])
