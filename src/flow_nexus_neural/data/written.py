"""What this program wrote under a name that a caller gave: remembered, so that nothing else is replaced.

A picture or a table of predictions does not say who wrote it. So the state directory has, for each path, the
digests of the last files that were published there; a file with another one is somebody else's, or was
changed since then.
"""

import hashlib
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from flow_nexus_neural.data.output_place import OutputPlace

FOLDER: Final = "written"
"""Of the state directory: a file for each path."""
REMEMBERED: Final = 2
"""Digests of a path: that of a file which is about to be published, and of the one that it replaces."""
MOST_PATHS: Final = 4_096
"""The oldest are forgotten; what lies there is then not replaced any more."""
_PIECE: Final = 1 << 20


def remember(place: OutputPlace, sha256: str) -> None:
    """A file with this digest is about to be published at a place.

    Where the disk refuses, nothing but its later replacement is lost.
    """
    if place.notes_dir is None:
        return
    path = _record(place.notes_dir, place)
    digests = [sha256, *(one for one in _digests(path) if one != sha256)][:REMEMBERED]
    fresh = path.with_suffix(f".{secrets.token_hex(8)}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _forget_oldest(path.parent)
        content = json.dumps({"path": str(place.path), "sha256": digests})
        fresh.write_text(content, encoding="utf-8")
        fresh.replace(path)


def is_remembered(place: OutputPlace, descriptor: int) -> bool:
    """Whether an open file is one that was published at a place, as it was then. Raises OSError."""
    if place.notes_dir is None:
        return False
    known = _digests(_record(place.notes_dir, place))
    if not known:
        return False
    digest = hashlib.sha256()
    while piece := os.read(descriptor, _PIECE):
        digest.update(piece)
    found = digest.hexdigest()
    if found in known[1:]:
        # What was to replace it never came: its digest must not be pushed out by the next try.
        remember(place, found)
    return found in known


def _record(notes_dir: Path, place: OutputPlace) -> Path:
    name = hashlib.sha256(os.fsencode(place.path)).hexdigest()
    return notes_dir / FOLDER / f"{name}.json"


def _digests(path: Path) -> list[str]:
    """[] where nothing, or nothing that can be understood, is recorded."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [one for one in told if isinstance(one, str)] if isinstance(told, list) else []


def _forget_oldest(folder: Path) -> None:
    names = os.listdir(folder)
    if len(names) <= MOST_PATHS:
        return
    oldest = sorted((folder / name for name in names), key=lambda one: one.stat().st_mtime_ns)
    for path in oldest[: len(names) - MOST_PATHS]:
        path.unlink(missing_ok=True)
