"""`flow-nexus-neural`, and `python -m flow_nexus_neural`."""

import argparse
import os
import sys

from flow_nexus_neural.cli.flags import PROGRAM, parse, read_settings
from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.settings import Settings


def main() -> int:
    """Run the command line.

    Returns:
        The exit status: 0; 1 if a command failed, or nobody read what it said to the end; 2 for an invalid
        command line or setting.
    """
    try:
        try:
            status = _run(parse())
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, for a failure at the interpreter's end cannot be caught
    except BrokenPipeError:
        # What is left in the buffer would be written, and fail, once more at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _run(flags: argparse.Namespace) -> int:
    try:
        settings = read_settings(flags, os.environ)
        if flags.http is not None:
            from flow_nexus_neural.server.http import check_http

            check_http(settings)
        if settings.runtime == "ray" and flags.command in (None, "doctor"):
            from flow_nexus_neural.runtime.ray.session import require_ray

            require_ray()
    except NeuralError as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return 2
    if flags.command is not None:
        return _command(flags, settings)
    from flow_nexus_neural.cli.serve import serve

    serve(settings, flags.http, flags.dashboard)
    return 0


def _command(flags: argparse.Namespace, settings: Settings) -> int:
    """Run one command, of which only its own module is loaded."""
    match flags.command:
        case "doctor":
            from flow_nexus_neural.cli.doctor import doctor

            status = doctor(settings)
        case "clusters":
            status = _clusters(flags, settings)
        case "export":
            from flow_nexus_neural.cli.export import export
            from flow_nexus_neural.engine.requests import ExportRequest

            asked = ExportRequest(
                cluster_id=flags.cluster_id,
                path=flags.path,
                format=flags.format,
                overwrite=flags.overwrite,
                version=flags.model_version,
            )
            status = export(settings, asked)
        case "dashboard":
            from flow_nexus_neural.cli.dashboard import dashboard

            status = dashboard(settings, flags.port)
        case "verify":
            from flow_nexus_neural.cli.verify import verify_state

            status = verify_state(settings)
        case _:
            from flow_nexus_neural.cli.verify import back_up_state

            status = back_up_state(settings, flags.target)
    return status


def _clusters(flags: argparse.Namespace, settings: Settings) -> int:
    if flags.action == "watch":
        from flow_nexus_neural.cli.watch import watch

        return watch(settings, flags.cluster_id)
    if flags.action == "show" and (flags.plot is not None or flags.kind or flags.overwrite):
        from flow_nexus_neural.cli.plot import Asked, plot_stored

        return plot_stored(
            settings, Asked(flags.cluster_id, flags.plot, flags.kind, flags.overwrite)
        )
    from flow_nexus_neural.cli.clusters import clusters

    return clusters(settings, flags.action, getattr(flags, "cluster_id", None))


if __name__ == "__main__":
    sys.exit(main())
