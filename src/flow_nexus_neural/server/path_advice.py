"""What to change in a client's configuration when data lie where the server may not read.

Hosts start servers in a directory of their own choosing, often `/` or the home directory, which are no data
roots. The caller cannot change that; the user can, with one line.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from flow_nexus_neural.errors import DatasetNotFound, NeuralError, PathNotAllowed
from flow_nexus_neural.server.argument_names import snake_case
from flow_nexus_neural.server.errors import clip, one_line

MAX_SHOWN_CHARS = 200
ANY_DIRECTORY = "/the/folder/of/the/file"


def with_path_advice(failure: Exception, dataset: object) -> Exception:
    """A refusal of a data path with the line that allows it in front of its hint; others as they are.

    Args:
        failure: What a training was refused with.
        dataset: What the caller named.
    """
    if not isinstance(failure, DatasetNotFound | PathNotAllowed) or not isinstance(dataset, str):
        return failure
    if not _is_path(dataset):
        return failure
    line = f'"--allow-path", "{_directory(dataset)}"'
    hint = f'Ask the user to add {line} to "args" of this server in the client\'s configuration'
    return type(failure)(
        failure.message,
        hint=f"{hint} and to start it again, or {_uncapitalised(failure)}",
        details=failure.details,
    )


def named_path(failure: Exception, arguments: Mapping[str, Any]) -> object:
    """The argument whose path a call was refused for; None where another root would not help."""
    message = str(getattr(failure, "message", ""))
    given = {snake_case(name): value for name, value in arguments.items()}
    for name in ("output_path", "path"):
        if message.startswith(f"{name} "):
            return given.get(name) if " outside " in message else None
    return given.get("dataset", given.get("input_path"))


def _is_path(dataset: str) -> bool:
    """Whether this looks like a file and not like a mistyped built-in name."""
    return any(mark in dataset for mark in ("/", "\\", ".", "~")) and "://" not in dataset.replace(
        "file://", ""
    )


def _directory(dataset: str) -> str:
    """The directory that would have to be allowed: of an absolute path its own, else any."""
    named_path = unquote(urlsplit(dataset).path) if dataset.startswith("file:") else dataset
    path = Path(os.path.expanduser(named_path))
    named = str(path.parent)
    if (
        not path.is_absolute()
        or path.parent == Path(path.anchor)
        or any(mark in named for mark in '*?["')
    ):
        return ANY_DIRECTORY
    return clip(one_line(named), MAX_SHOWN_CHARS)


def _uncapitalised(failure: NeuralError) -> str:
    hint = failure.hint or "move the file into the data directory"
    return hint[:1].lower() + hint[1:]
