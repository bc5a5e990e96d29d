"""This project's nodes in two confined processes, which share the clients and train them stacked."""

import anyio

from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess

PROCESSES = 2


def main() -> None:
    """As `ours`, with node groups."""
    zygote = ZygoteProcess.launch()
    from bench.contenders.node_rounds import run

    anyio.run(run, zygote, PROCESSES)


if __name__ == "__main__":
    main()
