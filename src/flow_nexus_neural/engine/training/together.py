"""Which workers of an exchange share a process, and so are asked to train at the same time."""

from collections.abc import Sequence
from dataclasses import replace

from flow_nexus_neural.engine.training.tasks import Task
from flow_nexus_neural.protocol.messages import Together


def by_process(tasks: Sequence[Task]) -> list[list[Task]]:
    """The tasks of each process, in their order; a worker without a living process is alone."""
    found: dict[object, list[Task]] = {}
    for task in tasks:
        handle = task.slot.handle
        shared = handle is not None and bool(handle.isolation.shared_with)
        key = handle.pid if handle is not None and shared else task.slot.name
        found.setdefault(key, []).append(task)
    return list(found.values())


def asked_together(tasks: Sequence[Task], number: int) -> list[Task]:
    """The tasks of one process, told of each other; those of a process alone as they are.

    Updates that are proved or protected row by row are made one by one, without waiting for each other.

    Args:
        tasks: In slot order.
        number: Of this time of asking, another for each.
    """
    if len(tasks) < 2 or any(task.proof or task.private for task in tasks):
        return list(tasks)
    size = len(tasks)
    return [
        replace(task, together=Together(round=number, size=size, place=place))
        for place, task in enumerate(tasks)
    ]
