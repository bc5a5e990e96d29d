"""How the rows of a training are divided among workers, and how status reports that."""

from flow_nexus_neural.data.partition import Shards, assign_shards, pooled_shards
from flow_nexus_neural.data.prepare import PreparedData
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.reports import Division, ShardInfo, TrainingConfig
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.kernels.seeds import seed64

NO_SHARDS = Shards({}, {}, {})


def cut_shards(
    data: PreparedData, rows: Rows, workers: list[Slot], partition: str, run: tuple[int, int]
) -> Shards:
    """Divide rows of a data set among workers."""
    return assign_shards(
        rows,
        [(slot.name, slot.spec.capabilities) for slot in workers],
        partition,
        seed64(run, 0, "", 0, "partition"),
        symbols=data.description.symbols,
        classes=data.schema.classes,
        clients=data.clients,
    )


def pool_shards(data: PreparedData, rows: Rows, workers: list[Slot]) -> Shards:
    """All rows for the first worker."""
    return pooled_shards(
        rows,
        [(slot.name, slot.spec.capabilities) for slot in workers],
        symbols=data.description.symbols,
        classes=data.schema.classes,
    )


def deal_shards(
    data: PreparedData,
    rows: Rows,
    config: TrainingConfig,
    run: tuple[int, int],
    workers: list[Slot],
) -> Shards:
    """The rows of each worker, in a training of this configuration."""
    if config.strategy == "single_process":
        return pool_shards(data, rows, workers)
    return cut_shards(data, rows, workers, config.partition, run)


def division_of(shards: Shards) -> Division:
    """How far the workers' labels differ, and what each of them has."""
    return Division(
        heterogeneity=shards.heterogeneity,
        shards=[
            ShardInfo(slot=slot, rows=own.rows, symbols=own.symbols, labels=own.label_balance)
            for slot, own in shards.report.items()
        ],
    )
