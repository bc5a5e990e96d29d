"""This project's nodes, driven directly: confined processes from the warm zygote, one per client."""

import anyio

from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess


def main() -> None:
    """Start the zygote first, as the server does; it warms up while we import torch for the data."""
    zygote = ZygoteProcess.launch()
    from bench.contenders.node_rounds import run

    anyio.run(run, zygote)


if __name__ == "__main__":
    main()
