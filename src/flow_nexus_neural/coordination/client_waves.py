"""Which worker trains which client next, where every client of the data trains by itself."""

from collections.abc import Collection, Mapping, Sequence

MOST_TRIES = 3
"""Workers that are asked for one client in a round, the one after the other."""


def dealt(
    clients: Sequence[str], workers: Sequence[str], tried: Mapping[str, Collection[str]]
) -> dict[str, str]:
    """A worker for each of the first clients, at most one client a worker.

    Args:
        clients: Those that have no update yet, in order.
        workers: Those that can train, in order.
        tried: Workers that have failed with a client; none of them is asked for it again.

    Returns:
        By client, in order. Clients that no free worker may train wait for the next deal.
    """
    free, found = list(workers), {}
    for client in clients:
        if not free:
            break
        worker = next((one for one in free if one not in tried.get(client, ())), None)
        if worker is not None:
            free.remove(worker)
            found[client] = worker
    return found


def hopeless(client: str, workers: Sequence[str], tried: Mapping[str, Collection[str]]) -> bool:
    """Whether nobody is left to train a client in this round."""
    failed = tried.get(client, ())
    return len(failed) >= MOST_TRIES or all(worker in failed for worker in workers)
