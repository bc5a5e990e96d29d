"""`flow-nexus-neural export`: writes a stored cluster's model to files without a client.

It works on a copy of what is stored, so that a running server goes on undisturbed, and starts the copy's
nodes to compare their answers with what was written.
"""

import json
import sys
from pathlib import Path

import anyio

from flow_nexus_neural.cli.flags import PROGRAM
from flow_nexus_neural.cli.logs import configure_logging
from flow_nexus_neural.cli.user_path import user_path
from flow_nexus_neural.data.unfinished import sweep_noted
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.requests import ExportRequest
from flow_nexus_neural.engine.storage.snapshot import copy_state_dir, scratch_for
from flow_nexus_neural.engine.storage.state_dir import holder
from flow_nexus_neural.errors import PathNotAllowed, StoreError
from flow_nexus_neural.runtime.base import NodeRuntime
from flow_nexus_neural.server.errors import error_text, known_error
from flow_nexus_neural.server.rounding import wire_json
from flow_nexus_neural.settings import Settings

TRIES = 5


def export(settings: Settings, request: ExportRequest, runtime: NodeRuntime | None = None) -> int:
    """Write one version of a stored cluster's model, and print the report as JSON.

    Args:
        settings: Where the state is.
        request: What to write where; a relative path lies in the current directory.
        runtime: Where the copy's nodes live; processes of this system by default.

    Returns:
        0, or 1 after an error; then nothing is left of the export.
    """
    configure_logging(settings)
    place = user_path(request.path)
    asked = request.model_copy(update={"path": str(place) + "/" * request.path.endswith("/")})
    try:
        sweep_noted(settings.state_dir, ())
        _check_outside(settings, place.parent)
        text = anyio.run(_export, settings, asked, place.parent, runtime)
    except Exception as failure:  # noqa: BLE001 - the command's boundary: every failure is worded
        sys.stderr.write(f"{PROGRAM}: {error_text(known_error(failure, subject='export'))}\n")
        return 1
    sys.stdout.write(text + "\n")
    return 0


def _check_outside(settings: Settings, folder: Path) -> None:
    """Raises `PathNotAllowed` for the state directory itself, which the engine on the copy does not know."""
    own, folder = settings.state_dir.resolve(), folder.resolve()
    roots = [root.resolve() for root in settings.write_roots]
    inner = [root for root in roots if root != own and root.is_relative_to(own)]
    if folder.is_relative_to(own) and not any(folder.is_relative_to(root) for root in inner):
        raise PathNotAllowed(
            f"path '{str(folder)[:120]}' lies in the state directory",
            hint=f"give a path outside of {own}",
        )


async def _export(
    settings: Settings, request: ExportRequest, folder: Path, runtime: NodeRuntime | None
) -> str:
    """Copy and export; again where a server that commits fast has removed a file of the copy."""
    for _ in range(TRIES - 1):
        try:
            return await _export_once(settings, request, folder, runtime)
        except StoreError:
            if holder(settings.state_dir) is None:
                raise
    return await _export_once(settings, request, folder, runtime)


async def _export_once(
    settings: Settings, request: ExportRequest, folder: Path, runtime: NodeRuntime | None
) -> str:
    with scratch_for(settings.state_dir, f"{PROGRAM}-export-") as scratch:
        copy_state_dir(settings.state_dir, scratch)
        copy = settings.of_copy(scratch, allow_paths=(folder,))
        async with Engine.open(copy, runtime=runtime, goes_on=False) as engine:
            report = await engine.export_model(request)
    return json.dumps(wire_json(report), indent=2, ensure_ascii=False)
