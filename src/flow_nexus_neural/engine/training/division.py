"""How the rows of a federated training are divided, as status reports it."""

from flow_nexus_neural.data.partition import Shards
from flow_nexus_neural.engine.reports import Division, ShardInfo


def division_of(shards: Shards) -> Division:
    """How far the workers' labels differ, and what each of them has."""
    return Division(
        heterogeneity=shards.heterogeneity,
        shards=[
            ShardInfo(slot=slot, rows=own.rows, symbols=own.symbols, labels=own.label_balance)
            for slot, own in shards.report.items()
        ],
    )
