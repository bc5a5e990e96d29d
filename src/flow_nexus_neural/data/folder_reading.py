"""Reads a folder of few files below the data roots, without following a link out of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from flow_nexus_neural.data.opening import DataDirectory, DataRoots, resolved_path
from flow_nexus_neural.data.table import is_plain_text
from flow_nexus_neural.errors import (
    DatasetNotFound,
    InvalidDataset,
    LimitExceeded,
    PathNotAllowed,
)

MAX_PATH: Final = 1_024
MAX_FILES: Final = 64
MAX_INDEX_BYTES: Final = 1 << 20


def read_folder(
    text: str,
    roots: Sequence[Path],
    index: str,
    sizes: Callable[[bytes], Mapping[str, int]],
    limit: int,
) -> dict[str, bytes]:
    """The files of a folder, each as it was while it was read.

    Args:
        text: A path; a relative one is looked for in each root.
        roots: Directories below which may be read.
        index: Name of the file that names the others.
        sizes: Bytes of the other files by name, from the content of the index.
        limit: Bytes of all files together.

    Raises:
        DatasetNotFound: There is no folder of this name.
        PathNotAllowed: It lies outside the roots.
        InvalidDataset: It is no folder, has no index, or lacks or has besides what the index names.
        LimitExceeded: It is too large.
    """
    opened = DataRoots(roots, labels_needed=False)
    with opened.open(_found(text, opened)) as folder:
        if not isinstance(folder, DataDirectory):
            raise InvalidDataset(
                f"'{text[:120]}' is no folder", hint="pass the folder of the export"
            )
        names = [name for name in folder.names() if not name.startswith(".")]
        if index not in names:
            shown = ", ".join(f"'{name[:60]}'" for name in names[:6]) or "nothing"
            raise InvalidDataset(
                f"'{folder.name}' is no export of this program: it holds {shown} and no '{index}'; weights"
                " alone do not say layers, scaling and classes",
                hint="pass a folder that neural_model_export wrote with format safetensors",
            )
        files = {index: _content(folder, index, MAX_INDEX_BYTES)}
        wanted = sizes(files[index])
        total = sum(wanted.values())
        if total > limit or len(wanted) > MAX_FILES:
            raise LimitExceeded(
                f"the export has {len(wanted)} files of {total} bytes; the limit is {limit}",
                hint="no flag raises this limit: train the model here, or serve it where it was exported",
            )
        extra = sorted(set(names) - {index, *wanted})
        if extra:
            raise InvalidDataset(
                f"'{extra[0][:80]}' is not part of the export", hint="remove it from the folder"
            )
        for name, size in wanted.items():
            if name not in names:
                raise InvalidDataset(
                    f"'{name[:80]}' is missing from the export", hint="export the model again"
                )
            files[name] = _content(folder, name, size)
        return files


def _content(folder: DataDirectory, name: str, size: int) -> bytes:
    with folder.open(name) as file:
        if isinstance(file, DataDirectory):
            raise InvalidDataset(f"'{name}' is a folder", hint="export the model again")
        if file.size > size:
            raise InvalidDataset(
                f"'{name}' has {file.size} bytes, more than the {size} that it should have",
                hint="export the model again, and leave the folder as it is",
            )
        return file.stream().read()


def _found(text: str, roots: DataRoots) -> Path:
    given = text.strip().removeprefix("file://")
    if not given or len(given) > MAX_PATH or "\0" in given or not is_plain_text(given):
        raise DatasetNotFound("path is no usable path", hint="pass the folder of an export")
    candidates = (
        [Path(given)] if Path(given).is_absolute() else [root / given for root in roots.paths]
    )
    for candidate in candidates:
        resolved = resolved_path(candidate)
        if not roots.holds(resolved):
            raise PathNotAllowed(
                f"path '{given[:120]}' lies, or leads by a link, outside the data roots",
                hint=f"put the folder into {roots.paths[0]}, or start the server with --allow-path DIR",
            )
        if resolved.exists():
            return resolved
    raise DatasetNotFound(
        f"no folder in {len(roots.paths)} data root(s) is called '{given[:120]}'",
        hint=f"put it into {roots.paths[0]} (set by --data-dir), or start the server with --allow-path DIR",
    )
