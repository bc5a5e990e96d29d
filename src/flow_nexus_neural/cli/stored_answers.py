"""Status and list of clusters whose state directory another server has, for this server's own tools."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import anyio
from pydantic import JsonValue

from flow_nexus_neural.settings import Settings

if TYPE_CHECKING:
    from flow_nexus_neural.cli.stored import Look
    from flow_nexus_neural.engine.engine import Engine
    from flow_nexus_neural.engine.requests import ListRequest, StatusRequest

POLL_S = 0.5
KNOWN_TO_SERVER = ("active_nodes", "training_status", "training_progress")
"""Of a cluster in a list: what a copy would say of its own nodes and of trainings that go on elsewhere."""
Content = dict[str, JsonValue]


class CopiedAnswers:
    """Answers from copies, one at a time. The engine is imported at the first answer.

    Args:
        settings: Of the state directory.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._copying = anyio.Lock()

    async def status(self, request: "StatusRequest") -> Content:
        """A cluster as it is stored; where it is to be waited for, as it is stored then.

        `until` done waits for the end of a training, as far as the journal tells of it.
        """
        from flow_nexus_neural.cli.stored_source import fingerprint

        ends_s, changed = anyio.current_time() + request.wait_seconds, False
        while True:
            before = fingerprint(self._settings.state_dir)
            told = await self._look(lambda engine, seen: _status(engine, request, seen))
            settled = told["training_status"] != "running" if request.until == "done" else changed
            left_s = ends_s - anyio.current_time()
            if settled or left_s <= 0:
                late = request.wait_seconds > 0 and not settled
                return {**told, "changed": changed, "timed_out": late}
            with anyio.move_on_after(left_s):
                # Once in any case: a copy of every commit would take the processor from the other server.
                await anyio.sleep(POLL_S)
                while fingerprint(self._settings.state_dir) == before:  # noqa: ASYNC110 - of another process
                    await anyio.sleep(POLL_S)
            changed = changed or fingerprint(self._settings.state_dir) != before

    async def clusters(self, request: "ListRequest") -> Content:
        """The clusters as they are stored."""
        return await self._look(lambda engine, seen: _clusters(engine, request, seen))

    async def _look(self, read: "Callable[[Engine, Look], Awaitable[Content]]") -> Content:
        from flow_nexus_neural.cli.stored import look

        async with self._copying:
            return await look(self._settings, read)


async def _status(engine: "Engine", request: "StatusRequest", seen: "Look") -> Content:
    from flow_nexus_neural.cli.stored import as_stored, stored_status
    from flow_nexus_neural.server.schemas import StatusResult
    from flow_nexus_neural.server.status_size import short_enough

    at_once = request.model_copy(update={"wait_seconds": 0})
    report = short_enough(StatusResult.of(await engine.status(at_once))).content
    if request.training_id is not None or request.detail == "full":
        return cast(Content, as_stored(report, seen))
    # Whether its training runs stands with the sessions, which a short status has not.
    whole = await stored_status(engine, request.cluster_id, seen)
    told: dict[str, Any] = as_stored(report, seen)
    return told | {name: whole[name] for name in ("training_status", "training_error")}


async def _clusters(engine: "Engine", request: "ListRequest", seen: "Look") -> Content:
    from flow_nexus_neural.server.rounding import wire_json
    from flow_nexus_neural.server.schemas import ListResult

    listed = wire_json(ListResult.of(await engine.clusters(request)))
    lines = cast(list[dict[str, Any]], listed["clusters"])
    for line in lines:
        word = seen.of_cluster(str(line["status"]))
        if word == "running":
            line.update(dict.fromkeys(KNOWN_TO_SERVER))
        line["status"] = word
    said = f"process {seen.server} has these clusters: this is what is stored of them"
    warnings = cast(list[JsonValue], listed["warnings"])
    return {**listed, "warnings": [*warnings, said] if seen.server is not None else warnings}
