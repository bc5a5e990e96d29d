"""Files named by the sha256 of their content. Blocking: call them from a worker thread."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from flow_nexus_neural.engine.ports import FailPoint, nothing_fails
from flow_nexus_neural.engine.storage.state_dir import (
    DIRECTORY_MODE,
    FILE_MODE,
    prepare,
    sync_directory,
    unavailable,
)
from flow_nexus_neural.errors import StoreCorrupt, StoreUnavailable
from flow_nexus_neural.protocol.digest import canonical_json

MIN_AGE_S = 60.0
"""A file younger than this may be about to be named."""

SUFFIX = ".safetensors"
DAMAGED = "damaged"
"""Folder of the state directory for files that are not what their names say."""

_METADATA_KEY = "flow_nexus_neural"
_SHA = re.compile(r"[0-9a-f]{64}")


class CheckpointFiles:
    """The blobs of a state directory.

    A file appears under its name whole and durable, or not at all, and is never changed afterwards. Its
    content is verified whenever it is read.

    Args:
        state_dir: A directory that this server has locked.
        at: Called at `before_write`, `written`, `synced`, `renamed` and `durable` of every file.
    """

    def __init__(self, state_dir: Path, at: FailPoint = nothing_fails) -> None:
        prepare(state_dir)
        self._blobs = state_dir / "blobs"
        self._tmp = state_dir / "tmp"
        self._damaged = state_dir / DAMAGED
        self._at = at

    def write(
        self, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, JsonValue]
    ) -> tuple[str, int]:
        """Store tensors as a safetensors file. Equal arguments give the same file.

        Args:
            tensors: Numeric arrays by name.
            metadata: Kept as one JSON text in the file's header, because its map has no fixed order.

        Returns:
            (sha256 of the file, its bytes). The file is durable.

        Raises:
            StoreUnavailable: If the disk refuses; nothing is left under a final name.
        """
        header = {_METADATA_KEY: canonical_json(dict(metadata)).decode()}
        contiguous = {name: np.asarray(tensors[name], order="C") for name in tensors}
        return self._publish(lambda path: save_file(contiguous, path, header))

    def read(self, sha: str) -> dict[str, NDArray[Any]]:
        """The tensors of a stored file, as private arrays.

        Raises:
            StoreCorrupt: If the file is missing, its hash differs, or it is not a safetensors file.
        """
        return _tensors(sha, self._content(sha))

    def read_with_metadata(self, sha: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """The tensors of a stored file and the metadata that were written with them. Raises as `read`."""
        content = self._content(sha)
        tensors = _tensors(sha, content)  # first, for it checks the header that is read below
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length]).get("__metadata__", {})
        try:
            metadata = json.loads(header[_METADATA_KEY])
        except (KeyError, ValueError) as failure:
            raise StoreCorrupt(f"blob {sha} holds no metadata", hint=_LOST) from failure
        if not isinstance(metadata, dict):
            raise StoreCorrupt(f"blob {sha} holds no metadata", hint=_LOST)
        return tensors, metadata

    def path(self, sha: str) -> Path:
        """Where the tensors of this name are, or would be.

        Raises:
            StoreCorrupt: If it is no sha256.
        """
        return self._place(sha)

    def sweep(self, keep: AbstractSet[str], now_s: float) -> list[str]:
        """Remove files that nobody names any more.

        Args:
            keep: Names that some row still holds.
            now_s: Seconds since the epoch. Files changed within the last 60 s stay: their row may be on its
                way.

        Returns:
            The names removed, sorted.

        Raises:
            StoreUnavailable: If one cannot be removed.
        """
        removed = []
        try:
            for file in sorted(self._files()):
                if file.stem not in keep and now_s - file.stat().st_mtime >= MIN_AGE_S:
                    file.unlink(missing_ok=True)
                    removed.append(file.stem)
        except OSError as failure:
            raise unavailable("remove old checkpoints", failure) from failure
        return removed

    def keep_aside(self, sha: str) -> None:
        """Move a file that is not what its name says to where nobody takes it for that.

        One that is gone stays so.

        Raises:
            StoreUnavailable: It cannot be moved.
        """
        try:
            self._damaged.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            self._place(sha).rename(self._damaged / f"{sha}{SUFFIX}")
            sync_directory(self._damaged)
        except FileNotFoundError:
            return
        except OSError as failure:
            raise unavailable("keep a damaged file aside", failure) from failure

    def has_files(self) -> bool:
        """Whether there is any.

        Raises:
            StoreUnavailable: It cannot be told.
        """
        try:
            return next(self._files(), None) is not None
        except OSError as failure:
            raise unavailable("look for checkpoints", failure) from failure

    def _files(self) -> Iterator[Path]:
        for folder in self._blobs.iterdir():
            if folder.is_dir():
                yield from (
                    file
                    for file in folder.iterdir()
                    if _SHA.fullmatch(file.stem) and file.suffix == SUFFIX
                )

    def _place(self, sha: str) -> Path:
        if not _SHA.fullmatch(sha):
            raise StoreCorrupt(f"{sha!r} is no name of a blob", hint=_LOST)
        return self._blobs / sha[:2] / f"{sha}{SUFFIX}"

    def _content(self, sha: str) -> bytes:
        place = self._place(sha)
        try:
            content = place.read_bytes()
        except OSError as failure:
            raise StoreCorrupt(
                f"blob {sha} cannot be read: {failure.strerror or failure}", hint=_LOST
            ) from failure
        found = hashlib.sha256(content).hexdigest()
        if found != sha:
            raise StoreCorrupt(
                f"blob {sha} has changed: its content hashes to {found}",
                hint=_LOST,
                details={"expected": sha, "found": found},
            )
        return content

    def _publish(self, write: Callable[[Path], object]) -> tuple[str, int]:
        unfinished = self._tmp / f"{uuid4().hex}{SUFFIX}"
        try:
            self._at("before_write")
            write(unfinished)
            self._at("written")
            sha, nbytes = _sync(unfinished)
            self._at("synced")
            place = self._place(sha)
            place.parent.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            unfinished.replace(place)
            self._at("renamed")
            sync_directory(place.parent)
            sync_directory(self._blobs)
            self._at("durable")
        except OSError as failure:
            raise unavailable("write a checkpoint", failure) from failure
        except SafetensorError as failure:  # how it reports a full disk
            raise StoreUnavailable(
                f"could not write a checkpoint: {failure}",
                hint="free disk space, then try again",
            ) from failure
        finally:
            unfinished.unlink(missing_ok=True)
        return sha, nbytes


_LOST = "train the cluster again, or restore the state directory from a copy"


def _tensors(sha: str, content: bytes) -> dict[str, NDArray[Any]]:
    try:
        return load(content)
    except SafetensorError as failure:
        raise StoreCorrupt(f"blob {sha} holds no tensors", hint=_LOST) from failure


def _sync(path: Path) -> tuple[str, int]:
    path.chmod(FILE_MODE)
    with path.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256")
        nbytes = file.tell()
        os.fsync(file.fileno())
    return digest.hexdigest(), nbytes
