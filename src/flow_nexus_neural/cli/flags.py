"""Command line flags. Each setting also has an environment variable; the flag takes precedence."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from flow_nexus_neural import __version__
from flow_nexus_neural.settings import Settings
from flow_nexus_neural.vocabulary import ExportFormat, PlotKind

PROGRAM = "flow-nexus-neural"
MAX_PORT = 65_535


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="MCP server that builds, trains and serves clusters of sandboxed neural nodes on this "
        "machine. Without a command it serves one client over standard input and output.",
        epilog="Every flag that is a setting can be given as FLOW_NEXUS_NEURAL_<NAME> instead.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument(
        "--http", type=_port, metavar="PORT", help="serve on http://HTTP_HOST:PORT/mcp instead"
    )
    parser.add_argument(
        "--dashboard",
        type=_port,
        metavar="PORT",
        help="also show clusters in a browser, on loopback; the address with its token is logged",
    )
    _add_settings(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("doctor", help="start a node, train a step, and say what works here")
    commands.add_parser(
        "verify", help="check every stored entry, row and file; names what is damaged"
    )
    backup = commands.add_parser(
        "backup", help="copy the state directory, also while a server runs"
    )
    backup.add_argument("target", metavar="DEST", type=Path)
    export = commands.add_parser("export", help="write a cluster's model to files")
    export.add_argument("cluster_id", metavar="ID")
    export.add_argument("path", metavar="PATH", help="new file or folder")
    export.add_argument("--format", choices=get_args(ExportFormat), default="safetensors")
    export.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an earlier export, and nothing else",
    )
    export.add_argument("--model-version", type=_version, metavar="N", help="a kept version")
    clusters = commands.add_parser("clusters", help="list, show or remove stored clusters")
    actions = clusters.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="ids, names and status")
    show = actions.add_parser("show", help="one cluster in full, as JSON, or a plot of it")
    watch = actions.add_parser("watch", help="the rounds of its training, until that ends")
    remove = actions.add_parser("remove", help="end it and delete its files")
    for action in (show, watch, remove):
        action.add_argument("cluster_id", metavar="ID")
    show.add_argument("--plot", metavar="FILE", help="draw it into FILE.png or FILE.svg instead")
    show.add_argument(
        "--kind", choices=get_args(PlotKind), help="what --plot draws (default learning_curve)"
    )
    show.add_argument(
        "--overwrite", action="store_true", help="replace a picture that was drawn to FILE before"
    )
    view = commands.add_parser("dashboard", help="show stored clusters in a browser, on loopback")
    view.add_argument(
        "--port", type=_port_or_any, default=0, metavar="PORT", help="default: one that is free"
    )
    return parser


def _port_or_any(text: str) -> int:
    return 0 if text == "0" else _port(text)


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = 0
    if not 1 <= port <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; expected 1 to {MAX_PORT}")
    return port


def _version(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no version; expected 1 or more")
    return int(text)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings")
    group.add_argument("--state-dir", metavar="DIR", help="journal, checkpoints and data")
    group.add_argument(
        "--data-dir", metavar="DIR", help="root of data files (default STATE_DIR/data)"
    )
    group.add_argument(
        "--start-dir",
        metavar="DIR",
        help="second root of data files (default: the current directory)",
    )
    group.add_argument(
        "--allow-path",
        action="append",
        metavar="DIR",
        help="further root of data files, and of files that predictions may be written to; repeatable",
    )
    for name, text in _NUMBERS.items():
        group.add_argument(f"--{name}", metavar="N", help=text)
    group.add_argument(
        "--total-memory-mb",
        metavar="N",
        help="memory of all nodes together (default: three quarters of what the server may use);"
        " needs a control group",
    )
    group.add_argument(
        "--require-isolation",
        metavar="LEVEL",
        help="lowest level at which nodes are started: auto, process, seccomp or strict (default auto)",
    )
    group.add_argument(
        "--hostile",
        metavar="HOW",
        help="what a node gets for a system call that no honest node makes: errno, or kill, which ends it"
        " (default errno)",
    )
    _add_ray(group)
    group.add_argument(
        "--http-host",
        metavar="ADDRESS",
        help="address for --http (default 127.0.0.1); one that is not loopback needs a token of 16 or more"
        " characters in FLOW_NEXUS_NEURAL_HTTP_TOKEN",
    )
    group.add_argument(
        "--tracker",
        metavar="NAME",
        help="record rounds for tensorboard or mlflow too, below the state directory (default none);"
        " history files are always written",
    )
    group.add_argument(
        "--log-level", metavar="LEVEL", help="debug, info, warning or error (default warning)"
    )
    for name, text in (
        ("--cgroup", "put all nodes into a control group where possible (default: yes)"),
        ("--read-only", "offer only what reads: status, predict, plot, list"),
        ("--log-json", "log one JSON object per line"),
    ):
        group.add_argument(name, action=argparse.BooleanOptionalAction, help=text)


def _add_ray(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--runtime",
        metavar="NAME",
        help="where nodes live: auto, on this machine, or ray, on the machines of a Ray cluster"
        " (default auto)",
    )
    group.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="cluster of --runtime ray: local, which starts one here, auto, which joins the one that runs"
        " here, or HOST:PORT (default local)",
    )


def _number_help(text: str, field: str) -> str:
    return f"{text} (default {Settings.model_fields[field].default})"


_NUMBERS = {
    field.replace("_", "-"): _number_help(text, field)
    for field, text in {
        "max_nodes": "nodes per cluster",
        "max_clusters": "live clusters",
        "node_memory_mb": "memory of one node above its start size",
        "node_cpu_s": "CPU seconds of one node over its life",
        "node_nice": "steps by which nodes stand behind the server for a processor",
        "node_groups": "processes that workers of one network share under raft and gossip, to be trained in"
        " stacks; auto for one per processor",
        "node_ready_timeout_s": "seconds for a node to come up",
        "predict_deadline_ms": "milliseconds for one record",
        "max_parameters": "parameters of one network",
        "max_rows": "rows of one data set",
        "checkpoint_keep": "recent checkpoints kept per cluster",
        "http_max_connections": "open connections of --http",
        "http_max_sessions": "open sessions of --http",
        "http_session_idle_s": "seconds after which an unused session of --http ends",
        "http_request_timeout_s": "seconds in which a request to --http must have come in whole",
    }.items()
}


def read_settings(flags: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """Combine flags and environment.

    The directory in which the server was started becomes a data root, except for `/` and the home directory:
    some clients start every server there, and their files are not meant as data.

    Raises:
        InvalidArguments: If a flag or variable is not a valid setting.
    """
    given = {name: getattr(flags, name) for name in Settings.model_fields if hasattr(flags, name)}
    given["allow_paths"] = flags.allow_path
    settings = Settings.from_env(environ, **given)
    if settings.start_dir is None:
        started_in = Path.cwd().resolve()
        home = Path(
            os.path.expanduser("~")
        ).resolve()  # `cwd` names a home behind a link by its target
        if started_in not in (Path(started_in.anchor), home):
            settings = settings.model_copy(update={"start_dir": started_in})
    return settings


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ends the process after `--help`, `--version` and errors."""
    return build_parser().parse_args(arguments)
