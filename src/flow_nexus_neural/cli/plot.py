"""`flow-nexus-neural clusters show ID --plot FILE`: a stored cluster drawn, also while a server has it."""

import sys
from dataclasses import dataclass
from pathlib import Path

import anyio

from flow_nexus_neural.cli.flags import PROGRAM
from flow_nexus_neural.cli.logs import configure_logging
from flow_nexus_neural.cli.stored import Look, look
from flow_nexus_neural.cli.user_path import user_path
from flow_nexus_neural.data.unfinished import sweep_noted
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.reports import PlotReport
from flow_nexus_neural.engine.requests import PlotRequest
from flow_nexus_neural.errors import InvalidArguments, PathNotAllowed
from flow_nexus_neural.server.errors import error_text, known_error
from flow_nexus_neural.settings import Settings
from flow_nexus_neural.vocabulary import PlotFormat, PlotKind

FORMATS: dict[str, PlotFormat] = {".png": "png", ".svg": "svg"}


@dataclass(frozen=True)
class Asked:
    """The words of the command line.

    Attributes:
        path: Of the picture; None if only other options of it were given.
        kind: None for the learning curve.
    """

    cluster_id: str
    path: str | None
    kind: PlotKind | None = None
    overwrite: bool = False


def plot_stored(settings: Settings, asked: Asked) -> int:
    """Draw a stored cluster into a file, and print where it is and the same in words and numbers.

    Returns:
        0, or 1 after an error; then nothing was written.
    """
    configure_logging(settings)
    try:
        sweep_noted(settings.state_dir, ())
        request = _request(settings, asked)
        report = anyio.run(_plot, settings, request, Path(request.path or "").parent)
    except Exception as failure:  # noqa: BLE001 - the command's boundary: every failure is worded
        sys.stderr.write(f"{PROGRAM}: {error_text(known_error(failure, subject='plot'))}\n")
        return 1
    sys.stdout.write(f"{report.path}\n{report.text}\n")
    return 0


def _request(settings: Settings, asked: Asked) -> PlotRequest:
    """What is asked for, with an absolute path.

    Raises:
        InvalidArguments, PathNotAllowed: The file cannot be written there.
    """
    if asked.path is None:
        raise InvalidArguments("--kind and --overwrite are of --plot", hint="add --plot FILE.png")
    place = user_path(asked.path)
    chosen = FORMATS.get(place.suffix.lower())
    if chosen is None or asked.path.endswith("/"):
        raise InvalidArguments(
            f"'{place.name}' is no name of a picture", hint="end it in .png or .svg"
        )
    if not place.parent.is_dir():
        raise InvalidArguments(
            f"there is no folder '{place.parent}'", hint="make it, or give another FILE"
        )
    if place.parent.resolve().is_relative_to(settings.state_dir.resolve()):
        raise PathNotAllowed(
            f"'{place}' lies in the state directory",
            hint=f"give a FILE outside of {settings.state_dir.resolve()}",
        )
    return PlotRequest(
        cluster_id=asked.cluster_id,
        kind=asked.kind or "learning_curve",
        format=chosen,
        path=str(place),
        overwrite=asked.overwrite,
    )


async def _plot(settings: Settings, request: PlotRequest, folder: Path) -> PlotReport:
    """Draw on a copy, into a folder.

    Raises:
        InvalidArguments: The file is there already.
        ClusterNotFound, NotTrained, NotAvailable: There is nothing to draw, or it cannot be drawn here.
    """

    async def draw(engine: Engine, seen: Look) -> PlotReport:
        return await engine.plot(request, seen)

    # Of the copy: what is written is written for the user, not by the server.
    allowed = settings.model_copy(update={"allow_paths": (folder,), "read_only": False})
    return await look(allowed, draw)
